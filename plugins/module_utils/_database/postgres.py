# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""PostgreSQL as one of the databases of dialects."""

from __future__ import annotations

import re
import socket
import struct

from ansible_collections.dataops.dagster.plugins.module_utils._database import postgres_probe

PRODUCT = "PostgreSQL"
CREDENTIAL = "pgpass"
VARIABLES = {"host": "DAGSTER_POSTGRES_HOST", "user": "DAGSTER_POSTGRES_USER", "credential": "PGPASSFILE"}
PROBE = postgres_probe


def login(password: str, user: str) -> str:
    """The line for one user on any server and database; libpq wants ':' and backslash escaped in each field."""
    fields = ("*", "*", "*", *(re.sub(r"([\\:])", r"\\\1", str(field)) for field in (user, password)))
    return ":".join(fields) + "\n"


def verified(authority: str) -> dict[str, str]:
    """libpq reads them where a connection says nothing else."""
    return {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": authority}


def answers(connection: socket.socket) -> bool:
    """Whether it is a server of ours: it answers the protocol's SSLRequest with S or N, which needs no login."""
    connection.sendall(struct.pack("!II", 8, 80877103))
    # One letter, then it waits for us. A server that speaks first (SSH) says more, and may begin with an S.
    return connection.recv(64) in (b"S", b"N")
