"""A canary that fails: the gate says why its run could not be launched, and what its container said last."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from deployment import Dagster, Play

CODE = "dagster-code-pipeline"
PGPASS = "/etc/dagster/containers/pgpass"


def canary(seconds: int) -> str:
    """The job as an extra variable."""
    return json.dumps({"dagster_canary": {"location": "pipeline", "job": "orders_report", "timeout": seconds}})


def verdict(failed: Play) -> str:
    """What the gate says, without its line breaks."""
    text = " ".join(failed.output.split())
    assert failed.rc != 0
    assert "The deployment is not healthy: run " in text, failed.output[-3000:]
    return text


def test_canary_whose_container_cannot_be_made(play: Callable[..., Play], host: Any) -> None:
    """The launcher's own error is told: the run itself only knows that it was marked as failed from outside."""
    assert play("health.yml", "-e", canary(120)).rc == 0, "the control: it runs"
    image = host.check_output("docker inspect -f '{{.Config.Image}}' %s", CODE)
    host.check_output("docker tag %s kept:1 && docker rmi %s", image, image)
    try:
        said = verdict(play("health.yml", "-e", canary(120), ok=False))
    finally:
        host.check_output("docker tag kept:1 %s && docker rmi kept:1", image)
    # No registry has the image, so the launcher could not pull it either.
    assert re.search(r"ended with FAILURE, expected SUCCESS\. run: [^;]*/images/create\?", said), said[-3000:]


def test_canary_whose_container_fails(play: Callable[..., Play], dagster: Dagster, host: Any) -> None:
    """Its worker reports nothing, because it cannot log in. What it printed is in the journal alone."""
    host.check_output("mv %s /run/pgpass.kept", PGPASS)
    try:
        said = verdict(play("health.yml", "-e", canary(20), ok=False))
    finally:
        host.check_output("mv /run/pgpass.kept %s", PGPASS)
    started = re.search(r"run (\S+) is STARTING after 20 s, .* Its worker does not report", said)
    assert started, said[-3000:]
    words = said.partition(f"Last lines on dagster1 (DAGSTER_RUN_ID={started[1]}):")[2]
    assert re.search("no password supplied|too many retries for DB connection", words), said[-3000:]
    answer = dagster.query(
        "mutation($id: String!) { terminateRun(runId: $id, terminatePolicy: MARK_AS_CANCELED_IMMEDIATELY)"
        " { __typename } }",
        id=started[1],
    )
    assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess"
    assert play("health.yml", "-e", canary(120)).rc == 0, "it runs again"
