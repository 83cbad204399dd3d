# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Addresses in the form that their reader takes, for the plan, the filters and the modules. Pure: no I/O."""

from __future__ import annotations

import ipaddress
from typing import Any

WILDCARDS = ("0.0.0.0", "::", "*")  # each of them takes IPv4 too, unless it is told otherwise


def bare(address: str) -> str:
    """An address without the brackets that URLs and nginx want around IPv6; one with a port stays as it is."""
    return address[1:-1] if address.startswith("[") and address.endswith("]") else address


def host_port(address: str, port: Any) -> str:
    """An address with a port as URLs, gRPC and Docker take it: IPv6 in brackets. libpq takes the two apart."""
    return f"{in_brackets(str(address))}:{port}"


def in_brackets(address: str) -> str:
    """An address as it stands before a port: IPv6 in brackets."""
    return f"[{bare(address)}]" if is_ipv6(address) else address


def is_ipv6(address: str) -> bool:
    """Whether an address is one of IPv6, in brackets or not."""
    try:
        ipaddress.IPv6Address(bare(address))
    except ValueError:
        return False
    return True


def overlap(one: str, other: str) -> bool:
    """Whether two listening addresses exclude each other on one port."""
    one, other = bare(one), bare(other)
    return one == other or one in WILDCARDS or other in WILDCARDS


def gateway(subnet: Any) -> str:
    """The first address of a subnet, where its containers reach the host. Raises ValueError for what is none."""
    try:
        return str(ipaddress.ip_network(str(subnet))[1])
    except (ValueError, IndexError) as error:
        raise ValueError(f"{subnet!r} is not a subnet with host addresses, such as 172.30.0.0/24: {error}") from error
