"""Who reaches which port of the six hosts: from each kind of host, a run, a code server, and from outside."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import ways
from deployment import Dagster, reboot, until

HOSTS = ("db", "edge1", "edge2", "ctl1", "ctl2", "run")
SERVICES = {"edge1", "edge2", "ctl1", "ctl2"}
# Each port with the hosts that may reach it. Its own host does in any case.
LISTED = {
    ("db", 5432): {*SERVICES, "run"},
    ("ctl1", 4000): SERVICES,
    ("ctl2", 4000): SERVICES,
    ("run", 2378): SERVICES,
    ("edge1", 3000): {"edge1", "edge2"},
    ("edge1", 13000): {"edge1", "edge2"},
    ("edge2", 3000): {"edge1", "edge2"},
    ("edge2", 13000): {"edge1", "edge2"},
    # Not ours, and the entry points: for everybody.
    ("db", 22): {*HOSTS},
    ("run", 22): {*HOSTS},
    ("edge1", 8080): {*HOSTS},
}
Reached = dict[str, dict[tuple[str, int], bool]]


@pytest.fixture(scope="module")
def address(connections: dict[str, dict[str, str]]) -> Callable[[str], str]:
    return lambda name: str(connections[name]["ansible_host"])


@pytest.fixture(scope="module")
def image(on: Callable[[str], Any]) -> str:
    """That of runs, which the host of the runs has without a code server."""
    found: str = on("ctl1").check_output("docker inspect -f '{{.Config.Image}}' dagster-code-pipeline")
    return found


@pytest.fixture(scope="module")
def matrix(on: Callable[[str], Any], address: Callable[[str], str], image: str) -> Callable[[], Reached]:
    """Every pair, from every place."""
    names = {(address(name), port): (name, port) for name, port in LISTED}
    places = {name: (name, "python3") for name in HOSTS}
    places["a code server"] = ("ctl1", ways.CODE)
    places["a run"] = ("run", f"docker run --rm --network dagster {image} python")

    def ask(place: str) -> tuple[str, dict[tuple[str, int], bool]]:
        name, python = places[place]
        return place, {names[pair]: may for pair, may in ways.reached(on(name), names, python).items()}

    def look() -> Reached:
        with ThreadPoolExecutor(2) as pool:
            found = dict(pool.map(ask, places))
        outside = {}
        for pair, name in names.items():
            outside[name] = False
            with contextlib.suppress(OSError), socket.create_connection(pair, 2):
                outside[name] = True
        return {**found, "outside": outside}

    return look


def listed() -> Reached:
    """What is to be reached."""
    found = {name: {pair: name in may or name == pair[0] for pair, may in LISTED.items()} for name in HOSTS}
    everybody = {pair: may == {*HOSTS} for pair, may in LISTED.items()}
    found["outside"] = everybody
    found["a code server"] = {**everybody, ("db", 5432): True}
    # It reaches no service of its own host at all.
    found["a run"] = {**found["a code server"], ("run", 22): False}
    return found


@pytest.fixture
def bare(on: Callable[[str], Any]) -> Iterator[None]:
    """No host has our table."""
    for name in HOSTS:
        ways.without(on(name))
    yield
    for name in HOSTS:
        ways.again(on(name))


@pytest.mark.usefixtures("bare")
def test_without_the_tables_every_pair_is_open(matrix: Callable[[], Reached]) -> None:
    closed = {place: [pair for pair, may in pairs.items() if not may] for place, pairs in matrix().items()}
    assert closed == {place: [] for place in closed}


def test_only_the_listed_pairs_are_open(matrix: Callable[[], Reached]) -> None:
    assert matrix() == listed()


@pytest.mark.long  # scenario default does it with one host, and the reboot below stays
def test_rules_outlive_engine_and_flush(on: Callable[[str], Any], matrix: Callable[[], Reached]) -> None:
    engines = [on(name) for name in ("ctl1", "run")]
    try:
        for engine in engines:
            before = ways.table(engine)
            engine.check_output("systemctl restart docker")
            assert ways.table(engine) == before
        assert matrix() == listed()
        for name in ("db", "edge1"):
            before = ways.table(on(name))
            on(name).run("iptables -F")
            assert ways.table(on(name)) == before
        # An engine without its rules lets nothing through, so only the rules are looked at.
        for engine in engines:
            before = ways.table(engine)
            engine.check_output("iptables -F")
            assert ways.table(engine) == before
    finally:
        for engine in engines:
            engine.check_output("systemctl restart docker")
    until(lambda: on("ctl1").run(f"{ways.CODE} -c 1").rc == 0, 60, "the code server runs")
    assert matrix() == listed()


def test_rules_are_there_after_a_reboot(
    on: Callable[[str], Any], matrix: Callable[[], Reached], dagster: Dagster, address: Callable[[str], str]
) -> None:
    before = ways.table(on("ctl2"))
    up = reboot(on("ctl2"), "ctl2")
    until(lambda: dagster.healthy(up), 120, "the daemons are healthy")
    code = (address("ctl2"), 4000)
    until(lambda: ways.reached(on("ctl2"), [code])[code], 60, "its code server listens")
    assert ways.table(on("ctl2")) == before
    assert matrix() == listed()
