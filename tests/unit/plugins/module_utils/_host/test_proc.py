"""Who listens on a host, of the kernel's own texts."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils._host import proc

TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   110        0 4711 1 0 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
   2: 0100007F:1538 0100007F:A001 01 00000000:00000000 00:00000000 00000000   110        0 4713 1 0 100 0 0 10 0
"""
TCP6 = """  sl  local_address                         remote_address                        st ...
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 1 1 0 100 0 0 10 0
   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 2 1 0 100 0 0 10 0
   2: 0000000000000000FFFF00000100007F:0051 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 3 1 0 100 0 0 10 0
"""


@pytest.mark.skipif(struct.pack("=I", 1) != struct.pack("<I", 1), reason="the text is of a little-endian kernel")
def test_listeners() -> None:
    assert list(proc.listening(TCP, socket.AF_INET)) == [(5432, "127.0.0.1", "4711"), (22, "0.0.0.0", "4712")]
    assert list(proc.listening(TCP6, socket.AF_INET6)) == [
        (8080, "::", "1"),
        (80, "::1", "2"),
        (81, "127.0.0.1", "3"),
    ]


def test_a_real_listener_and_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        (found,) = [entry for entry in proc.listeners() if entry.port == server.getsockname()[1]]
        owner = proc.socket_owners({found.inode})[found.inode]
    assert (found.address, owner.pid) == ("127.0.0.1", str(os.getpid()))


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/nginx.service\n", "nginx.service"),
        ("0::/system.slice/system-dagster.slice/dagster-webserver@3000.service\n", "dagster-webserver@3000.service"),
        ("0::/system.slice/postgresql@15-main.service/inner\n", "postgresql@15-main.service"),
        ("12:pids:/x\n1:name=systemd:/system.slice/ssh.service\n0::/\n", "ssh.service"),
        ("0::/system.slice/docker-0a.scope\n", "docker-0a.scope"),
        ("0::/user.slice/user-0.slice/session-1.scope\n", "session-1.scope"),
        ("0::/\n", ""),
        ("", ""),
    ],
)
def test_unit_of_a_process(cgroup: str, unit: str) -> None:
    assert proc.unit_of(cgroup) == unit


def test_who_listens_at_a_path(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        assert proc.listening_at(path) == set(), "not yet"
        server.listen()
        client.connect(path)
        (inode,) = proc.listening_at(path)
        assert {owner.pid for _inode, owner in proc.holders({inode})} == {str(os.getpid())}
        assert proc.listening_at(str(tmp_path / "other")) == set()
