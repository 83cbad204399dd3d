# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters for addresses, without the netaddr library that ipaddr filters need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.dataops.dagster.plugins.module_utils import _addresses
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import subnets


def gateway(subnet: Any) -> str:
    """The first host address of a subnet in CIDR form."""
    try:
        return _addresses.gateway(subnet)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


def subnets_taken(
    wanted: Mapping[str, Mapping[str, Any] | None], hosts: Mapping[str, Mapping[str, Any] | None]
) -> list[str]:
    """Sentences about networks of containers that are networks of other hosts: what each host takes, and its facts."""
    taken = {name: found or {} for name, found in wanted.items()}
    return subnets.taken_elsewhere(taken, {name: facts or {} for name, facts in hosts.items()})


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {"gateway": gateway, "host_port": _addresses.host_port, "subnets_taken": subnets_taken}
