"""A code server that hangs is restarted, and nobody else."""

from __future__ import annotations

import time
from typing import Any

import pytest
from deployment import Dagster, until
from processes import cpu, send

UNIT = "code-health-dagster"
CONTAINER = "dagster-code-pipeline"
STARTED = "docker inspect -f '{{.State.StartedAt}} {{.RestartCount}}' %s"


def test_it_finds_the_code_servers_healthy(host: Any) -> None:
    """It has asked since its start, and has nothing to say."""
    assert host.check_output("systemctl is-active %s", UNIT) == "active"
    age = "echo $(cut -d. -f1 /proc/uptime) $(systemctl show -p ActiveEnterTimestampMonotonic --value %s)"

    def has_asked() -> bool:
        now, began = host.check_output(age, UNIT).split()
        return int(now) - int(began) / 1e6 > 5

    until(has_asked, 30, "it has asked once")
    pid = host.check_output("systemctl show -p MainPID --value %s", UNIT)
    assert host.check_output("journalctl --quiet -o cat --no-pager _PID=%s", pid) == ""


@pytest.mark.long  # three questions, 30 seconds apart, and the stop timeout of its container
def test_one_that_hangs_is_restarted(dagster: Dagster, host: Any) -> None:
    before = host.check_output(STARTED, CONTAINER)
    watcher = host.check_output("systemctl show -p MainPID --value %s", UNIT)
    used, since = cpu(host.check_output, watcher), time.monotonic()
    pid = host.check_output("docker inspect -f '{{.State.Pid}}' %s", CONTAINER)
    # docker's own init is the first process of the container; the server is its child, or it is the server itself.
    server = host.check_output("pgrep -P %s || echo %s", pid, pid).split()[0]
    host.check_output("docker run -d --name beside --label somebody=else %s sleep 600", image(host))
    try:
        beside = host.check_output(STARTED, "beside")
        send(host, "STOP", server, CONTAINER)
        until(lambda: host.check_output(STARTED, CONTAINER) != before, 240, "it was restarted", every=2)
        until(lambda: dagster.launch("dagster_canary"), 120, "the code location serves", every=2)
        assert host.check_output(STARTED, "beside") == beside
        said = host.check_output("journalctl -o cat --no-pager -u %s -n 20", UNIT)
        assert f"{CONTAINER} does not answer (3 of 3): no answer within 10 s" in said
        assert f"{CONTAINER} hangs: it is restarted" in said
        share = (cpu(host.check_output, watcher) - used) / (time.monotonic() - since)
        assert share < 0.01, f"it takes {share:.2%} of a core"
    finally:
        host.check_output("docker rm -f beside")
    until(dagster.healthy, 120, "the deployment is healthy")


def image(host: Any) -> str:
    found: str = host.check_output("docker inspect -f '{{.Config.Image}}' %s", CONTAINER)
    return found
