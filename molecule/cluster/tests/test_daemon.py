"""Exactly one daemon on ctl1 and ctl2, under every fault of a host, a guard, a daemon, a network and a database.

Each bound comes from the deployed timings, with START for the daemon's own start. The processes on both hosts are
looked at twenty times a second meanwhile.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait

import pytest
from clock import Clock
from daemons import UNIT, Controller, Watch, epoch, raw_daemon, without_fence
from deployment import Dagster, Play, machine, until
from figures import record
from frozen import FOR_ALL, FrozenReplica
from processes import alive, one_process, send

ROUNDS = int(os.environ.get("CLUSTER_ROUNDS", "5"))
QUIET = float(os.environ.get("CLUSTER_QUIET", "30"))  # seconds without a fault, on a machine that has no time
AWAY = float(os.environ.get("CLUSTER_AWAY", "20"))  # seconds without a database
START = 10.0  # seconds that the unit, its guard or its daemon may take to start on a busy machine
# A frozen process counts, an ended one does not.
DAEMONS = "ps -eo stat=,args= | grep -v '^Z' | grep -c '[d]agster-daemon run' || true"


@pytest.fixture(scope="module")
def controllers() -> list[Controller]:
    return [Controller("ctl1"), Controller("ctl2")]


@pytest.fixture
def leader(controllers: list[Controller]) -> Controller:
    found: Controller = until(lambda: next((one for one in controllers if one.active), None), 60, "one runs the daemon")
    return found


@pytest.fixture
def standby(controllers: list[Controller], leader: Controller) -> Controller:
    other = next(one for one in controllers if one is not leader)
    until(
        lambda: other.status == f"standby: {leader.name} holds the lease, epoch {epoch(leader)}", 120, "the other waits"
    )
    return other


@pytest.fixture
def overlap(controllers: list[Controller]) -> Iterator[Watch]:
    watch = Watch([one.name for one in controllers])
    yield watch
    watch.end()


def takes_over(standby: Controller, seconds: float, what: str) -> float:
    started = time.monotonic()
    until(lambda: standby.active, seconds, what, every=0.2)
    return time.monotonic() - started


@pytest.fixture(scope="module")
def edge(connections: dict[str, dict[str, str]]) -> Dagster:
    return Dagster(f"http://{connections['edge1']['ansible_host']}:8080")


def test_without_a_guard_two_daemons_do_all_twice(controllers: list[Controller], edge: Dagster, overlap: Watch) -> None:
    """The control of all that follows: if this finds no minute that fired twice, the others prove nothing.

    Nor does the database refuse them: its fence is down. At the start of a minute the code server does not answer, so
    that both daemons evaluate it before either has made a run.
    """
    clock, since, code = Clock(edge, "reporting"), time.time(), Controller("ctl2")
    for one in controllers:
        one(f"systemctl stop {UNIT}")
    try:
        with without_fence(machine("db")), raw_daemon(controllers[0]), raw_daemon(controllers[1]):
            clock.start()

            def twice() -> list[int]:
                time.sleep((59 - time.time()) % 60)
                code("docker pause dagster-code-reporting && sleep 4 && docker unpause dagster-code-reporting")
                time.sleep(10)
                return [minute for minute, runs in clock.runs_of_minutes(since).items() if runs > 1]

            found = until(twice, 600, "a minute has fired twice")
            assert overlap.most == 2, "and the watch sees both"
            record("two daemons without a guard: runs of one scheduled minute", clock.runs_of_minutes(since)[found[0]])
            clock.stop()
    finally:
        for one in controllers:
            one(f"systemctl start {UNIT}")


@pytest.fixture(scope="module")
def clock(edge: Dagster, controllers: list[Controller]) -> Iterator[tuple[Clock, float, int]]:
    """The schedule fires each minute from here to the end of this file: since when, and the lease's epoch then."""
    found = Clock(edge, "reporting")
    until(lambda: any(one.active for one in controllers), 60, "one runs the daemon")
    found.start()
    yield found, time.time(), max(epoch(one) for one in controllers)
    found.stop()


@pytest.mark.usefixtures("clock")
def test_one_is_active_and_says_so(leader: Controller, standby: Controller) -> None:
    assert re.fullmatch(rf"active: daemon runs as PID \d+, {leader.name} holds the lease, epoch \d+", leader.status)
    assert [one.host.run(DAEMONS).stdout.strip() for one in (leader, standby)] == ["1", "0"]


def test_by_hand_it_is_refused(controllers: list[Controller]) -> None:
    """It ends by itself, with the refusal as its own last words, and leaves nothing behind."""
    setup = "set -a; . /etc/dagster/environment; cd /var/lib/dagster; exec timeout 180"
    command = "/opt/dagster/current/bin/dagster-daemon run -w /etc/dagster/workspace.yaml"
    by_hand = "pgrep -f '[d]agster-daemon run -w' || true"  # the unit's daemon has --workspace
    for controller in controllers:
        running = controller(DAEMONS)
        refused = controller.host.run(f"sudo -u dagster sh -c '{setup} {command}'")
        assert refused.rc == 1, f"{refused.rc} is not its own end, 124 is that of timeout: {refused.stderr[-2000:]}"
        assert "no password supplied" in refused.stderr + refused.stdout
        assert "too many retries for DB connection" in refused.stderr.strip().splitlines()[-1]
        assert controller(by_hand) == ""
        assert controller(DAEMONS) == running


def raw_daemon_said(controller: Controller, words: str) -> bool:
    return words in controller("journalctl --no-pager -o cat -u raw-daemon --since '-10 min'")


@pytest.mark.usefixtures("clock")
def test_second_daemon_does_nothing_on_any_host(edge: Dagster, leader: Controller, standby: Controller) -> None:
    """Beside the real one, on both hosts: the schedule that fires each minute has one run for each, and goes on."""
    clock, since = Clock(edge, "reporting"), time.time()
    with raw_daemon(leader), raw_daemon(standby):
        until(lambda: clock.runs_of_minutes(since), 150, "a minute has fired")
        run_id = edge.launch("orders_report", "reporting")
        edge.wait(run_id)
        for one, refused in itertools.product((leader, standby), ("send a heartbeat of", "evaluate a schedule or")):
            # Those two import Dagster meanwhile, and look at the schedule once a minute.
            until(functools.partial(raw_daemon_said, one, f"login dagster may not {refused}"), 180, refused)
    minutes = clock.runs_of_minutes(since)
    assert set(minutes.values()) == {1}, minutes
    assert len(minutes) >= int(time.time() - since) // 60 - 1, "a second daemon takes no turn of the schedule"


@pytest.mark.alone
@pytest.mark.usefixtures("clock")
def test_started_together(controllers: list[Controller], overlap: Watch) -> None:
    for _round in range(ROUNDS):
        for one in controllers:
            one(f"systemctl stop {UNIT}")
        for one in controllers:
            one(f"systemctl start --no-block {UNIT}")
        until(lambda: sorted(one.status[:6] for one in controllers) == ["active", "standb"], 30, "one runs, one waits")
        record("start on both hosts at once: most daemons at a time", overlap.most, bound=1)
    assert overlap.most == 1
    for one in controllers:
        assert "Another" not in one(
            f"journalctl --no-pager -o cat -u {UNIT} --since '-10 min' | grep ' daemon is still' || true"
        )


@pytest.mark.alone
def test_stop_of_the_leader(leader: Controller, standby: Controller, overlap: Watch) -> None:
    leader(f"systemctl stop {UNIT}")
    took = takes_over(standby, 5, "the standby runs")
    leader(f"systemctl start {UNIT}")
    record("systemctl stop of the active daemon: the standby runs", took, "s", 5)
    record("systemctl stop of the active daemon: most daemons at a time", overlap.most, bound=1)
    assert overlap.most == 1


@pytest.mark.parametrize("victim", ["guard", "daemon"])
@pytest.mark.alone
def test_kill(leader: Controller, standby: Controller, overlap: Watch, victim: str) -> None:
    old = leader.daemon
    send(leader.host, "KILL", getattr(leader, victim))
    since = time.monotonic()
    until(lambda: leader.daemon not in ("", old), 5, "it runs again on the same host", every=0.2)
    record(f"kill -9 of the {victim}: it runs again on the same host", time.monotonic() - since, "s", 5)
    record(f"kill -9 of the {victim}: most daemons at a time", overlap.most, bound=1)
    assert overlap.most == 1
    assert not standby.active


@pytest.mark.alone
def test_frozen_guard(leader: Controller, standby: Controller, overlap: Watch) -> None:
    old = leader.daemon
    send(leader.host, "STOP", leader.guard)
    since = time.monotonic()
    assert alive(leader.host, old), "at first the daemon goes on"
    until(lambda: not alive(leader.host, old), leader.timings["watchdog"] + 1, "both are dead", every=0.2)
    record("SIGSTOP of the guard: both are dead", time.monotonic() - since, "s", leader.timings["watchdog"] + 1)
    since = time.monotonic()
    until(lambda: leader.active or standby.active, 30, "one runs again")
    record("SIGSTOP of the guard: one runs again after that", time.monotonic() - since, "s", 30)
    record("SIGSTOP of the guard: most daemons at a time", overlap.most, bound=1)
    assert overlap.most == 1


@pytest.mark.alone
def test_network_cut(leader: Controller, standby: Controller, overlap: Watch) -> None:
    timings, before = leader.timings, epoch(leader)
    assert leader.host.run(DAEMONS).stdout.strip() == "1", "the control: there is one to end"
    address = json.loads(leader("cat /etc/dagster/guard.json"))["database"]["host"]
    rule = f"OUTPUT -d {address} -j DROP"
    leader(f"iptables -I {rule}")
    try:
        since = time.monotonic()
        until(
            lambda: leader.host.run(DAEMONS).stdout.strip() == "0", timings["deadline"] + 1, "the old one is dead", 0.2
        )
        dead = time.monotonic() - since
        took = takes_over(standby, timings["ttl"] + 2 + START, "the standby runs")
        time.sleep(10)
    finally:
        leader(f"iptables -D {rule}")
    until(lambda: leader.status == f"standby: {standby.name} holds the lease, epoch {before + 1}", 30, "it waits")
    record("network cut to the database: the old daemon is dead", dead, "s", timings["deadline"] + 1)
    record("network cut to the database: the standby runs after that", took, "s", timings["ttl"] + 2 + START)
    record("network cut to the database: most daemons at a time", overlap.most, bound=1)
    assert overlap.most == 1


@pytest.mark.alone
def test_paused_host(leader: Controller, standby: Controller) -> None:
    """No overlap here: the paused daemon is there when the host comes back, and the database refuses it."""
    ttl = leader.timings["ttl"]
    leader.docker("pause", "{}")
    try:
        took = takes_over(standby, ttl + 2 + START, "the standby runs")
        record("paused host: the standby runs", took, "s", ttl + 2 + START)
        time.sleep(5)
    finally:
        leader.docker("unpause", "{}")
    until(lambda: leader.status.startswith(f"standby: {standby.name} holds"), 30, "it waits")
    assert leader.host.run(DAEMONS).stdout.strip() == "0"


@pytest.mark.alone
def test_database_restart(leader: Controller, overlap: Watch) -> None:
    before, old = epoch(leader), leader.daemon
    Controller("db")("systemctl restart 'postgresql@*'")
    time.sleep(leader.timings["ttl"])
    now = (epoch(leader), leader.daemon)
    record("restart of the database: daemons that were restarted or moved", now != (before, old), bound=0)
    assert now == (before, old)
    assert overlap.most == 1


@pytest.mark.alone
def test_database_away(controllers: list[Controller], leader: Controller, overlap: Watch) -> None:
    database = Controller("db")
    unit = database("systemctl list-units --plain --no-legend 'postgresql@*' | cut -d' ' -f1").strip()
    deadline = leader.timings["deadline"]
    database(f"systemctl stop {unit}")
    try:
        time.sleep(deadline + 1)
        assert [one.host.run(DAEMONS).stdout.strip() for one in controllers] == ["0", "0"]
        time.sleep(AWAY - deadline)
    finally:
        database(f"systemctl start {unit}")
    since = time.monotonic()
    until(lambda: any(one.active for one in controllers), 5 + START, "one runs")
    record("database away: one daemon runs after its return", time.monotonic() - since, "s", 5 + START)
    record("database away: most daemons at a time", overlap.most, bound=1)
    assert overlap.most == 1


def test_switchover(play: Callable[..., Play], leader: Controller, standby: Controller, overlap: Watch) -> None:
    play("daemon_switchover.yml", "-e", f"dagster_daemon_target={standby.name}")
    assert standby.active
    assert leader.status.startswith(f"standby: {standby.name} holds")
    assert overlap.most == 1
    refused = play("daemon_switchover.yml", "-e", "dagster_daemon_target=db", ok=False)
    assert refused.rc != 0
    assert "db is not in group dagster_daemon" in refused.output


@pytest.mark.alone
def test_frozen_daemon(
    leader: Controller, standby: Controller, overlap: Watch, frozen_replica: Future[FrozenReplica]
) -> None:
    """A replica is frozen as well: both are mostly waited for. It is judged in test_load.py."""
    old, seconds = leader.daemon, leader.timings["heartbeat"] + 30
    since = time.monotonic()
    send(leader.host, "STOP", old)
    until(lambda: leader.daemon not in ("", old) or standby.active, seconds, "another daemon runs", every=0.5)
    record("SIGSTOP of the daemon: another one runs", time.monotonic() - since, "s", seconds)
    assert overlap.most == 1
    wait([frozen_replica], FOR_ALL)


@pytest.mark.alone
def test_run_in_progress(edge: Dagster, leader: Controller, standby: Controller) -> None:
    """One run outlives the end of the daemon, a restart of the engine and a move of the daemon."""
    engine = Controller("run")
    run_id = edge.launch("sleep_job", config={"ops": {"sleep_seconds": {"config": {"seconds": 40.0}}}})
    until(lambda: edge.status(run_id) == "STARTED", 180, "the run has started")
    for host, command in (
        (leader, f"kill -KILL {one_process(leader.daemon)}"),
        (engine, "systemctl restart docker"),
        (leader, f"systemctl stop {UNIT}"),
    ):
        host(command)
        assert edge.status(run_id) == "STARTED", f"the control: {command} came while the run was at work"
    try:
        edge.wait(run_id)
    finally:
        leader(f"systemctl start {UNIT}")
    assert standby.active
    assert len(engine(f"docker ps -aq --filter label=dagster/run_id={run_id}").split()) == 1
    events = edge.query(
        "query($id: ID!) { logsForRun(runId: $id, limit: 1000) { ... on EventConnection { events { __typename } } } }",
        id=run_id,
    )["logsForRun"]["events"]
    assert not [event for event in events if event["__typename"] in ("RunFailureEvent", "RunCancelingEvent")]


@pytest.mark.alone
def test_no_false_alarm(leader: Controller, standby: Controller) -> None:
    """Both cores are busy and nothing else is wrong."""
    before = epoch(leader), leader.daemon, leader.guard
    burners = [subprocess.Popen(["sh", "-c", f"timeout {QUIET:g} sh -c 'while :; do :; done'"]) for _core in range(2)]
    time.sleep(QUIET)
    for burner in burners:
        burner.wait()
    assert (epoch(leader), leader.daemon, leader.guard) == before
    assert standby.status.startswith(f"standby: {leader.name} holds")


@pytest.mark.alone
def test_schedule_under_all_of_this(clock: tuple[Clock, float, int], leader: Controller) -> None:
    """No minute has two runs, and no take-over has cost more than one tick."""
    found, since, first = clock
    until(lambda: len(found.runs_of_minutes(since)) > 3, 150, "the control: it has fired", every=2)
    taken_over = epoch(leader) - first
    minutes = found.runs_of_minutes(since)
    missed = found.missed(since)
    record(
        "all faults together, a schedule each minute: minutes with two runs",
        sum(n > 1 for n in minutes.values()),
        bound=0,
        of=len(minutes),
    )
    record("all faults together, a schedule each minute: ticks missed", missed, bound=taken_over)
    assert max(minutes.values()) == 1
    assert missed <= taken_over
