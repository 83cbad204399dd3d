"""What the filter writes is what systemd reads."""

from __future__ import annotations

import shlex

import pytest

from ansible_collections.dataops.dagster.plugins.filter.environment_file import environment_file


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "",
        "two words",
        'a "b"',
        "it's",
        "$HOME `x` \\ \\n",
        '{"json": "with \\"quotes\\""}',
        "two\nlines",
        "# no comment",
    ],
)
def test_a_value_reads_back_as_it_is(value: str) -> None:
    """Within double quotes systemd follows the rules of a shell, and so does shlex."""
    text = environment_file({"NAME": value})
    assert text.endswith('"\n')
    name, _equals, quoted = text.rstrip("\n").partition("=")
    assert name == "NAME"
    assert shlex.split(quoted.replace("\\$", "$").replace("\\`", "`")) == [value]


def test_one_line_each_and_numbers_as_text() -> None:
    assert environment_file({"A": 1, "B": "x"}) == 'A="1"\nB="x"\n'
    assert environment_file({}) == ""
