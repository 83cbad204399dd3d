"""Fixtures of all scenarios: plays, a tunnel to the edge, and a GraphQL client.

The tests look at a deployment as its users do: over HTTP through nginx, and by running the shipped playbooks again.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from deployment import RIG, Dagster, Play, ended, environment, free_port, machine, until


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Runs the tests in the order in which they are written: the last ones of a file take the deployment apart.

    pytest itself would put those together that share a parameter of a fixture.
    """
    items.sort(key=lambda item: (item.path, item.function.__code__.co_firstlineno))


@pytest.fixture(scope="session")
def inventory() -> str:
    """The shipped inventory that this scenario deploys, relative to the root."""
    return "inventories/single_host"


@pytest.fixture(scope="session")
def play(inventory: str) -> Callable[..., Play]:
    """Runs a shipped playbook against the scenario's hosts: play("site.yml", "--check", inventories=[...])."""

    def run(
        playbook: str,
        *arguments: str,
        ok: bool = True,
        inventories: list[str] | None = None,
        env: dict[str, str] | None = None,
    ) -> Play:
        argv = ["ansible-playbook", f"playbooks/{playbook}", *arguments]
        for source in inventories or [inventory, str(RIG)]:
            argv += ["-i", source]
        result = ended(argv, {**environment(), **(env or {})})
        assert not ok or result.rc == 0, result.output[-6000:]
        return result

    return run


@pytest.fixture(scope="session")
def host() -> Any:
    """The host of a scenario that has one, or the first of two."""
    return machine("dagster1")


@pytest.fixture(scope="session")
def connections() -> dict[str, dict[str, str]]:
    """How to reach each host, as the rig wrote it."""
    hosts: dict[str, dict[str, str]] = yaml.safe_load((RIG / "hosts.yml").read_text())["all"]["hosts"]
    return hosts


@pytest.fixture(scope="session")
def passwords() -> dict[str, str]:
    """The secrets of this scenario by variable name."""
    variables = yaml.safe_load((RIG / "group_vars" / "all.yml").read_text())
    return {name: value for name, value in variables.items() if name.endswith("_password")}


@pytest.fixture(scope="session")
def tunnel(connections: dict[str, dict[str, str]]) -> Iterator[Callable[[int], int]]:
    """Opens a port of this machine that leads to one of the host's loopback, where nginx listens by default."""
    opened: dict[int, tuple[int, subprocess.Popen[bytes]]] = {}
    host = connections["dagster1"]

    def open_port(port: int) -> int:
        if port in opened and opened[port][1].poll() is None:
            return opened[port][0]
        local = free_port()
        argv = ["ssh", "-N", "-i", host["ansible_ssh_private_key_file"], *host["ansible_ssh_common_args"].split()]
        argv += ["-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=2"]
        argv += ["-L", f"127.0.0.1:{local}:127.0.0.1:{port}", f"admin@{host['ansible_host']}"]
        opened[port] = local, subprocess.Popen(argv, stdin=subprocess.DEVNULL)

        def answers() -> bool:
            with socket.create_connection(("127.0.0.1", local), 1):
                return True

        until(answers, 20, "the tunnel is open")
        return local

    yield open_port
    for _local, process in opened.values():
        process.terminate()
        process.wait(10)


@pytest.fixture
def dagster(tunnel: Callable[[int], int]) -> Dagster:
    """The deployment through nginx of its host."""
    return Dagster(f"http://127.0.0.1:{tunnel(8080)}")
