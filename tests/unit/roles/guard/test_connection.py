"""The guard's connection: its limits, and what it survives."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from guard_world import Refused, guard, lease


class Silent:
    """Stands for a connection whose server has accepted it and says nothing."""

    def __init__(self) -> None:
        self.ends = socket.socketpair()
        self.closed = False

    def fileno(self) -> int:
        return self.ends[0].fileno()

    def poll(self) -> int:
        return 1  # POLL_READ

    def close(self) -> None:
        self.closed = True


def test_no_call_outlasts_its_limit(database: Any) -> None:
    silent = Silent()
    before = guard.now()
    database.until = before + 0.2
    with pytest.raises(Refused, match="no answer in time"):
        database._wait(silent)
    assert 0.2 <= guard.now() - before < 2
    for end in silent.ends:
        end.close()


def test_what_a_connection_is_made_with(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server too gives up: a statement of a guard that is gone must not wait for a lock and then take the lease."""
    made: list[dict[str, Any]] = []

    def connect(**arguments: Any) -> SimpleNamespace:
        made.append(arguments)
        return SimpleNamespace(autocommit=False)

    monkeypatch.setattr(lease.psycopg2, "connect", connect, raising=False)
    monkeypatch.setattr(database, "_resolve", lambda host, _limit: f"address of {host}")
    database.until = guard.now() + 1
    assert database._connect().autocommit is True, "each call is a transaction of its own: take is over before fence"
    limit = int(1000 * guard.Timings().attempt)
    assert made == [
        {
            "host": "db.example",
            "hostaddr": "address of db.example",
            "port": 5432,
            "dbname": "dagster",
            "user": "g",
            "application_name": "dagster-guard",
            "options": f"-c statement_timeout={limit} -c lock_timeout={limit}",
        }
    ]
    database.where["host"] = "/run/postgresql"
    database._connect()
    assert "hostaddr" not in made[1], "a socket has no address"


class Answering:
    """Stands for a connection and its cursor."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    def cursor(self) -> Answering:
        return self

    def __enter__(self) -> Answering:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def execute(self, text: str, arguments: tuple[Any, ...]) -> None:
        self.asked.append((text, arguments))

    def fetchone(self) -> tuple[int, ...]:
        return (7,)


def test_each_call_has_its_limit_from_its_sending(database: Any) -> None:
    database.connection = Answering()
    for limit in (1.0, 3.0):
        before = guard.now()
        assert database.call("renew", "a", "boot", 5, limit=limit) == (7,)
        assert before + limit <= database.until <= guard.now() + limit
    query = "SELECT * FROM dagster_guard.renew(%s, %s, %s)"
    assert database.connection.asked == [(query, ("a", "boot", 5))] * 2


def test_psycopg_waits_with_our_limit(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise libpq waits, for as long as it likes."""
    made: list[Any] = []
    monkeypatch.setattr(lease.psycopg2.extensions, "set_wait_callback", made.append)
    fresh = lease.Lease(database.where, "g", 1)
    assert made == [fresh._wait]


def test_connection_that_failed_is_not_used_again(database: Any) -> None:
    silent = Silent()

    def cursor() -> None:
        raise Refused("gone")

    silent.cursor = cursor  # type: ignore[attr-defined]
    database.connection = silent
    with pytest.raises(Refused, match="gone"):
        database.call("look", limit=1)
    assert silent.closed
    assert database.connection is None
    for end in silent.ends:
        end.close()


def test_resolver_that_hangs(database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs its limit and no more, and the address that was found before is used."""
    program = tmp_path / "getent"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def getent(text: str) -> None:
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)

    getent("exec sleep 30")
    before = guard.now()
    with pytest.raises(Refused, match=r"the name db.example cannot be resolved"):
        database._resolve("db.example", 0.2)
    getent("echo 192.0.2.7 STREAM $2")
    assert database._resolve("db.example", 10) == "192.0.2.7"
    getent("exec sleep 30")
    assert database._resolve("db.example", 0.2) == "192.0.2.7"
    assert guard.now() - before < 15
