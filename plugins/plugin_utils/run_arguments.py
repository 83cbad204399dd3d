# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Arguments of the containers of runs with values that the Docker gate refuses, told before anything is touched. Pure.

There is one definition: the program of the gate. Its checks are asked here for what Docker's client would send.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.dataops.dagster.plugins.module_utils._docker import forms

PROGRAM = Path(__file__).resolve().parents[2] / "roles/gate/files/usr/local/lib/dagster/gate_container.py"


def _gate() -> Any:
    """The part of the gate's program that judges a container; it needs nothing but Python."""
    name = f"{__name__}_gate"
    spec = importlib.util.spec_from_file_location(name, PROGRAM)
    if spec is None or spec.loader is None:
        raise ImportError(f"{PROGRAM} cannot be read")
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found  # its dataclasses look there
    spec.loader.exec_module(found)
    return found


GATE = _gate()


class Argument(NamedTuple):
    """How Docker's client sends an argument, and what to write instead of a value that the gate refuses."""

    key: str
    instead: str
    form: Callable[[Any], Any] = lambda value: value
    table: Mapping[str, Any] = GATE.HOST


def _size(value: Any) -> int:
    return value if isinstance(value, int) else forms.parse_size(value)


def _hosts(value: Any) -> Any:
    return [f"{name}:{address}" for name, address in value.items()] if isinstance(value, Mapping) else value


def _tmpfs(value: Any) -> Any:
    """Folders with their options, which are a mapping, or follow a colon."""
    if isinstance(value, Mapping):
        return value
    return {path: options for path, _colon, options in (each.partition(":") for each in value)}


def _ulimits(value: Any) -> Any:
    def of(given: Mapping[str, Any]) -> dict[str, Any]:
        names = {str(name).lower(): each for name, each in given.items()}
        return {key: names[key.lower()] for key in ("Name", "Soft", "Hard") if names.get(key.lower()) is not None}

    return [of(each) for each in value]


def _platform(value: Any, _location: Any) -> bool:
    return bool(GATE.PLATFORM.fullmatch(value))


_NO_TERMINAL = "leave it out: nobody types into a run"
_WHOLE = "write a whole number, 0 for no limit of its own"
_SIZES = "write a size such as 512m or 4g"
_ADDRESSES = "write addresses, for example [10.0.0.2, 2001:db8::2]"
_CPUS = "write numbers of processors, for example 0-3,8"
_BODY: Mapping[str, Any] = GATE.BODY
ARGUMENTS: dict[str, Argument] = {
    "blkio_weight": Argument("BlkioWeight", "write a number from 10 to 1000"),
    **{name: Argument(key, _WHOLE) for name, key in (("cpu_period", "CpuPeriod"), ("cpu_quota", "CpuQuota"))},
    **{name: Argument(key, _WHOLE) for name, key in (("cpu_shares", "CpuShares"), ("nano_cpus", "NanoCpus"))},
    "cpuset_cpus": Argument("CpusetCpus", _CPUS),
    "cpuset_mems": Argument("CpusetMems", _CPUS),
    "cap_drop": Argument("CapDrop", "leave it out: the gate drops all capabilities but those of the location"),
    "dns": Argument("Dns", _ADDRESSES),
    "dns_opt": Argument("DnsOptions", "write options of resolv.conf, for example [ndots:2]"),
    "dns_search": Argument("DnsSearch", "write domains, for example [example.com]"),
    "domainname": Argument("Domainname", "write a domain, for example example.com", table=_BODY),
    "extra_hosts": Argument("ExtraHosts", "write names with addresses, for example {db: 10.0.0.9}", _hosts),
    "hostname": Argument("Hostname", "write letters, digits, _, . and -, 63 of them at most", table=_BODY),
    "init": Argument("Init", "write true or false"),
    **{
        name: Argument(key, _SIZES, _size)
        for name, key in (
            *(("kernel_memory", "KernelMemory"), ("mem_limit", "Memory"), ("mem_reservation", "MemoryReservation")),
            ("shm_size", "ShmSize"),
        )
    },
    "memswap_limit": Argument("MemorySwap", "write memory and swap together, for example mem_limit: 2g with 4g", _size),
    "mem_swappiness": Argument("MemorySwappiness", "write a number from 0 to 100"),
    "oom_score_adj": Argument("OomScoreAdj", "write a number from 0 to 1000: no run outlives the services of its host"),
    "pids_limit": Argument("PidsLimit", "write a number from 1 to that of dagster_gate_pids_limit, or leave it out"),
    "platform": Argument("platform", "write for example linux/amd64", table={"platform": _platform}),
    "stdin_open": Argument("OpenStdin", _NO_TERMINAL, table=_BODY),
    "stop_signal": Argument("StopSignal", "write the name of a signal, for example SIGINT", table=_BODY),
    "tmpfs": Argument("Tmpfs", "write for example {/scratch: 'size=64m,mode=1777'}", _tmpfs),
    "tty": Argument("Tty", "write true or false", table=_BODY),
    "ulimits": Argument("Ulimits", "write for example [{Name: nofile, Soft: 65536, Hard: 65536}]", _ulimits),
    "working_dir": Argument("WorkingDir", "write a folder of the image, for example /opt/app", table=_BODY),
}


def instead(name: str, value: Any, most_pids: int) -> str:
    """What to write instead of a value with which the gate starts no run, empty for a good one."""
    known = ARGUMENTS.get(name)
    if known is None or value is None:
        return ""
    try:
        good = known.table[known.key](known.form(value), {})
    except (TypeError, ValueError, LookupError, AttributeError):
        good = False
    if name == "pids_limit" and good and value > most_pids:
        return f"write a number up to {most_pids}, or set dagster_gate_pids_limit to more"
    return "" if good else known.instead
