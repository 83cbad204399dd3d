"""Compute logs in Google Cloud Storage, behind a prefix: read back, tried before a change, and a store that is away."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from deployment import Dagster, Play, identities, until

LOGS = "/srv/dagster/state/compute_logs"
LOGIN = "not-a-real-account-of-logs-4d"
SERVICES = "'dagster-webserver@*' 'dagster-webserver-read-only@*'"


@pytest.fixture
def away(other: Any) -> Iterator[Callable[[], None]]:
    """Stops the store, whose memory is gone with it: the bucket is there again afterwards."""
    yield lambda: other.check_output("systemctl stop gcs")
    other.check_output("systemctl start gcs")
    connect = "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 9023))'"
    until(lambda: other.run(connect).rc == 0, 60, "the store is back")


def links(dagster: Dagster, run_id: str) -> list[str]:
    """The links to what a run has printed."""
    found = dagster.query(
        "query($id: ID!) { logsForRun(runId: $id, limit: 1000) { ... on EventConnection { events {"
        " ... on LogsCapturedEvent { fileKey } } } } }",
        id=run_id,
    )["logsForRun"]["events"]
    query = "query($key: [String!]!) { capturedLogsMetadata(logKey: $key) { stdoutDownloadUrl } }"
    keys = [[run_id, "compute_logs", event["fileKey"]] for event in found if event.get("fileKey")]
    return [dagster.query(query, key=key)["capturedLogsMetadata"]["stdoutDownloadUrl"] for key in keys]


def test_log_is_read_back_by_webservers_that_have_nothing(dagster: Dagster, host: Any) -> None:
    run_id = dagster.launch("orders_report", "built")
    dagster.wait(run_id)
    host.check_output(f"rm -rf {LOGS}/* && systemctl restart {SERVICES}")
    until(dagster.healthy, 120, "the webservers are back")
    assert "Revenue" in dagster.output(run_id)
    texts = []
    for link in links(dagster, run_id):
        with urllib.request.urlopen(link, timeout=30) as answer:
            texts.append(answer.read().decode())
    assert "Revenue" in "".join(texts)


def test_login_is_a_file_that_no_container_shows(dagster: Dagster, host: Any) -> None:
    run_id = dagster.launch("sleep_job", "built", {"ops": {"sleep_seconds": {"config": {"seconds": 120}}}})
    until(lambda: dagster.status(run_id) == "STARTED", 180, "the run has begun")
    try:
        container = host.check_output("docker ps -q --filter label=dagster/run_id=%s", run_id)
        read = "docker exec %s cat /run/dagster/compute_logs.login"
        assert LOGIN in host.check_output(read, container), "the control: the run has it"
        assert LOGIN in host.check_output(read, "dagster-code-built"), "and the code server"
        shown = host.check_output(
            "docker ps -aq | xargs docker inspect; ps -eo args=; systemctl show 'dagster-*'; "
            "cat /srv/dagster/home/dagster.yaml"
        )
        assert LOGIN not in shown
    finally:
        dagster.query("mutation($id: String!) { terminateRun(runId: $id) { __typename } }", id=run_id)
    until(lambda: dagster.status(run_id) == "CANCELED", 300, "the run has ended")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"log_bucket": "nothing-there"}, "finds no bucket nothing-there at "),
        # tests/integration/compute_logs asks each class of store with logins of all kinds.
        pytest.param({"log_account": "nothing"}, "may not write to bucket alternative-logs", marks=pytest.mark.long),
        pytest.param(
            {"dagster_compute_logs_login": "no key"},
            "dagster_compute_logs_login is not what GCSComputeLogManager reads",
            marks=pytest.mark.long,
        ),
    ],
)
def test_store_that_takes_no_logs_is_refused(
    play: Callable[..., Play], host: Any, other: Any, changes: dict[str, str], words: str
) -> None:
    """In a check as well, and with the hosts of the services alone."""
    before = identities(host), identities(other)
    for more in ((), ("--check", "--limit", "dagster1")):
        refused = play("site.yml", *more, "-e", json.dumps(changes), ok=False)
        assert refused.rc != 0
        assert refused.changed == 0
        assert words in " ".join(refused.output.replace("\\n", " ").split()), refused.output[-3000:]
        assert LOGIN not in refused.output
    assert (identities(host), identities(other)) == before


def test_store_away_is_told_by_health_and_stops_no_other_play(
    play: Callable[..., Play], away: Callable[[], None], host: Any
) -> None:
    assert play("health.yml").rc == 0, "the control"
    away()
    told = play("health.yml", ok=False)
    assert told.rc != 0
    assert "cannot reach " in told.output
    assert "the store of compute logs" in told.output
    before = identities(host)
    assert play("site.yml").changed == 0, "nothing has changed, so nobody asks the store"
    assert identities(host) == before
