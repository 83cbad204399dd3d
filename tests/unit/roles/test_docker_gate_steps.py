"""The Docker gate and runs that start their steps in containers: what such a run may ask, and that it is known."""

from __future__ import annotations

import json
import os
import stat
from typing import Any

import gate_attacks
import gate_container
import gate_policy
import gate_step_attacks
import gate_steps
import pytest
from gate_container import NETWORKS, STEP, STEPS, Refused, Rules
from gate_world import (
    ALLOWED,
    ANOTHER,
    BIND,
    CODE,
    DELEGATES,
    DELEGATING,
    FOREIGN,
    LOCATION,
    OTHER,
    OTHER_STEP,
    OWN,
    OWN_STEP,
    RUN,
    World,
    delegating_body,
    here,
    request,
    run_body,
    step_body,
    step_command,
    step_name,
)

API = "/v1.41"
CREATE = f"{API}/containers/create?name={step_name()}"
RULES = Rules(memory=1 << 30, most_memory=2 << 30, pids=4096, locations=(LOCATION, OTHER, DELEGATES))
ASKING = gate_steps.Run(RUN, "nightly", ALLOWED)


def made(body: dict[str, Any] | None = None, name: str = "", run: gate_steps.Run = ASKING) -> dict[str, Any]:
    """The body that the engine gets for a step."""
    asked = step_body() if body is None else body
    return gate_steps.checked(asked, name or step_name(), run, run.rules(RULES))


# What a run with docker_executor needs


def test_step_is_started_as_docker_executor_does_it(world: World) -> None:
    """GET /version, create by name, look, further networks, start; later its health and its end, by name."""
    assert world.ask("steps", "GET", "/version") == (200, {"ApiVersion": "1.41", "Version": "20.10"})
    assert world.ask("steps", "POST", CREATE, here(step_body(), world.bind))[0] == 201
    assert world.ask("steps", "GET", f"{API}/containers/{OWN_STEP}/json")[1]["Id"] == OWN_STEP
    assert world.ask("steps", "GET", f"{API}/networks/lake")[1] == {"Id": "2" * 64, "Name": "lake"}
    joined = {"Container": OWN_STEP, "EndpointConfig": {}}
    assert world.ask("steps", "POST", f"{API}/networks/{'2' * 64}/connect", joined)[0] == 204
    assert world.ask("steps", "POST", f"{API}/containers/{OWN_STEP}/start")[0] == 204
    assert world.ask("steps", "GET", f"{API}/containers/{step_name()}/json")[1]["Id"] == OWN_STEP
    assert world.ask("steps", "POST", f"{API}/containers/{OWN_STEP}/wait")[0] == 204
    assert world.ask("steps", "POST", f"{API}/containers/{OWN_STEP}/stop?t=30")[0] == 204
    assert world.ask("steps", "POST", f"{API}/containers/{OWN_STEP}/kill")[0] == 204
    assert world.ask("steps", "DELETE", f"{API}/containers/{OWN_STEP}?v=False&link=False&force=True")[0] == 204
    assert world.ask("steps", "POST", f"{API}/auth", {"username": "u", "password": "p"})[0] == 200
    assert [path.removeprefix(API).partition("?")[0] for _method, path, _body in world.engine.changes()] == [
        "/containers/create",
        f"/networks/{'2' * 64}/connect",
        *(f"/containers/{OWN_STEP}/{verb}" for verb in ("start", "wait", "stop", "kill")),
        f"/containers/{OWN_STEP}",
    ]
    assert world.said == []


def test_step_has_what_its_run_has_but_the_socket() -> None:
    run = gate_container.checked(delegating_body(), RULES)
    step = made()
    assert BIND in run["HostConfig"]["Binds"]
    assert step["HostConfig"] == {**run["HostConfig"], "Binds": LOCATION["binds"]}
    assert (step["Image"], step["User"]) == (run["Image"], run["User"])
    assert set(run["Volumes"]) - set(step["Volumes"]) == {"/run/docker-gate"}
    assert {*run["Env"]} - {*step["Env"]} == {"DOCKER_HOST=unix:///run/docker-gate/docker.sock"}
    assert "DAGSTER_RUN_STEP_KEY=load" in step["Env"]
    text = json.dumps(step)
    assert "docker-gate" not in text


def test_step_is_known_as_its_run_is() -> None:
    """Labels by which the journal shows it, the timer removes it, and plays count it."""
    body = {**step_body(), "Labels": {"dataops.dagster.run": "", "team": "data"}}
    assert made(body)["Labels"] == {
        "dataops.dagster.run": "",
        "dagster/run_id": RUN,
        "dagster/job_name": "nightly",
        "team": "data",
        STEP: "load",
        STEPS: "",
        NETWORKS: json.dumps(["dagster", "lake"]),
    }
    assert made({**step_body(), "Labels": None})["Labels"].keys() == {*made()["Labels"]}


@pytest.mark.parametrize(
    ("name", "command", "good"),
    [
        (step_name(), step_command(), True),
        (f"{step_name()}-2", step_command(), True),
        (step_name(), ["/opt/venv/bin/python", "-m", *step_command()], True),
        (step_name(key="load[eu]"), step_command(RUN, "load[eu]"), True),
        (step_name(key="größe"), step_command(RUN, "größe"), True),
        (step_name(), step_command(RUN, "load[eu]"), False),
        (step_name(ANOTHER), step_command(ANOTHER), False),
        (f"{step_name()}-0", step_command(), False),
    ],
)
def test_name_and_command_are_those_of_one_step(name: str, command: list[str], good: bool) -> None:
    body = {**step_body(), "Cmd": command}
    if good:
        assert made(body, name)["Cmd"] == command
    else:
        with pytest.raises(Refused):
            made(body, name)


# The run


def test_run_of_such_a_location_has_on_it_what_its_steps_may_have() -> None:
    body = gate_container.checked(delegating_body(), RULES)
    told = json.loads(body["Labels"][STEPS])
    assert told == ALLOWED, "without the socket, and with its own limits"
    assert STEPS not in gate_container.checked(run_body(), RULES)["Labels"], "the control: another location"
    bare = delegating_body(Binds=LOCATION["binds"])
    assert STEPS not in gate_container.checked(bare, RULES)["Labels"], "it has not asked for the socket"


def test_location_without_the_option_gets_no_socket() -> None:
    with pytest.raises(Refused, match="Binds"):
        gate_container.checked({**delegating_body(), "Image": LOCATION["images"][0]}, RULES)


def test_option_is_that_of_a_location_also_with_the_image_of_another() -> None:
    """Two locations of one image: each run gets what its own one has."""
    twin = {**LOCATION, "images": DELEGATES["images"]}
    for locations in ((twin, DELEGATES), (DELEGATES, twin)):
        rules = Rules(memory=1 << 30, most_memory=2 << 30, pids=4096, locations=locations)
        assert STEPS in gate_container.checked(delegating_body(), rules)["Labels"]
        assert STEPS not in gate_container.checked(delegating_body(Binds=LOCATION["binds"]), rules)["Labels"]


def test_run_goes_on_with_what_it_was_made_with(world: World) -> None:
    """A new image of the location, twice: a long run starts its next step all the same."""
    for number in (1, 2):
        new = {**DELEGATES, "images": [f"dagster-code/mapped:{number}"]}
        world.write_runs([new], [{**DELEGATES, "images": ["dagster-code/mapped:0"]}])
    assert world.ask("steps", "POST", CREATE, here(step_body(), world.bind))[0] == 201
    assert world.ask("launch", "POST", f"{API}/containers/create", here(delegating_body(), world.bind))[0] == 403


def test_socket_of_the_engine_is_answered_with_the_option() -> None:
    """As Dagster's own documentation mounts it, into runs and in the configuration of docker_executor."""
    own = ["/var/run/docker.sock:/var/run/docker.sock"]
    for ask in (
        lambda: gate_container.checked(run_body(Binds=[*LOCATION["binds"], *own]), RULES),
        lambda: made(step_body(Binds=[*DELEGATES["binds"], *own])),
    ):
        with pytest.raises(Refused, match="docker_executor, step_containers of its code location"):
            ask()


# Who asks


def test_socket_is_closed_to_the_host(world: World) -> None:
    """Nobody but the gate's user and root comes to the folder; inside of a container, anybody may connect."""
    modes = {
        path: stat.S_IMODE((world.folder / path).stat().st_mode) for path in ("s", "s/mapped", "s/mapped/docker.sock")
    }
    assert modes == {"s": 0o700, "s/mapped": 0o711, "s/mapped/docker.sock": 0o666}


def test_refusal_is_told_to_the_run(world: World) -> None:
    """docker_executor fails with the answer to its first question, so that says why."""
    world.is_in(OWN)
    status, told = world.ask("steps", "GET", "/version")
    assert status == 403
    assert told == {"message": "The Docker gate refuses a run that has no steps in containers of the location mapped"}
    assert world.said == [
        f"refused process {os.getpid()} at the socket of mapped (steps): GET /version: "
        "a run that has no steps in containers of the location mapped"
    ]


@pytest.mark.parametrize(
    ("container", "words"),
    [
        (OWN, "a run that has no steps in containers"),
        (FOREIGN, "a container that is none of a run"),
        (CODE, "a container that is none of a run"),
        (OWN_STEP, "a container that is none of a run"),
        ("9" * 64, "a container that the engine does not know"),
        ("", "a process of no container"),
    ],
)
def test_who_is_no_run_of_the_location_is_refused(world: World, container: str, words: str) -> None:
    assert world.ask("steps", "GET", "/version")[0] == 200, "the control"
    world.is_in(container)
    for method, target, body in (("GET", "/version", None), ("POST", CREATE, here(step_body(), world.bind))):
        status, told = world.ask("steps", method, target, body)
        assert status == 403
        assert words in told["message"]
    assert world.engine.changes() == []


def test_another_user_than_that_of_the_run_is_refused(world: World) -> None:
    world.gate.settings.given["container_root"] += 1
    status, told = world.ask("steps", "GET", "/version")
    assert (status, "who is not" in told["message"] or "the user of the run is" in told["message"]) == (403, True)


def test_process_that_cannot_be_seen_is_refused(world: World) -> None:
    world.gate.proc = "/nowhere"
    status, told = world.ask("steps", "GET", "/version")
    assert (status, "whose container is not to be seen" in told["message"]) == (403, True)


@pytest.mark.parametrize(
    "line",
    [
        "0::/system.slice/docker-{}.scope\n",
        "0::/docker/{}\n",
        "12:pids:/docker/{0}\n0::/docker/{0}\n",
        "0::/docker/" + "9" * 64 + "/system.slice/docker-{}.scope\n",  # an engine in a container
        "0::/../docker-{}.scope\n",
    ],
)
def test_container_of_a_process(line: str) -> None:
    assert gate_steps.container(line.format(OWN)) == OWN


@pytest.mark.parametrize("text", ["", "0::/\n", "0::/system.slice/ssh.service\n", f"1:a:/{OWN}\n0::/{FOREIGN}\n"])
def test_process_of_no_container(text: str) -> None:
    with pytest.raises(Refused):
        gate_steps.container(text)


@pytest.mark.parametrize("told", ["", "{", "[]", "{}", '{"name": "other"}', "null"])
def test_run_of_another_location(told: str) -> None:
    labels = {"dagster/run_id": RUN, "dataops.dagster.run": "", STEPS: told}
    with pytest.raises(Refused):
        gate_steps.asking({"Config": {"Labels": labels}, "State": {"Running": True}}, "mapped", RULES)


def test_role_of_steps_is_never_without_a_run() -> None:
    for role, run in (("steps", None), ("launch", ASKING)):
        with pytest.raises(Refused, match="a run in another role"):
            gate_policy.decide(role, "GET", "/version", b"", RULES, run)


# Sockets of locations that come and go


def test_socket_is_there_before_the_first_run_of_a_new_location(world: World) -> None:
    """Without a restart of the gate. The engine would make a folder that is missing, for root alone."""
    folder = world.folder / "s" / "new"
    bind = f"{folder}:/run/docker-gate:ro"
    new = {**DELEGATES, "name": "new", "images": ["new:1"], "binds": [*LOCATION["binds"], bind], "steps": bind}
    world.write_runs([new])
    assert not folder.exists()
    body = {**delegating_body(Binds=new["binds"]), "Image": "new:1"}
    assert world.ask("launch", "POST", f"{API}/containers/create", body)[0] == 201
    assert (folder / "docker.sock").is_socket()


def test_run_whose_socket_cannot_be_made_is_refused(world: World) -> None:
    bind = f"{world.folder}/{'x' * 200}:/run/docker-gate:ro"
    long = {**DELEGATES, "name": "long", "images": ["long:1"], "binds": [*LOCATION["binds"], bind], "steps": bind}
    world.write_runs([long, LOCATION])
    body = {**delegating_body(Binds=long["binds"]), "Image": "long:1"}
    status, told = world.ask("launch", "POST", f"{API}/containers/create", body)
    assert (status, "a run whose socket for steps cannot be made" in told["message"]) == (403, True)
    assert any("cannot listen for the steps of long" in line for line in world.said)
    assert world.ask("launch", "POST", f"{API}/containers/create", run_body())[0] == 201, "and no others"


def test_connections_of_one_location_leave_the_services(world: World) -> None:
    kept = [world.connect("steps") for _number in range(60)]
    try:
        assert world.ask("launch", "GET", "/_ping")[0] == 200
    finally:
        for sock in kept:
            sock.close()


# What no run may


TARGET = gate_step_attacks.Target(
    run=RUN,
    own=OWN_STEP,
    container=DELEGATING,
    others=OTHER_STEP,
    other_run=OWN,
    foreign=CODE,
    image=OTHER["images"][0],
    network="bridge",
    socket=BIND,
    name=step_name(),
)
BASE = step_body()
ATTACKS = {
    **{name: request(*each) for name, each in gate_step_attacks.requests(BASE, TARGET).items()},
    **gate_attacks.texts(BASE, OWN_STEP),
}


def test_attacks_are_many_enough() -> None:
    assert len(gate_step_attacks.creations(BASE, TARGET)) >= 60
    assert len(ATTACKS) >= 150


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(shared: World, name: str) -> None:
    data = ATTACKS[name].replace(BIND.encode(), shared.bind.encode())
    data = fitted(data) if data != ATTACKS[name] else data
    shared.engine.asked.clear()
    shared.said.clear()
    answer = shared.send("steps", data)
    looks = ("/json", "/networks/dagster", "/networks/bridge")  # the gate itself looks what that is
    assert [each for each in shared.engine.asked if not each[1].endswith(looks)] == [], "the engine has got it"
    assert answer.split(b" ")[1:2] == [b"403"], answer[:200]
    (line,) = shared.said
    assert line.startswith(f"refused run {RUN} of mapped, process {os.getpid()} (steps): ")
    shared.engine.asked.clear()
    shared.send_without(data)
    assert shared.engine.asked, "the engine does not take it without a gate either, so this shows nothing"


def fitted(data: bytes) -> bytes:
    """A request whose length says again what it is."""
    head, _empty, body = data.partition(b"\r\n\r\n")
    lines = [
        f"Content-Length: {len(body)}".encode() if line.startswith(b"Content-Length: ") and body else line
        for line in head.split(b"\r\n")
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def test_control_of_the_attacks(shared: World) -> None:
    """What they change passes as it is."""
    body = here(BASE, shared.bind)
    assert shared.ask("steps", "POST", CREATE, body)[0] == 201
    for verb in ("start", "stop", "kill", "wait"):
        assert shared.ask("steps", "POST", f"{API}/containers/{OWN_STEP}/{verb}")[0] == 204
    assert shared.ask("launch", "POST", f"{API}/containers/{OWN}/stop")[0] == 204, "the daemon may"
