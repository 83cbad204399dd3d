# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters for addresses, without the netaddr library that ipaddr filters need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.dataops.dagster.plugins.module_utils import _addresses


def gateway(subnet: Any) -> str:
    """The first host address of a subnet in CIDR form."""
    try:
        return _addresses.gateway(subnet)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """The filters of this file by name."""
        return {"gateway": gateway, "host_port": _addresses.host_port}
