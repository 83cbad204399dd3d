"""The content of workspace.yaml, and the text of it and of dagster.yaml."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dataops.dagster.plugins.module_utils._secrets import masked
from ansible_collections.dataops.dagster.plugins.plugin_utils.config import write
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator.source import SlowLoader

# --- workspace.yaml


def location(**changes: Any) -> dict[str, Any]:
    return {"name": "a", "host": "code1", "port": 4000, **changes}


def test_workspace_data() -> None:
    assert write.workspace_data([location(port="4000", ssl=True), {"name": "b", "socket": "/x", "ssl": False}]) == {
        "load_from": [
            {"grpc_server": {"location_name": "a", "host": "code1", "port": 4000, "ssl": True}},
            {"grpc_server": {"location_name": "b", "socket": "/x"}},
        ]
    }


def test_ipv6_is_written_in_the_brackets_that_grpc_wants() -> None:
    hosts = ("fd00::1", "[fd00::1]", "10.0.0.1", "a:4000", "http://a")
    written = [write.workspace_data([location(host=host)])["load_from"][0]["grpc_server"]["host"] for host in hosts]
    assert written == ["[fd00::1]", "[fd00::1]", "10.0.0.1", "a:4000", "http://a"]


def test_what_is_no_port_stays_for_the_validator() -> None:
    server = write.workspace_data([{"name": "a", "socket": "/x", "port": 70000}])["load_from"][0]["grpc_server"]
    assert server == {"location_name": "a", "socket": "/x", "port": 70000}


# --- rendering

HEADER = "# Managed.\n"


def test_render_is_block_style_in_insertion_order() -> None:
    data = {"z": {"b": [1, {"c": "x", "d": []}], "a": {}}, "port": "5432", "on": None, "s": "a: b"}
    assert write.render(data, HEADER) == (
        '# Managed.\nz:\n  b:\n    - 1\n    - c: x\n      d: []\n  a: {}\nport: "5432"\n\'on\': null\ns: "a: b"\n'
    )


# What version 0.1 wrote, with a YAML emitter of its own.
WRITTEN_BY_0_1 = r"""# Managed.
telemetry:
  enabled: false
run_queue:
  max_concurrent_runs: -1
  tags: []
  blocks: {}
"n": null
numbers:
  - 1.5
  - 1.0e+16
  - -0.0
  - .inf
nested:
  - - 1
    - - 2
      - 3
  - a:
      - b: c
words:
  - "yes"
  - "null"
  - "~"
  - "="
  - "<<"
  - "y"
  - "01"
  - "1e3"
  - "12:30"
  - "2020-01-01"
  - "{env:x}"
  - "a: b"
  - "a #b"
  - " a"
  - ""
  - "a\nb\n"
  - "\u2028"
  - "\x85"
  - "😀"
"5432": "5432"
"on": "off"
"""


def test_the_content_is_what_version_0_1_wrote() -> None:
    """Its bytes may differ from release to release, what Dagster reads must not."""
    written = SlowLoader(WRITTEN_BY_0_1).get_single_data()
    assert repr(SlowLoader(write.render(written, HEADER)).get_single_data()) == repr(written)
    assert (written["words"][:3], written["words"][7]) == (["yes", "null", "~"], "1e3"), "the control: this is text"


def test_a_value_stands_on_one_line() -> None:
    """A diff is masked line by line: no part of a secret may come on a line of its own."""
    text = "first \n second\u2028third " + 50 * "long enough to be folded "
    for data in ({"private_key": text}, {"a": [text]}):
        assert len(write.render(data).splitlines()) == len(data) + ("a" in data)
    assert "second" not in masked(write.render({"private_key": text}))


class Unsafe(str):
    """Text as ansible-core before 2.19 marks it: it stays marked when it is made text again."""


setattr(Unsafe, "__str__", lambda self: self)  # noqa: B010 - a checker would refuse what is to be shown here


def test_marked_text_is_written_as_text() -> None:
    assert write.render({Unsafe("storage"): {Unsafe("x"): [Unsafe("a b"), Unsafe("y"), Unsafe("")]}}) == write.render(
        {"storage": {"x": ["a b", "y", ""]}}
    )


def test_what_is_shared_is_written_twice() -> None:
    shared = {"a": [1]}
    assert write.render({"x": shared, "y": shared}).count("a:") == 2


# Text that YAML reads as something else when it stands there unquoted.
AMBIGUOUS = [
    *("yes", "No", "ON", "off", "y", "true", "null", "~", "=", "<<", "1", "01", "1_000", "0x1F", "0o7", "1e3", "1.5"),
    *(".5", "+1", "-", "--", "---", "...", "12:30", "2020-01-01", "?", ":", "#", "a#b", "{env:x}", "[a]", "!vault"),
    *("&a", "*a", "|-", ">", "%", "@a", "`a", "'", '"', "\\", ",", "a,b", "@", ".inf", ".nan", "a=b", "/a/b:/c"),
    *("a\u2028b", "\x85", "\ufeff", "\ud7ff", "\U0001f600", "\x00", "\x7f"),
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(AMBIGUOUS)
    | st.sampled_from([" ", "a ", " a", "a\tb", "a\n", "\n", "a: b", "a #b", "- a", "? a", "a:", "1 2"])
)
DATA = st.recursive(
    SCALARS,
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(SCALARS.map(str) | st.text(), children, max_size=4)
    ),
    max_leaves=20,
)


@given(DATA)
def test_rendered_text_reads_back_the_same(data: Any) -> None:
    text = write.render(data, HEADER)
    assert text == write.render(copy.deepcopy(data), HEADER)
    loaded = yaml.safe_load(text)
    assert loaded == data
    assert repr(loaded) == repr(data)  # 1, 1.0 and True are equal in Python, not in Dagster


def test_render_refuses_what_it_cannot_write() -> None:
    with pytest.raises(TypeError, match="set"):
        write.render({"a": {1, 2}})
    with pytest.raises(TypeError, match="not text"):
        write.render({1: 2})
