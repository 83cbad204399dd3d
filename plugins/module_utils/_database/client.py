# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who connects to the database of Dagster, and how: the same for each dialect, which makes an environment of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Client:
    """A process of Dagster as a client of the database. It is told all of this in its environment, but no password."""

    host: str  # of the server; IPv6 without brackets
    port: int
    database: str
    user: str
    credential: str = ""  # path of the file with its password, empty where that is not known yet
    tls: bool = False  # whether the dialect is to see to it that it connects with TLS alone, and verifies the server
    authority: str = ""  # path of the certificate by which it does; empty for the authorities of its system
