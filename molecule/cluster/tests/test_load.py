"""Restarts and faults of the webserver replicas while clients ask both edges.

No client tries anything twice (molecule/load.py), so that a failed request is one that a user would have seen.
LOAD_REQUESTS and LOAD_LAUNCHES say how many requests a rolling restart has to carry at least, LOAD_ROUNDS how often the
faults that take seconds are repeated.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from deployment import Dagster, machine, until
from figures import record
from frozen import FOR_ALL, OUT, START, WATCHDOG, FrozenReplica
from load import GETS, POSTS, Ask, Load, deviation
from processes import alive, one_process, send
from replicas import Edge, Replica, requests, returns

pytestmark = pytest.mark.alone

REQUESTS = int(os.environ.get("LOAD_REQUESTS", "5000"))
LAUNCHES = int(os.environ.get("LOAD_LAUNCHES", "100"))
ROUNDS = int(os.environ.get("LOAD_ROUNDS", "1"))
PAGES = 4
LONG = 600.0  # seconds that a load may take on a busy machine

BACK = 5.0  # seconds that an open page may be cut off
EQUAL = 10.0  # percent that a replica's part of the requests may be away from an equal one


@pytest.fixture(autouse=True)
def everything_serves(request: pytest.FixtureRequest, edges: list[Edge], replicas: list[Replica]) -> None:
    """No test starts with what the one before has left."""
    if "frozen_replica" not in request.fixturenames:
        returns(edges, replicas)


@contextlib.contextmanager
def under_load(urls: list[str], **more: Any) -> Iterator[Load]:
    """A load with all its pages open and each client at work."""
    with Load(urls, **more) as running:
        until(lambda: len(running.open) == running.pages, 30, "all pages are open", every=0.1)
        running.wait(2 * len(running.clients), LONG)
        assert not running.failures, running.summary()
        yield running


def rolling_restart(running: Load, replicas: list[Replica]) -> float:
    """One after the other, as role webserver does it; seconds that it took. Each is a phase of the load."""
    since = time.monotonic()
    for replica in replicas:
        running.phase = f"restart of {replica}"
        pid = replica.pid
        replica.systemctl("restart")
        assert replica.pid != pid
    took = time.monotonic() - since
    running.phase = "after"
    for replica in replicas:
        assert running.sent(f"restart of {replica}") > 0, f"no request while {replica} restarted: {running.summary()}"
    return took


# The client notices


def test_client_notices_that_nobody_answers(urls: list[str], edges: list[Edge], replicas: list[Replica]) -> None:
    """The control of all that follows: requests of both kinds fail and are counted, and pages are cut off."""
    dead = "no replica"
    with under_load(urls, pages=PAGES) as running:
        running.phase = "stop"
        try:
            for replica in replicas[:-1]:
                replica.systemctl("stop")
            running.phase = "stop of the last one"
            replicas[-1].systemctl("stop")
            running.phase = dead  # from here on nobody answers at all
            time.sleep(1)
            until(lambda: running.failed("GET", dead) and running.failed("POST", dead), 30, "both kinds fail")
        finally:
            running.phase = "start"
            for replica in replicas:
                replica.systemctl("start")
        returns(edges, replicas)
        until(lambda: len(running.open) == PAGES, 30, "all pages are back", every=0.1)
    assert not running.failed(phase="stop"), "as long as one is left it answers for both"
    assert len({outage.client for outage in running.outages}) == PAGES, running.summary()
    assert running.longest_outage > 1, running.summary()


# Restarts


def test_rolling_restart_fails_nothing(urls: list[str], edges: list[Edge], replicas: list[Replica]) -> None:
    with under_load(urls, pages=PAGES) as running:
        running.phase, before, quiet = "quiet", requests(edges), running.requests
        running.wait(quiet + 500, LONG)
        unequal = deviation(before, requests(edges))
        took = rolling_restart(running, replicas)
        running.wait(REQUESTS, LONG)
        until(lambda: len(running.open) == PAGES, 30, "all pages are back", every=0.1)
    name = "rolling restart of all replicas"
    record(f"{name}: failed requests", len(running.failures), bound=0, of=running.requests)
    record(f"{name}: longest time that an open page was cut off", running.longest_outage, "s", BACK)
    record(f"{name}: duration", took, "s")
    record("requests of a quiet time: distance of a replica's part from an equal one", unequal, "%", EQUAL)
    assert running.requests >= REQUESTS
    assert not running.failures, running.summary()
    # The control for the pages: each replica had some, and its restart did cut them off.
    assert running.outages, "no page noticed a restart"
    assert all(outage.back for outage in running.outages), running.summary()
    assert running.longest_outage <= BACK, running.summary()


def test_launches_during_a_rolling_restart(urls: list[str], dagster: Dagster, replicas: list[Replica]) -> None:
    """Each answer is a run and each run has an answer; the daemons are stopped meanwhile, so that all stay queued."""
    mark = f"load-{uuid.uuid4()}"
    clients, seconds = 4, 40.0  # about as long as two restarts take
    with daemons_stopped():
        try:
            asks = launches(mark, clients, 10 * LAUNCHES)
            pause = clients * seconds / LAUNCHES
            with under_load(urls, clients=asks, pause=pause, limit=10 * LAUNCHES) as running:
                rolling_restart(running, replicas)
                running.wait(LAUNCHES, LONG)
            launched = [answer["data"]["launchRun"] for answer in running.answers]
            answered = [one["run"]["runId"] for one in launched if one["__typename"] == "LaunchRunSuccess"]
            created, runs = tagged(dagster, mark), runs_of_launches(dagster, mark)
        finally:
            cancel(dagster, mark)
    unlike = len(set(created) ^ set(answered)) + len(answered) - len(set(answered))
    name = "rolling restart with launches meanwhile"
    record(f"{name}: answers without a run, and runs without an answer", unlike, bound=0, of=len(answered))
    record(f"{name}: failed launches", running.requests - len(answered), bound=0, of=running.requests)
    assert len(answered) >= LAUNCHES, running.summary()
    assert sorted(created) == sorted(answered), running.summary()
    assert {number: len(ids) for number, ids in runs.items() if len(ids) > 1} == {}, "launches that were done twice"
    assert running.requests == len(answered), [*running.failures, *(one for one in launched if "run" not in one)][:5]


def launches(mark: str, clients: int, most: int) -> list[list[Ask]]:
    """What each client sends: at most so many launches all together, none of them a second time."""
    return [[launch(mark, f"{client}-{count}") for count in range(most)] for client in range(clients)]


def launch(mark: str, number: str) -> Ask:
    """The launch of a run that the count finds again; its number stands for this one request."""
    selector = {"repositoryLocationName": "pipeline", "repositoryName": "__repository__", "jobName": "orders_report"}
    tags = {"tags": [{"key": "load", "value": mark}, {"key": "launch", "value": number}]}
    query = (
        "mutation($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename"
        " ... on LaunchRunSuccess { run { runId tags { key value } } } ... on PythonError { message } } }"
    )
    params = {"selector": selector, "runConfigData": {}, "executionMetadata": tags}
    return Ask("POST", "/graphql", {"query": query, "variables": {"params": params}}, keep=True)


def tagged(dagster: Dagster, mark: str, *statuses: str) -> list[str]:
    """The runs with a mark, in any of the statuses or at all."""
    wanted = {"tags": [{"key": "load", "value": mark}], **({"statuses": list(statuses)} if statuses else {})}
    query = (
        "query($filter: RunsFilter!) { runIdsOrError(filter: $filter, limit: 100000) { ... on RunIds { results } } }"
    )
    found: list[str] = dagster.query(query, filter=wanted)["runIdsOrError"]["results"]
    return found


def number_of(run: dict[str, Any]) -> str:
    """Which launch a run comes from."""
    return next(str(tag["value"]) for tag in run["tags"] if tag["key"] == "launch")


def runs_of_launches(dagster: Dagster, mark: str) -> dict[str, list[str]]:
    """The runs that each launch with a mark has made."""
    query = (
        "query($filter: RunsFilter!) { runsOrError(filter: $filter, limit: 100000) { ... on Runs {"
        " results { runId tags { key value } } } } }"
    )
    found: dict[str, list[str]] = {}
    for run in dagster.query(query, filter={"tags": [{"key": "load", "value": mark}]})["runsOrError"]["results"]:
        found.setdefault(number_of(run), []).append(run["runId"])
    return found


def cancel(dagster: Dagster, mark: str) -> None:
    """No run of the load is left for the daemon."""
    query = "mutation($ids: [String!]!) { terminateRuns(runIds: $ids) { __typename } }"
    queued = tagged(dagster, mark, "QUEUED")
    for start in range(0, len(queued), 20):
        dagster.query(query, ids=queued[start : start + 20])
    assert tagged(dagster, mark, "QUEUED", "STARTING", "STARTED", "CANCELING") == []


@contextlib.contextmanager
def daemons_stopped() -> Iterator[None]:
    hosts = [machine(name) for name in ("ctl1", "ctl2")]
    try:
        for host in hosts:
            host.check_output("systemctl stop dagster-daemon")
        yield
    finally:
        for host in hosts:
            host.check_output("systemctl start dagster-daemon")


# Faults


@pytest.mark.parametrize("number", range(ROUNDS))
def test_killed_replica(urls: list[str], edges: list[Edge], replicas: list[Replica], number: int) -> None:
    """Only a POST that was on its way fails. A GET goes on to the next replica, a POST could be done twice.

    Nor can a proxy ask another replica for an answer of which it has passed on the begin.
    """
    victim = replicas[number % len(replicas)]
    pid, before = one_process(victim.pid), requests(edges)
    # The POSTs come without a pause, so that some are on their way to the victim.
    with under_load(urls, clients=[GETS] * 4 + [POSTS] * 4, pause=0) as running:
        had = requests(edges)[victim.address] - before[victim.address]
        running.phase, earliest = "kill", time.monotonic()
        victim.systemctl("kill --kill-whom=main -s KILL")
        # Until it is gone its socket takes connections that nobody will answer.
        until(lambda: victim.edge.host.run(f"test -e /proc/{pid}").rc != 0, 10, "the process is gone", every=0.01)
        latest = time.monotonic()
        until(lambda: victim.ready and victim.pid not in ("0", pid), START + 10, f"{victim} runs again", every=0.2)
    gets = [one for one in running.failed("GET") if not one.cut]
    cut, posts = [one for one in running.failed("GET") if one.cut], running.failed("POST")
    name = "kill -9 of a replica"
    record(f"{name}: failed GETs", len(gets), bound=0, of=running.sent("kill", "GET"))
    record(f"{name}: GETs whose answer had begun and broke off", len(cut), bound=1, of=running.sent("kill", "GET"))
    record(f"{name}: failed POSTs, of 4 clients", len(posts), bound=4, of=running.sent("kill", "POST"))
    assert had > 0, f"{victim} had no requests: the kill would prove nothing"
    assert not gets, running.summary()
    assert len(cut) <= 1, running.summary()
    assert all(one.began <= latest and one.ended >= earliest for one in [*posts, *cut]), running.summary()
    assert len({post.client for post in posts}) == len(posts), running.summary()


@pytest.mark.parametrize("number", range(ROUNDS))
def test_launches_while_a_replica_is_killed(
    urls: list[str], dagster: Dagster, replicas: list[Replica], number: int
) -> None:
    """No launch has two runs, although some clients do not hear what became of theirs."""
    victim, mark = replicas[number % len(replicas)], f"load-{uuid.uuid4()}"
    # So many that some are on their way to the victim whenever it is killed.
    asks = launches(mark, 12, 10 * LAUNCHES)
    with daemons_stopped():
        try:
            with under_load(urls, clients=asks, pause=0, limit=10 * LAUNCHES) as running:
                pid = one_process(victim.pid)
                running.phase, earliest = "kill", time.monotonic()
                send(victim.edge.host, "KILL", pid)
                until(lambda: not alive(victim.edge.host, pid), 10, "the process is gone", every=0.01)
                latest = time.monotonic()
                running.phase = "after"
                running.wait(running.requests + 2 * len(asks), LONG)
            launched = [answer["data"]["launchRun"] for answer in running.answers]
            runs = runs_of_launches(dagster, mark)
        finally:
            cancel(dagster, mark)
    answered = [(number_of(one["run"]), one["run"]["runId"]) for one in launched if "run" in one]
    sent, made = running.requests, sum(len(ids) for ids in runs.values())
    twice = {name: ids for name, ids in runs.items() if len(ids) > 1}
    name = "kill -9 of a replica while launches are on their way"
    record(f"{name}: launches with two runs", len(twice), bound=0, of=sent)
    record(f"{name}: failed launches, of {len(asks)} clients", len(running.failures), of=sent)
    assert twice == {}, "launches that were done twice"
    assert running.failures, f"no launch was on its way to {victim}: the kill proves nothing; {running.summary()}"
    assert all(one.began <= latest and one.ended >= earliest for one in running.failures), running.summary()
    assert made <= sent, running.summary()
    assert len(answered) == len(launched) == sent - len(running.failures), launched[:5]
    assert Counter(answered) == Counter((name, ids[0]) for name, ids in runs.items() if name in dict(answered))
    # A run that nobody has heard of comes from a launch that failed, not from one that was never sent.
    assert made - len(answered) <= len(running.failures), running.summary()


def test_frozen_replica(frozen_replica: Future[FrozenReplica]) -> None:
    found, name = frozen_replica.result(FOR_ALL), "SIGSTOP of a replica"
    record(f"{name}: out of rotation", found.out, "s", OUT)
    record(f"{name}: failed requests while it is out", len(found.load.failures), bound=0, of=found.load.requests)
    record(f"{name}: a new process", found.restarted, "s", WATCHDOG)
    record(f"{name}: the new process answers", found.answers, "s", WATCHDOG + START)
    record(f"{name}: back in rotation after that", found.back, "s")
    assert not found.load.failures, found.load.summary()
    assert found.out <= OUT
    assert found.restarted <= WATCHDOG
    assert found.answers <= WATCHDOG + START
