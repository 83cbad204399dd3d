"""The row about many queued runs: whether the daemon keeps to their order and the limits, and what each costs it."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from measure import SITE, BenchError, Cost, Host, Json, Row, run, say

TEAMS = ("red", "green", "blue", "grey")
EACH, TOGETHER = 2, 6  # runs at a time of a team, and of all: with four teams both limits are in the way
LIMITS: Json = {
    "run_coordinator": {
        "module": "dagster",
        "class": "QueuedRunCoordinator",
        "config": {
            "max_concurrent_runs": TOGETHER,
            "tag_concurrency_limits": [
                {"key": "bench/team", "value": {"applyLimitPerUniqueValue": True}, "limit": EACH},
            ],
        },
    }
}
ASK = r"""
import json, sys, time, urllib.request

def ask(query, **variables):
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request("http://127.0.0.1:3000/graphql", body, {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=60))["data"]

LAUNCH = '''mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } } }'''
READ = '''query ($ids: [String!]!) { runsOrError(filter: {runIds: $ids}) { ... on Runs { results {
  runId status stats { ... on RunStatsSnapshot { launchTime endTime } } } } } }'''
job = {"jobName": "dagster_canary", "repositoryName": "__repository__", "repositoryLocationName": "pipeline"}
ids, teams = [], sys.argv[2:]
for number in range(int(sys.argv[1])):
    tags = [{"key": "bench/team", "value": teams[number % len(teams)]}]
    execution = {"selector": job, "runConfigData": {}, "mode": "default", "executionMetadata": {"tags": tags}}
    answer = ask(LAUNCH, params=execution)
    ids.append(answer["launchRun"]["run"]["runId"])
found, left, end = {}, list(ids), time.monotonic() + 30 * len(ids)
while left and time.monotonic() < end:
    time.sleep(3)
    for run in ask(READ, ids=left[:50])["runsOrError"]["results"]:
        if run["status"] in ("SUCCESS", "FAILURE", "CANCELED"):
            found[run["runId"]] = [run["status"], run["stats"]["launchTime"], run["stats"]["endTime"]]
            left.remove(run["runId"])
print(json.dumps([[teams[number % len(teams)], *found.get(one, ["LEFT", 0, 0])] for number, one in enumerate(ids)]))
"""


@dataclass(frozen=True)
class Run:
    """One of the runs, in the order in which they were queued."""

    team: str
    status: str
    launched: float
    ended: float


def out_of_order(runs: Iterable[Run]) -> int:
    """How many were launched before one of the same team that had been queued before them."""
    found = 0
    latest: dict[str, float] = {}
    for one in runs:
        found += one.launched < latest.get(one.team, 0)
        latest[one.team] = max(one.launched, latest.get(one.team, 0))
    return found


def most_together(runs: Iterable[Run]) -> int:
    """How many were at work at a time, from their launch to their end."""
    changes = sorted(itertools.chain.from_iterable(((one.launched, 1), (one.ended, -1)) for one in runs))
    return max(itertools.accumulate(change for _when, change in changes))


def above_the_limits(runs: list[Run]) -> int:
    """By how many runs the limits were exceeded."""
    teams = [most_together(one for one in runs if one.team == team) - EACH for team in {one.team for one in runs}]
    return sum(max(0, over) for over in [*teams, most_together(runs) - TOGETHER])


def queued_runs(bench: Host, number: int) -> Iterator[Row]:
    """Leaves the host as it was deployed."""
    say(f"{number} queued runs with limits")
    bench.play(SITE, {"dagster_config": LIMITS})

    unit = "dagster-daemon.service"
    time.sleep(30)  # until the daemon has read the sensors and schedules for the first time
    idle = bench.idle_of(unit, 60)
    before, since = bench.unit_cpu(unit), time.monotonic()
    argv = ["docker", "exec", "-i", bench.container, "python3", "-", str(number), *TEAMS]
    runs = [Run(*one) for one in json.loads(run(argv, data=ASK, seconds=60 * number))]
    wall = time.monotonic() - since
    cpu = bench.unit_cpu(unit) - before - idle * wall
    if others := [one.status for one in runs if one.status != "SUCCESS"]:
        raise BenchError(f"{len(others)} of {number} queued runs did not succeed: {', '.join(sorted(set(others)))}")
    limits = f"{EACH} at a time of each of {len(TEAMS)} teams, {TOGETHER} of all"
    note = f"{limits}; CPU of the daemon, {idle:.3f} s a second idle taken off"
    yield Row(f"{number} queued runs, each", Cost(wall / number, cpu / number), note=note)
    yield Row("  launched out of order", by_wall=out_of_order(runs), bound=0, unit="runs")
    yield Row("  above a limit", by_wall=above_the_limits(runs), bound=0, unit="runs")
    bench.play(SITE)
