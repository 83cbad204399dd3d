# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the database of the guard lets whom do. What is only MariaDB's is in test_mariadb.py."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pymysql
import pytest
from guard_postgres import Cluster
from guard_rig import HOSTS, ON_BOTH

FAILURES = (psycopg.Error, pymysql.err.MySQLError)


@ON_BOTH
def test_second_installation_changes_nothing(cluster: Any) -> None:
    assert cluster.install(HOSTS) == []


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
    statements = cluster.install(HOSTS)
    assert len(statements) == 2, statements
    assert not re.search(r"dagster_daemon_a.* LOGIN", " ".join(statements)), "who may log in is the guard's business"
    for nobody in (None, ""):  # ansible-core 2.16 has no null among arguments
        cluster.lease(nobody)
        assert cluster.query("SELECT logins FROM dagster_guard.lease") == [(None,)]
        assert cluster.install(HOSTS) != []


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
    assert cluster.differs(HOSTS) == ""
    cluster.query(statement)
    assert cluster.differs(HOSTS) == found
    cluster.query("COMMENT ON SCHEMA dagster_guard IS 'another'")  # what its login may is granted again
    cluster.install(HOSTS)
    assert cluster.differs(HOSTS) == ""


def test_login_that_is_shut_out_keeps_its_password(cluster: Cluster) -> None:
    """It would count as a new one, whose readers are restarted."""
    cluster.query("ALTER ROLE dagster NOLOGIN")
    assert cluster.install(HOSTS) == ["ALTER ROLE dagster LOGIN"]
    cluster.query("ALTER ROLE dagster NOLOGIN PASSWORD 'another'")
    (statement,) = cluster.install(HOSTS)
    assert statement.startswith("ALTER ROLE dagster LOGIN PASSWORD 'SCRAM-SHA-256$")
    assert cluster.install(HOSTS) == []


def test_owner_is_no_superuser(cluster: Cluster) -> None:
    assert cluster.query(
        "SELECT rolsuper, rolcreaterole, rolcanlogin FROM pg_roles WHERE rolname = 'dagster_guard_owner'"
    ) == [(False, True, False)]


DENIED = {
    "postgres": [
        "SELECT * FROM dagster_guard.lease",
        "UPDATE dagster_guard.lease SET epoch = 9",
        "SELECT dagster_guard.admit('dagster_daemon_b')",
        "SELECT * FROM dagster_guard.logins()",
        "SELECT * FROM work",
        "ALTER ROLE dagster_daemon_a LOGIN",
        "CREATE TABLE dagster_guard.x ()",
        "SET ROLE dagster_guard_owner",
    ],
    "mariadb": [
        "SELECT * FROM dagster_guard_lease",
        "UPDATE dagster_guard_lease SET epoch = 9",
        "CALL dagster_guard_settle(0)",
        "CALL dagster_guard_expel(0, @number)",
        "SELECT * FROM work",
        "SELECT * FROM mysql.global_priv",
        "ALTER USER dagster_daemon_a@'127.0.0.1' ACCOUNT UNLOCK",
        "CREATE TABLE x (number INT)",
        "CREATE TEMPORARY TABLE x (number INT)",
        "SET ROLE dagster_guard_owner",
    ],
}


@pytest.mark.parametrize(
    ("cluster", "statement"),
    [(kind, statement) for kind, statements in DENIED.items() for statement in statements],
    indirect=["cluster"],
    scope="session",
)
def test_guards_login_may_only_execute(cluster: Any, statement: str) -> None:
    assert re.search(cluster.denied, cluster.attempt("dagster_guard", statement))
    assert cluster.ask("look") == cluster.epoch(), "the control"


@ON_BOTH
@pytest.mark.usefixtures("free")
def test_other_logins_may_not_touch_the_lease(cluster: Any) -> None:
    for call in (("look",), ("take", "a", "", None, 0, 0)):
        with pytest.raises(FAILURES, match=cluster.denied):
            cluster.ask(*call, login="dagster")
    assert cluster.epoch() == 0


@ON_BOTH
@pytest.mark.usefixtures("free")
def test_login_that_is_no_daemons_is_not_fenced(cluster: Any) -> None:
    for login in ("postgres", "root", "dagster"):
        said = f"login {login} is (not a member of role dagster_daemon|none of the daemons' logins)"
        with pytest.raises(FAILURES, match=said):
            cluster.ask("take", "a", "", login, 0, 0)
    assert cluster.epoch() == 0, "nothing was done"


@ON_BOTH
@pytest.mark.usefixtures("free")
def test_compare_and_set(cluster: Any) -> None:
    ask = cluster.ask
    assert not ask("take", "a", "boot", "dagster_daemon_a", 0, 1)
    assert ask("take", "a", "boot", "dagster_daemon_a", 0, 0)
    assert ask("fence", 1)
    assert not ask("take", "b", "boot", "dagster_daemon_b", 0, 0)
    assert ask("renew", "a", "boot", 1)
    assert not ask("renew", "a", "another boot", 1)
    assert not ask("renew", "b", "boot", 1)
    assert not ask("fence", 0)
    assert cluster.attempt("dagster_daemon_a") == ""
    assert cluster.refusal in cluster.attempt("dagster_daemon_b")
    before = cluster.row("epoch", "generation")
    ask("request", "c")
    assert cluster.row("epoch", "generation") == before, "a dead holder looks dead"
    assert cluster.row("wanted") == ("c",)
    assert ask("take", "b", "boot", "dagster_daemon_b", 1, 2)
    assert cluster.row("wanted") == ("",), "a request is met or over"
    assert cluster.refusal in cluster.attempt("dagster_daemon_a")
    assert ask("fence", 2)
    assert cluster.attempt("dagster_daemon_b") == ""
    assert not ask("renew", "a", "boot", 1)
    assert not ask("release", "a", "boot", 1)
    assert ask("release", "b", "boot", 2)
    assert cluster.refusal in cluster.attempt("dagster_daemon_b")


@contextlib.contextmanager
def daemon_and_run(cluster: Any) -> Iterator[tuple[Any, Any]]:
    """A session of daemon host a, which may log in, and one of a login that no fence is about."""
    cluster.let_in("a")
    with (
        contextlib.closing(cluster.session("dagster_daemon_a")) as daemon,
        contextlib.closing(cluster.session("dagster")) as run,
    ):
        yield daemon, run


@ON_BOTH
@pytest.mark.usefixtures("free")
def test_fence_ends_sessions(cluster: Any) -> None:
    with daemon_and_run(cluster) as (old, run):
        assert cluster.ask("take", "b", "", "dagster_daemon_b", 0, 0)
        assert cluster.said(old) == "", "the control: shutting a login out ends no session"
        assert cluster.ask("fence", 1)
        time.sleep(0.5)
        assert cluster.said(old) != ""
        assert cluster.said(run) == "", "runs and webservers are not fenced"


@ON_BOTH
@pytest.mark.usefixtures("free")
def test_renewal_ends_sessions_of_logins_that_are_shut_out(cluster: Any) -> None:
    """One may have been half-way in at the fence. The holder's own sessions go on."""
    with daemon_and_run(cluster) as (_old, run):
        assert cluster.ask("take", "b", "", "dagster_daemon_b", 0, 0)
        assert cluster.ask("fence", 1)
        cluster.let_in("a", "b")
        with (
            contextlib.closing(cluster.session("dagster_daemon_a")) as late,
            contextlib.closing(cluster.session("dagster_daemon_b")) as holders,
        ):
            cluster.let_in("b")
            assert cluster.said(late) == "", "the control: it is in"
            assert cluster.ask("renew", "b", "", 1)
            time.sleep(0.5)
            assert cluster.said(late) != ""
            assert cluster.said(holders) == ""
        assert cluster.said(run) == "", "runs and webservers are not fenced"


# What is PostgreSQL's own


@pytest.mark.usefixtures("free")
def test_nobody_takes_the_lease_during_a_fence(cluster: Cluster) -> None:
    """Or a slow fence would end the sessions of the next holder's daemon."""
    take = "SET lock_timeout = 500; SELECT dagster_guard.take('b', '', 'dagster_daemon_b', 1, 1)"
    assert cluster.ask("take", "a", "", "dagster_daemon_a", 0, 0)
    with cluster.session("dagster_guard", autocommit=False) as fence:
        assert fence.execute("SELECT dagster_guard.fence(1)").fetchone() == (True,)
        assert "lock timeout" in cluster.attempt("dagster_guard", take)
        fence.rollback()
    assert cluster.attempt("dagster_guard", take) == "", "the control"
    assert cluster.holder() == "b"
