"""Merging, and the text that is written into dagster.yaml and workspace.yaml."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dataops.dagster.plugins.module_utils import _dagster_config as subject

GOOD: dict[str, Any] = {
    "storage": {
        "postgres": {
            "postgres_db": {
                "hostname": {"env": "DAGSTER_POSTGRES_HOST"},
                "username": {"env": "DAGSTER_POSTGRES_USER"},
                "password": {"env": "DAGSTER_POSTGRES_PASSWORD"},
                "db_name": "dagster",
                "port": 5432,
            }
        }
    },
    "run_launcher": {
        "module": "dagster_docker",
        "class": "DockerRunLauncher",
        "config": {
            "network": "dagster",
            "env_vars": [
                "DAGSTER_POSTGRES_USER=dagster_run",
                "PGPASSFILE=/run/dagster/pgpass",
                "AWS_SECRET_ACCESS_KEY",
            ],
            "container_kwargs": {"stop_timeout": 30, "volumes": ["/srv/a:/srv/a"]},
        },
    },
    "run_coordinator": {
        "module": "dagster",
        "class": "QueuedRunCoordinator",
        "config": {"tag_concurrency_limits": [{"key": "database", "value": "postgres", "limit": 3}]},
    },
    "telemetry": {"enabled": False},
}


# --- merging


def test_merge_is_deep_and_leaves_the_inputs_alone() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    extra = {"a": {"c": [3]}, "e": {"f": {"g": None, "h": 1}}}
    before = copy.deepcopy((base, extra))
    merged = subject.deep_merge(base, extra)
    assert merged == {"a": {"b": 1, "c": [3]}, "d": 1, "e": {"f": {"h": 1}}}
    merged["a"]["c"].append(4)
    assert (base, extra) == before


def test_null_takes_back() -> None:
    assert subject.deep_merge({"a": {"b": 1, "c": 2}}, {"a": {"b": None}, "x": None}) == {"a": {"c": 2}}


def test_another_class_replaces_the_section() -> None:
    launcher = {"module": "dagster", "class": "DefaultRunLauncher"}
    assert subject.deep_merge(GOOD, {"run_launcher": launcher})["run_launcher"] == launcher
    same = {"class": "DockerRunLauncher", "config": {"network": "other"}}
    merged = subject.deep_merge(GOOD, {"run_launcher": same})["run_launcher"]["config"]
    assert merged["network"] == "other"
    assert merged["env_vars"] == GOOD["run_launcher"]["config"]["env_vars"]


def test_another_storage_replaces_ours() -> None:
    assert subject.deep_merge(GOOD, {"storage": {"mysql": {"x": 1}}})["storage"] == {"mysql": {"x": 1}}
    merged = subject.deep_merge(GOOD, {"storage": {"postgres": {"postgres_db": {"port": 5433}}}})
    assert merged["storage"]["postgres"]["postgres_db"] == {
        **GOOD["storage"]["postgres"]["postgres_db"],
        "port": 5433,
    }


KEYS = st.sampled_from(["a", "b", "c"])
TREES = st.recursive(
    st.integers() | st.lists(st.integers(), max_size=2),
    lambda children: st.dictionaries(KEYS, children, max_size=3),
    max_leaves=8,
)
MAPPINGS = st.dictionaries(KEYS, TREES, max_size=3)


@given(MAPPINGS, MAPPINGS)
def test_merge_of_plain_data(base: Any, extra: Any) -> None:
    merged = subject.deep_merge(base, extra)
    assert subject.deep_merge(base, {}) == base
    assert subject.deep_merge({}, extra) == extra
    assert set(merged) == set(base) | set(extra)
    assert subject.deep_merge(merged, extra) == merged, "a second merge changes nothing"


@given(*[st.dictionaries(KEYS, st.dictionaries(KEYS, st.integers(), min_size=1), max_size=3)] * 3)
def test_merge_is_associative_where_no_value_meets_a_mapping(one: Any, two: Any, three: Any) -> None:
    """Defaults, then a group's part, then a host's: in whichever order they are put together."""
    left = subject.deep_merge(subject.deep_merge(one, two), three)
    assert left == subject.deep_merge(one, subject.deep_merge(two, three))


# --- workspace.yaml


def location(**changes: Any) -> dict[str, Any]:
    return {"name": "a", "host": "code1", "port": 4000, **changes}


def test_workspace_data() -> None:
    assert subject.workspace_data([location(port="4000", ssl=True), {"name": "b", "socket": "/x", "ssl": False}]) == {
        "load_from": [
            {"grpc_server": {"location_name": "a", "host": "code1", "port": 4000, "ssl": True}},
            {"grpc_server": {"location_name": "b", "socket": "/x"}},
        ]
    }


def test_what_is_no_port_stays_for_the_validator() -> None:
    server = subject.workspace_data([{"name": "a", "socket": "/x", "port": 70000}])["load_from"][0]["grpc_server"]
    assert server == {"location_name": "a", "socket": "/x", "port": 70000}


# --- rendering

HEADER = "# Managed.\n"


def test_render_is_block_style_in_insertion_order() -> None:
    data = {"z": {"b": [1, {"c": "x", "d": []}], "a": {}}, "port": "5432", "on": None, "s": "a: b"}
    assert subject.render(data, HEADER) == (
        '# Managed.\nz:\n  b:\n    - 1\n    - c: x\n      d: []\n  a: {}\nport: "5432"\n"on": null\ns: "a: b"\n'
    )


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
    text = subject.render(data, HEADER)
    assert text == subject.render(copy.deepcopy(data), HEADER)
    loaded = yaml.safe_load(text)
    assert loaded == data
    assert repr(loaded) == repr(data)  # 1, 1.0 and True are equal in Python, not in Dagster


def test_render_refuses_what_it_cannot_write() -> None:
    with pytest.raises(TypeError, match="set"):
        subject.render({"a": {1, 2}})
    with pytest.raises(TypeError, match="not text"):
        subject.render({1: 2})
