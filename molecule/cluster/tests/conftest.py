"""Fixtures of this scenario: its plays, and its hosts by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from clock import Clock
from deployment import RIG, Dagster, Play, machine
from frozen import FrozenReplica, freeze
from replicas import Edge, Replica, returns

INVENTORIES = ["inventories/cluster", "molecule/cluster/inventory"]


@pytest.fixture(scope="session")
def play(play: Callable[..., Play]) -> Callable[..., Play]:
    """The shipped playbooks with the scenario's variables between the inventory and the rig's addresses.

    more: further inventories, which win.
    """

    def run(
        playbook: str, *arguments: str, ok: bool = True, more: Sequence[str] = (), env: dict[str, str] | None = None
    ) -> Play:
        return play(playbook, *arguments, ok=ok, inventories=[*INVENTORIES, str(RIG), *more], env=env)

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


@pytest.fixture(scope="session")
def edges(connections: dict[str, dict[str, str]]) -> list[Edge]:
    return [Edge(name, connections[name]["ansible_host"]) for name in ("edge1", "edge2")]


@pytest.fixture(scope="session")
def replicas(edges: list[Edge]) -> list[Replica]:
    """In the order in which a play restarts them."""
    found = [replica for edge in edges for replica in edge.replicas()]
    assert {replica.edge.name for replica in found} == {edge.name for edge in edges}
    return found


@pytest.fixture(scope="session")
def urls(edges: list[Edge]) -> list[str]:
    return [f"http://{edge.address}:8080" for edge in edges]


@pytest.fixture(scope="session")
def frozen_replica(urls: list[str], edges: list[Edge], replicas: list[Replica]) -> Iterator[Future[FrozenReplica]]:
    """What becomes of a replica that is frozen now. It is mostly waited for, so a test that waits as well begins it."""
    returns(edges, replicas)
    with ThreadPoolExecutor(1) as beside:
        yield beside.submit(freeze, urls, edges, replicas[-1])
