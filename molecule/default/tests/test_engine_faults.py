"""The engine, containerd or the shim of a run is killed while runs begin and go on.

Each run comes to an end of its own, or is marked as failed within the time that docs/reliability.md names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from deployment import Dagster, until

pytestmark = pytest.mark.long

# Seconds: start_timeout_seconds of run_monitoring, two of its polls, and the time that a loaded host takes.
FINAL = 180 + 2 * 60 + 60
SHIM = "ps -o ppid= -p $(docker inspect -f '{{.State.Pid}}' $(docker ps -q --filter label=dagster/run_id=%s))"


def sleeps(dagster: Dagster, seconds: float) -> str:
    return dagster.launch("sleep_job", config={"ops": {"sleep_seconds": {"config": {"seconds": seconds}}}})


@pytest.fixture
def working(dagster: Dagster, host: Any) -> Callable[[], None]:
    """Judges that all is as before: services of the host, the code server, and a new run."""

    def judge() -> None:
        until(lambda: host.run("docker info").rc == 0, 60, "the engine answers")
        assert host.check_output("systemctl --failed --no-legend") == ""
        until(dagster.healthy, 120, "daemons and code are healthy", every=1)
        dagster.wait(until(lambda: dagster.launch("orders_report"), 60, "the code location serves", every=2))

    return judge


@pytest.mark.parametrize("unit", ["docker.service", "containerd.service"])
def test_killed_engine(dagster: Dagster, host: Any, working: Callable[[], None], unit: str) -> None:
    """What goes on is not touched. What was about to begin begins, or is told to have failed."""
    working()
    goes_on = sleeps(dagster, 30)
    until(lambda: dagster.status(goes_on) == "STARTED", 180, "one goes on")
    begins = [sleeps(dagster, 1) for _run in range(3)]
    pid = host.check_output("systemctl show -p MainPID --value %s", unit)
    host.check_output("systemctl kill --signal=KILL --kill-whom=main %s && systemctl reset-failed %s", unit, unit)
    until(lambda: host.check_output("systemctl show -p MainPID --value %s", unit) not in (pid, "0"), 60, "it is back")
    # The ways to code servers end with dockerd, so nobody launches anything until they are back.
    begins.append(until(lambda: sleeps(dagster, 1), 60, "the code location serves again"))
    assert dagster.end(goes_on, FINAL) == "SUCCESS"
    assert {dagster.end(run_id, FINAL) for run_id in begins} <= {"SUCCESS", "FAILURE"}
    working()


def test_killed_shim(dagster: Dagster, host: Any, working: Callable[[], None]) -> None:
    """Its run is marked as failed, the one beside it goes on."""
    working()
    killed, beside = sleeps(dagster, 900), sleeps(dagster, 30)
    until(lambda: [dagster.status(one) for one in (killed, beside)] == ["STARTED"] * 2, 60, "both go on")
    host.check_output("kill -KILL $(" + SHIM + ")", killed)
    assert dagster.end(killed, FINAL) == "FAILURE"
    assert dagster.end(beside, FINAL) == "SUCCESS"
    left = "docker ps -q --filter label=dagster/run_id=%s"
    until(lambda: host.check_output(left, killed) == "", 60, "nothing of it goes on")
    working()
