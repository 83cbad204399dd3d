"""A store that is away while a run ends: what becomes of the run, of its log, and where that is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from log_site_rig import Site
from stores_rig import Store, amazon

from ansible_collections.dataops.dagster.plugins.module_utils._graphql.client import GraphQLClient
from ansible_collections.dataops.dagster.plugins.module_utils._graphql.report import lost_output


def gate(site: Site, run_id: str) -> str:
    """What the health gate says of the output of a run."""
    client = GraphQLClient(f"http://127.0.0.1:{site.port}/data", request_timeout=300)
    return lost_output(client, run_id)


def test_run_succeeds_and_its_log_stays_where_it_was(tmp_path: Path, python: Path, moto: str) -> None:
    """S3: the run goes on, an event says why the log is missing, and the log waits on the host of the run."""
    store = amazon(tmp_path, moto)
    site = Site(tmp_path / "site", python, store.section(), store.login, store.env)
    try:
        good = site.run(AWS_MAX_ATTEMPTS="2")
        site.webserver.start()
        assert gate(site, good) == "", "the control"
        store.server.stop()
        run_id = site.run(AWS_MAX_ATTEMPTS="2")
        status, events = site.ended(run_id)
        assert status == "SUCCESS", site.said
        (lost,) = [
            event for event in events if event.get("message") == "Exception while cleaning up compute log capture"
        ]
        assert "Could not connect to the endpoint URL" in json.dumps(lost)
        assert "it could not store it: " in gate(site, run_id)
        kept = [path.read_text() for path in (site.state / "run").rglob("*.out")]
        assert any("said to stdout" in text for text in kept)
        # Where runs and webserver share a host, they share that folder: the log is shown although it is not stored.
        shutil.copytree(site.state / "run", site.state / "web", dirs_exist_ok=True)
        assert "said to stdout" in site.output(run_id)["stdout"]
    finally:
        site.close()
        store.server.stop()


@pytest.mark.long  # what this class does when its bucket is gone; docs/compute-logs.md says so
def test_class_of_google_refuses_a_run_when_its_bucket_is_not_there(
    world: dict[str, Store], tmp_path: Path, python: Path
) -> None:
    """It asks for the bucket when it is made. So such a run fails at once, which the documentation says."""
    store = world["gcs"]
    site = Site(tmp_path / "site", python, store.section(bucket="not-there"), store.login, store.env)
    try:
        run_id = site.run()
        site.webserver.start()
        status, events = site.ended(run_id)
        assert status == "FAILURE", site.said
        assert "Invariant failed" in json.dumps(events)
    finally:
        site.close()
