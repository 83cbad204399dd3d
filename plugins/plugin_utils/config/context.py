# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the run launcher is told of a run's container: lists of the user's come on top of ours. Pure: no I/O.

Dagster calls this a container context. The launcher has one for all runs (run_launcher.config), and each code location
one for its own. The launcher itself merges them one level deep: a list of the location replaces that of the launcher.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# The rest of these are of the launchers of Kubernetes.
LISTS = ("env_vars", "networks", "env_config_maps", "env_secrets", "volumes", "volume_mounts")
KWARGS = "container_kwargs"
# Arguments of the container in which several may say something: lists, and mappings of free names.
ADDED = frozenset(
    (
        *("cap_add", "cap_drop", "device_cgroup_rules", "device_requests", "devices", "dns", "dns_opt", "dns_search"),
        *("extra_hosts", "group_add", "labels", "mounts", "security_opt", "sysctls", "tmpfs", "ulimits", "volumes"),
    )
)
# In Dagster's form, each system has its own part.
SYSTEMS = ("docker", "k8s", "ecs")


def is_added(path: tuple[Any, ...]) -> bool:
    """Whether several may say something at this path of a context."""
    return path in {(name,) for name in LISTS} or (len(path) == 2 and path[0] == KWARGS and path[1] in ADDED)


def added(name: Any, ours: Any, more: Any) -> Any:
    """Both, in the form that ours has. Of two volumes at one path the second is meant.

    What is neither a list nor a mapping is left for a check to find.
    """
    if isinstance(ours, Mapping):
        more = as_mapping(name, more)
        return {**ours, **more} if isinstance(more, Mapping) else more
    more = as_list(name, more)
    if not isinstance(ours, list) or not isinstance(more, list):
        return more
    if name == "volumes":
        # Those of Kubernetes are mappings, and their paths stand elsewhere.
        targets = {target_of(volume) for volume in more if isinstance(volume, str)}
        ours = [volume for volume in ours if volume in more or target_of(volume) not in targets]
    return [*ours, *(item for item in more if item not in ours)]


def as_list(name: Any, value: Any) -> Any:
    """A mapping as Docker's list of the same. Of labels only the names: the launcher knows no list with values."""
    if not isinstance(value, Mapping) or name not in ("volumes", "extra_hosts", "labels"):
        return value
    if name == "volumes":
        return list(binds(value))
    if name == "extra_hosts":
        return [f"{host}:{address}" for host, address in value.items()]
    return list(value)


def as_mapping(name: Any, value: Any) -> Any:
    """A list as Docker's mapping of the same."""
    if not isinstance(value, list) or name not in ("labels", "extra_hosts", "tmpfs"):
        return value
    pairs = (str(item).partition("=" if name == "labels" else ":") for item in value)
    return {key: rest for key, _separator, rest in pairs}


def binds(volumes: Any) -> Iterator[str]:
    """Volumes in Docker's short form, SOURCE:PATH[:MODE], also those that are a mapping of sources."""
    if isinstance(volumes, Mapping):
        for source, target in volumes.items():
            if isinstance(target, Mapping):
                mode = target.get("mode") or ("ro" if target.get("ro") else "")
                modes = ",".join(filter(None, (mode, target.get("propagation"))))
                target = f"{target.get('bind')}:{modes}" if modes else target.get("bind")
            yield f"{source}:{target}"
    elif isinstance(volumes, list):
        yield from (volume for volume in volumes if isinstance(volume, str))


def target_of(volume: Any) -> str:
    """The path of a volume in the container."""
    parts = str(volume).split(":")
    return (parts[1] if len(parts) > 1 else parts[0]).rstrip("/")


def parts(given: Any) -> tuple[Any, dict[str, Any]]:
    """The part for Docker of a location's container_context, and the rest of it.

    The user may write either that part alone, or Dagster's form, which has the part of each system below its name.
    """
    if not isinstance(given, Mapping) or not any(system in given for system in SYSTEMS):
        return given or {}, {}
    return given.get("docker") or {}, {key: value for key, value in given.items() if key != "docker"}
