# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The addresses that an inventory names: in the form that their readers take, and on the host that listens there.

In the plan an address is bare: IPv6 has no brackets, and the port has a variable of its own. Each reader gets the form
that it takes: gRPC, URLs, nginx and HAProxy want brackets (host_port), libpq, uvicorn and Docker must not have them.
Pure: no I/O.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._addresses import WILDCARDS, bare, is_ipv6
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Host, Inventory
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import is_address, is_ipv4
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import Storage

NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
WITH_PORT = re.compile(r"(?P<host>\[[^\[\]]+\]|[^\[\]:/@\s]+):(?P<port>[0-9]+)")
# nginx is given brackets by its template, and may be given them by the inventory.
IN_BRACKETS_TOO = ("dagster_nginx_listen", "dagster_address", "ansible_host")
# What a server listens on, where it takes no name of a host.
NO_NAMES = ("dagster_code_publish_address",)
# A server of the user's own, or the way of containers to it.
SERVERS = ("dagster_database_host", "dagster_database_run_host", "dagster_database_code_host")
# Whether a server may listen on an address that its host does not have, and the family of these addresses.
NONLOCAL = {"/proc/sys/net/ipv4/ip_nonlocal_bind": 4, "/proc/sys/net/ipv6/ip_nonlocal_bind": 6}


def form_problem(variable: str, text: str) -> str:
    """A sentence about a text that is no address as the readers of a variable take it, empty for a good one."""
    inner = bare(text)
    if text != inner and is_ipv6(inner) and variable not in IN_BRACKETS_TOO:
        return f"{variable} is {text}; write it without brackets: {inner}"
    if "%" in inner and is_address(inner):
        return f"{variable} is {text}, which means something on one interface alone; write an address without a zone"
    if is_address(inner):
        return ""
    if found := WITH_PORT.fullmatch(text):
        port = {"dagster_nginx_listen": "dagster_nginx_port", "dagster_webserver_bind": "dagster_webserver_ports"}.get(
            variable, "dagster_database_port" if variable in SERVERS else "a variable of its own"
        )
        return f"{variable} is {text}; write {bare(found['host'])} alone, the port {found['port']} belongs in {port}"
    if "," in text or " " in text.strip():
        more = "give a list of addresses" if variable == "dagster_nginx_listen" else "it is one address"
        return f"{variable} is {text!r}; {more}"
    if "/" in text or "@" in text:  # a URL may hold a password
        return f"{variable} is no address: it has a '/' or '@' in it; write the address or name of the host alone"
    if not NAME.fullmatch(text) or re.fullmatch(r"[0-9.]+", text):
        return f"{variable} is {text!r}, which is no address and no name of a host; for example 10.0.0.5 or fd00::5"
    return ""


def listening_problems(components: Iterable[Component]) -> list[str]:
    """Sentences about what the inventory says servers of a host shall listen on."""
    found = []
    for component in components:
        for variable, addresses in component.listening().items():
            given = variable in component.host.given
            if not addresses:
                found.append(f"{variable} names no address; 127.0.0.1 is one")
            for address in addresses:
                wildcard = address in WILDCARDS and (address != "*" or variable == "dagster_nginx_listen")
                problem = form_problem(variable, address) if given and not wildcard else ""
                if not problem and variable in NO_NAMES and not is_address(address):
                    problem = (
                        f"{variable} is {address}; Docker publishes a code server at an address, not at a name. Set it"
                        + ("" if given else f", or dagster_address of {component.host.name},")
                        + " to the host's address"
                    )
                found += [problem] if problem else []
    return found


def inventory_problems(inventory: Inventory) -> list[str]:
    """Sentences about addresses at which the hosts would not reach each other."""
    found = []
    for name, host in sorted(inventory.hosts.items()):
        problem = form_problem("dagster_address", host.address)
        if problem:
            found.append(f"{name}: {problem}" if "dagster_address" in host.given else own_words(host, problem))
        elif len(inventory.hosts) > 1 and of_itself(host.address):
            found.append(
                f"{name} is known as {host.address}, where each other host finds itself; give it a dagster_address"
            )
    known: dict[str, list[str]] = {}
    for name, host in sorted(inventory.hosts.items()):
        known.setdefault(host.address, []).append(name)
    return found + [
        f"{' and '.join(names)} have one address, {address}; they would be one host for all others. Give each its "
        "ansible_host or dagster_address, or put one host into all these groups"
        for address, names in known.items()
        if len(names) > 1
    ]


def of_itself(address: str) -> bool:
    """Whether an address is none by which another host could reach this one: loopback, or every address."""
    if not is_address(address):
        return address.rstrip(".") == "localhost" or address.endswith(".localhost")
    parsed = ipaddress.ip_address(address)
    return parsed.is_loopback or parsed.is_unspecified


def own_words(host: Host, problem: str) -> str:
    """The same about an address that is Ansible's own."""
    return f"{host.name} is known by its ansible_host or name; give it a dagster_address, because {problem}".replace(
        "dagster_address is", "that is"
    )


def server_problems(values: Mapping[str, Any], given: Iterable[str]) -> list[str]:
    """Sentences about the address of a database of the user's own."""
    chosen = [(name, str(values[name])) for name in SERVERS if name in given and values.get(name)]
    return [problem for name, text in chosen if (problem := form_problem(name, text))]


def container_problems(storage: Storage) -> list[str]:
    """Sentences about a database that containers would have to reach by IPv6, which their network does not have."""
    inventory, found = storage.inventory, []
    for consumer in inventory.engines:
        host = inventory.hosts[consumer]
        if host.chosen("dagster_database_run_host", ""):
            address, own = str(host.values["dagster_database_run_host"]), "127.0.0.1"
        else:
            address, own = storage.address(consumer, in_container=True), host.address
        if of_itself(address) and not storage.server:
            found.append(
                f"the database would be at {address} for runs and code servers, where a container finds itself; set "
                "dagster_database_run_host and dagster_database_code_host to an address of the server that they reach, "
                "or dagster_database_host"
            )
        elif is_ipv6(address) and not storage.server:
            found.append(
                f"the database is at {address}, and runs and code servers have IPv4 only, as Docker's networks have; "
                "set dagster_database_run_host to an IPv4 address, or a name that has one, of the same server"
            )
        elif storage.server and consumer != storage.server and (is_ipv6(address) or is_ipv6(own)):
            found.append(
                f"runs and code servers of {consumer} have IPv4 only, as Docker's networks have, and would reach the "
                f"database on {storage.server} from {own} at {address}; give both hosts an IPv4 dagster_address"
            )
    return list(dict.fromkeys(found))


def reach_problems(components: Iterable[Component], inventory: Inventory) -> list[str]:
    """A sentence about webservers that proxies on other hosts cannot reach: `::` is IPv6 alone for them."""
    return [
        f"dagster_webserver_bind is ::, every IPv6 address, but proxies reach {component.host.name} at "
        f"{component.host.address}; set it to 0.0.0.0, or leave it out"
        for component in components
        if "::" in component.listening().get("dagster_webserver_bind", [])
        and set(inventory.group("dagster_proxy")) - {component.host.name}
        and is_ipv4(component.host.address)
    ]


def absent_problems(components: Iterable[Component], inventory: Inventory, own: str, facts: Facts) -> list[str]:
    """Sentences about addresses that a host does not have, so a server of ours could not listen there.

    own is the pattern of files with which we let a server do that. Where a setting of somebody else lets it, an address
    may come and go: that is a shared address of theirs.
    """
    there = facts.get("addresses")
    if there is None:
        return []
    paths, texts = facts.get("paths") or [], facts.get("texts") or {}
    ours = bool(fnmatch.filter(paths, own))
    allowed = {family for path, family in NONLOCAL.items() if str(texts.get(path, "")).strip() == "1" and not ours}
    found = []
    for component in components:
        shared = str(component.values["dagster_vip"] or "").partition("/")[0]
        for variable, addresses in component.listening().items():
            for text in addresses:
                if text == "::" and not any(is_ipv6(address) for address in there):
                    found.append(f"{variable} is ::, and the host has no IPv6; set it to 0.0.0.0")
                if text in WILDCARDS or text == shared or not is_address(text):
                    continue
                address = ipaddress.ip_address(text)
                if str(address) in there or (address.version == 4 and address.is_loopback):
                    continue
                other = [name for name, host in inventory.hosts.items() if host.address == str(address)]
                other = [name for name in other if name != component.host.name]
                if other or address.version not in allowed:
                    found.append(absent(component.host, variable, text, other, there))
    return found


def absent(host: Host, variable: str, address: str, other: list[str], there: Iterable[str]) -> str:
    """The sentence about one of them."""
    whose = f" (it is that of {', '.join(other)})" if other else ""
    usable = [text for text in there if not ipaddress.ip_address(text).is_loopback]
    has = f"it has {', '.join(usable) or 'none but loopback'}"
    if variable in host.given:
        return f"{variable} is {address}, and the host has no such address{whose}; {has}"
    return (
        f"{variable} would be {address}, by which other hosts know this one, and the host has no such address{whose}; "
        f"{has}. Set dagster_address to one of these, or {variable}"
    )
