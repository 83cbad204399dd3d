"""dagster_run and instance_info, whole, against a stand-in for the webserver that keeps runs and can lose answers."""

from __future__ import annotations

import importlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import MagicMock

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

from ansible_collections.dataops.dagster.plugins.module_utils._graphql import client as api
from ansible_collections.dataops.dagster.plugins.module_utils._graphql import run as subject

BASE = "ansible_collections.dataops.dagster.plugins.modules."
ERROR = {"message": 'Error occurred while executing op "boom":\n', "causes": [{"message": "RuntimeError: asked\n"}]}


class Webserver(ThreadingHTTPServer):
    """Runs go through `statuses`, one a question. `lose` names operations whose next answer is lost, and how."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses = ["QUEUED", "STARTED", "SUCCESS"]
        self.runs: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        self.variables: dict[str, Any] = {}
        # operation -> "unsent" (lost before it was carried out), "sent" (carried out, then lost) or an HTTP status
        self.lose: dict[str, list[str]] = {}
        self.answers: dict[str, Any] = {}
        self.load_error: dict[str, Any] | None = None
        self.jobs = {"__repository__": ["orders_report", "daily_orders", "__ASSET_JOB"]}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def carry_out(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        if operation in self.answers:
            return dict(self.answers[operation])
        method = getattr(self, f"do_{operation.lower()}")
        return dict(method(variables))

    def status(self) -> str:
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    def do_repositories(self, _variables: dict[str, Any]) -> dict[str, Any]:
        loaded = self.load_error or {"__typename": "RepositoryLocation"}
        repositories = [
            {"name": name, "location": {"name": "analytics"}, "jobs": [{"name": job} for job in jobs]}
            for name, jobs in self.jobs.items()
        ]
        return {
            "repositoriesOrError": {"__typename": "RepositoryConnection", "nodes": repositories},
            "workspaceOrError": {
                "__typename": "Workspace",
                "locationEntries": [{"name": "analytics", "locationOrLoadError": loaded}],
            },
        }

    def do_launch(self, variables: dict[str, Any]) -> dict[str, Any]:
        run_id = f"run-{len(self.runs) + 1}"
        tags = variables["params"]["executionMetadata"]["tags"]
        self.runs[run_id] = {tag["key"]: tag["value"] for tag in tags}
        return {"launchRun": {"__typename": "LaunchRunSuccess", "run": {"runId": run_id}}}

    def do_runbytag(self, variables: dict[str, Any]) -> dict[str, Any]:
        (tag,) = variables["filter"]["tags"]
        found = [{"runId": name} for name, tags in self.runs.items() if tags.get(tag["key"]) == tag["value"]]
        return {"runsOrError": {"__typename": "Runs", "results": found}}

    def do_status(self, variables: dict[str, Any]) -> dict[str, Any]:
        if variables["runId"] not in self.runs:
            return {"runOrError": {"__typename": "RunNotFoundError"}}
        return {"runOrError": {"__typename": "Run", "status": self.status()}}

    def do_run(self, variables: dict[str, Any]) -> dict[str, Any]:
        step = {"stepKey": "boom", "status": self.statuses[0], "startTime": 10.0, "endTime": 12.5}
        return {
            "runOrError": {
                "__typename": "Run",
                "runId": variables["runId"],
                "status": self.statuses[0],
                "jobName": "orders_report",
                "creationTime": 8.0,
                "startTime": 9.0,
                "endTime": 13.0,
                "stepStats": [step],
            }
        }

    def do_terminate(self, _variables: dict[str, Any]) -> dict[str, Any]:
        self.statuses = ["CANCELING", "CANCELED"]
        return {"terminateRun": {"__typename": "TerminateRunSuccess"}}

    def do_events(self, variables: dict[str, Any]) -> dict[str, Any]:
        message: dict[str, Any] = {
            "timestamp": "1795500000000",
            "level": "INFO",
            "message": "",
            "stepKey": None,
            "eventType": None,
        }
        if variables["cursor"] is None:
            events = [{**message, "__typename": "LogMessageEvent", "message": f"line {i}"} for i in range(30)]
            events.append({**message, "__typename": "LogsCapturedEvent", "fileKey": "f1", "stepKeys": ["boom"]})
            events.append({**message, "__typename": "LogsCapturedEvent", "fileKey": "f2", "stepKeys": ["other"]})
            return {"logsForRun": {"__typename": "EventConnection", "cursor": "c1", "hasMore": True, "events": events}}
        events = [
            {**message, "__typename": "ExecutionStepFailureEvent", "stepKey": "boom", "error": ERROR},
            {
                **message,
                "__typename": "RunFailureEvent",
                "eventType": "RUN_FAILURE",
                "message": "failed",
                "error": None,
            },
        ]
        return {"logsForRun": {"__typename": "EventConnection", "cursor": "c2", "hasMore": False, "events": events}}

    def do_captured(self, variables: dict[str, Any]) -> dict[str, Any]:
        assert variables["logKey"] == ["run-1", "compute_logs", "f1"]
        if variables["cursor"] is None:
            stdout = "".join(f"out {i}\n" for i in range(100))
            return {"capturedLogs": {"stdout": stdout, "stderr": "oops\n", "cursor": "1"}}
        return {"capturedLogs": {"stdout": "", "stderr": None, "cursor": "1"}}


class Handler(BaseHTTPRequestHandler):
    server: Webserver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        named = re.search(r"(?:query|mutation) (\w+)", body["query"])
        assert named
        operation = named[1]
        self.server.asked.append(operation)
        self.server.variables[operation] = body["variables"]
        losses = self.server.lose.get(operation) or [""]
        loss = losses.pop(0)
        if loss == "unsent":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        answer = json.dumps({"data": self.server.carry_out(operation, body["variables"])}).encode()
        if loss == "sent":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(int(loss or 200))
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


class Stop(BaseException):
    """exit_json or fail_json was called. Like the SystemExit that it stands for, not an Exception."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webserver]:
    monkeypatch.setattr(api, "READ_PAUSE", 0.0)
    monkeypatch.setattr(subject, "ADOPT_SECONDS", 0.1)
    stub = Webserver()
    threading.Thread(target=stub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield stub
    stub.shutdown()
    stub.server_close()


def run(server: Webserver, *, check: bool = False, module: str = "dagster_run", **changes: Any) -> dict[str, Any]:
    """The module's answer; `failed` says whether it failed, `warned` what it warned of."""
    answer: dict[str, Any] = {}
    warned: list[str] = []

    def stop(failed: bool) -> Any:
        def end(_self: Any, **result: Any) -> None:
            answer.update(result, failed=failed)
            raise Stop

        return end

    arguments: dict[str, Any] = {"url": server.url, "_ansible_check_mode": check, **changes}
    if module == "dagster_run":
        arguments.setdefault("poll_interval", "0.01")
        if arguments.get("state") != "terminated":
            arguments.setdefault("location", "analytics")
            arguments.setdefault("job", "orders_report")
    with pytest.MonkeyPatch.context() as patch, patch_module_args(arguments):
        patch.setattr(basic.AnsibleModule, "exit_json", stop(False))
        patch.setattr(basic.AnsibleModule, "fail_json", stop(True))
        patch.setattr(basic.AnsibleModule, "warn", lambda _self, text: warned.append(text))
        with pytest.raises(Stop):
            importlib.import_module(BASE + module).main()
    return {**answer, "warned": warned}


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
    assert len(result["events"]) == subject.EVENTS_KEPT
    assert result["events"][-1] == "06:00:00 RUN_FAILURE: failed"
    (log,) = result["logs"]
    assert log["steps"] == ["boom"]
    assert log["stdout"].splitlines() == [f"out {i}" for i in range(60, 100)]
    assert log["stderr"] == "oops\n"


def test_without_a_failed_step_all_output_is_of_interest() -> None:
    captured = {"__typename": "LogsCapturedEvent", "fileKey": "f", "stepKeys": None}
    assert subject.log_files_of([captured]) == [("f", [])]


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
    assert runner.launch(subject.Target("analytics", "__repository__", "report"), {}, {}, "id") == "late"
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
    ("changes", "message"),
    [({"url": "h:1"}, "url is 'h:1'"), ({"url": "https://h", "ca_path": "/nosuch"}, "ca_path cannot be read")],
)
def test_bad_connection_options_are_one_sentence(server: Webserver, changes: dict[str, Any], message: str) -> None:
    for module in ("dagster_run", "instance_info"):
        assert message in run(server, module=module, **changes)["msg"]


def test_instance_info_without_expectation_refuses_to_wait(server: Webserver) -> None:
    assert "need expect" in run(server, module="instance_info", wait="5")["msg"]


def test_instance_info_reports_problems_and_fails_only_when_told(server: Webserver) -> None:
    # The stand-in knows no GET: its 501 is a deployment that cannot be asked.
    result = run(server, module="instance_info", expect={"max_heartbeat_age": "75"})
    assert (result["failed"], result["ok"], len(result["problems"])) == (False, False, 1)
    result = run(server, module="instance_info", expect={}, fail_on_problems="true")
    assert result["failed"]
    assert "is not healthy: The deployment cannot be asked" in result["msg"]


def test_instance_info_judges_by_each_of_its_expectations(monkeypatch: pytest.MonkeyPatch, server: Webserver) -> None:
    module = importlib.import_module(BASE + "instance_info")
    judged: list[Any] = []

    def watch(_client: Any, expected: Any, wait: float, poll_interval: float) -> dict[str, Any]:
        judged.append((expected, wait, poll_interval))
        return {"ok": True, "problems": []}

    monkeypatch.setattr(module, "watch", watch)
    expect = {"dagster_version": "1.2.3", "locations": ["a"], "daemons_newer_than": 1000.5, "max_heartbeat_age": 33}
    run(server, module="instance_info", expect=expect, wait=7, poll_interval=3)
    assert judged == [(module.Expectation("1.2.3", ("a",), 1000.5, 33.0), 7.0, 3.0)]
    run(server, module="instance_info", expect={}, wait=7)
    assert judged[1:] == [(module.Expectation("", (), 0.0, 75.0), 7.0, 2.0)]


def test_instance_info_is_given_the_hosts_of_the_daemon(monkeypatch: pytest.MonkeyPatch, server: Webserver) -> None:
    """In check mode one that does not run may be new, one that cannot be asked is not."""
    module = importlib.import_module(BASE + "instance_info")
    judged: list[Any] = []

    def watch(_client: Any, expected: Any, _wait: float, poll_interval: float) -> dict[str, Any]:
        assert poll_interval
        judged.append([host.name for host in expected.daemon_hosts])
        return {"ok": True, "problems": []}

    monkeypatch.setattr(module, "watch", watch)
    hosts = [
        {"name": "a", "started": 7, "status": "active: daemon runs"},
        {"name": "b"},
        {"name": "c", "error": "no route"},
    ]
    for check in (False, True):
        run(server, check=check, module="instance_info", expect={"daemon_hosts": hosts})
    assert judged == [["a", "b", "c"], ["a", "c"]]


def test_what_the_launcher_could_not_do_is_the_reason() -> None:
    """The run's own event only says that it failed from outside."""
    outside = {"__typename": "EngineEvent", "error": {"message": "network dagster not found", "causes": []}}
    said = {"__typename": "EngineEvent", "error": None}
    own = {"__typename": "RunFailureEvent", "error": None, "message": "marked as failed from outside"}
    found = subject.errors_of([said, outside, own])
    assert [item["error"] for item in found] == ["network dagster not found", "marked as failed from outside"]
    step = {"__typename": "ExecutionStepFailureEvent", "stepKey": "boom", "error": ERROR}
    assert [item["step"] for item in subject.errors_of([outside, step, own])] == ["boom"]
    facts = {"run_id": "r", "job": "j", "status": "FAILURE", "run_url": "u", "errors": found}
    assert "run: network dagster not found; run: marked" in subject.unexpected_end(facts, "SUCCESS")
