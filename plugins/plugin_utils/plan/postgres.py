# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""PostgreSQL on its host: who may connect from where, and how many connections it takes."""

from __future__ import annotations

from typing import Any

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import LOOPBACK, Port, gateway, source
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import daemon_login

# The major version that each Debian release ships.
VERSIONS = {"bookworm": 15, "trixie": 17}


class Postgres(Component):
    """The server of the deployment's database."""

    def packages(self, facts: Facts) -> list[str]:
        return [f"postgresql-{VERSIONS[facts['release']]}", "python3-psycopg2"]

    def ports(self) -> list[Port]:
        return [Port(self.values["dagster_database_port"], "dagster_database_port", ("0.0.0.0",), "postgresql@")]

    def memory(self) -> dict[str, tuple[int, int]]:
        return {"postgres": (1, 200)}

    def mark(self) -> str:
        return "/etc/sysctl.d/60-dagster-postgres.conf"

    def known_by(self) -> list[str]:
        return [*self.inventory.services, *self.inventory.engines]

    def handed(self, facts: Facts) -> dict[str, Any]:
        return {"version": VERSIONS[facts["release"]]}

    def options(self, facts: Facts) -> dict[str, Any]:
        budget = self.plan.budget
        logins = [daemon_login(name, self.values) for name in self.inventory.group("dagster_daemon")]
        logins = self.host.chosen("dagster_postgres_daemon_logins", list(filter(None, logins)))
        subnet = str(self.values["dagster_docker_network_subnet"])
        own = self.inventory.address(self.host.name)
        clients, listen = [], {LOOPBACK}
        for consumer, in_container, users in self.plan.storage.clients:
            inside = in_container and consumer == self.host.name
            listen.add(gateway(subnet) if inside else own)
            address = subnet if inside else source(self.inventory.address(consumer))
            clients.append({"address": address, "users": users})
        return {
            "dagster_postgres_listen_addresses": sorted(listen),
            "dagster_postgres_clients": clients,
            "dagster_postgres_daemon_logins": logins,
            "dagster_postgres_max_connections": budget.limit,
            "dagster_postgres_connection_limits": budget.limits(logins),
        }
