# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Merging the user's dagster_config into ours. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._secrets import copied
from ansible_collections.dataops.dagster.plugins.plugin_utils.config import context

LAUNCHER = ("run_launcher", "config")


def deep_merge(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Merge extra into a copy of base: mappings key by key, everything else (lists too) replaced.

    - what the launcher gives to the container of each run is added to ours, because no run works without ours;
    - null in extra removes the key, so that a default of the collection can be taken back;
    - a section that names another class replaces the whole section: the options of one launcher make no sense
      for another one;
    - `storage` holds exactly one backend, so another backend replaces ours.

    Layers can be put together in any order, (a + b) + c or a + (b + c), as long as none of them takes something back,
    names another class or backend, or has a plain value where another one has a mapping.
    """
    return _merge(base, extra, ())


def merge_contexts(base: Mapping[str, Any], *more: Mapping[str, Any]) -> dict[str, Any]:
    """Merge container contexts, as deep_merge does that of the launcher."""
    merged = dict(base)
    for each in more:
        merged = _merge(merged, each, LAUNCHER)
    return merged


def _merge(base: Mapping[str, Any], extra: Mapping[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    merged = {key: copied(value) for key, value in base.items()}
    for key, value in extra.items():
        old = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif old is not None and path[:2] == LAUNCHER and context.is_added((*path[2:], key)):
            merged[key] = copied(context.added(key, old, value))
        elif isinstance(value, Mapping) and isinstance(old, Mapping) and not _replaces((*path, key), old, value):
            merged[key] = _merge(old, value, (*path, key))
        else:
            # Merging into nothing drops the nulls of a new section as well.
            merged[key] = _merge({}, value, (*path, key)) if isinstance(value, Mapping) else copied(value)
    return merged


def _replaces(path: tuple[Any, ...], old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if path == ("storage",):
        return bool(new) and not set(old) & set(new)
    return "class" in old and "class" in new and old["class"] != new["class"]
