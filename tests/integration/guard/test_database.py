# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the database of the guard lets whom do."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from guard_rig import Cluster, password


def test_second_installation_changes_nothing(cluster: Cluster) -> None:
    assert cluster.install(["a", "b", "c"]) == []


def test_login_of_the_guard_that_was_dropped_by_hand(cluster: Cluster) -> None:
    """The version of the lease stays in the database. Made again, the login has no right at first."""
    cluster.query("DROP OWNED BY dagster_guard; DROP ROLE dagster_guard")
    cluster.install(["a", "b", "c"])
    look = "SELECT has_schema_privilege('dagster_guard', 'dagster_guard', 'USAGE')"
    assert cluster.query(look) == [(True,)]
    assert cluster.differs(["a", "b", "c"]) == ""
    assert cluster.install(["a", "b", "c"]) == []


def test_installation_notices_each_change(cluster: Cluster) -> None:
    cluster.query("ALTER ROLE dagster_guard_owner NOCREATEROLE")
    cluster.query("ALTER ROLE dagster_daemon_a PASSWORD 'other'")
    statements = cluster.install(["a", "b", "c"])
    assert len(statements) == 2, statements
    assert not re.search(r"dagster_daemon_a.* LOGIN", " ".join(statements)), "who may log in is the guard's business"
    for nobody in (None, ""):  # ansible-core 2.16 has no null among arguments
        cluster.lease(nobody)
        assert cluster.query("SELECT logins FROM dagster_guard.lease") == [(None,)]
        assert cluster.install(["a", "b", "c"]) != []


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("SELECT 1", ""),
        ("ALTER ROLE dagster_run NOLOGIN", "roles"),
        ("REVOKE CONNECT ON DATABASE dagster FROM dagster_app", "grants"),
        ("COMMENT ON SCHEMA dagster_guard IS 'another'", "lease"),
        # Without the login of the guard, nobody can be asked what it may.
        ("DROP OWNED BY dagster_guard; DROP ROLE dagster_guard", "roles"),
    ],
)
def test_one_query_finds_each_change(cluster: Cluster, statement: str, found: str) -> None:
    assert cluster.differs(["a", "b", "c"]) == ""
    cluster.query(statement)
    assert cluster.differs(["a", "b", "c"]) == found
    cluster.query("COMMENT ON SCHEMA dagster_guard IS 'another'")  # what its login may is granted again
    cluster.install(["a", "b", "c"])
    assert cluster.differs(["a", "b", "c"]) == ""


def test_login_that_is_shut_out_keeps_its_password(cluster: Cluster) -> None:
    """It would count as a new one, whose readers are restarted."""
    cluster.query("ALTER ROLE dagster NOLOGIN")
    assert cluster.install(["a", "b", "c"]) == ["ALTER ROLE dagster LOGIN"]
    cluster.query("ALTER ROLE dagster NOLOGIN PASSWORD 'another'")
    (statement,) = cluster.install(["a", "b", "c"])
    assert statement.startswith("ALTER ROLE dagster LOGIN PASSWORD 'SCRAM-SHA-256$")
    assert cluster.install(["a", "b", "c"]) == []


def test_owner_is_no_superuser(cluster: Cluster) -> None:
    assert cluster.query(
        "SELECT rolsuper, rolcreaterole, rolcanlogin FROM pg_roles WHERE rolname = 'dagster_guard_owner'"
    ) == [(False, True, False)]


def attempt(cluster: Cluster, login: str, statement: str = "SELECT 1") -> str:
    """The error of a statement as this login, empty when it worked."""
    try:
        with cluster.connect(host="127.0.0.1", user=login, password=password(login)) as connection:
            connection.execute(statement)
    except psycopg.Error as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM dagster_guard.lease",
        "UPDATE dagster_guard.lease SET epoch = 9",
        "SELECT dagster_guard.admit('dagster_daemon_b')",
        "SELECT * FROM dagster_guard.logins()",
        "SELECT * FROM work",
        "ALTER ROLE dagster_daemon_a LOGIN",
        "CREATE TABLE dagster_guard.x ()",
        "SET ROLE dagster_guard_owner",
    ],
)
def test_guards_login_may_only_execute(cluster: Cluster, statement: str) -> None:
    assert "permission denied" in attempt(cluster, "dagster_guard", statement)
    assert attempt(cluster, "dagster_guard", "SELECT * FROM dagster_guard.look()") == ""


@pytest.mark.usefixtures("free")
def test_other_logins_may_not_touch_the_lease(cluster: Cluster) -> None:
    for statement in ("SELECT * FROM dagster_guard.look()", "SELECT dagster_guard.take('a', '', NULL, 0, 0)"):
        assert "permission denied" in attempt(cluster, "dagster", statement)
    assert cluster.epoch() == 0


@pytest.mark.usefixtures("free")
def test_login_that_is_no_daemons_is_not_fenced(cluster: Cluster) -> None:
    refused = attempt(cluster, "dagster_guard", "SELECT dagster_guard.take('a', '', 'postgres', 0, 0)")
    assert "login postgres is not a member of role dagster_daemon" in refused
    assert cluster.epoch() == 0, "the whole transaction is undone"


@pytest.mark.usefixtures("free")
def test_compare_and_set(cluster: Cluster) -> None:
    def ask(call: str) -> Any:
        with cluster.connect(host="127.0.0.1", user="dagster_guard", password=password("dagster_guard")) as connection:
            row = connection.execute("SELECT * FROM dagster_guard." + call).fetchone()  # noqa: S608
            assert row is not None
            return row[0]

    assert ask("take('a', 'boot', 'dagster_daemon_a', 0, 1)") is False
    assert ask("take('a', 'boot', 'dagster_daemon_a', 0, 0)") is True
    assert ask("take('b', 'boot', 'dagster_daemon_b', 0, 0)") is False
    assert ask("renew('a', 'boot', 1)") is True
    assert ask("renew('a', 'another boot', 1)") is False
    assert ask("renew('b', 'boot', 1)") is False
    assert ask("fence(0)") is False
    assert attempt(cluster, "dagster_daemon_a") == ""
    assert "not permitted to log in" in attempt(cluster, "dagster_daemon_b")
    before = cluster.query("SELECT epoch, generation FROM dagster_guard.lease")
    ask("request('c')")
    assert cluster.query("SELECT epoch, generation FROM dagster_guard.lease") == before, "a dead holder looks dead"
    assert cluster.query("SELECT wanted FROM dagster_guard.lease") == [("c",)]
    assert ask("take('b', 'boot', 'dagster_daemon_b', 1, 2)") is True
    assert cluster.query("SELECT wanted FROM dagster_guard.lease") == [("",)], "a request is met or over"
    assert "not permitted to log in" in attempt(cluster, "dagster_daemon_a")
    assert ask("renew('a', 'boot', 1)") is False
    assert ask("release('a', 'boot', 1)") is False
    assert ask("release('b', 'boot', 2)") is True
    assert "not permitted to log in" in attempt(cluster, "dagster_daemon_b")


@contextlib.contextmanager
def daemon_and_run(cluster: Cluster) -> Iterator[tuple[Any, Any]]:
    """A session of daemon host a, which may log in, and one of a login that no fence is about."""
    cluster.query("ALTER ROLE dagster_daemon_a LOGIN")
    with (
        cluster.connect(host="127.0.0.1", user="dagster_daemon_a", password=password("dagster_daemon_a")) as daemon,
        cluster.connect(host="127.0.0.1", user="dagster", password=password("dagster")) as run,
    ):
        yield daemon, run


@pytest.mark.usefixtures("free")
def test_fence_ends_sessions(cluster: Cluster) -> None:
    with daemon_and_run(cluster) as (old, run):
        assert attempt(cluster, "dagster_guard", "SELECT dagster_guard.take('b', '', 'dagster_daemon_b', 0, 0)") == ""
        assert old.execute("SELECT 1").fetchone() == (1,), "the control: shutting a login out ends no session"
        assert attempt(cluster, "dagster_guard", "SELECT dagster_guard.fence(1)") == ""
        time.sleep(0.5)
        with pytest.raises(psycopg.OperationalError):
            old.execute("SELECT 1")
        assert run.execute("SELECT 1").fetchone() == (1,), "runs and webservers are not fenced"


@pytest.mark.usefixtures("free")
def test_renewal_ends_sessions_of_logins_that_are_shut_out(cluster: Cluster) -> None:
    """One may have been half-way in at the fence. The holder's own sessions go on."""
    with daemon_and_run(cluster) as (late, run):
        assert attempt(cluster, "dagster_guard", "SELECT dagster_guard.take('b', '', 'dagster_daemon_b', 0, 0)") == ""
        with cluster.connect(
            host="127.0.0.1", user="dagster_daemon_b", password=password("dagster_daemon_b")
        ) as holders:
            assert late.execute("SELECT 1").fetchone() == (1,), "the control: it is in"
            assert attempt(cluster, "dagster_guard", "SELECT dagster_guard.renew('b', '', 1)") == ""
            time.sleep(0.5)
            with pytest.raises(psycopg.OperationalError):
                late.execute("SELECT 1")
            assert holders.execute("SELECT 1").fetchone() == (1,)
        assert run.execute("SELECT 1").fetchone() == (1,), "runs and webservers are not fenced"


@pytest.mark.usefixtures("free")
def test_nobody_takes_the_lease_during_a_fence(cluster: Cluster) -> None:
    """Or a slow fence would end the sessions of the next holder's daemon."""
    take = "SET lock_timeout = 500; SELECT dagster_guard.take('b', '', 'dagster_daemon_b', 1, 1)"
    assert attempt(cluster, "dagster_guard", "SELECT dagster_guard.take('a', '', 'dagster_daemon_a', 0, 0)") == ""
    with cluster.connect(
        host="127.0.0.1", user="dagster_guard", password=password("dagster_guard"), autocommit=False
    ) as fence:
        assert fence.execute("SELECT dagster_guard.fence(1)").fetchone() == (True,)
        assert "lock timeout" in attempt(cluster, "dagster_guard", take)
        fence.rollback()
    assert attempt(cluster, "dagster_guard", take) == "", "the control"
    assert cluster.holder() == "b"
