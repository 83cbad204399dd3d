# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter that makes PostgreSQL's stored form of a password, so that the password itself never travels to the server."""

from __future__ import annotations

DOCUMENTATION = r"""
name: scram_verifier
short_description: PostgreSQL's stored form of a password
version_added: 0.1.0
author: dataops (@dataops)
description:
  - Returns the SCRAM-SHA-256 verifier (RFC 5803) that PostgreSQL keeps in C(pg_authid.rolpassword).
  - SASLprep (RFC 4013) prepares the password, as in server and clients, so that letters beyond ASCII work too.
  - The salt is computed from user and password, so the same input always gives the same text. A play can see without
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
import stringprep
import unicodedata
from collections.abc import Callable

ITERATIONS = 4096  # PostgreSQL's own


# What SASLprep refuses (RFC 4013, 2.3); PostgreSQL then takes the password as it is.
PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,
)


def saslprep(text: str) -> str:
    """A password as server and clients prepare it. Source: RFC 4013 and PostgreSQL's pg_saslprep."""
    if text.isascii():
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in text if not stringprep.in_table_b1(char)
    )
    # With the Unicode of this Python, as PostgreSQL does with its own; RFC 4013 means 3.2.
    prepared = unicodedata.normalize("NFKC", mapped)
    if not prepared or any(refuses(char) for char in prepared for refuses in PROHIBITED):
        return text
    if any(map(stringprep.in_table_d1, prepared)):  # right-to-left text: nothing else, from end to end
        ends = stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1])
        if not ends or any(map(stringprep.in_table_d2, prepared)):
            return text
    return prepared


def scram_verifier(password: str, user: str) -> str:
    """The verifier of a password for a role. Source: RFC 5802, RFC 5803, PostgreSQL's scram-common.c."""
    secret = saslprep(str(password)).encode()
    salt = hmac.digest(str(password).encode(), b"dataops.dagster:" + str(user).encode(), "sha256")[:16]
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
