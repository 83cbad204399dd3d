"""The daemon's hosts: logins of their own, and timings with which only one of them runs it."""

from __future__ import annotations

from typing import Any

import pytest
from plans import component, groups, options


def test_two_daemon_hosts() -> None:
    found = groups(database=["c"], daemon=["a", "b"])
    first, second, database = (options(host, found) for host in "abc")
    assert (first["dagster_daemon_login"], second["dagster_daemon_login"]) == ("dagster_daemon_a", "dagster_daemon_b")
    assert "dagster_daemon_login" not in database
    assert database["dagster_postgres_daemon_logins"] == ["dagster_daemon_a", "dagster_daemon_b"]
    users = {client["address"]: client["users"] for client in database["dagster_postgres_clients"][:2]}
    assert users["10.0.0.1/32"][2:] == ["dagster_guard", "dagster_daemon_a"]
    assert users["10.0.0.2/32"][2:] == ["dagster_guard", "dagster_daemon_b"], "each only from its own host"
    assert not first["dagster_database_external"]


def test_daemon_that_is_not_fenced() -> None:
    found = groups(database=["b"])
    daemon, database = (options(host, found, dagster_daemon_fencing="lease_only") for host in "ab")
    assert (daemon["dagster_daemon_login"], database["dagster_postgres_daemon_logins"]) == ("", [])
    assert database["dagster_postgres_clients"][0]["users"] == ["dagster", "dagster_migration", "dagster_guard"]


@pytest.mark.parametrize(
    ("daemons", "changes", "external", "words"),
    [
        (["a", "b"], {}, "", []),
        (["a", "b"], {"dagster_daemon_fencing": "lease_only"}, "db.example.com", []),
        (["a"], {}, "db.example.com", ["dagster_daemon_fencing is full, but at db.example.com"]),
        (["ctl-1", "ctl_1"], {}, "", ["ctl-1 and ctl_1 of group dagster_daemon would both have"]),
        (["ctl-1", "ctl_1"], {"dagster_daemon_fencing": "lease_only"}, "", []),
        (["a"], {"dagster_daemon_lease_ttl": 11}, "", ["dagster_daemon_lease_ttl is 11; it is at least 12"]),
        (["a"], {"dagster_daemon_watchdog": 11}, "", ["dagster_daemon_lease_ttl is 15; it is at least 16"]),
        (["a"], {"dagster_daemon_watchdog": 3}, "", ["dagster_daemon_watchdog is 3; with"]),
        (["a"], {"dagster_daemon_lease_deadline": 5}, "", ["dagster_daemon_lease_deadline is 5; with"]),
        (["a"], {"dagster_daemon_lease_renew": 0}, "", ["dagster_daemon_lease_renew is 0"]),
        (["a"], {"dagster_daemon_heartbeat_timeout": "59"}, "", ["dagster_daemon_heartbeat_timeout is 59"]),
    ],
)
def test_daemon(daemons: list[str], changes: dict[str, Any], external: str, words: list[str]) -> None:
    hosts = groups(daemon=daemons, database=[] if external else ["a"])
    variables = {**changes, **({"dagster_database_host": external} if external else {})}
    for host in {"a", *daemons}:
        problems = component("daemon", host, hosts, **variables).deployment_problems()
        assert len(problems) == len(words), problems
        assert all(word in problem for word, problem in zip(words, problems, strict=True)), problems
