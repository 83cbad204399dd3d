# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side of dataops.dagster.units."""

from __future__ import annotations

from ansible_collections.dataops.dagster.plugins.plugin_utils import snapshot


class ActionModule(snapshot.Asking):
    """Always calls the module. A unit that was started or stopped is no longer as preflight has seen it."""
