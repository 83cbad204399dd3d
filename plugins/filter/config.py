# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters that build the configuration of Dagster on the controller."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.dataops.dagster.plugins.plugin_utils.config import merge, write
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.refusal import refusal
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator import validate_data


def deep_merge(base: Any, extra: Any) -> dict[str, Any]:
    """Merge the user's dagster_config into ours."""
    for what, value in (("the value on the left", base), ("the argument (dagster_config)", extra)):
        if not isinstance(value, Mapping):
            raise AnsibleFilterError(
                f"dataops.dagster.deep_merge: {what} is a {type(value).__name__}; expected a mapping of sections"
            )
    return merge.deep_merge(base, extra)


def in_locations(path: str) -> str:
    """load_from[1].grpc_server.location_name is locations[1].name."""
    path = re.sub(r"^load_from\[(\d+)\](?:\.grpc_server)?", r"locations[\1]", path)
    return re.sub(r"\.location_name$", ".name", path)


def to_workspace_yaml(locations: Any, dagster_version: Any) -> str:
    """The content of workspace.yaml for code locations, checked with the catalogue, which knows all that it can be."""
    if not isinstance(locations, Sequence) or not all(isinstance(location, Mapping) for location in locations):
        raise AnsibleFilterError(
            "dataops.dagster.to_workspace_yaml: expected a list of dictionaries, one for a location"
        )
    data, version = write.workspace_data(locations), str(dagster_version)
    try:
        report = validate_data(data, "workspace", version, {}, [])
    except ValueError as error:
        raise AnsibleFilterError(f"dagster_version: {error}") from error
    if not report.valid:
        raise AnsibleFilterError(refusal("workspace.yaml", "dagster_code_locations", report, in_locations))
    return write.render(data, write.header("dagster_code_locations", f"the catalogue of Dagster {version}"))


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "deep_merge": deep_merge,
            "to_workspace_yaml": to_workspace_yaml,
        }
