# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The state of a code location's container, the wanted one and a real one, and how they differ.

Nothing in here talks to an engine: the functions take the JSON of `inspect` and give plain data.
"""

from __future__ import annotations

import calendar
import hashlib
import json
import time
import typing as t
from dataclasses import dataclass

from . import rights
from .forms import capability
from .labels import CONFIG_LABEL, JOURNAL_LABELS, LOCATION_LABEL
from .location import Location
from .shown import show

# How a difference is mended. `recreate` is the strongest.
RECREATE = "recreate"
UPDATE = "update"
NETWORK = "network"
START = "start"

# What the engine means by an empty HostIp.
ANY_ADDRESS = "0.0.0.0"

# What the engine never changes of a container.
FIXED = (
    *("command", "volumes", "ports", "user", "stop_timeout", "extra_hosts", "capabilities", "devices"),
    *("main_network", "cpu_quota", "dropped", "security", "read_only"),
)

Inspect = t.Mapping[str, t.Any]


def name_of(container: Inspect) -> str:
    """The container's name, as an operator writes it."""
    return str(container.get("Name") or "").lstrip("/")


def is_running(container: Inspect) -> bool:
    """Whether its process runs, and has not just ended to be started again."""
    state = container.get("State") or {}
    return bool(state.get("Running")) and not state.get("Paused") and not state.get("Restarting")


def started_at(container: Inspect) -> float:
    """When its process was started, in seconds since 1970; 0 if it never was."""
    moment, _dot, rest = str((container.get("State") or {}).get("StartedAt") or "").rstrip("Z").partition(".")
    if not moment or moment.startswith("0001"):
        return 0.0
    return calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{rest or 0}")


def _pairs(env: t.Iterable[str] | None) -> dict[str, str]:
    return {name: value for name, _equals, value in (item.partition("=") for item in env or ())}


def _bind(volume: str) -> str:
    """One spelling for `a:/b`, `a:/b:rw` and `a:/b:ro,z`; a trailing slash means nothing either."""
    parts = volume.split(":")
    modes = sorted(set(parts[2].split(",")) - {"rw", ""}) if len(parts) > 2 else []
    source, target = (part.rstrip("/") or "/" for part in parts[:2])
    return ":".join([source, target, ",".join(modes) or "rw"])


def _port(address: str, port: int | str, container_port: int | str) -> str:
    return f"{address or ANY_ADDRESS}:{port}->{container_port}/tcp"


def _device(item: t.Mapping[str, str]) -> str:
    return ":".join(str(item.get(key) or "") for key in ("PathOnHost", "PathInContainer", "CgroupPermissions"))


def _read_only(root: bool, temporary: t.Mapping[str, str]) -> str:
    """Whether the root is read-only, and what is in memory."""
    return " with ".join([str(root).lower(), *(f"{path} {mode}" for path, mode in sorted(temporary.items()))])


def _log(driver: str, labels: str) -> str:
    return f"{driver} with {labels or 'no labels'}"


def config_digest(location: Location, image_id: str) -> str:
    """A digest of what can only be changed by a new container.

    Memory, CPUs, restart policy and networks are left out: they change in place, and a label cannot. So is the log,
    which an engine of ours gives to its containers anyway.
    """
    fixed = {
        "image": image_id,
        "command": location.command,
        "env": location.env,
        "volumes": sorted(_bind(volume) for volume in location.volumes),
        "port": [location.publish_address, location.port, location.container_port],
        "user": location.user,
        "network": location.network,
        "stop_timeout": location.stop_timeout,
        "labels": location.labels,
        "extra_hosts": location.extra_hosts,
    }
    # Only where they are set: the digest of a container from before these options stays what it was.
    later = {"capabilities": location.capabilities, "devices": location.devices, "shm_size": location.shm_size}
    later["read_only"] = location.read_only
    fixed.update({name: value for name, value in later.items() if value})
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:32]


def container_labels(location: Location, image_id: str) -> dict[str, str]:
    own = {LOCATION_LABEL: location.name, CONFIG_LABEL: config_digest(location, image_id)}
    return {**location.labels, **own}


def wanted_state(location: Location, image: Inspect) -> dict[str, t.Any]:
    """The state that `actual_state` shows for a container made right. What the image brings is part of it."""
    config = image.get("Config") or {}
    return {
        "image": location.image,
        "image_id": image["Id"],
        "status": "running",
        "command": list(location.command),
        "entrypoint": list(config.get("Entrypoint") or []),
        "env": {**_pairs(config.get("Env")), **location.env},
        "volumes": sorted(_bind(volume) for volume in location.volumes),
        "ports": [_port(location.publish_address, location.port, location.container_port)] if location.port else [],
        "user": location.user or config.get("User") or "",
        "stop_timeout": location.stop_timeout,
        "labels": {**(config.get("Labels") or {}), **container_labels(location, image["Id"])},
        "extra_hosts": sorted(f"{name}:{address}" for name, address in location.extra_hosts.items()),
        "capabilities": list(location.capabilities),
        "devices": list(location.devices),
        "shm_size": location.shm_size,
        "dropped": list(rights.DROPPED),
        "security": list(rights.SECURITY),
        "read_only": _read_only(location.read_only, rights.TEMPORARY if location.read_only else {}),
        "main_network": location.network,
        "networks": sorted(location.all_networks),
        "memory": location.memory,
        "nano_cpus": location.nano_cpus,
        "cpu_quota": 0,
        "restart_policy": location.restart_policy,
        "log": _log(location.log_driver, JOURNAL_LABELS) if location.log_driver else "",
    }


def actual_state(container: Inspect) -> dict[str, t.Any]:
    config = container.get("Config") or {}
    host = container.get("HostConfig") or {}
    ports = [
        _port(binding.get("HostIp") or "", binding.get("HostPort") or "0", str(inner).split("/", maxsplit=1)[0])
        for inner, bindings in (host.get("PortBindings") or {}).items()
        for binding in bindings or ()
    ]
    restart, log = host.get("RestartPolicy") or {}, host.get("LogConfig") or {}
    policy = restart.get("Name") or "no"
    if policy == "on-failure" and restart.get("MaximumRetryCount"):
        policy = f"{policy}:{restart['MaximumRetryCount']}"
    return {
        "image": config.get("Image") or "",
        "image_id": container.get("Image") or "",
        "status": (container.get("State") or {}).get("Status") or "unknown",
        "command": list(config.get("Cmd") or []),
        "entrypoint": list(config.get("Entrypoint") or []),
        "env": _pairs(config.get("Env")),
        "volumes": sorted(_bind(volume) for volume in host.get("Binds") or ()),
        "ports": sorted(ports),
        "user": config.get("User") or "",
        "stop_timeout": config.get("StopTimeout") or 10,
        "labels": dict(config.get("Labels") or {}),
        "extra_hosts": sorted(host.get("ExtraHosts") or ()),
        "capabilities": sorted(capability(item) for item in host.get("CapAdd") or ()),
        "devices": sorted(_device(item) for item in host.get("Devices") or ()),
        "shm_size": host.get("ShmSize") or 0,
        "dropped": sorted(capability(item) for item in host.get("CapDrop") or ()),
        "security": list(host.get("SecurityOpt") or ()),
        "read_only": _read_only(bool(host.get("ReadonlyRootfs")), host.get("Tmpfs") or {}),
        "main_network": host.get("NetworkMode") or "",
        "networks": sorted((container.get("NetworkSettings") or {}).get("Networks") or ()),
        "memory": host.get("Memory") or 0,
        "nano_cpus": host.get("NanoCpus") or 0,
        "cpu_quota": host.get("CpuQuota") or 0,
        "restart_policy": policy,
        "log": _log(log.get("Type") or "", (log.get("Config") or {}).get("labels") or ""),
    }


@dataclass(frozen=True)
class Difference:
    field: str
    before: t.Any
    after: t.Any
    repair: str

    def __str__(self) -> str:
        return f"{self.field}: {show(self.field, self.before)} -> {show(self.field, self.after)}"


def _maps(name: str, actual: dict[str, str], wanted: dict[str, str], keys: t.Iterable[str]) -> list[Difference]:
    return [
        Difference(f"{name}.{key}", actual.get(key), wanted.get(key), RECREATE)
        for key in sorted(keys)
        if actual.get(key) != wanted.get(key)
    ]


def compare(
    location: Location, image: Inspect, container: Inspect, network_ids: t.Mapping[str, str] | None = None
) -> list[Difference]:
    """Every way in which a real container is not the wanted one, whoever changed it."""
    wanted = wanted_state(location, image)
    actual = actual_state(container)
    found: list[Difference] = []

    def note(name: str, repair: str) -> None:
        if actual[name] != wanted[name]:
            found.append(Difference(name, actual[name], wanted[name], repair))

    note("image_id", RECREATE)
    same_image = not found
    if location.log_driver:
        note("log", RECREATE)
    if location.shm_size:  # without it, it is the engine's own
        note("shm_size", RECREATE)
    for name in FIXED:
        if name != "user" or same_image or location.user:
            note(name, RECREATE)
    if same_image:
        note("entrypoint", RECREATE)
        env_keys = set(actual["env"]) | set(wanted["env"])
        label_keys = set(actual["labels"]) | set(wanted["labels"])
    else:
        # The rest of these maps is what the other image brought: no news once the image itself differs.
        env_keys, label_keys = set(location.env), set(location.labels) | {LOCATION_LABEL}
    found += _maps("env", actual["env"], wanted["env"], env_keys)
    found += _maps("labels", actual["labels"], wanted["labels"], label_keys)
    # The engine reads 0 as "leave it as it is", so a limit can be changed in place but not taken away.
    note("memory", UPDATE if wanted["memory"] else RECREATE)
    note("nano_cpus", UPDATE if wanted["nano_cpus"] else RECREATE)
    note("restart_policy", UPDATE)
    note("networks", NETWORK)
    attached = (container.get("NetworkSettings") or {}).get("Networks") or {}
    for name, known in sorted((network_ids or {}).items()):
        stale = (attached.get(name) or {}).get("NetworkID")
        if stale and stale != known:
            # The network was removed and made again under its name: this container can never start on the old one.
            found.append(Difference(f"network_id.{name}", stale[:12], known[:12], RECREATE))
    # Its process has read an older version. One that was never started has read none.
    since = started_at(container)
    found += [
        Difference("reads", "an older version", path, RECREATE)
        for path, changed in location.reads.items()
        if 0 < since < changed
    ]
    note("status", START)
    digest = f"labels.{CONFIG_LABEL}"
    if any(item.repair == RECREATE and item.field != digest for item in found):
        # The digest only says that something differs; once it is known what, it is noise.
        found = [item for item in found if item.field != digest]
    return found


def action_for(differences: t.Sequence[Difference]) -> str:
    repairs = {difference.repair for difference in differences}
    if RECREATE in repairs:
        return "recreated"
    if START in repairs:
        return "started"
    return "updated" if repairs else "none"
