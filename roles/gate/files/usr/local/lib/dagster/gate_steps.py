# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The containers of steps, which a run of Dagster's docker_executor starts (step_containers of its location). Pure.

A run that may do so has the socket of its location. Who asks there is known by the container of the asking process: it
has to be that of a run, and the gate has written on it what its steps may have. That is what the run itself has, but
for the socket. A run reaches its own steps alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import gate_container
import gate_json
from gate_container import JOB_NAME, MIB, ROOT, RUN, RUN_ID, STEP, STEPS, Refused, Rules

SOCKET = "docker.sock"
NAME = re.compile(r"(dagster-step-[0-9a-f]{40})(-[1-9][0-9]{0,3})?")  # the number is that of a retry
COMMAND = ("api", "execute_step", "--compressed-input-json")
LARGEST = 2 * MIB  # of the arguments of a step, unpacked; the kernel takes 128 KiB of them as they are
CONTAINER = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Run:
    """A run that asks for its steps."""

    id: str
    job: str
    may: Mapping[str, Any]  # what its steps may have, in the form of a location
    container: str = ""

    @property
    def bind(self) -> str:
        """The volume with the socket."""
        return str(self.may["steps"])

    @property
    def user(self) -> int:
        """The number of its user in the container."""
        return int(str(self.may.get("exactly", {}).get("User") or ROOT).partition(":")[0])

    def rules(self, rules: Rules) -> Rules:
        """What the gate lets through for it. The memory and processes of the run itself are the most of a step."""
        memory, pids = (int(self.may["limits"][key]) for key in ("Memory", "PidsLimit"))
        return replace(rules, locations=(self.may,), memory=memory, most_memory=memory, pids=pids)


def folder(bind: str) -> str:
    """Where the socket of a location is on the host."""
    return bind.split(":")[0]


def container(cgroups: str) -> str:
    """The container of a process, as its /proc/PID/cgroup says. Raises Refused for a process of none."""
    found = {numbers[-1] for line in cgroups.splitlines() if (numbers := CONTAINER.findall(line))}
    if len(found) != 1:
        raise Refused("a process of no container")
    return found.pop()


def asking(found: Mapping[str, Any], location: str, rules: Rules) -> Run:
    """The run of a container that asks at the socket of a location. Raises Refused."""
    labels = (found.get("Config") or {}).get("Labels") or {}
    if rules.label not in labels or RUN_ID not in labels or labels.get(STEP):
        raise Refused("a container that is none of a run")
    running(found)
    try:
        may = json.loads(labels.get(STEPS) or "")
        if may["name"] == location and may["limits"]:
            return Run(labels[RUN_ID], labels.get(JOB_NAME, ""), may, str(found.get("Id")))
    except (ValueError, KeyError, TypeError):
        pass
    raise Refused(f"a run that has no steps in containers of the location {location}")


def running(found: Mapping[str, Any]) -> None:
    """Raises Refused for a container that has ended. A process may have handed its connection on to another one."""
    if not (found.get("State") or {}).get("Running"):
        raise Refused("a run whose container has ended")


def checked(body: dict[str, Any], name: str, run: Run, rules: Rules) -> dict[str, Any]:
    """The body with which a step's container is made, limits and labels included. Raises Refused."""
    key = step_of(body.get("Cmd"), run)
    digest = hashlib.sha1(f"{run.id}{key}".encode(), usedforsecurity=False).hexdigest()  # as docker_executor does
    match = NAME.fullmatch(name)
    if not match or match[1] != f"dagster-step-{digest}":
        raise Refused(f"the name {name[:80]!r}, which is not that of the step")
    if body.get("Image") not in run.may["images"]:
        raise Refused(f"the image {str(body.get('Image'))[:100]}; a step has that of its run")
    # What the command says has been read above.
    made = gate_container.of_location(without_socket(body, run), run.may, rules, lambda _value, _location: True)
    made = gate_container.with_networks({**made, "Labels": labels(body.get("Labels"), run, key)}, run.may)
    exactly = run.may.get("exactly", {})
    as_the_run = {name: each for name, each in exactly.items() if name in gate_container.BODY}
    # An engine that ends waits for each container as long as that says.
    as_the_run |= {"StopSignal": None, "StopTimeout": None}
    return {**made, **as_the_run, "HostConfig": as_its_run(made["HostConfig"], run)}


def as_its_run(host: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """The HostConfig of a step, with what its run has where leaving it out, or another value, could be more."""
    limits, exactly = run.may["limits"], run.may.get("exactly", {})
    given = set(gate_container.PROCESSORS) & set(limits)
    # One setting of processors changes what another one means: a quota is one of a period.
    fixed = {*gate_container.SHARES, *(gate_container.PROCESSORS if given else ())}
    found = {name: each for name, each in host.items() if name not in fixed}
    found |= {name: each for name, each in limits.items() if name in fixed}
    found |= {name: each for name, each in exactly.items() if name in gate_container.HOST}
    asked, own = host.get("MemorySwap"), limits.get("MemorySwap")
    if asked or own:  # memory and swap together
        most = host["Memory"] + (own or 2 * limits["Memory"]) - limits["Memory"]
        found["MemorySwap"] = min(asked or most, most)
    return found


def without_socket(body: dict[str, Any], run: Run) -> dict[str, Any]:
    """A body without the socket of the run. docker_executor asks for all that the run has, and a step starts none."""
    inside = run.bind.split(":")[1]
    found = dict(body)
    host, volumes, env = (found.get(key) for key in ("HostConfig", "Volumes", "Env"))
    if isinstance(host, dict) and isinstance(host.get("Binds"), list):
        found["HostConfig"] = {**host, "Binds": [each for each in host["Binds"] if each != run.bind]}
    if isinstance(volumes, dict):
        found["Volumes"] = {path: each for path, each in volumes.items() if path != inside}
    if isinstance(env, list):
        found["Env"] = [each for each in env if each != f"DOCKER_HOST=unix://{inside}/{SOCKET}"]
    return found


def labels(given: Any, run: Run, key: str) -> dict[str, str]:
    """The labels of a step: by those of its run it is found, shown and removed as that is. Raises Refused."""
    found = gate_container.label_texts({} if given is None else given)
    ours = {RUN: "", RUN_ID: run.id, JOB_NAME: run.job}
    for name, value in found.items():
        if name in ours and value != ours[name]:
            raise Refused(f"the label {name}, which is that of another run")
    gate_container.planned_labels({name: each for name, each in found.items() if name not in ours}, run.may)
    # An image may have labels of these names; a step is no run that starts more.
    return {**found, **ours, STEP: key, STEPS: ""}


def step_of(command: Any, run: Run) -> str:
    """The step that a command executes. Raises Refused for anything but one step of the run."""
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        raise Refused("a command that is none of a step")
    start, tail = command[:-4], command[-4:]
    if not gate_container.is_dagster(start) or tuple(tail[:3]) != COMMAND:
        raise Refused("a command that is none of a step")
    told = gate_json.parsed(unpacked(tail[3]))
    if told.get("pipeline_run_id") != run.id:
        raise Refused("a command for a step of another run")
    keys = told.get("step_keys_to_execute")
    if not isinstance(keys, list) or len(keys) != 1 or not isinstance(keys[0], str) or not keys[0]:
        raise Refused("a command that is none of one step")
    return str(keys[0])


def unpacked(text: str) -> bytes:
    """The arguments of a step. Raises Refused."""
    unpack = zlib.decompressobj()
    try:
        found = unpack.decompress(base64.b64decode(text, validate=True), LARGEST + 1)
    except (zlib.error, binascii.Error, ValueError) as error:
        raise Refused("a command whose arguments cannot be read") from error
    if len(found) > LARGEST or not unpack.eof or unpack.unused_data:
        raise Refused("a command whose arguments are too long, or go on after their end")
    return found


def belongs(found: Mapping[str, Any], run: Run) -> None:
    """Raises Refused for a container that is none of the run's steps."""
    own = (found.get("Config") or {}).get("Labels") or {}
    if not own.get(STEP) or own.get(RUN_ID) != run.id or RUN not in own:
        raise Refused("a container that is none of the run's steps")


def left(found: list[Mapping[str, Any]]) -> set[str]:
    """The IDs of steps without a container of their run; found are all containers of runs and steps that go on."""
    told = [(str(each["Id"]), each.get("Labels") or {}) for each in found]
    runs = {labels.get(RUN_ID) for _number, labels in told if not labels.get(STEP)}
    return {number for number, labels in told if labels.get(STEP) and labels.get(RUN_ID) not in runs}
