"""Fixtures of this scenario: what its tests wait for beside each other."""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Callable, Iterator

import pytest
from deployment import Dagster, Play, identities, machine, send, until
from restarts import Checked
from silence import UNIT, Frozen, Request, Websocket


@pytest.fixture(scope="session")
def frozen(tunnel: Callable[[int], int]) -> Frozen:
    """Freezes a replica that has requests; systemd's watchdog restarts it 90 s after its last answer.

    It leaves the rotation at once, so that the tests beside meet the other one alone.
    """
    host, url = machine("dagster1"), f"http://127.0.0.1:{tunnel(8080)}"
    until(lambda: host.run("systemctl is-active %s", UNIT).rc == 0, 60, "the replica is up")
    pid = host.check_output("systemctl show -p MainPID --value %s", UNIT)
    send(host, "STOP", pid, UNIT)
    since = time.monotonic()
    answer = host.run(
        "timeout 3 python3 -c 'import urllib.request as u; u.urlopen(\"http://127.0.0.1:3001/server_info\")'"
    )
    assert answer.rc != 0, "a frozen replica that answers is none"
    query = urllib.parse.quote("{ version }")
    slow = [Request(url, f"/graphql?query={query}") for _number in range(4)]
    health = [Request(url, "/server_info") for _number in range(4)]
    for request in health:
        request.thread.join(max(0.1, since + 30 - time.monotonic()))
    host.check_output("touch /run/%s/draining", UNIT)
    return Frozen(pid, since, slow, health)


@pytest.fixture(scope="session")
def websocket(frozen: Frozen, tunnel: Callable[[int], int]) -> Iterator[Websocket]:
    """A websocket to the replica that is not frozen, opened as early as that."""
    assert frozen.pid
    until(lambda: Dagster(f"http://127.0.0.1:{tunnel(8080)}").get("/server_info")[0] == 200, 30, "the other one serves")
    opened = Websocket(tunnel(8080))
    yield opened
    opened.socket.close()


@pytest.fixture(scope="session")
def early(tunnel: Callable[[int], int]) -> str:
    """A run that is terminated as soon as its container is there: before its program can have set its handlers."""
    host, dagster = machine("dagster1"), Dagster(f"http://127.0.0.1:{tunnel(8080)}")
    run_id = dagster.launch("sleep_job", config={"ops": {"sleep_seconds": {"config": {"seconds": 300.0}}}})
    running = f"docker ps -q --filter label=dagster/run_id={run_id}"
    until(lambda: host.check_output(running), 60, "the run's container is up", every=0.1)
    assert dagster.status(run_id) in ("STARTING", "QUEUED"), "it has started: the test would prove nothing"
    answer = dagster.query("mutation($id: String!) { terminateRun(runId: $id) { __typename } }", id=run_id)
    assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess"
    return run_id


@pytest.fixture(scope="session")
def checked(play: Callable[..., Play]) -> Checked:
    host = machine("dagster1")
    before = identities(host)
    done = play("site.yml", "--check", "--diff", "-vvv", env={"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"})
    return Checked(done, identities(host) != before)
