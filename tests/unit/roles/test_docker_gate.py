"""The Docker gate before an engine that only listens: what it lets through, what it refuses, and who may ask."""

from __future__ import annotations

import dataclasses
import json
import os
import random
from pathlib import Path
from typing import Any, cast

import gate_attacks
import gate_container
import gate_policy
import pytest
from gate_container import Refused, Rules
from gate_world import CODE, CONTAINERS, FOREIGN, LOCATION, OTHER, OWN, World, program, request, run_body

from ansible_collections.dataops.dagster.plugins.module_utils._docker import rights

API = "/v1.41"
ROLES = ("launch", "inspect")
BASE = run_body()
RULES = Rules(memory=1 << 30, most_memory=2 << 30, pids=4096, locations=(LOCATION, OTHER))


# What runs need


def test_run_is_launched_as_the_launcher_does_it(world: World) -> None:
    """GET /version, create, inspect, further networks, start, and later the look at its health and its end."""
    assert world.ask("launch", "GET", "/version") == (200, {"ApiVersion": "1.41", "Version": "20.10"})
    assert world.ask("launch", "POST", f"{API}/containers/create", run_body())[0] == 201
    assert world.ask("launch", "GET", f"{API}/containers/{OWN}/json")[1]["Id"] == OWN
    assert world.ask("launch", "GET", f"{API}/networks/lake")[1] == {"Id": "2" * 64, "Name": "lake"}
    joined = {"Container": OWN, "EndpointConfig": {}}
    assert world.ask("launch", "POST", f"{API}/networks/{'2' * 64}/connect", joined)[0] == 204
    assert world.ask("launch", "POST", f"{API}/containers/{OWN[:12]}/start")[0] == 204
    assert world.ask("inspect", "GET", f"{API}/containers/{OWN}/json")[0] == 200
    assert world.ask("inspect", "POST", f"{API}/containers/{OWN}/stop?t=30")[0] == 204
    assert world.ask("launch", "DELETE", f"{API}/containers/{OWN}?v=False&link=False&force=True")[0] == 204
    changes = [(method, path) for method, path, _body in world.engine.changes()]
    assert changes == [
        ("POST", f"{API}/containers/create"),
        ("POST", f"{API}/networks/{'2' * 64}/connect"),
        ("POST", f"{API}/containers/{OWN}/start"),
        ("POST", f"{API}/containers/{OWN}/stop?t=30"),
        ("DELETE", f"{API}/containers/{OWN}?v=False&link=False&force=True"),
    ]
    assert json.loads(world.engine.changes()[1][2]) == {"Container": OWN, "EndpointConfig": {}}
    assert world.said == []


@pytest.mark.parametrize("role", ROLES)
def test_what_both_roles_may_ask(world: World, role: str) -> None:
    for method, target, status in (
        ("GET", "/_ping", 200),
        ("HEAD", "/_ping", 200),
        ("GET", f"{API}/info", 200),
        ("GET", f"{API}/images/{LOCATION['images'][0]}/json", 200),
        ("GET", f"{API}/images/{OTHER['images'][0]}/json", 200),
        ("GET", f"{API}/containers/json?all=1&limit=-1&size=0", 200),
        ("GET", f"{API}/containers/unknown/json", 404),
        ("POST", f"{API}/containers/{OWN}/wait?condition=not-running", 204),
    ):
        assert world.ask(role, method, target)[0] == status, target
    assert world.ask(role, "POST", f"{API}/auth", {"username": "u", "password": "p"})[0] == 200
    assert all(b"password" not in body for _method, _path, body in world.engine.asked), "it goes to no engine"


def test_answers_are_reduced(world: World) -> None:
    assert world.ask("inspect", "GET", f"{API}/info")[1] == {"ServerVersion": "20.10"}
    assert world.ask("inspect", "GET", f"{API}/images/{LOCATION['images'][0]}/json")[1] == {"Id": "x"}


def test_list_is_that_of_runs_alone(world: World) -> None:
    filters = "%7B%22status%22%3A%5B%22exited%22%5D%7D"
    assert world.ask("inspect", "GET", f"{API}/containers/json?filters={filters}")[0] == 200
    asked = world.engine.asked[-1][1]
    assert "dataops.dagster.run" in asked
    assert "status" in asked


def test_limits_are_set_where_a_run_says_nothing(world: World) -> None:
    world.ask("launch", "POST", f"{API}/containers/create", run_body())
    host = json.loads(world.engine.changes()[0][2])["HostConfig"]
    assert host["Memory"] == 1 << 30
    assert host["PidsLimit"] == 4096
    ours = {"CapDrop": list(rights.DROPPED), "SecurityOpt": list(rights.SECURITY)}
    assert {key: host[key] for key in ours} == ours, "what the launcher asks for, and what code servers have"
    assert host["CapAdd"] is None


@pytest.mark.parametrize(
    ("asked", "key", "value"),
    [
        ({"Memory": 1 << 20}, "Memory", 1 << 20),
        ({"PidsLimit": 10}, "PidsLimit", 10),
        ({"CapAdd": ["CAP_net_raw"]}, "CapAdd", ["NET_RAW"]),
        ({"CapDrop": ["CAP_KILL"]}, "CapDrop", ["ALL"]),
        ({"CapDrop": []}, "CapDrop", ["ALL"]),
        ({"SecurityOpt": ["no-new-privileges"]}, "SecurityOpt", ["no-new-privileges:true"]),
    ],
)
def test_limits_that_a_run_asks_for(asked: dict[str, Any], key: str, value: Any) -> None:
    assert gate_container.checked(run_body(**asked), RULES)["HostConfig"][key] == value


@pytest.mark.parametrize(
    "host",
    [
        {"Binds": [f"{LOCATION['binds'][0]}:rw"]},
        {"Mounts": [{"Target": "/lake", "Source": "/srv/lake", "Type": "bind", "ReadOnly": True}]},
        {"Devices": LOCATION["devices"]},
        {"NetworkMode": "lake"},
        {
            "Tmpfs": {"/t": "size=1m,mode=1777"},
            "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
            "Dns": ["1.1.1.1"],
        },
        {"ExtraHosts": ["db:host-gateway"], "ShmSize": 1 << 26, "NanoCpus": 5, "ReadonlyRootfs": True},
    ],
)
def test_what_the_plan_says_passes(host: dict[str, Any]) -> None:
    body = run_body(**host)
    body["Volumes"] = {}
    assert gate_container.checked(body, RULES)["Image"] == LOCATION["images"][0]


def test_resumed_run_and_another_python_pass() -> None:
    body = run_body()
    body["Cmd"][2] = "resume_run"
    assert gate_container.checked(body, RULES)
    body["Cmd"] = ["/opt/venv/bin/python", "-m", *body["Cmd"]]
    assert gate_container.checked(body, RULES)


RESTRICTED = {**LOCATION, "exactly": {**LOCATION["exactly"], "User": "1000:1000", "ReadonlyRootfs": True}}


@pytest.mark.parametrize(("user", "read_only"), [("0:0", True), ("", True), (None, True), ("1000:1000", None)])
def test_run_is_as_restricted_as_its_location(user: str | None, read_only: bool | None) -> None:
    rules = dataclasses.replace(RULES, locations=(RESTRICTED,))
    asked = {**run_body(ReadonlyRootfs=True, Tmpfs={"/tmp": "mode=1777"}), "User": "1000:1000"}
    assert gate_container.checked(asked, rules)["HostConfig"]["Tmpfs"] == rights.TEMPORARY, "the control"
    with pytest.raises(Refused, match="User" if read_only else "ReadonlyRootfs"):
        gate_container.checked({**run_body(ReadonlyRootfs=read_only), "User": user}, rules)


PLANNED = {**LOCATION, "env": ["NVIDIA_VISIBLE_DEVICES=0", "LD_LIBRARY_PATH"], "labels": {"team": "data"}}


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({"Env": ["NVIDIA_VISIBLE_DEVICES=0", "LD_LIBRARY_PATH=/opt/lib", "SECRET=s3cret"]}, True),
        ({"Env": ["NVIDIA_VISIBLE_DEVICES=all", "SECRET=s3cret"]}, False),
        ({"Env": ["LD_PRELOAD=/x.so", "SECRET=s3cret"]}, False),
        ({"Env": ["SECRET=s3cret", "SECRET2 s3cret"]}, False),
        ({"Labels": {**BASE["Labels"], "team": "data"}}, True),
        ({"Labels": {**BASE["Labels"], "team": "other"}}, False),
        ({"Labels": {**BASE["Labels"], "traefik.enable": "true"}}, False),
        ({"WorkingDir": "/opt/app/"}, True),
        ({"WorkingDir": "/proc/self/fd/8"}, False),
        ({"WorkingDir": "/opt/../proc/self/fd/8"}, False),
    ],
)
def test_labels_variables_and_folder_are_those_of_the_plan(changes: dict[str, Any], good: bool) -> None:
    """Hooks of the runtime and other programs of the host act on them. Values stay out of the journal."""
    body, rules = {**run_body(), **changes}, dataclasses.replace(RULES, locations=(PLANNED,))
    if good:
        assert gate_container.checked(body, rules)
        return
    with pytest.raises(Refused) as refused:
        gate_container.checked(body, rules)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(("name", "status"), [("dagster", 204), ("lake", 403)])
def test_container_joins_the_networks_of_its_location_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str, status: int
) -> None:
    """Another location has the network lake, and each container has been made with those of its own."""
    body = {**run_body(), "Image": OTHER["images"][0]}
    assert world.ask("launch", "POST", f"{API}/containers/create", body)[0] == 201
    made = json.loads(world.engine.changes()[0][2])["Labels"]
    assert json.loads(made[gate_container.NETWORKS]) == ["dagster"]
    monkeypatch.setitem(CONTAINERS, OWN, made)
    joined = {"Container": OWN, "EndpointConfig": {}}
    assert world.ask("launch", "POST", f"{API}/networks/{name}/connect", joined)[0] == status
    monkeypatch.setitem(CONTAINERS, OWN, {name: each for name, each in made.items() if name != gate_container.NETWORKS})
    assert world.ask("launch", "POST", f"{API}/networks/{name}/connect", joined)[0] == 403, "the gate has not made it"


def test_image_by_digest_of_another_location() -> None:
    body = run_body()
    body["Image"] = OTHER["images"][0]
    assert gate_container.checked(body, RULES)
    body["HostConfig"]["Devices"] = LOCATION["devices"]
    with pytest.raises(Refused, match="Devices"):
        gate_container.checked(body, RULES)
    with pytest.raises(Refused, match="the capability NET_RAW"):
        gate_container.checked({**run_body(CapAdd=["NET_RAW"]), "Image": OTHER["images"][0]}, RULES)


def test_new_images_are_known_without_a_restart_and_old_ones_stay(world: World) -> None:
    body = run_body()
    body["Image"] = "new:2"
    assert world.ask("launch", "POST", f"{API}/containers/create", body)[0] == 403
    world.write_runs([{**LOCATION, "images": ["new:2"]}], [LOCATION])
    assert world.ask("launch", "POST", f"{API}/containers/create", body)[0] == 201
    assert world.ask("launch", "POST", f"{API}/containers/create", run_body())[0] == 201


def test_nothing_is_made_before_the_plan_is_known(world: World) -> None:
    (world.folder / "runs.json").unlink()
    status, told = world.ask("launch", "POST", f"{API}/containers/create", run_body())
    assert (status, "which no location has" in told["message"]) == (403, True)


def test_connection_is_used_again(world: World) -> None:
    with world.connect("launch") as sock:
        for _number in range(3):
            sock.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")


# What nobody may


ATTACKS = {
    **{name: request(*each) for name, each in gate_attacks.requests(BASE, OWN, FOREIGN).items()},
    **gate_attacks.texts(BASE, OWN),
}


def test_attacks_are_many_enough() -> None:
    assert len(ATTACKS) >= 60


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(shared: World, name: str) -> None:
    data = ATTACKS[name]
    for role in ROLES:
        shared.engine.asked.clear()
        shared.said.clear()
        answer = shared.send(role, data)
        asked = [each for each in shared.engine.asked if not each[1].endswith(("/json", f"/networks/{'dagster'}"))]
        asked = [each for each in asked if each[1] != "/networks/bridge"]  # the gate itself looks what that is
        assert asked == [], f"{role}: the engine has got it"
        status = answer.split(b" ")[1:2]
        assert status == [b"403"], (role, answer[:200])
        assert len(shared.said) == 1, shared.said
        assert shared.said[0].startswith("refused ")
        assert f"({role})" in shared.said[0]
    shared.engine.asked.clear()
    shared.send_without(data)
    assert shared.engine.asked, "the engine does not take it without a gate either, so this shows nothing"


LAUNCHES = {
    "create": ("POST", f"{API}/containers/create", BASE),
    "start": ("POST", f"{API}/containers/{OWN}/start", None),
    "kill": ("POST", f"{API}/containers/{OWN}/kill", None),
    "remove": ("DELETE", f"{API}/containers/{OWN}", None),
    "look at a network": ("GET", f"{API}/networks/dagster", None),
    "join": ("POST", f"{API}/networks/dagster/connect", {"Container": OWN}),
}


@pytest.mark.parametrize("name", LAUNCHES)
def test_webservers_launch_nothing(world: World, name: str) -> None:
    assert world.ask("inspect", *LAUNCHES[name])[0] == 403
    assert world.engine.asked == []
    assert "(inspect)" in world.said[0]
    assert world.ask("launch", *LAUNCHES[name])[0] < 300, "the daemon may"


def test_code_servers_are_no_runs(world: World) -> None:
    assert world.ask("launch", "POST", f"{API}/containers/{CODE}/stop")[0] == 403
    assert world.engine.changes() == []


def test_runs_from_before_the_label_on_an_engine_of_ours(tmp_path: Path) -> None:
    found = World(tmp_path, label="dagster/run_id")
    try:
        assert found.ask("inspect", "POST", f"{API}/containers/{FOREIGN}/stop")[0] == 204
        assert found.ask("inspect", "POST", f"{API}/containers/{CODE}/stop")[0] == 403
    finally:
        found.end()


def test_user_who_is_none_of_the_services_is_refused(world: World) -> None:
    world.gate.settings.given["users"].clear()
    assert world.send("launch", request("GET", "/_ping")) == b""
    assert "at the socket of launch" in world.said[0]


def test_refusal_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever asks writes no line of its own into the journal."""
    program.Gate.say(cast(Any, None), 5, "refused the image x\n<6>accepted\x1b[0m")
    assert capsys.readouterr().err.splitlines() == ["<5>refused the image x\\n<6>accepted\\x1b[0m"]


def test_mount_in_other_letters_is_another_one() -> None:
    """To the engine it is the same key, and the last one counts."""
    planned = {"Type": "bind", "Source": "/srv/lake", "Target": "/lake", "ReadOnly": True}
    assert gate_container.mount({**planned, "VolumeOptions": None}) == gate_container.mount(planned)
    for more in ({"readonly": False}, {"volumeoptions": None}, {"\u017fource": ""}):
        assert gate_container.mount({**planned, **more}) != gate_container.mount(planned)


def test_refusal_says_who_and_what_and_why(world: World) -> None:
    body = run_body(Privileged=True)
    _status, told = world.ask("launch", "POST", f"{API}/containers/create", body)
    assert told == {"message": "The Docker gate refuses HostConfig.Privileged: 'True' is not what the plan says"}
    line = world.said[0]
    assert f"process {os.getpid()} (launch): POST {API}/containers/create: HostConfig.Privileged" in line


def test_sockets_are_for_the_groups_of_the_roles(world: World) -> None:
    for role in ROLES:
        assert (world.folder / f"{role}.sock").stat().st_mode & 0o777 == 0o660


# Fuzz


def changed(rng: random.Random, value: Any) -> Any:
    """A body in which something is another thing."""
    things: list[Any] = [True, None, -1, 1 << 60, "host", "/", ["/:/x"], {"a": "b"}, "\u0000", 1.5, [], {}]
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        found = dict(value)
        how = rng.random()
        if how < 0.5:
            found[key] = changed(rng, value[key])
        elif how < 0.7:
            found[key.swapcase()] = found.pop(key)
        elif how < 0.9:
            known = [*gate_container.HOST, *gate_container.BODY, "Privileged", "PidMode", "VolumesFrom", "PortBindings"]
            found[rng.choice(known)] = rng.choice(things)
        else:
            found.pop(key)
        return found
    if isinstance(value, list) and value and rng.random() < 0.7:
        items = list(value)
        items[rng.randrange(len(items))] = changed(rng, rng.choice(items))
        return items
    return rng.choice(things)


def dangerous(body: dict[str, Any]) -> list[str]:
    """What of a body that was let through gives more than a run has; judged apart from the gate's own code."""
    host = body["HostConfig"]
    known = {name: value for name, value in host.items() if value}
    found = [
        name
        for name in (
            *(
                "Privileged",
                "PidMode",
                "IpcMode",
                "UTSMode",
                "UsernsMode",
                "CgroupParent",
                "VolumesFrom",
                "PortBindings",
            ),
            *("DeviceCgroupRules", "Sysctls", "Links", "VolumeDriver", "Runtime", "OomKillDisable", "CgroupnsMode"),
            *("MaskedPaths", "ReadonlyPaths", "PublishAllPorts", "GroupAdd", "DeviceRequests", "RestartPolicy"),
        )
        if name in known
    ]
    found += [bind for bind in host.get("Binds") or () if bind not in LOCATION["binds"]]
    found += [str(mount) for mount in host.get("Mounts") or () if mount not in LOCATION["mounts"]]
    found += [name for name in host["CapAdd"] or () if name != "NET_RAW"]
    lower = [name.lower() for name in (*body, *host)]
    found += ["twice"] * (len(lower) != len(set(lower)) + len({*body} & {*host}))
    right = host["CapDrop"] == ["ALL"] and host["SecurityOpt"] == [*rights.SECURITY] and 0 < host["Memory"] <= 2 << 30
    return [*found, *([] if right and body["Image"] in LOCATION["images"] + OTHER["images"] else ["limits"])]


def test_fuzz_of_bodies_lets_nothing_through() -> None:
    rng = random.Random(13)  # noqa: S311 - the same each time
    through = 0
    for _number in range(4000):
        body: Any = run_body()
        for _change in range(rng.randint(1, 3)):
            body = changed(rng, body)
        try:
            text = json.dumps(body).encode()
            step = gate_policy.decide("launch", "POST", f"{API}/containers/create", text, RULES)
        except Refused:
            continue
        through += 1
        assert dangerous(json.loads(step.body)) == [], text
    assert through > 100, "everything is refused, so this shows nothing"
    assert dangerous({**run_body(Privileged=True, **LIMITS)}) == ["Privileged"], "the judge sees what it has to"


LIMITS: dict[str, Any] = {"CapAdd": [], "CapDrop": ["ALL"], "SecurityOpt": [*rights.SECURITY], "Memory": 1 << 20}


def test_fuzz_of_requests_ends_nothing(shared: World) -> None:
    """Bytes that are not HTTP, halves of requests, requests with wrong bytes: each is refused, and the gate goes on."""
    rng = random.Random(13)  # noqa: S311 - the same each time
    good = [request("POST", f"{API}/containers/create", BASE), request("POST", f"{API}/containers/{OWN}/stop?t=1")]
    shared.engine.asked.clear()
    for _number in range(300):
        data = bytearray(rng.choice(good))
        for _change in range(rng.randint(1, 6)):
            how, at = rng.random(), rng.randrange(len(data))
            if how < 0.5:
                data[at] = rng.randrange(256)
            elif how < 0.7:
                del data[at : at + rng.randint(1, 40)]
            else:
                data[at:at] = bytes(rng.randrange(256) for _byte in range(rng.randint(1, 20)))
        shared.send("launch", bytes(data))
    allowed = (f"{API}/containers/create", f"{API}/containers/{OWN}/stop", f"{API}/containers/{OWN}/wait")
    for _method, path, body in shared.engine.changes():
        assert path.partition("?")[0] in allowed, path
        assert b"/host" not in body
    assert shared.ask("launch", "GET", "/_ping") == (200, b"OK")
