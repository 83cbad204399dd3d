"""Fixtures of this scenario: its inventory, its edge and its second host."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from deployment import ROOT, Dagster, machine

PREFIX = "/data/dagster"


@pytest.fixture(scope="session")
def inventory() -> str:
    return "molecule/alternative/inventory"


@pytest.fixture(scope="session")
def edge(connections: dict[str, dict[str, str]]) -> str:
    """The edge's address on the network; nginx was told to listen there."""
    return f"http://{connections['dagster1']['ansible_host']}"


@pytest.fixture
def dagster(edge: str) -> Dagster:
    return Dagster(f"{edge}:8088{PREFIX}")


@pytest.fixture
def inventory_locations() -> Callable[..., str]:
    """The locations of the inventory as an extra variable, some of them changed: {name: {option: value}}."""

    def changed(changes: dict[str, dict[str, Any]]) -> str:
        path = ROOT / "molecule/alternative/inventory/group_vars/all.yml"
        locations = yaml.safe_load(path.read_text(encoding="utf-8").replace("!unsafe", ""))["dagster_code_locations"]
        return json.dumps(
            {"dagster_code_locations": [{**entry, **changes.get(entry["name"], {})} for entry in locations]}
        )

    return changed


@pytest.fixture(scope="session")
def other() -> Any:
    """The second host."""
    return machine("dagster2")
