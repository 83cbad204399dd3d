# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who may reach the ports of a host: its own table of nftables, made of what the components say about their ports."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Any

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import subnets
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import (
    LOOPBACK,
    Port,
    first_address,
    is_address,
    is_ipv4,
    port_of,
)
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.record import HEADER

SOURCES, RUN_PORTS = "dagster_firewall_sources", "dagster_firewall_run_ports"
# Units that flush all of nftables when they stop or start. firewalld stops the first one, and is its conflict.
FLUSH = ("nftables", "firewalld")
# By which address other hosts know this one, in a comment of its rules.
KNOWN_BY = rf"({HEADER[1:-1]}|(?<=^# Other hosts know this one by )\S+$)"
# Where a host names its name servers. Behind the stub of systemd-resolved, the engine takes those of the second file.
RESOLVERS = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
NAME_SERVER, STUB, NAMES = re.compile(r"^[ \t]*nameserver[ \t]+(\S+)", re.MULTILINE), "127.0.0.53", 53


def family(addresses: Iterable[str], version: int) -> list[str]:
    """The addresses and networks of one family, in the shortest form: a set refuses what is in it twice."""
    networks: Any = (ipaddress.ip_network(text) for text in addresses)
    merged = ipaddress.collapse_addresses(sorted(network for network in networks if network.version == version))
    return [str(each.network_address) if each.num_addresses == 1 else str(each) for each in merged]


class Firewall(Component):
    """The table of one host. Without dagster_firewall it needs nothing, and its role removes what it has left."""

    @property
    def wanted(self) -> bool:
        """Whether the host gets the table."""
        return bool(self.values["dagster_firewall"])

    @property
    def rules(self) -> str:
        """The file with the rules that a fresh connection has confirmed."""
        return self.plan.names["firewall_rules"]

    def packages(self, facts: Facts) -> list[str]:
        return ["nftables"] if self.wanted else []

    def mark(self) -> str:
        return self.plan.names.unit_file("firewall")

    def headed(self) -> list[str]:
        return [self.mark(), self.rules]

    def paths(self) -> list[str]:
        return [self.rules]

    def compared(self) -> list[str]:
        return [self.rules, self.mark(), *self.drop_ins, *(path.rpartition("/")[0] for path in self.drop_ins)]

    def units(self) -> list[str]:
        return [f"{self.plan.names['firewall']}.service"] if self.wanted else []

    def table(self) -> dict[str, str]:
        return {"path": self.rules, "table": self.plan.names["firewall_table"]} if self.wanted else {}

    def removal(self) -> list[str]:
        unit = self.plan.names["firewall"]
        files = " ".join([self.rules, *self.drop_ins])
        folders = " ".join(path.rpartition("/")[0] for path in self.drop_ins)
        gone = [f"rm -f {files}", f"rmdir --ignore-fail-on-non-empty {folders}"]
        return [f"systemctl disable --now {unit}.service", *gone, *super().removal()]

    @property
    def drop_ins(self) -> list[str]:
        """Beside the units of others that take all tables away, ours too: each asks for ours again."""
        return [f"/etc/systemd/system/{unit}.service.d/50-{self.plan.names['firewall']}.conf" for unit in FLUSH]

    def nftables(self) -> bool:
        return self.wanted

    def lines(self) -> dict[str, str]:
        return {self.rules: KNOWN_BY}

    def texts(self) -> list[str]:
        return list(RESOLVERS) if self.wanted and self.host.name in self.inventory.group("dagster_run") else []

    # What the components of this and of other hosts say

    def restricted(self, host: str) -> list[Port]:
        """The ports of a host that not everybody may reach."""
        parts = [self.plan.component(role, host) for role in self.inventory.roles_of(host)]
        return [port for part in parts for port in part.ports() if port.reach and port.number]

    def groups(self, facts: Facts) -> list[dict[str, Any]]:
        """The ports of this host by who may reach them, as its role writes them."""
        found: dict[str, dict[str, Any]] = {}
        closing = self.plan.docker(self.host.name).closing(facts)
        for port in (*self.restricted(self.host.name), *closing):
            reach = port.reach
            if reach is None:
                continue
            known = found.setdefault(
                reach.group,
                {"name": reach.group, "published": reach.published, "sources": set(), "places": {}},
            )
            addresses = port.own_addresses(facts["listeners"])
            place = known["places"].setdefault(tuple(addresses), {"ports": set(), "closing": set()})
            place["closing" if port in closing else "ports"].add(port.number)
            more = [*reach.more, *(str(text) for text in (self.values[SOURCES] or {}).get(reach.group) or [])]
            known["sources"] |= {*self.addresses(reach.hosts, facts), *(text for text in more if not problem_of(text))}
            known["sources"] |= {*self.container_subnets} if reach.containers else set()
        return [
            {
                "name": known["name"],
                "published": known["published"],
                # Ports with the addresses of this host at which they are ours, none for all. A place that closes is
                # open until the end of the play.
                "places": [
                    {
                        **{name: sorted(found) for name, found in place.items()},
                        "v4": [text for text in addresses if is_ipv4(text)],
                        "v6": [text for text in addresses if not is_ipv4(text)],
                    }
                    for addresses, place in sorted(known["places"].items())
                ],
                "v4": family(known["sources"], 4),
                "v6": family(known["sources"], 6),
            }
            for _name, known in sorted(found.items())
        ]

    def addresses(self, hosts: Iterable[str], facts: Facts) -> list[str]:
        """The addresses from which other hosts come. A name has those that this host knows, as preflight has seen."""
        resolved = facts.get("resolved") or {}
        texts = [self.inventory.address(name) for name in hosts if name != self.host.name]
        return [each for text in texts for each in ([text] if is_address(text) else resolved.get(text, []))]

    def peers(self) -> list[str]:
        """The addresses of the other hosts to whose restricted ports this one comes."""
        if not self.wanted:
            return []
        here = self.host.name
        ports = {name: self.restricted(name) for name in self.inventory.hosts if name != here}
        reached = [
            name for name, found in ports.items() if any(port.reach and here in port.reach.hosts for port in found)
        ]
        return sorted({self.inventory.address(name) for name in reached})

    def strange_sources(self, facts: Facts) -> list[str]:
        """Sentences about other hosts that know this one by another address than that from which it comes."""
        here, address = self.host.name, self.host.address
        found: dict[tuple[str, str], dict[str, None]] = {}
        for name in self.inventory.hosts if is_address(address) else ():
            source = (facts.get("sources") or {}).get(self.inventory.address(name), address)
            for port in self.restricted(name) if name != here and source != address else ():
                reach, given = port.reach, self.inventory.hosts[name].values
                if reach is None or here not in reach.hosts or not given["dagster_firewall"]:
                    continue
                more = [*reach.more, *(str(text) for text in (given[SOURCES] or {}).get(reach.group) or [])]
                networks = [ipaddress.ip_network(text) for text in more if not problem_of(text)]
                if not any(ipaddress.ip_address(source) in network for network in networks):
                    found.setdefault((reach.group, source), {})[name] = None
        return [
            f"it comes to {', '.join(names)} from {source}, and the firewall there lets in {address}, by which the "
            f"inventory knows it; set dagster_address of {here} to {source}, or name {source} in {SOURCES}.{group}"
            for (group, source), names in found.items()
        ]

    @property
    def container_subnets(self) -> list[str]:
        """The networks of our containers on this host. An engine of code servers alone has that of runs too.

        Code servers of an earlier release are there until they are replaced.
        """
        if self.host.name not in self.inventory.engines:
            return []
        code = self.host.name in self.inventory.group("dagster_code")
        return [subnets.of_runs(self.host), *([subnets.of_code(self.host)] if code else [])]

    def elsewhere(self, facts: Facts) -> list[str]:
        """Address and port of what containers here must not reach on other hosts, which take them for this host."""
        found = set()
        for host in self.inventory.hosts if self.container_subnets else ():
            for port in self.restricted(host) if host != self.host.name else ():
                if port.reach and port.reach.group != "database":
                    listening = [each for each in port.addresses if is_address(each)]
                    every = [*self.addresses([host], facts), *listening]
                    usable = [each for each in every if ipaddress.ip_address(each).version == 4]
                    found |= {f"{each} . {port.number}" for each in usable if each not in ("0.0.0.0", LOOPBACK)}
        return sorted(found)

    def handed(self, facts: Facts) -> dict[str, Any]:
        runs = self.host.name in self.inventory.group("dagster_run")
        ports = [port_of(value) for value in self.values[RUN_PORTS] or []]
        ports += [NAMES] if runs and self.serves_names(facts) else []
        database = [self.plan.storage.port] if self.has_database(facts) else []
        return {
            "groups": self.groups(facts) if self.wanted else [],
            "containers": self.container_subnets,
            "from_containers": family(self.container_subnets, 4),
            "runs": subnets.of_runs(self.host) if runs else "",
            "runs_wait": runs and self.code_servers_beside_runs(facts),
            "known_by": self.host.address,
            "drop_ins": self.drop_ins,
            "run_ports": sorted({*database, *ports}),
            "elsewhere": self.elsewhere(facts) if self.wanted else [],
            "there": not {self.mark(), self.rules}.isdisjoint(facts.get("paths") or []),
        }

    def has_database(self, facts: Facts) -> bool:
        """Whether runs find the database on this host. A server of the user's own may be there as well."""
        storage = self.plan.storage
        if storage.server:
            return bool(storage.server == self.host.name)
        resolved = (facts.get("resolved") or {}).get(storage.run_address, [])
        there = facts.get("addresses")
        unknown = not is_address(storage.run_address) and not resolved  # a name of no host of the inventory
        return there is None or unknown or not {storage.run_address, *resolved}.isdisjoint(there)

    def serves_names(self, facts: Facts) -> bool:
        """Whether the name server of the runs is this host, at an address that is not loopback.

        The engine asks that of the host for a container, from the network of the container. It asks one at loopback
        from its own.
        """
        launcher = self.plan.configuration.merged.get("run_launcher") or {}
        kwargs = (launcher.get("config") or {}).get("container_kwargs") or {}
        given = kwargs.get("dns") or (self.values["dagster_docker_config"] or {}).get("dns")
        texts = facts.get("texts") or {}
        said = [NAME_SERVER.findall(str(texts.get(path, ""))) for path in RESOLVERS]
        servers = given or (said[1] if said[0] == [STUB] else said[0])
        own = {*(facts.get("addresses") or []), first_address(subnets.of_runs(self.host))}
        return any(
            is_address(text) and not ipaddress.ip_address(text).is_loopback and text in own
            for text in map(str, servers)
        )

    def code_servers_beside_runs(self, facts: Facts) -> bool:
        """Whether code servers of an earlier release are in the network of the runs still, until they are replaced."""
        networks = (facts.get("engine") or {}).get("code_networks") or []
        return str(self.values[subnets.RUNS[0]]) in networks

    def former_address(self, facts: Facts) -> str:
        """By which address other hosts have known this one, empty when it is the same or nobody knows."""
        said = [text for text in (facts.get("lines") or {}).get(self.rules, []) if not re.fullmatch(HEADER, text)]
        return next((text for text in said if text != self.host.address), "")

    def named_on(self) -> list[str]:
        """The hosts whose rules name this one: it comes to their ports, or their containers must not come to its."""
        here, found = self.host.name, []
        own = any(is_refused_to_runs(port) for port in self.restricted(here))
        for name, host in self.inventory.hosts.items():
            reached = any(port.reach and here in port.reach.hosts for port in self.restricted(name))
            contained = own and name in self.inventory.engines
            if name != here and host.values["dagster_firewall"] and (reached or contained):
                found.append(name)
        return found

    # What can be wrong

    def problems(self) -> list[str]:
        if not self.wanted:
            return []
        found = []
        for group, entries in (self.values[SOURCES] or {}).items():
            where = f"{SOURCES}.{group}"
            if entries is not None and not entries:
                found.append(f"{where} is empty; name an address or a network such as 10.0.0.0/24, or leave it out")
            found += [f"{where}: {problem}" for entry in entries or [] if (problem := problem_of(str(entry)))]
        ours = {port.number: port.variable for port in self.restricted(self.host.name) if is_refused_to_runs(port)}
        for value in self.values[RUN_PORTS] or []:
            if not port_of(value):
                found.append(f"{RUN_PORTS} has {value!r}; a port is a number from 1 to 65535")
            elif port_of(value) in ours:
                found.append(f"{RUN_PORTS} has {value}, the port of {ours[port_of(value)]}, which runs must not reach")
        return found

    def host_problems(self, facts: Facts) -> list[str]:
        if not self.wanted:
            return []
        found = [
            f"the host resolves {name}, another host of the inventory, to {', '.join(addresses)}, from where that host "
            "never comes; give it a dagster_address, or mend the names"
            for name, addresses in (facts.get("resolved") or {}).items()
            if all(ipaddress.ip_address(address).is_loopback for address in addresses)
        ]
        found += self.strange_sources(facts)
        if (reason := facts.get("nftables")) and (kernel := facts.get("replaced_kernel")):
            found.append(
                f"the kernel that runs ({kernel}) takes no rules of nftables ({reason}), because an upgrade has taken "
                "its modules away from /lib/modules; reboot the host, so that it runs the new kernel"
            )
        elif reason:
            found.append(
                f"the kernel takes no rules of nftables here ({reason}), as in a container without that right; set "
                "dagster_firewall to false for this host and let something before it refuse foreign connections, or "
                "give it a kernel with nf_tables"
            )
        return found


def is_refused_to_runs(port: Port) -> bool:
    """Whether a run must not reach a port."""
    return port.reach is not None and port.reach.group != "database"


def problem_of(text: str) -> str:
    """What is wrong with an address or network of a set, empty for a good one. Rules are loaded before names are."""
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        return f"{error}; an address or a network such as 10.0.0.0/24 is expected, because no name is known at boot"
    return ""
