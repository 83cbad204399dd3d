"""What the gate is told of the runs of each location, against what Docker's own client asks for."""

from __future__ import annotations

import json
from typing import Any

import docker
import gate_container
import pytest
from docker.models.containers import _create_container_args  # type: ignore[attr-defined]
from gate_container import Refused, Rules
from gate_world import RUN
from plans import LOCATION, component

from ansible_collections.dataops.dagster.plugins.filter.code_location import code_containers, gate_runs
from ansible_collections.dataops.dagster.plugins.module_utils._docker import rights
from ansible_collections.dataops.dagster.plugins.plugin_utils.run_rules import VERSIONS

IMAGES = {"etl": {"ref": "dagster-code/etl:0123456789abcdef", "id": "sha256:1"}}
VOLUMES = ["/var/lib/dagster:/var/lib/dagster", "/etc/dagster/containers:/run/dagster:ro"]
SECRETS = "/etc/dagster/secrets"


def planned(before: str = "", **variables: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The file of the gate, and the arguments with which the launcher makes a run's container."""
    found = component("code_location", **variables)
    handed = found.handed({})
    locations = found.values["dagster_code_locations"]
    text = gate_runs(locations, IMAGES, before, VOLUMES, SECRETS, handed["every_run"], handed["launcher"])
    (server,) = code_containers(
        locations, IMAGES, {}, VOLUMES, SECRETS, "127.0.0.1", every_run=handed["every_run"], run_volumes=VOLUMES
    )
    own = json.loads(server["env"]["DAGSTER_CONTAINER_CONTEXT"])["docker"]
    all_runs = found.plan.configuration.merged["run_launcher"]["config"]
    kwargs = {**all_runs["container_kwargs"], **own["container_kwargs"]}
    return json.loads(text), {**kwargs, "networks": [*all_runs["networks"], *own["networks"]]}


def asked(arguments: dict[str, Any]) -> dict[str, Any]:
    """What Docker's client sends for them, as DockerRunLauncher gives them to it."""
    given = {**arguments, "version": "1.41"}
    networks = given.pop("networks")
    labels = given.pop("labels", {})
    labels = dict.fromkeys(labels, "") if isinstance(labels, list) else dict(labels)
    given.pop("stop_timeout", None)
    given |= {
        "image": IMAGES["etl"]["ref"],
        "command": ["dagster", "api", "execute_run", json.dumps({"run_id": RUN})],
        "detach": True,
        "environment": {"A": "b"},
        "network": networks[0],
        "labels": {**labels, "dagster/run_id": RUN, "dagster/job_name": "nightly"},
    }
    made = _create_container_args(given)
    client = docker.APIClient(version="1.41", base_url="unix:///nowhere.sock")
    found: dict[str, Any] = json.loads(json.dumps(client.create_container_config(made.pop("image"), **made)))
    return found


def rules(file: dict[str, Any]) -> Rules:
    return Rules(memory=1 << 30, most_memory=8 << 30, pids=4096, locations=(*file["locations"], *file["before"]))


def location(**changes: Any) -> dict[str, Any]:
    return {"dagster_code_locations": [{**LOCATION, "name": "etl", **changes}]}


def kwargs(**arguments: Any) -> dict[str, Any]:
    return {"dagster_config": {"run_launcher": {"config": {"container_kwargs": arguments}}}}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        location(secrets={"token": "x"}, secret_env={"A": "b"}),
        location(volumes=["/srv/data:/data:ro", "cache:/cache"], capabilities=["NET_RAW"], devices=["/dev/fuse"]),
        location(user="1000:1000", read_only=True, secrets={"token": "x"}, capabilities=["NET_RAW"]),
        location(shm_size="1g", extra_hosts=["db:10.0.0.9"], labels={"team": "x"}, networks=["lake"]),
        location(container_context={"container_kwargs": {"mem_limit": "2g", "nano_cpus": 5, "read_only": True}}),
        location(
            container_context={"container_kwargs": {"device_requests": [{"count": -1, "capabilities": [["gpu"]]}]}}
        ),
        location(container_context={"docker": {"container_kwargs": {"runtime": "nvidia", "group_add": ["video"]}}}),
        location(container_context={"container_kwargs": {"tmpfs": {"/scratch": "size=64m"}, "hostname": "run"}}),
        kwargs(volumes={"/srv/a": {"bind": "/a", "mode": "ro"}, "/srv/b": {"bind": "/b"}}),
        kwargs(mounts=[{"Type": "bind", "Source": "/srv/lake", "Target": "/lake", "ReadOnly": True}]),
        kwargs(devices=["/dev/fuse:/dev/fuse:r"], cap_add=["sys_ptrace"], sysctls={"net.core.somaxconn": 1024}),
        kwargs(healthcheck={"test": ["CMD", "true"]}, ulimits=[{"Name": "nofile", "Soft": 1, "Hard": 2}]),
        {**kwargs(auto_remove=True), "dagster_config_allow": ["auto_remove"]},
        {**kwargs(restart_policy={"Name": "on-failure"}), "dagster_config_allow": ["restart_policy"]},
        {**kwargs(entrypoint="tini --"), "dagster_config_allow": ["entrypoint"]},
    ],
)
def test_run_of_the_plan_passes_and_any_other_does_not(variables: dict[str, Any]) -> None:
    file, arguments = planned(**variables)
    body = asked(arguments)
    assert gate_container.checked(body, rules(file))
    body["HostConfig"]["Binds"] = [*body["HostConfig"]["Binds"], "/:/host"]
    with pytest.raises(Refused, match="Binds"):
        gate_container.checked(body, rules(file))


def test_what_was_planned_before_stays_for_some_changes() -> None:
    """A run that is queued, or asked of a code server that is not replaced yet, has what was planned before.

    Also after a deployment that failed, and its mend: what was before both still serves.
    """
    first, arguments = planned(**location(volumes=["/srv/old:/data"]))
    old = asked(arguments)
    second, arguments = planned(json.dumps(first), **location(volumes=["/srv/new:/data"]))
    for body in (old, asked(arguments)):
        assert gate_container.checked(body, rules(second))
    again, _arguments = planned(json.dumps(second), **location(volumes=["/srv/new:/data"]))
    assert again == second, "a second run changes nothing"
    found = second
    for number in range(VERSIONS - 1):
        found, _arguments = planned(json.dumps(found), **location(volumes=[f"/srv/{number}:/data"]))
        assert gate_container.checked(old, rules(found))
    last, _arguments = planned(json.dumps(found), **location())
    with pytest.raises(Refused):
        gate_container.checked(old, rules(last))


def test_rights_of_a_location_are_those_of_its_runs() -> None:
    """What role code_location tells the launcher, the gate knows: user, files of that user, root and capabilities."""
    file, arguments = planned(**location(user="1000", read_only=True, capabilities=["NET_RAW"]))
    (known,) = file["locations"]
    assert known["capabilities"] == ["NET_RAW"]
    assert (known["exactly"]["User"], known["exactly"]["ReadonlyRootfs"]) == ("1000", True)
    assert "/etc/dagster/users/1000/containers:/run/dagster:ro" in known["binds"]
    made = gate_container.checked(asked(arguments), rules(file))
    host = made["HostConfig"]
    assert (made["User"], host["ReadonlyRootfs"], host["Tmpfs"]) == ("1000", True, rights.TEMPORARY)
    assert (host["CapAdd"], host["CapDrop"], host["SecurityOpt"]) == (["NET_RAW"], ["ALL"], [*rights.SECURITY])
    plain, _arguments = planned(**location())
    with pytest.raises(Refused):
        gate_container.checked(asked(arguments), rules(plain))


def test_file_that_somebody_has_damaged_is_written_anew() -> None:
    file, _arguments = planned("{")
    assert file["before"] == []
    assert file["locations"]
