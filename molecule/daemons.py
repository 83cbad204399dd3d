"""The daemon of a host as systemd tells of it, and how many daemons run at a time."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

from deployment import NAME, machine, until
from processes import alive

UNIT = "dagster-daemon"
# Twenty times a second the time and how many there are, until nobody reads any more. A child that has not called exec
# yet (Dagster asks program `file` when it starts) has the arguments of its parent, and is no second daemon.
LOOK = """
import glob, select, sys, time
while not select.select([sys.stdin], [], [], 0.05)[0]:
    moment, parents = time.time(), {}
    for folder in glob.glob("/proc/[0-9]*"):
        try:
            argv = open(folder + "/cmdline", "rb").read().split(b"\\0")
            if b"run" in argv and any(word.endswith(b"dagster-daemon") for word in argv[:2]):
                parents[folder[6:]] = open(folder + "/stat").read().rpartition(")")[2].split()[1]
        except OSError:
            continue
    print(moment, sum(parent not in parents for parent in parents.values()), flush=True)
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


@contextlib.contextmanager
def raw_daemon(call: Callable[[str], str], *properties: str) -> Iterator[None]:
    """What root can do by hand: the login of the webservers and the plain command. Properties are those of its unit."""
    call("install -o dagster -g dagster -m 0600 /etc/dagster/pgpass /run/raw.pgpass")
    more = "".join(f" -p {one}" for one in properties)
    call(
        "systemd-run --quiet --collect --unit raw-daemon -p User=dagster -p EnvironmentFile=/etc/dagster/environment"
        f" -p EnvironmentFile=/etc/dagster/environment.secret -p WorkingDirectory=/var/lib/dagster{more}"
        " -E PGPASSFILE=/run/raw.pgpass -E PATH=/opt/dagster/current/bin:/usr/bin:/bin"
        " /opt/dagster/current/bin/dagster-daemon run -w /etc/dagster/workspace.yaml"
    )
    try:
        yield
    finally:
        call("systemctl stop raw-daemon; rm -f /run/raw.pgpass")


@contextlib.contextmanager
def without_fence(database: Any) -> Iterator[None]:
    """The tables as Dagster made them, on the host of the database."""
    statement = (
        "DO $$ DECLARE one record; BEGIN FOR one IN SELECT tgrelid::regclass AS place, tgname FROM pg_trigger"
        " WHERE tgname LIKE 'dagster_fence%' LOOP"
        " EXECUTE format('ALTER TABLE %s {} TRIGGER %I', one.place, one.tgname); END LOOP; END $$"
    )
    count = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'dagster_fence%' AND tgenabled = 'D'"
    psql = "sudo -u postgres psql -v ON_ERROR_STOP=1 -Atc %s dagster"
    database.check_output(psql, statement.format("DISABLE"))
    assert int(database.check_output(psql, count)) > 0, "there was no fence"
    try:
        yield
    finally:
        database.check_output(psql, statement.format("ENABLE"))


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
        self.names = names
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

    def __repr__(self) -> str:
        """When how many were there on which host, for whoever reads why a test failed."""
        seen = [
            (moment, name, count)
            for name, samples in zip(self.names, self.samples, strict=True)
            for number, (moment, count) in enumerate(list(samples))
            if number == 0 or samples[number - 1][1] != count
        ]
        return f"<Watch: {', '.join(f'{moment:.2f} {name} {count}' for moment, name, count in sorted(seen))}>"

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
