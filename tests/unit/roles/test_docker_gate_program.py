"""The program of the Docker gate: clients beside each other, restarts of engine and gate, and what systemd is told."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gate_requests
import pytest
from gate_world import OWN, ROOT, World, everything, program, request, run_body

API = "/v1.41"
ROLES = ("launch", "inspect")


def test_engine_that_restarts_is_waited_for(world: World) -> None:
    path = world.folder / "engine.sock"
    away = path.with_name("away")
    path.rename(away)
    began = time.monotonic()
    timer = subprocess.Popen(
        [sys.executable, "-c", f"import os,time; time.sleep(1); os.rename({str(away)!r}, {str(path)!r})"]
    )
    assert world.ask("launch", "POST", f"{API}/containers/{OWN}/start")[0] == 204
    assert time.monotonic() - began > 0.5
    timer.wait()


def test_two_clients_at_a_time(world: World) -> None:
    """A client that says nothing keeps nobody out."""
    with world.connect("launch"):
        assert world.ask("launch", "GET", "/_ping")[0] == 200


def test_too_many_connections_of_one_role_leave_the_other(world: World) -> None:
    kept = [world.connect("inspect") for _number in range(60)]
    try:
        assert world.ask("launch", "GET", "/_ping")[0] == 200
        end = time.monotonic() + 10
        while not any("are open" in line for line in world.said) and time.monotonic() < end:
            time.sleep(0.05)
        assert any("are open" in line for line in world.said)
    finally:
        for sock in kept:
            sock.close()


def test_sockets_outlive_a_restart(tmp_path: Path) -> None:
    """systemd keeps them and hands them over: a client that connects in between waits for the next gate."""
    first = World(tmp_path)
    kept = {key.data: key.fileobj.fileno() for key in first.gate.selector.get_map().values()}
    spare = {role: os.dup(number) for role, number in kept.items()}
    first.gate.ending.set()
    first.thread.join(10)
    waiting, of_a_run = first.connect("launch"), first.connect("steps")
    for sock in (waiting, of_a_run):
        sock.sendall(request("GET", "/_ping"))
    starter = (
        "import os,sys; names=sys.argv[3].split(':')\n"
        "for at,number in enumerate(sys.argv[4].split(':')): os.dup2(int(number), 3+at, inheritable=True)\n"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=':'.join(names))\n"
        "os.execv(sys.executable, [sys.executable, sys.argv[1], sys.argv[2]])"
    )
    # Clear of 3 and 4, where the next gate looks for them.
    moved = {role: os.dup2(number, 60 + at) for at, (role, number) in enumerate(spare.items())}
    arguments = [str(ROOT / "roles/gate/files/usr/local/lib/dagster/gate.py"), str(tmp_path / "gate.json")]
    process = subprocess.Popen(
        [sys.executable, "-c", starter, *arguments, ":".join(moved), ":".join(map(str, moved.values()))],
        pass_fds=tuple(moved.values()),
        stderr=subprocess.PIPE,
    )
    try:
        assert everything(waiting).startswith(b"HTTP/1.1 200 ")
        assert b"a process of no container" in everything(of_a_run), "it is answered, and this test is no run"
        began = time.monotonic()
        process.terminate()
        assert process.wait(20) == 0
        assert time.monotonic() - began < 10
    finally:
        process.kill()
        first.engine.shutdown()
        first.engine.server_close()


def test_kept_socket_of_another_address_gives_its_own_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd has it as well, so closing ours does not free the address. A name is another address than a number."""
    kept = socket.create_server(("127.0.0.1", 0))
    port, of_systemd = kept.getsockname()[1], os.dup(kept.fileno())
    monkeypatch.setattr(program.gate_sockets, "kept_sockets", lambda: {"tls": kept})
    monkeypatch.setattr(program.Settings, "tls", lambda _settings: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    found = World(tmp_path, listen={"address": "localhost", "port": port})
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
        assert found.ask("launch", "GET", "/_ping")[0] == 200
    finally:
        found.end()
        os.close(of_systemd)


def test_end_of_the_gate_answers_what_it_has_taken(world: World) -> None:
    with world.connect("launch") as idle, world.connect("launch") as sock:
        sock.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
        began = time.monotonic()
        world.end()
        assert time.monotonic() - began < 10, "it does not wait for clients that ask nothing"
        assert idle.recv(1) == b""


def answer_after(world: World, monkeypatch: pytest.MonkeyPatch, whole: Callable[[], None]) -> bytes:
    """The answer to a request that has come, and that the gate has not begun with when it is told to end."""
    come, go = threading.Event(), threading.Event()

    def slowly(*arguments: Any) -> Any:
        found = gate_requests.read(arguments[0])
        come.set()
        assert go.wait(10)
        return found

    monkeypatch.setattr(program, "read", slowly)
    with world.connect("launch") as sock:
        sock.sendall(request("POST", f"{API}/containers/{OWN}/start"))
        assert come.wait(10)
        world.gate.ending.set()
        whole()
        go.set()
        return everything(sock)


def test_end_of_the_gate_loses_no_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine has done what was asked, so whoever asked has to learn that."""
    started = [("POST", f"{API}/containers/{OWN}/start", b"")]
    answer = answer_after(world, monkeypatch, lambda: time.sleep(program.FIRST + 1.5))
    assert answer.startswith(b"HTTP/1.1 204 ")
    assert b"Connection: close" in answer
    assert world.engine.changes() == started


def test_what_is_asked_after_the_end_waits_for_the_next_gate(world: World) -> None:
    world.gate.ending.set()
    with world.connect("launch") as sock:
        sock.sendall(request("GET", "/_ping"))
        world.thread.join(10)
        assert not world.thread.is_alive()
        sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_half_a_request_at_the_end_is_waited_for(world: World) -> None:
    data = request("POST", f"{API}/containers/{OWN}/start")
    with world.connect("launch") as sock:
        sock.sendall(data[:20])
        until(lambda: any(client and not client.idle for client in list(world.gate.clients.values())))
        world.gate.ending.set()
        time.sleep(program.FIRST + 0.5)
        sock.sendall(data[20:])
        assert everything(sock).startswith(b"HTTP/1.1 204 ")


def test_answer_that_takes_too_long_at_the_end_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "ENDING", 0.5)
    begun, go = threading.Event(), threading.Event()

    def late() -> tuple[int, bytes]:
        begun.set()
        go.wait(10)
        return 204, b""

    monkeypatch.setattr(program.Client, "done", lambda *_arguments: late())
    try:
        with world.connect("launch") as sock:
            sock.sendall(request("POST", f"{API}/containers/{OWN}/stop?t=300"))
            assert begun.wait(10)
            world.gate.ending.set()
            answer = everything_of(sock, 0.9)
    finally:
        go.set()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Ask again" in answer


def everything_of(sock: socket.socket, least: float) -> bytes:
    """An answer whose connection stays open, because the process of the gate ends after it."""
    time.sleep(least)
    return sock.recv(65536)


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_too_many_open_files_are_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither does the gate end, nor does it ask without a pause."""
    tries = []

    class Full:
        def accept(self) -> Any:
            tries.append(time.monotonic())
            raise OSError(errno.EMFILE, "Too many open files")

    key = selectors.SelectorKey(Full(), 0, 0, "launch")  # type: ignore[arg-type]
    monkeypatch.setattr(world.gate.selector, "select", lambda _seconds: [(key, 1)] if len(tries) < 5 else [])
    until(lambda: len(tries) == 5)
    monkeypatch.undo()
    assert tries[4] - tries[0] > 3 * program.PAUSE
    assert [line for line in world.said if "Too many open files" in line] == world.said[:1]
    assert world.ask("launch", "GET", "/_ping")[0] == 200


def test_thread_that_cannot_start_leaves_the_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fails)
    ours, theirs = socket.socketpair()
    world.gate.take(ours, "launch")
    monkeypatch.undo()
    assert theirs.recv(1) == b""
    assert world.gate.room.enter({"launch": 1}) == "", "nobody is in it"


def test_broken_file_of_runs_leaves_what_was_known(world: World) -> None:
    """One line says so, and the next good one counts."""
    path, good = world.folder / "runs.json", (world.folder / "runs.json").read_text()
    create = ("POST", f"{API}/containers/create", run_body())
    for bad in ("{", "[]", '{"locations": [{"name": "x"}], "before": []}'):
        path.write_text(bad)
        world.said.clear()
        assert [world.ask("launch", *create)[0] for _number in range(2)] == [201, 201]
        (line,) = world.said
        assert f"cannot use {path}, goes on with what they were" in line
        assert program.main(["gate", "--check", str(world.folder / "gate.json")]) == 1, "a play learns of it"
    path.write_text(good.replace("0123456789abcdef", "another"))
    assert world.ask("launch", *create)[0] == 403
    assert program.main(["gate", "--check", str(world.folder / "gate.json")]) == 0


def test_gate_starts_with_a_broken_file_of_runs(world: World) -> None:
    (world.folder / "runs.json").write_text("{")
    said: list[str] = []
    settings = program.Settings(str(world.folder / "gate.json"))
    settings.say = lambda _level, text: said.append(text)
    rules = settings.rules()
    assert (rules.locations, rules.label) == ((), "dataops.dagster.run"), "runs can be stopped, none is made"
    assert len(said) == 1


def test_list_that_is_too_long_is_refused(world: World) -> None:
    world.engine.listed = [{"Id": OWN, "Names": ["x" * 1000]}] * 3000
    status, told = world.ask("inspect", "GET", f"{API}/containers/json?all=1")
    assert (status, "Ask for fewer containers, with limit or a filter" in told["message"]) == (403, True)
    world.engine.listed = world.engine.listed[:100]
    assert world.ask("inspect", "GET", f"{API}/containers/json?all=1&limit=100")[0] == 200
    assert world.ask("inspect", "GET", f"{API}/containers/json?size=1")[0] == 403, "the engine would read all files"


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ready once it listens, alive in each turn, and with the sockets to keep."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        found = World(tmp_path)
        told, descriptors = [], []
        while "WATCHDOG=1" not in told:
            data, numbers, _flags, _address = socket.recv_fds(heard, 4096, 4)
            told.append(data.decode())
            descriptors += numbers
        found.end()
        for number in descriptors:
            os.close(number)
    names = [*ROLES, "steps-mapped"]
    assert len(descriptors) == len(names)
    assert [text for text in told if text.startswith("FDSTORE=1")] == [f"FDSTORE=1\nFDNAME={name}" for name in names]
    assert any(text.startswith("READY=1") for text in told)
