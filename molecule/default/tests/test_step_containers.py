"""A code location whose runs start a container for each step: docker_executor through the gate, and nothing more."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import gate_attacks
import gate_step_attacks
import pytest
from deployment import ROOT, Dagster, Play, identities, until
from gate_clients import UNIT, body_of, request, send

# Scenario cluster runs such a job, tests/integration/steps ends one, unit tests have each attack on the gate of steps.
pytestmark = pytest.mark.long

FOLDER = "/run/docker-gate-dagster/steps/in_steps"
SOCKET = "/run/docker-gate/docker.sock"
STEPS = {"extract_orders", "validate_orders", "sum_by_day", "sum_by_customer", "render_report"}
BUILD = {
    "context": str(ROOT / "examples/pipeline"),
    "args": "{{ pipeline_build_args }}",
    "base_archive": "{{ pipeline_base_archive }}",
}
PIPELINE = {"name": "pipeline", "port": 4000, "module": "pipeline.definitions", "build": BUILD}
IN_STEPS = {"name": "in_steps", "port": 4001, "module": "pipeline.step_containers", "build": BUILD}


def locations(**options: Any) -> tuple[str, str]:
    return ("-e", json.dumps({"dagster_code_locations": [PIPELINE, {**IN_STEPS, **options}]}))


def of_run(host: Any, run_id: str, more: str = "") -> list[dict[str, Any]]:
    """The containers of a run and of its steps, the oldest first."""
    found = host.check_output(f"docker ps -aq --no-trunc {more} --filter label=dagster/run_id={run_id}").split()
    described = json.loads(host.check_output(f"docker inspect {' '.join(found)}")) if found else []
    return sorted(described, key=lambda each: str(each["Created"]))


def asleep(dagster: Dagster, host: Any, seconds: float = 900.0) -> str:
    """A run whose two steps have started."""
    config = {"ops": {name: {"config": {"seconds": seconds}} for name in ("first", "second")}}
    run_id = dagster.launch("sleep_twice", "in_steps", config)
    until(lambda: len(of_run(host, run_id, "--filter status=running")) == 3, 120, "run and steps have started")
    return run_id


@pytest.fixture(scope="module")
def played(play: Callable[..., Play]) -> Iterator[Callable[..., Play]]:
    """The deployment with a second location that has the option."""
    play("site.yml", *locations(step_containers=True))
    yield play
    play("site.yml")


@pytest.mark.usefixtures("played")
def test_each_step_has_a_container_of_its_own(dagster: Dagster, host: Any) -> None:
    run_id = dagster.launch("orders_report", "in_steps")
    dagster.wait(run_id, seconds=300)
    assert "Revenue" in dagster.output(run_id)
    run, *steps = of_run(host, run_id)
    assert {each["Config"]["Labels"]["dataops.dagster.step"] for each in steps} == STEPS
    assert len(steps) == len(STEPS)
    assert all(each["Name"].startswith("/dagster-step-") for each in steps)
    socket = f"{FOLDER}:/run/docker-gate:ro"
    assert socket in run["HostConfig"]["Binds"]
    assert f"DOCKER_HOST=unix://{SOCKET}" in run["Config"]["Env"]
    kept = ("CapAdd", "CapDrop", "SecurityOpt", "Memory", "PidsLimit", "NetworkMode", "LogConfig", "ReadonlyRootfs")
    for step in steps:
        assert {name: step["HostConfig"][name] for name in kept} == {name: run["HostConfig"][name] for name in kept}
        assert set(step["HostConfig"]["Binds"]) == {*run["HostConfig"]["Binds"]} - {socket}
        assert (step["Image"], step["Config"]["User"]) == (run["Image"], run["Config"]["User"])
        assert not any(text.startswith("DOCKER_HOST=") for text in step["Config"]["Env"])
        assert "DAGSTER_POSTGRES_USER=dagster_run" in step["Config"]["Env"]
    journal = host.check_output("journalctl --no-pager -o json DAGSTER_RUN_ID=%s", run_id)
    names = {json.loads(line).get("CONTAINER_NAME") for line in journal.splitlines()}
    assert {each["Name"].lstrip("/") for each in steps} <= names, "the journal shows them with their run"


def test_second_run_changes_nothing(played: Callable[..., Play], host: Any) -> None:
    before = identities(host)
    assert played("site.yml", *locations(step_containers=True)).changed == 0
    assert identities(host) == before


@pytest.mark.usefixtures("played")
def test_terminated_run_ends_its_steps(dagster: Dagster, host: Any) -> None:
    run_id = asleep(dagster, host)
    answer = dagster.query("mutation($id: String!) { terminateRun(runId: $id) { __typename } }", id=run_id)
    assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess", answer
    dagster.wait(run_id, "CANCELED")
    until(lambda: of_run(host, run_id, "--filter status=running") == [], 30, "no container of it goes on")


@pytest.mark.usefixtures("played")
def test_run_that_is_killed_while_it_is_terminated_leaves_no_steps(dagster: Dagster, host: Any) -> None:
    """It has no time for its steps: then the gate ends them."""
    run_id = asleep(dagster, host)
    run = of_run(host, run_id)[0]["Id"]
    host.check_output("docker kill %s", run)
    assert len(of_run(host, run_id, "--filter status=running")) == 2, "the control: they go on by themselves"
    stop = [request("POST", f"/v1.41/containers/{run}/stop?t=1")]
    ((status, text),) = send(host, stop, socket="/run/docker-gate-dagster/inspect.sock")
    assert status in (204, 304), text
    until(lambda: of_run(host, run_id, "--filter status=running") == [], 60, "the gate has ended them")


@pytest.mark.usefixtures("played")
def test_only_runs_of_the_location_reach_its_socket(dagster: Dagster, host: Any) -> None:
    assert host.check_output("stat -c '%%U %%a' %s/..", FOLDER) == "dagster_gate 700"
    ask = "import socket, sys; sock = socket.socket(socket.AF_UNIX); sock.connect(sys.argv[1])"
    for user in ("dagster", "nobody", "165536"):
        asked = host.run(f"setpriv --reuid {user} --clear-groups python3 -c %s %s", ask, f"{FOLDER}/docker.sock")
        assert "PermissionError" in asked.stderr
    # root of the host comes to it, and is no run.
    ((status, text),) = send(host, [request("GET", "/version")], socket=f"{FOLDER}/docker.sock")
    assert (status, "The Docker gate refuses a process of" in text) == (403, True), text
    run_id = dagster.launch("sleep_job", config={"ops": {"sleep_seconds": {"config": {"seconds": 60.0}}}})
    until(lambda: dagster.status(run_id) == "STARTED", 180, "a run of the other location has started")
    (other,) = of_run(host, run_id)
    assert not any("docker-gate" in bind for bind in other["HostConfig"]["Binds"])
    assert host.run("docker exec %s ls /run/docker-gate", other["Id"]).rc != 0


@pytest.mark.usefixtures("played")
def test_attacks_of_a_run(dagster: Dagster, host: Any) -> None:
    """From inside of its container, where docker_executor asks: all are refused, and the control passes."""
    run_id, other_id = asleep(dagster, host), asleep(dagster, host)
    run, step, _step = of_run(host, run_id)
    other, other_step, _step = of_run(host, other_id)
    base = body_of(step)
    base |= {"Cmd": step["Config"]["Cmd"], "Labels": {"dataops.dagster.run": ""}}
    target = gate_step_attacks.Target(
        run=run_id,
        own=step["Id"],
        container=run["Id"],
        others=other_step["Id"],
        other_run=other["Id"],
        foreign=host.check_output("docker inspect -f '{{.Id}}' dagster-code-pipeline"),
        image=host.check_output("docker inspect -f '{{.Config.Image}}' dagster-code-pipeline"),
        network="bridge",
        socket=f"{FOLDER}:/run/docker-gate:ro",
        name=step["Name"].lstrip("/"),
    )
    attacks = {name: request(*each) for name, each in gate_step_attacks.requests(base, target).items()}
    attacks |= gate_attacks.texts(base, step["Id"])
    assert len(attacks) >= 100
    inside = {"python": f"docker exec {run['Id']} python", "file": "/var/lib/dagster/attacks", "socket": SOCKET}
    listed = "docker ps -a --no-trunc --format '{{.ID}} {{.State}}'; docker network ls; docker volume ls"
    before = host.check_output(listed)
    try:
        answers = dict(zip(attacks, send(host, list(attacks.values()), **inside), strict=True))
        assert {name: answer for name, answer in answers.items() if answer[0] != 403} == {}
        assert host.check_output(listed) == before
        control = [
            request("GET", f"/v1.41/containers/{step['Id']}/json"),
            request("POST", f"/v1.41/containers/create?name={target.name}-7", base),
        ]
        assert [status for status, _text in send(host, control, **inside)] == [200, 201]
        host.check_output("docker rm -f %s-7", target.name)
    finally:
        host.check_output("rm -f /var/lib/dagster/attacks")
        host.check_output("docker stop -t 10 %s %s", run["Id"], other["Id"])


def test_restart_of_the_gate_leaves_runs_their_socket(played: Callable[..., Play], dagster: Dagster, host: Any) -> None:
    """systemd keeps it through a restart, and its folder through a stop."""
    del played
    for verb in ("systemctl restart %s", "systemctl stop %s && systemctl start %s"):
        run_id = asleep(dagster, host, 30.0)
        host.check_output(verb, *[UNIT] * verb.count("%s"))
        run = of_run(host, run_id)[0]["Id"]
        inside = {"python": f"docker exec {run} python", "file": "/var/lib/dagster/asks", "socket": SOCKET}
        assert [status for status, _text in send(host, [request("GET", "/version")], **inside)] == [200]
        dagster.wait(run_id)
    host.check_output("rm -f /var/lib/dagster/asks")


def test_without_the_option_the_run_fails_and_says_which(played: Callable[..., Play], dagster: Dagster) -> None:
    played("site.yml", *locations())
    run_id = dagster.launch("orders_report", "in_steps")
    dagster.wait(run_id, "FAILURE")
    events = dagster.query(
        "query($id: ID!) { logsForRun(runId: $id, limit: 1000) { ... on EventConnection { events {"
        " ... on RunFailureEvent { error { message } } ... on MessageEvent { message } } } } }",
        id=run_id,
    )
    assert "none://set-step_containers-of-its-code-location" in json.dumps(events)
