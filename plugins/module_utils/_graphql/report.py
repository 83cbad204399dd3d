# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Why a run ended as it did: its errors, its last events, and the end of what its steps printed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._graphql.client import (
    DagsterApiError,
    GraphQLClient,
    Unreachable,
    error_text,
)

EVENTS_KEPT = 20
LOG_LINES_KEPT = 40
EVENT_PAGE = 1000
EVENT_PAGES_MAX = 50
LOG_CHUNKS_MAX = 8

EVENTS = """
query Events($runId: ID!, $cursor: String, $limit: Int) {
  logsForRun(runId: $runId, afterCursor: $cursor, limit: $limit) {
    __typename
    ... on EventConnection {
      cursor hasMore
      events {
        __typename
        ... on MessageEvent { message timestamp level stepKey eventType }
        ... on ErrorEvent { error { message causes { message } } }
        ... on LogsCapturedEvent { fileKey stepKeys }
      }
    }
    ... on Error { message }
  }
}
"""
CAPTURED = """
query Captured($logKey: [String!]!, $cursor: String) {
  capturedLogs(logKey: $logKey, cursor: $cursor) { stdout stderr cursor }
}
"""
# A store that is asked says where the output is; null when it has none.
STORED = """
query Stored($logKey: [String!]!) {
  capturedLogs(logKey: $logKey) { stdout stderr }
  capturedLogsMetadata(logKey: $logKey) { stdoutDownloadUrl stderrDownloadUrl }
}
"""
# What Dagster says in a run that goes on without its output.
LOST = "compute log capture"


def failure_details(client: GraphQLClient, run_id: str) -> dict[str, Any]:
    """Errors of the steps and of the run, the last events, and the end of what the steps printed."""
    try:
        events = list(_events(client, run_id))
    except (Unreachable, DagsterApiError) as error:
        return {"errors": [], "events": [f"the run's events cannot be read: {error}"], "logs": []}
    return {
        "errors": errors_of(events),
        "events": [event_line(event) for event in deque(events, maxlen=EVENTS_KEPT)],
        "logs": [entry for key, steps in log_files_of(events) if (entry := _log_tail(client, run_id, key, steps))],
    }


def _events(client: GraphQLClient, run_id: str) -> Iterable[dict[str, Any]]:
    cursor: str | None = None
    for _page in range(EVENT_PAGES_MAX):
        variables = {"runId": run_id, "cursor": cursor, "limit": EVENT_PAGE}
        page = client.query(EVENTS, variables)["logsForRun"]
        if page["__typename"] != "EventConnection":
            raise DagsterApiError(error_text(page))
        yield from page["events"]
        cursor = page["cursor"]
        if not page["hasMore"]:
            return


def lost_output(client: GraphQLClient, run_id: str) -> str:
    """Why the output of a run that has ended cannot be read; empty when it can."""
    try:
        events = list(_events(client, run_id))
        for event in events:
            if event.get("__typename") == "EngineEvent" and LOST in str(event.get("message")) and event.get("error"):
                return f"it could not store it: {error_text(event['error'])}"
        for key, _steps in log_files_of(events):
            answer = client.query(STORED, {"logKey": [run_id, "compute_logs", key]})
            if not any((answer["capturedLogsMetadata"] or {}).values()):
                return "the webserver does not find it where dagster_config.compute_logs says"
    except (Unreachable, DagsterApiError) as error:
        return f"the webserver cannot read it: {error}"
    return ""


def _log_tail(client: GraphQLClient, run_id: str, file_key: str, steps: list[str]) -> dict[str, Any] | None:
    tails = {"stdout": "", "stderr": ""}
    cursor: str | None = None
    try:
        for _chunk in range(LOG_CHUNKS_MAX):
            variables = {"logKey": [run_id, "compute_logs", file_key], "cursor": cursor}
            chunk = client.query(CAPTURED, variables)["capturedLogs"]
            for name in tails:
                tails[name] = last_lines(tails[name] + (chunk[name] or ""), LOG_LINES_KEPT)
            if not (chunk["stdout"] or chunk["stderr"]) or chunk["cursor"] == cursor:
                break
            cursor = chunk["cursor"]
    except (Unreachable, DagsterApiError) as error:
        # With a log store that is down the API answers 500; the run's own error is what matters here.
        return {"steps": steps, "stdout": "", "stderr": f"the captured output cannot be read: {error}"}
    if not any(tails.values()):
        return None
    return {"steps": steps, **tails}


def errors_of(events: list[dict[str, Any]]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    # What the launcher or the daemon could not do, such as a network that the engine does not have. The run's own event
    # only says that it failed from outside.
    outside: list[dict[str, str]] = []
    for event in events:
        if event.get("__typename") == "EngineEvent" and event.get("error"):
            outside.append({"step": "", "error": error_text(event["error"])})
        # A retried step's error is not the reason of the run's end, so only final failures count.
        if event.get("__typename") in ("ExecutionStepFailureEvent", "RunFailureEvent", "ResourceInitFailureEvent"):
            error = event.get("error")
            text = error_text(error) if error else str(event.get("message") or "")
            found.append({"step": event.get("stepKey") or "", "error": text})
    by_step = [item for item in found if item["step"]]
    # The run's own failure event repeats "Steps failed: [...]", of use only if no step says why.
    return by_step or [*outside, *(item for item in found if item["error"])]


def unexpected_end(facts: dict[str, Any], expected: str) -> str:
    """One line; the whole errors, the events and the output are returned beside it."""
    return (
        f"run {facts['run_id']} of {facts['job']} ended with {facts['status']}, expected {expected}. "
        f"{reasons(facts)}see {facts['run_url']}"
    )


def reasons(facts: dict[str, Any]) -> str:
    """The first errors of a run, ready for more text behind them."""
    found = facts.get("errors", [])[:3]
    return "".join(f"{item['step'] or 'run'}: {' '.join(item['error'].split())[:500]}; " for item in found)


def log_files_of(events: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """File keys of captured output, those of failed steps if there are any."""
    failed = {event.get("stepKey") for event in events if event.get("__typename") == "ExecutionStepFailureEvent"}
    files = [
        (event["fileKey"], event.get("stepKeys") or [])
        for event in events
        if event.get("__typename") == "LogsCapturedEvent"
    ]
    return [entry for entry in files if failed & set(entry[1])] or files


def event_line(event: dict[str, Any]) -> str:
    try:
        moment = datetime.fromtimestamp(int(event["timestamp"]) / 1000, UTC).strftime("%H:%M:%S")
    except (KeyError, TypeError, ValueError):
        moment = "--:--:--"
    kind = event.get("eventType") or event.get("level") or ""
    step = f" {event['stepKey']}" if event.get("stepKey") else ""
    message = " ".join(str(event.get("message") or "").split())
    return f"{moment} {kind}{step}: {message[:500]}"


def last_lines(text: str, count: int) -> str:
    return "".join(text.splitlines(keepends=True)[-count:])
