"""The database as each host sees it: its address, the logins of daemons, and the budget of connections."""

from __future__ import annotations

from typing import Any

import pytest
from plans import Groups, groups, options, plan

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import storage
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.budget import RESERVE_CONNECTIONS, Budget


def test_external_database() -> None:
    found = plan("a", groups(database=[]), dagster_database_host="db.example.com")
    said = options("a", groups(database=[]), dagster_database_host="db.example.com")
    assert said["dagster_database_host"] == "db.example.com"
    assert said["dagster_database_run_host"] == said["dagster_database_code_host"] == "db.example.com"
    assert found.storage.clients == []
    assert said["dagster_database_external"] is True


@pytest.mark.parametrize(
    ("host", "login"),
    [("ctl1", "dagster_daemon_ctl1"), ("CTL-1.example.com", "dagster_daemon_ctl_1_example_com"), ("x" * 99, None)],
)
def test_login_of_a_daemon(host: str, login: str | None) -> None:
    found = plan().storage.daemon_login(host)
    assert found == login if login else len(found) == 63


# The budget


def budget(hosts: Groups | None = None, runs: int = 10, **variables: Any) -> Budget:
    config = {"concurrency": {"runs": {"max_concurrent_runs": runs}}}
    return plan("a", hosts, dagster_config=config, **variables).budget


def test_budget_of_a_single_host() -> None:
    found = budget()
    assert found.pools == 126
    assert found.parts == {"daemon": 16, "guard": 2, "code servers": 3, "runs": 30, "migration": 5, "reserve": 10}
    assert (found.need, found.limit, found.overflow) == (192, 200, 20)
    assert found.problems() == []


def test_budget_grows_with_the_deployment() -> None:
    found = budget(groups(webserver=["a", "b"]), dagster_webserver_read_only_port="3009")
    assert found.replicas == 6
    assert found.pools == 6 * 3 * 21
    assert found.limit == 450 >= found.need
    assert budget(groups(daemon=["a", "b"])).parts["daemon"] == 32
    assert budget(runs=0, dagster_webserver_options={"db_pool_max_overflow": 0}).limit == 100


def test_pools_fit_a_server_that_was_told_to_take_less() -> None:
    found = budget(dagster_postgres_max_connections="120")
    assert found.overflow == 8
    assert found.need <= found.limit == 120
    assert found.problems() == []
    assert budget(dagster_postgres_max_connections=5000).overflow == 20
    told = {"max_connections": "150"}
    assert budget(dagster_postgres_options=told, dagster_postgres_max_connections=500).limit == 150


def test_budget_that_does_not_fit_is_refused_with_its_numbers() -> None:
    found = budget(groups(webserver=["a", "b"]), dagster_postgres_max_connections=130)
    (problem,) = found.problems()
    assert problem.startswith(
        "the database takes 130 connections and the deployment may open 138 (webservers 4 x 3 x (1 + 5) = 72, "
        "code servers 3, daemon 16, guard 2, runs 30, migration 5, reserve 10); raise dagster_postgres_max_connections"
    )
    wide = budget(dagster_postgres_max_connections=191, dagster_webserver_options={"db_pool_max_overflow": 20})
    assert "may open 192 (webservers 2 x 3 x (1 + 20) = 126" in wide.problems()[0]


def test_runs_without_a_limit_fit_no_server() -> None:
    (problem,) = budget(runs=-1).problems()
    assert "set concurrency.runs.max_concurrent_runs" in problem


def test_limits_of_the_logins() -> None:
    found = budget()
    limits = found.limits(["dagster_daemon_a"])
    assert limits == {
        "dagster": 126,
        "dagster_read": 0,
        "dagster_guard": 2,
        "dagster_code": 7,
        "dagster_run": 34,
        "dagster_migration": 5,
        "dagster_daemon_a": 16,
    }
    assert sum(limits.values()) + RESERVE_CONNECTIONS == found.limit
    assert found.limits([])["dagster"] == 142, "a daemon without a login of its own"
    assert limits["dagster_run"] >= found.parts["runs"]
    assert limits["dagster_code"] >= found.parts["code servers"]
    shared = budget(dagster_webserver_read_only_port=3002)
    of_each = shared.limits(["dagster_daemon_a"])
    assert (of_each["dagster"], of_each["dagster_read"]) == (126, 63), "the read-only one takes nothing from the others"
    assert sum(of_each.values()) + RESERVE_CONNECTIONS == shared.limit


def test_logins_of_each_host() -> None:
    hosts = groups(database=["db"], webserver=["a", "b"], daemon=["b"], code=["c"], run=["d"])
    found = {
        (host, inside): users
        for host, inside, users in plan("a", hosts, dagster_webserver_read_only_port=3002).storage.clients
    }
    assert found == {
        ("a", False): ["dagster", "dagster_migration", "dagster_read"],
        ("b", False): ["dagster", "dagster_migration", "dagster_read", "dagster_guard", "dagster_daemon_b"],
        ("c", True): ["dagster_code"],
        ("d", True): ["dagster_run"],
    }


EXTERNAL = {"dagster_database_host": "db.example.com", "dagster_daemon_fencing": "lease_only"}


def test_logins_on_a_server_of_the_users_own() -> None:
    """Its administrator makes them. Until one is named, two kinds stay with the login of others."""
    before = plan("a", groups(database=[]), **EXTERNAL).storage
    assert {kind: before.login(kind) for kind in storage.LOGINS} == {
        "web": "dagster",
        "read": "dagster",
        "code": "dagster_run",
        "run": "dagster_run",
    }
    assert before.app == "", "nothing is taken away there"
    named = {**EXTERNAL, "dagster_database_code_user": "sensors"}
    found = plan("a", groups(database=[]), **named).storage
    assert found.login("code") == "sensors"
    (problem,) = found.password_problems("code")
    assert "dagster_database_code_user is sensors, and dagster_database_code_password is not set" in problem
    given = plan("a", groups(database=[]), dagster_database_code_password="x", **named).storage
    assert given.password_problems("code") == before.password_problems("code") == []


def test_two_kinds_of_processes_with_one_login() -> None:
    (problem,) = plan("a", dagster_database_code_user="dagster_run").storage.login_problems()
    assert problem.startswith("dagster_database_code_user and dagster_database_run_user are both dagster_run")
    assert plan("a").storage.login_problems() == []


def test_who_verifies_the_server() -> None:
    hosts = groups(database=["a"], webserver=["a", "b"], code=["a"], run=["c"])
    found = plan("b", hosts).storage
    assert found.tls_addresses == ["10.0.0.1"]
    authority = "/x/database-ca.pem"
    assert [found.authority(host, "/x") for host in "bca"] == [authority, authority, ""]
    mode = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": authority}
    known = {"DAGSTER_POSTGRES_HOST": "10.0.0.1", "DAGSTER_POSTGRES_USER": "u"}
    assert found.environment(found.client("b", "10.0.0.1", "u", "/x")) == {**known, **mode}
    assert found.environment(found.client("a", "10.0.0.1", "u", "/x")) == known
    assert plan("a").storage.tls_addresses == [], "nobody is on another host"
    off = plan("b", hosts, dagster_database_tls=False).storage
    assert (off.tls_addresses, off.authority("b", "/x")) == ([], "")
    assert plan("a", groups(database=[]), **EXTERNAL).storage.tls_addresses == []


def test_each_daemon_may_open_what_a_daemon_opens() -> None:
    """However many logins there are: one that is told beside that of the daemon takes nothing from it."""
    two = budget(groups(daemon=["a", "b"]))
    assert two.limits(["dagster_daemon_a", "dagster_daemon_b"])["dagster_daemon_b"] == 16
    assert budget().limits(["dagster_daemon_a", "mine"])["dagster_daemon_a"] == 16
