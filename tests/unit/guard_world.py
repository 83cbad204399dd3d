"""Role daemon's guard.py and what it imports, without a database, and a world whose clock and answers a test drives.

tests/integration/guard runs it against PostgreSQL.
"""

from __future__ import annotations

import importlib.util
import signal
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "roles/daemon/files/usr/local/lib/dagster/guard.py"


class Refused(Exception):
    """Stands for psycopg2.Error."""


def load() -> ModuleType:
    """The program and its dialect with a stand-in for psycopg2, which is in Dagster's venv only."""
    extensions = SimpleNamespace(set_wait_callback=lambda _callback: None, POLL_OK=0, POLL_READ=1)
    library = SimpleNamespace(Error=Refused, OperationalError=Refused, extensions=extensions)
    before = {name: sys.modules.get(name) for name in ("psycopg2", "psycopg2.extensions")}
    sys.modules.update({"psycopg2": library, "psycopg2.extensions": extensions})  # type: ignore[dict-item]
    spec = importlib.util.spec_from_file_location("guard", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["guard"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    for name, library_before in before.items():
        if library_before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = library_before
    return module


guard = load()
lease = sys.modules["lease"]  # with the stand-in


class World:
    """A guard on host a, its clock, the answers of its database, and what happened.

    A call takes as long as `slow` says: half of it is the way to the database, half of it the way back.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 1000.0
        self.row: list[Any] = [4, 40, "", "", "", "heartbeat 1"]
        self.answers: dict[str, bool] = {}
        self.down = False
        self.failing: set[str] = set()  # functions that raise at once
        self.slow: dict[str, float] = {}
        self.calls: list[str] = []
        self.arguments: dict[str, tuple[Any, ...]] = {}
        self.sent: dict[str, float] = {}  # when the last call that had an answer was sent
        self.limits: list[float] = []
        self.told: list[str] = []
        self.alive: list[float] = []  # when systemd heard WATCHDOG=1
        self.done: list[str] = []
        self.when: list[float] = []  # of each entry of done
        self.process: SimpleNamespace | None = None
        self.started = self.ended = 0.0
        self.status: int | None = None
        monkeypatch.setattr(guard, "now", lambda: self.time)
        monkeypatch.setattr(guard, "tell", self.tell)
        config = SimpleNamespace(host="a", login="dagster_daemon_a", timings=guard.Timings())
        self.guard = guard.Guard(config, self, self, "now")

    # As systemd

    def tell(self, text: str) -> None:
        self.told.append(text)
        if text == "WATCHDOG=1":
            self.alive.append(self.time)

    # As the database

    def call(self, function: str, *arguments: Any, limit: float) -> tuple[Any, ...]:
        self.calls.append(function)
        self.arguments[function] = arguments
        self.limits.append(limit)
        took, sent = self.slow.get(function, 0.0), self.time
        if self.down or took > limit:
            self.time += limit
            raise Refused("no answer in time")
        if function in self.failing:
            raise Refused("refused")
        self.time += took / 2
        answer = self.answer(function)
        self.time += took / 2
        self.sent[function] = sent
        return answer

    def answer(self, function: str) -> tuple[Any, ...]:
        if function == "look":
            return tuple(self.row)
        if function == "take" and self.answers.get("take", True):
            self.row[:4] = [self.row[0] + 1, self.row[1] + 1, "a", "now"]
        if function == "renew" and self.answers.get("renew", True):
            self.row[1] += 1
        return (self.answers.get(function, True),)

    # As the daemon

    def note(self, event: str) -> None:
        self.done.append(event)
        self.when.append(self.time)

    def start(self, epoch: int) -> None:
        self.note(f"start {epoch}")
        self.process, self.started = SimpleNamespace(pid=7), self.time

    def signal(self, number: int) -> None:
        self.note(signal.Signals(number).name)

    def kill(self) -> None:
        if self.process is not None:
            self.note("kill")
        self.process, self.ended = None, self.time

    def reap(self) -> int | None:
        status, self.status = self.status, None
        if status is not None:
            self.process, self.ended = None, self.time
        return status

    # As time

    def go(self, seconds: float) -> None:
        """Lets the guard's loop run for so long."""
        end = self.time + seconds
        while self.time < end:
            self.guard.alive()
            try:
                self.guard.step()
            except Refused as error:
                self.guard.complain(error)
            self.time += max(0.01, min(self.guard.pause(), end - self.time))
