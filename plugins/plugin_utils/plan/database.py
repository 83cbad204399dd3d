# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The server of the deployment's database on its host, as far as it is the same whichever database that is.

Who connects from where, its certificate, how many connections it takes. The component beside the role says the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ansible_collections.dataops.dagster.plugins.plugin_utils.certificates import SERVER, Supplied, supplied_problems
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import server_settings, subnets
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import (
    LOOPBACK,
    Port,
    Reach,
    as_network,
    first_address,
)
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import LOGINS

PAIRS = {"ca": "ca-key", "cert": "key"}  # each certificate with its key


class Database(Component):
    """The server of the deployment's database."""

    role = ""  # its name is in the names of its variables
    product = ""
    # Of the server, each with the variable that changes it, empty where none does.
    own_settings: ClassVar[Mapping[str, str]] = {}

    def variable(self, name: str) -> str:
        """One of the role's own variables."""
        return f"dagster_{self.role}_{name}"

    def source(self, address: str) -> str:
        """The address of another host as the server takes it where it says who may connect."""
        return address

    @property
    def reach(self) -> Reach:
        """Who connects. The containers of another host come from its own address."""
        clients = dict.fromkeys(consumer for consumer, _in_container, _logins in self.plan.storage.clients)
        variable = self.variable("clients")
        named = [str(one["address"]) for one in self.values[variable] or []] if variable in self.host.given else []
        networks = {text: as_network(text) for text in named}
        pods = map(as_network, self.plan.storage.cluster_sources)  # another problem says which of them is none
        more = tuple(network for network in [*networks.values(), *pods] if network)
        unknown = tuple(text for text, network in networks.items() if not network)
        containers = tuple(self.plan.storage.containers(self.host.name))
        return Reach("database", tuple(clients), containers, more=more, unknown=unknown)

    def known_by(self) -> list[str]:
        return [*self.inventory.services, *self.inventory.engines]

    def problems(self) -> list[str]:
        (port,) = self.ports()
        found = []
        if 0 < port.number < 1024:
            found.append(f"{port.variable} is {port.number}; {self.product} is not root, and takes a port from 1024 on")
        unknown = self.reach.unknown if self.values["dagster_firewall"] else ()
        return found + [
            f"{self.variable('clients')} has {entry}, which the rules of the firewall cannot name; add the addresses "
            "or networks of these clients to dagster_firewall_sources.database as well, or here in its place"
            for entry in unknown
            if not (self.values["dagster_firewall_sources"] or {}).get("database")
        ]

    # Who connects

    @property
    def daemon_logins(self) -> list[str]:
        """The logins of the daemons; none where no login is fenced."""
        return self.plan.storage.daemon_logins()

    @property
    def local(self) -> list[str]:
        """The logins that connect from the host itself: those of its services, and a dump's."""
        migration = str(self.values["dagster_database_migration_user"])
        here = self.host.name in self.inventory.services
        return self.plan.storage.service_logins(self.host.name) if here else [migration]

    def containers_here(self, logins: Mapping[str, str]) -> list[dict[str, Any]]:
        """From where the containers of this host connect, with these logins by the kind of the container."""
        of_kind = {"run": subnets.of_runs(self.host), "code": subnets.of_code(self.host)}
        return [{"address": of_kind[kind], "users": [login]} for kind, login in logins.items()]

    def client(self, consumer: str, users: list[str]) -> dict[str, Any]:
        """From where another host, or its containers, connect, and how."""
        tls = {"tls": True} if self.plan.storage.tls_addresses else {}
        return {"address": self.source(self.inventory.address(consumer)), "users": users, **tls}

    @property
    def clients(self) -> list[dict[str, Any]]:
        """From where there are connections, but for those of the host itself over loopback."""
        found = []
        for consumer, in_container, users in self.plan.storage.clients:
            if consumer != self.host.name:
                found.append(self.client(consumer, users))
            elif in_container:
                found += self.containers_here(self.plan.storage.containers(consumer))
        return found + [
            self.client(text, [self.plan.storage.login("run")]) for text in self.plan.storage.cluster_sources
        ]

    @property
    def listens(self) -> list[str]:
        """The addresses to which clients connect."""
        own = self.inventory.address(self.host.name)
        found = {LOOPBACK, *([own] if self.plan.storage.cluster_sources else [])}
        for consumer, in_container, _users in self.plan.storage.clients:
            if consumer != self.host.name:
                found.add(own)
            elif in_container:
                found.add(first_address(subnets.of_runs(self.host)))
        return [str(text) for text in self.host.chosen(self.variable("listen_addresses"), sorted(found))]

    def port(self, unit: str, setting: str) -> Port:
        """The port of the server. With a setting of the user's own, it may listen anywhere."""
        where = self.listens if setting not in (self.values[self.variable("options")] or {}) else []
        number, every = self.plan.storage.port, ("0.0.0.0",)
        return Port(number, "dagster_database_port", every, unit, self.reach, listens=tuple(where))

    def options(self, facts: Facts) -> dict[str, Any]:
        budget, logins = self.plan.budget, self.daemon_logins
        own = {
            "listen_addresses": self.listens,
            "clients": self.clients,
            "daemon_logins": logins,
            "max_connections": budget.limit,
        }
        return {
            "dagster_database_port": self.plan.storage.port,
            **{self.variable(name): value for name, value in own.items()},
            **{variable: self.plan.storage.login(kind) for kind, variable in LOGINS.items()},
        }

    # Its certificate

    @property
    def tls_folder(self) -> str:
        """The certificate of the server, and its authority."""
        return self.plan.names["database_tls"]

    @property
    def certificate(self) -> str:
        """The one of the server."""
        return f"{self.tls_folder}/cert.pem"

    def offers_tls(self, facts: Facts) -> bool:
        """Also when nobody needs it any more: clients verify the server until they are played."""
        return self.plan.storage.tls_addresses != [] or self.certificate in (facts.get("paths") or [])

    @property
    def signs(self) -> bool:
        """Whether the host makes the certificate itself."""
        return self.plan.storage.tls_addresses != [] and not self.values[self.variable("tls_cert")]

    def certificates(self) -> dict[str, str]:
        if not self.signs:
            return {}
        return {f"{self.tls_folder}/{name}.pem": f"{self.tls_folder}/{key}.pem" for name, key in PAIRS.items()}

    def deployment_problems(self) -> list[str]:
        options = self.variable("options")
        return [
            *server_settings.problems(options, self.values[options] or {}, self.own_settings),
            *self.certificate_problems(),
        ]

    def memory_problems(self, facts: Facts) -> list[str]:
        """A sentence about more memory than the host has; what is derived from it never is."""
        variable, most = self.variable("memory_mb"), int(facts["memory_mb"])
        given = int(self.host.chosen(variable, 0))
        if 0 <= given <= most:
            return []
        return [f"{variable} is {given}, and the host has {most} MiB; set it below that, or leave it out"]

    def certificate_problems(self) -> list[str]:
        """Sentences about a supplied certificate."""
        cert = self.variable("tls_cert")
        supplied = Supplied(
            ca="dagster_database_tls_ca",
            pairs={cert: (self.variable("tls_key"), SERVER)},
            server=cert,
            optional=(),
            renew=self.variable("tls_renew_days"),
            reached="clients on other hosts reach the database",
        )
        if self.plan.storage.external:  # such a server has its certificate without us
            return []
        addresses = self.plan.storage.tls_addresses or [""]
        found = [text for address in addresses for text in supplied_problems(self.values, address, supplied=supplied)]
        return list(dict.fromkeys(found))

    def handed(self, facts: Facts) -> dict[str, Any]:
        return {
            "readers": sorted({*self.known_by()}),
            "max_connections": self.plan.budget.limit,
            "tls": self.plan.storage.tls_addresses,
            "offers_tls": self.offers_tls(facts),
            "tls_folder": self.tls_folder,
            "sysctl": self.plan.names.sysctl(self.role),
            "sysctl_unit": self.plan.names.sysctl_unit(self.role),
        }

    # What its role leaves

    def compared(self) -> list[str]:
        unit = f"/etc/systemd/system/{self.plan.names.sysctl_unit(self.role)}"
        return [self.tls_folder, f"{self.tls_folder}/*", self.mark(), unit]

    def units(self) -> list[str]:
        return [self.plan.names.sysctl_unit(self.role)]

    def mark(self) -> str:
        return self.plan.names.sysctl(self.role)

    def removal(self) -> list[str]:
        return [*self.plan.names.sysctl_removal(self.role), *super().removal()]
