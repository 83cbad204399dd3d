# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The address that the proxies share (dagster_nginx_vip). Pure: no I/O."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Host, Inventory
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import WILDCARDS, is_ipv4
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.words import by_host

# What shows that role nginx has set keepalived up, and what anybody may have set it up with.
PROGRAM = "/usr/local/lib/dagster/edge.sh"
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


def problems(host: Host, inventory: Inventory, listen: list[str]) -> list[str]:
    """Sentences about the shared address; listen are the addresses that nginx was told to listen on."""
    proxies = {name: inventory.hosts[name] for name in inventory.group("dagster_proxy")}
    every = {name: str(proxy.values["dagster_nginx_vip"] or "") for name, proxy in proxies.items()}
    if len(set(every.values())) > 1:
        return [f"dagster_nginx_vip differs between the proxies ({by_host(every)}); they share one"]
    text = str(host.values["dagster_nginx_vip"] or "")
    if not text:
        return []
    address = address_of(text)
    if not address:
        return [
            f"dagster_nginx_vip is {text}; it is an IPv4 address with the length of its network's prefix, for example "
            "10.0.0.10/24"
        ]
    found = [
        f"dagster_nginx_vip is {text}, the address of {name}; it is one that no host has of its own"
        for name, known in sorted(inventory.hosts.items())
        if known.address == address
    ]
    if len(proxies) == 1:
        found.append(
            f"dagster_nginx_vip is set, but {next(iter(proxies))} is the only host of group dagster_proxy; an address "
            "is shared by two or more. Leave it out"
        )
    found += [
        f"dagster_nginx_vip needs the IPv4 address of each proxy, and {name} is known as {proxy.address}; give it a "
        "dagster_address"
        for name, proxy in proxies.items()
        if not is_ipv4(proxy.address)
    ]
    if not {address, *WILDCARDS}.intersection(listen):
        found.append(
            f"dagster_nginx_vip is {text}, but dagster_nginx_listen is {', '.join(listen)} and nothing would answer "
            f"there; set dagster_nginx_listen to {address}, or to 0.0.0.0"
        )
    router = int(host.values["dagster_nginx_vip_router_id"])
    if not 1 <= router <= 255:
        found.append(f"dagster_nginx_vip_router_id is {router}; it is a number from 1 to 255")
    return found


def host_problems(address: str, interface: str, paths: Iterable[str]) -> list[str]:
    """Sentences about a proxy that cannot hold the shared address; paths are those that it has."""
    found = []
    if not interface:
        found.append(
            f"dagster_nginx_vip: no interface of the host is in a network with its address {address}; name one in "
            "dagster_nginx_vip_interface"
        )
    if CONFIG in paths and PROGRAM not in paths:
        found.append(
            f"dagster_nginx_vip: the host has a {CONFIG} of somebody else; leave dagster_nginx_vip out and "
            "share the address there, or remove that file"
        )
    return found
