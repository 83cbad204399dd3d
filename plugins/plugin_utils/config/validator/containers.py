# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What DockerRunLauncher is told of the containers of runs, by dagster.yaml or by a code location."""

from __future__ import annotations

import re

from ....module_utils._secrets import literal_secrets
from ....module_utils._words import did_you_mean
from .constructors import CONTAINER_KWARGS_OWNED
from .report import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .report import Path, Report
    from .schema import Checker

LAUNCHER: Path = ("run_launcher", "config")
# What the launcher takes out before Docker sees it.
OWN_KWARGS = frozenset(("stop_timeout",))
# What the launcher passes by itself, so that an argument of this name comes twice.
PASSED = {
    **CONTAINER_KWARGS_OWNED,
    "command": "",
    "detach": "",
}
# What the command line of Docker and its Compose files call otherwise.
KWARGS = {
    **dict.fromkeys(("memory", "mem", "memory_limit", "m"), "did you mean mem_limit?"),
    **dict.fromkeys(("memory_swap", "memswap"), "did you mean memswap_limit?"),
    "memory_reservation": "did you mean mem_reservation?",
    **dict.fromkeys(("cpus", "cpu", "cpu_limit"), "did you mean nano_cpus (a billion is one)?"),
    **dict.fromkeys(("env", "env_file", "env_vars"), "use env_vars of the launcher"),
    **dict.fromkeys(("net", "networks"), "use networks of the launcher"),
    **dict.fromkeys(("add_host", "hosts"), "did you mean extra_hosts?"),
    "restart": "did you mean restart_policy?",
    "gpus": "did you mean device_requests?",
    "volume": "did you mean volumes?",
    "mount": "did you mean mounts?",
    **dict.fromkeys(("logging", "log_driver", "log_opt"), "did you mean log_config: {type: ..., config: {...}}?"),
    **dict.fromkeys(("workdir", "w"), "did you mean working_dir?"),
    **dict.fromkeys(("rm", "remove"), "did you mean auto_remove?"),
    **dict.fromkeys(("stop_grace_period", "grace_period"), "did you mean stop_timeout?"),
    "pids": "did you mean pids_limit?",
    "shm": "did you mean shm_size?",
}

# What Docker's SDK takes for each argument. Anything else is a TypeError at each launch.
TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(
        (
            *("auto_remove", "detach", "init", "network_disabled", "oom_kill_disable", "privileged"),
            *("publish_all_ports", "read_only", "stdin_open", "tty", "use_config_proxy"),
        ),
        (bool,),
    ),
    **dict.fromkeys(
        (
            *("blkio_weight", "cpu_count", "cpu_percent", "cpu_period", "cpu_quota", "cpu_rt_period"),
            *("cpu_rt_runtime", "cpu_shares", "mem_swappiness", "nano_cpus", "oom_score_adj", "pids_limit"),
            "stop_timeout",
        ),
        (int,),
    ),
    **dict.fromkeys(
        (
            *("cgroup_parent", "cgroupns", "cpuset_cpus", "cpuset_mems", "domainname", "hostname", "init_path"),
            *("ipc_mode", "isolation", "mac_address", "name", "network_mode", "pid_mode", "platform", "runtime"),
            *("stop_signal", "userns_mode", "uts_mode", "volume_driver", "working_dir"),
        ),
        (str,),
    ),
    "user": (str, int),
    **dict.fromkeys(("kernel_memory", "mem_limit", "mem_reservation", "memswap_limit", "shm_size"), (int, str)),
    **dict.fromkeys(
        (
            *("blkio_weight_device", "cap_add", "cap_drop", "device_cgroup_rules", "device_read_bps"),
            *("device_read_iops", "device_requests", "device_write_bps", "device_write_iops", "devices", "dns"),
            *("dns_opt", "dns_search", "group_add", "mounts", "security_opt", "ulimits", "volumes_from"),
        ),
        (list,),
    ),
    **dict.fromkeys(("extra_hosts", "labels", "links", "tmpfs", "volumes"), (list, dict)),
    **dict.fromkeys(
        ("healthcheck", "log_config", "networking_config", "ports", "restart_policy", "storage_opt", "sysctls"),
        (dict,),
    ),
}
_WORDS = {bool: "true or false", int: "a whole number", str: "text", list: "a list", dict: "a mapping"}
# Whose entries are text.
_OF_TEXT = frozenset(("cap_add", "cap_drop", "devices", "dns", "dns_search", "security_opt", "volumes", "labels"))
_SIZES = frozenset(name for name, kinds in TYPES.items() if kinds == (int, str))
_SIZE = r"(?i)\d+(\.\d+)?([bkmgt]|[kmgt]b)?"


def check_context(checker: Checker, options: Any, path: Path) -> None:
    """Report everything that is wrong with the container context of a code location."""
    ((kind, _rest),) = [
        (entry["config"], entry) for entry in checker.catalogue.named("DockerRunLauncher") if "config" in entry
    ][:1]
    if checker.check(kind, options, path):
        for found_path, found, _expected in literal_secrets(options, checker.report.allowed("literal_secret")):
            checker.report.refuse("literal_secret", (*path, *found_path), f"found {found}", TO_A_FILE)
        copied_variables(checker, options, path)
        arguments(checker, options, path)


TO_A_FILE = "docker inspect would show it: put it into secret_env of the location, or as a file into its secrets"


def copied_variables(checker: Checker, options: dict[str, Any], path: Path) -> None:
    """Names without a value are copied from the launching process, and missed only when a run starts."""
    names = options.get("env_vars")
    if checker.env is None or not isinstance(names, list):
        return
    for index, name in enumerate(names):
        if isinstance(name, str) and "=" not in name and name not in checker.env:
            hint = (
                did_you_mean(name, checker.env) or f"write {name}=<value>, or add it to the environment of the services"
            )
            message = f"found {name[:60]}, which the services do not have in their environment"
            checker.report.refuse("missing_env_var", (*path, "env_vars", index), message, hint)


def arguments(checker: Checker, options: dict[str, Any], path: Path) -> None:
    """Report arguments that Docker does not take, and those that harm."""
    kwargs = options.get("container_kwargs")
    if not isinstance(kwargs, dict):
        return
    report, at = checker.report, (*path, "container_kwargs")
    known = set(checker.catalogue.data["container_kwargs"]) | OWN_KWARGS
    for key, value in kwargs.items():
        if key in CONTAINER_KWARGS_OWNED and path == LAUNCHER:
            continue  # the launcher's constructor refuses them
        if key in PASSED:
            hint = f"use {PASSED[key]} beside container_kwargs" if PASSED[key] else "leave it out"
            message = f"found {key}, which the launcher passes itself: each run fails with a TypeError"
            report.refuse("unknown_container_kwarg", (*at, key), message, hint)
        elif key not in known:
            message = f"found {key}, which the Docker SDK does not take: the first run fails to start"
            hint = KWARGS.get(key) or did_you_mean(key, known) or "see the parameters of docker.containers.create"
            report.refuse("unknown_container_kwarg", (*at, key), message, hint)
        elif value is not None:
            _type(checker, key, value, (*at, key))
    if kwargs.get("auto_remove") is True:
        message = "found true: with its container the exit state of a run is gone, and why it died cannot be known"
        hint = "leave it out, and remove containers of ended runs later: docker container prune --filter until=72h"
        if report.deployed:
            hint = "leave it out: dagster_docker_run_retention_hours says when containers of ended runs are removed"
        report.harm("auto_remove", (*at, "auto_remove"), message, hint)
    _root(checker, kwargs, at)


def _type(checker: Checker, key: str, value: Any, path: Path) -> None:
    """A value that the SDK or the engine refuses when a run starts."""
    kinds = TYPES.get(key)
    if kinds is None or (isinstance(value, dict) and set(value) == {"env"}):  # variables.py speaks of that
        return
    number = isinstance(value, int) and not isinstance(value, bool)
    good = number if kinds == (int,) else isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    expected = " or ".join(_WORDS[kind] for kind in kinds)
    if good and key in _SIZES and isinstance(value, str) and not re.fullmatch(_SIZE, value):
        good, expected = False, "a size such as 512m or 4g"
    if not good:
        hint = f"write [{value}]" if kinds[0] is list and isinstance(value, str) and len(value) < 60 else ""
        checker.report.harm("container_kwarg_type", path, f"found {shown(value)}; expected {expected}", hint)
        return
    for index, item in enumerate(value) if key in _OF_TEXT and isinstance(value, list) else ():
        if not isinstance(item, str):
            checker.report.harm("container_kwarg_type", (*path, index), f"found {shown(item)}; expected text")


def _root(checker: Checker, kwargs: dict[str, Any], at: Path) -> None:
    """What makes each run root on its host."""
    report = checker.report
    volumes = kwargs.get("volumes")
    mounts = list(
        volumes.items() if isinstance(volumes, dict) else enumerate(volumes) if isinstance(volumes, list) else ()
    )
    for key, volume in mounts:
        source = key if isinstance(volumes, dict) else str(volume).partition(":")[0]
        _source(checker, (*at, "volumes", key), str(source), f"{key} {volume}")
    for index, mount in enumerate(kwargs["mounts"]) if isinstance(kwargs.get("mounts"), list) else ():
        if isinstance(mount, dict):
            source = str(mount.get("Source", mount.get("source", "")))
            _source(checker, (*at, "mounts", index), source, source)
    if kwargs.get("privileged") is True:
        message = "found true, which makes each run root on the host"
        _harm_to_host(report, "privileged", (*at, "privileged"), message, "name what is needed with cap_add or devices")


NO_SOCKET = (
    "leave it out: the Docker gate starts no run with it, whatever dagster_config_allow says. Jobs with "
    "docker_executor start their steps once step_containers of their entry in dagster_code_locations is true"
)


def _harm_to_host(report: Report, name: str, path: Path, message: str, hint: str) -> None:
    """In a deployment the Docker gate refuses each such run, so there nobody can allow it."""
    if report.deployed:
        report.error(path, message, hint)
    else:
        report.harm(name, path, message, hint)


def _source(checker: Checker, path: Path, source: str, text: str) -> None:
    if "docker.sock" in text:
        message = "found the Docker socket mounted into every run, which makes each run root on the host"
        hint = (
            "leave it out unless a job has docker_executor or starts containers itself: for starting runs only the "
            "services need it"
        )
        _harm_to_host(checker.report, "docker_socket", path, message, NO_SOCKET if checker.report.deployed else hint)
    elif re.fullmatch(r"/[/.]*", source):
        message = "found the host's whole disk mounted into every run, which makes each run root on the host"
        checker.report.harm("host_root", path, message, "mount the folders that runs need")


def volumes(given: Any) -> Iterator[tuple[str, str, bool]]:
    """(source, path in the container, whether it is read-only) of Docker's short form, in a list or by source.

    A path alone goes with its container.
    """
    if isinstance(given, dict):
        for source, target in given.items():
            if isinstance(target, dict):
                target = f"{target.get('bind')}:{target.get('mode', 'rw')}"
            yield from volumes([f"{source}:{target}"])
    for volume in given if isinstance(given, list) else ():
        source, *rest = volume.split(":") if isinstance(volume, str) else ("",)
        if rest:
            yield source, rest[0], "ro" in rest[-1].split(",")


def mounts(given: Any) -> Iterator[tuple[str, str, bool]]:
    """The same of the long form of Docker, and of that of Kubernetes, whose sources stand elsewhere."""
    for mount in given if isinstance(given, list) else ():
        if isinstance(mount, dict):
            target = next((mount[key] for key in ("Target", "target", "mount_path", "mountPath") if key in mount), "")
            source = mount.get("Source", mount.get("source", ""))
            if isinstance(target, str) and target:
                only = any(mount.get(key) for key in ("ReadOnly", "read_only", "readOnly"))
                yield source if isinstance(source, str) else "", target, only
