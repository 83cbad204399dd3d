"""dagster.yaml of the services: what runs get, where compute logs can be read, how many runs and threads there are."""

from __future__ import annotations

from typing import Any

import pytest
from plans import Groups, groups, inventory, plan

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import configuration, step_containers


def test_environment_of_runs_is_theirs_whatever_the_user_sets_beside_it() -> None:
    found = plan(dagster_environment={"b": "1", "A": 2, "C": "3"})
    launcher = found.configuration.ours["run_launcher"]["config"]
    assert launcher["env_vars"] == [
        step_containers.NO_ENGINE,
        *("A=2", "b=1", "C=3", "DAGSTER_POSTGRES_HOST=172.30.0.1", "DAGSTER_POSTGRES_USER=dagster_run"),
        "PGPASSFILE=/run/dagster/pgpass",
    ]


def kwargs(*given: Any, **variables: Any) -> dict[str, Any]:
    """What the launcher gives to the container of each run."""
    found: dict[str, Any] = plan(*given, **variables).configuration.merged["run_launcher"]["config"]
    return dict(found["container_kwargs"])


def test_runs_have_our_label_and_log_to_the_journal_on_any_engine() -> None:
    found = kwargs()
    # As a list. The launcher writes the ID of a run into a dictionary that it was given, and its threads share that.
    assert found["labels"] == ["dataops.dagster.run"]
    fields = "dagster/run_id,dagster/job_name,dataops.dagster.location"
    assert found["log_config"] == {"type": "journald", "config": {"labels": fields}}


def test_log_driver_that_the_user_has_chosen() -> None:
    driver = {"dagster_docker_config": {"log-driver": "fluentd"}}
    assert "log_config" not in kwargs(**driver), "that of the engine"
    assert "log_config" not in kwargs("a", groups(run=["b"]), {"b": driver}), "as its host says"
    chosen = {"type": "local"}
    config = {"run_launcher": {"config": {"container_kwargs": {"log_config": chosen}}}}
    assert kwargs(dagster_config=config)["log_config"] == chosen, "other drivers do not know our options"


LOCAL_LOGS = {"compute_logs": {"class": "LocalComputeLogManager"}}
TWO_HOSTS = groups(daemon=["a"], webserver=["a", "c"], run=["b"])


@pytest.mark.parametrize(
    ("config", "hosts", "shared", "refused"),
    [
        (LOCAL_LOGS, groups(), False, False),
        (LOCAL_LOGS, TWO_HOSTS, False, True),
        ({}, TWO_HOSTS, False, True),
        (LOCAL_LOGS, TWO_HOSTS, True, False),
        (LOCAL_LOGS, TWO_HOSTS, "yes", False),
        ({"compute_logs": {"class": "S3ComputeLogManager"}}, TWO_HOSTS, False, False),
    ],
)
def test_compute_logs(config: dict[str, Any], hosts: Groups, shared: Any, refused: bool) -> None:
    found = inventory(hosts, dagster_compute_logs_shared=shared)
    problems = configuration.compute_log_problems(found, found.hosts["a"].values, config)
    assert len(problems) == refused
    if refused:
        assert problems[0].startswith(
            "compute logs are files on b, where runs write them, and a, c could not show them"
        )
        assert "dagster_compute_logs_shared" in problems[0]


@pytest.mark.parametrize(
    ("config", "runs"),
    [
        ({}, 10),
        ({"concurrency": {"runs": {"max_concurrent_runs": 3}}}, 3),
        ({"concurrency": {"runs": {"max_concurrent_runs": "4"}}}, 4),
        ({"run_queue": {"max_concurrent_runs": 0}}, 0),
        ({"run_coordinator": {"class": "QueuedRunCoordinator", "config": {"max_concurrent_runs": 5}}}, 5),
        ({"run_coordinator": {"class": "QueuedRunCoordinator"}}, 10),
        ({"concurrency": {"runs": {"max_concurrent_runs": -1}}}, -1),
        ({"run_coordinator": {"class": "DefaultRunCoordinator"}}, -1),
    ],
)
def test_concurrent_runs(config: dict[str, Any], runs: int) -> None:
    assert configuration.concurrent_runs(config) == runs
    assert plan(dagster_config=config).configuration.concurrent_runs() == runs


def test_runs_that_do_not_go_through_the_daemon() -> None:
    """Webservers would launch them, and the fence lets no webserver launch."""
    for config in ({}, {"run_coordinator": {"class": "QueuedRunCoordinator"}}):
        assert configuration.coordinator_problems({"dagster_daemon_fencing": "full"}, config) == []
    config = {"run_coordinator": {"module": "dagster", "class": "DefaultRunCoordinator"}}
    assert configuration.coordinator_problems({"dagster_daemon_fencing": "lease_only"}, config) == []
    (problem,) = configuration.coordinator_problems({"dagster_daemon_fencing": "full"}, config)
    assert problem.startswith("dagster_config.run_coordinator is DefaultRunCoordinator, with which webservers launch")
    assert problem in plan("a", dagster_config=config).problems()


def test_threads_of_the_daemon() -> None:
    workers = configuration.workers
    assert workers({}) == workers({"sensors": {"use_threads": False, "num_workers": 9}}) == 0
    threads = {"use_threads": True, "num_workers": 4, "num_submit_workers": 2}
    assert workers({"sensors": threads, "schedules": {"use_threads": True}}) == 4 + 2 + configuration.DEFAULT_WORKERS
    queue = {"dequeue_use_threads": True, "dequeue_num_workers": 5}
    assert workers({"run_coordinator": {"config": queue}}) == workers({"run_queue": queue}) == 5
