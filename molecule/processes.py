"""Signals for one process of a host."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any


def one_process(pid: str, what: str = "it") -> str:
    """A PID that may be sent a signal. A unit that is down has 0, which kill takes for its own group; 1 is the host."""
    found = pid.strip()
    assert re.fullmatch(r"[1-9]\d+|[2-9]", found), (
        f"{what} has no process of its own ({pid!r}), so nothing runs that could be signalled"
    )
    return found


def send(host: Any, signal: str, pid: str, what: str = "it") -> None:
    """Sends a signal to one process of a host: send(host, "STOP", pid, "the daemon")."""
    host.check_output(f"kill -{signal} {one_process(pid, what)}")


def cpu(output: Callable[[str], str], pid: str) -> float:
    """CPU seconds of a process so far; output runs a command on its host."""
    ticks, hertz = output(f"cat /proc/{one_process(pid)}/stat; getconf CLK_TCK").splitlines()
    user, system = ticks.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / int(hertz)


def alive(host: Any, pid: str) -> bool:
    """Whether a process is there. A PID that was never one is a mistake of the test, not a process that has ended."""
    return bool(host.run(f"kill -0 {one_process(pid)}").rc == 0)
