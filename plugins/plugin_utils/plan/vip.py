# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The address that the proxies share (dagster_vip): keepalived on each of them, and one of them holds it."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import interface_of, is_ipv4
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.proxy import every_ipv4, named_addresses
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.words import by_host

# What anybody may have set keepalived up with.
CONFIG = "/etc/keepalived/keepalived.conf"


def address_of(text: str) -> str:
    """The address of an address with a prefix length, empty for what is none that a host could have."""
    if not re.fullmatch(r"[0-9.]+/[0-9]{1,2}", text):
        return ""
    try:
        interface = ipaddress.IPv4Interface(text)
    except ValueError:
        return ""
    edges = {interface.network.network_address, interface.network.broadcast_address}
    if interface.network.prefixlen < 31 and interface.ip in edges:
        return ""
    usable = not (interface.ip.is_loopback or interface.ip.is_multicast or interface.ip.is_unspecified)
    return str(interface.ip) if usable else ""


class Vip(Component):
    """This host's part in the shared address. Without one it needs nothing, and its role removes what it has left."""

    @property
    def shared(self) -> str:
        """The shared address as it was written, empty without one."""
        return str(self.values["dagster_vip"] or "")

    @property
    def proxies(self) -> list[str]:
        """The hosts that share it."""
        return self.inventory.group("dagster_proxy")

    @property
    def own_address(self) -> str:
        """The host's own address, from which it talks to the other proxies."""
        return str(self.host.chosen("dagster_vip_own_address", self.host.address))

    @property
    def program(self) -> str:
        """What asks the entry point for keepalived. It shows as well that our role has set keepalived up."""
        return f"{self.plan.names['programs']}/edge.sh"

    def interface(self, facts: Facts) -> str:
        """The interface for the shared address, empty when none is in a network with the host's own."""
        given = self.values.get("dagster_vip_interface")
        return str(given or interface_of(self.own_address, facts.get("networks", {})))

    def packages(self, facts: Facts) -> list[str]:
        return ["keepalived"] if self.shared else []

    def mark(self) -> str:
        return self.program

    def removal(self) -> list[str]:
        return ["systemctl disable --now keepalived.service", *super().removal()]

    def known_by(self) -> list[str]:
        return self.proxies if self.shared else []

    def paths(self) -> list[str]:
        return [CONFIG]

    def compared(self) -> list[str]:
        drop_ins = "/etc/systemd/system/keepalived.service.d"
        return [CONFIG, CONFIG.rpartition("/")[0], drop_ins, f"{drop_ins}/*"] if self.shared else []

    def units(self) -> list[str]:
        return ["keepalived.service"] if self.shared else []

    def listening(self) -> dict[str, list[str]]:
        return {"dagster_vip_own_address": [self.own_address]} if self.shared else {}

    def options(self, facts: Facts) -> dict[str, Any]:
        peers = [Vip(self.inventory.hosts[name], self.plan) for name in self.proxies]
        return {
            "dagster_vip_own_address": self.own_address,
            "dagster_vip_peers": [peer.own_address for peer in peers],
            "dagster_vip_interface": self.interface(facts),
        }

    def handed(self, facts: Facts) -> dict[str, Any]:
        return {"program": self.program}

    def problems(self) -> list[str]:
        every = {name: str(self.inventory.hosts[name].values["dagster_vip"] or "") for name in self.proxies}
        if len(set(every.values())) > 1:
            return [f"dagster_vip differs between the proxies ({by_host(every)}); they share one"]
        if not self.shared:
            return []
        if not address_of(self.shared):
            return [
                f"dagster_vip is {self.shared}; it is an IPv4 address with the length of its network's prefix, for "
                "example 10.0.0.10/24"
            ]
        return [*self.address_problems(), *self.proxy_problems()]

    def address_problems(self) -> list[str]:
        """Sentences about a shared address that cannot be one, or would be nobody's."""
        address, listen = address_of(self.shared), named_addresses(self.values)
        found = [
            f"dagster_vip is {self.shared}, the address of {name}; it is one that no host has of its own"
            for name, known in sorted(self.inventory.hosts.items())
            if known.address == address
        ]
        if address not in listen and not every_ipv4(listen):
            found.append(
                f"dagster_vip is {self.shared}, but dagster_nginx_listen is {', '.join(listen)} and nothing would "
                f"answer there; set dagster_nginx_listen to {address}, or to 0.0.0.0"
            )
        router = int(self.values["dagster_vip_router_id"])
        if not 1 <= router <= 255:
            found.append(f"dagster_vip_router_id is {router}; it is a number from 1 to 255")
        return found

    def proxy_problems(self) -> list[str]:
        """Sentences about proxies that cannot share an address."""
        found = []
        if len(self.proxies) == 1:
            found.append(
                f"dagster_vip is set, but {self.proxies[0]} is the only host of group dagster_proxy; an address "
                "is shared by two or more. Leave it out"
            )
        addresses = {name: self.inventory.hosts[name].address for name in self.proxies}
        found += [
            f"dagster_vip needs the IPv4 address of each proxy, and {name} is known as {address}; give it a "
            "dagster_address"
            for name, address in addresses.items()
            if not is_ipv4(address)
        ]
        return found

    def host_problems(self, facts: Facts) -> list[str]:
        if not self.shared:
            return []
        found = []
        if not self.interface(facts):
            found.append(
                f"dagster_vip: no interface of the host is in a network with its address {self.own_address}; name one "
                "in dagster_vip_interface"
            )
        paths = facts.get("paths", [])
        if CONFIG in paths and self.program not in paths:
            found.append(
                f"dagster_vip: the host has a {CONFIG} of somebody else; leave dagster_vip out and share the address "
                "there, or remove that file"
            )
        return found
