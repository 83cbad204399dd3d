# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the suite asks of the machine: the processes of a step, and CPU time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from accounts import account, used
from steps import MARK, ROOT

GRACE = 10.0  # seconds that a process has for its own end


def marked(step: str = "") -> list[int]:
    """The processes of a step, or of every step of this checkout."""
    mark = f"{MARK}={ROOT}:{step}".encode() + (b"\0" if step else b"")
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes()
        except OSError:  # it has ended, or is somebody else's
            continue
        if environment.startswith(mark) or b"\0" + mark in environment:
            found.append(int(path.parent.name))
    return found


def end(step: str = "") -> int:
    """Ends the processes of a step, or of every step of this checkout; how many there were."""
    found = marked(step)
    for sent, seconds in ((signal.SIGTERM, GRACE), (signal.SIGKILL, 5.0)):
        until, asked = time.monotonic() + seconds, set[int]()
        while (left := [pid for pid in marked(step) if alive(pid)]) and time.monotonic() < until:
            for pid in set(left) - asked:  # also those that were started meanwhile
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, sent)
            asked |= set(left)
            time.sleep(0.1)
    return len(found)


def remove_hosts(rig: str) -> None:
    """Removes the hosts of a set: those of a step that was ended would take time from the steps after it."""
    listed = ["docker", "ps", "-aq", "--filter", f"label=dataops.dagster.rig={rig}"]
    found = subprocess.run(listed, capture_output=True, text=True, check=False, timeout=60).stdout.split()
    if found:
        subprocess.run(["docker", "rm", "-fv", *found], capture_output=True, check=False, timeout=300)


def alive(pid: int) -> bool:
    """Whether it still runs: a child of ours that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class HostTime:
    """CPU seconds of the rig's hosts by their set, read from their control groups every few seconds."""

    EVERY = 3.0

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._next = 0.0

    def look(self) -> None:
        """Adds what the hosts have used since the last look; a host that has gone keeps what was seen."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self.EVERY
        listed = ["docker", "ps", "--no-trunc", "--filter", "label=dataops.dagster.rig"]
        listed += ["--format", '{{.ID}} {{.Label "dataops.dagster.rig"}}']
        try:
            done = subprocess.run(listed, capture_output=True, text=True, check=False, timeout=5)
        except (OSError, subprocess.TimeoutExpired):  # no engine yet, or a busy one
            return
        for line in done.stdout.splitlines():
            container, _space, rig = line.partition(" ")
            try:
                now = used(account(container))
            except (LookupError, OSError):  # it has gone just now
                continue
            before = self._last.get(container, 0.0)
            # Less than before: the host was rebooted, and its account began anew.
            self.spent[rig] = self.spent.get(rig, 0.0) + (now - before if now >= before else now)
            self._last[container] = now


def machine_seconds() -> float:
    """CPU seconds of this machine since its start, whoever used them."""
    fields = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq = (int(field) for field in fields[:7])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
