# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A database that exists for a test only: everything that a new one brings, as small as it can be."""

from __future__ import annotations

from typing import Any

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import Port
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import Storage


class LedgerStorage(Storage):
    """The ledger as the storage of Dagster, ours or the user's own."""

    dialect = "ledger"
    unit = "ledger.service"
    default_port = 4567
    longest_login = 32
    limit_variable = "dagster_ledger_max_connections"

    def config(self) -> dict[str, Any]:
        host, user = ({"env": self.variables[name]} for name in ("host", "user"))
        where = {"hostname": host, "username": user, "password": user, "db_name": "dagster", "port": self.port}
        return {"mysql": {"mysql_db": where}}

    def limit(self) -> int:
        return int(self.values[self.limit_variable] or 0)


class Ledger(Component):
    """The server of the deployment's database."""

    def packages(self, facts: Facts) -> list[str]:
        return ["ledger-server"]

    def ports(self) -> list[Port]:
        return [Port(self.plan.storage.port, "dagster_database_port", ("0.0.0.0",), "ledger.service")]

    def options(self, facts: Facts) -> dict[str, Any]:
        storage, budget = self.plan.storage, self.plan.budget
        logins = [storage.daemon_login(name) for name in self.inventory.group("dagster_daemon")]
        return {
            "dagster_database_port": storage.port,
            "dagster_ledger_max_connections": budget.limit,
            "dagster_ledger_connection_limits": budget.limits(logins),
        }
