# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What our programs on a host have to say to systemd, and what they get from it."""

from __future__ import annotations

import os
import socket


def tell(state: str) -> None:
    """Sends a state to systemd (sd_notify), nowhere when it did not start us."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), address)


def copied(path: str) -> str:
    """The path of a private copy of a credential.

    A client of the database may refuse a file with the group bits that systemd gives a credential on some file systems.
    The copy is in memory only, is reached through this process by its own user, and ends with it. The process may
    become another program (exec) and keeps it.
    """
    with open(path, "rb") as stream:
        secret = stream.read()
    descriptor = os.memfd_create(os.path.basename(path), 0)
    os.set_inheritable(descriptor, True)
    os.fchmod(descriptor, 0o600)
    os.write(descriptor, secret)
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def credentials() -> dict[str, str]:
    """The variables of the environment that name a credential of the unit, each with a private copy in its place.

    NAME=%d/FILE, or as a part of it: a URL may have the path among its parameters.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    files = sorted(os.listdir(folder), key=len, reverse=True) if folder and os.path.isdir(folder) else []
    found = {}
    for name, value in os.environ.items():
        path = next((f"{folder}/{file}" for file in files if f"{folder}/{file}" in value), "")
        if path:
            found[name] = value.replace(path, copied(path))
    return found


def passfile() -> str:
    """A private copy of the unit's first credential, empty without one.

    For the programs of version 0.1: while an upgrade is on its way, one of them may be started with this file.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    found = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return copied(os.path.join(folder, found[0])) if found else ""
