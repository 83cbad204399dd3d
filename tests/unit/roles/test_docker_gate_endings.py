"""The Docker gate and steps whose run has ended: it was stopped, has died, or has handed its connection on."""

from __future__ import annotations

import threading
import time
from typing import Any

import gate_endings
import pytest
from gate_container import STEP
from gate_rooms import Rooms
from gate_world import (
    CONTAINERS,
    DELEGATING,
    OTHER_STEP,
    OWN,
    OWN_STEP,
    RUN,
    World,
    here,
    request,
    step_body,
    step_name,
)

API = "/v1.41"
CREATE = f"{API}/containers/create?name={step_name()}"


def test_connection_ends_with_the_run(world: World) -> None:
    """A process may hand its connection on to one of another container, and that would start steps after the end."""
    with world.connect("steps") as sock:
        ask = request("POST", CREATE, here(step_body(), world.bind)).replace(b"Connection: close\r\n", b"")
        sock.sendall(ask)
        assert b" 201 " in sock.recv(65536).partition(b"\r\n")[0], "the control"
        world.engine.ended.add(DELEGATING)
        sock.sendall(ask)
        answer = sock.recv(65536)
    assert (answer.split(b" ")[1], b"a run whose container has ended" in answer) == (b"403", True)
    assert world.ask("steps", "GET", "/version")[0] == 403
    assert len(world.engine.changes()) == 1


def listed(number: str) -> dict[str, Any]:
    """A container as lists show it."""
    return {"Id": number, "Labels": CONTAINERS[number]}


def test_steps_of_a_run_that_has_died_end_after_a_while(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at once: run_monitoring may start the run anew. And a run that has come back keeps them."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def rounds(seconds: float, *there: str) -> list[str]:
        world.engine.asked.clear()
        world.engine.listed = [listed(number) for number in there]
        now[0] += seconds
        world.gate.endings.look("dataops.dagster.run")
        return [path for _method, path, _body in world.engine.changes()]

    assert rounds(0, OWN_STEP, OTHER_STEP, DELEGATING) == []
    assert rounds(800, OWN_STEP, OTHER_STEP, DELEGATING) == []
    assert rounds(200, OWN_STEP, DELEGATING, OTHER_STEP) == [f"/containers/{OTHER_STEP}/stop?t=10"]
    assert rounds(0, OWN_STEP) == []
    assert rounds(800, OWN_STEP) == []
    assert rounds(50, OWN_STEP, DELEGATING) == [], "the run has come back"
    assert rounds(100, OWN_STEP) == []
    assert rounds(900, OWN_STEP) == [f"/containers/{OWN_STEP}/stop?t=10"]
    assert len([line for line in world.said if line.startswith("ends the step in container ")]) == 2


def test_gate_looks_after_steps_where_there_may_be_some(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_endings, "ROUND", 0.02)
    looks: list[str] = []
    found = gate_endings.Endings(world.gate.engine, world.gate.say)

    def look(label: str) -> None:
        looks.append(label)
        if len(looks) == 1:
            raise OSError("the engine restarts")
        ending.set()

    monkeypatch.setattr(found, "look", look)
    ending = threading.Event()
    found.watch(ending, world.gate.label_of_steps)
    assert looks == ["dataops.dagster.run"] * 2
    assert world.said == ["cannot see which steps have lost their run: the engine restarts"]
    world.gate.room = Rooms({"launch": 1})
    assert world.gate.label_of_steps() == "", "no location starts steps"


def test_stop_of_a_run_ends_the_steps_that_it_leaves(world: World) -> None:
    """Its time may be over before it has ended them, and Dagster ends none of a run that it would resume."""
    world.engine.listed = [{"Id": OWN_STEP}]
    assert world.ask("inspect", "POST", f"{API}/containers/{DELEGATING}/stop?t=30")[0] == 204
    world.end()
    stops = [path for _method, path, _body in world.engine.changes()]
    assert stops == [f"{API}/containers/{DELEGATING}/stop?t=30", f"/containers/{OWN_STEP}/stop?t=10"]
    (listing,) = [path for _method, path, _body in world.engine.asked if "containers/json" in path]
    assert RUN in listing
    assert STEP in listing


def test_stop_of_another_run_ends_no_others(world: World) -> None:
    world.engine.listed = [{"Id": OWN_STEP}]
    assert world.ask("inspect", "POST", f"{API}/containers/{OWN}/stop?t=30")[0] == 204
    assert world.ask("steps", "POST", f"{API}/containers/{OWN_STEP}/stop?t=30")[0] == 204
    world.end()
    assert len(world.engine.changes()) == 2
