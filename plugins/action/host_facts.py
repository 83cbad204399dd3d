# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side of dataops.dagster.host_facts: no call for what preflight has read, if that is recent enough."""

from __future__ import annotations

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.dataops.dagster.plugins.plugin_utils import snapshot


class ActionModule(snapshot.Asking):
    """Calls the module for anything else."""

    def known(self, read: snapshot.Snapshot) -> snapshot.Json:
        if not boolean(self._task.args.get("recent") or False):
            raise snapshot.Unknown("recent")
        return read.stamps(self._task.args)
