# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where the Docker gate listens: its sockets, and systemd, which keeps them through a restart (its FDSTORE)."""

from __future__ import annotations

import contextlib
import grp
import os
import socket
import struct
from typing import Any

LISTENING = 128
FIRST_DESCRIPTOR = 3  # of those that systemd hands over


def bound(where: Any, mode: int, group: str = "") -> socket.socket:
    """A new listening socket, with the mode and group of its file. Raises OSError."""
    if isinstance(where, tuple):
        family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(where)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o777 & ~mode)
        try:
            sock.bind(where)
        finally:
            os.umask(before)
        if group:
            os.chown(where, -1, grp.getgrnam(group).gr_gid)
    sock.listen(LISTENING)
    return sock


def folder(path: str, mode: int) -> None:
    """A folder of the gate's own. Raises OSError."""
    os.makedirs(path, exist_ok=True)
    os.chmod(path, mode)


def peer(sock: socket.socket) -> tuple[int, int]:
    """Process and user of a client on this host."""
    pid, uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid


def address_of(sock: socket.socket) -> str:
    """Where a client asks from."""
    try:
        return str(sock.getpeername()[0]) if sock.family != socket.AF_UNIX else "a process of this host"
    except OSError:
        return "a client that has gone"


def kept_sockets() -> dict[str, socket.socket]:
    """The sockets that systemd has kept through a restart, by name."""
    number = int(os.environ.get("LISTEN_FDS", "0")) if os.environ.get("LISTEN_PID") == str(os.getpid()) else 0
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    return {name: socket.socket(fileno=FIRST_DESCRIPTOR + at) for at, name in zip(range(number), names, strict=False)}


def still_at(kept: socket.socket | None, where: Any) -> socket.socket | None:
    """A kept socket, if clients reach it there; the address of another one is free from now on."""
    if kept is None or is_at(kept, where):
        return kept
    with contextlib.suppress(OSError):
        kept.shutdown(socket.SHUT_RDWR)  # systemd has it too: closing ours does not free the address
    kept.close()
    return None


def is_at(sock: socket.socket, where: Any) -> bool:
    """Whether a kept socket is still the one that clients reach."""
    found = sock.getsockname()
    return tuple(found[:2]) == where if isinstance(where, tuple) else found == where and os.path.exists(where)


def tell(state: str, descriptor: int | None = None) -> None:
    """Sends a state to systemd (sd_notify), with a descriptor to keep; nowhere when it did not start us."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        if descriptor is None:
            sock.send(state.encode())
        else:
            socket.send_fds(sock, [state.encode()], [descriptor])
