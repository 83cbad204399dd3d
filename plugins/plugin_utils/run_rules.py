# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the Docker gate is told of the runs of each location, in the form in which Docker's client asks for it. Pure.

The launcher gives a run the arguments of dagster.yaml, and those of its location in their place. The program of the
gate (roles/gate) compares what it is asked for with this.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._docker import forms
from ansible_collections.dataops.dagster.plugins.plugin_utils import run_arguments
from ansible_collections.dataops.dagster.plugins.plugin_utils.config import context

# Arguments of the container that a run may only have as they are planned. Others either harm nothing, or are refused.
PLANNED = (
    *("auto_remove", "labels"),
    *("cap_add", "device_requests", "devices", "entrypoint", "group_add", "healthcheck", "ipc_mode", "log_config"),
    *("mounts", "read_only", "restart_policy", "runtime", "security_opt", "sysctls", "user", "volumes"),
)
# Arguments with which the gate starts no run, whatever the inventory says, each with what to do instead.
ELSEWHERE = "leave it out; services that others reach belong in containers of your own"
ROOT = "name what is needed with capabilities or devices of the location"
REFUSED = {
    **dict.fromkeys(("pid_mode", "uts_mode", "cgroup_parent", "cgroupns", "device_cgroup_rules", "init_path"), ROOT),
    **dict.fromkeys(("ports", "publish_all_ports", "links", "mac_address"), ELSEWHERE),
    **dict.fromkeys(("volumes_from", "volume_driver", "storage_opt"), "write volumes or mounts"),
    **dict.fromkeys(("blkio_weight_device", "device_read_bps", "device_read_iops"), "leave it out"),
    **dict.fromkeys(("device_write_bps", "device_write_iops", "isolation", "oom_kill_disable"), "leave it out"),
    **dict.fromkeys(("cpu_rt_period", "cpu_rt_runtime", "cpu_count", "cpu_percent"), "use cpu_quota or nano_cpus"),
}

VERSIONS = 3  # earlier ones of each location that are kept


def launcher(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a merged dagster.yaml all runs have; never a secret."""
    given = (config.get("run_launcher") or {}).get("config") or {}
    kwargs = given.get(context.KWARGS) or {}
    return {
        "networks": [str(name) for name in given.get("networks") or []],
        "env_vars": acted_on(given.get("env_vars")),
        context.KWARGS: {key: kwargs[key] for key in PLANNED if kwargs.get(key) is not None},
    }


def of_location(
    name: str, image: str, every: Mapping[str, Any], own: Mapping[str, Any], steps: str = ""
) -> dict[str, Any]:
    """What the runs of a location may have: every is what all runs have, own the location's context for Docker.

    steps is the volume with the socket of runs that start steps; it is among the volumes too.
    """
    kwargs = {**(every.get(context.KWARGS) or {}), **(own.get(context.KWARGS) or {})}
    exactly = {key: form(kwargs[name]) for name, (key, form) in EXACTLY.items() if kwargs.get(name) not in (None, "")}
    return {
        "name": name,
        **({"steps": steps} if steps else {}),
        "images": [image],
        "networks": list(dict.fromkeys([*(every.get("networks") or []), *(own.get("networks") or [])])),
        "labels": labels(kwargs.get("labels")),
        "env": acted_on([*(every.get("env_vars") or []), *(own.get("env_vars") or [])]),
        "binds": list(context.binds(kwargs.get("volumes"))),
        "mounts": list(kwargs.get("mounts") or []),
        "devices": [device(each) for each in kwargs.get("devices") or []],
        "capabilities": sorted({forms.capability(each) for each in kwargs.get("cap_add") or []}),
        "security_opt": list(kwargs.get("security_opt") or []),
        "exactly": exactly,
    }


def labels(given: Any) -> dict[str, str]:
    """Labels as the launcher reads them: those of a list have no value."""
    if isinstance(given, Mapping):
        return {str(name): str(value) for name, value in given.items()}
    return dict.fromkeys(map(str, given or ()), "")


def acted_on(given: Any) -> list[str]:
    """The variables, NAME or NAME=value, that the gate lets through only where the inventory names them."""
    prefixes = run_arguments.GATE.ACTED_ON
    return [str(each) for each in (given if isinstance(given, list) else ()) if str(each).startswith(prefixes)]


def written(locations: list[dict[str, Any]], before: str) -> str:
    """The file of the gate. What was planned before stays, for runs that are queued with it and old code servers.

    After a deployment that failed, the version before it goes on. So more than one is kept.
    """
    try:
        found = json.loads(before) if before else {}
    except ValueError:
        found = {}
    old = found.get("locations") or []
    older = found.get("before") or []
    every = [*old, *(entry for entry in older if entry not in old)]
    kept = [entry for entry in every if entry not in locations][: VERSIONS * max(len(locations), 1)]
    return json.dumps({"locations": locations, "before": kept}, indent=1, sort_keys=True)


def device(given: Any) -> dict[str, str]:
    """A device as Docker's client sends it."""
    if isinstance(given, Mapping):
        return dict(given)
    path, inside, allowed = (*str(given).split(":"), "", "")[:3]
    return {"PathOnHost": path, "PathInContainer": inside or path, "CgroupPermissions": allowed or "rwm"}


def _device_request(given: Mapping[str, Any]) -> dict[str, Any]:
    names = {name.lower().replace("_", ""): value for name, value in given.items()}
    return {
        "Driver": names.get("driver") or "",
        "Count": names.get("count") or 0,
        "DeviceIDs": names.get("deviceids") or [],
        "Capabilities": names.get("capabilities") or [],
        "Options": names.get("options") or {},
    }


def _log(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Type": given.get("type", given.get("Type")),
        "Config": given.get("config", given.get("Config")) or {},
    }


def _health(given: Mapping[str, Any]) -> dict[str, Any]:
    names = {name.lower().replace("_", ""): value for name, value in given.items()}
    test = names.get("test")
    return {
        "Test": ["CMD-SHELL", test] if isinstance(test, str) else test,
        "Interval": names.get("interval"),
        "Timeout": names.get("timeout"),
        "Retries": names.get("retries"),
        "StartPeriod": names.get("startperiod"),
    }


EXACTLY: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "auto_remove": ("AutoRemove", bool),
    "device_requests": ("DeviceRequests", lambda found: [_device_request(each) for each in found]),
    "entrypoint": ("Entrypoint", lambda found: shlex.split(found) if isinstance(found, str) else found),
    "group_add": ("GroupAdd", lambda found: [str(each) for each in found]),
    "healthcheck": ("Healthcheck", _health),
    "ipc_mode": ("IpcMode", str),
    "log_config": ("LogConfig", _log),
    "read_only": ("ReadonlyRootfs", bool),
    "restart_policy": ("RestartPolicy", dict),
    "runtime": ("Runtime", str),
    "sysctls": ("Sysctls", lambda found: {name: str(value) for name, value in found.items()}),
    "user": ("User", str),
}
