"""The instance: its version, its environment, its dagster.yaml, and where compute logs can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plans import FACTS, Groups, component, groups, inventory, options, plan

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import environment, instance


def test_versions_are_sorted_as_versions(tmp_path: Path) -> None:
    folder = tmp_path / "roles/instance/files/locks"
    folder.mkdir(parents=True)
    for name in ("dagster-1.9.0.txt", "dagster-1.13.27.txt", "dagster-1.13.5.txt", "uv.txt", "dagster-1.txt"):
        (folder / name).touch()
    assert instance.versions(str(tmp_path)) == ["1.13.27", "1.13.5", "1.9.0"]


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("1.13.27", []),
        ("", []),  # that it is required, the spec says
        ("1.13.72", ["dagster_version is 1.13.72; supported are 1.13.27, 1.13.26", "did you mean"]),
    ],
)
def test_version(version: str, words: list[str]) -> None:
    problems = instance.version_problems(version, ["1.13.27", "1.13.26"])
    assert len(problems) == (1 if words else 0), problems
    assert all(word in problems[0] for word in words), problems


def test_one_version_for_all_hosts() -> None:
    hosts = groups(daemon=["a", "b"])
    assert instance.same_version_problems(inventory(hosts)) == []
    found = plan("b", hosts, {"a": {"dagster_version": "1.13.26"}}, dagster_version="1.13.27")
    problems = instance.same_version_problems(found.inventory)
    assert problems == [
        "dagster_version differs between the services' hosts (1.13.26 on a, 1.13.27 on b); one instance has one version"
    ]
    assert found.problems() == problems


@pytest.mark.parametrize(
    ("plain", "secret", "problems"),
    [
        ({}, {}, []),
        ({"AWS_REGION": "eu-central-1", "N": 1}, {"STORE_PASSWORD": "x"}, []),
        (
            {"A-B": "x"},
            {},
            ["dagster_environment: 'A-B' is no name of an environment variable; letters, digits and '_' are"],
        ),
        ({}, {"PGPASSFILE": "x"}, ["dagster_secret_environment: PGPASSFILE is set by the collection; remove it"]),
        ({"A": ["x"]}, {}, ["dagster_environment: A is a list; an environment variable is text"]),
        (
            {"STORE_PASSWORD": "x"},
            {},
            [
                "dagster_environment: STORE_PASSWORD looks like a secret, and would show in docker inspect; put it in "
                "dagster_secret_environment, if services alone read it, or in secret_env of the code locations that "
                "do. If it is none, add literal_secret:STORE_PASSWORD to dagster_config_allow"
            ],
        ),
        ({"A": "x"}, {"A": "y"}, ["A is in dagster_environment and in dagster_secret_environment; keep one"]),
    ],
)
def test_environment(plain: dict[str, Any], secret: dict[str, Any], problems: list[str]) -> None:
    assert environment.instance_problems(plain, secret, ["PGPASSFILE"]) == problems
    # Runs get it in dagster.yaml, where it is not told for a second time in words that nobody wrote.
    assert plan(dagster_environment=plain, dagster_secret_environment=secret).problems() == problems


def test_environment_of_our_own_is_not_the_users() -> None:
    assert plan(dagster_environment={"DAGSTER_HOME": "/x"}).problems() == [
        "dagster_environment: DAGSTER_HOME is set by the collection; remove it"
    ]


@pytest.mark.parametrize("remote", [False, True])
def test_environment_of_the_services(remote: bool) -> None:
    """Beside the endpoint of an engine stands where its certificates are."""
    found = component("instance", "a", groups(run=["b"]) if remote else groups()).environment
    endpoint = "tcp://10.0.0.2:2376" if remote else "unix:///run/docker.sock"
    assert (found["DOCKER_HOST"], found["DAGSTER_POSTGRES_HOST"]) == (endpoint, "127.0.0.1")
    tls = {name: value for name, value in found.items() if name.startswith("DOCKER_") and name != "DOCKER_HOST"}
    wanted = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/etc/dagster/docker"}
    assert tls == (wanted if remote else {})


def test_environment_of_runs_is_theirs_whatever_the_user_sets_beside_it() -> None:
    found = component("instance", dagster_environment={"b": "1", "A": 2, "C": "3"})
    launcher = found.config["run_launcher"]["config"]
    assert launcher["env_vars"] == [
        *("A=2", "b=1", "C=3", "DAGSTER_POSTGRES_HOST=172.30.0.1", "DAGSTER_POSTGRES_USER=dagster_run"),
        "PGPASSFILE=/run/dagster/pgpass",
    ]


def kwargs(*given: Any, **variables: Any) -> dict[str, Any]:
    """What the launcher gives to the container of each run."""
    found: dict[str, Any] = component("instance", *given, **variables).merged["run_launcher"]["config"]
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
    problems = instance.compute_log_problems(found, found.hosts["a"].values, config)
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
    assert instance.concurrent_runs(config) == runs
    assert component("instance", dagster_config=config).concurrent_runs() == runs


def test_runs_that_do_not_go_through_the_daemon() -> None:
    """Webservers would launch them, and the fence lets no webserver launch."""
    for config in ({}, {"run_coordinator": {"class": "QueuedRunCoordinator"}}):
        assert instance.coordinator_problems({"dagster_daemon_fencing": "full"}, config) == []
    config = {"run_coordinator": {"module": "dagster", "class": "DefaultRunCoordinator"}}
    assert instance.coordinator_problems({"dagster_daemon_fencing": "lease_only"}, config) == []
    (problem,) = instance.coordinator_problems({"dagster_daemon_fencing": "full"}, config)
    assert problem.startswith("dagster_config.run_coordinator is DefaultRunCoordinator, with which webservers launch")
    assert problem in plan("a", dagster_config=config).problems()


@pytest.mark.parametrize(("fencing", "logins"), [("full", "etl_daemon"), ("lease_only", "")])
def test_fence(fencing: str, logins: str) -> None:
    found = component("instance", dagster_instance_name="etl", dagster_daemon_fencing=fencing).handed(FACTS)
    assert found["fence"] == {"logins": logins, "unit": "etl-daemon", "command": "/usr/local/bin/etl-cli"}


def test_threads_of_the_daemon() -> None:
    workers = instance.workers
    assert workers({}) == workers({"sensors": {"use_threads": False, "num_workers": 9}}) == 0
    threads = {"use_threads": True, "num_workers": 4, "num_submit_workers": 2}
    assert workers({"sensors": threads, "schedules": {"use_threads": True}}) == 4 + 2 + instance.DEFAULT_WORKERS
    queue = {"dequeue_use_threads": True, "dequeue_num_workers": 5}
    assert workers({"run_coordinator": {"config": queue}}) == workers({"run_queue": queue}) == 5


def test_marks_of_a_complete_installation() -> None:
    found = component("instance", dagster_libraries=["aws"]).paths()
    marks = [path for path in found if "/.complete" in path]
    assert marks == ["/opt/dagster/1.13.27/.complete", "/opt/dagster/1.13.27/.complete-aws"]


def test_who_needs_a_certificate_reads_it() -> None:
    alone = ["python3-pip-whl", "ca-certificates"]
    assert component("instance").packages(FACTS) == alone
    assert component("instance", "a", groups(run=["b"])).packages(FACTS) == [*alone, "python3-cryptography"]
    assert options("a", groups(run=["b"]))["dagster_docker_ca_host"] == "b"


MARK = "/etc/systemd/system/dagster-.service.d/10-instance.conf"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, []),
        ({"shells": {"dagster": "/usr/sbin/nologin"}, "members": {"dagster": ["dagster"]}}, []),
        ({"shells": {"dagster": "/bin/bash"}}, ["a user dagster who can log in (shell /bin/bash); set dagster_user"]),
        ({"shells": {"dagster": ""}}, ["(shell /bin/sh)"]),
        ({"members": {"dagster": ["ann", "dagster"]}}, ["group dagster of the host has members (ann)"]),
        ({"paths": ["/etc/dagster/dagster.yaml"]}, ["a /etc/dagster/dagster.yaml of somebody else; set dagster_home"]),
        # A Dagster that somebody runs by hand, with folders like ours.
        ({"paths": ["/opt/dagster/current"]}, ["has /opt/dagster/current of somebody else, who may run Dagster there"]),
        ({"paths": ["/var/lib/dagster/dagster.yaml"]}, ["set dagster_state_dir to another folder"]),
        # Our drop-in would be for their unit too.
        (
            {"paths": ["/etc/systemd/system/dagster-backup.service"]},
            ["a unit /etc/systemd/system/dagster-backup.service"],
        ),
        (
            {"paths": ["/lib/systemd/system/dagster-x@.service"]},
            ["Rename it, or give this instance a dagster_instance_name"],
        ),
        ({"paths": ["/etc/systemd/system/dagster.service", "/etc/systemd/system/dagster-webserver@.service"]}, []),
    ],
)
def test_what_somebody_else_has_of_our_names_is_refused(facts: dict[str, Any], words: list[str]) -> None:
    """A user prepared for the services is used as it is. Whoever logs in as our user would have our secrets."""
    found = component("instance").host_problems({**FACTS, **facts})
    assert len(found) == len(words)
    assert all(word in problem for word, problem in zip(words, found, strict=True))


def test_what_has_been_deployed_is_ours_whatever_others_do_later() -> None:
    units = ["/etc/systemd/system/dagster-backup.service"]
    paths = [MARK, "/etc/dagster/dagster.yaml", "/opt/dagster/current", *units]
    facts = {"shells": {"dagster": "/bin/bash"}, "paths": paths}
    assert component("instance").host_problems({**FACTS, **facts}) == []


def test_first_play_that_was_interrupted_goes_on() -> None:
    """The link is there, and what shows a deployed instance is not yet."""
    facts = {"paths": ["/usr/local/lib/dagster/installed/.complete", "/opt/dagster/current"]}
    assert component("instance").host_problems({**FACTS, **facts}) == []


def test_host_is_asked_for_what_a_dagster_by_hand_has() -> None:
    asked = plan().questions()["paths"]
    assert {"/opt/dagster/current", "/var/lib/dagster/dagster.yaml"} <= set(asked)
    assert {"/etc/systemd/system/dagster-*.service", "/lib/systemd/system/dagster-*.service"} <= set(asked)


def test_user_of_another_name_is_looked_at() -> None:
    found = component("instance", dagster_user="etl", dagster_group="etl")
    assert found.plan.questions()["shells"] == ["etl"]
    assert found.host_problems({**FACTS, "shells": {"dagster": "/bin/bash"}}) == []
