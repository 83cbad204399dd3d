"""The daemon of a host as systemd tells of it, and how many daemons run at a time."""

from __future__ import annotations

import itertools
import json
import math
import re
import subprocess
import threading
from typing import Any

from deployment import NAME, machine, until
from processes import alive

UNIT = "dagster-daemon"
# Twenty times a second the time and how many there are, until nobody reads any more.
LOOK = """
import glob, select, sys, time
while not select.select([sys.stdin], [], [], 0.05)[0]:
    moment, found = time.time(), 0
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            argv = open(path, "rb").read().split(b"\\0")
        except OSError:
            continue
        found += b"run" in argv and any(word.endswith(b"dagster-daemon") for word in argv[:2])
    print(moment, found, flush=True)
"""


class Controller:
    """A daemon host."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.host: Any = machine(name)

    def __call__(self, command: str) -> str:
        answer: str = self.host.check_output(command)
        return answer

    def docker(self, *argv: str) -> None:
        """What happens to the machine, not to a process on it."""
        container = f"rig-{NAME}-{self.name}"
        command = ["docker", *[word.format(container) for word in argv]]

        def done() -> bool:
            answer = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
            assert answer.returncode == 0, answer.stderr
            return True

        until(done, 10, " ".join(command))  # the kernel may need a second try to freeze a busy machine

    @property
    def status(self) -> str:
        return self(f"systemctl show -p StatusText --value {UNIT}").strip()

    @property
    def active(self) -> bool:
        # systemd keeps the last words of a unit that was killed.
        pid = self.daemon
        return bool(pid) and self.status.startswith("active: daemon") and alive(self.host, pid)

    @property
    def daemon(self) -> str:
        found = re.search(r"PID (\d+)", self.status)
        return found.group(1) if found else ""

    @property
    def guard(self) -> str:
        return self(f"systemctl show -p MainPID --value {UNIT}").strip()

    @property
    def timings(self) -> dict[str, float]:
        values: dict[str, float] = json.loads(self("cat /etc/dagster/guard.json"))["timings"]
        return values


def epoch(one: Controller) -> int:
    found = re.search(r"epoch (\d+)$", one.status)
    return int(found.group(1)) if found else 0


class Watch:
    """How many daemons ran at a time. Each host looks by itself, so that a pause of one hides nothing."""

    def __init__(self, names: list[str]) -> None:
        self.watchers = [
            subprocess.Popen(
                ["docker", "exec", "-i", f"rig-{NAME}-{name}", "python3", "-c", LOOK],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in names
        ]
        self.samples: list[list[tuple[float, int]]] = [[] for _name in names]
        self.threads = [threading.Thread(target=self.read, args=(number,), daemon=True) for number in range(len(names))]
        for thread in self.threads:
            thread.start()

    def read(self, number: int) -> None:
        for line in self.watchers[number].stdout or ():
            moment, count = line.split()
            self.samples[number].append((float(moment), int(count)))

    def end(self) -> None:
        for watcher in self.watchers:
            assert watcher.stdin
            watcher.stdin.close()
            watcher.wait(10)

    @property
    def longest_away(self) -> float:
        """The most seconds without a daemon: between two looks that saw one, whichever host it ran on."""
        seen = sorted(moment for samples in self.samples for moment, count in list(samples) if count)
        return max((later - earlier for earlier, later in itertools.pairwise(seen)), default=math.inf)

    @property
    def most(self) -> int:
        """The most daemons at one moment. A daemon was surely there between two looks that both saw one."""
        everything = [(list(samples), number) for number, samples in enumerate(self.samples)]
        ran = [
            (before[0], after[0], number)
            for samples, number in everything
            for before, after in itertools.pairwise(samples)
            if before[1] and after[1]
        ]
        # From the second look on, because the first may have come late in its interval.
        spans: list[list[tuple[float, float]]] = [[] for _samples in everything]
        for begin, end, number in ran:
            if spans[number] and spans[number][-1][1] == begin:
                spans[number][-1] = (spans[number][-1][0], end)
            else:
                spans[number].append((end, end))
        together = any(max(one[0], other[0]) <= min(one[1], other[1]) for one in spans[0] for other in spans[1])
        return max(2 if together else 1 if ran else 0, *(count for samples, _n in everything for _t, count in samples))
