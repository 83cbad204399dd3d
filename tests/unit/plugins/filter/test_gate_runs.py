"""What the gate is told of the runs of each location, against what Docker's own client asks for."""

from __future__ import annotations

import json
from typing import Any

import gate_container
import gate_steps
import pytest
from gate_container import Refused
from gate_launches import STEPS, asked, kwargs, location, planned, rules
from gate_world import step_command, step_name

from ansible_collections.dataops.dagster.plugins.module_utils._docker import rights
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import step_containers
from ansible_collections.dataops.dagster.plugins.plugin_utils.run_rules import VERSIONS


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


def test_planned_run_drops_its_rights_by_itself() -> None:
    """Role and gate each do it, so neither depends on the other. The gate's part is in test_docker_gate.py."""
    _file, arguments = planned(**location(capabilities=["NET_RAW"]))
    host = asked(arguments)["HostConfig"]
    assert (host["CapAdd"], host["CapDrop"], host["SecurityOpt"]) == (["NET_RAW"], ["ALL"], [*rights.SECURITY])


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


def of_a_step(arguments: dict[str, Any]) -> dict[str, Any]:
    """What docker_executor sends: it knows no label of a run, and all else as the run has it."""
    body = asked(arguments)
    labels = {name: value for name, value in body["Labels"].items() if not name.startswith("dagster/")}
    return {**body, "Labels": labels, "Cmd": step_command()}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"secrets": {"token": "x"}, "secret_env": {"A": "b"}, "labels": {"team": "data"}},
        {"user": "1000:1000", "read_only": True, "secrets": {"token": "x"}, "capabilities": ["NET_RAW"]},
        {"volumes": ["/srv/data:/data:ro"], "devices": ["/dev/fuse"], "networks": ["lake"], "shm_size": "1g"},
        {"container_context": {"docker": {"container_kwargs": {"runtime": "nvidia", "mem_limit": "2g"}}}},
    ],
)
def test_steps_of_a_run_pass_where_the_location_says_so(changes: dict[str, Any]) -> None:
    """From the inventory to the engine: the run has the socket, its steps have the rest."""
    file, arguments = planned(**location(step_containers=True, **changes))
    run = gate_container.checked(asked(arguments), rules(file))
    assert f"{STEPS}/etl:/run/docker-gate:ro" in run["HostConfig"]["Binds"]
    hosts = [text for text in run["Env"] if text.startswith("DOCKER_HOST=")]
    assert hosts == ["DOCKER_HOST=unix:///run/docker-gate/docker.sock"]
    asking = gate_steps.asking({"Config": {"Labels": run["Labels"]}, "State": {"Running": True}}, "etl", rules(file))
    step = gate_steps.checked(of_a_step(arguments), step_name(), asking, asking.rules(rules(file)))
    binds = [each for each in run["HostConfig"]["Binds"] if "docker-gate" not in each]
    assert step["HostConfig"] == {**run["HostConfig"], "Binds": binds}
    assert "/run/dagster" in str(binds), "the login of runs"
    assert not [text for text in step["Env"] if text.startswith("DOCKER_HOST=")]
    assert asking.user == int(str(changes.get("user", "0")).partition(":")[0])


def test_run_of_a_location_without_the_option_has_no_socket() -> None:
    file, arguments = planned(**location())
    assert "docker-gate" not in json.dumps([file, arguments["volumes"]])
    body = asked(arguments)
    hosts = [text for text in body["Env"] if text.startswith("DOCKER_HOST=")]
    assert hosts == [step_containers.NO_ENGINE], "Docker's client says which option is not set"
    _file, others = planned(**location(step_containers=True))
    with pytest.raises(Refused, match="Binds"):
        gate_container.checked(asked(others), rules(file))


def test_file_that_somebody_has_damaged_is_written_anew() -> None:
    file, _arguments = planned("{")
    assert file["before"] == []
    assert file["locations"]
