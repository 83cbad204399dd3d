# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The connections to the database that the deployment may open, and what follows for server, pools and logins. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import LOGINS, Storage

# Dagster's storages, each with an engine of its own (SQLAlchemy's word): runs, events, schedules.
ENGINES = 3
# The default pool of a webserver above its one fixed connection, and the narrowest one that we would choose ourselves.
POOL_OVERFLOW = 20
SMALLEST_OVERFLOW = 5
MIGRATION_CONNECTIONS = 5
# A server keeps some for its superuser; backup, monitoring and an operator's shell need some.
RESERVE_CONNECTIONS = 10


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
        self.code_hosts = len(storage.inventory.group("dagster_code"))
        self.unlimited_runs = runs < 0
        self.kept = [(component.host.name, component.pools()) for component in components]
        self.opened = [(component.host.name, component.connections()) for component in components]
        self.shares = {kind: self.pools_of(kind) for kind in ("web", "read")}
        self.replicas = sum(self.shares.values()) // ENGINES
        self.parts: dict[str, int] = {}
        self.largest: dict[str, int] = {}  # of the components with such a part
        for _host, opened in self.opened:
            for part, number in opened.items():
                self.parts[part] = self.parts.get(part, 0) + number
                self.largest[part] = max(self.largest.get(part, 0), number)
        self.parts.update(runs=ENGINES * max(runs, 0), migration=MIGRATION_CONNECTIONS, reserve=RESERVE_CONNECTIONS)
        limit = storage.limit()
        self.overflow = self._overflow(limit)
        self.pools = self.replicas * ENGINES * (1 + self.overflow)
        self.need = self.pools + sum(self.parts.values())
        # In steps, so that one location more does not restart the server.
        self.limit = limit or max(100, -(-self.need // 50) * 50)

    def pools_of(self, kind: str, host: str = "") -> int:
        """How many pools are kept with a kind of login, on one host or on all."""
        return sum(pools.get(kind, 0) for where, pools in self.kept if host in ("", where))

    def part_of(self, part: str, host: str) -> int:
        """How many connections a part of a host opens."""
        return sum(opened.get(part, 0) for where, opened in self.opened if where == host)

    def _overflow(self, limit: int) -> int:
        told = (self.values["dagster_webserver_options"] or {}).get("db_pool_max_overflow")
        told = self.values.get("dagster_webserver_pool_overflow") if told is None else told
        if told is not None:
            return max(int(told), 0)  # another problem says that a negative number is none
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

    def limits_from(self, host: str, daemon_logins: list[str]) -> dict[str, int]:
        """The same for a server that counts for each host from which a login comes: what is there of the processes.

        Dagster's command line has the login of the webservers, also where there is none of these.
        """
        values, spare = self.values, self.limit - self.need
        web = self.pools_of("web", host) * (1 + self.overflow)
        return {
            self.logins["web"]: ENGINES + web + (0 if daemon_logins else self.part_of("daemon", host)),
            self.logins["read"]: self.pools_of("read", host) * (1 + self.overflow),
            str(values["dagster_database_guard_user"]): self.part_of("guard", host),
            self.logins["code"]: self.part_of("code servers", host) + spare // 2 // max(self.code_hosts, 1),
            self.logins["run"]: self.parts["runs"] + spare - spare // 2,
            str(values["dagster_database_migration_user"]): self.parts["migration"],
            **dict.fromkeys(daemon_logins, self.largest["daemon"]),
        }
