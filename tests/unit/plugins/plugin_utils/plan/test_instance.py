"""The instance: its version, its environment, and what somebody else may have of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plans import FACTS, component, groups, inventory, options, plan

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
        (
            {},
            {"PGPASSFILE": "x"},
            ["dagster_secret_environment: PGPASSFILE is set by the collection; remove it, x decides it"],
        ),
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
    assert environment.instance_problems(plain, secret, {"PGPASSFILE": "x"}) == problems
    problems = [problem.replace("x decides", "dagster_database_run_password decides") for problem in problems]
    # Runs get it in dagster.yaml, where it is not told for a second time in words that nobody wrote.
    assert plan(dagster_environment=plain, dagster_secret_environment=secret).problems() == problems


def test_environment_of_our_own_is_not_the_users() -> None:
    assert plan(dagster_environment={"DAGSTER_HOME": "/x"}).problems() == [
        "dagster_environment: DAGSTER_HOME is set by the collection; remove it, dagster_home decides it"
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


@pytest.mark.parametrize(("fencing", "logins"), [("full", "etl_daemon"), ("lease_only", "")])
def test_fence(fencing: str, logins: str) -> None:
    found = component("instance", dagster_instance_name="etl", dagster_daemon_fencing=fencing).handed(FACTS)
    assert found["fence"] == {"logins": logins, "unit": "etl-daemon", "command": "/usr/local/bin/etl-cli"}


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


AZURE = {"module": "dagster_azure.blob", "class": "AzureBlobComputeLogManager"}
STORE = {"dagster_config": {"compute_logs": AZURE}, "dagster_compute_logs_login": "a2V5"}


@pytest.mark.parametrize(
    ("path", "left", "variables"),
    [
        ("docker/key.pem", "docker", {}),
        ("kubeconfig", "kubeconfig", {}),
        ("compute_logs.login", "compute_logs.login", {}),
        ("compute_logs.login", "compute_logs.login", STORE),  # the login of this one is a key, in a variable
        ("pgpass", "", {}),
    ],
)
def test_what_services_ask_with_no_more(path: str, left: str, variables: dict[str, Any]) -> None:
    found = component("instance", **variables)
    facts = {**FACTS, "paths": [f"/etc/dagster/{path}"]}
    assert found.handed(facts)["left"] == ([f"/etc/dagster/{left}"] if left else [])
    assert found.handed(FACTS)["left"] == []


def test_what_services_still_ask_with_stays() -> None:
    s3 = {"module": "dagster_aws.s3", "class": "S3ComputeLogManager", "config": {"bucket": "logs"}}
    given = {"dagster_config": {"compute_logs": s3}, "dagster_compute_logs_login": "[default]"}
    found = component("instance", **given, dagster_docker_endpoint="tcp://engine.example.com:2376")
    paths = [f"/etc/dagster/{name}" for name in ("docker/key.pem", "kubeconfig", "compute_logs.login")]
    assert found.handed({**FACTS, "paths": paths})["left"] == ["/etc/dagster/kubeconfig"]
