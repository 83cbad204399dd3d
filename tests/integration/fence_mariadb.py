# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Real Dagster on the MariaDB of the guard's rig, with the fence up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fence_rig import CODE, DAEMON, DATABASE, FENCE, MIGRATION, WEBSERVER, Site
from guard_mariadb import DAEMONS, LEASE, MariaDB

OWNER = "dagster_owner"
STORAGE = "storage: {mysql: {mysql_url: {env: DAGSTER_MYSQL_URL}}}"


class MariaDBSite(Site):
    """The same on MariaDB. Its logins may write each table, as far as no trigger refuses it."""

    key = "`key`"

    def __init__(self, cluster: MariaDB, folder: Path, database: str = DATABASE, code: str = CODE) -> None:
        self.cluster, self.folder, self.database = cluster, folder, database
        for statement in (
            f"CREATE DATABASE IF NOT EXISTS {database} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            f"CREATE ROLE IF NOT EXISTS {OWNER}",
            f"GRANT ALL ON {database}.* TO {OWNER}",
            f"GRANT {OWNER} TO {MIGRATION}@'%'",
            f"SET DEFAULT ROLE {OWNER} FOR {MIGRATION}@'%'",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {database}.* TO {WEBSERVER}@'%', {DAEMON}@'%'",
        ):
            cluster.query(statement, "")
        cluster.let_in("a")
        self.write(STORAGE, code)
        self.passwords = cluster.passwords(folder / "mysql.cnf", WEBSERVER, DAEMON, MIGRATION)

    def connection(self, login: str) -> dict[str, str]:
        return self.cluster.login(login, self.passwords, self.database)

    def probe(self, migrates: bool = False, apply: bool = True, **fence: str) -> dict[str, Any]:  # noqa: ARG002
        """What lacks of the fence, which goes up."""
        given = {**FENCE, "logins": ",".join(DAEMONS), **fence}
        arguments = [given["logins"] or None, given["unit"], given["command"]]
        missing = self.cluster.apply(LEASE / "fence.sql", arguments, self.database, apply, user=MIGRATION)
        return {"fence": len(missing)}

    def empty(self, *tables: str) -> None:
        session = self.cluster.connect(self.database)
        for statement in ("SET foreign_key_checks = 0", *(f"TRUNCATE {table}" for table in tables)):
            assert self.cluster.said(session, statement) == ""
        session.close()

    def fences(self) -> tuple[int, int]:
        """It has triggers alone."""
        triggers = f"SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{self.database}'"  # noqa: S608
        return int(self.query(triggers)[0][0]), 0

    def switch(self, state: str) -> None:
        if state == "DISABLE":
            self.probe(logins="")
        else:
            self.probe()
