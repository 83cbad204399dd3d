"""The run coordinator by its effect: limits over the whole time of real runs, order, pools, retries, runs that take too
long, and the queue while a play changes a limit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from deployment import Dagster, Play, until

# Each of these needs many runs.
pytestmark = pytest.mark.long

LIMITS: dict[str, Any] = {
    "concurrency": {
        "runs": {
            "max_concurrent_runs": 3,
            "tag_concurrency_limits": [
                {"key": "warehouse", "value": "eu", "limit": 1},
                {"key": "team", "limit": 2},  # all teams together
                {"key": "customer", "value": {"applyLimitPerUniqueValue": True}, "limit": 1},
            ],
        },
        "pools": {"granularity": "op", "default_limit": 1},
    },
    "run_queue": {"dequeue_interval_seconds": 1, "dequeue_use_threads": True, "dequeue_num_workers": 2},
    "run_monitoring": {"enabled": True, "poll_interval_seconds": 5},
    "run_retries": {"enabled": True},
}
# What a run is and how many there are of it: three kinds with a limit each, and more than one kind may start at once.
KINDS = [("warehouse", "eu", 2), ("team", "a", 2), ("team", "b", 1), ("customer", "x", 2), ("customer", "y", 1)]


@dataclass(frozen=True)
class Ran:
    """A run that has ended, or an op of it. Times in seconds since 1970."""

    id: str
    tags: dict[str, str]
    status: str
    start: float
    end: float


def changed(runs: dict[str, Any] | None = None, **more: Any) -> tuple[str, str]:
    """The limits, some of which are others, as arguments of a play."""
    concurrency = {**LIMITS["concurrency"], **more}
    concurrency["runs"] = {**concurrency["runs"], **(runs or {})}
    return "-e", json.dumps({"dagster_config": {**LIMITS, "concurrency": concurrency}})


@pytest.fixture(scope="module")
def limited(play: Callable[..., Play]) -> Iterator[Callable[..., Play]]:
    """The deployment with these limits; afterwards as the inventory has it."""
    play("site.yml", *changed())
    yield play
    play("site.yml")


def sleeps(dagster: Dagster, seconds: float, job: str = "sleep_job", op: str = "sleep_seconds", **tags: str) -> str:
    named = {key.replace("__", "/"): value for key, value in tags.items()}
    return dagster.launch(job, config={"ops": {op: {"config": {"seconds": seconds}}}}, tags=named)


def of_all_kinds(dagster: Dagster) -> list[str]:
    return [sleeps(dagster, 6, **{key: value}) for key, value, count in KINDS for _run in range(count)]


def ended(dagster: Dagster, run_ids: list[str], seconds: float = 240) -> list[Ran]:
    """These runs, in the order of their starts, once none of them goes on."""
    query = (
        "query($filter: RunsFilter) { runsOrError(filter: $filter) { ... on Runs { results"
        " { runId status startTime endTime tags { key value } } } } }"
    )

    def all_ended() -> list[Ran]:
        found = dagster.query(query, filter={"runIds": run_ids})["runsOrError"]["results"]
        assert len(found) == len(run_ids)
        assert all(run["status"] in ("SUCCESS", "FAILURE", "CANCELED") for run in found)
        runs = [
            Ran(
                run["runId"],
                {tag["key"]: tag["value"] for tag in run["tags"]},
                run["status"],
                run["startTime"] or run["endTime"],
                run["endTime"],
            )
            for run in found
        ]
        return sorted(runs, key=lambda run: run.start)

    runs: list[Ran] = until(all_ended, seconds, "all runs have ended", every=1)
    return runs


def ops(dagster: Dagster, run_ids: list[str]) -> list[Ran]:
    """The ops of runs that have ended."""
    query = "query($id: ID!) { runOrError(runId: $id) { ... on Run { stepStats { startTime endTime } } } }"
    return [
        Ran(run_id, {}, "", step["startTime"], step["endTime"])
        for run_id in run_ids
        for step in dagster.query(query, id=run_id)["runOrError"]["stepStats"]
    ]


def most(runs: list[Ran], *tag: str) -> int:
    """How many of these, or of those with a tag (key, or key and value), went on at once at most."""
    counted = [run for run in runs if not tag or (tag[0] in run.tags and (len(tag) == 1 or run.tags[tag[0]] == tag[1]))]
    assert counted, f"no run has {tag}: the test would prove nothing"
    # An end comes before a start of the same moment.
    steps = sorted([(run.start, 1) for run in counted] + [(run.end, -1) for run in counted])
    now, highest = 0, 0
    for _time, step in steps:
        now += step
        highest = max(highest, now)
    return highest


def at_once(runs: list[Ran]) -> dict[str, int]:
    return {
        "all": most(runs),
        "eu": most(runs, "warehouse", "eu"),
        "teams": most(runs, "team"),
        "x": most(runs, "customer", "x"),
        "customers": most(runs, "customer"),
    }


def test_control_without_limits_they_run_at_once(dagster: Dagster) -> None:
    runs = ended(dagster, of_all_kinds(dagster))
    assert {run.status for run in runs} == {"SUCCESS"}
    found = at_once(runs)
    assert found["all"] > 3, found
    assert found["teams"] == 3, found
    assert found["eu"] == found["x"] == 2, found


@pytest.mark.usefixtures("limited")
def test_limits_hold_over_the_whole_time(dagster: Dagster) -> None:
    """They are reached as well: nobody waits without a reason."""
    runs = ended(dagster, of_all_kinds(dagster))
    assert {run.status for run in runs} == {"SUCCESS"}, "each of them has ended"
    assert at_once(runs) == {"all": 3, "eu": 1, "teams": 2, "x": 1, "customers": 2}


@pytest.mark.usefixtures("limited")
def test_priority_decides_who_is_next(dagster: Dagster) -> None:
    first = sleeps(dagster, 15, warehouse="eu")
    until(lambda: dagster.status(first) == "STARTED", 180, "one holds the only place")
    later = {priority: sleeps(dagster, 1, warehouse="eu", dagster__priority=priority) for priority in ("-1", "0", "5")}
    runs = ended(dagster, [first, *later.values()])
    assert [run.id for run in runs] == [first, later["5"], later["0"], later["-1"]]


@pytest.mark.parametrize("granularity", ["op", "run"])
def test_pool(limited: Callable[..., Play], dagster: Dagster, granularity: str) -> None:
    """Runs beside each other whose ops wait for each other; with `run`, runs that do."""
    # Without the buffer, the coordinator would not start a run whose first op has to wait.
    buffer = {"op_granularity_run_buffer": 1} if granularity == "op" else {}
    limited("site.yml", *changed(pools={"granularity": granularity, "default_limit": 1, **buffer}))
    # A pool is known once an op has used it.
    ended(dagster, [sleeps(dagster, 1, "warehouse_job", "load_warehouse")])
    run_ids = [sleeps(dagster, 8, "warehouse_job", "load_warehouse") for _run in range(2)]
    runs = ended(dagster, run_ids)
    assert {run.status for run in runs} == {"SUCCESS"}
    assert most(ops(dagster, run_ids)) == 1
    assert most(runs) == (2 if granularity == "op" else 1)


def test_queue_outlives_a_change_of_its_limits(limited: Callable[..., Play], dagster: Dagster, host: Any) -> None:
    limited("site.yml", *changed())
    run_ids = [sleeps(dagster, 45, warehouse="eu") for _run in range(4)]
    until(lambda: [dagster.status(one) for one in run_ids].count("STARTED") == 1, 60, "one runs")
    assert [dagster.status(one) for one in run_ids].count("QUEUED") == 3, "the control: the others wait"
    two = {"tag_concurrency_limits": [{"key": "warehouse", "value": "eu", "limit": 2}]}
    assert limited("site.yml", *changed(two)).changed > 0
    runs = ended(dagster, run_ids, 300)
    assert {run.status for run in runs} == {"SUCCESS"}
    assert most(runs) == 2
    containers = [host.check_output("docker ps -aq --filter label=dagster/run_id=%s", one).split() for one in run_ids]
    assert [len(found) for found in containers] == [1] * len(run_ids), "the daemon after it has launched none again"


@pytest.mark.usefixtures("limited")
def test_failed_run_is_tried_again_as_often_as_it_may(dagster: Dagster) -> None:
    once, never = dagster.launch("failing_job", tags={"dagster/max_retries": "1"}), dagster.launch("failing_job")
    query = "query($filter: RunsFilter) { runsOrError(filter: $filter) { ... on Runs { results { runId status } } } }"

    def retries(run_id: str) -> list[str]:
        tags = [{"key": "dagster/root_run_id", "value": run_id}]
        return [run["status"] for run in dagster.query(query, filter={"tags": tags})["runsOrError"]["results"]]

    until(lambda: retries(once) == ["FAILURE"], 120, "it was tried again, and has failed again")
    assert ended(dagster, [once, never])[0].status == "FAILURE"
    assert (retries(once), retries(never)) == (["FAILURE"], []), "and neither once more"


@pytest.mark.usefixtures("limited")
def test_run_that_takes_too_long_is_ended(dagster: Dagster, host: Any) -> None:
    short, control = sleeps(dagster, 300, dagster__max_runtime="5"), sleeps(dagster, 20, dagster__max_runtime="120")
    runs = {run.id: run for run in ended(dagster, [short, control], 120)}
    assert (runs[short].status, runs[control].status) == ("FAILURE", "SUCCESS")
    goes_on = "docker ps -q --filter label=dagster/run_id=%s"
    until(lambda: host.check_output(goes_on, short) == "", 60, "its container has ended")


def test_old_ticks_are_purged_and_new_ones_stay(host: Any) -> None:
    """As if those so far were a year old; the daemon purges at the next tick of the sensor."""
    ask = "cd / && runuser -u postgres -- psql -X -At -d dagster -c %s"
    ticks = "FROM job_ticks WHERE type = 'SENSOR' AND status = 'SKIPPED' AND timestamp {} now() - interval '300 days'"
    until(lambda: int(host.check_output(ask, f"SELECT count(*) {ticks.format('>')}")) > 0, 90, "there is a tick")
    older = (
        "UPDATE job_ticks SET timestamp = timestamp - interval '1 year' WHERE type = 'SENSOR' AND status = 'SKIPPED'"
    )
    host.check_output(ask, older)
    assert int(host.check_output(ask, f"SELECT count(*) {ticks.format('<')}")) > 0, "the control"
    until(lambda: host.check_output(ask, f"SELECT count(*) {ticks.format('<')}") == "0", 120, "the old ones have gone")
    until(lambda: int(host.check_output(ask, f"SELECT count(*) {ticks.format('>')}")) > 0, 90, "new ones are there")
