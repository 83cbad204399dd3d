"""Role webserver's notify.py: what systemd hears of a server that answers, hangs, refuses or ends."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / "roles/webserver/files/usr/local/lib/dagster/notify.py"
# On a host they are in one folder.
SHARED = {"PYTHONPATH": str(ROOT / "roles/instance/files/usr/local/lib/dagster")}
# The program as it is, but for its periods.
QUICK = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("notify", sys.argv.pop(1))
notify = importlib.util.module_from_spec(spec)
spec.loader.exec_module(notify)
notify.START_PERIOD = notify.ALIVE_PERIOD = 0.05
notify.TIMEOUT = 1.0
notify.STOPPED = 0.3
notify.SILENCE = 0.6
notify.SETTLE_PERIOD = 3.0
sys.exit(notify.main(sys.argv))
"""
# A server that answers as the file named by its argument says: a status, "garbage" or "silence".
SERVER = """
import http.server, os, pathlib, sys, time
script = pathlib.Path(sys.argv[2])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        (script.parent / "asked").write_text(self.path)
        answer = script.read_text()
        if answer == "garbage":
            self.wfile.write(b"SSH-2.0-none\\r\\n")
        elif answer == "silence":
            time.sleep(3)
        elif answer == "busy":
            while script.read_text() == "busy":
                sum(range(10000))
        else:
            self.send_response(int(answer))
            self.end_headers()
    def log_message(self, *arguments):
        pass
(script.parent / "pid").write_text(str(os.getpid()))
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Service:
    """Stands for systemd: starts the program, and hears what is sent to NOTIFY_SOCKET."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.script = folder / "answer"
        self.answer("200")
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            self.port, agent = sorted((one.getsockname()[1], other.getsockname()[1]))
        self.offset = agent - self.port
        self.url = f"http://127.0.0.1:{self.port}/dagster/server_info"
        self.processes: list[subprocess.Popen[str]] = []

    def answer(self, text: str) -> None:
        beside = self.folder / "answer.new"
        beside.write_text(text)
        beside.replace(self.script)

    def start(self, *command: str) -> subprocess.Popen[str]:
        command = command or (sys.executable, "-c", SERVER, str(self.port), str(self.script))
        process = subprocess.Popen(
            [sys.executable, "-c", QUICK, str(PROGRAM), self.url, "127.0.0.1", str(self.offset), *command],
            env={
                **os.environ,
                **SHARED,
                "NOTIFY_SOCKET": self.address,
                "RUNTIME_DIRECTORY": str(self.folder),
                "http_proxy": "http://127.0.0.1:1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def hears(self, seconds: float = 10) -> str:
        """The next message, empty when there is none in time."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(1000).decode()
        except TimeoutError:
            return ""

    def asked(self) -> str:
        """What a load balancer is told, empty when nobody answers."""
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port + self.offset), 5) as connection,
        ):
            return connection.makefile().read()
        return ""

    def forget(self) -> None:
        """Drops what has been sent so far. A watcher that goes on after that fails the test."""
        end = time.monotonic() + 3
        while said := self.hears(0.3):
            assert time.monotonic() < end, f"it goes on saying {said!r}"

    def stop(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
        for process in self.processes:
            process.communicate(timeout=10)
        self.socket.close()


@pytest.fixture
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    abstract = getattr(request, "param", "path") == "abstract"
    address = f"@dagster-test-{os.getpid()}-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    service = Service(tmp_path, address)
    yield service
    service.stop()


def members(group: int) -> list[int]:
    """The processes of a group, the ended ones left out."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rsplit(")", 1)[1].split()
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return sorted(found)


def test_forgetting_has_an_end(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watcher that never falls silent is the very fault that the tests look for."""

    def hears(_seconds: float) -> str:
        time.sleep(0.1)
        return "WATCHDOG=1"

    monkeypatch.setattr(service, "hears", hears)
    with pytest.raises(AssertionError, match="it goes on saying 'WATCHDOG=1'"):
        service.forget()


def wait_until_gone(group: int) -> bool:
    deadline = time.monotonic() + 5
    while members(group):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("service", ["path", "abstract"], indirect=True)
def test_ready_and_alive(service: Service) -> None:
    service.answer("503")
    process = service.start()
    end = time.monotonic() + 10
    asked = service.folder / "asked"
    while not (asked.exists() and asked.read_text()):
        assert time.monotonic() < end, "nobody asks the server"
        time.sleep(0.05)
    assert asked.read_text() == "/dagster/server_info"
    assert service.hears(0.5) == "", "a server that answers 503 is not ready"
    service.answer("200")
    assert service.hears() == f"READY=1\nSTATUS=Answering on {service.url}"
    assert [service.hears(), service.hears()] == ["WATCHDOG=1", "WATCHDOG=1"]
    assert (service.folder / "pid").read_text() == str(process.pid), "systemd's main process is the server itself"
    assert len(members(process.pid)) == 2
    parent = Path(f"/proc/{max(members(process.pid))}/stat").read_text().rsplit(")", 1)[1].split()[1]
    assert int(parent) != process.pid, "the server has no child that it would have to wait for"


@pytest.mark.parametrize("answer", ["503", "404", "garbage", "silence"])
def test_no_watchdog_while_the_server_is_ill(service: Service, answer: str) -> None:
    service.start()
    assert service.hears().startswith("READY=1")
    service.answer(answer)
    service.forget()
    assert service.hears(1.2) == ""
    service.answer("200")
    assert service.hears() == "WATCHDOG=1", "the watcher is still there"


def told(service: Service, expected: str) -> bool:
    deadline = time.monotonic() + 5
    while service.asked() != expected:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_load_balancers_hear_when_the_server_is_ready_and_when_it_drains(service: Service) -> None:
    service.answer("503")
    service.start()
    assert told(service, "drain\n")
    service.answer("200")
    assert told(service, "up ready\n")
    since = time.monotonic()
    assert service.hears().startswith("READY=1")
    assert time.monotonic() - since > 2, "whoever has asked gets the time to ask again"
    (service.folder / "draining").touch()
    assert told(service, "drain\n")
    (service.folder / "draining").unlink()
    assert told(service, "up ready\n")


@pytest.mark.parametrize("how", ["frozen", "waits for ever"])
def test_load_balancers_hear_of_a_server_that_hangs(service: Service, how: str) -> None:
    process = service.start()
    assert told(service, "up ready\n")
    if how == "frozen":
        os.kill(process.pid, signal.SIGSTOP)
    else:
        service.answer("silence")
    assert told(service, "down\n")
    service.answer("200")
    os.kill(process.pid, signal.SIGCONT)
    assert told(service, "up ready\n"), "it comes back by itself"


def test_server_that_computes_keeps_its_requests(service: Service) -> None:
    """It does not answer for as long, but works: on a loaded host none would be left otherwise."""
    process = service.start()
    assert told(service, "up ready\n")
    service.answer("busy")
    end = time.monotonic() + 10
    while process_state(process.pid) != "R":
        assert time.monotonic() < end, "the control: it computes"
        time.sleep(0.02)
    began, answers = time.monotonic(), set()
    while time.monotonic() - began < 1.5:
        answers.add(service.asked())
        time.sleep(0.05)
    service.answer("200")
    assert answers == {"up ready\n"}


def process_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_server_is_ready_at_once_when_no_load_balancer_asks(service: Service) -> None:
    service.answer("503")
    service.start()
    time.sleep(1)
    service.answer("200")
    since = time.monotonic()
    assert service.hears().startswith("READY=1")
    assert time.monotonic() - since < 2.5


def test_port_of_the_agent_that_is_taken(service: Service) -> None:
    with socket.create_server(("127.0.0.1", service.port + service.offset)):
        process = service.start()
        assert service.hears().startswith("READY=1"), "the server runs all the same"
    os.kill(process.pid, 9)
    assert "no agent check on 127.0.0.1 port" in process.communicate(timeout=10)[0]


def test_watcher_ends_with_the_server(service: Service) -> None:
    process = service.start()
    assert service.hears().startswith("READY=1")
    os.kill(process.pid, 9)
    assert wait_until_gone(process.pid), "even before anybody has asked for its exit status"
    service.forget()
    assert service.hears(0.5) == ""


def test_server_that_ends_at_once(service: Service) -> None:
    process = service.start(sys.executable, "-c", "import sys; print('no config'); sys.exit(3)")
    assert process.communicate(timeout=10)[0] == "no config\n"
    assert process.returncode == 3
    assert wait_until_gone(process.pid)
    assert service.hears(0.3) == ""


def test_command_that_does_not_exist(service: Service) -> None:
    process = service.start("/no/such/server")
    assert process.communicate(timeout=10)[0] == (
        "notify.py: /no/such/server cannot be run: No such file or directory\n"
    )
    assert process.returncode == 127


def test_usage() -> None:
    argv = [sys.executable, str(PROGRAM), "http://x"]
    environment = {**os.environ, **SHARED}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 2
    assert "notify URL ADDRESS OFFSET COMMAND" in done.stderr


def test_without_systemd(tmp_path: Path) -> None:
    """By hand, where nobody listens, the server runs all the same."""
    environment = {**{name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}, **SHARED}
    done = subprocess.run(
        [sys.executable, PROGRAM, "http://127.0.0.1:1/", "127.0.0.1", "0", sys.executable, "-c", "print('up')"],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stdout == "up\n"


def test_credential_becomes_the_servers_password_file(tmp_path: Path) -> None:
    """libpq refuses a file that the group can read, and finds this one also from a child of the server."""
    (tmp_path / "pgpass").write_text("*:*:*:dagster:hunter2hunter2\n")
    (tmp_path / "pgpass").chmod(0o440)
    script = (
        "import os, subprocess, sys; path = os.environ['PGPASSFILE'];"
        "print(oct(os.stat(path).st_mode), open(path).read(), open(path).read(), flush=True);"
        "subprocess.run(['cat', path])"
    )
    done = subprocess.run(
        [sys.executable, PROGRAM, "http://127.0.0.1:1/", "127.0.0.1", "0", sys.executable, "-c", script],
        env={**os.environ, **SHARED, "CREDENTIALS_DIRECTORY": str(tmp_path), "PGPASSFILE": f"{tmp_path}/pgpass"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stdout.split() == ["0o100600", *["*:*:*:dagster:hunter2hunter2"] * 3]


def test_periods_fit_the_unit() -> None:
    """WatchdogSec must outlast two probes that fail in a row, or one slow answer restarts a server."""
    unit = (ROOT / "roles/webserver/templates/etc/systemd/system/dagster-webserver.service.j2").read_text()
    text = PROGRAM.read_text()
    value = {
        name: float(line.split("=")[1].split("#")[0])
        for line in text.splitlines()
        for name in ("ALIVE_PERIOD", "TIMEOUT")
        if line.startswith(f"{name} =")
    }
    watchdog = float(unit.split("WatchdogSec=")[1].split("\n")[0])
    assert watchdog >= 2 * (value["ALIVE_PERIOD"] + value["TIMEOUT"])


def test_client_that_is_gone_does_not_end_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A load balancer that gives up while it is answered leaves the others their answers."""
    monkeypatch.syspath_prepend(SHARED["PYTHONPATH"])
    spec = importlib.util.spec_from_file_location("notify", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    notify = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(notify)
    gone, there = MagicMock(), MagicMock()
    gone.sendall.side_effect = BrokenPipeError
    listener = MagicMock()
    listener.accept.side_effect = [ConnectionAbortedError, (gone, None), (there, None), KeyboardInterrupt]
    monkeypatch.setattr(notify.socket, "create_server", lambda *_where, **_how: listener)
    agent = notify.Agent(notify.Process(os.getpid()))
    with pytest.raises(KeyboardInterrupt):
        agent.serve(("127.0.0.1", 1))
    there.sendall.assert_called_once_with(b"drain\n")
    assert agent.asked
