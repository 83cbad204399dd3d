"""Fixtures of this scenario: its plays, and its hosts by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from clock import Clock
from deployment import RIG, Dagster, Play, machine

INVENTORIES = ["inventories/cluster", "molecule/cluster/inventory"]


@pytest.fixture(scope="session")
def play(play: Callable[..., Play]) -> Callable[..., Play]:
    """The shipped playbooks with the scenario's variables between the inventory and the rig's addresses.

    more: further inventories, which win.
    """

    def run(playbook: str, *arguments: str, ok: bool = True, more: Sequence[str] = ()) -> Play:
        return play(playbook, *arguments, ok=ok, inventories=[*INVENTORIES, str(RIG), *more])

    return run


@pytest.fixture(scope="session")
def on() -> Callable[[str], Any]:
    """A host by its name."""
    return machine


@pytest.fixture
def dagster(connections: dict[str, dict[str, str]]) -> Dagster:
    """The deployment through the proxy of one host."""
    return Dagster(f"http://{connections['edge1']['ansible_host']}:8080")


@pytest.fixture(scope="session", autouse=True)
def no_clock(connections: dict[str, dict[str, str]]) -> None:
    """No schedule fires each minute while a test does not look at it: its runs would only take the machine's time."""
    through = Dagster(f"http://{connections['edge1']['ansible_host']}:8080")
    for location in ("pipeline", "reporting"):
        Clock(through, location).stop()
