# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""MariaDB as one of the databases of dialects."""

from __future__ import annotations

import re
import socket
from typing import Any
from urllib.parse import quote, urlencode

from ansible_collections.dataops.dagster.plugins.module_utils._addresses import host_port
from ansible_collections.dataops.dagster.plugins.module_utils._database import mysql_probe
from ansible_collections.dataops.dagster.plugins.module_utils._database.client import Client

PRODUCT = "MariaDB"
OLDEST = (10, 6)
CREDENTIAL = "mysql.cnf"
# One URL says it all: where the server is, and which part of which file holds login and password.
VARIABLES = {"credential": "DAGSTER_MYSQL_URL"}
ENVIRONMENT: tuple[str, ...] = ()
PROBE = mysql_probe


def login(password: str, user: str) -> str:
    """A part of an option file as the driver of Dagster reads it: to the end of the line, and without quotes."""
    return f"[{user}]\nuser={user}\npassword={password}\n"


def environment(client: Client) -> dict[str, str]:
    """The URL of dagster.yaml, which has no password; nothing without the file that has it."""
    if not client.credential:
        return {}
    options = {"option_files": client.credential, "option_groups": client.user}
    query = urlencode({**options, **{name: worded(value) for name, value in parameters(client).items()}}, safe="/")
    where = f"{host_port(client.host, client.port)}/{quote(client.database)}"
    return {VARIABLES["credential"]: f"mysql+mysqlconnector://{where}?{query}"}


def worded(value: Any) -> Any:
    """A parameter as it stands in a URL."""
    return str(value).lower() if isinstance(value, bool) else value


def parameters(client: Client) -> dict[str, Any]:
    """What makes the driver refuse a server without TLS, or with another certificate."""
    if not client.tls:
        return {}
    known = {"ssl_ca": client.authority} if client.authority else {}
    return {**known, "ssl_verify_cert": True, "ssl_verify_identity": True}


def refused(connection: socket.socket) -> str:
    """Why a server is of no use, empty for one of ours. It greets whoever connects with its version, or refuses it.

    Source: MariaDB's page on the connection phase. Three bytes of length, the number of the packet, then the version of
    the protocol, or 255 before an error.
    """
    greeting = connection.recv(512)
    if len(greeting) < 6 or greeting[3] or greeting[4] not in (10, 255):
        return f"answers, but not as a {PRODUCT} server"
    if greeting[4] == 255:
        return f"refuses this host: {greeting[7:].decode(errors='replace')}"
    said = greeting[5:].partition(b"\0")[0].decode(errors="replace")
    return version_problem(said.removeprefix("5.5.5-"), "MariaDB" in said)  # before 11, MariaDB says so for old clients


def version_problem(version: str, mariadb: bool) -> str:
    """A part of a sentence about a server that lacks what grants the logins their rights, or what makes the lease."""
    found = re.match(r"(\d+)\.(\d+)", version)
    if mariadb and found and (int(found[1]), int(found[2])) >= OLDEST:
        return ""
    product, least = "MariaDB" if mariadb else "MySQL", ".".join(map(str, OLDEST))
    return f"is {product} {version[:40]}; MariaDB {least} or newer is needed"
