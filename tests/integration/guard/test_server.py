# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""PostgreSQL servers that Dagster does not bear, and poolers in front of any: one sentence, and nothing is changed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fence_rig import MIGRATION, Site
from guard_postgres import Cluster

from ansible_collections.dataops.dagster.plugins.module_utils._database import mysql_probe, postgres_probe

DATABASE = "site"


@pytest.fixture(scope="module")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Before the first migration. The database is the owner's, as role postgres makes it."""
    return Site(cluster, tmp_path_factory.mktemp("site"), DATABASE)


def problems(site: Site, **more: Any) -> list[str]:
    found: list[str] = site.ask(**{"lease": None, "fence": None, "rights": None, **more})["problems"]
    return found


@contextlib.contextmanager
def standby(cluster: Cluster) -> Iterator[None]:
    """The server as one that follows a primary."""
    signal = cluster.folder / "data/standby.signal"
    cluster.stop()
    signal.touch()
    cluster.start()
    try:
        yield
    finally:
        cluster.stop()
        signal.unlink()
        cluster.start()


def setting(name: str, value: str) -> Callable[[Cluster], contextlib.AbstractContextManager[None]]:
    @contextlib.contextmanager
    def of_database(cluster: Cluster) -> Iterator[None]:
        cluster.query(f"ALTER DATABASE {DATABASE} SET {name} = '{value}'", "postgres")
        try:
            yield
        finally:
            cluster.query(f"ALTER DATABASE {DATABASE} RESET {name}", "postgres")
            cluster.query(f"ALTER DATABASE {DATABASE} SET timezone = 'UTC'", "postgres")

    return of_database


SERVERS: dict[str, tuple[Callable[[Cluster], contextlib.AbstractContextManager[None]], str]] = {
    "time zone": (
        setting("timezone", "Europe/Berlin"),
        "the time zone of the server is Europe/Berlin; Dagster needs UTC",
    ),
    "read-only": (
        setting("default_transaction_read_only", "on"),
        "transactions are read-only (default_transaction_read_only is on); Dagster writes",
    ),
    "standby": (standby, "the server is a standby, which refuses every write; name the primary"),
    "search path": (
        setting("search_path", "nowhere"),
        f"the search_path of user {MIGRATION} is nowhere, and no such schema is there",
    ),
}


def test_good_server(site: Site) -> None:
    assert problems(site) == []
    (wrong,) = problems(site, logins=[{"user": MIGRATION, "password": "wrong-5d", "migration": True}])
    assert wrong.startswith(f"user {MIGRATION} cannot connect: ")
    assert "wrong-5d" not in wrong


@pytest.mark.parametrize("name", SERVERS)
def test_settings_that_dagster_does_not_bear(site: Site, name: str) -> None:
    change, said = SERVERS[name]
    with change(site.cluster):
        assert problems(site) == [said]
    assert problems(site) == []


def test_encoding_and_rights_of_a_database(site: Site) -> None:
    site.cluster.query("CREATE DATABASE other ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0", "postgres")
    try:
        site.cluster.query("ALTER DATABASE other SET timezone = 'UTC'", "postgres")
        # Since PostgreSQL 15 only the owner may make tables in schema public.
        site.cluster.query("REVOKE CREATE ON SCHEMA public FROM PUBLIC", "other")
        assert problems(site, database="other") == [
            "the encoding of the database is LATIN1; UTF8 is needed",
            f"user {MIGRATION} may not create tables in schema public",
        ]
    finally:
        site.cluster.query("DROP DATABASE other", "postgres")


class Sessions:
    """Stands in for a driver: each question is answered by the next of these sessions of the server."""

    def __init__(self, *sessions: int) -> None:
        self.sessions = iter(sessions)

    def __getattr__(self, _name: str) -> Callable[..., Sessions]:
        return lambda *_arguments: self

    def fetchall(self) -> list[tuple[int]]:
        return [(next(self.sessions),)]


# Asked are the one that looks, another client, and the first again.
@pytest.mark.parametrize(
    ("sessions", "shared"),
    [
        ((7, 8, 7), False),
        ((7, 7, 8), True),  # the pooler gave the session of the first to the second
        ((7, 8, 9), True),
        ((7, 7, 7), True),
    ],
)
@pytest.mark.parametrize("probe", [postgres_probe, mysql_probe])
def test_pooler_that_shares_sessions(probe: Any, sessions: tuple[int, ...], shared: bool) -> None:
    session = probe.Session.__new__(probe.Session)
    server = Sessions(*sessions)
    session.user, session.failure, session.connection = "dagster", OSError, server
    session.connect = lambda: server
    session.rows = lambda _query: server.fetchall()
    found = session.pooler_problems()
    assert bool(found) is shared
    assert all("; set pool_mode" in said or "; switch that off" in said for said in found)
