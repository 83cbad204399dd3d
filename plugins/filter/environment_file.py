# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter that writes the text of a systemd EnvironmentFile."""

from __future__ import annotations

DOCUMENTATION = r"""
name: environment_file
short_description: The text of a systemd EnvironmentFile
version_added: 0.1.0
author: dataops (@dataops)
description: Returns one line for each variable, quoted so that systemd reads exactly that value.
options:
  _input: {description: Values by name., type: dict, required: true}
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ {'AWS_REGION': 'eu-central-1'} | dataops.dagster.environment_file }}"
"""

RETURN = r"""
_value: {description: The text with its newlines., type: str, sample: "AWS_REGION=\"eu-central-1\"\n"}
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._docker.forms import text


def environment_file(variables: Mapping[str, Any]) -> str:
    """Within double quotes systemd takes a backslash before these four, and nothing else, for an escape."""
    lines = []
    for name, value in variables.items():
        escaped = re.sub(r'([\\"`$])', r"\\\1", text(value))
        lines.append(f'{name}="{escaped}"\n')
    return "".join(lines)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """The filters of this file by name."""
        return {"environment_file": environment_file}
