# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the suite consists of: its steps, in order, and what each needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
# Every process of a step has this in its environment: `<checkout>:<step>`. The mark finds all processes of a step, also
# those that left its group or that a killed suite left behind.
MARK = "DAGSTER_SUITE_STEP"
# What `make test-full` does more of.
FULL = {
    # The lease's real timings take three times as long as those that are only long enough to tell.
    "GUARD_TIMINGS": "default",
    "GUARD_ROUNDS": "20",
    "CLUSTER_TIMINGS": "default",
    "CLUSTER_ROUNDS": "20",
    "CLUSTER_QUIET": "600",
    "CLUSTER_AWAY": "60",
    "LIBRARY_COMBINATIONS": "all",
    "LOAD_LAUNCHES": "500",
    "LOAD_ROUNDS": "10",
}


@dataclasses.dataclass(frozen=True)
class Step:
    """One command of the suite.

    limit: seconds after which it is ended.
    needs: steps that have to pass first.
    alone: nothing runs beside it, because its verdict depends on time.
    filler: it may run beside as many others as there is room for, at low priority, and takes what time they leave.
    rig: the set of rig hosts that it uses; their CPU time is counted for it.
    """

    name: str
    argv: Sequence[str]
    limit: int
    needs: Sequence[str] = ()
    alone: bool = False
    filler: bool = False
    rig: str = ""
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)


def scenario(name: str, *, full: bool, alone: bool = False) -> list[Step]:
    """A molecule scenario in its own sequence, in parts: all before its tests; the tests; those that run alone."""
    files = (".config/molecule/config.yml", f"molecule/{name}/molecule.yml")
    settings = [yaml.safe_load((ROOT / file).read_text(encoding="utf-8")) for file in files]
    sequence = [found for one in settings if (found := one["scenario"].get("test_sequence"))][-1]
    verify = sequence.index("verify")
    before, after = sequence[:verify], sequence[verify + 1 :]
    if not full and name != "default":  # a check of bare hosts: one scenario is enough, unit tests play the others
        before = [verb for verb in before if verb != "check"]

    def part(step: str, limit: int, script: str, *needs: str, **more: Any) -> Step:
        return Step(f"{name}-{step}", ("bash", "-c", script), limit, needs, rig=name, **more)

    def molecule(verbs: Sequence[str]) -> str:
        return " && ".join(f"molecule {verb} -s {name}" for verb in verbs)

    # The hosts go with the last part, whether its tests pass or not, and with a deployment that fails.
    gone = molecule(after)
    last = f"{molecule(['verify'])}; result=$?; {gone} || result=1; exit $result"
    short = "alone or not alone" if full else "not long"
    deploy = part("deploy", 2400, f"{molecule(before)} || {{ {gone}; exit 1; }}", "images", "venvs")
    if not alone:
        return [deploy, part("tests", 5400, last, deploy.name, env={"RIG_TESTS": short})]
    return [
        deploy,
        part("tests", 5400, molecule(["verify"]), deploy.name, env={"RIG_TESTS": f"not alone and ({short})"}),
        part("alone", 1800, last, deploy.name, alone=True, env={"RIG_TESTS": f"alone and ({short})"}),
    ]


def beside(*commands: str) -> tuple[str, ...]:
    """These beside each other: tests that wait most of the time. Fails if one of them does."""
    lines = [f"{command} & parts+=($!)" for command in commands]
    return (
        "bash",
        "-c",
        "\n".join([*lines, "for part in ${parts[@]}; do wait $part || result=1; done; exit ${result:-0}"]),
    )


def plants(name: str) -> Step:
    """The plants of a scenario, on its hosts."""
    script = f"tests/plants/run --host {name}; result=$?; molecule destroy -s {name} || result=1; exit $result"
    return Step(f"plants-{name}", ("bash", "-c", script), 10800, ["images", "venvs"], alone=True, rig=name)


# Tests of single parts against real servers, by their folder in tests/integration: limit and needs.
INTEGRATION = {
    "containers": (1500, ("images",)),
    "libraries": (600, ("venvs",)),
    "steps": (900, ("venvs",)),
    "compute_logs": (2400, ("packages", "venvs")),
    "guard": (1800, ("packages", "venvs")),  # of the database: lease, fence, logins and the ways to it
    "mariadb": (1200, ("packages", "venvs")),
    "firewall": (600, ("packages",)),
    "kubernetes": (1500, ("packages", "venvs")),
}


def integration(*, full: bool) -> list[Step]:
    """The steps of these tests, and at the end those of the guard whose verdict depends on time."""
    short = "" if full else " and not long"
    # The short suite has MariaDB on a host alone (scenario neighbours), until there is time for it here.
    databases = ("postgres", "mariadb") if full else ("postgres",)

    def step(name: str, limit: int, needs: Sequence[str]) -> Step:
        but = ("-k", "not mariadb") if name == "guard" and not full else ()
        argv = ("pytest", "-q", "-m", f"not alone{short}", *but, f"tests/integration/{name}")
        # What they only wait for takes its time beside the others; what is measured in time is in guard-alone.
        return Step(name, argv, limit, needs, filler=True, env={"PATIENCE": "4"})

    steps = [step(name, *how) for name, how in INTEGRATION.items() if full or name != "mariadb"]
    # A lease is lost by waiting, on each of both databases. So there is room for two halves of each.
    alone = f"pytest -q -m 'alone{short}' tests/integration/guard"
    halves = beside(*(f"{alone} -k {name} --part {part}/2" for name in databases for part in (1, 2)))
    return [*steps, Step("guard-alone", halves, 1200, ["packages", "venvs"], alone=True)]


def suite(*, full: bool) -> list[Step]:
    """In the order in which they start where nothing else decides.

    What others wait for comes first, then the longest scenarios. Hosts take CPU time as long as they are up. So those
    that stay for tests that run alone, six of them the cluster's, come so late that they do not wait long.
    """
    pytest, rig, bench = ("pytest", "-q"), "tests/rig/rig", "tests/bench/run"
    tests = pytest if full else (*pytest, "-m", "not long")
    shipped = () if full else ("plugins/", "roles/")  # what Galaxy gets; lint reads everything else
    # Plants, and by which steps their tests have passed. Those with a server take a third of the time of all, and one
    # of eight of the others shows that tests of each kind go red.
    scope, seen = ["--no-host"], ["unit", "guard", "mariadb", "firewall"]
    if not full:
        scope, seen = ["--no-server", "--one-of", "8"], ["unit"]
    steps = [
        Step("packages", (rig, "packages"), 600),
        Step("images", (rig, "images"), 900, ["packages"]),
        Step("venvs", (rig, "venvs"), 600),
        Step("lint", ("tools/lint.sh",), 400, ["packages"]),
        Step("unit", (*tests, "tests/unit"), 1500, ["packages", "venvs"]),
        Step("oldest", (".cache/oldest/bin/pytest", "-q", "tests/unit/test_rendered.py"), 600, ["venvs"], filler=True),
        *scenario("alternative", full=full),
        *scenario("default", full=full, alone=full),
        *scenario("upgrade", full=full),
        *scenario("cluster", full=full, alone=True),
        *scenario("runner", full=full),
        *scenario("neighbours", full=full),
        Step("sanity", ("tools/sanity.sh", *shipped), 1200, ["packages"], filler=True),
        Step("importer", ("tools/importer.sh",), 600, filler=True),
        *integration(full=full),
        Step("plants", ("tests/plants/run", *scope, "--tests-passed"), 2700, seen, filler=True),
    ]
    if not full:
        return [*steps, Step("validator", ("tests/validator/run",), 900, ["venvs"], filler=True)]
    # Requests that fail, and a daemon that is away, are measured in time.
    long = [dataclasses.replace(step, alone=True) for step in scenario("upgrade_cluster", full=True)]
    slow = [dataclasses.replace(step, limit=4 * step.limit, env={**FULL, **step.env}) for step in [*steps, *long]]
    return [
        *slow,
        Step("oracle", (rig, "oracle"), 1200, ["venvs"]),
        Step("validator", ("tests/validator/run", "--full"), 3600, ["oracle"]),
        *(plants(name) for name in ("default", "neighbours", "alternative", "cluster")),
        Step("bench", (bench,), 5400, ["images"], alone=True),
        Step("bench-cluster", (bench, "cluster"), 5400, ["images"], alone=True),
    ]


def chosen(steps: Sequence[Step], names: Sequence[str]) -> list[Step]:
    """The steps with these names and all that they need; every step without names."""
    known = {step.name: step for step in steps}
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"no step {', '.join(unknown)}; there are {', '.join(known)}")
    wanted: set[str] = set()

    def want(name: str) -> None:
        wanted.add(name)
        for need in known[name].needs:
            want(need)

    for name in names or known:
        want(name)
    return [step for step in steps if step.name in wanted]
