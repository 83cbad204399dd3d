# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side of dataops.dagster.schema."""

from __future__ import annotations

from ansible_collections.dataops.dagster.plugins.plugin_utils import snapshot


class ActionModule(snapshot.Asking):
    """Always calls the module. Services that were as preflight has seen them may not like a new schema."""
