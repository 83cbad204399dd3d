# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""PostgreSQL as one of the databases of dialects."""

from __future__ import annotations

import re
import socket
import struct
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._addresses import in_brackets
from ansible_collections.dataops.dagster.plugins.module_utils._database import postgres_probe
from ansible_collections.dataops.dagster.plugins.module_utils._database.client import Client

PRODUCT = "PostgreSQL"
CREDENTIAL = "pgpass"
VARIABLES = {"host": "DAGSTER_POSTGRES_HOST", "user": "DAGSTER_POSTGRES_USER", "credential": "PGPASSFILE"}
ENVIRONMENT = ("PG",)
PROBE = postgres_probe


def login(password: str, user: str) -> str:
    """The line for one user on any server and database; libpq wants ':' and backslash escaped in each field."""
    fields = ("*", "*", "*", *(re.sub(r"([\\:])", r"\\\1", str(field)) for field in (user, password)))
    return ":".join(fields) + "\n"


def environment(client: Client) -> dict[str, str]:
    """What Dagster's section of dagster.yaml names, and what libpq reads where a connection says nothing else.

    Dagster makes a URL of the address, in which IPv6 has brackets.
    """
    known = {"DAGSTER_POSTGRES_HOST": in_brackets(client.host), "DAGSTER_POSTGRES_USER": client.user}
    file = {"PGPASSFILE": client.credential} if client.credential else {}
    return {**known, **file, **({"PGSSLMODE": "verify-full", "PGSSLROOTCERT": client.authority} if client.tls else {})}


def parameters(client: Client) -> dict[str, Any]:  # noqa: ARG001 - libpq reads the environment
    """What a program beside Dagster gives to the driver for the same."""
    return {}


def refused(connection: socket.socket) -> str:
    """Why a server is of no use, empty for one of ours: it answers SSLRequest with S or N, which needs no login."""
    connection.sendall(struct.pack("!II", 8, 80877103))
    # One letter, then it waits for us. A server that speaks first (SSH) says more, and may begin with an S.
    return "" if connection.recv(64) in (b"S", b"N") else f"answers, but not as a {PRODUCT} server"
