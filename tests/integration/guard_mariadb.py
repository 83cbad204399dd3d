# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The MariaDB of mariadb_rig.py for the tests of the guard: with the lease, and the methods of guard_postgres.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pymysql
from guard_rig import DAEMON, password
from mariadb_rig import APP, FENCED, LEASE, Server, everybody, execute

from ansible_collections.dataops.dagster.plugins.module_utils._database import mysql
from ansible_collections.dataops.dagster.plugins.module_utils._database.client import Client

OWNER, GUARD = "dagster_guard_owner", "dagster_guard"
# Beside what the guard is about: small, and without a promise that it survives a crash of the machine.
SETTINGS = {
    "debug_no_sync": "ON",
    "innodb_flush_method": "nosync",
    "innodb_doublewrite": 0,
    "innodb_buffer_pool_size": "16M",
    "innodb_log_file_size": "8M",
    "innodb_buffer_pool_dump_at_shutdown": "OFF",
    "aria_pagecache_buffer_size": "8M",
    "key_buffer_size": "1M",
}
CLIENT = """
import os, sys
from urllib.parse import parse_qs, urlsplit
import mysql.connector
Error, HEARTBEAT = mysql.connector.Error, "UPDATE daemon_heartbeats SET timestamp = SYSDATE(6)"
def connect():
    query = parse_qs(urlsplit(os.environ["DAGSTER_MYSQL_URL"]).query)
    return mysql.connector.connect(host="127.0.0.1", port=int(sys.argv[1]), database="dagster", autocommit=True,
                                   connection_timeout=10, **query)
"""


class MariaDB(Server):
    """One with accounts from where a test is. A login may have several: the last daemon has one more."""

    lease_folder = LEASE
    clients = (everybody(), {"address": "127.0.0.9", "users": FENCED[-1:]})
    daemon = CLIENT + DAEMON
    refusal = "this account is locked"  # what a login that is shut out hears
    denied = r"command denied|Access denied|Invalid role"  # and one without a right

    def __init__(self, folder: Path, tls: Path | None = None) -> None:
        super().__init__(folder, tls, **SETTINGS)

    @staticmethod
    def said(session: Any, statement: str = "SELECT 1") -> str:
        """What is wrong with a statement, empty when it worked."""
        try:
            execute(session, statement)
        except pymysql.err.MySQLError as error:
            return str(error)
        return ""

    def attempt(self, login: str, statement: str = "SELECT 1") -> str:
        """The same for a statement in a session of its own."""
        try:
            session = self.session(login)
        except pymysql.err.MySQLError as error:
            return str(error)
        try:
            return self.said(session, statement)
        finally:
            session.close()

    def ask(self, function: str, *arguments: Any, login: str = GUARD) -> Any:
        """What a function of the lease answers. Each call has a session of its own."""
        session = self.session(login)
        try:
            return call(session, function, *arguments)
        finally:
            session.close()

    def row(self, *columns: str) -> tuple[Any, ...]:
        """These columns of the lease."""
        return self.query(f"SELECT {', '.join(columns)} FROM dagster_guard_lease")[0]  # noqa: S608 - words of the tests

    def apply(self, file: Path, arguments: list[Any], database: str, apply: bool = True, **login: Any) -> list[str]:
        """Runs the statements that a file finds missing, as the role of the database does."""
        connection = self.connect(database, **login)
        try:
            missing = [row[0] for row in execute(connection, file.read_text(encoding="utf-8").rstrip(), arguments)]
            for statement in missing if apply else []:
                execute(connection, statement)
        finally:
            connection.close()
        return missing

    def serve(self, database: str) -> None:
        """Makes this database too, for all logins, of which the daemon of host a is let in."""
        self.accounts(self.clients, database)
        self.let_in("a")

    def install(self, hosts: list[str], full: bool = True) -> list[str]:
        """The accounts of all logins, and the lease."""
        statements = self.accounts(self.clients)
        return statements + self.lease(",".join(f"dagster_daemon_{host}" for host in hosts) if full else None)

    def lease(self, logins: str | None, database: str = "dagster") -> list[str]:
        """With the daemons' logins."""
        given = [(LEASE / "guard.sql").read_text(encoding="utf-8").rstrip(), OWNER, f"{GUARD}@127.0.0.1", logins]
        return self.apply(LEASE / "guard_install.sql", given, database)

    def login(self, name: str, passwords: Path) -> dict[str, str]:
        """The environment of a process with this login."""
        return mysql.environment(Client("127.0.0.1", self.port, "dagster", name, str(passwords)))

    @staticmethod
    def passwords(path: Path, *logins: str) -> Path:
        """The file with the passwords of these logins."""
        path.write_text("".join(mysql.login(password(login), login) for login in logins))
        path.chmod(0o600)
        return path

    def let_in(self, *hosts: str) -> None:
        """Lets the daemons of these hosts log in, and those of no others."""
        for user, host in self.query("SELECT User, Host FROM mysql.global_priv"):
            if user in FENCED:
                self.query(f"ALTER USER {user}@'{host}' ACCOUNT {'UNLOCK' if user[-1] in hosts else 'LOCK'}")

    def allowed(self) -> set[str]:
        """The daemons' logins that are let in, by one of their accounts at least."""
        rows = self.query("SELECT User, JSON_VALUE(Priv, '$.account_locked') FROM mysql.global_priv")
        return {user for user, locked in rows if locked != "1"} & set(FENCED)

    def prepare(self) -> None:
        """What the stand-in of the daemon writes."""
        self.query("CREATE TABLE daemon_heartbeats (timestamp TIMESTAMP(6))")
        self.query("INSERT INTO daemon_heartbeats VALUES (SYSDATE(6))")
        self.free()
        for right, table in {"INSERT": "work", "UPDATE": "daemon_heartbeats"}.items():
            self.query(f"GRANT {right} ON {table} TO {APP}")

    def free(self) -> None:
        """Nobody has ever had the lease."""
        # Such a table knows the order in which its rows were committed.
        self.query(
            "CREATE OR REPLACE TABLE work (number BIGINT AUTO_INCREMENT PRIMARY KEY, epoch BIGINT, host VARCHAR(20),"
            " pid INT, at TIMESTAMP(6) DEFAULT CURRENT_TIMESTAMP(6),"
            " begun BIGINT UNSIGNED GENERATED ALWAYS AS ROW START INVISIBLE,"
            " ended BIGINT UNSIGNED GENERATED ALWAYS AS ROW END INVISIBLE, PERIOD FOR SYSTEM_TIME (begun, ended))"
            " WITH SYSTEM VERSIONING ENGINE = InnoDB"
        )
        self.reset()
        self.let_in()

    def reset(self) -> None:
        """The row alone. The accounts follow with the next take."""
        self.query(
            "UPDATE dagster_guard_lease SET epoch = 0, generation = 0, holder = '', boot = '', wanted = '',"
            " login = NULL, admitted = FALSE"
        )

    def processes(self) -> list[int]:
        """All of them."""
        return [self.pid()]

    # What the daemons did

    def stale(self) -> int:
        """Rows committed after the first row of a later epoch."""
        committed = "work w JOIN mysql.transaction_registry t ON t.transaction_id = w.begun"
        first = f"SELECT w.epoch, MIN(t.commit_id) AS number FROM {committed} GROUP BY w.epoch"  # noqa: S608
        query = (
            f"SELECT COUNT(*) FROM {committed} WHERE EXISTS (SELECT 1 FROM ({first}) AS f"  # noqa: S608
            " WHERE f.epoch > w.epoch AND f.number < t.commit_id)"
        )
        return int(self.query(query)[0][0])

    def epoch(self) -> int:
        return int(self.row("epoch")[0])

    def holder(self) -> str:
        return str(self.row("holder")[0])

    def last_writer(self) -> str:
        """Who has written in the last 0.3 s."""
        since = "SYSDATE(6) - INTERVAL 0.3 SECOND"
        rows = self.query(f"SELECT host FROM work WHERE at > {since} ORDER BY number DESC LIMIT 1")  # noqa: S608
        return str(rows[0][0]) if rows else ""


def call(session: Any, function: str, *arguments: Any) -> Any:
    """What a procedure of the lease answers, a truth in most cases."""
    places = ", ".join(["%s"] * len(arguments))
    return execute(session, f"CALL dagster_guard_{function}({places})", list(arguments))[0][0]
