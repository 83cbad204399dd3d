"""From an inventory to the container of a run: the file of the gate, and what Docker's own client asks for."""

from __future__ import annotations

import json
from typing import Any

import docker
from docker.models.containers import _create_container_args  # type: ignore[attr-defined]
from gate_container import Rules
from gate_world import RUN
from plans import LOCATION, component

from ansible_collections.dataops.dagster.plugins.filter.code_location import code_containers, gate_runs

IMAGES = {"etl": {"ref": "dagster-code/etl:0123456789abcdef", "id": "sha256:1"}}
VOLUMES = ["/var/lib/dagster:/var/lib/dagster", "/etc/dagster/containers:/run/dagster:ro"]
SECRETS = "/etc/dagster/secrets"
STEPS = "/run/docker-gate-dagster/steps"


def planned(before: str = "", **variables: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The file of the gate, and the arguments with which the launcher makes a run's container."""
    found = component("code_location", **variables)
    handed = found.handed({})
    locations = found.values["dagster_code_locations"]
    every = handed["every_run"]
    text = gate_runs(locations, IMAGES, before, VOLUMES, SECRETS, every, handed["launcher"], STEPS)
    (server,) = code_containers(
        locations, IMAGES, {}, VOLUMES, SECRETS, "127.0.0.1", every_run=every, run_volumes=VOLUMES, steps=STEPS
    )
    assert not any("docker-gate" in volume for volume in server["volumes"]), "the code server starts nothing"
    own = json.loads(server["env"]["DAGSTER_CONTAINER_CONTEXT"])["docker"]
    all_runs = found.plan.configuration.merged["run_launcher"]["config"]
    kwargs = {**all_runs["container_kwargs"], **own["container_kwargs"]}
    networks, env = ([*all_runs[key], *own.get(key, [])] for key in ("networks", "env_vars"))
    return json.loads(text), {**kwargs, "networks": networks, "env_vars": env}


def asked(arguments: dict[str, Any]) -> dict[str, Any]:
    """What Docker's client sends for them, as DockerRunLauncher gives them to it."""
    given = {**arguments, "version": "1.41"}
    networks = given.pop("networks")
    environment = dict(text.partition("=")[::2] for text in given.pop("env_vars"))
    labels = given.pop("labels", {})
    labels = dict.fromkeys(labels, "") if isinstance(labels, list) else dict(labels)
    given.pop("stop_timeout", None)
    given |= {
        "image": IMAGES["etl"]["ref"],
        "command": ["dagster", "api", "execute_run", json.dumps({"run_id": RUN})],
        "detach": True,
        "environment": environment,
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
