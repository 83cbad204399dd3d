# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side of dataops.dagster.dagster_yaml."""

from __future__ import annotations

from typing import Any

from ansible_collections.dataops.dagster.plugins.plugin_utils.config.action import ARGUMENTS, ConfigAction


class ActionModule(ConfigAction):
    """Checks the content of dagster.yaml, and has the host check and write it."""

    KIND = "dagster"
    VARIABLE = "dagster_config"

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns the module's result, or what is wrong."""
        super().run(tmp, task_vars)
        spec = {**ARGUMENTS, "config": {"type": "dict", "required": True}}
        _result, arguments = self.validate_argument_spec(spec)
        return self.write(arguments["config"], arguments, dict(task_vars or {}))
