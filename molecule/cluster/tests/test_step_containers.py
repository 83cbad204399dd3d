"""Steps in containers on six hosts: the run asks on its own host, and webservers on other hosts end it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from deployment import ROOT, Dagster, Play, identities, until

HOSTS = ("ctl1", "ctl2", "edge1", "edge2", "run")
STEPS = 5  # of orders_report


def with_steps() -> tuple[str, str]:
    """The locations of the inventory, and one of the same image whose runs start their steps."""
    text = (ROOT / "inventories/cluster/group_vars/all/dagster.yml").read_text(encoding="utf-8")
    locations = yaml.safe_load(text)["dagster_code_locations"]
    more = {"name": "in_steps", "port": 4001, "module": "pipeline.step_containers", "step_containers": True}
    return ("-e", json.dumps({"dagster_code_locations": [*locations, {**locations[0], **more}]}))


def of_run(run_host: Any, run_id: str, more: str = "") -> list[str]:
    found: str = run_host.check_output(f"docker ps -aq {more} --filter label=dagster/run_id={run_id}")
    return found.split()


@pytest.fixture(scope="module")
def played(play: Callable[..., Play]) -> Iterator[Callable[..., Play]]:
    """The deployment with a third location that has the option."""
    play("site.yml", *with_steps())
    yield play
    play("site.yml")


@pytest.mark.usefixtures("played")
def test_job_runs_in_containers_of_its_steps(dagster: Dagster, on: Callable[[str], Any]) -> None:
    run_id = dagster.launch("orders_report", "in_steps")
    dagster.wait(run_id, seconds=300)
    assert len(of_run(on("run"), run_id)) == 1 + STEPS
    until(lambda: of_run(on("run"), run_id, "--filter status=running") == [], 60, "the run's container has ended")


@pytest.mark.long  # tests/integration/steps does it with the real Dagster and the gate
@pytest.mark.usefixtures("played")
def test_termination_ends_the_steps(dagster: Dagster, on: Callable[[str], Any]) -> None:
    config = {"ops": {name: {"config": {"seconds": 900.0}} for name in ("first", "second")}}
    run_id = dagster.launch("sleep_twice", "in_steps", config)
    until(lambda: len(of_run(on("run"), run_id, "--filter status=running")) == 3, 120, "run and steps have started")
    answer = dagster.query("mutation($id: String!) { terminateRun(runId: $id) { __typename } }", id=run_id)
    assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess", answer
    dagster.wait(run_id, "CANCELED")
    until(lambda: of_run(on("run"), run_id, "--filter status=running") == [], 60, "no container of it goes on")


@pytest.mark.long  # the step idempotence of scenario alternative has such a location
def test_second_run_changes_nothing(played: Callable[..., Play], on: Callable[[str], Any]) -> None:
    before = {name: identities(on(name)) for name in HOSTS}
    assert played("site.yml", *with_steps()).changed == 0
    assert {name: identities(on(name)) for name in HOSTS} == before
