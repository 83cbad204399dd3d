# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The ledger as one of the databases of dialects."""

from __future__ import annotations

from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._database.client import Client

PRODUCT = "Ledger"
CREDENTIAL = "ledger.conf"
VARIABLES = {"host": "LEDGER_HOST", "user": "LEDGER_USER", "credential": "LEDGER_LOGIN"}


def environment(client: Client) -> dict[str, str]:
    """What a client needs to connect and to verify the server."""
    file = {"LEDGER_LOGIN": client.credential} if client.credential else {}
    return {"LEDGER_HOST": client.host, "LEDGER_USER": client.user, **file, "LEDGER_AUTHORITY": client.authority}


def parameters(client: Client) -> dict[str, Any]:  # noqa: ARG001 - its programs read the environment
    """Nothing beside it."""
    return {}


def login(password: str, user: str) -> str:
    """One login."""
    return f"{user} = {password}\n"
