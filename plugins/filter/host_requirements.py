# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of a lock a host installs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.libraries import packages, requirements

DOCUMENTATION = r"""
name: host_requirements
author: The dataops.dagster contributors (@dataops)
version_added: 0.2.0
short_description: The part of a lock that hosts install
description:
  - A lock of role instance holds Dagster and all libraries with a class for C(dagster.yaml). This filter gives the
    requirements of Dagster and of the named packages, with all that they need, each with its hashes.
  - C(dagster_plan.instance.libraries) is what the C(dagster.yaml) of a host names.
positional: _input, names
options:
  _input:
    description: The text of the lock.
    type: str
    required: true
  names:
    description: Packages of the lock beside Dagster.
    type: list
    elements: str
    default: []
  own:
    description: The text of a requirements file of your own, with hashes. What the lock has already is left out of it.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Write what has to be in a folder of wheels (dagster_wheelhouse) for compute logs in S3
  ansible.builtin.copy:
    dest: /tmp/requirements.txt
    content: "{{ lookup('ansible.builtin.file', lock) | dataops.dagster.host_requirements(['dagster-aws']) }}"
    mode: "0644"
  vars: {lock: collections/ansible_collections/dataops/dagster/roles/instance/files/locks/dagster-1.13.27.txt}
"""

RETURN = r"""
_value:
  description: The requirements, one after the other.
  type: str
"""


def host_requirements(text: Any, names: Iterable[str] = (), own: str = "") -> str:
    """The requirements of a host."""
    names = [str(name) for name in names]
    unknown = set(names) - {package.name for package in packages(str(text))}
    if unknown:
        raise AnsibleFilterError(f"host_requirements: the lock has no {', '.join(sorted(unknown))}")
    return requirements(str(text), names, str(own))


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"host_requirements": host_requirements}
