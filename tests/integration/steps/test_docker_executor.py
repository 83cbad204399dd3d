"""Dagster's docker_executor through the Docker gate: each step in a container of its own, from the inventory on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from steps_rig import Deployment
from support import dagster_python

RUN, STEP = "dagster/run_id", "dataops.dagster.step"


@pytest.fixture(scope="module")
def python() -> str:
    return dagster_python()


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, python: str) -> Iterator[Deployment]:
    found = Deployment(tmp_path_factory.mktemp("steps"), python, step_containers=True)
    yield found
    found.end()


def sleeping(seconds: float) -> dict[str, Any]:
    return {"ops": {name: {"config": {"seconds": seconds}} for name in ("first", "second")}}


def of_run(found: Deployment, run: str) -> list[dict[str, Any]]:
    """What the engine was asked for, of a run and its steps."""
    bodies = [each["Config"] for each in found.engine.containers.values()]
    return [body for body in bodies if body["Labels"][RUN] == run]


def test_each_step_has_a_container_of_its_own(deployed: Deployment) -> None:
    run, number = deployed.launch("sleep_twice", sleeping(0.1))
    assert deployed.ended(run, number) == ("SUCCESS", "")
    first, *steps = of_run(deployed, run)
    assert STEP not in first["Labels"]
    assert {each["Labels"][STEP] for each in steps} == {"first", "second"}
    assert len(steps) == 2
    assert [sum("docker-gate" in bind for bind in body["HostConfig"]["Binds"]) for body in (first, *steps)] == [1, 0, 0]
    assert [body["HostConfig"]["CapDrop"] for body in (first, *steps)] == [["ALL"]] * 3
    assert deployed.world.said == []


def test_terminated_run_ends_its_steps(deployed: Deployment) -> None:
    run, number = deployed.launch("sleep_twice", sleeping(3600))
    engine = deployed.engine

    def running() -> list[str]:
        return [each for each in engine.containers if engine.state(each)["Running"]]

    end = time.monotonic() + 600
    while (len(running()) < 3 or not said_by_a_step(deployed, run)) and time.monotonic() < end:
        time.sleep(0.5)
    assert len(running()) == 3, "the run and both of its steps"
    assert deployed.ask(f"answer = instance.run_launcher.terminate({run!r})") is True
    status, _errors = deployed.ended(run, number)
    assert status == "CANCELED"
    end = time.monotonic() + 120
    while running() and time.monotonic() < end:
        time.sleep(0.5)
    assert running() == []


def said_by_a_step(found: Deployment, run: str) -> bool:
    """Whether the steps of a run have begun to sleep."""
    names = [each["Name"] for each in found.engine.containers.values() if each["Config"]["Labels"][RUN] == run]
    return all(
        "sleeping" in (found.engine.output / name).read_text(encoding="utf-8") for name in names if "step" in name
    )


def test_step_that_asks_for_more_is_told_by_the_gate(deployed: Deployment) -> None:
    """As Dagster's documentation configures docker_executor: with the socket of the engine."""
    socket = {"volumes": ["/var/run/docker.sock:/var/run/docker.sock"]}
    run, number = deployed.launch("sleep_twice", {"execution": {"config": {"container_kwargs": socket}}})
    status, said = deployed.ended(run, number)
    assert status == "FAILURE"
    assert "The Docker gate refuses HostConfig.Binds: the socket of the engine. For docker_executor, step_con" in said
    assert len(of_run(deployed, run)) == 1


def test_location_without_the_option(tmp_path: Path, python: str) -> None:
    """The run fails, and its log says which option is not set."""
    found = Deployment(tmp_path, python)
    try:
        run, number = found.launch("sleep_twice")
        status, said = found.ended(run, number)
        assert status == "FAILURE"
        assert "none://set-step_containers-of-its-code-location" in said
        assert len(of_run(found, run)) == 1
    finally:
        found.end()
