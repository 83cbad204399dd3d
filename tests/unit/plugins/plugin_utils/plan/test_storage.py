"""The database as each host sees it: its address, the logins of daemons, and the budget of connections."""

from __future__ import annotations

from typing import Any

import pytest
from plans import Groups, groups, options, plan

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import storage
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import Budget


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
        "dagster_guard": 2,
        "dagster_run": 41,
        "dagster_migration": 5,
        "dagster_daemon_a": 16,
    }
    assert sum(limits.values()) + storage.RESERVE_CONNECTIONS == found.limit
    assert found.limits([])["dagster"] == 142, "a daemon without a login of its own"
    assert limits["dagster_run"] >= found.parts["runs"] + found.parts["code servers"]


def test_each_daemon_may_open_what_a_daemon_opens() -> None:
    """However many logins there are: one that is told beside that of the daemon takes nothing from it."""
    two = budget(groups(daemon=["a", "b"]))
    assert two.limits(["dagster_daemon_a", "dagster_daemon_b"])["dagster_daemon_b"] == 16
    assert budget().limits(["dagster_daemon_a", "mine"])["dagster_daemon_a"] == 16
