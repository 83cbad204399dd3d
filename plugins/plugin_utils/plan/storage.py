# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The database as each host sees it: where it is, who logs in from where, how many connections it has to take.

Which database it is says the role of group dagster_database: a subclass of Storage stands in the file of its component.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._addresses import in_brackets
from ansible_collections.dataops.dagster.plugins.module_utils._database.dialects import DIALECTS
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import launchers
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Host, Inventory
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.names import Names
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import LOOPBACK, first_address

# Dagster's storages, each with an engine of its own (SQLAlchemy's word): runs, events, schedules.
ENGINES = 3
# The default pool of a webserver above its one fixed connection, and the narrowest one that we would choose ourselves.
POOL_OVERFLOW = 20
SMALLEST_OVERFLOW = 5
MIGRATION_CONNECTIONS = 5
# A server keeps some for its superuser; backup, monitoring and an operator's shell need some.
RESERVE_CONNECTIONS = 10
CONTAINERS = "/run/dagster"  # where a container finds its password and the certificate of the authority
AUTHORITY = "database-ca.pem"  # by which clients on other hosts know the server, on each of their hosts
# The logins of processes that are not daemons.
LOGINS = {
    "web": "dagster_database_user",
    "read": "dagster_database_read_user",
    "code": "dagster_database_code_user",
    "run": "dagster_database_run_user",
}
# On a server of the user's own, these stay with the login of others until one is named.
SHARED = {"read": "web", "code": "run"}


class Storage:
    """The database of the deployment, as one host sees it; a subclass says what is so in one database alone."""

    dialect = ""  # the module of module_utils/_database/dialects, and the folder of the lease in role daemon
    unit = ""  # the unit of systemd after which the services start where both are on one host
    default_port = 0
    longest_login = 0  # characters
    reserved: frozenset[str] = frozenset()  # names that a login or database of ours would take from the server
    limit_variable = ""  # what tells the server how many connections it takes
    # Of a launcher of Kubernetes: its option that names the Secret with the password, and the variable in which the
    # client reads that. Empty where runs in a cluster cannot have the password so.
    secret_option = ""
    secret_variable = ""

    def __init__(self, host: Host, inventory: Inventory) -> None:
        self.host = host
        self.inventory = inventory
        self.values = host.values

    @property
    def server(self) -> str:
        """The host that runs the database, empty for a server of the user's own."""
        return next(iter(self.inventory.group("dagster_database")), "")

    @property
    def external(self) -> str:
        """The address of a server of the user's own, empty when the inventory names none."""
        return str(self.host.chosen("dagster_database_host", "") or "")

    @property
    def port(self) -> int:
        """The port of the server."""
        return int(self.host.chosen("dagster_database_port", self.default_port))

    def address(self, consumer: str, in_container: bool) -> str:
        """The address at which a host, or a container there, reaches the database."""
        if not self.server:
            return self.external
        if consumer != self.server:
            return self.inventory.address(self.server)
        return first_address(self.values["dagster_docker_network_subnet"]) if in_container else LOOPBACK

    @property
    def run_address(self) -> str:
        """Where runs reach it: containers of the run engine, or pods of a cluster."""
        if self.cluster:
            derived = self.inventory.address(self.server) if self.server else self.external
        else:
            derived = self.address(self.run_host, in_container=True)
        return str(self.host.chosen("dagster_database_run_host", derived))

    @property
    def run_host(self) -> str:
        """The host of the run engine; empty where runs start in a cluster."""
        return next(iter(self.inventory.group("dagster_run")), "" if self.cluster else self.host.name)

    @property
    def cluster(self) -> bool:
        """Whether runs start in a Kubernetes cluster."""
        return bool(launchers.in_cluster(self.values))

    @property
    def cluster_sources(self) -> list[str]:
        """From where these come to our server; none without one."""
        wanted = self.values["dagster_kubernetes_sources"] if self.cluster and self.server else []
        return [str(text) for text in wanted or []]

    def asked_for(self) -> list[dict[str, Any]]:
        """The server of the user's own that has to be reached, none when it is the deployment's."""
        return [{"host": self.external, "port": self.port, "dialect": self.dialect}] if self.external else []

    @property
    def clients(self) -> list[tuple[str, bool, list[str]]]:
        """Who connects: a host, whether from its containers, and the logins."""
        found = []
        for consumer in self.inventory.services if self.server else []:
            found.append((consumer, False, self.service_logins(consumer)))
        for consumer in self.inventory.engines if self.server else []:
            found.append((consumer, True, list(self.containers(consumer).values())))
        return found

    def service_logins(self, host: str) -> list[str]:
        """The logins of the services of a host. Each may migrate, and has Dagster's command line."""
        found = [self.login("web"), str(self.values["dagster_database_migration_user"])]
        if self.inventory.hosts[host].values.get("dagster_webserver_read_only_port"):
            found += [self.login("read")] if host in self.inventory.group("dagster_webserver") else []
        if host in self.inventory.group("dagster_daemon"):
            found += filter(None, [str(self.values["dagster_database_guard_user"]), self.daemon_login(host)])
        return found

    def containers(self, host: str) -> dict[str, str]:
        """The login of each kind of containers (code, run) that a host has."""
        kinds = {"code": "dagster_code", "run": "dagster_run"}
        return {kind: self.login(kind) for kind, group in kinds.items() if host in self.inventory.group(group)}

    def login(self, kind: str) -> str:
        """The login of webservers (web), read-only webservers (read), code servers (code) or runs (run).

        On a server of the user's own, whose logins we cannot make, the later two kinds stay with that of the first two
        until the inventory names one.
        """
        variable = LOGINS[kind]
        shared = variable if self.server else LOGINS[SHARED.get(kind, kind)]
        return str(self.host.chosen(variable, self.values[shared]))

    @property
    def writers(self) -> dict[str, str]:
        """The login of each kind of process, as the owner of the tables grants rights. Daemons have a group."""
        full = self.values["dagster_daemon_fencing"] == "full"
        daemon = str(self.values["dagster_database_daemon_role"]) if full else self.login("web")
        return {**{kind: self.login(kind) for kind in LOGINS}, "daemon": daemon}

    def daemon_login(self, host: str) -> str:
        """The database login of a host's daemon, empty when none is fenced."""
        if self.values["dagster_daemon_fencing"] != "full":
            return ""
        plain = re.sub(r"[^a-z0-9]+", "_", host.lower()).strip("_")
        return f"{self.values['dagster_database_daemon_role']}_{plain}"[: self.longest_login]

    def login_problems(self) -> list[str]:
        """Sentences about logins of our server that two kinds of processes would have."""
        known = ("dagster_database_migration_user", "dagster_database_guard_user", *LOGINS.values())
        every = {name: str(self.values.get(name) or "") for name in known}
        return [
            f"{name} and {other} are both {every[name]}; each kind of process has a login of its own, with its own "
            "rights. Rename one of them"
            for name in (LOGINS["read"], LOGINS["code"])
            for other in every
            if self.server and other != name and every[other] == every[name] and every[name]
        ]

    def password_problems(self, kind: str) -> list[str]:
        """A sentence where the password of a login (read, code) is missing, or not the one that our server knows."""
        user, password = LOGINS[kind], LOGINS[kind].replace("_user", "_password")
        given = self.values.get(password)
        if not self.server:
            shared = LOGINS[SHARED[kind]]
            if given or self.login(kind) == self.login(SHARED[kind]):
                return []
            return [
                f"{user} is {self.login(kind)}, and {password} is not set; set it, or leave {user} out: then it is "
                f"{shared}"
            ]
        if not given or given == self.inventory.hosts[self.server].values.get(password):
            return []
        return [
            f"{password} is set for {self.host.name} and is another one, or none, for {self.server}; set it for all"
        ]

    # Clients on other hosts

    @property
    def tls_addresses(self) -> list[str]:
        """Where clients on other hosts reach our server, each with TLS; none when they are all on its own host."""
        if not self.server or not self.values.get("dagster_database_tls"):
            return []
        found = {
            str(
                self.inventory.hosts[consumer].chosen("dagster_database_run_host", address) if in_container else address
            )
            for consumer, in_container, _users in self.clients
            if consumer != self.server
            for address in [self.address(consumer, in_container)]
        }
        return sorted(found | ({self.run_address} if self.cluster else set()))

    def verified(self, consumer: str, folder: str) -> dict[str, str]:
        """The variables with which a client on another host verifies the server, by the authority in a folder."""
        if consumer == self.server or not self.tls_addresses:
            return {}
        found: dict[str, str] = DIALECTS[self.dialect].verified(f"{folder}/{AUTHORITY}")
        return found

    @property
    def app(self) -> str:
        """The group through which each login once wrote each table, empty on a server of the user's own."""
        return str(self.values.get("dagster_database_app_role") or "") if self.server else ""

    # What the database decides

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that say where it is, who connects, and which file holds the password."""
        found: dict[str, str] = DIALECTS[self.dialect].VARIABLES
        return found

    @property
    def credential(self) -> str:
        """The name of that file."""
        return str(DIALECTS[self.dialect].CREDENTIAL)

    def environment(self, address: str, user: Any) -> dict[str, Any]:
        """The environment of what connects to an address; a unit adds the file of the password.

        Dagster makes a URL of the address, in which IPv6 has brackets. Guard and schema hand it to the client library.
        """
        return {self.variables["host"]: in_brackets(address), self.variables["user"]: user}

    def run_environment(self, address: str, user: Any) -> dict[str, Any]:
        """The environment of a container, where the file of the password is mounted."""
        return {**self.environment(address, user), self.variables["credential"]: f"{CONTAINERS}/{self.credential}"}

    def config(self) -> dict[str, Any]:
        """The section storage of dagster.yaml. It names variables of the environment, never a password."""
        raise NotImplementedError

    def parameters(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What a dagster.yaml adds to a connection, as the client library takes it."""
        return {}

    def external_problems(self) -> list[str]:
        """Sentences about ways to a server of the user's own that do not work."""
        return []

    def limit(self) -> int:
        """How many connections the server was told to take, 0 when that is ours to say."""
        raise NotImplementedError

    def limit_is_given(self) -> bool:
        """Whether the inventory says what the server takes, also a server that is not ours."""
        return self.limit_variable in self.host.given

    def handed(self) -> dict[str, Any]:
        """What roles are given as dagster_plan.storage."""
        return {
            "dialect": self.dialect,
            "server": self.server,
            # The certificate of the authority: where the server's host has it, and what it is called on a client's.
            "authority": f"{Names(self.values)['database_tls']}/ca.pem" if self.tls_addresses else "",
            "authority_copy": AUTHORITY,
            "unit": self.unit,
            "credential": self.credential,
            "variables": dict(self.variables),
        }


class Budget:
    """The connections that the deployment may open at a time, and what follows for the server and the pools.

    A process has three engines. Each of a webserver's has a pool of 1 + overflow connections; those of every other
    process open a connection when they need it and close it.
    """

    def __init__(self, storage: Storage, components: Iterable[Component], runs: int) -> None:
        components = list(components)
        self.values = storage.values
        self.logins = {kind: storage.login(kind) for kind in LOGINS}
        self.limit_variable = storage.limit_variable
        self.unlimited_runs = runs < 0
        kept = [component.pools() for component in components]
        self.shares = {kind: sum(pools.get(kind, 0) for pools in kept) for kind in ("web", "read")}
        self.replicas = sum(self.shares.values()) // ENGINES
        self.parts: dict[str, int] = {}
        self.largest: dict[str, int] = {}  # of the components with such a part
        for component in components:
            for part, number in component.connections().items():
                self.parts[part] = self.parts.get(part, 0) + number
                self.largest[part] = max(self.largest.get(part, 0), number)
        self.parts.update(runs=ENGINES * max(runs, 0), migration=MIGRATION_CONNECTIONS, reserve=RESERVE_CONNECTIONS)
        limit = storage.limit()
        self.overflow = self._overflow(limit)
        self.pools = self.replicas * ENGINES * (1 + self.overflow)
        self.need = self.pools + sum(self.parts.values())
        # In steps, so that one location more does not restart the server.
        self.limit = limit or max(100, -(-self.need // 50) * 50)

    def _overflow(self, limit: int) -> int:
        told = (self.values["dagster_webserver_options"] or {}).get("db_pool_max_overflow")
        if told is not None:
            return int(told)
        # As wide as Dagster's own default, narrower where the server was told to take less.
        left = limit - sum(self.parts.values())
        room = left // (ENGINES * max(self.replicas, 1)) - 1 if limit else POOL_OVERFLOW
        return min(max(room, SMALLEST_OVERFLOW), POOL_OVERFLOW)

    def problems(self) -> list[str]:
        """A sentence with the numbers when they do not fit into the server's max_connections."""
        if self.unlimited_runs:
            return [
                "dagster_config lets any number of runs in at a time, and each opens connections to the database; set "
                "concurrency.runs.max_concurrent_runs"
            ]
        if self.need <= self.limit:
            return []
        pools = f"webservers {self.replicas} x {ENGINES} x (1 + {self.overflow}) = {self.pools}"
        listed = ", ".join([pools, *(f"{name} {number}" for name, number in self.parts.items())])
        return [
            f"the database takes {self.limit} connections and the deployment may open {self.need} ({listed}); "
            f"raise {self.limit_variable}, or lower dagster_webserver_options.db_pool_max_overflow, "
            "dagster_webserver_ports or dagster_config.concurrency.runs.max_concurrent_runs"
        ]

    def limits(self, daemon_logins: list[str]) -> dict[str, int]:
        """How many connections each login may have. Runs and code servers get all that is left, half each.

        A run counts as three, but one whose steps are processes of their own opens more, and so does a code server with
        many sensors. Neither can lock the services out, or the other one.
        """
        values, parts = self.values, self.parts
        code, spare = parts.get("code servers", 0), self.limit - self.need
        return {
            self.logins["web"]: self.shares["web"] * (1 + self.overflow) + (0 if daemon_logins else parts["daemon"]),
            self.logins["read"]: self.shares["read"] * (1 + self.overflow),
            str(values["dagster_database_guard_user"]): parts["guard"],
            self.logins["code"]: code + spare // 2,
            self.logins["run"]: parts["runs"] + spare - spare // 2,
            str(values["dagster_database_migration_user"]): parts["migration"],
            **dict.fromkeys(daemon_logins, self.largest["daemon"]),
        }
