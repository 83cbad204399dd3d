"""Measures how fast a deployment is, on throw-away hosts of the rig. Started by tests/bench/run; see README.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import modules
import queued
import whole
from measure import SITE, Cost, Host, Json, Row, adopt_orphans, conduct, say


@dataclass
class Setting:
    """The hosts, how often is measured, and what is known so far."""

    bench: Host
    reference: Host
    rounds: int
    deployments: int
    idle_seconds: int
    more: int  # code locations
    queued_runs: int
    deployed: bool
    unchanged: list[Cost] = field(default_factory=list)  # what a run with nothing to do cost
    facts: Json = field(default_factory=dict)

    def deploy(self) -> None:
        """Has a deployed bench host."""
        if not self.deployed:
            self.bench.create()
            say("deploying")
            self.bench.play(SITE)
            self.deployed = True


def first_run(setting: Setting) -> Iterator[Row]:
    yield from whole.bare_to_first_run(setting.bench, setting.reference, setting.deployments)
    setting.deployed = True


def second_run(setting: Setting) -> Iterator[Row]:
    setting.deploy()
    if setting.facts:  # rows of modules leave files that are younger than the services which read them
        setting.bench.play(SITE)
    rows, setting.unchanged = whole.nothing_to_do(setting.bench, setting.rounds, setting.idle_seconds)
    yield from rows


def pool_recycle(setting: Setting) -> Iterator[Row]:
    setting.deploy()
    yield from whole.pool_recycle(setting.bench, setting.rounds)


def locations(setting: Setting) -> Iterator[Row]:
    if not setting.unchanged:
        yield from second_run(setting)
    yield from whole.more_locations(
        setting.bench, setting.unchanged, setting.more, setting.rounds, setting.idle_seconds
    )


def popular(setting: Setting) -> Iterator[Row]:
    if not setting.unchanged:
        yield from second_run(setting)
    setting.bench.destroy()
    setting.deployed = False
    yield whole.popular_roles(setting.reference, setting.unchanged, setting.rounds)


def queue(setting: Setting) -> Iterator[Row]:
    setting.deploy()
    yield from queued.queued_runs(setting.bench, setting.queued_runs)


def module(comparison: modules.Comparison, setting: Setting) -> Iterator[Row]:
    setting.deploy()
    setting.facts = setting.facts or modules.read_facts(setting.bench)
    yield from modules.compare(setting.bench, comparison, setting.facts, setting.rounds)


# What --rows names, in the order of measuring: more locations change the host, popular roles need the other one.
ROWS: dict[str, Callable[[Setting], Iterator[Row]]] = {
    "first_run": first_run,
    "second_run": second_run,
    "db_pool_recycle": pool_recycle,
    "queue": queue,
    **{comparison.name: partial(module, comparison) for comparison in modules.COMPARISONS},
    "locations": locations,
    "popular_roles": popular,
}
QUICK = ("second_run", "locations")


def chosen(names: str) -> list[str]:
    """The rows of a list with commas, in our order."""
    wanted = {name.strip() for name in names.split(",")}
    if unknown := wanted - ROWS.keys():
        raise argparse.ArgumentTypeError(f"no row {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    return [name for name in ROWS if name in wanted]


def measure_all(rows: list[str], setting: Setting) -> Iterator[Row]:
    """The rows as they come, so that what was measured is kept when something breaks later."""
    for name in rows:
        yield from ROWS[name](setting)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=chosen, metavar="NAME,...", help=f"only these: {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="the rows that a busy machine cannot spoil, few rounds")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of what takes seconds (7; quick: 3)")
    parser.add_argument("--deployments", type=int, default=3, help="rounds from a bare host to the first run (3)")
    parser.add_argument("--queued-runs", type=int, default=200, help="runs of row queue (200)")
    parser.add_argument("--host", default="bench", help="rig name of the host that is deployed (bench)")
    parser.add_argument(
        "--keep", action="store_true", help="leave that host for the next call with --keep, and use it if it is there"
    )
    options = parser.parse_args()

    adopt_orphans()
    hosts = Host(options.host), Host("reference")
    quick = options.quick
    setting = Setting(
        *hosts,
        rounds=options.rounds or (3 if quick else 7),
        deployments=options.deployments,
        idle_seconds=30 if quick else 60,
        more=5 if quick else 10,
        queued_runs=options.queued_runs,
        deployed=options.keep and hosts[0].serves(),
    )
    rows = options.rows or (list(QUICK) if quick else list(ROWS))
    return conduct(measure_all(rows, setting), [] if options.keep else hosts, quick=quick)


if __name__ == "__main__":
    sys.exit(main())
