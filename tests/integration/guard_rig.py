# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Role daemon's guard.py against a real PostgreSQL, with a stand-in for dagster-daemon and one for systemd.

The database is a private cluster (PG_BIN names the folder of its programs); its roles and its schema are made by the
SQL of roles postgres and daemon. The stand-in of the daemon commits rows that carry the epoch of its lease, on a
connection that stays open and on new ones; a row committed after the first one of a later epoch is stale, and there may
be none. The stand-in of systemd starts a guard again 0.5 s after its end and kills it when its watchdog is late.
"""

from __future__ import annotations

import contextlib
import glob
import hmac
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import psycopg
import yaml

from ansible_collections.dataops.dagster.plugins.filter.scram_verifier import scram_verifier

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "roles/daemon/files/usr/local/lib/dagster/guard.py"
SQL = ROOT / "roles/postgres/files"
VARIABLES = ROOT / "roles/postgres/vars/main.yml"
LEASE = ROOT / "roles/daemon/files/lease/postgres"
# On a host they are in one folder.
SHARED = {"PYTHONPATH": f"{ROOT / 'roles/instance/files/usr/local/lib/dagster'}:{LEASE}"}
PYTHON = os.environ.get("DAGSTER_PYTHON", sys.executable)
BIN = os.environ.get("PG_BIN") or max(glob.glob("/usr/lib/postgresql/*/bin"), default="")
# PostgreSQL refuses to run as root.
USER: dict[str, Any] = {"user": "nobody"} if os.getuid() == 0 else {}
LOGINS = {
    "web": "dagster",
    "daemon": "dagster_daemon",
    "code": "dagster_code",
    "run": "dagster_run",
    "read": "dagster_read",
}
# The shortest that give no false alarms on a busy machine, or (GUARD_TIMINGS=default) the defaults.
SHORT: dict[str, float] = {"renew": 0.5, "deadline": 3, "ttl": 5, "watchdog": 3, "heartbeat": 4, "stop": 5}
DEFAULT: dict[str, float] = {"renew": 2, "deadline": 10, "ttl": 15, "watchdog": 6, "heartbeat": 20, "stop": 20}
TIMINGS = DEFAULT if os.environ.get("GUARD_TIMINGS") == "default" else SHORT
# How much longer than on a machine of one's own something may take that is only waited for.
PATIENCE = float(os.environ.get("PATIENCE", "1"))
DAEMON = """
import ctypes, os, pathlib, signal, sys, time
import psycopg2
host, port, name, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3], pathlib.Path(sys.argv[4])
epoch = int(os.environ.get("DAGSTER_GUARD_EPOCH", "0"))
if (folder / "outlives").exists():
    ctypes.CDLL(None).prctl(1, 0)  # PR_SET_PDEATHSIG: it does not end with its guard
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
(folder / "pids" / str(os.getpid())).write_text(name)
def connect():
    connection = psycopg2.connect(host=host, port=port, dbname="dagster", user=os.environ["DAGSTER_POSTGRES_USER"])
    connection.autocommit = True
    return connection
kept = None
while not stopped:
    try:
        kept = kept or connect()
        new = connect()
        for connection in (kept, new):
            cursor = connection.cursor()
            cursor.execute("INSERT INTO work (epoch, host, pid) VALUES (%s, %s, %s)", (epoch, name, os.getpid()))
            if not (folder / "silent").exists():
                cursor.execute("UPDATE daemon_heartbeats SET timestamp = clock_timestamp()")
        new.close()
    except psycopg2.Error as error:
        print("daemon:", *str(error).split(), flush=True)
        kept = None
    time.sleep(0.05)
time.sleep(0.2)
"""


def until(check: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true answer of check."""
    end = time.monotonic() + seconds * PATIENCE
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


class Cluster:
    """A PostgreSQL of our own, with the roles and grants that role postgres makes."""

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

    def postmaster(self) -> int:
        return int((self.folder / "data/postmaster.pid").read_text().split()[0])

    def connect(self, database: str = "dagster", **other: Any) -> Any:
        where: dict[str, Any] = {"host": str(self.folder), "user": "postgres", "autocommit": True, **other}
        # A frozen server must not freeze us.
        limits: dict[str, Any] = {"connect_timeout": 30, "options": "-c statement_timeout=60000"}
        return psycopg.connect(port=self.port, dbname=database, **limits, **where)

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
        return int(self.query("SELECT epoch FROM dagster_guard.lease")[0][0])

    def holder(self) -> str:
        return str(self.query("SELECT holder FROM dagster_guard.lease")[0][0])

    def last_writer(self) -> str:
        """Who has written in the last 0.3 s."""
        rows = self.query(
            "SELECT host FROM work WHERE at > clock_timestamp() - interval '0.3 s' ORDER BY number DESC LIMIT 1"
        )
        return str(rows[0][0]) if rows else ""


def looked_up(_plugin: str, term: str, part: str = "") -> str:
    """What the lookups of role postgres answer: a file of its own, or a part of the lease."""
    return (LEASE / f"guard_{part}.sql" if part else SQL / term).read_text()


def password(login: str) -> str:
    return hmac.digest(b"secret", login.encode(), "sha256").hex()


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


class Proxy:
    """A TCP way to the database that can be cut without either end hearing of it."""

    def __init__(self, target: int, source: str = "") -> None:
        self.target = target
        self.source = (source, 0) if source else None  # the address by which the database knows who it is
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.server.getsockname()[1])
        self.open = threading.Event()
        self.open.set()
        self.stopped = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self.stopped:
            with contextlib.suppress(OSError):
                client, _address = self.server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if not self._passes():
            client.close()
            return
        with contextlib.suppress(OSError), client:
            server = socket.create_connection(("127.0.0.1", self.target), source_address=self.source)
            with server, selectors.DefaultSelector() as selector:
                selector.register(client, selectors.EVENT_READ, server)
                selector.register(server, selectors.EVENT_READ, client)
                while True:
                    for key, _events in selector.select(1):
                        data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                        if not self._passes() or not data:
                            return
                        key.data.sendall(data)

    def _passes(self) -> bool:
        """Holds everything back while the way is cut: late packets arrive after the heal, as on a network."""
        self.open.wait()
        return not self.stopped

    def close(self) -> None:
        self.stopped = True
        self.open.set()
        self.server.close()


class Host:
    """A host with its systemd: one guard, started again when it ends, killed when its watchdog is late."""

    def __init__(self, name: str, folder: Path, cluster: Cluster, full: bool = True) -> None:
        self.name, self.folder, self.cluster = name, folder / name, cluster
        (self.folder / "pids").mkdir(parents=True)
        self.proxy = Proxy(cluster.port)
        self.daemon_login = f"dagster_daemon_{name}" if full else "dagster"
        passfile = self.folder / "pgpass"
        logins = ("dagster_guard", self.daemon_login)
        passfile.write_text("".join(f"*:*:*:{login}:{password(login)}\n" for login in logins))
        passfile.chmod(0o600)
        command = [PYTHON, "-c", DAEMON, "127.0.0.1", str(self.proxy.port), name, str(self.folder)]
        config = {
            "host": name,
            "database": {"host": "localhost", "port": self.proxy.port, "name": "dagster"},
            "user": "dagster_guard",
            "daemon_user": self.daemon_login,
            "login": self.daemon_login if full else None,
            "command": command,
            "lock": str(self.folder / "lock"),
            "timings": TIMINGS,
        }
        (self.folder / "guard.json").write_text(json.dumps(config))
        self.command = command
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("PG", "DAGSTER_"))},
            **SHARED,
            "PGPASSFILE": str(passfile),
        }
        self.log = (self.folder / "log").open("ab")
        self.wanted = self.paused = False
        self.process: subprocess.Popen[bytes] | None = None
        self.status = ""
        self.kills = self.starts = 0
        self.end = False
        self.thread = threading.Thread(target=self._systemd, daemon=True)
        self.thread.start()

    def _systemd(self) -> None:
        address = str(self.folder / "notify")
        heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        heard.bind(address)
        heard.settimeout(0.05)
        ready, last, again = False, 0.0, 0.0
        while not self.end:
            if self.process is None and self.wanted and time.monotonic() >= again:
                self.process = subprocess.Popen(
                    [PYTHON, str(PROGRAM), str(self.folder / "guard.json")],
                    env={**self.environment, "NOTIFY_SOCKET": address},
                    stdout=self.log,
                    stderr=self.log,
                )
                self.starts += 1
                ready = False
            with contextlib.suppress(TimeoutError):
                text = heard.recv(4000).decode()
                ready = ready or "READY=1" in text
                last = time.monotonic()  # READY arms the watchdog, WATCHDOG=1 feeds it
                for line in text.splitlines():
                    self.status = line[7:] if line.startswith("STATUS=") else self.status
            if self.paused:
                last = time.monotonic()
            if self.process is not None:
                if ready and time.monotonic() - last > TIMINGS["watchdog"]:
                    self.kills += 1
                    self.process.kill()
                    self.process.wait()
                if self.process.poll() is not None:
                    self.process, again, self.status = None, time.monotonic() + 0.5, ""
        heard.close()

    def start(self) -> None:
        self.wanted = True

    def stop(self) -> None:
        self.wanted = False
        self.signal(signal.SIGTERM)
        until(lambda: self.process is None, TIMINGS["stop"] + 3, f"{self.name} stops")

    def signal(self, number: int) -> None:
        process = self.process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    def daemons(self) -> list[int]:
        """The daemons that run on this host; a frozen one counts, an ended one does not."""
        found = []
        for path in (self.folder / "pids").iterdir():
            with contextlib.suppress(OSError, IndexError):
                if Path(f"/proc/{path.name}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX":
                    found.append(int(path.name))
        return found

    def text(self) -> str:
        return (self.folder / "log").read_text()

    def close(self) -> None:
        self.wanted, self.end = False, True
        self.thread.join(30)
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for pid in self.daemons():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.proxy.close()
        self.log.close()


def other(hosts: list[Host], host: Host) -> Host:
    return hosts[1] if host is hosts[0] else hosts[0]
