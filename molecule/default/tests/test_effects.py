"""The deployment does what it is for: runs, logs, sensors, termination, and nothing of it leaks a secret."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

from deployment import Dagster, Play, page, until


def test_edge_answers_from_a_replica(dagster: Dagster) -> None:
    status, text = dagster.get("/server_info")
    assert status == 200
    assert json.loads(text)["dagster_version"] == "1.13.27"


def test_edge_speaks_websocket(tunnel: Callable[[int], int]) -> None:
    with socket.create_connection(("127.0.0.1", tunnel(8080)), 10) as sock:
        sock.sendall(
            b"GET /graphql HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-ws\r\n\r\n"
        )
        assert sock.recv(1000).startswith(b"HTTP/1.1 101 ")


def test_health_gate_agrees(play: Callable[..., Play]) -> None:
    assert play("health.yml").changed == 0


# Modules that a process of Dagster has imported without bytecode, although its source was there to be compiled once.
UNCOMPILED = """
import dagster._daemon.cli, dagster_docker, dagster_postgres, dagster_webserver.cli, dagster_webserver.webserver
import os, sys
cached = {name: getattr(module, "__cached__", None) for name, module in sys.modules.items()}
assert len(cached) > 1000, "the control: these are Dagster's modules"
print(*sorted(name for name, path in cached.items() if path and path.endswith(".pyc") and not os.path.exists(path)))
"""


def test_services_find_their_bytecode(host: Any) -> None:
    """They cannot write it: each start would compile again what the installation has left out."""
    command = "cd / && runuser -u dagster -- /opt/dagster/current/bin/python -W ignore -B -c %s"
    assert host.check_output(command, UNCOMPILED) == ""


def test_run_in_a_container_with_readable_logs(dagster: Dagster, host: Any) -> None:
    run_id = dagster.launch("orders_report")
    dagster.wait(run_id)
    assert "orders" in dagster.output(run_id)
    containers = host.check_output("docker ps -aq --filter label=dagster/run_id=%s", run_id).split()
    assert len(containers) == 1
    # The journal has the container's output under the run's label.
    assert "RUN_SUCCESS" in host.check_output("journalctl --no-pager -o cat DAGSTER_RUN_ID=%s", run_id)


def test_browser_shows_the_run(dagster: Dagster) -> None:
    run_id = dagster.launch("orders_report")
    dagster.wait(run_id)
    until(lambda: f"{run_id[:8]} " in page(f"{dagster.url}/runs"), 180, "the run is listed")
    until(lambda: "Success Run of orders_report" in page(f"{dagster.url}/runs/{run_id}"), 180, "the run's page says so")


def test_root_of_a_run_is_nobody_on_the_host(dagster: Dagster, host: Any) -> None:
    run_id = dagster.launch("sleep_job", config={"ops": {"sleep_seconds": {"config": {"seconds": 90.0}}}})
    container = until(
        lambda: host.check_output("docker ps -q --filter label=dagster/run_id=%s", run_id),
        60,
        "the run's container is up",
    )
    pid = host.check_output("docker inspect -f '{{.State.Pid}}' %s", container)
    assert int(host.check_output("stat -c %%u /proc/%s", pid)) >= 100000
    until(lambda: dagster.status(run_id) == "STARTED", 180, "the run has started")
    answer = dagster.query("mutation($id: String!) { terminateRun(runId: $id) { __typename } }", id=run_id)
    assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess"
    dagster.wait(run_id, "CANCELED")
    assert host.check_output("docker ps -q --filter label=dagster/run_id=%s", run_id) == ""


def test_failing_run_makes_the_failure_sensor_act(dagster: Dagster) -> None:
    run_id = dagster.launch("failing_job")
    dagster.wait(run_id, "FAILURE")

    def alerted() -> bool:
        answer = dagster.query(
            '{ assetOrError(assetKey: {path: ["failure_alerts"]}) { ... on Asset { assetMaterializations {'
            " metadataEntries { label ... on PipelineRunMetadataEntry { runId } } } } } }"
        )["assetOrError"]
        return run_id in json.dumps(answer)

    until(alerted, 90, "the sensor alert_on_failure reports the run on the asset failure_alerts", every=2)
