"""What the benches measure with: hosts of the rig, what an action costs there, and the table of rows."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml
from accounts import cpu_seconds

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "bench"
CACHE = ROOT / ".cache" / "bench"
INVENTORY = ROOT / "inventories" / "single_host"
SITE = ROOT / "playbooks" / "site.yml"
EXAMPLE = ROOT / "examples" / "pipeline"  # the code of that inventory
HOST = "dagster1"  # the one host of inventories/single_host

Json = dict[str, Any]


class BenchError(Exception):
    """What kept the bench from measuring, for the person who started it."""


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


# --- what a thing costs ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """Seconds of wall clock, and CPU seconds of the host and of the controller together."""

    wall: float
    cpu: float


def median(costs: list[Cost]) -> Cost:
    return Cost(statistics.median(cost.wall for cost in costs), statistics.median(cost.cpu for cost in costs))


def children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def adopt_orphans() -> None:
    """Makes the kernel give us the orphans among our descendants, so that their CPU time is counted as ours."""
    pr_set_child_subreaper = 36
    if ctypes.CDLL(None, use_errno=True).prctl(pr_set_child_subreaper, 1, 0, 0, 0):
        raise BenchError(f"prctl failed: {os.strerror(ctypes.get_errno())}")


def bury_orphans(seconds: float = 10.0) -> None:
    """Waits for adopted processes, which adds their CPU time to getrusage."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            pid, _status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            time.sleep(0.01)


def run(argv: list[str], *, env: dict[str, str] | None = None, data: str = "", seconds: float = 1800) -> str:
    """Output of a command that succeeds, within so many seconds."""
    try:
        done = subprocess.run(
            argv,
            env={**os.environ, **(env or {})},
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        said = error.stdout or b""
        text = said.decode(errors="replace") if isinstance(said, bytes) else said
        raise BenchError(f"{' '.join(argv)} did not end in {seconds:g} s:\n{last_lines(text)}") from error
    if done.returncode:
        raise BenchError(f"{' '.join(argv)} ended with {done.returncode}:\n{last_lines(done.stdout)}")
    return done.stdout


def last_lines(text: str) -> str:
    return "\n".join(text.splitlines()[-40:])


def in_a_second(read: Callable[[], float], seconds: int) -> float:
    """How much what is read grows in a second, over so many of them."""
    before, since = read(), time.monotonic()
    time.sleep(seconds)
    return (read() - before) / (time.monotonic() - since)


# CPU seconds of all processes of a unit, with those of their children that have ended.
UNIT_CPU = r"""
import os, pathlib, sys
ticks = 0
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        if "/%s\n" % sys.argv[1] in (folder / "cgroup").read_text():
            ticks += sum(map(int, (folder / "stat").read_text().rpartition(")")[2].split()[11:15]))
    except OSError:
        pass
print(ticks / os.sysconf("SC_CLK_TCK"))
"""

# --- hosts ----------------------------------------------------------------------------------------------------------


class Host:
    """A throw-away host of the rig."""

    def __init__(self, rig_name: str) -> None:
        self.rig_name = rig_name
        self.container = f"rig-{rig_name}-{HOST}"
        self.inventory = ROOT / ".cache" / "rig" / rig_name / "inventory"
        self.idle = 0.0  # CPU seconds that it uses in a second while nobody asks for anything

    def create(self) -> None:
        """Boots the host, as bare as a new machine."""
        self.destroy()
        say(f"booting {self.container}")
        self._rig("create.yml")

    def destroy(self) -> None:
        self.idle = 0.0
        self._rig("destroy.yml")

    def _rig(self, playbook: str) -> None:
        env = {"RIG_NAME": self.rig_name}
        run(["ansible-playbook", "-i", str(INVENTORY), str(ROOT / "tests" / "rig" / playbook)], env=env)

    def shell(self, script: str) -> str:
        return run(["docker", "exec", "-i", self.container, "bash", "-euc", script])

    def serves(self) -> bool:
        """Whether the host is there and its daemon runs."""
        argv = ["docker", "exec", self.container, "systemctl", "-q", "is-active", "dagster-daemon"]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0

    def cpu(self) -> float:
        """CPU seconds that the host and all containers on it have used since it was booted."""
        return cpu_seconds(
            self.shell("cat /sys/fs/cgroup/cpuacct/cpuacct.usage 2>/dev/null || cat /sys/fs/cgroup/cpu.stat")
        )

    def unit_cpu(self, unit: str) -> float:
        """CPU seconds of a unit's processes since they were started."""
        return float(run(["docker", "exec", "-i", self.container, "python3", "-", unit], data=UNIT_CPU))

    def idle_of(self, unit: str, seconds: int) -> float:
        """CPU seconds that a unit uses in a second while nobody asks for anything."""
        return in_a_second(lambda: self.unit_cpu(unit), seconds)

    def measure_idle(self, seconds: int) -> None:
        """The daemon and the code servers poll all the time; that is taken off what a play is charged for."""
        self.idle = in_a_second(self.cpu, seconds)

    def measure(self, action: Callable[[], object]) -> Cost:
        """What an action costs beside the host's own idle work."""
        host, controller, since = self.cpu(), children_cpu(), time.monotonic()
        action()
        wall = time.monotonic() - since
        bury_orphans()
        return Cost(wall, self.cpu() - host - self.idle * wall + children_cpu() - controller)

    def play(self, playbook: Path, extra: Json | None = None, *, verbose: bool = False, roles: str = "") -> str:
        """Runs a playbook against this host over a connection of its own, as the first play of a day has it."""
        argv = ["ansible-playbook", "-i", str(INVENTORY), "-i", str(self.inventory), "-e", json.dumps(extra or {})]
        argv += ["-vvv"] if verbose else []
        env = {"ANSIBLE_ROLES_PATH": roles} if roles else {}
        # Short, because the path of a socket may be 108 characters long.
        with tempfile.TemporaryDirectory(prefix="bench-") as sockets:
            try:
                return run([*argv, str(playbook)], env={**env, "ANSIBLE_SSH_CONTROL_PATH_DIR": sockets})
            finally:
                # The process that holds the connection outlives the play; it ends here, within what is measured.
                for path in Path(sockets).iterdir():
                    run(["ssh", "-o", f"ControlPath={path}", "-O", "exit", HOST])

    def locations(self, requirements: str = "") -> list[Json]:
        """The code location of the inventory, for plays that are in another folder than the playbooks.

        requirements: another lock of its code, empty for its own.
        """
        known = self.rig_variables()
        arguments = {**known["pipeline_build_args"], **({"REQUIREMENTS": requirements} if requirements else {})}
        build = {"context": str(EXAMPLE), "args": arguments, "base_archive": known["pipeline_base_archive"]}
        return [{"name": "pipeline", "port": 4000, "module": "pipeline.definitions", "build": build}]

    def ssh(self) -> list[str]:
        """The command that logs in to this host."""
        hosts = yaml.safe_load((self.inventory / "hosts.yml").read_text(encoding="utf-8"))["all"]["hosts"][HOST]
        argv = ["ssh", "-i", hosts["ansible_ssh_private_key_file"], *str(hosts["ansible_ssh_common_args"]).split()]
        return [*argv, f"{hosts['ansible_user']}@{hosts['ansible_host']}"]

    def rig_variables(self) -> Json:
        found: Json = yaml.safe_load((self.inventory / "group_vars" / "all.yml").read_text(encoding="utf-8"))
        return found


def changed(output: str) -> list[str]:
    """The tasks and handlers of a play that changed something."""
    return re.findall(
        r"^(?:TASK|RUNNING HANDLER) \[(.*)\] \**\n(?:(?!TASK|RUNNING HANDLER|PLAY).*\n)*?changed: ", output, re.M
    )


def play_unchanged(host: Host, extra: Json | None = None, *, verbose: bool = False) -> str:
    """site.yml once more; an error if it finds something to do."""
    output = host.play(SITE, extra, verbose=verbose)
    if tasks := changed(output):
        raise BenchError(f"site.yml changed something although there was nothing to do: {'; '.join(tasks)}")
    return output


def remote_calls(output: str) -> tuple[int, int]:
    """Commands that a verbose play sent to the host, and how many of them are modules (and not questions)."""
    sent = [line for line in output.splitlines() if "SSH: EXEC" in line]
    return len(sent), sum("/usr/bin/python3" in line for line in sent)


# --- result ---------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """One line of the table. CPU seconds decide the verdict: a neighbour on the machine changes the wall clock more."""

    name: str
    ours: Cost | None = None
    yardstick: Cost | None = None
    by_cpu: float | None = None
    by_wall: float | None = None
    bound: float | None = None
    unit: str = "x"
    note: str = ""
    samples: dict[str, list[list[float]]] = field(default_factory=dict)

    def judge(self, value: float | None) -> str:
        if self.bound is None:
            return ""
        if value is None:
            return "not measured"
        return "PASS" if value <= self.bound else "FAIL"

    @property
    def verdict(self) -> str:
        return self.judge(self.by_wall if self.by_cpu is None else self.by_cpu)

    def cells(self) -> list[str]:
        def pair(cost: Cost | None) -> str:
            return f"{cost.cpu:.2f} / {cost.wall:.2f}" if cost else ""

        def value(number: float | None) -> str:
            return "" if number is None else f"{number:.3g} {self.unit}"

        bound = "" if self.bound is None else f"<= {self.bound:g} {self.unit}"
        values = [value(self.by_cpu), value(self.by_wall)]
        return [self.name, pair(self.ours), pair(self.yardstick), *values, bound, self.verdict, self.note]


def ratio(name: str, ours: list[Cost], yardstick: list[Cost], bound: float | None, note: str = "") -> Row:
    left, right = median(ours), median(yardstick)
    samples = {"ours": raw(ours), "yardstick": raw(yardstick)}
    return Row(name, left, right, left.cpu / right.cpu, left.wall / right.wall, bound, note=note, samples=samples)


def raw(costs: list[Cost]) -> list[list[float]]:
    return [[round(cost.cpu, 3), round(cost.wall, 3)] for cost in costs]


def table(rows: list[Row]) -> str:
    head = ["", "ours CPU / wall s", "against CPU / wall s", "by CPU", "by wall", "bound", "verdict", ""]
    lines = [head, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([text[0], "-" * sum(widths[:-1]), *text[1:]])


# --- conducting -------------------------------------------------------------------------------------------------------


def report(rows: list[Row], load: float, name: str = "result", *, quick: bool = False) -> int:
    """Prints the table, keeps all in .cache/bench/NAME.json, and returns 1 when a bound is missed."""
    print(table(rows))
    verdicts = [row.verdict for row in rows]
    failed = verdicts.count("FAIL")
    counted = f"{verdicts.count('PASS')} passed, {failed} failed, {verdicts.count('not measured')} not measured"
    print(f"\n{counted}; CPU decides. The load was {load:.1f} at the start.")
    result = {
        "quick": quick,
        "cpus": os.cpu_count(),
        "load": load,
        "rows": [
            {
                "name": row.name.strip(),
                "by_cpu": row.by_cpu,
                "by_wall": row.by_wall,
                "bound": row.bound,
                "unit": row.unit,
                "verdict": row.verdict,
                "verdict_by_wall": row.judge(row.by_wall),
                "note": row.note,
                "samples_cpu_wall": row.samples,
            }
            for row in rows
        ],
    }
    (CACHE / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 1 if failed else 0


class Removable(Protocol):
    """Hosts that a bench takes away."""

    def destroy(self) -> None: ...


def conduct(rows: Iterator[Row], hosts: Sequence[Removable], name: str = "result", *, quick: bool = False) -> int:
    """Measures the rows and reports them: 0, 1 when a bound is missed, 2 when something could not be measured.

    One bench at a time in a checkout. The hosts are removed at the end, and what a killed bench left at the start.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("bench: another bench is running in this checkout", file=sys.stderr)
            return 2
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the hosts go even then
        load = os.getloadavg()[0]
        measured: list[Row] = []
        broken = False
        try:
            for host in hosts:
                host.destroy()
            for row in rows:
                measured.append(row)
        except (AssertionError, BenchError) as error:
            say(str(error))
            broken = True
        finally:
            for host in hosts:
                host.destroy()
        status = report(measured, load, name, quick=quick)
    return 2 if broken else status
