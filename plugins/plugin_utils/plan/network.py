# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Addresses and ports, each in the form that its reader takes. Pure: no I/O."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._addresses import WILDCARDS, gateway

LOOPBACK, LOOPBACK6 = "127.0.0.1", "::1"
NO_UNIT = "(none)"  # of a port that nobody may hold yet


@dataclass(frozen=True)
class Reach:
    """Who may reach a port from outside of its host. Whatever runs on the host itself may."""

    group: str  # as dagster_firewall_sources calls it
    hosts: tuple[str, ...]  # of the inventory
    containers: tuple[str, ...] = ()  # kinds of containers of its own host: code, run
    published: bool = False  # whether an engine hands it on to a container
    more: tuple[str, ...] = ()  # addresses and networks that the component's own variables name
    unknown: tuple[str, ...] = ()  # what they name otherwise, which rules cannot


@dataclass(frozen=True)
class Port:
    """A port on which a component listens."""

    value: Any  # as it was written
    variable: str  # what sets it
    addresses: tuple[str, ...]
    unit: str  # how the names of the units begin that may hold it already
    reach: Reach | None = None  # None for whoever reaches the host
    listens: tuple[str, ...] = ()  # where alone it listens, if it can share the port with nobody at other addresses

    @property
    def number(self) -> int:
        """The port, 0 when the value is none."""
        return port_of(self.value)

    def own_addresses(self, listeners: Iterable[Mapping[str, Any]]) -> list[str]:
        """The addresses at which the port is ours, none for every address of the host.

        A name may be any of them, and a unit may still listen at one that it had before. A container that an engine
        publishes elsewhere may be anybody's.
        """
        wanted = self.listens or self.addresses
        if not all(is_address(text) and text not in WILDCARDS for text in wanted):
            return []
        held = [each for each in listeners if each["port"] == self.number and each["unit"].startswith(self.unit)]
        published = self.reach is not None and self.reach.published
        if not published and not {str(each["address"]) for each in held} <= {*wanted}:
            return []
        return sorted({*wanted})


def port_of(value: Any) -> int:
    """A port as number, 0 when it is none. AWX gives numbers as text."""
    return int(value) if re.fullmatch(r"[0-9]{1,5}", str(value)) and int(value) <= 65535 else 0


def is_address(text: str) -> bool:
    """Whether a text is an IP address, not the name of a host."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def as_network(text: str) -> str:
    """An address or network as pg_hba.conf takes it, in which 10.8.0.1/24 is 10.8.0.0/24; empty for names and words."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return ""


def is_ipv4(text: str) -> bool:
    """Whether a text is an IPv4 address."""
    return is_address(text) and ipaddress.ip_address(text).version == 4


def first_address(subnet: Any) -> str:
    """The gateway of a subnet; empty for what is no subnet, which another problem says."""
    try:
        return gateway(subnet)
    except ValueError:
        return ""


def reached_at(listening: str, address: str, *, own: bool) -> str:
    """Where something that listens at an address is reached: on its own host, or from others at the host's address."""
    if listening in (LOOPBACK, *WILDCARDS):
        loopback = LOOPBACK6 if listening == "::" else LOOPBACK  # most servers take IPv6 alone there
        return loopback if own else address
    return listening


def interface_of(address: str, networks: Mapping[str, str]) -> str:
    """The interface whose network holds an address, of the narrowest if several do; networks gives that of each."""
    if not is_ipv4(address):
        return ""
    found = [
        (network.prefixlen, name)
        for network, name in ((ipaddress.IPv4Network(text), name) for text, name in networks.items())
        if ipaddress.IPv4Address(address) in network
    ]
    return max(found)[1] if found else ""
