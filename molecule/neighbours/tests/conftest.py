"""Fixtures of this scenario: plays with what its operator has set, and what the host does for somebody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from deployment import RIG, Dagster, Play, machine, no_run_goes, until
from snapshot import Foreign, Snapshot, failures, taken

SHIPPED, SET = "inventories/single_host", "molecule/neighbours/inventory"
ENTRY = 8090
# Where the shop answers: the container, both sites of nginx, and HAProxy.
PLACES = ("3000/", "8080/orders.json", "8080/live/", "80/", "9000/")


@pytest.fixture(scope="session")
def play(play: Callable[..., Play]) -> Callable[..., Play]:
    """The shipped playbooks with what the operator has set, or as shipped: play("site.yml", as_shipped=True)."""

    def run(playbook: str, *arguments: str, as_shipped: bool = False, **more: Any) -> Play:
        inventories = [SHIPPED, *([] if as_shipped else [SET]), str(RIG)]
        return play(playbook, *arguments, inventories=inventories, **more)

    return run


@pytest.fixture(scope="session")
def neighbour() -> Any:
    """The host, without ssh."""
    return machine("dagster1")


@pytest.fixture(scope="session")
def look(neighbour: Any, connections: dict[str, dict[str, str]]) -> Callable[[], Snapshot]:
    """What the host does for somebody else now."""
    address = connections["dagster1"]["ansible_host"]
    foreign = Foreign(
        files=(
            *("/etc/docker", "/etc/postgresql", "/etc/postgresql-common", "/etc/mysql", "/etc/nginx", "/etc/haproxy"),
            *("/etc/default", "/etc/sysctl.d", "/etc/systemd/system", "/etc/nftables.conf", "/home/dagster", "/srv"),
        ),
        units=(
            *("docker", "containerd", "postgresql@15-main", "mariadb", "nginx", "haproxy", "nftables", "shop-report"),
        ),
        tables=("inet shop",),
        kernel=("net.ipv4.tcp_keepalive_time",),
        port=5432,
        login=f"host={address} port=5432 user=shop dbname=shop",
        pgpass="/home/dagster/.pgpass",
        query="SELECT count(*), sum(amount) FROM orders",
        urls=tuple(f"http://{name}:{place}" for name in ("127.0.0.1", address) for place in PLACES),
        outside=tuple(f"http://{address}:{place}" for place in PLACES),
    )

    def now() -> Snapshot:
        if neighbour.run("pidof dockerd").rc == 0:
            no_run_goes(neighbour)
        return taken(neighbour, foreign)

    return now


@pytest.fixture(scope="session")
def whole(look: Callable[[], Snapshot]) -> Callable[[], Snapshot]:
    """The same once all of it works and the database's client is connected."""

    def complete() -> Snapshot | None:
        found = look()
        assert failures(found) == []
        return found if found["process of the database's client"].startswith("shop|") else None

    def wait() -> Snapshot:
        found: Snapshot = until(complete, 60, "the shop serves", every=1)
        return found

    return wait


@pytest.fixture(scope="module")
def before(whole: Callable[[], Snapshot]) -> Snapshot:
    """The host before the first play of a file of tests."""
    return whole()


@pytest.fixture
def through(tunnel: Callable[[int], int]) -> Callable[[], Dagster]:
    """The deployment at the port that the operator has set. Each call goes through a tunnel that is open."""
    return lambda: Dagster(f"http://127.0.0.1:{tunnel(ENTRY)}")
