"""Code locations whose runs start steps: what preflight says, and what is written down of them once."""

from __future__ import annotations

from typing import Any

import docker
import gate_container
import gate_steps
import pytest
from plans import FACTS, LOCATION, component, groups, plan

from ansible_collections.dataops.dagster.plugins.module_utils._docker.labels import STEP_LABEL
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import spec, step_containers

APART = groups(daemon=["a"], webserver=["a", "c"], run=["b"], code=["b"])
REFERENCE = ["/var/run/docker.sock:/var/run/docker.sock"]


def location(**changes: Any) -> dict[str, Any]:
    return {"dagster_code_locations": [{**LOCATION, "step_containers": True, **changes}]}


def test_option_alone_is_no_problem() -> None:
    assert plan(**location()).problems() == []
    assert plan("b", APART, dagster_compute_logs_shared=True, **location()).problems() == []


@pytest.mark.parametrize(("written", "meant"), [(True, True), ("yes", True), ("true", True), (None, False)])
@pytest.mark.parametrize("changes", [{}, {"read_only": True}, {"user": "4711:4711"}, {"capabilities": ["NET_RAW"]}])
def test_option_as_somebody_writes_it(written: Any, meant: bool, changes: dict[str, Any]) -> None:
    variables = location(step_containers=written, **changes)
    assert plan(**variables).problems() == []
    assert component("gate", **variables).handed(FACTS)["steps"] is meant


@pytest.mark.parametrize("written", [False, "false", "no", "", 0])
def test_option_that_is_off(written: Any) -> None:
    assert step_containers.wanted({"name": "etl", "step_containers": written}) is False


@pytest.mark.parametrize("written", ["sometimes", ["etl"], {"docker": True}])
def test_option_of_another_type(written: Any) -> None:
    """In the words of all options: what was found, and what is expected."""
    options = spec.specs()
    given = {"dagster_code_locations": [{**LOCATION, "step_containers": written}]}
    _values, problems = spec.read(options, ["code_location"], {**given, "dagster_database_run_password": "x" * 9})
    (problem,) = problems
    assert "step_containers" in problem
    assert "etl" in problem


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"env": {"DOCKER_HOST": "tcp://build:2376"}}, ".env: DOCKER_HOST names another engine than the Docker gate"),
        ({"secret_env": {"DOCKER_CERT_PATH": "/x"}}, ".secret_env: DOCKER_CERT_PATH names another engine"),
        (
            {"container_context": {"env_vars": ["DOCKER_TLS_VERIFY=1"]}},
            ".container_context: DOCKER_TLS_VERIFY names another engine",
        ),
        (
            {"container_context": {"docker": {"env_vars": ["DOCKER_HOST"]}}},
            ".container_context: DOCKER_HOST names another engine",
        ),
        ({"name": "x" * 90}, ".name has 90 characters; with step_containers at most"),
    ],
)
def test_what_contradicts_it(changes: dict[str, Any], words: str) -> None:
    problems = plan(**location(**changes)).problems()
    assert any(words in problem for problem in problems), problems
    without = plan(**location(**changes, step_containers=False)).problems()
    assert not any(words in problem for problem in without), "the control"


def test_longest_name_has_a_socket() -> None:
    room = 107 - len("/run/docker-gate-dagster/steps//docker.sock")
    assert plan(**location(name="x" * room)).problems() == []
    assert plan(**location(name="x" * (room + 1))).problems() != []


def test_engine_without_a_gate() -> None:
    each = {host: {"dagster_docker_endpoint": "tcp://engine:2376"} for host in "ac"}
    problems = plan("a", APART, each, dagster_docker_tls_client_cert="PEM", **location()).problems()
    (problem,) = [text for text in problems if "step_containers" in text]
    assert problem == (
        "dagster_code_locations[etl].step_containers: its runs would start steps through the Docker gate, and "
        "dagster_docker_endpoint is tcp://engine:2376, an engine without one. Remove step_containers, or "
        "dagster_docker_endpoint"
    )
    socket = plan(dagster_docker_endpoint="unix:///run/other.sock", **location())
    assert not any("step_containers" in text for text in socket.problems()), "the gate stands before that socket"


def test_launcher_that_makes_no_containers() -> None:
    config = {"run_launcher": {"module": "dagster._core.launcher", "class": "DefaultRunLauncher", "config": None}}
    problems = plan(dagster_config=config, **location()).problems()
    (problem,) = [text for text in problems if "step_containers" in text]
    assert "dagster_config.run_launcher is DefaultRunLauncher. Remove step_containers, or run_launcher" in problem


def test_images_of_these_locations_are_asked_for_the_launcher() -> None:
    """docker_executor reads from it what the container of a step has, inside of the run."""
    handed = component("code_location", **location()).handed(FACTS)["instance"]
    assert handed["steps"]["locations"] == ["etl"]
    assert "DockerRunLauncher" in handed["steps"]["dagster_yaml"]
    assert "DockerRunLauncher" not in handed["dagster_yaml"]
    assert "steps" not in component("code_location").handed(FACTS)["instance"], "the control"


@pytest.mark.parametrize(
    "variables",
    [
        {"dagster_config": {"run_launcher": {"config": {"container_kwargs": {"volumes": REFERENCE}}}}},
        {"dagster_code_locations": [{**LOCATION, "volumes": REFERENCE}]},
        {"dagster_code_locations": [{**LOCATION, "container_context": {"container_kwargs": {"volumes": REFERENCE}}}]},
        location(volumes=REFERENCE),
    ],
)
def test_socket_of_the_reference_is_answered_with_the_option(variables: dict[str, Any]) -> None:
    """As Dagster's own example for Docker mounts it into runs."""
    problems = plan(**variables).problems()
    assert len(problems) == 1, problems
    assert "Jobs with docker_executor start their steps once step_containers of their entry" in problems[0]


@pytest.mark.parametrize(
    "volume",
    ["/run/docker-gate-dagster/steps/etl:/gate", "/run/docker-gate-dagster:/gate:ro", "/srv/x:/run/docker-gate"],
)
def test_sockets_of_the_gate_are_mounted_by_nobody_else(volume: str) -> None:
    problems = plan(dagster_code_locations=[{**LOCATION, "volumes": [volume]}]).problems()
    assert len(problems) == 1, problems
    assert "where the Docker gate has its sockets" in problems[0] or "where the sockets for steps are" in problems[0]


def test_names_that_the_gate_has_too() -> None:
    """Its program stands alone on its host."""
    assert gate_container.STEP == STEP_LABEL
    bind = step_containers.bind({"name": "etl"}, "/run/docker-gate-dagster/steps")
    inside = bind.split(":")[1]
    assert f"DOCKER_HOST=unix://{inside}/{gate_steps.SOCKET}" == step_containers.DOCKER_HOST
    assert gate_container.OPTION.startswith(step_containers.OPTION)


def test_run_without_the_option_says_so() -> None:
    """What Docker's client says in a run that has no socket: an operator reads the name of the option."""
    name, _equals, value = step_containers.NO_ENGINE.partition("=")
    with pytest.raises(docker.errors.DockerException, match="none://set-step_containers-of-its-code-location"):
        docker.from_env(environment={name: value})
    with pytest.raises(docker.errors.DockerException, match="No such file or directory") as control:
        docker.from_env(environment={name: "unix:///nowhere.sock"})
    assert "nowhere" not in str(control.value), "without it, nothing is named"
