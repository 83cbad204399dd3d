"""The Docker gate and runs that start their steps in containers: what such a run may ask, and that it is known."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gate_attacks
import gate_container
import gate_endings
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
    CONTAINERS,
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


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    yield found
    found.end()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    found = World(tmp_path_factory.mktemp("steps"))
    yield found
    found.end()


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


def test_limits_of_a_step() -> None:
    host = made(step_body(Memory=1 << 20, CapAdd=["NET_RAW"]))["HostConfig"]
    assert (host["Memory"], host["PidsLimit"], host["CapAdd"], host["CapDrop"]) == (1 << 20, 4096, ["NET_RAW"], ["ALL"])
    assert made()["HostConfig"]["Memory"] == 1 << 30, "what the run has"
    for more in ({"Memory": (1 << 30) + 1}, {"Memory": 1 << 40}, {"PidsLimit": 4097}):
        with pytest.raises(Refused, match=next(iter(more))):
            made(step_body(**more))


def test_step_has_no_more_than_its_run_was_given() -> None:
    """The limits of a location are those of each of its steps, whatever the code in the run asks for."""
    asked = delegating_body(Memory=1 << 28, PidsLimit=100, NanoCpus=5 * 10**8, CpusetCpus="0")
    run = gate_container.checked(asked, RULES)
    asking = gate_steps.asking({"Config": run, "State": {"Running": True}}, "mapped", RULES)
    host = made(step_body(NanoCpus=64 * 10**9), run=asking)["HostConfig"]
    kept = {"Memory": 1 << 28, "PidsLimit": 100, "NanoCpus": 5 * 10**8, "CpusetCpus": "0"}
    assert {key: host[key] for key in kept} == kept
    with pytest.raises(Refused, match="Memory"):
        made(step_body(Memory=1 << 29), run=asking)


def step_of(asked: dict[str, Any], given: dict[str, Any], **exactly: Any) -> dict[str, Any]:
    """The HostConfig of a step that asks for something, of a run that was given something."""
    location = {**DELEGATES, "exactly": {**DELEGATES["exactly"], **exactly}, "security_opt": ["seccomp={}"]}
    rules = Rules(memory=1 << 30, most_memory=2 << 30, pids=4096, locations=(location,))
    run = gate_container.checked(delegating_body(**given), rules)
    asking = gate_steps.asking({"Config": run, "State": {"Running": True}}, "mapped", rules)
    body = step_body(**asked)
    host: dict[str, Any] = gate_steps.checked(body, step_name(), asking, asking.rules(rules))["HostConfig"]
    return host


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        # A quota is one of a period: a shorter period makes more of it.
        ({"CpuQuota": 50000}, {"CpuQuota": 50000, "CpuPeriod": 1000}),
        ({"CpusetCpus": "0"}, {"NanoCpus": 64 * 10**9}),
        ({}, {"CpuShares": 262144}),
        ({"BlkioWeight": 10}, {"BlkioWeight": 1000}),
        ({}, {"MemoryReservation": 1 << 30}),
        ({"OomScoreAdj": 900}, {"OomScoreAdj": 0}),
        ({}, {"Ulimits": [{"Name": "memlock", "Soft": -1, "Hard": -1}]}),
        ({"SecurityOpt": ["seccomp={}"]}, {}),
    ],
)
def test_step_has_the_share_of_its_run(given: dict[str, Any], asked: dict[str, Any]) -> None:
    run, step = step_of({}, given), step_of(asked, given)
    assert step == run
    for name in asked:
        assert step.get(name) == given.get(name)
    if "SecurityOpt" in given:
        assert step["SecurityOpt"] == ["no-new-privileges:true", "seccomp={}"]


def test_step_leaves_out_nothing_that_the_plan_says() -> None:
    """Docker's default would be more: another runtime, no limit of its log."""
    exactly = {"Runtime": "runsc", "Sysctls": {"net.ipv4.ip_unprivileged_port_start": "1024"}}
    asked = {"Runtime": "", "Sysctls": {}, "LogConfig": {}}
    host = step_of(asked, {"Runtime": "runsc"}, **exactly)
    assert {name: host[name] for name in asked} == {**exactly, "LogConfig": DELEGATES["exactly"]["LogConfig"]}


@pytest.mark.parametrize(
    ("run", "asked", "wanted"),
    [
        (None, {}, None),  # as much as memory, says the engine
        (None, {"Memory": 1 << 20, "MemorySwap": 2 << 30}, (1 << 20) + (1 << 30)),
        (1 << 30, {}, 1 << 30),
        (1 << 30, {"MemorySwap": 2 << 30}, 1 << 30),
        (1 << 30, {"Memory": 1 << 20, "MemorySwap": 1 << 30}, 1 << 20),
        (3 << 29, {"MemorySwap": 1 << 30}, 1 << 30),
    ],
)
def test_step_has_at_most_the_swap_of_its_run(run: int | None, asked: dict[str, int], wanted: int | None) -> None:
    given = {"Memory": 1 << 30, **({"MemorySwap": run} if run else {})}
    assert step_of(asked, given).get("MemorySwap") == wanted


def test_step_does_not_say_how_it_ends() -> None:
    """An engine that ends waits for a container as long as it says."""
    step = made({**step_body(), "StopTimeout": 86400, "StopSignal": "SIGCONT"})
    assert (step["StopTimeout"], step["StopSignal"]) == (None, None)


RESTRICTED = {**ALLOWED, "exactly": {**ALLOWED["exactly"], "User": "1000:1000", "ReadonlyRootfs": True}}


def test_step_is_as_restricted_as_its_run() -> None:
    asking = gate_steps.Run(RUN, "nightly", RESTRICTED)
    assert asking.user == 1000
    body = {**step_body(ReadonlyRootfs=True), "User": "1000:1000"}
    assert made(body, run=asking)["HostConfig"]["ReadonlyRootfs"] is True
    for changed in ({**body, "User": "0:0"}, {**step_body(), "User": "1000:1000"}):
        with pytest.raises(Refused):
            made(changed, run=asking)


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


# The end of a run


def test_connection_ends_with_the_run(world: World) -> None:
    """A process may hand its connection on to one of another container, and that would start steps after the end."""
    with world.connect("steps") as sock:
        ask = request("POST", CREATE, here(step_body(), world.bind)).replace(b"Connection: close\r\n", b"")
        sock.sendall(ask)
        assert b" 201 " in sock.recv(65536).partition(b"\r\n")[0], "the control"
        world.engine.ended.add(DELEGATING)
        sock.sendall(ask)
        answer = sock.recv(65536)
    assert (answer.split(b" ")[1], b"a run whose container has ended" in answer) == (b"403", True)
    assert world.ask("steps", "GET", "/version")[0] == 403
    assert len(world.engine.changes()) == 1


def listed(number: str) -> dict[str, Any]:
    """A container as lists show it."""
    return {"Id": number, "Labels": CONTAINERS[number]}


def test_steps_of_a_run_that_has_died_end_after_a_while(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at once: run_monitoring may start the run anew. And a run that has come back keeps them."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def rounds(seconds: float, *there: str) -> list[str]:
        world.engine.asked.clear()
        world.engine.listed = [listed(number) for number in there]
        now[0] += seconds
        world.gate.endings.look("dataops.dagster.run")
        return [path for _method, path, _body in world.engine.changes()]

    assert rounds(0, OWN_STEP, OTHER_STEP, DELEGATING) == []
    assert rounds(800, OWN_STEP, OTHER_STEP, DELEGATING) == []
    assert rounds(200, OWN_STEP, DELEGATING, OTHER_STEP) == [f"/containers/{OTHER_STEP}/stop?t=10"]
    assert rounds(0, OWN_STEP) == []
    assert rounds(800, OWN_STEP) == []
    assert rounds(50, OWN_STEP, DELEGATING) == [], "the run has come back"
    assert rounds(100, OWN_STEP) == []
    assert rounds(900, OWN_STEP) == [f"/containers/{OWN_STEP}/stop?t=10"]
    assert len([line for line in world.said if line.startswith("ends the step in container ")]) == 2


def test_gate_looks_after_steps_where_there_may_be_some(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_endings, "ROUND", 0.02)
    looks: list[str] = []
    found = gate_endings.Endings(world.gate.engine, world.gate.say)

    def look(label: str) -> None:
        looks.append(label)
        if len(looks) == 1:
            raise OSError("the engine restarts")
        ending.set()

    monkeypatch.setattr(found, "look", look)
    ending = threading.Event()
    found.watch(ending, world.gate.label_of_steps)
    assert looks == ["dataops.dagster.run"] * 2
    assert world.said == ["cannot see which steps have lost their run: the engine restarts"]
    world.gate.room = {"launch": world.gate.room["launch"]}
    assert world.gate.label_of_steps() == "", "no location starts steps"


def test_stop_of_a_run_ends_the_steps_that_it_leaves(world: World) -> None:
    """Its time may be over before it has ended them, and Dagster ends none of a run that it would resume."""
    world.engine.listed = [{"Id": OWN_STEP}]
    assert world.ask("inspect", "POST", f"{API}/containers/{DELEGATING}/stop?t=30")[0] == 204
    world.end()
    stops = [path for _method, path, _body in world.engine.changes()]
    assert stops == [f"{API}/containers/{DELEGATING}/stop?t=30", f"/containers/{OWN_STEP}/stop?t=10"]
    (listing,) = [path for _method, path, _body in world.engine.asked if "containers/json" in path]
    assert RUN in listing
    assert STEP in listing


def test_stop_of_another_run_ends_no_others(world: World) -> None:
    world.engine.listed = [{"Id": OWN_STEP}]
    assert world.ask("inspect", "POST", f"{API}/containers/{OWN}/stop?t=30")[0] == 204
    assert world.ask("steps", "POST", f"{API}/containers/{OWN_STEP}/stop?t=30")[0] == 204
    world.end()
    assert len(world.engine.changes()) == 2


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
