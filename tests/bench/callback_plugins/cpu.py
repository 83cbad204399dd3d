# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Writes what each task of a play has cost: CPU seconds of every host's control group, and of ansible-playbook.

BENCH_CPU names the file to write and BENCH_CPU_ACCOUNTS the file of the kernel that counts for each host, as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path
from typing import Any

from accounts import used
from ansible.plugins.callback import CallbackBase


def own() -> float:
    """CPU seconds of this process and of its children that have ended."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in found)


class CallbackModule(CallbackBase):
    """A row for each task, from its start to that of the next one."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "cpu"
    CALLBACK_NEEDS_ENABLED = False

    def __init__(self) -> None:
        """Begins with what comes before the first task."""
        super().__init__()
        accounts: dict[str, str] = json.loads(os.environ.get("BENCH_CPU_ACCOUNTS", "{}"))
        self.accounts = {name: Path(path) for name, path in accounts.items()}
        self.rows: list[dict[str, Any]] = []
        self.play = ""
        self.row: dict[str, Any] = {"play": "", "role": "", "task": "start of ansible-playbook", "hosts": []}
        self.since = (time.monotonic(), {name: used(path) for name, path in self.accounts.items()}, 0.0)

    def _next(self, row: dict[str, Any]) -> None:
        now = (time.monotonic(), {name: used(path) for name, path in self.accounts.items()}, own())
        wall, cpu, controller = self.since
        spent = {name: now[1][name] - cpu[name] for name in cpu}
        self.rows.append({**self.row, "wall": now[0] - wall, "cpu": spent, "controller": now[2] - controller})
        self.row, self.since = row, now

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self.play = play.get_name()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:  # noqa: ARG002
        role = task._role.get_name() if task._role else ""
        self._next({"play": self.play, "role": role, "task": task.get_name(), "hosts": []})

    def v2_runner_on_ok(self, result: Any) -> None:
        self.row["hosts"].append(result._host.get_name())

    def v2_playbook_on_stats(self, stats: Any) -> None:  # noqa: ARG002
        self._next({})
        if path := os.environ.get("BENCH_CPU"):
            Path(path).write_text(json.dumps(self.rows), encoding="utf-8")
