# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side of dataops.dagster.firewall: no call where preflight has seen that kernel and file have the rules."""

from __future__ import annotations

from ansible_collections.dataops.dagster.plugins.plugin_utils import snapshot


class ActionModule(snapshot.Asking):
    """Calls the module for anything else."""

    def known(self, read: snapshot.Snapshot) -> snapshot.Json:
        return read.firewall(self._task.args)
