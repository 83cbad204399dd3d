# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What /proc says of this host: who listens on which port or at which path."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple


class Listener(NamedTuple):
    """A TCP port in LISTEN state."""

    port: int
    address: str
    inode: str


class Owner(NamedTuple):
    """The process that holds a socket, and its systemd unit."""

    pid: str
    process: str
    unit: str


NOBODY = Owner("", "", "")
# __SO_ACCEPTCON, a flag of /proc/net/unix: the socket listens.
ACCEPTS = 0x10000


def listening(text: str, family: int) -> Iterator[Listener]:
    """Each LISTEN line of /proc/net/tcp or tcp6; a mapped IPv4 address as such."""
    for line in text.splitlines()[1:]:
        fields = line.split()
        if fields[3] != "0A":
            continue
        address, port = fields[1].split(":")
        words = [int(address[i : i + 8], 16) for i in range(0, len(address), 8)]
        text_form = socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words))
        yield Listener(int(port, 16), text_form.removeprefix("::ffff:"), fields[9])


def listeners() -> list[Listener]:
    """Who listens on this host."""
    found = list(listening(read("/proc/net/tcp"), socket.AF_INET))
    ipv6 = read("/proc/net/tcp6")
    return found + list(listening(ipv6, socket.AF_INET6)) if ipv6 else found


def listening_at(path: str) -> set[str]:
    """The socket inodes of those who listen at a path, of /proc/net/unix."""
    wanted = os.path.realpath(path)
    lines = (line.split(maxsplit=7) for line in read("/proc/net/unix").splitlines()[1:])
    return {
        fields[6]
        for fields in lines
        if len(fields) == 8 and int(fields[3], 16) & ACCEPTS and os.path.realpath(fields[7]) == wanted
    }


def holders(inodes: set[str]) -> Iterator[tuple[str, Owner]]:
    """Each socket inode with each process that has it, where this user may look."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for inode in inodes.intersection(link[8:-1] for link in open_files(pid) if link.startswith("socket:[")):
            yield inode, Owner(pid, read(f"/proc/{pid}/comm").strip(), unit_of(read(f"/proc/{pid}/cgroup")))


def socket_owners(inodes: set[str]) -> dict[str, Owner]:
    """Who is behind each socket inode; of several processes the last one."""
    return dict(holders(inodes))


def open_files(pid: str) -> Iterator[str]:
    """What the file descriptors of a process are links to."""
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # ended meanwhile, or not ours to read
        return
    for number in numbers:
        # A busy server closes one between the two calls; its others still count.
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/{pid}/fd/{number}")


def unit_of(cgroup: str) -> str:
    """The systemd unit that a /proc/PID/cgroup text names, empty when there is none."""
    for line in cgroup.splitlines():
        for part in reversed(line.split(":", 2)[2].split("/")):
            if part.endswith((".service", ".scope")):
                return part
    return ""


def read(path: str) -> str:
    """The text of a file, empty when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""
