"""Filter mysql_accounts: what MariaDB is told of logins, and that no password is in it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dataops.dagster.plugins.filter.mysql_accounts import (
    FilterModule,
    host_of,
    mysql_accounts,
    native_password,
)

# Of MariaDB's own manual, and one that the server itself has made.
KNOWN = {
    "notagoodpwd": "*3A70EE9FC6594F88CE9E959CD51C5A1C002DC937",
    "password": "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19",
    "Geheim ä%#;\"x'y": "*8690F62492A7BDBAAC16EB3B16E3A29AE36841C0",
}


@pytest.mark.parametrize("password", KNOWN)
def test_known_passwords(password: str) -> None:
    assert native_password(password) == KNOWN[password]


@given(st.text(min_size=1))
def test_form(password: str) -> None:
    found = native_password(password.encode("utf-8", "replace").decode())
    assert len(found) == 41
    assert found == found.upper()


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("10.0.0.2", "10.0.0.2"),
        ("10.0.0.2/32", "10.0.0.2"),
        ("172.30.0.0/20", "172.30.0.0/255.255.240.0"),
        ("FD00::5", "fd00::5"),
        ("DB.Example.com", "db.example.com"),
    ],
)
def test_where_a_login_comes_from(address: str, host: str) -> None:
    assert host_of(address) == host


def test_network_that_mariadb_has_no_accounts_for() -> None:
    with pytest.raises(AnsibleFilterError, match="fd00::/64 is a network of IPv6"):
        host_of("fd00::/64")


def test_accounts() -> None:
    logins: list[dict[str, Any]] = [
        {"name": "run", "password": "secret", "role": "run"},
        {"name": "d", "password": "x", "fenced": True},
    ]
    clients: list[dict[str, Any]] = [
        {"address": "10.0.0.2", "users": ["run", "d", "nobody"], "tls": True, "connections": {"run": 7, "d": 0}},
        {"address": "127.0.0.1", "users": ["run"]},
    ]
    (filtered,) = FilterModule().filters().values()
    first, second, third = filtered(logins, clients)
    inner = hashlib.sha1(b"secret", usedforsecurity=False).digest()
    secret = f"*{hashlib.sha1(inner, usedforsecurity=False).hexdigest().upper()}"
    known = {"user": "run", "hash": secret, "role": "run", "fenced": 0}
    assert first == {**known, "host": "10.0.0.2", "tls": 1, "connections": 7}
    assert third == {**known, "host": "127.0.0.1", "tls": 0, "connections": 0}
    assert (second["fenced"], second["connections"], second["role"]) == (1, 1, ""), "0 would be any number"
    assert "secret" not in str(mysql_accounts(logins, clients)).replace("passwordsecret", "")
