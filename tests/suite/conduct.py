# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs steps beside each other or alone, within their time, and says how each ended."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from machine import HostTime, end, machine_seconds, remove_hosts
from steps import MARK, ROOT, Step

LOGS = ROOT / ".cache/logs"
CORES = len(os.sched_getaffinity(0))
# A scenario takes up to 4 GB, and a filler little.
ROOM = max(2, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (4 * 2**30))
WIDTH = min(CORES, ROOM)
SHOWN = 100  # lines of the log of a step that failed
REASONS = 10  # of them, those that are said again at the end


@dataclasses.dataclass
class Running:
    """A step at work."""

    step: Step
    process: subprocess.Popen[bytes]
    since: float
    hosts: float


FAILED = ("failed", "over time")


@dataclasses.dataclass
class Result:
    """How a step ended. CPU seconds: of its processes, and of the hosts of its rig meanwhile."""

    step: Step
    outcome: str  # passed, failed, over time, not run
    begin: float = 0.0
    wall: float = 0.0
    cpu: float = 0.0
    hosts: float = 0.0

    @property
    def summary(self) -> str:
        """What its log says of itself in one line."""
        try:
            text = log(self.step).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        lines = re.findall(r"\b(\d+ (?:passed|failed|of \d+ red)\b[^=\n(]*)", text)
        return lines[-1].strip() if lines else ""

    @property
    def reasons(self) -> list[str]:
        """The lines of its log that name what failed, also in a play; of a step that was ended, the last ones."""
        lines = log(self.step).read_text(encoding="utf-8", errors="replace").splitlines()
        named, task, failed = [], "", False
        for line in lines:
            if line.startswith("TASK ["):
                task, failed = line.rstrip("* "), False
            elif line.startswith(("fatal: [", "failed: [")):
                failed = True
                named += [task, line]
            elif re.match(r"(FAILED|ERROR) \S+\.py\b|GREEN  ", line) or (failed and re.match(r" +(msg|stderr):", line)):
                named.append(line)
        return [*named[:REASONS], *(lines[-3:] if self.outcome == "over time" or not named else [])]

    @property
    def row(self) -> str:
        """Its line in both tables."""
        clock = f"{self.begin // 60:3.0f}:{self.begin % 60:02.0f}"
        times = f"{self.wall:6.0f} {self.cpu:7.0f} {self.hosts:7.0f}"
        return f"{self.step.name:18} {self.outcome:10} {clock} {times}   {self.summary}".rstrip()


HEAD = f"{'step':18} {'':10} begin   wall s  CPU s  hosts' CPU s"


def log(step: Step) -> Path:
    """Where its output goes."""
    return LOGS / f"{step.name}.log"


def next_step(
    waiting: Sequence[Step], running: Sequence[Step], passed: set[str], width: int, room: int = 0
) -> Step | None:
    """The step to start now, if any: in order, the ones that run alone after all others.

    width: how many steps run beside each other. One more comes on top of them for the time that they leave: a filler,
    or when no filler is left to run, one of the others if there is room.
    room: how many that are no fillers the memory has room for.
    """
    if any(step.alone for step in running):
        return None
    ready = [step for step in waiting if passed.issuperset(step.needs)]
    fillers = [step for step in ready if step.filler]
    others = [step for step in ready if not step.filler and not step.alone]
    at_work = [step for step in running if not step.filler]
    if others and len(at_work) < width:
        return others[0]
    if fillers and (len(running) < width or (len(running) == width and len(at_work) == width)):
        return fillers[0]
    if others and len(running) == width < room and not any(step.filler for step in waiting):
        return others[0]
    return ready[0] if ready and not running else None


def stop(step: Step) -> None:
    """Ends all that a step has started."""
    end(step.name)
    if step.rig:
        remove_hosts(step.rig)


class Suite:
    """Runs steps and keeps how they ended."""

    def __init__(self, steps: Sequence[Step], width: int = WIDTH) -> None:
        self.waiting = list(steps)
        self.width = width
        self.running: list[Running] = []
        self.results: list[Result] = []
        self.hosts = HostTime()
        self.since = time.monotonic()
        self.machine = machine_seconds()

    def run(self) -> bool:
        """Whether every step passed. Whatever ends it, it ends what it has started."""
        print(HEAD, flush=True)
        try:
            while self.waiting or self.running:
                self._give_up()
                while step := next_step(
                    self.waiting, [one.step for one in self.running], self._passed, self.width, ROOM
                ):
                    self.waiting.remove(step)
                    self._start(step)
                self.hosts.look()
                self._collect()
                time.sleep(0.2)
        finally:
            for one in self.running:
                stop(one.step)
        return all(result.outcome == "passed" for result in self.results)

    @property
    def _passed(self) -> set[str]:
        return {result.step.name for result in self.results if result.outcome == "passed"}

    def _give_up(self) -> None:
        """Steps that need one that did not pass will never run."""
        lost = {result.step.name for result in self.results if result.outcome != "passed"}
        for step in [step for step in self.waiting if lost.intersection(step.needs)]:
            self.waiting.remove(step)
            self._done(Result(step, "not run"))

    def _start(self, step: Step) -> None:
        # molecule and its tools would wrap their lines for a terminal of 80 columns, in colours.
        plain = {"COLUMNS": "160", "NO_COLOR": "1"}
        environment = {**os.environ, **plain, **step.env, MARK: f"{ROOT}:{step.name}"}
        with log(step).open("wb") as stream:
            process = subprocess.Popen(
                ["nice", "-n", "10", *step.argv] if step.filler else step.argv,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running.append(Running(step, process, time.monotonic(), self.hosts.spent.get(step.rig, 0.0)))

    def _collect(self) -> None:
        for one in list(self.running):
            pid, status, usage = os.wait4(one.process.pid, os.WNOHANG)
            late = not pid and time.monotonic() - one.since > one.step.limit
            if not pid and not late:
                continue
            if late:
                stop(one.step)
                _pid, status, usage = os.wait4(one.process.pid, 0)
            one.process.returncode = os.waitstatus_to_exitcode(status)
            self.running.remove(one)
            self._done(
                Result(
                    one.step,
                    "over time" if late else "passed" if one.process.returncode == 0 else "failed",
                    one.since - self.since,
                    time.monotonic() - one.since,
                    usage.ru_utime + usage.ru_stime,
                    self.hosts.spent.get(one.step.rig, 0.0) - one.hosts,
                )
            )

    def _done(self, result: Result) -> None:
        self.results.append(result)
        print(result.row, flush=True)
        if result.outcome in FAILED:
            why = f"was ended after its {result.step.limit} s" if result.outcome == "over time" else "failed"
            lines = log(result.step).read_text(encoding="utf-8", errors="replace").splitlines()
            print(
                f"{result.step.name} {why}; {log(result.step).relative_to(ROOT)} ends with:",
                *lines[-SHOWN:],
                sep="\n  ",
            )
            sys.stdout.flush()

    def report(self) -> str:
        """The table of all steps, and what the machine had to do."""
        wall = time.monotonic() - self.since
        used = machine_seconds() - self.machine
        counted = [
            f"{sum(one.outcome == kind for one in self.results)} {kind}"
            for kind in ("passed", "failed", "over time", "not run")
        ]
        rows = [result.row for result in sorted(self.results, key=lambda result: result.begin)]
        total = f"{wall / 60:.1f} minutes; {used:.0f} CPU s, {used / wall / CORES:.0%} of {CORES} cores"
        # At the end of all, because whoever runs the suite elsewhere may keep no more than that.
        failed = [result for result in self.results if result.outcome in FAILED]
        reasons = [f"{result.step.name}: {line[:300]}" for result in failed for line in result.reasons]
        return "\n".join(["", HEAD, *rows, "", total, ", ".join(counted), *reasons])
