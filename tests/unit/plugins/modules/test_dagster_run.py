"""dagster_run, whole, against a stand-in for the webserver that keeps runs and can lose answers."""

from __future__ import annotations

import re
from typing import Any
from unittest.mock import MagicMock

import pytest
from fake_webserver import Webserver, run

from ansible_collections.dataops.dagster.plugins.module_utils._graphql import client as api
from ansible_collections.dataops.dagster.plugins.module_utils._graphql import run as subject
from ansible_collections.dataops.dagster.plugins.module_utils._graphql.report import EVENTS_KEPT
from ansible_collections.dataops.dagster.plugins.module_utils._graphql.target import Target


def test_launch_and_wait(server: Webserver) -> None:
    result = run(server, run_config={"ops": {}}, tags={"a": 1, "b": True, "c": "x"}, wait="true", timeout="30")
    assert not result["failed"]
    assert result["changed"] is True
    assert result["run_id"] == "run-1"
    assert result["status"] == "SUCCESS"
    assert result["duration"] == 4.0
    assert result["run_url"] == f"{server.url}/runs/run-1"
    assert result["steps"] == [{"name": "boom", "status": "SUCCESS", "duration": 2.5}]
    assert server.runs["run-1"] == {"a": "1", "b": "true", "c": "x", subject.LAUNCH_TAG: result["launch_id"]}
    params = server.variables["Launch"]["params"]
    assert params["selector"] == {
        "repositoryLocationName": "analytics",
        "repositoryName": "__repository__",
        "jobName": "orders_report",
    }
    assert params["runConfigData"] == {"ops": {}}
    assert "errors" not in result


def test_two_launches_carry_different_tags(server: Webserver) -> None:
    first, second = run(server)["launch_id"], run(server)["launch_id"]
    assert first != second


def test_without_waiting_the_run_is_not_watched(server: Webserver) -> None:
    result = run(server, wait="false")
    assert result["status"] == "QUEUED"
    assert "Status" not in server.asked


def test_check_mode_asks_for_the_job_and_launches_nothing(server: Webserver) -> None:
    result = run(server, check=True)
    assert (result["failed"], result["changed"], result["repository"]) == (False, True, "__repository__")
    assert server.asked == ["Repositories"]
    assert run(server, check=True, job="nothing")["failed"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"job": "order_report"}, "Did you mean orders_report? There are: daily_orders, orders_report. Change `job`"),
        ({"job": "zzz"}, "is called zzz. There are: daily_orders, orders_report."),
        ({"location": "analytic"}, "Did you mean analytics? There are: analytics. Change `location`"),
        ({"repository": "repo"}, "There are: __repository__. Change `repository`"),
    ],
)
def test_a_wrong_name_gets_the_nearest_and_the_list(server: Webserver, changes: dict[str, Any], message: str) -> None:
    result = run(server, **changes)
    assert result["failed"]
    assert message in result["msg"]
    assert "Launch" not in server.asked


def test_the_implicit_asset_job_can_be_launched(server: Webserver) -> None:
    assert not run(server, job="__ASSET_JOB")["failed"]


def test_a_job_in_two_repositories_needs_the_repository(server: Webserver) -> None:
    server.jobs = {"one": ["orders_report"], "two": ["orders_report"]}
    assert "set `repository`" in run(server)["msg"]
    assert run(server, repository="two")["repository"] == "two"


def test_a_location_that_failed_to_load_is_named_with_its_error(server: Webserver) -> None:
    server.load_error = {"__typename": "PythonError", "message": "No module named x", "causes": []}
    assert "is not loaded, so it has no jobs: No module named x" in run(server)["msg"]


def test_bad_run_config_is_reported_as_dagster_says_it(server: Webserver) -> None:
    errors = [{"message": "unexpected entry a", "path": []}, {"message": "missing b", "path": []}]
    server.answers["Launch"] = {"launchRun": {"__typename": "RunConfigValidationInvalid", "errors": errors}}
    assert "\n- unexpected entry a\n- missing b" in run(server)["msg"]


def test_a_read_only_webserver_is_named(server: Webserver) -> None:
    server.answers["Launch"] = {"launchRun": {"__typename": "UnauthorizedError", "message": "no"}}
    assert "is read-only" in run(server)["msg"]


def test_failure_comes_with_its_reasons(server: Webserver) -> None:
    server.statuses = ["STARTED", "FAILURE"]
    result = run(server)
    assert result["failed"]
    assert result["msg"] == (
        "run run-1 of orders_report ended with FAILURE, expected SUCCESS. "
        'boom: Error occurred while executing op "boom": RuntimeError: asked; '
        f"see {server.url}/runs/run-1"
    )
    assert result["errors"] == [
        {"step": "boom", "error": 'Error occurred while executing op "boom":\nRuntimeError: asked'}
    ]
    assert len(result["events"]) == EVENTS_KEPT
    assert result["events"][-1] == "06:00:00 RUN_FAILURE: failed"
    (log,) = result["logs"]
    assert log["steps"] == ["boom"]
    assert log["stdout"].splitlines() == [f"out {i}" for i in range(60, 100)]
    assert log["stderr"] == "oops\n"


def test_an_expected_failure_is_a_success(server: Webserver) -> None:
    server.statuses = ["FAILURE"]
    result = run(server, expect="FAILURE")
    assert not result["failed"]
    assert result["errors"][0]["step"] == "boom"


def test_an_expected_failure_that_does_not_come_fails(server: Webserver) -> None:
    assert "ended with SUCCESS, expected FAILURE" in run(server, expect="FAILURE")["msg"]


def test_output_that_cannot_be_read_does_not_hide_the_error(server: Webserver) -> None:
    server.statuses = ["FAILURE"]
    server.lose["Captured"] = ["500"] * 5
    result = run(server)
    assert result["errors"][0]["step"] == "boom"
    assert "cannot be read" in result["logs"][0]["stderr"]


@pytest.mark.parametrize(
    ("status", "hint"), [("QUEUED", "is the daemon running"), ("STARTING", "container"), ("STARTED", "raise `timeout`")]
)
def test_a_run_that_takes_too_long_is_left_and_explained(server: Webserver, status: str, hint: str) -> None:
    server.statuses = [status]
    result = run(server, timeout=0.05)
    assert f"run run-1 is {status} after 0.05 s" in result["msg"]
    assert hint in result["msg"]
    assert result["run_id"] == "run-1"
    assert "Terminate" not in server.asked


@pytest.mark.parametrize("loss", ["sent", "502", "500"])
def test_a_launch_whose_answer_is_lost_is_adopted_and_never_sent_again(server: Webserver, loss: str) -> None:
    server.lose["Launch"] = [loss]
    result = run(server)
    assert not result["failed"]
    assert result["run_id"] == "run-1"
    assert list(server.runs) == ["run-1"]
    assert server.asked.count("Launch") == 1
    assert result["launch_id"] in result["warned"][0]


MIGRATE = "Asset checks require a database schema migration. Run `dagster instance migrate`."


@pytest.mark.parametrize(
    ("loss", "cause"),
    [
        ("500", rf"launch failed: \S+ answered 500: DagsterError: {re.escape(MIGRATE)}"),
        ("sent", "was the webserver stopped"),
    ],
)
def test_run_that_was_never_queued_has_the_cause_that_the_webserver_gave(
    server: Webserver, loss: str, cause: str
) -> None:
    """Dagster answers 500 with the exception among its data, as recorded here. The run that it has made stays."""
    launch = server.do_launch

    def refused(variables: dict[str, Any]) -> dict[str, Any]:
        launch(variables)
        return {"launchRun": {"__typename": "PythonError", "message": f"DagsterError: {MIGRATE}\n", "causes": []}}

    server.do_launch = refused
    server.lose["Launch"] = [loss]
    server.statuses = ["NOT_STARTED"]
    said = run(server, timeout=0.05)["msg"]
    assert re.search(rf"run run-1 is NOT_STARTED after .* created but never queued.*{cause}", said, re.DOTALL), said
    assert ("was the webserver stopped" in said) == (loss == "sent")


def test_run_that_appears_late_is_adopted() -> None:
    """A webserver may need a quarter of a minute for a launch whose answer is lost."""
    client, now = MagicMock(url="http://edge"), [0.0]
    client.mutate.side_effect = api.Unreachable("no answer", maybe_sent=True)
    client.query.side_effect = lambda *_asked, **_how: {
        "runsOrError": {"__typename": "Runs", "results": [{"runId": "late"}] if now[0] >= 15 else []}
    }

    def sleep(seconds: float) -> None:
        now[0] += seconds

    runner = subject.Runner(client, MagicMock(), clock=lambda: now[0], sleep=sleep)
    assert runner.launch(Target("analytics", "__repository__", "report"), {}, {}, "id") == "late"
    client.mutate.assert_called_once()


def test_tag_of_the_launch_is_ours(server: Webserver) -> None:
    result = run(server, tags={subject.LAUNCH_TAG: "somebody else's"})
    assert server.runs["run-1"] == {subject.LAUNCH_TAG: result["launch_id"]}


def test_another_run_of_the_same_job_is_not_adopted(server: Webserver) -> None:
    server.runs["other"] = {subject.LAUNCH_TAG: "somebody else's"}
    server.lose["Launch"] = ["unsent"]
    assert run(server)["failed"]


def test_a_launch_that_left_no_run_is_reported_and_never_sent_again(server: Webserver) -> None:
    server.lose["Launch"] = ["unsent"]
    result = run(server)
    assert result["failed"]
    assert server.asked.count("Launch") == 1
    assert server.runs == {}
    assert "no run with that tag exists by now. It was not sent again" in result["msg"]
    assert f"{subject.LAUNCH_TAG}={result['launch_id']}" in result["msg"]


def test_lost_connections_while_waiting_are_not_the_end(server: Webserver) -> None:
    server.lose["Status"] = ["unsent", "502", "sent"]
    assert run(server)["status"] == "SUCCESS"


def test_a_webserver_that_stays_away_is_not_taken_for_a_failed_run(server: Webserver) -> None:
    server.lose["Status"] = ["unsent"] * 1000
    result = run(server, timeout=0.1)
    assert "cannot be watched any longer" in result["msg"]
    assert result["status"] == "unknown"
    assert result["launch_id"]


def test_terminate_waits_for_the_end(server: Webserver) -> None:
    server.runs["run-1"] = {}
    server.statuses = ["STARTED"]
    result = run(server, state="terminated", run_id="run-1")
    assert (result["failed"], result["changed"], result["status"]) == (False, True, "CANCELED")


def test_terminate_again_changes_nothing(server: Webserver) -> None:
    server.runs["run-1"] = {}
    server.statuses = ["CANCELED"]
    result = run(server, state="terminated", run_id="run-1")
    assert (result["changed"], result["status"]) == (False, "CANCELED")
    assert "Terminate" not in server.asked


def test_terminate_in_check_mode_stops_nothing(server: Webserver) -> None:
    server.runs["run-1"] = {}
    server.statuses = ["STARTED"]
    assert run(server, check=True, state="terminated", run_id="run-1")["changed"] is True
    assert "Terminate" not in server.asked


def test_terminate_is_repeated_because_it_is_harmless(server: Webserver) -> None:
    server.runs["run-1"] = {}
    server.statuses = ["STARTED"]
    server.lose["Terminate"] = ["unsent", "502"]
    assert run(server, state="terminated", run_id="run-1")["status"] == "CANCELED"
    assert server.asked.count("Terminate") == 3


def test_terminate_that_the_webserver_cannot_do_names_the_engine(server: Webserver) -> None:
    server.runs["run-1"] = {}
    server.statuses = ["STARTED"]
    server.lose["Terminate"] = ["500"] * 3
    server.answers["Terminate"] = {}
    assert "dagster_docker_endpoint" in run(server, state="terminated", run_id="run-1")["msg"]


def test_a_run_that_fails_while_it_is_stopped_is_an_error(server: Webserver) -> None:
    server.runs["run-1"] = {}
    server.statuses = ["STARTED", "CANCELING", "FAILURE"]
    server.answers["Terminate"] = {"terminateRun": {"__typename": "TerminateRunSuccess"}}
    result = run(server, state="terminated", run_id="run-1")
    assert "expected CANCELED" in result["msg"]
    assert result["errors"]


def test_an_unknown_run_is_named(server: Webserver) -> None:
    assert "no run nosuch" in run(server, state="terminated", run_id="nosuch")["msg"]


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("event", "it could not store it: Error occurred while executing op"),
        ("nowhere", "the webserver does not find it where dagster_config.compute_logs says"),
        ("no", ""),
    ],
)
def test_output_of_a_good_run_has_to_be_readable(server: Webserver, lost: str, words: str) -> None:
    server.lost = lost
    assert not run(server)["failed"], "the control: nobody asked for it"
    assert "Stored" not in server.asked
    result = run(server, output="true")
    assert result["failed"] == bool(words)
    if words:
        assert "ended with SUCCESS, but what it printed cannot be read: " + words in result["msg"]
        assert result["run_id"] == "run-2"


def test_output_that_the_webserver_cannot_read(server: Webserver) -> None:
    """As with a store that is down, or a login that is none."""
    server.lost, server.lose = "no", {"Stored": ["500"] * 10}
    assert "the webserver cannot read it: " in run(server, output="true")["msg"]
