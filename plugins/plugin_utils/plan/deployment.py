# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of one host: what its components say together, and what they need to know of all other hosts. Pure."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from ansible_collections.dataops.dagster.plugins.module_utils import _proxies
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator import Report
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import (
    addresses,
    agreement,
    bounds,
    canary,
    checks,
    downloads,
    folders,
    names,
    record,
    texts,
    unused,
)
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.budget import Budget
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.code_location import CodeLocation
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.configuration import Configuration
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.daemon import Daemon
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.docker import Docker
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.firewall import Firewall
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.instance import Instance
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Host, Inventory
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.kubernetes import Cluster
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.names import Names
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import Port
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.proxy import Proxy
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import Storage
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.webserver import Webserver

DATABASE = "dagster_database"
ENGINE = "dagster_database_engine"  # which of its roles a deployment has
PACKAGE = __name__.rpartition(".")[0]
Kind = TypeVar("Kind")


def beside(role: str, kind: type[Kind]) -> list[type[Kind]]:
    """The classes of this kind in the module with the role's name."""
    module = importlib.import_module(f"{PACKAGE}.{role}")
    return [
        known
        for known in vars(module).values()
        if isinstance(known, type) and issubclass(known, kind) and known.__module__ == module.__name__
    ]


@functools.cache
def component_of(role: str) -> type[Component]:
    """The component beside a role: the one class of the module with the role's name that is a component."""
    (found,) = beside(role, Component)
    return found


@functools.cache
def storages(roles: tuple[str, ...]) -> dict[str, type[Storage]]:
    """The storages beside roles of group dagster_database, which may be without a host, by the role of each."""
    return {role: known for role in roles for known in beside(role, Storage)}


def chosen(roles: Mapping[str, tuple[str, ...]], engine: Any) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """The roles of each group with one database, that of dagster_database_engine, and those of the other ones.

    A text that names none stands for the default, another problem says so.
    """
    known = storages(roles[DATABASE])
    wanted = engine if engine in known else next(iter(known))
    others = tuple(role for role in known if role != wanted)
    return {group: tuple(role for role in found if role not in others) for group, found in roles.items()}, others


def removal(component: Component, facts: Facts) -> str:
    """How what a role has made is taken away, and what stays all the same."""
    data = component.data(facts)
    return f"To remove it: {'; '.join(component.removal())}" + (f". {data}" if data else "")


class Plan:
    """What is derived from the inventory for one host."""

    def __init__(self, inventory: Inventory, host: str) -> None:
        self.inventory = inventory
        self.host: Host = inventory.hosts[host]
        self.names = Names(self.host.values)
        (storage,) = storages(tuple(inventory.roles[DATABASE])).values()
        self.storage = storage(self.host, inventory)
        roles = sorted({role for found in inventory.roles.values() for role in found})
        self.known = {role: self.component(role, host) for role in roles}  # also of roles that this host does not get
        self.others = {role: self.component(role, host) for role in inventory.others}
        self.cluster = Cluster(self)
        self.instance = Instance(self.host, self)
        self.configuration = Configuration(self.host, self)
        self.components = {role: self.known[role] for role in inventory.roles_of(host)}

    def component(self, role: str, host: str) -> Component:
        """The component of a role on a host."""
        return component_of(role)(self.inventory.hosts[host], self)

    def code_location(self, host: str) -> CodeLocation:
        """The code servers of a host."""
        return CodeLocation(self.inventory.hosts[host], self)

    def docker(self, host: str) -> Docker:
        """The engine of a host."""
        return Docker(self.inventory.hosts[host], self)

    def webserver(self, host: str) -> Webserver:
        """The webservers of a host."""
        return Webserver(self.inventory.hosts[host], self)

    def proxy(self, host: str) -> Proxy:
        """The entry points of a host."""
        return Proxy(self.inventory.hosts[host], self)

    def gates(self, host: str) -> list[str]:
        """The role of the gate, where the gate of the runs is on this host."""
        return ["gate"] if "gate" in self.inventory.roles_of(host) else []

    @property
    def services(self) -> Instance:
        """The instance as the first daemon host has it, for whoever is none of the services."""
        daemons = self.inventory.group("dagster_daemon")
        return Instance(self.inventory.hosts[daemons[0]], self) if daemons else self.instance

    def report(self) -> Report:
        """Findings about the deployment, without what the user allows."""
        return Report(lambda _path: 0, self.host.values["dagster_config_allow"], deployed=True)

    def everywhere(self) -> Iterator[Component]:
        """The components of all hosts."""
        for host in self.inventory.hosts:
            for role in self.inventory.roles_of(host):
                yield self.component(role, host)

    @functools.cached_property
    def no_proxy(self) -> list[str]:
        """What never goes through a proxy."""
        return downloads.exceptions(self.inventory, self.storage, self.host.values, self.cluster.host)

    def exceptions(self, *variables: str) -> dict[str, str]:
        """What the environments in these variables need beside a proxy that they name."""
        named = {name: value for variable in variables for name, value in self.host.values[variable].items()}
        return _proxies.exceptions(named, self.no_proxy)

    def environment(self, variable: str) -> dict[str, Any]:
        """The environment in a variable, with that."""
        return {**self.host.values[variable], **self.exceptions(variable)}

    @functools.cached_property
    def budget(self) -> Budget:
        """The connections to the database."""
        return Budget(self.storage, self.everywhere(), self.configuration.concurrent_runs())

    def ports(self) -> list[Port]:
        """Every port on which this host is to listen."""
        return [port for component in self.components.values() for port in component.ports()]

    def ours(self, facts: Facts) -> list[str]:
        """The packages of this host that are ours; the settings and units of any other one stay as they are."""
        return record.ours(self.names["record"], self.components.values(), facts)

    def problems(self) -> list[str]:
        """What is wrong with the inventory, each sentence once."""
        found = [
            *names.problems(self.inventory),
            *checks.same_problems(self.inventory, ENGINE, "they have one database"),
            *agreement.problems(self),
            *bounds.problems(self.host.values, self.storage.dialect),
            *texts.name_problems(self.host, self.storage),
            *checks.group_problems(self.inventory, self.storage.external, self.cluster.launcher),
        ]
        found += unused.problems(self, self.others)
        found += self.storage.place_problems()
        found += folders.problems(self.host.values, self.host.given)
        found += downloads.problems(self.host.values)
        found += addresses.inventory_problems(self.inventory)
        found += addresses.container_problems(self.storage)
        found += addresses.server_problems(self.host.values, self.host.given)
        found += self.storage.external_problems() if self.storage.external else self.storage.login_problems()
        for component in self.known.values():
            found += component.deployment_problems()
        for component in self.components.values():
            found += component.problems()
        found += addresses.listening_problems(self.components.values())
        found += addresses.reach_problems(self.components.values(), self.inventory)
        found += checks.port_problems(self.ports())
        found += canary.problems(self.host.values[canary.VARIABLE])
        found += canary.location_problems(self.host.values) if "instance" in self.components else []
        if self.storage.server or self.storage.limit_is_given():
            found += self.budget.problems()
        return list(dict.fromkeys(found))

    def questions(self) -> dict[str, Any]:
        """What is asked of the host: the arguments of module host_facts."""
        components = self.components.values()
        servers = [server for component in components for server in component.servers()]
        return {
            "connect": [server for number, server in enumerate(servers) if server not in servers[:number]],
            "paths": [
                *names.traces(),
                *(record.whole(self.names["record"]), record.entry(self.names["record"], "*")),
                *(record.installing(self.names["record"]), self.names["apt_proxy"]),
                # Also the marks of roles that the host may have had before.
                *(path for part in (*self.known.values(), *self.others.values()) for path in part.marks()),
                *(path for component in components for path in component.paths()),
            ],
            "engine": next(filter(None, (component.engine() for component in components)), None),
            "texts": [*addresses.NONLOCAL, *(path for component in components for path in component.texts())],
            "lines": {
                **dict.fromkeys(record.headed(components), record.HEADER),
                record.POLICY: record.POLICY_TEXT,
                **{path: pattern for component in components for path, pattern in component.lines().items()},
            },
            "shells": [str(self.host.values["dagster_user"])],
            "members": [str(self.host.values["dagster_group"])],
            "certificates": self.certificates(),
            "nftables": any(component.nftables() for component in components),
            "peers": sorted({peer for component in components for peer in component.peers()}),
            "resolve": checks.names_to_resolve(self.inventory, self.host.name),
            **self.cluster.questions(),
        }

    def watched(self) -> dict[str, Any]:
        """What else is asked of the host, so that roles with nothing to do need not: all that they compare."""
        components, programs = self.components.values(), self.names["programs"]
        paths = (path for component in components for path in component.compared())
        units = (unit for component in components for unit in component.units())
        return {
            "snapshot": {
                "places": list(dict.fromkeys([programs, f"{programs}/*", *paths])),
                "units": list(dict.fromkeys(units)),
                "table": next(filter(None, (component.table() for component in components)), None),
            },
            "stamps": canary.proves(components)["stamps"],
            "texts": [self.names["proven"], self.names["proven_images"]],
        }

    def certificates(self) -> dict[str, str]:
        """The certificates of this host, each with its key."""
        return {path: key for component in self.components.values() for path, key in component.certificates().items()}

    def known_in_turn(self, hosts: Iterable[str]) -> set[str]:
        """These hosts, those that would have to know them if all were new, those that would have to know these, ..."""
        found: set[str] = set()
        more = set(hosts)
        while more:
            found |= more
            parts = [self.component(role, host) for host in more for role in self.inventory.roles_of(host)]
            more = {host for part in parts if part.mark() for host in part.known_by()} - found
        return found

    def limit_problems(self, facts: Facts, played: Iterable[str]) -> list[str]:
        """A sentence when the host is new and a play (of the hosts played) leaves out some that have to know it.

        Whether these are new as well is not known, because they are not in the play. So it says both.
        """
        played = {*played, self.host.name}
        new = [part for part in self.components.values() if part.mark() and part.mark() not in facts.get("paths", [])]
        left_out = {host for part in new for host in part.known_by()} - played
        before = {host for part in self.components.values() for host in part.moves_with(facts)} - played
        if before:
            return [
                f"the play leaves out {', '.join(sorted(before))}, which has to be brought to this release together "
                f"with {self.host.name}; use --limit {':'.join(sorted(played | before))}, or none"
            ]
        if not left_out:
            return [*self.fence_problems(facts, played), *self.moved_problems(facts, played)]
        enough, in_turn = played | left_out, self.known_in_turn(played | left_out)
        more = f", --limit {':'.join(sorted(in_turn))} if another of these is new too" if in_turn > enough else ""
        return [
            f"the play leaves out {', '.join(sorted(left_out))}, but {self.host.name} is new and they have to know it; "
            f"use --limit {':'.join(sorted(enough))}{more}, or none"
        ]

    def fence_problems(self, facts: Facts, played: set[str]) -> list[str]:
        """A sentence when a daemon is to get a login of its own, and a play leaves out another one."""
        parts = [part for part in self.components.values() if isinstance(part, Daemon)]
        left_out = {*self.inventory.group("dagster_daemon")} - played
        if not left_out or not any(
            part.unfenced(facts) and self.storage.daemon_login(self.host.name) for part in parts
        ):
            return []
        return [
            f"dagster_daemon_fencing is full, and was lease_only for {self.host.name}; the fence goes up once all "
            f"daemons have a login of their own, and the play leaves out {', '.join(sorted(left_out))}; use "
            f"--limit {':'.join(sorted(played | left_out))}, or none"
        ]

    def moved_problems(self, facts: Facts, played: set[str]) -> list[str]:
        """A sentence when the address of this host has changed, and a play leaves out some that know the old one."""
        firewall = Firewall(self.host, self)
        former = firewall.former_address(facts)
        knowing = {host for part in self.components.values() for host in part.known_by()} | {*firewall.named_on()}
        left_out = knowing - played
        if not former or not left_out:
            return []
        return [
            f"the address of {self.host.name} was {former} and is {self.host.address} (dagster_address, or else "
            f"ansible_host), and the play leaves out {', '.join(sorted(left_out))}, whose rules and settings have the "
            f"old one; use --limit {':'.join(sorted(played | left_out))}, or none"
        ]

    def tag_problems(self, facts: Facts, tags: Iterable[str], skipped: Iterable[str]) -> list[str]:
        """A sentence for each role that tags apply without one that it needs and that this version has not run yet."""
        wanted, skipped = set(tags), set(skipped)
        every = not wanted or bool(wanted & {"all", "tagged"})
        applied = [role for role in self.components if (every or role in wanted) and role not in skipped]
        return [
            f"the play applies role {role} without role {needed}, and {path} of that is missing here or of another "
            f"version; apply role {needed} too (--tags {needed},{role})"
            for role in applied
            for needed in self.components[role].needs()
            if needed not in applied and (path := self.known[needed].other_version(facts))
        ]

    def host_problems(self, facts: Facts, began: float, ended: float) -> list[str]:
        """What is wrong with the host as it was found between two times (seconds since 1970)."""
        found = checks.system_problems(facts)
        found += names.host_problems(facts.get("paths") or [], self.names.name)
        found += record.file_problems(self.components.values(), facts)
        found += self.engine_problems(facts)
        found += checks.surroundings_problems(facts, began, ended)
        own = self.names.sysctl("*")
        found += addresses.absent_problems(self.components.values(), self.inventory, own, facts)
        found += checks.taken_port_problems(self.ports(), facts["listeners"])
        for component in self.components.values():
            found += component.host_problems(facts)
        found += checks.memory_problems(list(self.components.values()), facts["memory_mb"])
        found += [f"dagster_database_host: {error}" for error in facts["connect_errors"]]
        found += map(str, facts.get("kubernetes_errors") or [])
        return list(dict.fromkeys(found))

    def warnings(self, facts: Facts) -> list[str]:
        """What is not refused, and an operator has to know of the host as it was found."""
        found = [text for component in self.components.values() for text in component.host_warnings(facts)]
        found += record.policy_warnings(self.names.fixed, facts)
        there = facts.get("paths") or []
        for role, component in (*self.known.items(), *self.others.items()):
            if role in self.components or not component.mark() or component.mark() not in there:
                continue
            groups = " or ".join(group for group, roles in self.inventory.roles.items() if role in roles)
            why = f"the host is not in group {groups or DATABASE} any more, and what role {role} has made stays"
            found.append(f"{why} ({component.mark()}). {removal(component, facts)}")
        return found

    def engine_problems(self, facts: Facts) -> list[str]:
        """A sentence where the host has the database of this deployment already, and it is another one."""
        there = facts.get("paths") or []
        here = self.host.name == self.storage.server
        return [
            f"{ENGINE} is {self.storage.dialect}, and the host has the deployment's {role} ({component.mark()}); the "
            f"other database would be empty, because no play moves data. Set it to {role}, or take that one away "
            f"first. {removal(component, facts)}"
            for role, component in self.others.items()
            if here and component.mark() in there
        ]

    def health(self) -> dict[str, Any]:
        """What the health gate asks of whom. It asks hosts that a play leaves out as well, and is the same on all."""
        group = self.inventory.group
        proxies = [{"host": host, "url": self.proxy(host).url} for host in group("dagster_proxy")]
        journals = {
            host: checks.journal([self.component(role, host) for role in self.inventory.roles_of(host)])
            for host in self.inventory.hosts
        }
        asks = self.inventory.hosts[group("dagster_proxy")[0]].values
        wait = asks["dagster_health_wait"]
        run_host = next(iter(group("dagster_run")), "")
        services = self.services
        endpoints = services.host.chosen("dagster_code_endpoints", services.code_endpoints())
        return {
            "version": services.values["dagster_version"],
            **({} if wait is None else {"wait": wait}),
            "url_file": self.proxy(group("dagster_proxy")[0]).url_file,
            "logs": self.configuration.logs.kept,
            "canary": canary.canary(asks[canary.VARIABLE]),
            "socket": self.proxy(group("dagster_proxy")[0]).socket,
            "daemons": group("dagster_daemon"),
            "run_host": run_host,
            "run_engine": self.docker(run_host).engine() if run_host else "",
            "proxies": proxies,
            "locations": [str(endpoint["name"]) for endpoint in endpoints],
            "journals": [{"host": host, "matches": matches} for host, matches in journals.items() if matches],
        }

    def as_fact(self, facts: Facts, played: Iterable[str] | None = None) -> dict[str, Any]:
        """The fact dagster_plan: names, numbers and addresses, never a secret; played are the hosts of the play."""
        played = self.inventory.hosts if played is None else played
        components = self.components
        options: dict[str, Any] = {
            name: self.host.values[name] for name in names.defaults() if name in self.host.values
        }
        for component in components.values():
            options.update(component.options(facts))
        handed: Mapping[str, Any] = {role: component.handed(facts) for role, component in components.items()}
        return {
            **{role: found for role, found in handed.items() if found},
            "options": options,
            "names": self.names.fixed,
            "no_proxy": ",".join(self.no_proxy),
            "storage": {
                **self.storage.handed(),
                "parameters": self.storage.driver_parameters(self.configuration.merged),
            },
            "compute_logs": {
                **self.configuration.logs.handed(),
                "section": self.configuration.stored_logs,
                "tmpfiles": self.configuration.old_logs,
            },
            "staged": self.instance.staged,
            "packages": {role: component.packages(facts) for role, component in components.items()},
            "package_files": {role: component.package_files(facts) for role, component in components.items()},
            "ours": self.ours(facts),
            "kubernetes": self.cluster.handed(),
            "unfenced": any(part.unfenced(facts) for part in components.values() if isinstance(part, Daemon)),
            "certificates": self.certificates(),
            "health": self.health(),
            "runs": canary.proves(components.values()),
            # Some hosts alone are those of a deployment that exists: nobody else says whether it serves.
            "live": checks.live(facts["listeners"], self.names["webserver"])
            or not set(self.inventory.hosts) <= set(played),
        }
