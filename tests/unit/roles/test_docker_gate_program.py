"""The program of the Docker gate: clients beside each other, restarts of engine and gate, and what systemd is told."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gate_world import OWN, ROOT, World, program, request

API = "/v1.41"
ROLES = ("launch", "inspect")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    yield found
    found.end()


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
    waiting = first.connect("launch")
    waiting.sendall(request("GET", "/_ping"))
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
        answer = b""
        while data := waiting.recv(65536):
            answer += data
        assert answer.startswith(b"HTTP/1.1 200 ")
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
    monkeypatch.setattr(program, "kept_sockets", lambda: {"tls": kept})
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
    assert len(descriptors) == 2
    assert [text for text in told if text.startswith("FDSTORE=1")] == [f"FDSTORE=1\nFDNAME={role}" for role in ROLES]
    assert any(text.startswith("READY=1") for text in told)
