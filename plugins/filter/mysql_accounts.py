# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter that makes MariaDB's accounts of logins and of where they come from. The server gets no password by it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: mysql_accounts
short_description: Accounts of MariaDB for logins that come from several addresses
version_added: 0.2.0
author: dataops (@dataops)
description:
  - Returns an account for each login and each source from which it may connect. MariaDB knows a login by its name and
    the address from which it comes.
  - Passwords become what MariaDB stores of them (C(mysql_native_password)). The same password always gives the same
    text, so a play can see without a login whether the stored one is wanted.
positional: clients
options:
  _input:
    description: >-
      The logins with C(name), C(password), optionally C(role), which the login has from its first statement on, and
      C(fenced), with which others decide whether it may log in.
    type: list
    elements: dict
    required: true
  clients:
    description:
      - The sources with C(address), C(users), and optionally C(tls) and C(connections), as in C(dagster_mysql_clients).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: >-
      {{ [{'name': 'dagster_run', 'password': dagster_database_run_password, 'role': 'dagster_run'}]
         | dataops.dagster.mysql_accounts([{'address': '10.0.0.3', 'users': ['dagster_run'], 'tls': true}]) }}
"""

RETURN = r"""
_value:
  description: The accounts.
  type: list
  elements: dict
  sample: [{user: dagster_run, host: 10.0.0.3, hash: "*2470...", role: dagster_run, tls: 1, connections: 0, fenced: 0}]
"""

import hashlib
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def native_password(password: str) -> str:
    """What mysql_native_password stores: the SHA-1 of the SHA-1 (MariaDB's manual, PASSWORD())."""
    inner = hashlib.sha1(str(password).encode(), usedforsecurity=False).digest()
    return f"*{hashlib.sha1(inner, usedforsecurity=False).hexdigest().upper()}"


def host_of(address: str) -> str:
    """A source as the host of an account: a network has its mask behind it, an address or name stays as it is."""
    try:
        network = ipaddress.ip_network(address)
    except ValueError:
        return address.lower()
    if network.num_addresses == 1:
        return str(network.network_address)
    if network.version != 4:
        raise AnsibleFilterError(
            f"mysql_accounts: {address} is a network of IPv6, and MariaDB has accounts for IPv4 ones only"
        )
    return f"{network.network_address}/{network.netmask}"


def mysql_accounts(logins: Iterable[Mapping[str, Any]], clients: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The accounts of logins that clients have. Numbers instead of truth, as MariaDB reads both alike."""
    known = {str(login["name"]): login for login in logins}
    return [
        {
            "user": user,
            "host": host_of(str(client["address"])),
            "hash": native_password(known[user]["password"]),
            "role": str(known[user].get("role") or ""),
            "tls": int(bool(client.get("tls"))),
            # 0 would be as many as the server takes.
            "connections": max(int((client.get("connections") or {}).get(user, 0)), 1)
            if user in (client.get("connections") or {})
            else 0,
            "fenced": int(bool(known[user].get("fenced"))),
        }
        for client in clients
        for user in client["users"]
        if user in known
    ]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {"mysql_accounts": mysql_accounts}
