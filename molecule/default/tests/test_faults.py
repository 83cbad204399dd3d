"""What happens when something is stopped, frozen or rebooted. Each test shows first that the fault really is one."""

from __future__ import annotations

import functools
import re
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

import pytest
from daemons import raw_daemon
from deployment import Dagster, Play, until
from processes import one_process, send
from silence import SILENCE, UNIT, Frozen, Websocket

from ansible_collections.dataops.dagster.plugins.module_utils._graphql.instance_info import DEFAULT_MAX_HEARTBEAT_AGE


def test_frozen_replica_is_restarted_by_the_watchdog(frozen: Frozen, host: Any) -> None:
    """The replica was frozen in test_edge.py; this test waits for the rest of its 90 s."""
    fresh = "systemctl show -p MainPID,ActiveState --value %s"
    seconds = frozen.since + 240 - time.monotonic()
    until(
        lambda: (
            frozen.pid not in host.check_output(fresh, UNIT).split()
            and "active" in host.check_output(fresh, UNIT).split()
        ),
        max(seconds, 60),
        "a new replica runs",
        every=2,
    )
    one_process(host.check_output("systemctl show -p MainPID --value %s", UNIT), UNIT)
    # The tests between may have taken longer, and other work makes its start slow, so the begin of its process decides.
    began = int(host.check_output("systemctl show -p ExecMainStartTimestampMonotonic --value %s", UNIT)) / 1e6
    assert 0 < began - frozen.clock <= 105, "systemd restarted it too late"


def test_request_of_a_user_waits_as_long_as_it_takes(frozen: Frozen) -> None:
    """It hung in the frozen replica, longer than proxies wait by default, and another replica answers it in the end."""
    for request in frozen.slow:
        request.thread.join(max(1, frozen.since + 150 - time.monotonic()))
    assert max(request.took for request in frozen.slow) > SILENCE, "none of them hung: the test would prove nothing"
    assert {request.status for request in frozen.slow} == {200}, [request.text[:200] for request in frozen.slow]


def test_silent_websocket_stays_open(websocket: Websocket) -> None:
    """It was opened in test_edge.py, and nothing but the server's pings has gone over it since."""
    time.sleep(max(0, websocket.since + SILENCE - time.monotonic()))
    assert websocket.heard.empty(), websocket.heard.get()
    assert "connection_ack" in websocket.asked({"type": "connection_init", "payload": {}})


def test_launches_after_a_database_restart(dagster: Dagster, host: Any) -> None:
    backends = "sudo -u postgres psql -Atc \"SELECT count(*) FROM pg_stat_activity WHERE usename = 'dagster'\" postgres"
    # A query of each replica fills its pool, whatever HAProxy would have picked.
    query = urllib.parse.quote("{ runsOrError(limit: 5) { ... on Runs { results { id } } } }")
    for port in (3000, 3001, 3002):
        url = f"http://127.0.0.1:{port}/graphql?query={query}"
        host.check_output("python3 -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=30)' %s", url)
    assert int(host.check_output(backends)) >= 2, "no pooled connection to break: the test would prove nothing"
    in_progress = dagster.launch("sleep_job", config={"ops": {"sleep_seconds": {"config": {"seconds": 20.0}}}})
    until(lambda: dagster.status(in_progress) == "STARTED", 120, "the run has begun")
    # Pooled connections are replaced once they are older than a second (db_pool_recycle).
    host.check_output("systemctl restart 'postgresql@*' && sleep 1")
    assert dagster.status(in_progress) == "STARTED", "the server was not restarted in the middle of a run"
    runs = [in_progress, *(dagster.launch("orders_report") for _run in range(4))]
    for run_id in runs:
        dagster.wait(run_id, seconds=180)


def test_stopped_daemon_fails_the_health_gate_at_once(play: Callable[..., Play], dagster: Dagster, host: Any) -> None:
    """Its last heartbeats are still new enough."""
    assert dagster.healthy(), "it must be healthy before"
    host.check_output("systemctl stop dagster-daemon")
    try:
        failed = play("health.yml", ok=False)
    finally:
        host.check_output("systemctl start dagster-daemon")
    assert failed.rc != 0
    assert "dagster-daemon.service does not run on dagster1." in failed.output
    healthy(dagster, host)
    assert play("health.yml").rc == 0, "the gate agrees again"


@pytest.mark.long  # scenario cluster freezes a daemon, and unit tests judge heartbeats by their age
@pytest.mark.alone
def test_frozen_daemon_fails_the_health_gate(play: Callable[..., Play], dagster: Dagster, host: Any) -> None:
    """The daemon, not its guard, which restarts it later than the gate notices (dagster_daemon_heartbeat_timeout)."""
    assert dagster.healthy(), "it must be healthy before"
    pid = daemon(host)
    send(host, "STOP", pid, "the daemon")
    since = time.monotonic()
    try:
        # Asked as the gate asks; only the verdict is the play's.
        until(
            lambda: (
                (beats := [beat for _healthy, beat in dagster.heartbeats().values()])
                and time.time() - min(beats) > DEFAULT_MAX_HEARTBEAT_AGE
            ),
            120,
            "a heartbeat is too old",
            every=1,
        )
        failed = until(lambda: (result := play("health.yml", ok=False)).rc and result, 60, "health.yml fails", every=2)
        took = time.monotonic() - since
    finally:
        host.run("kill -CONT %s", one_process(pid))  # gone when its guard was first
    assert "heartbeat" in failed.output
    assert "The deployment is not healthy" in failed.output
    assert "dagster-daemon" in failed.output, "the culprit's last lines are missing"
    print(f"health.yml failed {took:.0f} s after SIGSTOP")
    healthy(dagster, host)
    assert play("health.yml").rc == 0, "the gate agrees again"


@pytest.mark.long  # scenario cluster does it with a standby
@pytest.mark.alone
def test_frozen_guard_takes_its_daemon_along(dagster: Dagster, host: Any) -> None:
    pid = one_process(daemon(host), "the daemon")
    host.check_output("systemctl kill --kill-whom=main -s STOP dagster-daemon")
    assert host.run("kill -0 %s", pid).rc == 0, "at first the daemon goes on"
    until(lambda: host.run("kill -0 %s", pid).rc != 0, 7, "systemd kills both", every=0.2)
    healthy(dagster, host)


def test_daemon_by_hand_is_refused_by_the_database(host: Any) -> None:
    setup = "set -a; . /etc/dagster/environment; PGPASSFILE=/etc/dagster/pgpass; cd /var/lib/dagster; exec timeout 180"
    command = "/opt/dagster/current/bin/dagster-daemon run -w /etc/dagster/workspace.yaml"
    running = "pgrep -u dagster -f dagster-daemon[[:space:]]run"
    pid = until(lambda: daemon(host), 60, "the guard runs a daemon")
    assert host.check_output(running).split() == [pid], "one daemon runs, the one of the guard"
    refused = host.run(f"sudo -u dagster sh -c '{setup} {command}' 2>&1")
    # 124 and 137 would be the end that timeout made.
    assert refused.rc not in (0, 124, 137), refused.stdout[-3000:]
    assert "no password supplied" in refused.stdout, refused.stdout[-3000:]
    assert host.check_output(running).split() == [pid], "the one of the guard is the only one"
    # The control: with the password, which root may read, the very same environment reaches the database.
    host.check_output(f"sh -c '{setup} /opt/dagster/current/bin/dagster run list --limit 1'")


def says(host: Any, words: str) -> bool:
    """Whether the second daemon has said this."""
    return words in str(host.check_output("journalctl --no-pager -o cat -u raw-daemon --since '-5 min'"))


def test_second_daemon_with_the_password_does_nothing(dagster: Dagster, host: Any) -> None:
    """What root can do: with the password of the webservers. The real daemon is away, so all work waits for it."""
    containers = "docker ps -aq --filter label=dagster/run_id | sort"
    psql = "sudo -u postgres psql -Atc %s dagster"
    ticks = "SELECT count(*) FROM job_ticks"
    host.check_output("systemctl stop dagster-daemon")
    try:
        run_id = dagster.launch("orders_report")
        before = host.check_output(containers), host.check_output(psql, ticks)
        with raw_daemon(host.check_output, "SupplementaryGroups=docker"):
            for deed in ("send a heartbeat of the daemon", "launch a run", "evaluate a schedule or sensor"):
                until(functools.partial(says, host, f"login dagster may not {deed}"), 120, deed)
            time.sleep(15)  # each of its loops comes again
            assert host.run("systemctl is-active raw-daemon").rc == 0, "it could go on for as long as it likes"
            assert (host.check_output(containers), host.check_output(psql, ticks)) == before
            assert dagster.status(run_id) == "QUEUED"
            assert says(host, "Unit dagster-daemon runs the one daemon")
    finally:
        host.check_output("systemctl start dagster-daemon")
    # The control: it was work that a daemon does.
    dagster.wait(run_id)
    until(lambda: host.check_output(psql, ticks) != before[1], 90, "the sensors are evaluated")
    assert host.check_output(containers) != before[0]


def test_command_line_by_hand(host: Any) -> None:
    assert "Run: " in host.check_output("dagster-cli dagster run list --limit 1")
    host.check_output("dagster-cli dagster sensor list --location pipeline")
    refused = host.run("dagster-cli dagster-daemon run")
    assert refused.rc == 2
    assert "dagster-daemon run is not run: it would be a second daemon" in refused.stderr
    user = host.run("sudo -u dagster dagster-cli dagster run list")
    assert (user.rc, "run it as root" in user.stderr) == (2, True)


def daemon(host: Any) -> str:
    """The process of dagster-daemon, as the guard names it in systemctl status; empty when it runs none."""
    status = host.check_output("systemctl show -p StatusText --value dagster-daemon")
    found = re.match(r"active: daemon runs as PID (\d+), dagster1 holds the lease, epoch \d+$", status)
    return found.group(1) if found else ""


def healthy(dagster: Dagster, host: Any) -> None:
    """Waits until each daemon has a heartbeat that is newer than the start of the process that runs now."""

    def newer() -> bool:
        # Asked each time: right after a kill the unit's last words still name the process that is dead.
        pid = one_process(daemon(host), "the daemon")
        return dagster.healthy(time.time() - float(host.check_output("ps -o etimes= -p %s", pid)))

    until(newer, 180, "it is healthy again")


@pytest.mark.long  # scenario cluster does it with a standby
@pytest.mark.alone
def test_killed_daemon_comes_back(play: Callable[..., Play], dagster: Dagster, host: Any) -> None:
    """The guard alone, then the daemon alone."""
    guard = "systemctl show -p MainPID --value dagster-daemon"
    before, pid = host.check_output(guard), one_process(daemon(host), "the daemon")
    send(host, "KILL", before, "the guard")
    until(lambda: host.run("kill -0 %s", pid).rc != 0, 1, "the daemon dies with its guard", every=0.1)
    until(lambda: daemon(host) not in ("", pid), 5, "systemd starts both again", every=0.2)
    before, pid = host.check_output(guard), daemon(host)
    send(host, "KILL", pid, "the daemon")
    until(lambda: daemon(host) not in ("", pid), 5, "the guard starts a new daemon", every=0.2)
    assert host.check_output(guard) == before
    healthy(dagster, host)
    assert play("health.yml").rc == 0, "the gate agrees"
