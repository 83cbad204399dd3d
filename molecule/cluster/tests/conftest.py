"""Fixtures of this scenario: its plays, and its hosts by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import testinfra
from deployment import RIG, Play

INVENTORIES = ["inventories/cluster", "molecule/cluster/inventory"]


@pytest.fixture(scope="session")
def play(play: Callable[..., Play]) -> Callable[..., Play]:
    """The shipped playbooks with the scenario's variables between the inventory and the rig's addresses."""

    def run(playbook: str, *arguments: str, ok: bool = True) -> Play:
        return play(playbook, *arguments, ok=ok, inventories=[*INVENTORIES, str(RIG)])

    return run


@pytest.fixture(scope="session")
def on(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    """A host by its name."""
    inventory_path = request.config.getoption("ansible_inventory")
    return lambda name: testinfra.get_host(f"ansible://{name}?sudo=True", ansible_inventory=inventory_path)
