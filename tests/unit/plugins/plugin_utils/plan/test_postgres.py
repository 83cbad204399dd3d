"""Who may connect to PostgreSQL from where, and where it listens for them."""

from __future__ import annotations

import pytest
from plans import fact, groups, options

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import postgres


def test_database_on_a_host_of_its_own() -> None:
    found = groups(database=["b"])
    stack, database = fact("a", found), fact("b", found)
    addresses = [stack["options"][f"dagster_database_{kind}host"] for kind in ("", "run_", "code_")]
    assert addresses == ["10.0.0.2", "10.0.0.2", "10.0.0.2"]
    assert database["options"]["dagster_postgres_listen_addresses"] == ["10.0.0.2", "127.0.0.1"]
    assert database["options"]["dagster_postgres_clients"] == [
        {"address": "10.0.0.1/32", "users": ["dagster", "dagster_migration", "dagster_guard", "dagster_daemon_a"]},
        {"address": "10.0.0.1/32", "users": ["dagster_run"]},
    ]
    assert "code_location" not in database, "no code server is there"
    assert stack["options"]["dagster_code_endpoints"][0]["host"] == "127.0.0.1"


def test_host_that_is_known_by_name_only() -> None:
    """pg_hba.conf takes a name as it is, and refuses one with a /32 behind it."""
    found = options("a", groups(code=["c"]))
    assert {"address": "c.example.com", "users": ["dagster_run"]} in found["dagster_postgres_clients"]


def test_share_of_each_login() -> None:
    found = options("c", groups(database=["c"], daemon=["a", "b"]))
    assert found["dagster_postgres_max_connections"] == 250
    assert found["dagster_postgres_connection_limits"]["dagster_daemon_b"] == 16
    told = options(dagster_postgres_daemon_logins=["mine"])
    assert "mine" in told["dagster_postgres_connection_limits"]


def test_server_is_the_one_of_the_release() -> None:
    assert fact()["postgres"] == {"version": 15, "sysctl": "/etc/sysctl.d/60-dagster-postgres.conf"}
    assert fact()["packages"]["postgres"] == ["postgresql-15", "python3-psycopg2"]


@pytest.mark.parametrize(
    ("address", "source"),
    [("10.0.0.1", "10.0.0.1/32"), ("fd00::1", "fd00::1/128"), ("db.example.com", "db.example.com")],
)
def test_source_in_pg_hba(address: str, source: str) -> None:
    assert postgres.source(address) == source
