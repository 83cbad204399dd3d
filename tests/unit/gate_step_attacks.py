"""Attacks of a run that may start steps (step_containers of its location) on the Docker API: all have to be refused.

Tests without hosts send them to a gate before an engine that only listens, host tests to a real one.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass
from typing import Any

import gate_attacks
from gate_attacks import API, body


@dataclass(frozen=True)
class Target:
    """What is there to be attacked."""

    run: str  # the ID of the run that asks
    own: str  # the container of one of its steps
    container: str  # that of the run itself
    others: str  # a step of another run
    other_run: str  # the container of another run
    foreign: str  # a container that is none of a run
    image: str  # of another location
    network: str  # in which no run of the location is
    socket: str  # the volume with the socket
    name: str  # of a step of the run, as docker_executor gives it


def packed(told: Any) -> str:
    """Arguments of a step as Dagster packs them."""
    return base64.b64encode(zlib.compress(json.dumps(told).encode())).decode()


def commands(base: dict[str, Any], run: str) -> dict[str, Any]:
    """Bodies with another command than that of one step of the run."""
    start = base["Cmd"][:-1]
    good = {"pipeline_run_id": run, "step_keys_to_execute": ["load"]}
    other = "0123abcd-0000-4000-8000-00000000dead"
    whole = json.dumps(good).encode()
    twice = whole[:-1] + b',"pipeline_run_id":"' + other.encode() + b'"}'
    texts = {
        "a step of another run": packed({**good, "pipeline_run_id": other}),
        "a step of no run": packed({"step_keys_to_execute": ["load"]}),
        "a run in a list": packed({**good, "pipeline_run_id": [run]}),
        "two steps at a time": packed({**good, "step_keys_to_execute": ["load", "other"]}),
        "all steps": packed({**good, "step_keys_to_execute": None}),
        "another step than the name says": packed({**good, "step_keys_to_execute": ["other"]}),
        "a run that is told twice": base64.b64encode(zlib.compress(twice)).decode(),
        "arguments that go on": base64.b64encode(zlib.compress(whole) + b"more").decode(),
        "arguments that are cut": base64.b64encode(zlib.compress(whole)[:-4]).decode(),
        "arguments that grow": base64.b64encode(zlib.compress(b" " * (1 << 26))).decode(),
        "arguments that are not packed": json.dumps(good),
        "arguments with a space": packed(good)[:8] + " " + packed(good)[8:],
    }
    found = {name: body(base, Cmd=[*start, text]) for name, text in texts.items()}
    return {
        **found,
        "a shell": body(base, Cmd=["sh", "-c", "id"]),
        "a run": body(base, Cmd=["dagster", "api", "execute_run", json.dumps({"run_id": run})]),
        "a code server": body(base, Cmd=["dagster", "api", "grpc", "--compressed-input-json", packed(good)]),
        "a shell before Dagster": body(base, Cmd=["sh", *base["Cmd"]]),
        "a second command": body(base, Cmd=[*base["Cmd"], "x"]),
        "no command": body(base, Cmd=None),
    }


def creations(base: dict[str, Any], target: Target) -> dict[str, Any]:
    """Bodies of containers that no step of the run has."""
    mounted = base["HostConfig"]["Binds"]
    labels = base["Labels"]
    # The labels of a step are those of its run, whatever it asks for.
    every = {name: each for name, each in gate_attacks.creations(base).items() if name != "no label"}
    folder = target.socket.split(":")[0]
    return {
        **{f"{name}, as a run": each for name, each in every.items()},
        **commands(base, target.run),
        "the image of another location": body(base, Image=target.image),
        "the network of others": body(base, host__NetworkMode=target.network),
        "secrets of another place": body(base, host__Binds=[*mounted, "/etc/dagster/secrets:/run/secrets:ro"]),
        "the socket at another path": body(base, host__Binds=[*mounted, f"{folder}:/gate"]),
        "the sockets of all locations": body(base, host__Binds=[*mounted, f"{folder.rpartition('/')[0]}:/gates"]),
        "the socket as a mount": body(base, host__Mounts=[{"Type": "bind", "Source": folder, "Target": "/gate"}]),
        "the folder of the gate": body(base, host__Binds=[*mounted, "/run/docker-gate-dagster:/gate"]),
        "the label of another run": body(base, Labels={**labels, "dagster/run_id": "x"}),
        "the label of another job": body(base, Labels={**labels, "dagster/job_name": "another"}),
        "a right to start more": body(base, Labels={**labels, "dataops.dagster.steps": "{}"}),
        "the label of another step": body(base, Labels={**labels, "dataops.dagster.step": "x"}),
        "labels in a list": body(base, Labels=["dataops.dagster.run"]),
    }


def requests(base: dict[str, Any], target: Target) -> dict[str, tuple[str, str, Any]]:
    """Method, target and body of what no run may ask; base is what docker_executor asks for a step."""
    create = f"{API}/containers/create"
    named = f"{create}?name={target.name}"
    found: dict[str, tuple[str, str, Any]] = {
        name: ("POST", named, each) for name, each in creations(base, target).items()
    }
    found |= {
        "no name": ("POST", create, base),
        "the name of a code server": ("POST", f"{create}?name=dagster-code-pipeline-next", base),
        "the name of another step": ("POST", f"{create}?name=dagster-step-{'0' * 40}", base),
        "a name with an end": ("POST", f"{named}-x", base),
        "two names": ("POST", f"{named}&name=x", base),
    }
    for what, container in (
        ("its own run", target.container),
        ("another run", target.other_run),
        ("a step of another run", target.others),
        ("a foreign container", target.foreign),
    ):
        for verb in ("start", "stop", "kill", "wait"):
            found[f"{verb} of {what}"] = ("POST", f"{API}/containers/{container}/{verb}", None)
        found[f"look at {what}"] = ("GET", f"{API}/containers/{container}/json", None)
        found[f"removal of {what}"] = ("DELETE", f"{API}/containers/{container}?force=1", None)
        joined = {"Container": container}
        found[f"joining with {what}"] = ("POST", f"{API}/networks/{base['HostConfig']['NetworkMode']}/connect", joined)
    of_services = {
        "a list of containers": ("GET", f"{API}/containers/json?all=1", None),
        "what the engine is": ("GET", f"{API}/info", None),
        "the data of an image": ("GET", f"{API}/images/{base['Image']}/json", None),
        "joining a network of others": ("POST", f"{API}/networks/{target.network}/connect", {"Container": target.own}),
        "a look at a network of others": ("GET", f"{API}/networks/{target.network}", None),
    }
    general = gate_attacks.requests(base, target.own, target.foreign)
    made = gate_attacks.creations(base)
    # These are for creations by their own name, and a filter of a list that is refused as a whole.
    left = {*made, "a name", "a list of everything", "a filter that comes twice"}
    return {**found, **of_services, **{name: each for name, each in general.items() if name not in left}}
