# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side of dataops.dagster.code_containers."""

from __future__ import annotations

from ansible_collections.dataops.dagster.plugins.plugin_utils import snapshot


class ActionModule(snapshot.Asking):
    """Always calls the module. A code server that was replaced is no longer as preflight has seen it."""
