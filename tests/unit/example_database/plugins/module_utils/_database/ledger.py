# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The ledger as one of the databases of dialects."""

from __future__ import annotations

PRODUCT = "Ledger"
CREDENTIAL = "ledger.conf"
VARIABLES = {"host": "LEDGER_HOST", "user": "LEDGER_USER", "credential": "LEDGER_LOGIN"}


def verified(authority: str) -> dict[str, str]:
    """What a client needs to verify the server."""
    return {"LEDGER_AUTHORITY": authority}


def login(password: str, user: str) -> str:
    """One login."""
    return f"{user} = {password}\n"
