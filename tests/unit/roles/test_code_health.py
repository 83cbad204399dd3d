"""Role code_location's code_health.py: what it asks a real code server, and whom it restarts."""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import dagster_python, load_program

PROGRAM = Path(__file__).resolve().parents[3] / "roles/code_location/files/usr/local/lib/dagster/code_health.py"
health = load_program(PROGRAM, "code_health")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def code_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A real one, with its port."""
    folder, port = tmp_path_factory.mktemp("code"), free_port()
    (folder / "served.py").write_text("import dagster as dg\ndefs = dg.Definitions()\n")
    argv = [dagster_python(), "-m", "dagster", "api", "grpc", "-h", "127.0.0.1", "-p", str(port), "-f", "served.py"]
    process = subprocess.Popen(argv, cwd=folder, env={**os.environ, "DAGSTER_HOME": str(folder)})
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(health.Unhealthy):
            health.ask("127.0.0.1", port)
            break
        time.sleep(0.2)
    yield process, port
    process.kill()
    process.wait(10)


def stopped(pid: int) -> None:
    """Waits until all threads of a process are stopped: until then one of them may still answer."""
    end = time.monotonic() + 30
    while {path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")} != {
        "T"
    }:
        assert time.monotonic() < end, "it does not stop"
        time.sleep(0.01)


def test_real_code_server(code_server: tuple[subprocess.Popen[bytes], int]) -> None:
    process, port = code_server
    health.ask("127.0.0.1", port)
    process.send_signal(signal.SIGSTOP)
    stopped(process.pid)
    try:
        with pytest.raises(health.Unhealthy, match=r"^no answer within 0\.5 s$"):
            health.ask("127.0.0.1", port, 0.5)
    finally:
        process.send_signal(signal.SIGCONT)
    health.ask("127.0.0.1", port)


@contextlib.contextmanager
def answering(*parts: bytes) -> Iterator[int]:
    """Something that says this to whoever comes, a part each 0.1 s, and keeps the connection for a second."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _peer = listener.accept()
            with connection:
                for part in parts:
                    connection.sendall(part)
                    time.sleep(0.1)
                time.sleep(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def of_stream(kind: int, content: bytes, flags: int = 0) -> bytes:
    return bytes(health.frame(kind, flags, health.STREAM, content))


NOT_SERVING = b"\x00\x00\x00\x00\x02\x08\x02"


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 100], "it does not speak HTTP/2"),
        ([of_stream(health.DATA, NOT_SERVING, health.END_STREAM)], "it says that it does not serve"),
        ([of_stream(health.HEADERS, b"", health.END_STREAM)], "it has ended the connection without an answer"),
        ([health.frame(health.GOAWAY, 0, 0, b"\x00" * 8)], "it has refused the question"),
        ([of_stream(health.DATA, b"\x00" * 9000), of_stream(health.DATA, b"\x00" * 9000)], "it says that it does not"),
        ([health.frame(health.PING, health.ACK, 0, b"\x00" * 8)] * 20, "no answer within 0.5 s"),
        ([health.frame(health.PING, health.ACK, 0, b"\x00" * 8)[:9], *[b"\x00"] * 20], "no answer within 0.5 s"),
        ([], "no answer within 0.5 s"),
    ],
    ids=["HTTP/1", "not serving", "nothing", "goaway", "too much", "frame by frame", "byte by byte", "silence"],
)
def test_what_is_no_answer(parts: list[bytes], words: str) -> None:
    with answering(*parts) as port, pytest.raises(health.Unhealthy, match=f"^{words}"):
        health.ask("127.0.0.1", port, 0.5 if "0.5 s" in words else 10)


def test_nobody_there() -> None:
    with pytest.raises(health.Unhealthy, match=r"^Connection refused$"):
        health.ask("127.0.0.1", free_port(), 0.5)


class AtOnce:
    """A thread whose end nobody has to wait for."""

    def __init__(self, target: Any, args: tuple[Any, ...], daemon: bool) -> None:
        assert daemon
        self.start = lambda: target(*args)


class World:
    """An engine with code servers, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_800_000_000.0
        self.began = self.now - 3600
        self.state: dict[str, Any] = {"Running": True, "Paused": False}
        self.policy = "unless-stopped"
        self.network = "dagster_code"
        self.hangs: set[str] = set()
        self.restarted: list[str] = []
        self.filters = ""
        monkeypatch.setattr(health.time, "time", lambda: self.now)
        monkeypatch.setattr(health, "engine", self.engine)
        monkeypatch.setattr(health, "ask", self.ask)
        monkeypatch.setattr(health.threading, "Thread", AtOnce)
        self.watcher = health.Watcher("/run/docker.sock", "dagster-code-", "dagster_code", 4000, 300)

    def engine(self, path: str, method: str, target: str, _seconds: float = 0) -> Any:
        assert path == "/run/docker.sock"
        if target.startswith("/containers/json"):
            self.filters = target
            return [
                {
                    "Id": name,
                    "Names": [f"/dagster-code-{name}"],
                    "NetworkSettings": {
                        "Networks": {"another": {"IPAddress": "192.0.2.1"}, self.network: {"IPAddress": name}}
                    },
                }
                for name in ("one", "two")
            ]
        if method == "POST":
            self.restarted.append(target)
            self.began = self.now
            return None
        began = datetime.datetime.fromtimestamp(self.began, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return {
            "State": {**self.state, "StartedAt": f"{began}.123456789Z"},
            "HostConfig": {"RestartPolicy": {"Name": self.policy}},
            "Config": {"StopTimeout": 65},
        }

    def ask(self, address: str, port: int) -> None:
        assert port == 4000
        if address in self.hangs:
            raise health.Unhealthy("no answer within 10 s")

    def look(self, times: int = 1) -> None:
        for _time in range(times):
            self.now += health.PERIOD
            self.watcher.look()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_one_that_hangs_is_restarted_at_the_third_failure(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.look()
    world.hangs = {"two"}
    world.look(2)
    assert world.restarted == []
    world.look()
    assert world.restarted == ["/containers/two/restart"]
    said = capsys.readouterr().out
    assert "<4>dagster-code-two does not answer (1 of 3): no answer within 10 s" in said
    assert "<3>dagster-code-two hangs: it is restarted" in said
    assert "dagster.config" in world.filters
    assert "dagster-code-" in world.filters


def test_failures_have_to_come_in_a_row(world: World) -> None:
    for _time in range(3):
        world.hangs = {"two"}
        world.look(2)
        world.hangs = set()
        world.look()
    assert world.restarted == []


def test_code_has_five_minutes_to_start(world: World) -> None:
    """Also after a restart, and one that never answers is started again after that."""
    world.began, world.hangs = world.now, {"two"}
    world.look(9)
    assert world.restarted == []
    world.look(3)
    assert len(world.restarted) == 1
    world.look(9)
    assert len(world.restarted) == 1, "it starts once more"
    world.look(3)
    assert len(world.restarted) == 2


@pytest.mark.parametrize("state", [{"Paused": True}, {"Running": False}])
def test_one_that_somebody_has_stopped_stays_so(world: World, state: dict[str, bool]) -> None:
    world.look()
    world.hangs = {"two"}
    world.state |= state
    world.look(6)
    assert world.restarted == []


@pytest.mark.parametrize("policy", ["always", "no"])
def test_one_that_a_play_replaces_is_left_to_it(world: World, policy: str) -> None:
    """The old one while it ends, and the new one until it is judged."""
    world.look()
    world.hangs, world.policy = {"two"}, policy
    world.look(20)
    assert world.restarted == []


def test_one_that_is_not_in_the_network_is_not_touched(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.network = "backend"
    world.look(20)
    assert world.restarted == []
    assert "<4>dagster-code-two cannot be asked: the engine names no 'dagster_code' of it" in capsys.readouterr().out


def test_restart_that_takes_long_keeps_nobody_waiting(world: World) -> None:
    """The next look asks the others, and not this one twice at a time."""
    world.look()
    world.hangs = {"one", "two"}
    with world.watcher.known["two"].asked:
        world.look(6)
    assert world.restarted == ["/containers/one/restart"]


def test_engine_that_is_away_is_said_once(world: World, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """And the next look finds it again."""
    looks: list[float] = []

    def sleep(period: float) -> None:
        looks.append(period)
        if len(looks) == 4:
            raise KeyboardInterrupt

    def away(*_arguments: Any) -> Any:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(health, "engine", away)
    monkeypatch.setattr(health.time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        health.main(["code_health", "/run/docker.sock", "dagster-code-", "dagster_code", "4000", "300"])
    assert world.restarted == []
    assert capsys.readouterr().out.count("the engine cannot be asked: ") == 1


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert health.main(["code_health", "/run/docker.sock"]) == 2
    assert "code_health SOCKET PREFIX NETWORK PORT START" in capsys.readouterr().err
