"""Applies each plant (a small breakage, tests/plants/KIND/NAME.patch) to a copy of this checkout and runs its test.

A plant is red when its test is green without it and fails with it. Whatever else happens is not red, and is named: a
patch that does not apply any more, a test that is red by itself, that hangs, or that is not there.

    run                           every plant
    run --no-host                 those that need no host
    run --no-server               those that need no server either: no test of tests/integration
    run --no-server --tests-passed  the same after their tests have passed in this checkout, as in the suite
    run --no-server --one-of 8    an eighth of them, the same ones each time, and three of each kind at least
    run --host default            those of a molecule scenario, which is converged if its hosts do not answer
    run --host default --rig dev  the same on hosts of the rig that are deployed already
    run edge sandbox/system       kinds and single plants
    run --list                    what there is
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import gc
import os
import shutil
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plant import COPIES, ROOT, BadPlant, Copy, Plant, every
from pytest_run import Pytest, Result, control_problem, tests_of, verdict
from scenario import Scenario

LIMIT = {False: 120, True: 300}  # seconds for a test, without host and with
CONVERGE_LIMIT = 3600
LEAST = 3  # plants of each kind in a sample
# What is played once before plants of roles.
PLAYED = "tests/unit/test_rendered.py::test_rendered[single_host-dagster1]"
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


@dataclass
class Report:
    """Prints a line for each plant, and the sums at the end."""

    red: Counter[str] = field(default_factory=Counter)
    all: Counter[str] = field(default_factory=Counter)
    cpu: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def add(self, plant: Plant, seconds: float, problem: str, cpu: float = 0.0) -> None:
        """One plant is done: after so many seconds, of which its test has used cpu."""
        self.cpu += cpu
        self.all[plant.kind] += 1
        self.red[plant.kind] += not problem
        line = f"{plant.name:38} {seconds:6.1f} s {cpu:6.1f} CPU s  "
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


def without_host(plants: list[Plant], report: Report, passed: bool) -> None:
    """One after the other in a copy.

    passed: their tests have just passed without them, so this needs no proof.
    """
    for name in PRELOADED:
        __import__(name)
    copy = Copy(1)
    tests = sorted({plant.test for plant in plants})
    bad = dict.fromkeys(tests, "") if passed else controls(tests, copy, LIMIT[False], report)

    def judge(plant: Plant) -> None:
        with copy.planted(plant) as does_not_apply:
            problem, result = does_not_apply or bad[plant.test], Result()
            if not problem:
                result = Pytest([plant.test], copy.folder, plant.limit or LIMIT[False], first=True).wait()
                problem = verdict(plant, result)
        report.add(plant, result.seconds, problem, result.cpu)

    of_roles = [plant for plant in plants if not plant.python]
    for plant in plants:
        if plant.python:
            judge(plant)
    # After them, because from here on this process knows the Python of the copy, and has used it.
    if of_roles:
        play_once(copy, report)
    for plant in of_roles:
        judge(plant)


def play_once(copy: Copy, report: Report) -> None:
    """Has most of what a test of roles needs in this process: modules, and the code of templates by their text.

    Half of the time of such a test goes into these. The control: the test passes here.
    """
    started = time.process_time()
    log = copy.folder.parent / "played.log"
    back = Path.cwd()
    os.chdir(copy.folder)
    with log.open("w") as stream, contextlib.redirect_stdout(stream):
        status = tests_of(copy.folder, [PLAYED])
    os.chdir(back)
    if status:
        sys.exit(f"plants: {PLAYED} fails without any plant, {log}")
    for one in gc.get_objects():  # whatever was read from a file of the copy
        if isinstance(one, functools._lru_cache_wrapper):
            one.cache_clear()
    report.cpu += time.process_time() - started


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
    options = {"environment": scenario.environment(copy.folder)}
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
    result = Pytest([plant.test], copy.folder, plant.limit or LIMIT[True], first=True, **options).wait()
    report.cpu += result.cpu
    return verdict(plant, result)


def chosen(plants: list[Plant], names: list[str], no_host: bool, no_server: bool, host: str) -> list[Plant]:
    """Those that were asked for."""
    for name in names:
        if not any(name in (plant.name, plant.kind) for plant in plants):
            sys.exit(f"plants: there is no plant or kind {name}; run --list shows them")
    found = [plant for plant in plants if not names or plant.name in names or plant.kind in names]
    if no_host or no_server:
        found = [plant for plant in found if not plant.host and not (no_server and plant.server)]
    return [plant for plant in found if not host or plant.host == host]


def sample(plants: list[Plant], one_of: int) -> list[Plant]:
    """One of so many, the same ones each time, and LEAST of each kind at least."""
    found: list[Plant] = []
    for kind in sorted({plant.kind for plant in plants}):
        those = [plant for plant in plants if plant.kind == kind]
        found += those[:: max(1, min(one_of, len(those) // LEAST))]
    return found


def main(arguments: list[str]) -> int:
    """Run what was asked for; 0 when all of it was red."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="kinds, or KIND/NAME")
    parser.add_argument("--no-host", action="store_true", help="only plants that need no host")
    parser.add_argument("--no-server", action="store_true", help="only plants that need neither host nor server")
    parser.add_argument("--one-of", type=int, default=1, metavar="N", help="one of N plants of each kind")
    parser.add_argument(
        "--tests-passed", action="store_true", help="of plants without host: do not run each test without its plant"
    )
    parser.add_argument("--host", default="", help="only plants of this molecule scenario")
    parser.add_argument("--rig", default="", help="with --host: run on the deployed hosts of this rig instead")
    parser.add_argument("--list", action="store_true", help="show the plants, run none")
    options = parser.parse_args(arguments)
    if options.rig and not options.host:
        parser.error("--rig needs --host")
    try:
        found = chosen(every(), options.names, options.no_host, options.no_server, options.host)
    except BadPlant as error:
        sys.exit(f"plants: {error}")
    plants = sample(found, options.one_of)
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
            without_host(alone, report, options.tests_passed)
        for host in sorted({plant.host for plant in plants} - {""}):
            scenario = Scenario(host, options.rig or host)
            with_hosts(scenario, [plant for plant in plants if plant.host == host], report)
        return report.end()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
