"""Filter database_login: what it writes is what the client of the database reads."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dataops.dagster.plugins.filter import database_login

# A line of the file ends at a newline, and C text at a NUL: neither can be in a password there.
TEXT = st.text(st.characters(exclude_characters="\n\r\0", codec="utf-8"), min_size=1)


def written(password: str, user: str, dialect: str = "postgres") -> str:
    return str(database_login.FilterModule().filters()["database_login"](password, user, dialect=dialect))


def fields(line: str) -> list[str]:
    """The fields of a line. Source: passwordFromFile and pwdfMatchesString in libpq's fe-connect.c."""
    found, field, chars = [], "", iter(line)
    for char in chars:
        if char == ":":
            found.append(field)
            field = ""
        else:
            field += next(chars) if char == "\\" else char
    return [*found, field]


@pytest.mark.parametrize(
    ("password", "user", "line"),
    [
        ("secret", "dagster", "*:*:*:dagster:secret\n"),
        ("a:b", "dagster", "*:*:*:dagster:a\\:b\n"),
        ("a\\b", "dagster", "*:*:*:dagster:a\\\\b\n"),
        ("x", "DOMAIN\\me:1", "*:*:*:DOMAIN\\\\me\\:1:x\n"),
        ("*", "dagster", "*:*:*:dagster:*\n"),
    ],
)
def test_line(password: str, user: str, line: str) -> None:
    assert written(password, user) == line


@given(password=TEXT, user=TEXT)
def test_round_trip(password: str, user: str) -> None:
    line = written(password, user)
    assert line.endswith("\n")
    assert fields(line[:-1]) == ["*", "*", "*", user, password]


def test_database_that_is_not_known() -> None:
    with pytest.raises(AnsibleFilterError, match="the dialect is 'oracle'; known are postgres") as refused:
        written("hunter2", "dagster", "oracle")
    assert "hunter2" not in str(refused.value)
