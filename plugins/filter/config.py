# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters that build the configuration of Dagster on the controller."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.dataops.dagster.plugins.plugin_utils.config import merge


def deep_merge(base: Any, extra: Any) -> dict[str, Any]:
    """Merge the user's dagster_config into ours."""
    for what, value in (("the value on the left", base), ("the argument (dagster_config)", extra)):
        if not isinstance(value, Mapping):
            raise AnsibleFilterError(
                f"dataops.dagster.deep_merge: {what} is a {type(value).__name__}; expected a mapping of sections"
            )
    return merge.deep_merge(base, extra)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "deep_merge": deep_merge,
        }
