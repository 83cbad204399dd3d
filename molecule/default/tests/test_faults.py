"""What happens when something is stopped, frozen or rebooted. Each test shows first that the fault really is one."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from deployment import NAME, Dagster, Play, until


def test_no_replica_is_503_and_one_is_enough(dagster: Dagster, host: Any) -> None:
    host.check_output("systemctl stop dagster-webserver@3000 dagster-webserver@3001")
    assert dagster.get("/server_info")[0] == 503
    assert dagster.get("/")[0] == 503
    host.check_output("systemctl start dagster-webserver@3001")
    until(lambda: dagster.get("/server_info")[0] == 200, 15, "one replica answers for all")
    host.check_output("systemctl start dagster-webserver@3000")


def test_launches_after_a_database_restart(dagster: Dagster, host: Any) -> None:
    for _call in range(4):  # fills the pools of both replicas
        dagster.query("{ runsOrError(limit: 5) { ... on Runs { results { id } } } }")
    backends = "sudo -u postgres psql -Atc \"SELECT count(*) FROM pg_stat_activity WHERE usename = 'dagster'\" postgres"
    assert int(host.check_output(backends)) >= 2, "no pooled connection to break: the test would prove nothing"
    host.check_output("systemctl restart 'postgresql@*'")
    runs = [dagster.launch("orders_report") for _run in range(4)]
    for run_id in runs:
        dagster.wait(run_id, seconds=180)


def test_frozen_daemon_fails_the_health_gate(play: Callable[..., Play], host: Any) -> None:
    assert play("health.yml").rc == 0, "it must be healthy before"
    # The daemon, not its guard, which restarts it after dagster_daemon_heartbeat_timeout: later than the gate notices.
    pid = daemon(host)
    host.check_output("kill -STOP %s", pid)
    since = time.monotonic()
    try:
        failed = until(lambda: (result := play("health.yml", ok=False)).rc and result, 120, "health.yml fails", every=5)
        took = time.monotonic() - since
    finally:
        host.run("kill -CONT %s", pid)
    assert "heartbeat" in failed.output
    assert "The deployment is not healthy" in failed.output
    assert "dagster-daemon" in failed.output, "the culprit's last lines are missing"
    print(f"health.yml failed {took:.0f} s after SIGSTOP")
    until(lambda: play("health.yml", ok=False).rc == 0, 120, "it is healthy again", every=5)


def test_stopped_daemon_fails_the_health_gate_at_once(play: Callable[..., Play], host: Any) -> None:
    """Its last heartbeats are still new enough."""
    assert play("health.yml").rc == 0, "it must be healthy before"
    host.check_output("systemctl stop dagster-daemon")
    try:
        failed = play("health.yml", ok=False)
    finally:
        host.check_output("systemctl start dagster-daemon")
    assert failed.rc != 0
    assert "dagster-daemon.service does not run on dagster1." in failed.output
    until(lambda: play("health.yml", ok=False).rc == 0, 120, "it is healthy again", every=5)


def test_frozen_guard_takes_its_daemon_along(play: Callable[..., Play], host: Any) -> None:
    pid = daemon(host)
    host.check_output("systemctl kill --kill-whom=main -s STOP dagster-daemon")
    assert host.run("kill -0 %s", pid).rc == 0, "at first the daemon goes on"
    until(lambda: host.run("kill -0 %s", pid).rc != 0, 7, "systemd kills both", every=0.2)
    until(lambda: play("health.yml", ok=False).rc == 0, 120, "it is healthy again", every=5)


def test_daemon_by_hand_is_refused_by_the_database(host: Any) -> None:
    setup = "set -a; . /etc/dagster/environment; PGPASSFILE=/etc/dagster/pgpass; cd /var/lib/dagster; exec timeout 60"
    command = "/opt/dagster/current/bin/dagster-daemon run -w /etc/dagster/workspace.yaml"
    refused = host.run(f"sudo -u dagster sh -c '{setup} {command}'")
    assert refused.rc != 0
    assert "no password supplied" in refused.stderr + refused.stdout
    # The control: with the password, which root may read, the very same environment reaches the database.
    host.check_output(f"sh -c '{setup} /opt/dagster/current/bin/dagster run list --limit 1'")


def test_frozen_replica_is_restarted_by_the_watchdog(host: Any) -> None:
    pid = host.check_output("systemctl show -p MainPID --value dagster-webserver@3001")
    host.check_output("kill -STOP %s", pid)
    answer = host.run(
        "timeout 3 python3 -c 'import urllib.request as u; u.urlopen(\"http://127.0.0.1:3001/server_info\")'"
    )
    assert answer.rc != 0, "a frozen replica that answers is none"
    fresh = "systemctl show -p MainPID,ActiveState --value dagster-webserver@3001"
    until(
        lambda: pid not in host.check_output(fresh) and "active" in host.check_output(fresh).split(),
        130,
        "a new replica runs",
        every=2,
    )


def daemon(host: Any) -> str:
    """The process of dagster-daemon, as the guard names it in systemctl status; empty when it runs none."""
    status = host.check_output("systemctl show -p StatusText --value dagster-daemon")
    found = re.match(r"active: daemon runs as PID (\d+), dagster1 holds the lease, epoch \d+$", status)
    return found.group(1) if found else ""


def test_killed_daemon_comes_back(play: Callable[..., Play], host: Any) -> None:
    """The guard alone, then the daemon alone."""
    guard = "systemctl show -p MainPID --value dagster-daemon"
    before, pid = host.check_output(guard), daemon(host)
    host.check_output("kill -KILL %s", before)
    until(lambda: host.run("kill -0 %s", pid).rc != 0, 1, "the daemon dies with its guard", every=0.1)
    until(lambda: daemon(host) not in ("", pid), 5, "systemd starts both again", every=0.2)
    before, pid = host.check_output(guard), daemon(host)
    host.check_output("kill -KILL %s", pid)
    until(lambda: daemon(host) not in ("", pid), 5, "the guard starts a new daemon", every=0.2)
    assert host.check_output(guard) == before
    until(lambda: play("health.yml", ok=False).rc == 0, 120, "its heartbeats are new", every=5)


@pytest.mark.usefixtures("dagster")
def test_everything_comes_back_after_a_reboot(
    play: Callable[..., Play], tunnel: Callable[[int], int], host: Any
) -> None:
    containers = "docker ps --no-trunc --filter label=dataops.dagster.location --format '{{.ID}}'"
    before, boot = host.check_output(containers), host.check_output("stat -c %Y /proc/1")
    # Closed by the reboot, opened again below.
    subprocess.run(["docker", "restart", "--time", "60", f"rig-{NAME}-dagster1"], check=True, capture_output=True)
    until(lambda: host.run("true").rc == 0, 60, "the host answers")
    assert host.check_output("stat -c %Y /proc/1") != boot, "it was not rebooted"
    until(lambda: play("health.yml", ok=False).rc == 0, 180, "the deployment is healthy", every=5)
    assert host.check_output(containers) == before
    assert host.check_output("systemctl --failed --no-legend") == ""
    again = Dagster(f"http://127.0.0.1:{tunnel(8080)}")
    again.wait(again.launch("orders_report"))
    assert play("site.yml").changed == 0
