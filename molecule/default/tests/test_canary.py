"""The canary: launched when something has changed that a run needs. One that fails: the gate says why."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from deployment import Dagster, Play, at_task, kill, machine, no_run_goes, until

CONFIG = "/etc/dagster/dagster.yaml"
CODE = "dagster-code-pipeline"
PGPASS = "/etc/dagster/containers/pgpass"


CHANGE = '{"dagster_environment": {"CANARY_NOTE": "1"}}'


def launched(dagster: Dagster) -> list[str]:
    """The canary runs so far, newest first, as JOB STATUS."""
    answer = dagster.query(
        "query($filter: RunsFilter) { runsOrError(filter: $filter) { ... on Runs { results { jobName status } } } }",
        filter={"tags": [{"key": "dataops.dagster/canary", "value": "true"}]},
    )
    return [f"{run['jobName']} {run['status']}" for run in answer["runsOrError"]["results"]]


def canary(seconds: int) -> str:
    """The job as an extra variable."""
    return json.dumps({"dagster_canary": {"location": "pipeline", "job": "orders_report", "timeout": seconds}})


def verdict(failed: Play) -> str:
    """What the gate says, without its line breaks."""
    text = " ".join(failed.output.split())
    assert failed.rc != 0
    assert "The deployment is not healthy: run " in text, failed.output[-3000:]
    return text


def test_canary_is_launched_when_something_is_not_proven(
    play: Callable[..., Play], dagster: Dagster, inventory: str
) -> None:
    """Nothing is set: examples/pipeline offers the job. The play that changes something is killed before its canary.

    That a second run launches none is seen in test_second_run.py, and that health.yml launches one below.
    """
    before = len(launched(dagster))
    at_task("Ask for versions, heartbeats and code locations", kill, "site.yml", inventory, "-e", CHANGE)
    assert len(launched(dagster)) == before, "the control: the play did not get as far"
    assert play("site.yml", "-e", CHANGE).changed == 0
    assert launched(dagster)[0] == "dagster_canary SUCCESS"
    assert len(launched(dagster)) == before + 1
    play("site.yml", "-e", "dagster_canary=false")
    assert len(launched(dagster)) == before + 1, "switched off"
    assert play("site.yml").changed == 0
    assert len(launched(dagster)) == before + 2, "what was changed while it was switched off is not proven yet"


@pytest.mark.long  # unit tests compare what is proven; the test above sees a canary that is due
def test_canary_proves_what_leaves_no_trace_in_a_file(play: Callable[..., Play], dagster: Dagster, host: Any) -> None:
    before = len(launched(dagster))
    host.check_output("su postgres -c 'psql -qc \"ALTER ROLE dagster_run NOLOGIN\"'")
    play("site.yml")
    assert len(launched(dagster)) == before + 1


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        # The engine's words, not that the run was marked as failed from outside. The container stays Created.
        ("docker network rm dagster", r"network dagster not found.*Its container is created"),
        # Nobody but site.yml tells the gate of a network.
        pytest.param(
            f"sed -i '/ networks:$/,+1 s/- dagster$/- gone/' {CONFIG} && grep -q -e '- gone$' {CONFIG}"
            " && systemctl restart dagster-daemon",
            r"The Docker gate refuses [^;]*gone",
            marks=pytest.mark.long,
        ),
    ],
    ids=["engine", "dagster.yaml"],
)
def test_network_that_is_not_there(
    play: Callable[..., Play], dagster: Dagster, host: Any, harm: str, words: str
) -> None:
    no_run_goes(host)  # Docker keeps a network with a container in it
    host.check_output(harm)
    try:
        said = verdict(play("health.yml", "-e", "dagster_health_wait=90", ok=False))
    finally:
        play("site.yml")
    assert re.search(rf"ended with FAILURE, expected SUCCESS\. run: [^;]*{words}", said, re.DOTALL), said[-3000:]
    assert launched(dagster)[0] == "dagster_canary SUCCESS", "what site.yml has mended is proven"


def test_location_without_a_job_is_told_what_to_add(play: Callable[..., Play], dagster: Dagster) -> None:
    before = len(launched(dagster))
    named = '{"dagster_canary": {"location": "pipeline", "job": "dagster_canari"}}'
    said = " ".join(play("health.yml", "-e", named, ok=False).output.split())
    assert "no job in code location pipeline is called dagster_canari. Did you mean dagster_canary?" in said
    assert len(launched(dagster)) == before


def test_canary_whose_container_cannot_be_made(play: Callable[..., Play], host: Any) -> None:
    """The launcher's own error is told: the run itself only knows that it was marked as failed from outside.

    The control is the end of the next test: this job runs.
    """
    image = host.check_output("docker inspect -f '{{.Config.Image}}' %s", CODE)
    host.check_output("docker tag %s kept:1 && docker rmi %s", image, image)
    try:
        said = verdict(play("health.yml", "-e", canary(120), ok=False))
    finally:
        host.check_output("docker tag kept:1 %s && docker rmi kept:1", image)
    # No registry has the image, so the launcher could not pull it either.
    assert re.search(r"ended with FAILURE, expected SUCCESS\. run: [^;]*/images/create\?", said), said[-3000:]


def health_without_password(inventory: str) -> Play:
    """health.yml, while containers lose the password of their login after the gate has asked and before it launches.

    The code server lacks it too, and then holds up the daemon: a gate that asks late would say that instead.
    """

    def take_away(_play: object) -> None:
        machine("dagster1").check_output("mv %s /run/pgpass.kept", PGPASS)

    return at_task("Read what runs need, and", take_away, "health.yml", inventory, "-e", canary(60))


def test_canary_whose_container_fails(play: Callable[..., Play], dagster: Dagster, host: Any, inventory: str) -> None:
    """Its worker reports nothing, because it cannot log in. What it printed is in the journal alone."""
    try:
        said = verdict(health_without_password(inventory))
    finally:
        host.check_output("mv /run/pgpass.kept %s", PGPASS)
    started = re.search(r"run (\S+) is STARTING after 60 s, .* Its worker does not report", said)
    assert started, said[-3000:]
    words = said.partition(f"Last lines on dagster1 (DAGSTER_RUN_ID={started[1]}):")[2]
    assert re.search("no password supplied|too many retries for DB connection", words), said[-3000:]
    answer = dagster.query(
        "mutation($id: String!) { terminateRun(runId: $id, terminatePolicy: MARK_AS_CANCELED_IMMEDIATELY)"
        " { __typename } }",
        id=started[1],
    )
    assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess"
    # A code server that was without its password for so long is asked until it answers again.
    until(lambda: play("health.yml", "-e", canary(120), ok=False).rc == 0, 180, "it runs again", every=2)
