"""Applies each plant (a small breakage, tests/plants/KIND/NAME.patch) to a copy of this checkout and runs its test.

A plant is red when its test is green without it and fails with it. Whatever else happens is not red, and is named: a
patch that does not apply any more, a test that is red by itself, that hangs, or that is not there.

    run                           every plant
    run --no-host --jobs 2        those that need no host
    run --host default            those of a molecule scenario, which is converged if its hosts do not answer
    run --host default --rig dev  the same on hosts of the rig that are deployed already
    run edge sandbox/system       kinds and single plants
    run --list                    what there is
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PLANTS = ROOT / "tests" / "plants"
COPIES = (ROOT / ".cache").resolve() / "plants"
FIELDS = ("Promise", "Test", "Host", "Apply", "Limit")
LIMIT = {False: 120, True: 300}  # seconds for a test, without host and with
PLAY_LIMIT = 900
CONVERGE_LIMIT = 3600
# What nearly every unit test imports. Nothing of ours: that comes from the copy.
PRELOADED = (
    "ansible.inventory.manager",
    "ansible.module_utils.basic",
    "ansible.module_utils.common.arg_spec",
    "ansible.plugins.action",
    "ansible.plugins.loader",
    "ansible.template",
    "ansible.vars.hostvars",
    "ansible.vars.manager",
    "hypothesis",
    "pytest",
)


class BadPlant(ValueError):
    """A plant that says too little or something unknown."""


@dataclass(frozen=True)
class Plant:
    """One breakage: what it breaks, the test that must go red, and on which scenario's hosts."""

    name: str  # KIND/NAME
    path: Path
    promise: str
    test: str
    host: str = ""
    apply: str = "site.yml"  # a playbook, or none
    limit: int = 0

    @property
    def kind(self) -> str:
        """Its folder."""
        return self.name.split("/")[0]

    def files(self) -> list[str]:
        """The paths that it touches."""
        text = self.path.read_text(encoding="utf-8")
        return sorted(set(re.findall(r"^(?:---|\+\+\+) [ab]/(.+)$", text, re.M)))


def read(path: Path) -> Plant:
    """The plant of a file."""
    name = f"{path.parent.name}/{path.stem}"
    head = path.read_text(encoding="utf-8").partition("\ndiff --git ")[0]
    said: dict[str, str] = {}
    for line in head.splitlines():
        key, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon or key not in FIELDS or key in said or not value.strip():
            raise BadPlant(f"{name}: found the line {line!r}; expected each of {', '.join(FIELDS)} once at most")
        said[key] = value.strip()
    for key in ("Promise", "Test"):
        if key not in said:
            raise BadPlant(f"{name}: has no line {key}")
    return Plant(
        name,
        path,
        said["Promise"],
        said["Test"],
        said.get("Host", ""),
        said.get("Apply", "site.yml"),
        int(said.get("Limit", 0)),
    )


def every(folder: Path = PLANTS) -> list[Plant]:
    """All plants, by name."""
    return [read(path) for path in sorted(folder.glob("*/*.patch"))]


def git_environment(folder: Path) -> dict[str, str]:
    """With it git takes a folder for itself, not for a part of the checkout above it."""
    return {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.resolve().parent)}


def apply_problem(plant: Plant, folder: Path, check: bool = False) -> str:
    """Apply a plant, or only check that it applies; returns a sentence if it does not."""
    command = ["git", "apply", *(["--check"] if check else []), str(plant.path)]
    done = subprocess.run(
        command, cwd=folder, env=git_environment(folder), check=False, capture_output=True, text=True, timeout=60
    )
    return "" if done.returncode == 0 else f"does not apply any more: {done.stderr.strip().splitlines()[0]}"


class Copy:
    """A copy of the checkout in which one plant at a time is applied."""

    def __init__(self, number: int) -> None:
        self.folder = COPIES / str(number)
        self.folder.mkdir(parents=True, exist_ok=True)
        cache = self.folder / ".cache"
        if not cache.is_symlink():
            cache.symlink_to((ROOT / ".cache").resolve())
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout
        wanted = {name for name in listed.split("\0") if name and os.path.lexists(ROOT / name)} - {".cache"}
        for folder, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if name != "__pycache__" and not (Path(folder) / name).is_symlink()]
            for path in (Path(folder) / name for name in names):
                if str(path.relative_to(self.folder)) not in wanted:
                    path.unlink()
        for name in wanted:
            self._copy(ROOT / name, self.folder / name)

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        def state(path: Path) -> tuple[int, int, int]:
            found = path.lstat()
            return found.st_mtime_ns, found.st_size, found.st_mode

        if os.path.lexists(target):
            if state(source) == state(target):
                return
            target.unlink()
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)

    @contextlib.contextmanager
    def planted(self, plant: Plant) -> Iterator[str]:
        """Has the plant inside of it; gives a sentence if it does not apply."""
        paths = [self.folder / name for name in plant.files()]
        kept = {path: (path.read_bytes(), path.stat()) for path in paths if path.exists()}
        try:
            problem = apply_problem(plant, self.folder)
            for path in paths:
                if path.exists() and not problem:  # compiled files are told apart by their second
                    os.utime(path, (time.time() + 10, time.time() + 10))
            yield problem
        finally:
            for path in paths:
                path.unlink(missing_ok=True)
                if path in kept:
                    content, status = kept[path]
                    path.write_bytes(content)
                    path.chmod(status.st_mode)
                    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


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
    """Runs tests by their names, and reads what became of each."""

    def __init__(
        self,
        tests: list[str],
        folder: Path,
        limit: float,
        arguments: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        compiled: bool = False,
    ) -> None:
        record = folder.parent / f"{folder.name}.json"
        record.unlink(missing_ok=True)
        self.record = record

        def run() -> int:
            import pytest

            os.environ.update(environment or {}, ANSIBLE_CONFIG=str(folder / "ansible.cfg"))
            sys.dont_write_bytecode = not compiled
            sys.path[:] = [path for path in sys.path if path != str(PLANTS)]
            given = ["-q", "--tb=short", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
            # A cache folder is a setting of the plugin that is switched off.
            given += ["--override-ini", "addopts=-ra --import-mode=importlib", *arguments, *tests]
            return int(pytest.main(given, plugins=[Recorder(record)]))

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


@dataclass
class Report:
    """Prints a line for each plant, and the sums at the end."""

    red: Counter[str] = field(default_factory=Counter)
    all: Counter[str] = field(default_factory=Counter)
    cpu: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def add(self, plant: Plant, seconds: float, problem: str) -> None:
        """One plant is done."""
        self.all[plant.kind] += 1
        self.red[plant.kind] += not problem
        line = f"{plant.name:38} {seconds:6.1f} s  "
        print(
            f"red    {line}{plant.promise}" if not problem else f"GREEN  {line}{problem} ({plant.promise})", flush=True
        )

    def end(self) -> int:
        """The sums; 1 if a plant was not red."""
        kinds = ", ".join(f"{kind} {self.red[kind]}/{self.all[kind]}" for kind in sorted(self.all))
        seconds = time.monotonic() - self.started
        print(f"{self.red.total()} of {self.all.total()} red in {seconds:.0f} s, {self.cpu:.0f} CPU s ({kinds})")
        return int(self.red.total() != self.all.total())


def controls(tests: list[str], copy: Copy, limit: float, report: Report, **more: Any) -> dict[str, str]:
    """What is wrong with each test before a plant is there; all run in one call of pytest if they are found."""
    result = Pytest(tests, copy.folder, limit * (1 + len(tests) // 4), compiled=True, **more).wait()
    report.cpu += result.cpu
    if result.status in (0, 1) or len(tests) == 1:
        return {test: control_problem(test, result) for test in tests}
    found = {}
    for test in tests:  # one of them is not there, and pytest has run none
        found.update(controls([test], copy, limit, report, **more))
    return found


def without_host(plants: list[Plant], jobs: int, report: Report) -> None:
    """Several beside each other, each in a copy of its own."""
    for name in PRELOADED:
        __import__(name)
    copies = [Copy(number) for number in range(1, min(jobs, len(plants)) + 1)]
    tests = sorted({plant.test for plant in plants})
    bad = controls(tests, copies[0], LIMIT[False], report)
    waiting = list(plants)
    busy: dict[int, tuple[Plant, Pytest, contextlib.ExitStack]] = {}
    while waiting or busy:
        for number, copy in enumerate(copies):
            if number in busy:
                plant, process, planted = busy[number]
                if not process.poll():
                    continue
                planted.close()
                report.cpu += process.result.cpu
                report.add(plant, process.result.seconds, verdict(plant, process.result))
                del busy[number]
            if waiting:
                plant = waiting.pop(0)
                planted = contextlib.ExitStack()
                problem = planted.enter_context(copy.planted(plant)) or bad[plant.test]
                if problem:
                    planted.close()
                    report.add(plant, 0, problem)
                else:
                    limit = plant.limit or LIMIT[False]
                    busy[number] = (plant, Pytest([plant.test], copy.folder, limit), planted)
        time.sleep(0.02)


@dataclass(frozen=True)
class Scenario:
    """The hosts of a molecule scenario, or of another rig that is deployed like it."""

    name: str
    rig: str

    def read(self, root: Path) -> dict[str, Any]:
        """What molecule would do with this scenario in a checkout."""
        names = {
            "MOLECULE_PROJECT_DIRECTORY": str(root),
            "MOLECULE_SCENARIO_DIRECTORY": str(root / "molecule" / self.name),
            "MOLECULE_SCENARIO_NAME": self.rig,
        }

        def load(path: Path) -> dict[str, Any]:
            text = re.sub(r"\$\{(\w+)\}", lambda match: names[match[1]], path.read_text(encoding="utf-8"))
            found: dict[str, Any] = yaml.safe_load(text)
            return found

        def merged(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
            both = {key: merged(base[key], extra[key]) for key in base if isinstance(extra.get(key), dict)}
            return {**base, **extra, **both}

        return merged(load(root / ".config/molecule/config.yml"), load(root / "molecule" / self.name / "molecule.yml"))

    def inventories(self, root: Path) -> list[str]:
        """Arguments for ansible and ansible-playbook."""
        return list(map(str, self.read(root)["ansible"]["executor"]["args"]["ansible_playbook"]))

    def verifier(self, root: Path) -> tuple[str, ...]:
        """Arguments for pytest."""
        options = self.read(root)["verifier"]["options"]
        given = ["--sudo"] if options.get("sudo") else []
        hosts = ",".join(f"ansible://{host}" for host in str(options["hosts"]).split(","))
        return (*given, f"--hosts={hosts}", f"--ansible-inventory={options['ansible-inventory']}")

    def environment(self, root: Path) -> dict[str, str]:
        """Variables for all of them."""
        said = self.read(root)["ansible"]["env"]
        return {**{name: str(value) for name, value in said.items()}, "ANSIBLE_CONFIG": str(root / "ansible.cfg")}

    def command(self, root: Path, command: list[str], limit: float, log: Path) -> Result:
        """Run a program in a checkout."""

        def run() -> int:
            return subprocess.run(command, env={**os.environ, **self.environment(root)}, check=False).returncode

        return Process(run, root, log, limit).wait()

    def play(self, root: Path, playbook: str, log: Path) -> Result:
        """Run a playbook on the hosts."""
        command = ["ansible-playbook", *self.inventories(root), f"playbooks/{playbook}"]
        return self.command(root, command, PLAY_LIMIT, log)


def with_hosts(scenario: Scenario, plants: list[Plant], report: Report) -> None:
    """One after the other on the same hosts; at the end they are as they were."""
    for name in PRELOADED:
        __import__(name)
    log = COPIES / f"{scenario.name}.log"
    copy = Copy(0)
    ping = ["ansible", "all", *scenario.inventories(ROOT), "-m", "ansible.builtin.ping"]
    if scenario.command(ROOT, ping, 120, log).status != 0:
        problem = f"the hosts of rig {scenario.rig} do not answer, {log}"
        if scenario.rig == scenario.name:
            print(f"{scenario.name}: converging, as its hosts do not answer", flush=True)
            converged = scenario.command(ROOT, ["molecule", "converge", "-s", scenario.name], CONVERGE_LIMIT, log)
            problem = f"molecule converge -s {scenario.name} failed, {log}" if converged.status else ""
        if problem:
            for plant in plants:
                report.add(plant, 0, problem)
            return
    options = {"arguments": scenario.verifier(copy.folder), "environment": scenario.environment(copy.folder)}
    tests = sorted({plant.test for plant in plants})
    bad = controls(tests, copy, LIMIT[True], report, **options)
    # What is not deployed comes first, while the hosts have no plant.
    for plant in sorted(plants, key=lambda plant: plant.apply != "none"):
        started = time.monotonic()
        with copy.planted(plant) as does_not_apply:
            problem = does_not_apply or bad[plant.test] or on_hosts(plant, scenario, copy, log, report, options)
        report.add(plant, time.monotonic() - started, problem)
    if scenario.play(ROOT, "site.yml", log).status != 0:
        report.add(
            Plant("restored/" + scenario.name, log, "The hosts are as they were", ""), 0, f"site.yml failed, {log}"
        )


def on_hosts(plant: Plant, scenario: Scenario, copy: Copy, log: Path, report: Report, options: dict[str, Any]) -> str:
    """Deploy the plant and run its test; returns why it is not red."""
    if plant.apply != "none":
        played = scenario.play(copy.folder, plant.apply, log)
        if played.status != 0:
            kept = log.with_name(f"{plant.name.replace('/', '-')}.log")
            shutil.copy(log, kept)
            what = "hangs" if played.hung else "fails"
            return f"{plant.apply} {what} under it, so its test was not asked, {kept}"
    result = Pytest([plant.test], copy.folder, plant.limit or LIMIT[True], **options).wait()
    report.cpu += result.cpu
    return verdict(plant, result)


def chosen(plants: list[Plant], names: list[str], no_host: bool, host: str) -> list[Plant]:
    """Those that were asked for."""
    for name in names:
        if not any(name in (plant.name, plant.kind) for plant in plants):
            sys.exit(f"plants: there is no plant or kind {name}; run --list shows them")
    found = [plant for plant in plants if not names or plant.name in names or plant.kind in names]
    return [plant for plant in found if (not no_host or not plant.host) and (not host or plant.host == host)]


def main(arguments: list[str]) -> int:
    """Run what was asked for; 0 when all of it was red."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="kinds, or KIND/NAME")
    parser.add_argument("--no-host", action="store_true", help="only plants that need no host")
    parser.add_argument("--host", default="", help="only plants of this molecule scenario")
    parser.add_argument("--rig", default="", help="with --host: run on the deployed hosts of this rig instead")
    parser.add_argument("--jobs", type=int, default=1, help="plants without host beside each other (default 1)")
    parser.add_argument("--list", action="store_true", help="show the plants, run none")
    options = parser.parse_args(arguments)
    if options.rig and not options.host:
        parser.error("--rig needs --host")
    try:
        plants = chosen(every(), options.names, options.no_host, options.host)
    except BadPlant as error:
        sys.exit(f"plants: {error}")
    if options.list:
        for plant in plants:
            print(f"{plant.name:38} {plant.host or '-':12} {plant.promise}")
        return 0
    if not plants:
        sys.exit("plants: there is none to run")
    COPIES.mkdir(parents=True, exist_ok=True)
    for name, folder in (("ANSIBLE_HOME", "ansible"), ("ANSIBLE_LOCAL_TEMP", "ansible/tmp")):
        os.environ.setdefault(name, str(ROOT / ".cache" / folder))
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(ROOT / ".cache/hypothesis"))
    os.environ["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg")
    with (COPIES / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"plants: another run holds {COPIES / 'lock'}; wait for its end")
        report = Report()
        alone = [plant for plant in plants if not plant.host]
        if alone:
            without_host(alone, options.jobs, report)
        for host in sorted({plant.host for plant in plants} - {""}):
            scenario = Scenario(host, options.rig or host)
            with_hosts(scenario, [plant for plant in plants if plant.host == host], report)
        return report.end()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
