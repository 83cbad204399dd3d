"""What is called unhealthy, of what each daemon host has said."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.dataops.dagster.plugins.filter.daemon_hosts import daemon_hosts, daemons_settled
from ansible_collections.dataops.dagster.plugins.module_utils._graphql.instance_info import (
    DaemonHost,
    Expectation,
    daemon_host_problems,
)

UNIT = "dagster-daemon.service"
ACTIVE, STANDBY, DOWN = (99, "active: daemon runs"), (98, "standby: a holds the lease"), (0, "")


def hosts(**daemons: tuple[int, str]) -> tuple[DaemonHost, ...]:
    """Daemon hosts, by the start and the status of each."""
    return tuple(DaemonHost(name, started, status) for name, (started, status) in daemons.items())


def test_one_daemon_and_its_standby_are_healthy() -> None:
    assert daemon_host_problems(hosts(a=ACTIVE)) == daemon_host_problems(hosts(a=ACTIVE, b=STANDBY)) == []
    assert daemon_host_problems(()) == [], "nobody was asked for"


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (ACTIVE, "More than one host runs a daemon: a, b."),
        (DOWN, "dagster-daemon.service does not run on b."),
    ],
)
def test_second_host_has_its_part(second: tuple[int, str], sentence: str) -> None:
    assert daemon_host_problems(hosts(a=ACTIVE, b=second)) == [sentence]


def test_somebody_runs_the_daemon() -> None:
    assert daemon_host_problems(hosts(a=STANDBY, b=STANDBY)) == [
        "No host of group dagster_daemon runs the daemon: a says standby: a holds the lease; "
        "b says standby: a holds the lease."
    ]


def test_host_that_cannot_be_asked() -> None:
    lost = DaemonHost("b", error="no route to host")
    assert daemon_host_problems((*hosts(a=ACTIVE), lost)) == [
        "b of group dagster_daemon cannot be asked: no route to host"
    ]


def test_heartbeats_are_newer_than_the_daemon_that_runs() -> None:
    """A standby that was started later writes none."""
    expected = Expectation(daemon_hosts=hosts(a=(50, "active: daemon runs"), b=(70, "standby: a holds the lease")))
    assert expected.daemon_started == 50
    assert Expectation(daemons_newer_than=60, daemon_hosts=expected.daemon_hosts).daemon_started == 60
    assert Expectation().daemon_started == 0


def test_results_of_a_loop() -> None:
    found = daemon_hosts(
        [
            {"item": "a", "started": {UNIT: 7}, "status": {UNIT: "active: daemon runs"}},
            {"item": "b", "unreachable": True, "msg": "Data could not be sent.\n  No route."},
            {"item": "c", "failed": True, "msg": "no systemd"},
        ]
    )
    assert found == [
        {"name": "a", "unit": UNIT, "started": 7, "status": "active: daemon runs", "error": ""},
        {"name": "b", "unit": "", "started": 0, "status": "", "error": "Data could not be sent. No route."},
        {"name": "c", "unit": "", "started": 0, "status": "", "error": "no systemd"},
    ]


def seen(host: str, status: str, **more: Any) -> dict[str, Any]:
    """What role daemon has found on a host."""
    return {"item": host, "started": {UNIT: 7}, "status": {UNIT: status}, "actions": {}, "changed_paths": [], **more}


@pytest.mark.parametrize(
    ("results", "settled"),
    [
        ([seen("a", "active: daemon")], True),
        ([seen("a", "active: daemon", actions={UNIT: "start: was inactive"})], True),
        ([seen("a", "standby: b holds the lease")], False),
        ([seen("a", "active: daemon"), seen("b", "standby: a holds the lease, epoch 7")], True),
        ([seen("a", "active: daemon"), seen("b", "standby: b holds the lease")], False),
        ([seen("a", "active: daemon"), seen("b", "standby: nobody answers")], False),
        ([seen("a", "active: daemon"), seen("b", "active: daemon")], False),
        ([seen("a", "active: daemon"), seen("b", "")], False),
        ([seen("a", "active: daemon"), seen("b", "standby: a holds", actions={UNIT: "restart: x"})], False),
        ([seen("a", "active: daemon", changed_paths=["/x"]), seen("b", "standby: a holds")], False),
        ([seen("a", "active: daemon"), {"item": "b", "failed": True}], False),
        ([seen("a", "active: daemon"), {"item": "b", "unreachable": True}], False),
        ([], False),
    ],
)
def test_who_runs_the_daemon_is_clear(results: list[dict[str, Any]], settled: bool) -> None:
    """Otherwise the gate asks the hosts again, and waits for them."""
    assert daemons_settled(results) is settled
