"""Tests in a process of their own, what became of each, and what that says of a plant."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plant import PLANTS, Plant


@dataclass
class Result:
    """How a process of ours ended."""

    status: int = -1  # of the process
    hung: bool = False  # whether it was ended because it took too long
    seconds: float = 0.0
    cpu: float = 0.0
    # Outcome of each test: passed, skipped, failed, or collection for one that could not be read.
    outcomes: dict[str, str] = field(default_factory=dict)
    log: Path = Path()

    def of(self, test: str) -> set[str]:
        """What became of a test, or of all its parameters."""
        return {outcome for name, outcome in self.outcomes.items() if name == test or name.startswith(f"{test}[")}


class Recorder:
    """A pytest plugin that writes down what became of each test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A test fails in its setup or its call; an end that fails is no verdict of the test."""
        if report.when == "teardown" and report.outcome == "failed":
            self.outcomes.setdefault(report.nodeid, "teardown")
        elif report.when == "call" or report.outcome != "passed":
            self.outcomes[report.nodeid] = report.outcome

    def pytest_collectreport(self, report: Any) -> None:
        """A file that cannot be read is no red test."""
        if report.outcome == "failed":
            self.outcomes[report.nodeid] = "collection"

    def pytest_sessionfinish(self) -> None:
        """Leave it to the process that waits."""
        self.path.write_text(json.dumps(self.outcomes), encoding="utf-8")


def tests_of(folder: Path, arguments: list[str], *plugins: Any) -> int:
    """Runs tests of a copy in this process; the status of pytest."""
    import pytest

    os.environ["ANSIBLE_CONFIG"] = str(folder / "ansible.cfg")
    given = ["-q", "--tb=short", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    # A cache folder is a setting of the plugin that is switched off.
    given += ["--override-ini", "addopts=-ra --import-mode=importlib"]
    return int(pytest.main([*given, *arguments], plugins=list(plugins)))


class Process:
    """A fork of this process in a group of its own, with its output in a file."""

    def __init__(self, run: Callable[[], int], folder: Path, log: Path, limit: float) -> None:
        self.started = time.monotonic()
        self.limit = limit
        self.result = Result(log=log)
        self.done = False
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            status = 70
            try:
                os.setsid()
                out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(out, 1)
                os.dup2(out, 2)
                os.chdir(folder)
                status = run()
                sys.stdout.flush()
            finally:
                os._exit(status)

    def poll(self) -> bool:
        """Whether it is over; one that takes too long is ended with all that it started."""
        if self.done:
            return True
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        late = time.monotonic() - self.started > self.limit
        if pid == 0 and late:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            pid, status, usage = os.wait4(self.pid, 0)
        if pid:
            self.done = True
            with contextlib.suppress(ProcessLookupError):  # what it left behind
                os.killpg(self.pid, signal.SIGKILL)
            self.result.hung = late
            self.result.status = os.waitstatus_to_exitcode(status)
            self.result.seconds = time.monotonic() - self.started
            self.result.cpu = usage.ru_utime + usage.ru_stime
        return self.done

    def wait(self) -> Result:
        """Its result, once it is over."""
        while not self.poll():
            time.sleep(0.05)
        return self.result


class Pytest(Process):
    """Runs tests by their names, and reads what became of each.

    first: whether the first one that fails says enough.
    """

    def __init__(
        self,
        tests: list[str],
        folder: Path,
        limit: float,
        environment: dict[str, str] | None = None,
        compiled: bool = False,
        first: bool = False,
    ) -> None:
        record = folder.parent / f"{folder.name}.json"
        record.unlink(missing_ok=True)
        self.record = record

        def run() -> int:
            os.environ.update(environment or {})
            sys.dont_write_bytecode = not compiled
            sys.path[:] = [path for path in sys.path if path != str(PLANTS)]
            return tests_of(folder, [*(["-x"] if first else []), *tests], Recorder(record))

        super().__init__(run, folder, folder.parent / f"{folder.name}.log", limit)

    def poll(self) -> bool:
        """Whether it is over."""
        if super().poll() and not self.result.outcomes and self.record.exists():
            self.result.outcomes = json.loads(self.record.read_text(encoding="utf-8"))
        return self.done


def verdict(plant: Plant, result: Result) -> str:
    """Empty for a red plant, else why it is none."""
    if result.hung:
        return f"its test hangs: ended after {result.seconds:.0f} s"
    outcomes = result.of(plant.test)
    if result.status == 1 and "failed" in outcomes:
        return ""
    if result.status == 0 and outcomes == {"passed"}:
        return "nobody noticed"
    found = ", ".join(
        sorted(outcomes | {f"{name}: {of}" for name, of in result.outcomes.items() if of == "collection"})
    )
    ended = f"pytest ended with {result.status} ({found or 'no such test'}), {result.log}"
    return f"its test did not run as it should: {ended}"


def control_problem(test: str, result: Result) -> str:
    """Empty for a test that is green without a plant, else what it is."""
    if result.hung:
        return f"its test hangs without the plant: ended after {result.seconds:.0f} s"
    outcomes = result.of(test)
    if outcomes and outcomes <= {"passed"}:
        return ""
    return f"its test is not green without the plant: {', '.join(sorted(outcomes)) or 'no such test'}"
