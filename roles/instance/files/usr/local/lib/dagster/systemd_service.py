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


def passfile() -> str:
    """The password file of this service for libpq, from the unit's credential pgpass; else what PGPASSFILE says.

    libpq refuses a file with the group bits that systemd gives a credential on some file systems, so this is a copy. It
    is in memory only, is reached through this process by its own user, and ends with it. The process may become another
    program (exec) and keeps it.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    path = os.path.join(folder, "pgpass")
    if not folder or not os.path.exists(path):
        return os.environ.get("PGPASSFILE", "")
    with open(path, "rb") as stream:
        secret = stream.read()
    descriptor = os.memfd_create("pgpass", 0)
    os.set_inheritable(descriptor, True)
    os.fchmod(descriptor, 0o600)
    os.write(descriptor, secret)
    return f"/proc/{os.getpid()}/fd/{descriptor}"
