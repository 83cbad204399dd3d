# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""PostgreSQL as the storage of Dagster, and on its host: who may connect from where, how many connections it takes."""

from __future__ import annotations

import ipaddress
from typing import Any

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import LOOPBACK, Port, first_address
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import Storage

# The major version that each Debian release ships.
VERSIONS = {"bookworm": 15, "trixie": 17}


class PostgresStorage(Storage):
    """PostgreSQL, ours or the user's own."""

    dialect = "postgres"
    unit = "postgresql.service"
    default_port = 5432
    longest_login = 63  # what is longer is cut
    limit_variable = "dagster_postgres_max_connections"

    def config(self) -> dict[str, Any]:
        return {
            "postgres": {
                "postgres_db": {
                    "hostname": {"env": self.variables["host"]},
                    "username": {"env": self.variables["user"]},
                    "db_name": str(self.values["dagster_database_name"]),
                    "port": self.port,
                    # Under SQLAlchemy 2.1 a plain postgresql:// means psycopg 3, which neither we nor a code image may
                    # have.
                    "scheme": "postgresql+psycopg2",
                }
            }
        }

    def limit(self) -> int:
        told = (self.values["dagster_postgres_options"] or {}).get("max_connections")
        return int(told or self.values[self.limit_variable] or 0)


def source(address: str) -> str:
    """An address as pg_hba.conf takes it: one host in CIDR form, or the name of a host as it is."""
    try:
        return str(ipaddress.ip_network(address))
    except ValueError:
        return address


class Postgres(Component):
    """The server of the deployment's database."""

    def packages(self, facts: Facts) -> list[str]:
        return [f"postgresql-{VERSIONS[facts['release']]}", "python3-psycopg2"]

    def ports(self) -> list[Port]:
        return [Port(self.plan.storage.port, "dagster_database_port", ("0.0.0.0",), "postgresql@")]

    def memory(self) -> dict[str, tuple[int, int]]:
        return {"postgres": (1, 200)}

    def mark(self) -> str:
        return self.plan.names.sysctl("postgres")

    def known_by(self) -> list[str]:
        return [*self.inventory.services, *self.inventory.engines]

    def handed(self, facts: Facts) -> dict[str, Any]:
        return {"version": VERSIONS[facts["release"]], "sysctl": self.plan.names.sysctl("postgres")}

    def options(self, facts: Facts) -> dict[str, Any]:
        budget = self.plan.budget
        logins = [self.plan.storage.daemon_login(name) for name in self.inventory.group("dagster_daemon")]
        logins = self.host.chosen("dagster_postgres_daemon_logins", list(filter(None, logins)))
        subnet = str(self.values["dagster_docker_network_subnet"])
        own = self.inventory.address(self.host.name)
        clients, listen = [], {LOOPBACK}
        for consumer, in_container, users in self.plan.storage.clients:
            inside = in_container and consumer == self.host.name
            listen.add(first_address(subnet) if inside else own)
            address = subnet if inside else source(self.inventory.address(consumer))
            clients.append({"address": address, "users": users})
        return {
            "dagster_database_port": self.plan.storage.port,
            "dagster_postgres_listen_addresses": sorted(listen),
            "dagster_postgres_clients": clients,
            "dagster_postgres_daemon_logins": logins,
            "dagster_postgres_max_connections": budget.limit,
            "dagster_postgres_connection_limits": budget.limits(logins),
        }
