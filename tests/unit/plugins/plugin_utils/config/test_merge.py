"""Merging of dagster_config."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support import GOOD

from ansible_collections.dataops.dagster.plugins.plugin_utils.config.merge import deep_merge


def test_merge_is_deep_and_leaves_the_inputs_alone() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    extra = {"a": {"c": [3]}, "e": {"f": {"g": None, "h": 1}}}
    before = copy.deepcopy((base, extra))
    merged = deep_merge(base, extra)
    assert merged == {"a": {"b": 1, "c": [3]}, "d": 1, "e": {"f": {"h": 1}}}
    merged["a"]["c"].append(4)
    assert (base, extra) == before


def test_null_takes_back() -> None:
    assert deep_merge({"a": {"b": 1, "c": 2}}, {"a": {"b": None}, "x": None}) == {"a": {"c": 2}}


def test_another_class_replaces_the_section() -> None:
    launcher = {"module": "dagster", "class": "DefaultRunLauncher"}
    assert deep_merge(GOOD, {"run_launcher": launcher})["run_launcher"] == launcher
    same = {"class": "DockerRunLauncher", "config": {"network": "other"}}
    merged = deep_merge(GOOD, {"run_launcher": same})["run_launcher"]["config"]
    assert merged["network"] == "other"
    assert merged["env_vars"] == GOOD["run_launcher"]["config"]["env_vars"]


def test_another_storage_replaces_ours() -> None:
    assert deep_merge(GOOD, {"storage": {"mysql": {"x": 1}}})["storage"] == {"mysql": {"x": 1}}
    merged = deep_merge(GOOD, {"storage": {"postgres": {"postgres_db": {"port": 5433}}}})
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
    merged = deep_merge(base, extra)
    assert deep_merge(base, {}) == base
    assert deep_merge({}, extra) == extra
    assert set(merged) == set(base) | set(extra)
    assert deep_merge(merged, extra) == merged, "a second merge changes nothing"


@given(*[st.dictionaries(KEYS, st.dictionaries(KEYS, st.integers(), min_size=1), max_size=3)] * 3)
def test_merge_is_associative_where_no_value_meets_a_mapping(one: Any, two: Any, three: Any) -> None:
    """Defaults, then a group's part, then a host's: in whichever order they are put together."""
    left = deep_merge(deep_merge(one, two), three)
    assert left == deep_merge(one, deep_merge(two, three))
