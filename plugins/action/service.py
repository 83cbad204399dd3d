# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side of dataops.dagster.service."""

from __future__ import annotations

from ansible_collections.dataops.dagster.plugins.action import files


class ActionModule(files.ActionModule):
    """Renders the templates of a service's files; its units are for the module alone."""

    UNITS = True
