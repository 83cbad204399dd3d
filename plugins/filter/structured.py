# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter that reads a variable which is in no fact, because it may hold secrets, as preflight has read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import structure


def structured(value: Any, default: Any) -> Any:
    """The list or dictionary of a variable, which a survey gives as text; the default where it was left blank."""
    if isinstance(value, str):
        value, problems = structure.read_text("a variable", value)
        if problems:
            raise AnsibleFilterError("; ".join(problems))
    return default if value is None else value


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {"structured": structured}
