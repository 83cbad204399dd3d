# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A MariaDB of our own for the tests of the guard, with the methods of guard_rig's PostgreSQL.

Debian's programs are used, or those below the folder that MARIADB_ROOT names: packages that were unpacked there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymysql
from guard_rig import DAEMON, HOSTS, ROOT, USER, free_port, password, until

LEASE = ROOT / "roles/daemon/files/lease/mysql"
UNPACKED = os.environ.get("MARIADB_ROOT", "")
PROGRAMS = f"{UNPACKED}/usr"
LIBRARIES = {"LD_LIBRARY_PATH": f"{PROGRAMS}/lib/x86_64-linux-gnu"} if UNPACKED else {}
SERVER = shutil.which("mariadbd", path=f"{PROGRAMS}/sbin") or ""
OWNER, GUARD = "dagster_guard_owner", "dagster_guard"
DAEMONS = [f"dagster_daemon_{host}" for host in HOSTS]
SERVICES = ["dagster", "dagster_run", "dagster_code", "dagster_read"]
# Beside what the guard is about: small, and without a promise that it survives a crash of the machine.
SETTINGS = (
    "--skip-name-resolve --default-time-zone=+00:00 --character-set-server=utf8mb4 --max-connections=80"
    " --innodb-flush-method=nosync --innodb-doublewrite=0 --innodb-flush-log-at-trx-commit=0"
    " --innodb-buffer-pool-size=16M --innodb-log-file-size=8M --innodb-buffer-pool-dump-at-shutdown=OFF"
    " --aria-pagecache-buffer-size=8M --key-buffer-size=1M"
)
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


class MariaDB:
    """A MariaDB of our own, with the accounts that its role makes."""

    lease_folder = LEASE
    daemon = CLIENT + DAEMON
    refusal = "this account is locked"  # what a login that is shut out hears
    denied = r"command denied|Access denied|Invalid role"  # and one without a right

    def __init__(self, folder: Path, *settings: str) -> None:
        self.folder, self.port = folder, free_port()
        self.settings = [*SETTINGS.split(), *settings]
        self.process: subprocess.Popen[bytes] | None = None
        self.kept: dict[str, Any] = {}
        if USER:
            shutil.chown(folder, USER["user"])
        self.run("bin/mariadb-install-db", "--auth-root-authentication-method=normal", "--skip-test-db")
        self.start()

    def run(self, program: str, *arguments: str) -> None:
        where = ["--no-defaults", f"--basedir={PROGRAMS}", f"--datadir={self.folder}/data"]
        argv = [f"{PROGRAMS}/{program}", *where, *arguments]
        done = subprocess.run(
            argv,
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            timeout=120,
            env={**os.environ, **LIBRARIES},
            **USER,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        argv = [SERVER, "--no-defaults", f"--basedir={PROGRAMS}", f"--datadir={self.folder}/data", *self.settings]
        argv += [f"--port={self.port}", "--bind-address=127.0.0.1", f"--socket={self.folder}/socket"]
        argv += [f"--pid-file={self.folder}/pid", f"--plugin-dir={PROGRAMS}/lib/mysql/plugin"]
        argv += [f"--tmpdir={self.folder}"]  # each server that starts removes what others have in theirs
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                argv, cwd=self.folder, env={**os.environ, **LIBRARIES}, stdout=log, stderr=log, **USER
            )
        until(self.answers, 60, "MariaDB answers")

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()[-3000:]
        try:
            self.query("SELECT 1", "")
        except pymysql.err.MySQLError:
            return False
        return True

    def stop(self, mode: str = "fast") -> None:
        assert self.process is not None
        if mode == "immediate":
            self.process.kill()
        else:
            self.process.terminate()
        self.process.wait(60)

    def connect(self, database: str = "dagster", **other: Any) -> Any:
        """As root by the socket, or as another login by TCP."""
        where: dict[str, Any] = {"user": "root", "unix_socket": f"{self.folder}/socket"}
        if "user" in other:
            where = {"host": "127.0.0.1", "port": self.port, "password": password(other["user"])}
        limits = {"connect_timeout": 30, "read_timeout": 60, "autocommit": True}
        return pymysql.connect(**{**where, **limits, "database": database or None, **other})

    def query(self, text: str, database: str = "dagster") -> list[tuple[Any, ...]]:
        """As root, in a session that is kept: what waits for something asks often."""
        for again in (True, False):
            connection = self.kept.get(database) or self.connect(database)
            try:
                found = execute(connection, text)
            except (pymysql.err.InterfaceError, pymysql.err.OperationalError):
                connection.close()
                if not again or not self.kept.pop(database, None):
                    raise
            else:
                self.kept[database] = connection
                return found
        raise AssertionError(text)

    def session(self, login: str, database: str = "dagster", **other: Any) -> Any:
        """A session of a login, by TCP."""
        return self.connect(database, user=login, **other)

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

    def install(self, hosts: list[str], full: bool = True) -> list[str]:
        """The accounts of all logins, and the lease."""
        known = {user for (user,) in self.query("SELECT DISTINCT User FROM mysql.global_priv", "")}
        daemons = [f"dagster_daemon_{host}" for host in hosts]
        logins = [GUARD, "dagster_migration", *SERVICES, *daemons]
        for login in [login for login in logins if login not in known]:
            # A login may have several accounts.
            for host in ("%", "127.0.0.1") if login.endswith("_c") else ("%",):
                locked = "ACCOUNT LOCK" if login in daemons else ""
                self.query(f"CREATE USER {login}@'{host}' IDENTIFIED BY '{password(login)}' {locked}", "")
        self.query("CREATE DATABASE IF NOT EXISTS dagster CHARACTER SET utf8mb4", "")
        return self.lease(",".join(daemons) if full else None)

    def lease(self, logins: str | None, database: str = "dagster") -> list[str]:
        """With the daemons' logins."""
        given = [(LEASE / "guard.sql").read_text(encoding="utf-8").rstrip(), OWNER, f"{GUARD}@%", logins]
        return self.apply(LEASE / "guard_install.sql", given, database)

    def login(self, name: str, passwords: Path, database: str = "dagster") -> dict[str, str]:
        """The environment of a process with this login."""
        query = f"option_files={quote(str(passwords))}&option_groups={name}"
        return {"DAGSTER_MYSQL_URL": f"mysql+mysqlconnector://127.0.0.1:{self.port}/{database}?{query}"}

    @staticmethod
    def passwords(path: Path, *logins: str) -> Path:
        """The file with the passwords of these logins."""
        path.write_text("".join(f"[{login}]\nuser={login}\npassword={password(login)}\n" for login in logins))
        path.chmod(0o600)
        return path

    def let_in(self, *hosts: str) -> None:
        """Lets the daemons of these hosts log in, and those of no others."""
        for user, host in self.query("SELECT User, Host FROM mysql.global_priv"):
            if user in DAEMONS:
                self.query(f"ALTER USER {user}@'{host}' ACCOUNT {'UNLOCK' if user[-1] in hosts else 'LOCK'}")

    def allowed(self) -> set[str]:
        """The daemons' logins that are let in, by one of their accounts at least."""
        rows = self.query("SELECT User, JSON_VALUE(Priv, '$.account_locked') FROM mysql.global_priv")
        return {user for user, locked in rows if locked != "1"} & set(DAEMONS)

    def prepare(self) -> None:
        """What the stand-in of the daemon writes."""
        self.query("CREATE TABLE daemon_heartbeats (timestamp TIMESTAMP(6))")
        self.query("INSERT INTO daemon_heartbeats VALUES (SYSDATE(6))")
        self.free()
        for login in (*DAEMONS, *SERVICES):
            self.query(f"GRANT INSERT ON work TO {login}@'%'")
            self.query(f"GRANT SELECT, UPDATE ON daemon_heartbeats TO {login}@'%'")
            if login.endswith("_c"):
                self.query(f"GRANT INSERT ON work TO {login}@'127.0.0.1'")
                self.query(f"GRANT SELECT, UPDATE ON daemon_heartbeats TO {login}@'127.0.0.1'")

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
        assert self.process is not None
        return [self.process.pid]

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


def execute(connection: Any, text: str, arguments: list[Any] | None = None) -> list[tuple[Any, ...]]:
    """The rows of a statement, also of a procedure."""
    with connection.cursor() as cursor:
        cursor.execute(text, arguments)
        found = list(cursor.fetchall())
        while cursor.nextset():
            found += cursor.fetchall()
    return found


def call(session: Any, function: str, *arguments: Any) -> Any:
    """What a procedure of the lease answers, a truth in most cases."""
    places = ", ".join(["%s"] * len(arguments))
    return execute(session, f"CALL dagster_guard_{function}({places})", list(arguments))[0][0]
