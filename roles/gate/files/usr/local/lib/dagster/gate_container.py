# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The container of a run, as the Docker gate lets it be made. Pure: no I/O.

A location's images, volumes, networks and devices come from the deployment's plan. What it does not name is refused.
Limits that nobody has set are set here: memory and processes. No capability is left but those of the location, and no
program gains any.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

RUN_ID, JOB_NAME = "dagster/run_id", "dagster/job_name"
# On each container of a run of this deployment; names that begin so say what else is ours.
RUN, OURS = "dataops.dagster.run", "dataops.dagster"
# Beside these on a run that may start steps: what they may have (gate_steps.py). And on a step: which one it is.
STEPS, STEP = "dataops.dagster.steps", "dataops.dagster.step"
# The networks that a container may join once it is made: those of its location.
NETWORKS = "dataops.dagster.networks"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
COMMANDS = ("execute_run", "resume_run")
# As the launcher asks for it, and as others write it.
NO_NEW_PRIVILEGES = ("no-new-privileges:true", "no-new-privileges", "no-new-privileges=true")
ROOT = "0:0"
OPTION = "step_containers of its code location"
MIB = 1024 * 1024


Check = Callable[[Any, Mapping[str, Any]], bool]


class Refused(Exception):
    """A request that is not let through, and why."""


@dataclass(frozen=True)
class Rules:
    """What the plan says of the runs of this deployment."""

    label: str = RUN  # by which a container is known as one of its runs
    memory: int = 0  # bytes that a run gets which says nothing
    most_memory: int = 0  # bytes that a run may ask for
    pids: int = 0  # processes and threads of a run
    locations: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)

    def images(self) -> set[str]:
        """The images of all locations."""
        return {image for location in self.locations for image in location["images"]}

    def networks(self) -> set[str]:
        """The networks of all locations."""
        return {name for location in self.locations for name in location["networks"]}


def checked(body: dict[str, Any], rules: Rules) -> dict[str, Any]:
    """The body with which a run's container is made, limits included. Raises Refused."""
    image = body.get("Image")
    candidates = [location for location in rules.locations if image in location["images"]]
    if not isinstance(image, str) or not candidates:
        raise Refused(f"the image {str(image)[:100]}, which no location has")
    refusals = []
    for location in candidates:  # several locations may share an image
        try:
            found = of_location(body, location, rules, command)
            _labels(body, location)
            return _with_steps(with_networks(found, location), location)
        except Refused as error:
            refusals.append(error)
    raise refusals[0]


def of_location(body: dict[str, Any], location: Mapping[str, Any], rules: Rules, its_command: Check) -> dict[str, Any]:
    """A body that has no more than a location, limits included. Raises Refused."""
    host = body.get("HostConfig")
    if not isinstance(host, dict):
        raise Refused("no HostConfig")
    for key, value in body.items():
        if key not in BODY:
            raise Refused(f"{key[:60]!r}, which no run needs")
        _judge(key, value, its_command if key == "Cmd" else BODY[key], location)
    for key, value in host.items():
        if key not in HOST:
            raise Refused(f"HostConfig.{key[:60]}, which no run needs")
        _judge(f"HostConfig.{key}", value, HOST[key], location)
    _restricted(body, location)
    targets, volumes = {each.split(":")[1] for each in host.get("Binds") or ()}, set(body.get("Volumes") or {})
    # Docker's client takes a mode such as z for a part of the path. The engine would make a volume there.
    if volumes - targets - {each.split(":", 1)[1] for each in host.get("Binds") or ()}:
        raise Refused("Volumes that are not among its binds")
    if host.get("NetworkMode") not in location["networks"]:
        raise Refused(f"the network {str(host.get('NetworkMode'))[:80]}, in which no run of the location may be")
    mounted: dict[str, Any] = {path: {} for path in sorted(volumes & targets)}
    return {**body, "Volumes": mounted, "HostConfig": {**host, **limits(host, location, rules)}}


def with_networks(body: dict[str, Any], location: Mapping[str, Any]) -> dict[str, Any]:
    """The body with the networks that its container may join; an image may have a label of that name."""
    return {**body, "Labels": {**(body.get("Labels") or {}), NETWORKS: json.dumps(location["networks"])}}


def joined_by(found: Mapping[str, Any]) -> list[str]:
    """The networks that a container may join, as it was made."""
    try:
        names = json.loads(found["Config"]["Labels"][NETWORKS])
    except (ValueError, LookupError, TypeError):
        return []
    return names if isinstance(names, list) else []


def _with_steps(body: dict[str, Any], location: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a run that gets the socket for its steps: what they may have is kept on it, as long as it is there.

    So a run goes on with what it was made with, also once the plan says something else.
    """
    socket = location.get("steps")
    if not socket or socket not in (body["HostConfig"].get("Binds") or ()):
        return body
    binds = [each for each in location["binds"] if each != socket]
    limits = {key: body["HostConfig"][key] for key in OF_STEPS if body["HostConfig"].get(key)}
    told = json.dumps({**location, "images": [body["Image"]], "binds": binds, "limits": limits}, sort_keys=True)
    return {**body, "Labels": {**body["Labels"], STEPS: told}}


def _judge(key: str, value: Any, check: Check, location: Mapping[str, Any]) -> None:
    try:
        good = value is None or check(value, location)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError):
        good = False
    if not good and "docker.sock" in str(value):
        raise Refused(f"{key}: the socket of the engine. For docker_executor, {OPTION} gives another one")
    if not good:
        raise Refused(f"{key}: {str(value)[:100]!r} is not what the plan says")


def limits(host: Mapping[str, Any], location: Mapping[str, Any], rules: Rules) -> dict[str, Any]:
    """What is set whether a run asks for it or not. Raises Refused for more than it may have."""
    memory = host.get("Memory") or rules.memory
    if not 0 < memory <= rules.most_memory:
        raise Refused(f"Memory of {memory // MIB} MiB; at most {rules.most_memory // MIB} MiB are allowed")
    if (host.get("MemorySwap") or 0) > 2 * rules.most_memory or (host.get("ShmSize") or 0) > rules.most_memory:
        raise Refused("more swap or shared memory than the host has")
    pids = host.get("PidsLimit") or rules.pids
    if not 0 < pids <= rules.pids:
        raise Refused(f"PidsLimit {pids}; at most {rules.pids} is allowed")
    asked = {capability(name) for name in host.get("CapAdd") or ()}
    allowed = set(map(capability, location.get("capabilities") or ()))
    if asked - allowed:
        raise Refused(f"the capability {sorted(asked - allowed)[0][:40]}")
    more = [option for option in host.get("SecurityOpt") or () if option not in NO_NEW_PRIVILEGES]
    return {
        "Memory": memory,
        "PidsLimit": pids,
        "CapAdd": sorted(asked) or None,
        "CapDrop": ["ALL"],
        "SecurityOpt": [NO_NEW_PRIVILEGES[0], *more],
    }


def capability(name: str) -> str:
    """A capability as the engine calls it."""
    return str(name).upper().removeprefix("CAP_")


def _labels(body: Mapping[str, Any], location: Mapping[str, Any]) -> None:
    labels = label_texts(body.get("Labels"))
    if not UUID.fullmatch(labels.get(RUN_ID, "")) or not labels.get(JOB_NAME) or RUN not in labels:
        raise Refused(f"no label {RUN_ID}, {JOB_NAME} or {RUN}")
    planned_labels({name: each for name, each in labels.items() if name not in (RUN_ID, JOB_NAME)}, location)
    if labels[RUN_ID] not in (body.get("Cmd") or [""])[-1]:
        raise Refused("a command for another run than its label says")


def label_texts(found: Any) -> dict[str, str]:
    """Labels, which are texts. Raises Refused."""
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise Refused("labels that are no text")
    return found


def planned_labels(found: Mapping[str, str], location: Mapping[str, Any]) -> None:
    """Raises Refused for a label that the plan does not give: other programs of the host may act on labels."""
    known = {RUN: "", **(location.get("labels") or {})}
    for name, value in found.items():
        if known.get(name) != value:
            raise Refused(f"the label {name[:60]}; labels are those of its code location, and of dagster_config")


def _restricted(body: Mapping[str, Any], location: Mapping[str, Any]) -> None:
    """Raises Refused for a request that leaves out what restricts the runs of its location."""
    asked = {"User": body.get("User"), "ReadonlyRootfs": body["HostConfig"].get("ReadonlyRootfs")}
    for key, value in asked.items():
        wanted = location.get("exactly", {}).get(key)
        if wanted and wanted not in (ROOT, value):
            raise Refused(f"{key}: {str(value)[:100]!r} is not what the plan says")


# Checks of one value. None is always good, because Docker's client sends it for whatever is not set.


def nothing(value: Any, _location: Mapping[str, Any]) -> bool:
    """Not used by any run."""
    return value is False or value == "" or value == {} or value == []


def flag(value: Any, _location: Mapping[str, Any]) -> bool:
    """True or false, and neither harms."""
    return isinstance(value, bool)


def whole(value: Any) -> bool:
    """A whole number. To Python, true is one as well."""
    return isinstance(value, int) and not isinstance(value, bool)


def number(least: int, most: int) -> Check:
    """A whole number."""
    return lambda value, _location: whole(value) and least <= value <= most


def text(pattern: str) -> Check:
    """Text of a form."""
    form = re.compile(pattern)
    return lambda value, _location: isinstance(value, str) and bool(form.fullmatch(value))


def texts(pattern: str) -> Check:
    """A list of such text."""
    form = re.compile(pattern, re.DOTALL)
    return lambda value, _location: (
        isinstance(value, list) and all(isinstance(each, str) and form.fullmatch(each) for each in value)
    )


def as_planned(key: str) -> Check:
    """What the plan says of the location, or nothing."""
    return lambda value, location: nothing(value, location) or value == location.get("exactly", {}).get(key)


def among(key: str, form: Callable[[Any], Any] = lambda value: value) -> Check:
    """A list of what the plan says of the location."""
    return lambda value, location: (
        isinstance(value, list)
        and all(form(each) in [form(known) for known in location.get(key) or ()] for each in value)
    )


def bind(volume: Any) -> tuple[str, ...]:
    """A volume in Docker's short form. To be written to is the default."""
    source, target, *mode = str(volume).split(":")
    return (source, target, *(part for part in mode if part != "rw"))


# As Docker's API spells them. A key in other letters is another key here, and the same to the engine.
MOUNT = ("Type", "Source", "Target", "ReadOnly", "Consistency", "BindOptions", "VolumeOptions", "TmpfsOptions")


def mount(value: Mapping[str, Any]) -> dict[str, Any]:
    """A volume in Docker's long form, in which false is what is not said."""
    return {key: each for key, each in value.items() if key not in MOUNT or each not in (None, False, "", {})}


def command(value: Any, _location: Mapping[str, Any]) -> bool:
    """Dagster's own worker, by the name that the code server has told the launcher."""
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value) or len(value) < 4:
        return False
    start, (api, what, _run) = value[:-3], value[-3:]
    return is_dagster(start) and api == "api" and what in COMMANDS


def is_dagster(start: list[str]) -> bool:
    """Whether a command begins with Dagster's own program."""
    return start == ["dagster"] or (len(start) == 3 and start[0].startswith("/") and start[1:] == ["-m", "dagster"])


def security(value: Any, location: Mapping[str, Any]) -> bool:
    """No new privileges, or a profile that the plan names."""
    known = (*NO_NEW_PRIVILEGES, *(location.get("security_opt") or ()))
    return isinstance(value, list) and all(each in known for each in value)


def endpoints(value: Any, location: Mapping[str, Any]) -> bool:
    """The networks of a run, without addresses and names of its own."""
    found = value.get("EndpointsConfig", value)
    if "EndpointsConfig" in value and len(value) > 1:
        return False
    return all(name in location["networks"] and each in (None, {}) for name, each in found.items())


def anonymous(value: Any, _location: Mapping[str, Any]) -> bool:
    """Where volumes are mounted, as Docker's client says it beside the binds."""
    return isinstance(value, dict) and all(each == {} for each in value.values())


# What the linker, or a hook of the runtime before the container starts, does as it is told to.
ACTED_ON = ("LD_", "NVIDIA_")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)


def variables(value: Any, location: Mapping[str, Any]) -> bool:
    """Variables of the environment. What they hold is shown in no refusal."""
    if not isinstance(value, list) or not all(isinstance(each, str) and VARIABLE.fullmatch(each) for each in value):
        raise Refused("Env with something that is no NAME=value")
    known = location.get("env") or ()
    for each in value:
        name = each.partition("=")[0]
        if name.startswith(ACTED_ON) and name not in known and each not in known:
            raise Refused(f"Env: {name[:60]}, which the plan does not give; env of its code location names it")
    return True


def swap(value: Any, _location: Mapping[str, Any]) -> bool:
    """Memory and swap together, in bytes."""
    return whole(value) and value >= 0


# Without those by which a process gets the whole processor: no limit of the container binds real-time tasks.
ULIMITS = re.compile("core|cpu|data|fsize|locks|memlock|msgqueue|nofile|nproc|rss|sigpending|stack")


def ulimits(value: Any, _location: Mapping[str, Any]) -> bool:
    """Limits of the processes of a run."""
    return all(
        set(each) <= {"Name", "Soft", "Hard"}
        and ULIMITS.fullmatch(each["Name"])
        and all(whole(each[key]) for key in set(each) - {"Name"})
        for each in value
    )


# The engine takes each option of mount(8), and `remount` makes what is mounted there writable.
TMPFS = re.compile(
    "ro|rw|(no)?(exec|suid|dev|atime|diratime)|size=[0-9]+[kKmMgG%]?|mode=[0-7]+|(uid|gid)=[0-9]+|nr_inodes=[0-9]+[kmg]?"
)
# A path that is written plainly, and is none of the kernel's.
FOLDER = re.compile(r"(?!/(proc|sys|dev)(/|$))(/(?!\.{1,2}(/|$))[^/]+)+|/dev/shm")
WORKING_DIR = rf"(/|({FOLDER.pattern})/?)?"  # none that is an open file of the runtime, below /proc/self/fd
PLATFORM = re.compile(r"linux(/[a-z0-9]{1,10}(/v[0-9])?)?")
ADDRESS = "[0-9A-Fa-f.:]{2,45}"


def tmpfs(value: Any, _location: Mapping[str, Any]) -> bool:
    """Folders in memory."""
    return all(
        FOLDER.fullmatch(path) and all(TMPFS.fullmatch(option) for option in options.split(",") if option)
        for path, options in value.items()
    )


PROCESSORS = ("CpuPeriod", "CpuQuota", "CpusetCpus", "CpusetMems", "NanoCpus")
# What would be more of the host than others have, or a profile that holds less.
SHARES = ("BlkioWeight", "CpuShares", "MemoryReservation", "MemorySwappiness", "OomScoreAdj", "SecurityOpt", "Ulimits")
# What of a run is kept on it for its steps.
OF_STEPS = ("Memory", "MemorySwap", "PidsLimit", *PROCESSORS, *SHARES)
SIZE = number(0, 1 << 50)
BODY: dict[str, Check] = {
    **dict.fromkeys(
        ("AttachStderr", "AttachStdin", "AttachStdout", "NetworkDisabled", "OpenStdin", "StdinOnce"), nothing
    ),
    **dict.fromkeys(("ExposedPorts", "MacAddress"), nothing),
    **{key: as_planned(key) for key in ("Entrypoint", "Healthcheck", "Runtime", "User")},
    "Cmd": command,
    "Domainname": text(r"[A-Za-z0-9.-]{0,253}"),
    "Env": variables,
    "HostConfig": lambda value, _location: isinstance(value, dict),
    "Hostname": text(r"[A-Za-z0-9_.-]{0,63}"),
    "Image": text(r"[ -~]+"),
    "Labels": lambda value, _location: isinstance(value, dict),
    "NetworkingConfig": endpoints,
    "StopSignal": text(r"(SIG)?[A-Z0-9+]{0,12}"),
    "StopTimeout": number(0, 86400),
    "Tty": flag,
    "Volumes": anonymous,
    "WorkingDir": text(WORKING_DIR),
}
HOST: dict[str, Check] = {
    **dict.fromkeys(("Privileged", "PublishAllPorts", "OomKillDisable"), nothing),
    **dict.fromkeys(("Init", "ReadonlyRootfs"), flag),
    **dict.fromkeys(("CpuPeriod", "CpuQuota", "CpuShares", "KernelMemory", "Memory", "MemoryReservation"), SIZE),
    **dict.fromkeys(("NanoCpus", "ShmSize"), SIZE),
    **dict.fromkeys(("CpusetCpus", "CpusetMems"), text(r"[0-9,-]{0,200}")),
    **{
        key: as_planned(key)
        for key in (
            *("AutoRemove", "DeviceRequests", "GroupAdd", "IpcMode", "LogConfig", "RestartPolicy", "Runtime"),
            "Sysctls",
        )
    },
    "Binds": among("binds", bind),
    "BlkioWeight": number(0, 1000),
    "CapAdd": texts(r"[A-Za-z_]{1,40}"),
    "CapDrop": texts(r"[A-Za-z_]{1,40}"),
    "Devices": among("devices"),
    "Dns": texts(ADDRESS),
    "DnsOptions": texts(r"[a-z0-9:-]{1,60}"),
    "DnsSearch": texts(r"[A-Za-z0-9._-]{1,253}"),
    "ExtraHosts": texts(rf"[A-Za-z0-9._-]{{1,253}}:(host-gateway|{ADDRESS})"),
    "MemorySwap": swap,
    "MemorySwappiness": number(0, 100),
    "Mounts": among("mounts", mount),
    "NetworkMode": text(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"),
    "OomScoreAdj": number(0, 1000),
    "PidsLimit": SIZE,
    "SecurityOpt": security,
    "Tmpfs": tmpfs,
    "Ulimits": ulimits,
}
