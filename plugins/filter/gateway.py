# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter that gives the gateway of a subnet, without the netaddr library that ipaddr filters need."""

from __future__ import annotations

DOCUMENTATION = r"""
name: gateway
short_description: First address of a subnet
version_added: 0.1.0
author: dataops (@dataops)
description: Returns the first host address of a subnet, which Docker uses as the network's gateway.
options:
  _input: {description: A subnet in CIDR form., type: str, required: true}
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ '172.30.0.0/24' | dataops.dagster.gateway }}"
"""

RETURN = r"""
_value: {description: The address., type: str, sample: 172.30.0.1}
"""

import ipaddress
from collections.abc import Callable

from ansible.errors import AnsibleFilterError


def gateway(subnet: str) -> str:
    """The first host address of a subnet in CIDR form."""
    try:
        return str(ipaddress.ip_network(str(subnet))[1])
    except (ValueError, IndexError) as error:
        raise AnsibleFilterError(
            f"{subnet!r} is not a subnet with host addresses, such as 172.30.0.0/24: {error}"
        ) from error


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """The filters of this file by name."""
        return {"gateway": gateway}
