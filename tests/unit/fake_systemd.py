"""A systemd that is only a dictionary of units, and remembers what it was told."""

from __future__ import annotations

import os
import time
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._host import units

SPEC: dict[str, Any] = {"name": "a.service", "files": [], "reload": False, "check": [], "state": "started"}
UP = {"ActiveState": "active", "UnitFileState": "enabled", "MainPID": str(os.getpid()), "ControlGroup": "/x"}


def monotonic(seconds_ago: float) -> str:
    """A time stamp as systemd gives it."""
    return str(int((time.monotonic() - seconds_ago) * 1e6))


class Systemd:
    """Stands for systemctl and journalctl, and remembers what it was told."""

    def __init__(self, states: dict[str, dict[str, str]]) -> None:
        self.states = states
        self.calls: list[str] = []
        self.broken = ""
        self.workers = [os.getpid(), 1]
        self.refuses = False  # a reload, as nginx does: systemctl says ok all the same

    def processes(self, cgroup: str) -> list[int]:
        return list(self.workers) if cgroup == "/x" else []

    def run(self, *argv: str) -> str:
        if argv[:2] == ("systemctl", "show"):
            if self.broken == "show":
                raise units.Failed("systemctl show ended with 1: no bus")
            blocks = ["\n".join(f"{key}={value}" for key, value in self.states[name].items()) for name in argv[3:]]
            return "\n\n".join(blocks) + "\n"
        self.calls.append(" ".join(argv))
        if argv[:2] == ("systemctl", "reload") and not self.refuses:
            self.workers.append(max(self.workers) + 1)
        if self.broken and self.calls[-1].startswith(self.broken):
            raise units.Failed(f"{self.calls[-1]} ended with 1: see the journal")
        return "died of cold\n" if argv[0] == "journalctl" else ""
