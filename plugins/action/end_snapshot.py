# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side of dataops.dagster.end_snapshot: beside a module of somebody else that changes a host."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.dataops.dagster.plugins.plugin_utils import snapshot


class ActionModule(ActionBase):
    """Makes no call to a host."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Nothing is changed."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        snapshot.end()
        return {**result, "changed": False}
