# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side of dataops.dagster.workspace_yaml."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.dataops.dagster.plugins.plugin_utils.config.action import ARGUMENTS, ConfigAction
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.write import workspace_data

LOCATION = {
    "name": {"type": "str", "required": True},
    "host": {"type": "str"},
    "port": {"type": "int"},
    "socket": {"type": "str"},
    "ssl": {"type": "bool", "default": False},
}


class ActionModule(ConfigAction):
    """Checks a list of code locations, and has the host check and write workspace.yaml."""

    KIND = "workspace"
    VARIABLE = "dagster_code_locations"

    def path_of(self, path: str) -> str:
        """load_from[1].grpc_server.location_name is locations[1].name."""
        path = re.sub(r"^load_from\[(\d+)\](?:\.grpc_server)?", r"locations[\1]", path)
        return re.sub(r"\.location_name$", ".name", path)

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns the module's result, or what is wrong."""
        super().run(tmp, task_vars)
        locations = {"type": "list", "elements": "dict", "required": True, "options": LOCATION}
        _result, arguments = self.validate_argument_spec({**ARGUMENTS, "locations": locations})
        return self.write(workspace_data(arguments["locations"]), arguments, dict(task_vars or {}))
