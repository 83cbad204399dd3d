"""Fixtures of this scenario: what its tests wait for beside each other."""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from deployment import Play, identities, until
from processes import send
from replicas import ROTATION, Edge
from restarts import Checked
from silence import UNIT, Frozen, Request, Websocket


@pytest.fixture(scope="session")
def frozen(host: Any, tunnel: Callable[[int], int]) -> Frozen:
    """Freezes a replica that has requests; systemd's watchdog restarts it 90 s after its last answer.

    Its agent takes it out of the rotation at once, so that other tests reach only the other replicas.
    """
    url = f"http://127.0.0.1:{tunnel(8080)}"
    until(lambda: host.run("systemctl is-active %s", UNIT).rc == 0, 60, "the replica is up")
    rotation = Edge("dagster1", "127.0.0.1")
    until(lambda: all(one.serves for one in rotation.servers().values()), ROTATION, "all are in the rotation")
    pid = host.check_output("systemctl show -p MainPID --value %s", UNIT)
    clock = float(host.check_output("python3 -c 'import time; print(time.monotonic())'"))
    send(host, "STOP", pid, UNIT)
    since = time.monotonic()
    # Before its agent finds out, which takes two seconds: some of these meet it.
    query = urllib.parse.quote("{ version }")
    slow = [Request(url, f"/graphql?query={query}") for _number in range(4)]
    health = [Request(url, "/server_info") for _number in range(4)]
    answer = host.run(
        "timeout 3 python3 -c 'import urllib.request as u; u.urlopen(\"http://127.0.0.1:3001/server_info\")'"
    )
    assert answer.rc != 0, "a frozen replica that answers is none"
    for request in health:
        request.thread.join(max(0.1, since + 30 - time.monotonic()))
    until(lambda: not rotation.servers()["127.0.0.1:3001"].serves, ROTATION, "it has left the rotation")
    return Frozen(pid, since, clock, slow, health)


@pytest.fixture(scope="session")
def websocket(frozen: Frozen, tunnel: Callable[[int], int]) -> Iterator[Websocket]:
    """A websocket to a replica that is not frozen, opened as early as that."""
    assert frozen.pid
    opened: Websocket = until(lambda: Websocket(tunnel(8080)), 40, "another replica opens a websocket")
    yield opened
    opened.socket.close()


@pytest.fixture(scope="session")
def checked(host: Any, play: Callable[..., Play]) -> Checked:
    before = identities(host)
    done = play("site.yml", "--check", "--diff", "-vvv", env={"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"})
    return Checked(done, identities(host) != before)
