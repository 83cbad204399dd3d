# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A PostgreSQL of our own for the tests of the guard, with what roles postgres and daemon make in it.

Debian's programs are used, or those in the folder that PG_BIN names.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import psycopg
import yaml
from guard_rig import DAEMON, HOSTS, LOGINS, ROOT, USER, free_port, password

from ansible_collections.dataops.dagster.plugins.filter.scram_verifier import scram_verifier

SQL = ROOT / "roles/postgres/files"
VARIABLES = ROOT / "roles/postgres/vars/main.yml"
LEASE = ROOT / "roles/daemon/files/lease/postgres"
BIN = os.environ.get("PG_BIN") or max(glob.glob("/usr/lib/postgresql/*/bin"), default="")
CLIENT = """
import os, sys
import psycopg2
Error, HEARTBEAT = psycopg2.Error, "UPDATE daemon_heartbeats SET timestamp = clock_timestamp()"
def connect():
    where = {"host": "127.0.0.1", "port": int(sys.argv[1]), "dbname": "dagster"}
    connection = psycopg2.connect(**where, user=os.environ["DAGSTER_POSTGRES_USER"])
    connection.autocommit = True
    return connection
"""


class Cluster:
    """A PostgreSQL of our own, with the roles and grants that role postgres makes."""

    lease_folder = LEASE
    daemon = CLIENT + DAEMON
    refusal = "is not permitted to log in"  # what a login that is shut out hears
    denied = r"permission denied"  # and one without a right

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        if USER:
            shutil.chown(folder, USER["user"])
        self.run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync")
        with (folder / "data/postgresql.conf").open("a") as stream:
            stream.write(
                f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{folder}'\n"
                "fsync = off\ntrack_commit_timestamp = on\nmax_connections = 60\n"
            )
        hba = "local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (folder / "data/pg_hba.conf").write_text(hba)
        self.start()

    def run(self, program: str, *arguments: str) -> None:
        argv = [f"{BIN}/{program}", *arguments]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd="/", timeout=120, **USER)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-l", str(self.folder / "log"), "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-m", mode, "-w", "stop")

    def connect(self, database: str = "dagster", **other: Any) -> Any:
        where: dict[str, Any] = {"host": str(self.folder), "user": "postgres", "autocommit": True, **other}
        # A frozen server must not freeze us.
        limits: dict[str, Any] = {"connect_timeout": 30, "options": "-c statement_timeout=60000"}
        return psycopg.connect(port=self.port, dbname=database, **limits, **where)

    def session(self, login: str, database: str = "dagster", **other: Any) -> Any:
        """A session of a login, by TCP."""
        return self.connect(database, host="127.0.0.1", user=login, password=password(login), **other)

    @staticmethod
    def said(session: Any, statement: str = "SELECT 1") -> str:
        """What is wrong with a statement, empty when it worked."""
        try:
            session.execute(statement)
        except psycopg.Error as error:
            return str(error)
        return ""

    def attempt(self, login: str, statement: str = "SELECT 1") -> str:
        """The same for a statement in a session of its own."""
        try:
            with self.session(login) as session:
                return self.said(session, statement)
        except psycopg.Error as error:
            return str(error)

    def ask(self, function: str, *arguments: Any, login: str = "dagster_guard") -> Any:
        """What a function of the lease answers."""
        with self.session(login) as session:
            places = ", ".join(["%s"] * len(arguments))
            row = session.execute(f"SELECT * FROM dagster_guard.{function}({places})", arguments).fetchone()  # noqa: S608
            assert row is not None
            return row[0]

    def row(self, *columns: str) -> tuple[Any, ...]:
        """These columns of the lease."""
        return self.query(f"SELECT {', '.join(columns)} FROM dagster_guard.lease")[0]  # noqa: S608 - words of the tests

    def query(self, text: str, database: str = "dagster") -> list[tuple[Any, ...]]:
        with self.connect(database) as connection:
            cursor = connection.execute(text)
            return cursor.fetchall() if cursor.description else []

    def apply(self, file: Path, arguments: list[Any], database: str) -> list[str]:
        """Runs the statements that a file finds missing, as role postgres does."""
        with self.connect(database) as connection:
            missing = connection.execute(file.read_text(), arguments).fetchall()
            for statement, *_rest in missing:
                connection.execute(statement)
        return [row[0] for row in missing]

    def install(self, hosts: list[str], full: bool = True) -> list[str]:
        statements = self.apply(
            SQL / "roles.sql", [json.dumps(roles(hosts)), "dagster", "dagster_owner", "[]"], "postgres"
        )
        statements += self.apply(SQL / "grants.sql", ["dagster_owner", "dagster_app"], "dagster")
        statements += self.lease("dagster_daemon" if full else None)
        return statements + self.rights("dagster", full)

    def lease(self, group: str | None) -> list[str]:
        """With the group role of the daemons' logins."""
        given = [(LEASE / "guard.sql").read_text(), "dagster_guard_owner", "dagster_guard", group]
        return self.apply(LEASE / "guard_install.sql", given, "dagster")

    def differs(self, hosts: list[str]) -> str:
        """What the one query of a run without a change finds first, empty when all is as wanted."""
        asked = jinja2.Template(yaml.safe_load(VARIABLES.read_text())["__dagster_postgres_differs"])
        text = asked.render(lookup=looked_up)
        given = [json.dumps(roles(hosts)), "dagster", "dagster_owner", "[]", "dagster_owner", "dagster_app"]
        given += [(LEASE / "guard.sql").read_text(), "dagster_guard_owner", "dagster_guard", "dagster_daemon"]
        with self.connect() as connection:
            row = connection.execute(text, given).fetchone()
        return str(row[0]) if row else ""

    def login(self, name: str, passwords: Path) -> dict[str, str]:
        """The environment of a process with this login."""
        return {"DAGSTER_POSTGRES_USER": name, "PGPASSFILE": str(passwords)}

    @staticmethod
    def passwords(path: Path, *logins: str) -> Path:
        """The file with the passwords of these logins."""
        path.write_text("".join(f"*:*:*:{login}:{password(login)}\n" for login in logins))
        path.chmod(0o600)
        return path

    def let_in(self, *hosts: str) -> None:
        """Lets the daemons of these hosts log in, and those of no others."""
        for name in HOSTS:
            self.query(f"ALTER ROLE dagster_daemon_{name} {'LOGIN' if name in hosts else 'NOLOGIN'}")

    def prepare(self) -> None:
        """What the stand-in of the daemon writes."""
        self.query(
            "CREATE TABLE work (number bigserial PRIMARY KEY, epoch bigint, host text, pid int,"
            " at timestamptz DEFAULT clock_timestamp());"
            "CREATE TABLE daemon_heartbeats (timestamp timestamp);"
            "INSERT INTO daemon_heartbeats VALUES (clock_timestamp());"
        )

    def free(self) -> None:
        """Nobody has ever had the lease."""
        self.query(
            "TRUNCATE work; UPDATE dagster_guard.lease"
            " SET epoch = 0, generation = 0, holder = '', boot = '', wanted = ''"
        )
        self.let_in()

    def processes(self) -> list[int]:
        """All of them but the one that is asked."""
        backends = self.query("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        postmaster = int((self.folder / "data/postmaster.pid").read_text().split()[0])
        return [postmaster, *(row[0] for row in backends)]

    def rights(self, database: str, full: bool = True) -> list[str]:
        """What the owner of the tables grants."""
        given = [json.dumps({**LOGINS, **({} if full else {"daemon": "dagster"})}), "dagster_app"]
        return self.apply(LEASE / "rights.sql", given, database)

    # What the daemons did

    def stale(self) -> int:
        """Rows committed after the first row of a later epoch."""
        return int(
            self.query(
                "SELECT count(*) FROM (SELECT epoch, pg_xact_commit_timestamp(xmin) AS at FROM work) w"
                " WHERE EXISTS (SELECT FROM (SELECT epoch, min(pg_xact_commit_timestamp(xmin)) AS first FROM work"
                " GROUP BY epoch) f WHERE f.epoch > w.epoch AND f.first < w.at)"
            )[0][0]
        )

    def epoch(self) -> int:
        return int(self.row("epoch")[0])

    def holder(self) -> str:
        return str(self.row("holder")[0])

    def last_writer(self) -> str:
        """Who has written in the last 0.3 s."""
        rows = self.query(
            "SELECT host FROM work WHERE at > clock_timestamp() - interval '0.3 s' ORDER BY number DESC LIMIT 1"
        )
        return str(rows[0][0]) if rows else ""


def looked_up(_plugin: str, term: str, part: str = "") -> str:
    """What the lookups of role postgres answer: a file of its own, or a part of the lease."""
    return (LEASE / f"guard_{part}.sql" if part else SQL / term).read_text()


def roles(hosts: list[str]) -> list[dict[str, Any]]:
    """As in roles/postgres/vars/main.yml."""

    def login(name: str, group: str | None, **more: Any) -> dict[str, Any]:
        verifier = scram_verifier(password(name), name)
        return {"name": name, "login": True, "verifier": verifier, "member_of": [group] if group else [], **more}

    return [
        {"name": "dagster_owner", "login": False},
        {"name": "dagster_app", "login": False},
        login("dagster_migration", "dagster_owner", acts_as_group=True),
        *[login(name, "dagster_app") for name in ("dagster", "dagster_run", "dagster_code", "dagster_read")],
        {
            "name": "dagster_guard_owner",
            "login": False,
            "createrole": True,
            "member_of": ["dagster_app", "pg_signal_backend"],
        },
        login("dagster_guard", None),
        {"name": "dagster_daemon", "login": False, "member_of": ["dagster_app"]},
        *[login(f"dagster_daemon_{host}", "dagster_daemon", fenced_by="dagster_guard_owner") for host in hosts],
    ]
