# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""libpq's password file, in which a password is neither in the environment nor on a command line."""

from __future__ import annotations

import re


def pgpass(password: str, user: str) -> str:
    """The line for one user on any server and database; libpq wants ':' and backslash escaped in each field."""
    fields = ("*", "*", "*", *(re.sub(r"([\\:])", r"\\\1", str(field)) for field in (user, password)))
    return ":".join(fields) + "\n"
