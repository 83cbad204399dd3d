"""Signals for one process of a host."""

from __future__ import annotations

from typing import Any


def one_process(pid: str) -> str:
    """A PID that names one process of a unit. A unit that is down has PID 0, which kill takes for its own group."""
    assert pid.isdigit(), f"{pid!r} is no PID, so nothing runs that could be signalled"
    assert int(pid) > 1, f"{pid} is no process of a unit, so nothing runs that could be signalled"
    return pid


def send(host: Any, signal: str, pid: str) -> None:
    """Sends a signal to one process of a host: send(host, "STOP", pid)."""
    host.check_output(f"kill -{signal} {one_process(pid)}")


def alive(host: Any, pid: str) -> bool:
    """Whether a process is there. A PID that was never one is a mistake of the test, not a process that has ended."""
    return bool(host.run(f"kill -0 {one_process(pid)}").rc == 0)
