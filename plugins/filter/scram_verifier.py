# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter that makes PostgreSQL's stored form of a password, so that the password itself never travels to the server."""

from __future__ import annotations

DOCUMENTATION = r"""
name: scram_verifier
short_description: PostgreSQL's stored form of a password
version_added: 0.1.0
author: dataops (@dataops)
description:
  - Gives the SCRAM-SHA-256 verifier (RFC 5803) that PostgreSQL keeps in C(pg_authid.rolpassword).
  - The salt is derived from user and password, so the same input always gives the same text, and a play can see without
    a login whether the stored password is the wanted one.
positional: user
options:
  _input: {description: The password., type: str, required: true}
  user: {description: The role's name., type: str, required: true}
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ dagster_database_password | dataops.dagster.scram_verifier('dagster') }}"
"""

RETURN = r"""
_value:
  description: The verifier.
  type: str
  sample: SCRAM-SHA-256$4096:c2FsdA==$stored:server
"""

import base64
import hashlib
import hmac
from collections.abc import Callable

ITERATIONS = 4096  # PostgreSQL's own


def scram_verifier(password: str, user: str) -> str:
    """The verifier of a password for a role. Source: RFC 5802, RFC 5803, PostgreSQL's scram-common.c."""
    secret = str(password).encode()
    salt = hmac.digest(secret, b"dataops.dagster:" + str(user).encode(), "sha256")[:16]
    salted = hashlib.pbkdf2_hmac("sha256", secret, salt, ITERATIONS)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")

    def text(raw: bytes) -> str:
        return base64.b64encode(raw).decode()

    return f"SCRAM-SHA-256${ITERATIONS}:{text(salt)}${text(stored_key)}:{text(server_key)}"


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """The filters of this file by name."""
        return {"scram_verifier": scram_verifier}
