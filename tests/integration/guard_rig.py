# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Role daemon's guard.py against a real database, with a stand-in for dagster-daemon and one for systemd.

The databases are in guard_postgres.py and guard_mariadb.py, with the same methods. The stand-in of the daemon commits
rows that carry the epoch of its lease, on a connection that stays open and on new ones; a row committed after the first
one of a later epoch is stale, and there may be none. The stand-in of systemd starts a guard again 0.5 s after its end
and kills it when its watchdog is late.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "roles/daemon/files/usr/local/lib/dagster/guard.py"
PYTHON = os.environ.get("DAGSTER_PYTHON", sys.executable)
# Databases refuse to run as root.
USER: dict[str, Any] = {"user": "nobody"} if os.getuid() == 0 else {}
LOGINS = {
    "web": "dagster",
    "daemon": "dagster_daemon",
    "code": "dagster_code",
    "run": "dagster_run",
    "read": "dagster_read",
}
HOSTS = ["a", "b", "c"]  # daemon hosts
# Each test is about both databases.
ON_BOTH = pytest.mark.parametrize("cluster", ["postgres", "mariadb"], indirect=True, scope="session")
# The shortest that give no false alarms on a busy machine, or (GUARD_TIMINGS=default) the defaults.
SHORT: dict[str, float] = {"renew": 0.5, "deadline": 3, "ttl": 5, "watchdog": 3, "heartbeat": 4, "stop": 5}
DEFAULT: dict[str, float] = {"renew": 2, "deadline": 10, "ttl": 15, "watchdog": 6, "heartbeat": 20, "stop": 20}
TIMINGS = DEFAULT if os.environ.get("GUARD_TIMINGS") == "default" else SHORT
# How much longer than on a machine of one's own something may take that is only waited for.
PATIENCE = float(os.environ.get("PATIENCE", "1"))
# Before it stands what each database has: Error, connect, and the words of a heartbeat.
DAEMON = """
import ctypes, os, pathlib, signal, sys, time
name, folder = sys.argv[2], pathlib.Path(sys.argv[3])
epoch = int(os.environ.get("DAGSTER_GUARD_EPOCH", "0"))
if (folder / "outlives").exists():
    ctypes.CDLL(None).prctl(1, 0)  # PR_SET_PDEATHSIG: it does not end with its guard
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
(folder / "pids" / str(os.getpid())).write_text(name)
kept = None
while not stopped:
    try:
        kept = kept or connect()
        new = connect()
        for connection in (kept, new):
            cursor = connection.cursor()
            cursor.execute("INSERT INTO work (epoch, host, pid) VALUES (%s, %s, %s)", (epoch, name, os.getpid()))
            if not (folder / "silent").exists():
                cursor.execute(HEARTBEAT)
        new.close()
    except Error as error:
        print("daemon:", *str(error).split(), flush=True)
        kept = None
    time.sleep(0.05)
time.sleep(0.2)
"""

# The guard, which stops itself right before or after a call of the database: "after take".
FREEZES = """
import os, pathlib, runpy, signal, sys
moment, program = sys.argv[1:3]
sys.argv = sys.argv[2:]
sys.path.insert(0, str(pathlib.Path(program).parent))
import lease
real = lease.Lease.call
def freeze(point):
    if point == moment:
        os.kill(os.getpid(), signal.SIGSTOP)
def call(self, function, *arguments, limit):
    freeze("before " + function)
    answer = real(self, function, *arguments, limit=limit)
    freeze("after " + function)
    return answer
lease.Lease.call = call
runpy.run_path(program, run_name="__main__")
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


def programs(lease: Path) -> dict[str, str]:
    """An environment in which the guard finds its modules. On a host they are in one folder."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "DAGSTER_"))}
    return {**kept, "PYTHONPATH": f"{ROOT / 'roles/instance/files/usr/local/lib/dagster'}:{lease}"}


def password(login: str) -> str:
    return hmac.digest(b"secret", login.encode(), "sha256").hex()


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

    def __init__(self, name: str, folder: Path, cluster: Any, full: bool = True) -> None:
        self.name, self.folder, self.cluster = name, folder / name, cluster
        (self.folder / "pids").mkdir(parents=True)
        self.proxy = Proxy(cluster.port)
        self.daemon_login = f"dagster_daemon_{name}" if full else "dagster"
        passwords = cluster.passwords(self.folder / "passwords", "dagster_guard", self.daemon_login)
        command = [PYTHON, "-c", cluster.daemon, str(self.proxy.port), name, str(self.folder)]
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
        # The guard gives its daemon another login than it has itself. A start by hand has that of the unit.
        self.environment = {**programs(cluster.lease_folder), **cluster.login(self.daemon_login, passwords)}
        self.log = (self.folder / "log").open("ab")
        self.wanted = self.paused = False
        self.freezes = ""  # the moment of its guard, as in FREEZES
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
                argv = [PYTHON, "-c", FREEZES, self.freezes] if self.freezes else [PYTHON]
                self.process = subprocess.Popen(
                    [*argv, str(PROGRAM), str(self.folder / "guard.json")],
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

    def frozen(self) -> bool:
        """Whether its guard is stopped."""
        return self.process is not None and state(self.process.pid) == "T"

    def daemons(self) -> list[int]:
        """The daemons that run on this host; a frozen one counts, an ended one does not."""
        pids = [int(path.name) for path in (self.folder / "pids").iterdir()]
        return [pid for pid in pids if state(pid) not in ("Z", "X", "")]

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


def state(pid: int) -> str:
    """The letter of a process in /proc, empty for none."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return ""


def other(hosts: list[Host], host: Host) -> Host:
    return hosts[1] if host is hosts[0] else hosts[0]
