"""A stand-in for the webserver that keeps runs and can lose answers, and a module that asks it, whole."""

from __future__ import annotations

import importlib
import json
import re
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

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
        # Whether the output of a run is lost: an `event` says so, or it is `nowhere`; `no` when it is there.
        self.lost = ""
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
        if self.lost:
            events = [{**message, "__typename": "LogsCapturedEvent", "fileKey": "f1", "stepKeys": ["boom"]}]
            if self.lost == "event":
                words = "Exception while cleaning up compute log capture"
                events.append({**message, "__typename": "EngineEvent", "message": words, "error": ERROR})
            return {"logsForRun": {"__typename": "EventConnection", "cursor": "c", "hasMore": False, "events": events}}
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

    def do_stored(self, variables: dict[str, Any]) -> dict[str, Any]:
        assert variables["logKey"][1:] == ["compute_logs", "f1"]
        link = None if self.lost == "nowhere" else "/logs/run-1"
        return {
            "capturedLogs": {"stdout": "", "stderr": ""},
            "capturedLogsMetadata": {"stdoutDownloadUrl": None, "stderrDownloadUrl": link},
        }

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
