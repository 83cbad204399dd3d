# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A MariaDB of our own for tests, set up with the settings and the SQL of role mysql, and real Dagster on it.

Its programs are those of Debian (mariadb-server-core, mariadb-client-core), or below MARIADB_ROOT, where their packages
were unpacked. It is a plain process at a port of its own.
"""

from __future__ import annotations

import collections
import contextlib
import getpass
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pymysql
from fence_rig import CODE, DAEMON, FENCE, MIGRATION, Site
from guard_rig import HOSTS, LOGINS, USER, free_port, password, until

from ansible_collections.dataops.dagster.plugins.filter.mysql_accounts import mysql_accounts
from ansible_collections.dataops.dagster.plugins.module_utils._database import mysql, mysql_probe
from ansible_collections.dataops.dagster.plugins.module_utils._database.client import Client
from ansible_collections.dataops.dagster.plugins.module_utils._database.dialects import source_of

ROOT = Path(__file__).resolve().parents[2]
PREFIX = os.environ.get("MARIADB_ROOT", "")
ROLE = ROOT / "roles/mysql"
LEASE = ROOT / "roles/daemon/files/lease/mysql"
SETTINGS = ROLE / "templates/etc/mariadb-dagster.cnf.j2"
APP, OWNER, DAEMONS = "dagster_app", "dagster_owner", "dagster_daemon"
STORAGE = "storage: {mysql: {mysql_url: {env: DAGSTER_MYSQL_URL}}}"
FENCED = [f"dagster_daemon_{host}" for host in HOSTS]


def there() -> bool:
    """Whether there are programs to run."""
    return os.path.exists(f"{PREFIX}/usr/sbin/mariadbd")


def program(name: str) -> list[str]:
    """The command of one of MariaDB's programs, as the user of the server."""
    path = next(path for path in (f"{PREFIX}/usr/sbin/{name}", f"{PREFIX}/usr/bin/{name}") if os.path.exists(path))
    return [*(["runuser", f"--user={USER['user']}", "--"] if USER else []), path]


def environment() -> dict[str, str]:
    libraries = {"LD_LIBRARY_PATH": f"{PREFIX}/usr/lib/x86_64-linux-gnu"} if PREFIX else {}
    return {**os.environ, **libraries, "PATH": f"{PREFIX}/usr/bin:/usr/bin:/bin:/usr/sbin:/sbin"}


class Server:
    """A MariaDB with the settings of role mysql."""

    def __init__(self, folder: Path, tls: Path | None = None, **options: Any) -> None:
        """tls is a folder with certificates, options are as of dagster_mysql_options."""
        self.folder, self.port = folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.kept: dict[str, Any] = {}
        self.config = folder / "server.cnf"
        own = {"lc_messages_dir": f"{PREFIX}/usr/share/mysql"} if PREFIX else {}
        plan = {
            "run": str(folder),
            "data": f"{folder}/data",
            "tls_folder": str(tls),
            "offers_tls": tls is not None,
            "asks_for_names": False,
            "max_connections": 200,
        }
        told = {"innodb_flush_log_at_trx_commit": 0, **own, **options}
        templates = jinja2.Environment(trim_blocks=True)  # noqa: S701 - no HTML
        templates.filters["combine"] = lambda first, *more: dict(collections.ChainMap(*reversed((first, *more))))
        text = templates.from_string(SETTINGS.read_text(encoding="utf-8")).render(
            __dagster_mysql_memory_mb=64,
            __dagster_mysql_socket=self.socket,
            dagster={"database_port": self.port, "mysql_listen_addresses": ["127.0.0.1"], "mysql_options": told},
            dagster_plan={"mysql": plan},
        )
        self.config.write_text(text)
        if USER:
            shutil.chown(folder, USER["user"])
        self.run(
            "mariadb-install-db",
            f"--defaults-file={self.config}",
            *([f"--basedir={PREFIX}/usr"] if PREFIX else []),
            *("--cross-bootstrap", "--skip-test-db", f"--auth-root-socket-user={getpass.getuser()}"),
        )
        self.start()

    @property
    def socket(self) -> str:
        return str(self.folder / "mysqld.sock")

    def run(self, name: str, *arguments: str) -> str:
        argv = [*program(name), *arguments]
        done = subprocess.run(
            argv, env=environment(), check=False, capture_output=True, text=True, cwd="/", timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        argv = [*program("mariadbd"), f"--defaults-file={self.config}"]
        self.process = subprocess.Popen(argv, env=environment(), cwd="/", stdout=log, stderr=log)

        def answers() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, (self.folder / "log").read_text()[-3000:]
            with contextlib.suppress(pymysql.err.OperationalError):
                self.query("SELECT 1", database="")
                return True
            return False

        until(answers, 60, "the server answers")

    def pid(self) -> int:
        """That of the server, which runuser may be the parent of."""
        return int((self.folder / "mariadbd.pid").read_text())

    def stop(self, mode: str = "fast") -> None:
        assert self.process is not None
        os.kill(self.pid(), signal.SIGKILL if mode == "immediate" else signal.SIGTERM)
        self.process.wait(60)

    def connect(self, database: str = "dagster", **other: Any) -> Any:
        """As the superuser, or by TCP as somebody else."""
        where: dict[str, Any] = {"unix_socket": self.socket, "user": getpass.getuser()}
        if "user" in other:
            where = {"host": "127.0.0.1", "port": self.port, "password": password(other["user"])}
        limits = {"connect_timeout": 30, "read_timeout": 60, "autocommit": True}
        return pymysql.connect(**{**where, **limits, "database": database or None, **other})

    def query(self, text: str, database: str = "dagster", arguments: Any = None) -> list[tuple[Any, ...]]:
        """As the superuser, in a session that is kept: what waits for something asks often."""
        for again in (True, False):
            connection = self.kept.get(database) or self.connect(database)
            try:
                found = execute(connection, text, arguments)
            except (pymysql.err.InterfaceError, pymysql.err.OperationalError):
                connection.close()
                if not again or not self.kept.pop(database, None):
                    raise
            else:
                if database in ("", "dagster"):  # others go and come again
                    self.kept[database] = connection
                else:
                    connection.close()
                return found
        raise AssertionError(text)

    def session(self, user: str, database: str = "dagster", **other: Any) -> Any:
        """A session of a login of ours."""
        return self.connect(database, user=user, **other)

    def accounts(self, clients: Sequence[dict[str, Any]], database: str = "dagster", **passwords: str) -> list[str]:
        """What role mysql makes of logins and database: the statements that were missing."""
        text = (ROLE / "files/logins.sql").read_text(encoding="utf-8")
        accounts = mysql_accounts(logins(passwords), clients)
        given = [json.dumps(roles()), json.dumps(accounts), database, OWNER, APP, DAEMONS]
        missing = [statement for (statement,) in self.query(text, "mysql", given)]
        for statement in missing:
            self.query(statement, database="mysql")
        return missing

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop("immediate")


def roles() -> list[dict[str, Any]]:
    """As in roles/mysql/vars/main.yml."""
    members = [*LOGINS.values()]
    return [{"name": OWNER}, {"name": APP}, *({"name": name, "member_of": [APP]} for name in members)]


def logins(passwords: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """As there."""
    known = passwords or {}
    fixed = [(MIGRATION, OWNER), *((name, name) for kind, name in LOGINS.items() if kind != "daemon")]
    found: list[dict[str, Any]] = [{"name": name, "role": role} for name, role in fixed]
    found += [{"name": "dagster_guard"}]
    found += [{"name": name, "role": DAEMONS, "fenced": True} for name in FENCED]
    return [{**login, "password": known.get(login["name"], password(login["name"]))} for login in found]


def everybody(address: str = "127.0.0.1", **more: Any) -> dict[str, Any]:
    """A source from which all logins may come."""
    return {"address": address, "users": [str(login["name"]) for login in logins()], **more}


class MariaSite(Site):
    """The same Dagster on MariaDB: tables with the rights of the roles, and the fence up."""

    key = "`key`"

    def __init__(
        self, cluster: Server, folder: Path, database: str = "dagster", code: str = CODE, tls: str = ""
    ) -> None:
        """tls is the certificate of an authority by which clients know the server."""
        self.cluster, self.folder, self.database, self.tls = cluster, folder, database, tls
        self.write(STORAGE, code)
        self.options = folder / mysql.CREDENTIAL
        self.options.write_text("".join(mysql.login(str(login["password"]), str(login["name"])) for login in logins()))
        self.options.chmod(0o600)

    def client(self, login: str) -> Client:
        """How role instance has a service connect."""
        where = ("127.0.0.1", self.cluster.port, self.database)
        return Client(*where, login, str(self.options), bool(self.tls), self.tls)

    def connection(self, login: str) -> dict[str, str]:
        return mysql.environment(self.client(login))

    def asked(self) -> dict[str, Any]:
        return {
            **super().asked(),
            "dialect": source_of(mysql_probe),
            "parameters": mysql.parameters(self.client(MIGRATION)),
            "fence": {**FENCE, "query": (LEASE / "fence.sql").read_text(encoding="utf-8"), "logins": ",".join(FENCED)},
            "rights": {"query": (LEASE / "rights.sql").read_text(encoding="utf-8"), "logins": LOGINS, "app": APP},
        }

    def empty(self, *tables: str) -> None:
        with self.cluster.connect(self.database) as session:
            for statement in ("SET foreign_key_checks = 0", *(f"TRUNCATE {table}" for table in tables)):
                execute(session, statement)

    def fences(self) -> tuple[int, int]:
        """It has triggers alone."""
        triggers = f"SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{self.database}'"  # noqa: S608
        return int(self.query(triggers)[0][0]), 0

    def switch(self, state: str) -> None:
        """Without the triggers, and with every right in the tables that an operator may grant."""
        every = f"INSERT, UPDATE, DELETE ON `{self.database}`.*"
        if state == "DISABLE":
            self.probe(logins="")
            self.query(f"GRANT {every} TO {APP}")
        else:
            self.query(f"REVOKE {every} FROM {APP}")
            self.probe()

    def number(self, table: str, where: str = "true") -> int:
        """These names of columns are words of MariaDB's."""
        return super().number(table, re.sub(r"\b(?<!`)(key|partition)(?= =)", r"`\1`", where))


KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def authority(folder: Path, name: str) -> None:
    """Makes an authority: its certificate is NAME.pem."""
    files = ("-keyout", f"{folder}/{name}-key.pem", "-out", f"{folder}/{name}.pem")
    openssl("req", "-x509", *KEY, "-days", "9", "-subj", f"/CN={name}", *files)


def certificate(folder: Path, address: str) -> None:
    """Makes key and certificate of a server, which is known by an address or name: IP:... or DNS:..."""
    (folder / "ext").write_text(f"subjectAltName={address}\n")
    openssl("req", *KEY, "-subj", "/CN=server", "-keyout", f"{folder}/key.pem", "-out", f"{folder}/csr.pem")
    signed = ("-CA", f"{folder}/ca.pem", "-CAkey", f"{folder}/ca-key.pem", "-CAcreateserial", "-days", "9")
    files = ("-extfile", f"{folder}/ext", "-out", f"{folder}/cert.pem")
    openssl("x509", "-req", "-in", f"{folder}/csr.pem", *signed, *files)
    for path in folder.iterdir():
        path.chmod(0o644)


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@contextlib.contextmanager
def running(folder: Path, **options: Any) -> Iterator[Server]:
    """A server with the logins of a deployment, all of them from loopback."""
    server = Server(folder, **options)
    try:
        server.accounts([everybody()])
        server.query(f"ALTER USER {DAEMON}@'127.0.0.1' ACCOUNT UNLOCK", database="")  # which its guard does otherwise
        yield server
    finally:
        server.close()
        print(f"--- the server\n{(folder / 'log').read_text()[-2000:]}")


def attempt(server: Server, login: str, statement: str, database: str = "dagster", **where: Any) -> str:
    """The error of a statement as a login, empty when it worked. No row of it stays; a table that it makes does."""
    try:
        with server.session(login, database, autocommit=False, **where) as connection, connection.cursor() as cursor:
            try:
                cursor.execute(statement)
            finally:
                connection.rollback()
    except pymysql.err.MySQLError as error:
        return str(error)
    return ""


def execute(connection: Any, text: str, arguments: Any = None) -> list[tuple[Any, ...]]:
    """The rows of a statement, also of a procedure."""
    with connection.cursor() as cursor:
        cursor.execute(text, arguments)
        found = list(cursor.fetchall())
        while cursor.nextset():
            found += cursor.fetchall()
    return found


def settled(seconds: float = 0.3) -> None:
    """As long as the server takes to see that a client is gone."""
    time.sleep(seconds)
