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
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dataops.dagster.plugins.filter.scram_verifier import scram_verifier

psycopg = pytest.importorskip("psycopg", reason="the test asks the database with it")

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "roles/daemon/files/usr/local/lib/dagster/guard.py"
SQL = ROOT / "roles/postgres/files"
LEASE = ROOT / "roles/daemon/files/lease/postgres"
# On a host they are in one folder.
SHARED = {"PYTHONPATH": f"{ROOT / 'roles/instance/files/usr/local/lib/dagster'}:{LEASE}"}
PYTHON = os.environ.get("DAGSTER_PYTHON", sys.executable)
BIN = os.environ.get("PG_BIN") or max(glob.glob("/usr/lib/postgresql/*/bin"), default="")
# PostgreSQL refuses to run as root.
USER: dict[str, Any] = {"user": "nobody"} if os.getuid() == 0 else {}
# The shortest that give no false alarms on a busy machine, or (GUARD_TIMINGS=default) the defaults.
SHORT: dict[str, float] = {"renew": 0.5, "deadline": 3, "ttl": 5, "watchdog": 3, "heartbeat": 4, "stop": 5}
DEFAULT: dict[str, float] = {"renew": 2, "deadline": 10, "ttl": 15, "watchdog": 6, "heartbeat": 20, "stop": 20}
TIMINGS = DEFAULT if os.environ.get("GUARD_TIMINGS") == "default" else SHORT
START = 4.0  # seconds that a guard or daemon may take to start here
ROUNDS = int(os.environ.get("GUARD_ROUNDS", "5"))

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
    end = time.monotonic() + seconds
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
        where = {"host": str(self.folder), "user": "postgres", "autocommit": True, **other}
        limits = {"connect_timeout": 30, "options": "-c statement_timeout=60000"}  # a frozen server must not freeze us
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
        statements = self.apply(SQL / "roles.sql", [json.dumps(roles(hosts)), "dagster", "dagster_owner"], "postgres")
        statements += self.apply(SQL / "grants.sql", ["dagster_owner", "dagster_app"], "dagster")
        group = "dagster_daemon" if full else None
        given = [(LEASE / "guard.sql").read_text(), "dagster_guard_owner", "dagster_guard", group]
        return statements + self.apply(LEASE / "guard_install.sql", given, "dagster")

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
        login("dagster", "dagster_app"),
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

    def __init__(self, target: int) -> None:
        self.target = target
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
            server = socket.create_connection(("127.0.0.1", self.target))
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


class Overlap:
    """The largest number of daemons that ran at a time; those in `but` are known not to be able to do anything."""

    def __init__(self, hosts: list[Host]) -> None:
        self.hosts, self.most, self.end = hosts, 0, False
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self.end:
            self.most = max(self.most, sum(len(host.daemons()) for host in self.hosts))
            time.sleep(0.01)

    def __enter__(self) -> Overlap:
        self.thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.end = True
        self.thread.join()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if not BIN:
        pytest.fail("no PostgreSQL in /usr/lib/postgresql; install it or name the folder of its programs with PG_BIN")
    folder = Path(tempfile.mkdtemp(prefix="guard-pg-"))
    cluster = Cluster(folder)
    cluster.install(["a", "b", "c"])
    cluster.query(
        "CREATE TABLE work (number bigserial PRIMARY KEY, epoch bigint, host text, pid int,"
        " at timestamptz DEFAULT clock_timestamp());"
        "CREATE TABLE daemon_heartbeats (timestamp timestamp);"
        "INSERT INTO daemon_heartbeats VALUES (clock_timestamp());"
    )
    cluster.install(["a", "b", "c"])
    yield cluster
    cluster.stop("immediate")
    shutil.rmtree(folder)


@pytest.fixture
def free(cluster: Cluster) -> None:
    """Nobody has ever had the lease."""
    cluster.query(
        "TRUNCATE work; UPDATE dagster_guard.lease SET epoch = 0, generation = 0, holder = '', boot = '', wanted = ''"
    )
    for name in "abc":
        cluster.query(f"ALTER ROLE dagster_daemon_{name} NOLOGIN")


@pytest.fixture
def lease_only(cluster: Cluster, free: None, tmp_path: Path) -> Iterator[list[Host]]:  # noqa: ARG001 - it comes first
    """Two hosts of a deployment whose logins are not fenced."""
    cluster.install(["a", "b", "c"], full=False)
    found = [Host(name, tmp_path, cluster, full=False) for name in "ab"]
    yield found
    for host in found:
        host.close()
    cluster.install(["a", "b", "c"])


@pytest.fixture
def hosts(cluster: Cluster, free: None, tmp_path: Path) -> Iterator[list[Host]]:  # noqa: ARG001 - it comes first
    """Two hosts whose guards do not run yet."""
    found = [Host(name, tmp_path, cluster) for name in "ab"]
    yield found
    for host in found:
        host.close()
    for host in found:
        print(f"--- {host.name}: {host.starts} starts, {host.kills} watchdog kills\n{host.text()[-3000:]}")


def lead(first: Host, second: Host) -> None:
    """The first one runs the daemon, the second one waits."""
    first.start()
    until(lambda: first.cluster.last_writer() == first.name, START, f"{first.name} runs the daemon")
    second.start()
    until(lambda: second.status.startswith("standby"), START, f"{second.name} waits")


def other(hosts: list[Host], host: Host) -> Host:
    return hosts[1] if host is hosts[0] else hosts[0]


# What the database lets whom do


def test_second_installation_changes_nothing(cluster: Cluster) -> None:
    assert cluster.install(["a", "b", "c"]) == []


def test_installation_notices_each_change(cluster: Cluster) -> None:
    cluster.query("ALTER ROLE dagster_guard_owner NOCREATEROLE")
    cluster.query("ALTER ROLE dagster_daemon_a PASSWORD 'other'")
    statements = cluster.install(["a", "b", "c"])
    assert len(statements) == 2, statements
    assert not re.search(r"dagster_daemon_a.* LOGIN", " ".join(statements)), "who may log in is the guard's business"
    cluster.install(["a", "b", "c"], full=False)
    assert cluster.query("SELECT logins FROM dagster_guard.lease") == [(None,)]
    assert cluster.install(["a", "b", "c"]) != []


def test_owner_is_no_superuser(cluster: Cluster) -> None:
    assert cluster.query(
        "SELECT rolsuper, rolcreaterole, rolcanlogin FROM pg_roles WHERE rolname = 'dagster_guard_owner'"
    ) == [(False, True, False)]


def attempt(cluster: Cluster, login: str, statement: str = "SELECT 1") -> str:
    """The error of a statement as this login, empty when it worked."""
    try:
        with cluster.connect(host="127.0.0.1", user=login, password=password(login)) as connection:
            connection.execute(statement)
    except psycopg.Error as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM dagster_guard.lease",
        "UPDATE dagster_guard.lease SET epoch = 9",
        "SELECT dagster_guard.admit('dagster_daemon_b')",
        "SELECT * FROM dagster_guard.logins()",
        "SELECT * FROM work",
        "ALTER ROLE dagster_daemon_a LOGIN",
        "CREATE TABLE dagster_guard.x ()",
        "SET ROLE dagster_guard_owner",
    ],
)
def test_guards_login_may_only_execute(cluster: Cluster, statement: str) -> None:
    assert "permission denied" in attempt(cluster, "dagster_guard", statement)
    assert attempt(cluster, "dagster_guard", "SELECT * FROM dagster_guard.look()") == ""


@pytest.mark.usefixtures("free")
def test_other_logins_may_not_touch_the_lease(cluster: Cluster) -> None:
    for statement in ("SELECT * FROM dagster_guard.look()", "SELECT dagster_guard.take('a', '', NULL, 0, 0)"):
        assert "permission denied" in attempt(cluster, "dagster", statement)
    assert cluster.epoch() == 0


@pytest.mark.usefixtures("free")
def test_login_that_is_no_daemons_is_not_fenced(cluster: Cluster) -> None:
    refused = attempt(cluster, "dagster_guard", "SELECT dagster_guard.take('a', '', 'postgres', 0, 0)")
    assert "login postgres is not a member of role dagster_daemon" in refused
    assert cluster.epoch() == 0, "the whole transaction is undone"


@pytest.mark.usefixtures("free")
def test_compare_and_set(cluster: Cluster) -> None:
    def ask(call: str) -> Any:
        with cluster.connect(host="127.0.0.1", user="dagster_guard", password=password("dagster_guard")) as connection:
            row = connection.execute("SELECT * FROM dagster_guard." + call).fetchone()  # noqa: S608
            assert row is not None
            return row[0]

    assert ask("take('a', 'boot', 'dagster_daemon_a', 0, 1)") is False
    assert ask("take('a', 'boot', 'dagster_daemon_a', 0, 0)") is True
    assert ask("take('b', 'boot', 'dagster_daemon_b', 0, 0)") is False
    assert ask("renew('a', 'boot', 1)") is True
    assert ask("renew('a', 'another boot', 1)") is False
    assert ask("renew('b', 'boot', 1)") is False
    assert ask("fence(0)") is False
    assert attempt(cluster, "dagster_daemon_a") == ""
    assert "not permitted to log in" in attempt(cluster, "dagster_daemon_b")
    before = cluster.query("SELECT epoch, generation FROM dagster_guard.lease")
    ask("request('c')")
    assert cluster.query("SELECT epoch, generation FROM dagster_guard.lease") == before, "a dead holder looks dead"
    assert cluster.query("SELECT wanted FROM dagster_guard.lease") == [("c",)]
    assert ask("take('b', 'boot', 'dagster_daemon_b', 1, 2)") is True
    assert cluster.query("SELECT wanted FROM dagster_guard.lease") == [("",)], "a request is met or over"
    assert "not permitted to log in" in attempt(cluster, "dagster_daemon_a")
    assert ask("renew('a', 'boot', 1)") is False
    assert ask("release('a', 'boot', 1)") is False
    assert ask("release('b', 'boot', 2)") is True
    assert "not permitted to log in" in attempt(cluster, "dagster_daemon_b")


@contextlib.contextmanager
def daemon_and_run(cluster: Cluster) -> Iterator[tuple[Any, Any]]:
    """A session of daemon host a, which may log in, and one of a login that no fence is about."""
    cluster.query("ALTER ROLE dagster_daemon_a LOGIN")
    with (
        cluster.connect(host="127.0.0.1", user="dagster_daemon_a", password=password("dagster_daemon_a")) as daemon,
        cluster.connect(host="127.0.0.1", user="dagster", password=password("dagster")) as run,
    ):
        yield daemon, run


@pytest.mark.usefixtures("free")
def test_fence_ends_sessions(cluster: Cluster) -> None:
    with daemon_and_run(cluster) as (old, run):
        assert attempt(cluster, "dagster_guard", "SELECT dagster_guard.take('b', '', 'dagster_daemon_b', 0, 0)") == ""
        assert old.execute("SELECT 1").fetchone() == (1,), "the control: shutting a login out ends no session"
        assert attempt(cluster, "dagster_guard", "SELECT dagster_guard.fence(1)") == ""
        time.sleep(0.5)
        with pytest.raises(psycopg.OperationalError):
            old.execute("SELECT 1")
        assert run.execute("SELECT 1").fetchone() == (1,), "runs and webservers are not fenced"


@pytest.mark.usefixtures("free")
def test_renewal_ends_sessions_of_logins_that_are_shut_out(cluster: Cluster) -> None:
    """One may have been half-way in at the fence. The holder's own sessions go on."""
    with daemon_and_run(cluster) as (late, run):
        assert attempt(cluster, "dagster_guard", "SELECT dagster_guard.take('b', '', 'dagster_daemon_b', 0, 0)") == ""
        with cluster.connect(
            host="127.0.0.1", user="dagster_daemon_b", password=password("dagster_daemon_b")
        ) as holders:
            assert late.execute("SELECT 1").fetchone() == (1,), "the control: it is in"
            assert attempt(cluster, "dagster_guard", "SELECT dagster_guard.renew('b', '', 1)") == ""
            time.sleep(0.5)
            with pytest.raises(psycopg.OperationalError):
                late.execute("SELECT 1")
            assert holders.execute("SELECT 1").fetchone() == (1,)
        assert run.execute("SELECT 1").fetchone() == (1,), "runs and webservers are not fenced"


@pytest.mark.usefixtures("free")
def test_nobody_takes_the_lease_during_a_fence(cluster: Cluster) -> None:
    """Or a slow fence would end the sessions of the next holder's daemon."""
    take = "SET lock_timeout = 500; SELECT dagster_guard.take('b', '', 'dagster_daemon_b', 1, 1)"
    assert attempt(cluster, "dagster_guard", "SELECT dagster_guard.take('a', '', 'dagster_daemon_a', 0, 0)") == ""
    with cluster.connect(
        host="127.0.0.1", user="dagster_guard", password=password("dagster_guard"), autocommit=False
    ) as fence:
        assert fence.execute("SELECT dagster_guard.fence(1)").fetchone() == (True,)
        assert "lock timeout" in attempt(cluster, "dagster_guard", take)
        fence.rollback()
    assert attempt(cluster, "dagster_guard", take) == "", "the control"
    assert cluster.holder() == "b"


# One daemon


def test_control_two_daemons_without_a_guard(cluster: Cluster, hosts: list[Host]) -> None:
    """What the other tests would see if it happened."""
    cluster.query("ALTER ROLE dagster_daemon_a LOGIN; ALTER ROLE dagster_daemon_b LOGIN")
    started = []
    with Overlap(hosts) as overlap:
        try:
            for number, host in enumerate(hosts):
                environment = {**host.environment, "DAGSTER_POSTGRES_USER": host.daemon_login}
                environment["DAGSTER_GUARD_EPOCH"] = str(number)
                started.append(subprocess.Popen(host.command, env=environment))
            until(lambda: len(cluster.query("SELECT DISTINCT host FROM work")) == 2, START, "both write")
            time.sleep(0.5)
        finally:
            for process in started:
                process.kill()
                process.wait()
    assert overlap.most == 2
    assert cluster.stale() > 0


def test_started_together(cluster: Cluster, hosts: list[Host]) -> None:
    for _round in range(ROUNDS):
        with Overlap(hosts) as overlap:
            for host in hosts:
                host.start()
            until(cluster.last_writer, START, "one runs")
            until(lambda: sorted(host.status[:6] for host in hosts) == ["active", "standb"], START, "one waits")
            for host in hosts:
                host.wanted = False
            standby = next(host for host in hosts if host.status.startswith("standby"))
            standby.stop()
            other(hosts, standby).stop()
        assert overlap.most == 1
        assert cluster.holder() == ""
    assert cluster.stale() == 0
    assert cluster.epoch() == ROUNDS


def test_status(hosts: list[Host]) -> None:
    lead(*hosts)
    pid = hosts[0].daemons()[0]
    assert hosts[0].status == f"active: daemon runs as PID {pid}, a holds the lease, epoch 1"
    assert hosts[1].status == "standby: a holds the lease, epoch 1"


def test_by_hand(cluster: Cluster, hosts: list[Host], tmp_path: Path) -> None:
    """A daemon started beside the guards is refused by the database on a standby."""
    lead(*hosts)
    environment = {**hosts[1].environment, "DAGSTER_POSTGRES_USER": hosts[1].daemon_login}
    with (tmp_path / "by hand").open("w+b") as log:
        process = subprocess.Popen(hosts[1].command, env=environment, stdout=log, stderr=log)
        try:
            said = "is not permitted to log in"
            until(lambda: said in (tmp_path / "by hand").read_text(), START, said)
        finally:
            process.kill()
            process.wait()
    assert {row[0] for row in cluster.query("SELECT DISTINCT host FROM work")} == {"a"}


def test_stop_hands_over(cluster: Cluster, hosts: list[Host]) -> None:
    lead(*hosts)
    with Overlap(hosts) as overlap:
        started = time.monotonic()
        hosts[0].stop()
        until(lambda: cluster.last_writer() == "b", 5, "the standby runs")
        print(f"handover {time.monotonic() - started:.1f} s")
    assert (overlap.most, cluster.stale(), cluster.epoch()) == (1, 0, 2)


def test_switchover(cluster: Cluster, hosts: list[Host], tmp_path: Path) -> None:
    lead(*hosts)
    third = Host("c", tmp_path, cluster)
    try:
        third.start()
        until(lambda: third.status.startswith("standby"), START, "c waits")
        with Overlap([*hosts, third]) as overlap:
            third.signal(signal.SIGUSR1)
            until(lambda: cluster.last_writer() == "c", 5, "the host that was asked to runs, not the other standby")
            until(
                lambda: hosts[0].status == "standby: c holds the lease, epoch 2",
                1 + TIMINGS["renew"],
                "the old one waits",
            )
        assert (overlap.most, cluster.stale(), cluster.epoch()) == (1, 0, 2)
        third.signal(signal.SIGUSR1)
        time.sleep(1 + TIMINGS["renew"])
        assert cluster.epoch() == 2, "the holder has nothing to ask for"
    finally:
        third.close()


def test_kill_guard(cluster: Cluster, hosts: list[Host]) -> None:
    lead(*hosts)
    with Overlap(hosts) as overlap:
        old = hosts[0].daemons()
        hosts[0].signal(signal.SIGKILL)
        until(lambda: not set(old) & set(hosts[0].daemons()), 0.5, "the daemon dies with its guard")
        until(lambda: set(hosts[0].daemons()) - set(old), 5, "it runs again on the same host")
    assert (overlap.most, cluster.stale(), cluster.holder()) == (1, 0, "a")


def test_kill_daemon(cluster: Cluster, hosts: list[Host]) -> None:
    lead(*hosts)
    with Overlap(hosts) as overlap:
        old = hosts[0].daemons()[0]
        os.kill(old, signal.SIGKILL)
        until(lambda: [pid for pid in hosts[0].daemons() if pid != old], 5, "it runs again on the same host")
    assert (overlap.most, cluster.epoch(), hosts[0].starts) == (1, 1, 1)


def test_frozen_guard(cluster: Cluster, hosts: list[Host]) -> None:
    lead(*hosts)
    with Overlap(hosts) as overlap:
        old = hosts[0].daemons()
        hosts[0].signal(signal.SIGSTOP)
        assert hosts[0].daemons() == old, "the control: the daemon goes on at first"
        until(lambda: not set(old) & set(hosts[0].daemons()), TIMINGS["watchdog"] + 1, "the whole unit is dead")
        until(cluster.last_writer, START, "one runs again")
    assert (overlap.most, cluster.stale(), hosts[0].kills) == (1, 0, 1)


def test_frozen_guard_without_a_database(cluster: Cluster, hosts: list[Host]) -> None:
    """The worst moment: it froze just before its deadline. Its last sign of life must not outlast the lease."""
    lead(*hosts)
    with Overlap(hosts) as overlap:
        hosts[0].proxy.open.clear()
        time.sleep(TIMINGS["deadline"] - TIMINGS["renew"] - 0.4)  # its last renewal was up to a period before the cut
        hosts[0].signal(signal.SIGSTOP)
        assert hosts[0].daemons(), "the control: it has not ended it by itself"
        until(lambda: cluster.last_writer() == "b", TIMINGS["ttl"] + 2 + START, "the standby runs")
    assert (overlap.most, cluster.stale(), hosts[0].kills) == (1, 0, 1)


def test_silent_daemon(cluster: Cluster, hosts: list[Host]) -> None:
    lead(*hosts)
    old = hosts[0].daemons()[0]
    (hosts[0].folder / "silent").touch()
    until(lambda: old not in hosts[0].daemons(), TIMINGS["heartbeat"] + 2, "it is restarted")
    (hosts[0].folder / "silent").unlink()
    until(hosts[0].daemons, START, "a new one runs")
    time.sleep(TIMINGS["heartbeat"] + 1)
    assert hosts[0].text().count("no heartbeat") == 1
    assert cluster.epoch() == 1


def test_frozen_daemon(cluster: Cluster, hosts: list[Host]) -> None:
    lead(*hosts)
    old = hosts[0].daemons()[0]
    os.kill(old, signal.SIGSTOP)
    until(lambda: hosts[0].daemons() not in ([old], []), TIMINGS["heartbeat"] + 2 + START, "a new one runs")
    assert cluster.epoch() == 1


def test_network_cut(cluster: Cluster, hosts: list[Host]) -> None:
    lead(*hosts)
    with Overlap(hosts) as overlap:
        cut = time.monotonic()
        hosts[0].proxy.open.clear()
        until(lambda: not hosts[0].daemons(), TIMINGS["deadline"] + 1, "the old daemon is dead")
        dead = time.monotonic() - cut
        until(lambda: cluster.last_writer() == "b", TIMINGS["ttl"] + 2 + START - dead, "the standby runs")
        print(f"dead after {dead:.1f} s, taken over after {time.monotonic() - cut:.1f} s")
        time.sleep(2)
        hosts[0].proxy.open.set()
        until(lambda: hosts[0].status == "standby: b holds the lease, epoch 2", 5, "the old one waits after the heal")
        time.sleep(1)
        assert cluster.last_writer() == "b"
    assert (overlap.most, cluster.stale(), cluster.epoch()) == (1, 0, 2)


def test_paused_host(cluster: Cluster, hosts: list[Host]) -> None:
    """Guard and daemon are frozen beyond the lease and then go on where they were: only the database can stop them."""
    lead(*hosts)
    old = hosts[0].daemons()[0]
    hosts[0].paused = True
    hosts[0].signal(signal.SIGSTOP)
    os.kill(old, signal.SIGSTOP)
    until(lambda: cluster.last_writer() == "b", TIMINGS["ttl"] + 2 + START, "the standby runs")
    time.sleep(1)
    os.kill(old, signal.SIGCONT)  # the daemon first: it gets all the time it could wish for
    time.sleep(1)
    assert old in hosts[0].daemons()
    assert hosts[0].text().count("not permitted to log in") > 0, "it did try"
    hosts[0].signal(signal.SIGCONT)
    hosts[0].paused = False
    until(lambda: old not in hosts[0].daemons(), 2, "the guard ends it")
    until(lambda: hosts[0].status == "standby: b holds the lease, epoch 2", 1 + 2 * TIMINGS["renew"], "and waits")
    assert (cluster.stale(), cluster.epoch()) == (0, 2)


def test_control_paused_host_with_lease_only(cluster: Cluster, lease_only: list[Host]) -> None:
    """What a lease without a fence cannot do, which is why lease_only has to be asked for."""
    first, second = lease_only
    lead(first, second)
    old = first.daemons()[0]
    first.paused = True
    first.signal(signal.SIGSTOP)
    os.kill(old, signal.SIGSTOP)
    until(lambda: cluster.last_writer() == "b", TIMINGS["ttl"] + 2 + START, "the standby runs")
    os.kill(old, signal.SIGCONT)
    time.sleep(1)
    assert cluster.stale() > 0


def test_lease_only_cut(cluster: Cluster, lease_only: list[Host]) -> None:
    """With clocks alone a cut network and a stop are still safe."""
    lead(*lease_only)
    with Overlap(lease_only) as overlap:
        lease_only[0].proxy.open.clear()
        until(lambda: cluster.last_writer() == "b", TIMINGS["ttl"] + 2 + START, "the standby runs")
        lease_only[0].proxy.open.set()
        time.sleep(1)
        lease_only[1].stop()
        until(lambda: cluster.last_writer() == "a", 5, "back again")
    assert (overlap.most, cluster.stale()) == (1, 0)


def test_database_restart(cluster: Cluster, hosts: list[Host]) -> None:
    lead(*hosts)
    with Overlap(hosts) as overlap:
        old = hosts[0].daemons()
        cluster.stop()
        cluster.start()
        until(lambda: cluster.last_writer() == "a", 5, "the daemon writes again")
        time.sleep(2)
    assert (overlap.most, cluster.epoch(), hosts[0].daemons()) == (1, 1, old)


def test_database_away_for_longer(cluster: Cluster, hosts: list[Host]) -> None:
    lead(*hosts)
    with Overlap(hosts) as overlap:
        cluster.stop()
        until(lambda: not hosts[0].daemons(), TIMINGS["deadline"] + 1, "none runs")
        time.sleep(TIMINGS["ttl"])
        assert [host.daemons() for host in hosts] == [[], []]
        assert "no answer from the database" in hosts[0].status
        cluster.start()
        until(cluster.last_writer, 5, "one runs")
        time.sleep(1)
    assert (overlap.most, cluster.stale(), [host.kills for host in hosts]) == (1, 0, [0, 0])


def test_frozen_database(cluster: Cluster, hosts: list[Host]) -> None:
    """It accepts and says nothing: the case that a blocking client never comes back from."""
    lead(*hosts)
    with Overlap(hosts) as overlap:
        backends = [row[0] for row in cluster.query("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")]
        frozen = [cluster.postmaster(), *backends]
        for pid in frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        try:
            until(lambda: not hosts[0].daemons(), TIMINGS["deadline"] + 1, "none runs")
            time.sleep(TIMINGS["ttl"])
        finally:
            for pid in reversed(frozen):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        until(cluster.last_writer, 5, "one runs")
    assert (overlap.most, cluster.stale(), [host.kills for host in hosts]) == (1, 0, [0, 0])


def test_second_guard_on_one_host(cluster: Cluster, hosts: list[Host], tmp_path: Path) -> None:
    lead(*hosts)
    argv = [PYTHON, str(PROGRAM), str(hosts[0].folder / "guard.json")]
    with (tmp_path / "second").open("w+b") as log:
        second = subprocess.Popen(argv, env=hosts[0].environment, stderr=log)
        try:
            said = "another guard or its daemon still runs on this host"
            until(lambda: said in (tmp_path / "second").read_text(), START, said)
            time.sleep(1)
            assert second.poll() is None
            second.terminate()
            assert second.wait(5) == 0
        finally:
            second.kill()
            second.wait()
    assert cluster.epoch() == 1


def test_second_guard_while_the_daemon_of_the_first_one_runs(cluster: Cluster, hosts: list[Host]) -> None:
    """The old guard is gone and its daemon is not: the daemon holds the lock too, and the new guard waits for it."""
    host = hosts[0]
    (host.folder / "outlives").touch()
    host.start()
    old = until(host.daemons, START, "the daemon runs")
    until(cluster.last_writer, START, "it writes")
    with Overlap(hosts[:1]) as overlap:
        host.signal(signal.SIGKILL)
        until(lambda: host.starts == 2, 5, "systemd starts a guard again")
        until(lambda: host.status.startswith("waiting for "), START, "it waits for the lock")
        time.sleep(2 * TIMINGS["renew"] + 1)  # its own lease it would take at once
        assert host.daemons() == old, "the control: this daemon did not end with its guard"
        assert cluster.epoch() == 1
        os.kill(old[0], signal.SIGKILL)
        until(lambda: cluster.epoch() == 2 and host.daemons() not in ([], old), START, "a new one runs after it")
    assert overlap.most == 1


def test_no_false_alarms(cluster: Cluster, hosts: list[Host]) -> None:
    lead(*hosts)
    old = hosts[0].daemons()
    time.sleep(float(os.environ.get("GUARD_QUIET_SECONDS", "10")))
    assert hosts[0].daemons() == old
    assert (cluster.epoch(), [host.kills for host in hosts], [host.starts for host in hosts]) == (1, [0, 0], [1, 1])


def test_bad_configuration(tmp_path: Path) -> None:
    path = tmp_path / "guard.json"
    path.write_text("{")
    environment = {**os.environ, **SHARED}
    argv = [PYTHON, str(PROGRAM), str(path)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "the configuration cannot be used" in done.stderr
