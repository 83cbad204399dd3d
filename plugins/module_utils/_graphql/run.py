# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Launch, watch and stop a run through the GraphQL API."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._graphql.client import (
    DagsterApiError,
    GraphQLClient,
    Unreachable,
    error_text,
)
from ansible_collections.dataops.dagster.plugins.module_utils._graphql.report import failure_details, reasons
from ansible_collections.dataops.dagster.plugins.module_utils._graphql.target import RunProblem, Target

LAUNCH_TAG = "dataops.dagster/launch_id"
ENDED = ("SUCCESS", "FAILURE", "CANCELED")
# How long a run may take to appear after a launch whose answer was lost: longer than a webserver needs for the launch.
ADOPT_SECONDS = 20.0

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on RunConfigValidationInvalid { errors { message path } }
    ... on PythonError { message causes { message } }
    ... on Error { message }
  }
}
"""
TERMINATE = """
mutation Terminate($runId: String!) {
  terminateRun(runId: $runId, terminatePolicy: SAFE_TERMINATE) {
    __typename
    ... on TerminateRunFailure { message }
    ... on PythonError { message causes { message } }
    ... on Error { message }
  }
}
"""
RUN_BY_TAG = """
query RunByTag($filter: RunsFilter!) {
  runsOrError(filter: $filter, limit: 2) {
    __typename
    ... on Runs { results { runId } }
    ... on Error { message }
  }
}
"""
RUN = """
query Run($runId: ID!) {
  runOrError(runId: $runId) {
    __typename
    ... on Run {
      runId status jobName creationTime startTime endTime
      stepStats { stepKey status startTime endTime }
    }
    ... on Error { message }
  }
}
"""
STATUS = "query Status($runId: ID!) { runOrError(runId: $runId) { __typename ... on Run { status } } }"
STUCK = {
    "QUEUED": "It waits in the queue: is the daemon running and healthy, and do the concurrency limits leave a place?",
    "NOT_STARTED": "It was created but never queued: was the webserver stopped while it launched the run?",
    "STARTING": "Its worker does not report: look at the run's container or process and at the daemon's log.",
    "STARTED": "It is still executing: raise `timeout` if that is expected.",
    "CANCELING": "It was told to stop and has not: does its code swallow the interrupt, is its container gone?",
}


@dataclass
class Runner:
    """`clock` and `sleep` are injected, so that waiting can be tested without waiting."""

    client: GraphQLClient
    warn: Callable[[str], None]
    poll_interval: float = 2.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    # What the webserver answered to a launch that left a run all the same.
    launch_error: str = ""

    # Launch

    def launch(self, target: Target, run_config: dict[str, Any], tags: dict[str, str], launch_id: str) -> str:
        """Send the launch once and return the run's id; after a lost answer find the run by its tag and adopt it."""
        all_tags = {**tags, LAUNCH_TAG: launch_id}
        params = {
            "selector": {
                "repositoryLocationName": target.location,
                "repositoryName": target.repository,
                "jobName": target.job,
            },
            "runConfigData": run_config,
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in all_tags.items()]},
        }
        try:
            result = self.client.mutate(LAUNCH, {"params": params})["launchRun"]
        except Unreachable as error:
            if not error.maybe_sent:
                raise RunProblem(f"job {target.job} was not launched: {error}") from error
            return self._adopt(target, launch_id, error)
        except DagsterApiError as error:
            if error.status < 500:
                raise RunProblem(f"job {target.job} was not launched: {error}") from error
            # A proxy says 502 or 504 for a launch that went through, and a webserver can answer 500 after it has
            # created the run.
            self.launch_error = str(error)
            return self._adopt(target, launch_id, error)
        if result["__typename"] == "LaunchRunSuccess":
            return str(result["run"]["runId"])
        if result["__typename"] == "RunConfigValidationInvalid":
            reasons = "\n".join(f"- {item['message']}" for item in result["errors"])
            raise RunProblem(f"job {target.job} was not launched, `run_config` does not fit it:\n{reasons}")
        if result["__typename"] == "UnauthorizedError":
            raise RunProblem(
                f"job {target.job} was not launched: the webserver at {self.client.url} is read-only. Expected one "
                "that may launch runs: change `url`"
            )
        raise RunProblem(f"job {target.job} was not launched: {result['__typename']}: {error_text(result)}")

    def _adopt(self, target: Target, launch_id: str, error: Exception) -> str:
        deadline = self.clock() + ADOPT_SECONDS
        problem: Exception | None = None
        while True:
            try:
                run_id = self._by_tag(launch_id)
                problem = None
            except (Unreachable, DagsterApiError) as read_error:
                run_id, problem = None, read_error
            if run_id:
                self.warn(
                    f"the answer to the launch of {target.job} was lost ({error}); run {run_id} carries this launch's "
                    f"tag {LAUNCH_TAG}={launch_id} and is the one that is watched"
                )
                return run_id
            if self.clock() >= deadline:
                break
            self.sleep(self.poll_interval)
        found = f"asking for it failed too: {problem}" if problem else "no run with that tag exists by now"
        raise RunProblem(
            f"the launch of {target.job} got no good answer ({error}), so it may have been carried out; {found}. It "
            "was not sent again, because that could run the job twice. Before you launch again, look in "
            f"{self.client.url}/runs for a run with the tag {LAUNCH_TAG}={launch_id}",
            {"launch_id": launch_id},
        )

    def _by_tag(self, launch_id: str) -> str | None:
        variables = {"filter": {"tags": [{"key": LAUNCH_TAG, "value": launch_id}]}}
        found = self.client.query(RUN_BY_TAG, variables, attempts=1)["runsOrError"]
        if found["__typename"] != "Runs":
            raise DagsterApiError(error_text(found))
        return str(found["results"][0]["runId"]) if found["results"] else None

    # Watch

    def status(self, run_id: str, attempts: int = 5) -> str:
        run = self.client.query(STATUS, {"runId": run_id}, attempts=attempts)["runOrError"]
        if run["__typename"] != "Run":
            raise RunProblem(f"no run {run_id} at {self.client.url}, expected the id of a run of this deployment")
        return str(run["status"])

    def wait(self, run_id: str, timeout: float) -> str:
        """Poll until the run has ended. A connection that breaks meanwhile is not the run's end: keep asking."""
        deadline = self.clock() + timeout
        status, lost = "unknown", ""
        while True:
            try:
                status, lost = self.status(run_id, attempts=1), ""
            except Unreachable as error:
                lost = str(error)
            except DagsterApiError as error:
                if error.status < 500:
                    raise
                lost = str(error)
            if status in ENDED:
                return status
            if self.clock() >= deadline:
                break
            self.sleep(min(self.poll_interval, max(deadline - self.clock(), 0.05)))
        if lost:
            raise RunProblem(
                f"run {run_id} cannot be watched any longer, its last known status is {status}: {lost}. The run itself "
                f"is left alone: see {self.run_url(run_id)}",
                {"run_id": run_id, "run_url": self.run_url(run_id), "status": status},
            )
        facts = {**self.summary(run_id), **failure_details(self.client, run_id)}
        raise RunProblem(
            f"run {run_id} is {status} after {timeout:g} s, expected an end within `timeout`. {self._stuck(status)} "
            f"{reasons(facts)}It is left as it is: see {self.run_url(run_id)}",
            facts,
        )

    def _stuck(self, status: str) -> str:
        """Why a run may not go on. What the webserver said of its launch is the cause of one that was never queued."""
        if status == "NOT_STARTED" and self.launch_error:
            return f"It was created but never queued, because its launch failed: {self.launch_error}."
        return STUCK.get(status, "")

    def terminate(self, run_id: str) -> None:
        """Ask for a safe stop. Asking twice is harmless, so a lost answer is answered by asking again."""
        for attempt in range(1, 4):
            try:
                result = self.client.mutate(TERMINATE, {"runId": run_id})["terminateRun"]
            except (Unreachable, DagsterApiError) as error:
                if attempt == 3:
                    raise RunProblem(
                        f"run {run_id} could not be told to stop: {error}. The webserver stops runs itself: can it "
                        "reach the container engine (dagster_docker_endpoint)?",
                        self.summary(run_id),
                    ) from error
                self.sleep(self.poll_interval)
            else:
                if result["__typename"] == "TerminateRunSuccess":
                    return
                if self.status(run_id) in (*ENDED, "CANCELING"):
                    return  # it ended, or an earlier request whose answer was lost is being carried out
                raise RunProblem(
                    f"run {run_id} could not be stopped: {result['__typename']}: {error_text(result)}",
                    self.summary(run_id),
                )

    # Report

    def run_url(self, run_id: str) -> str:
        return f"{self.client.url}/runs/{run_id}"

    def summary(self, run_id: str) -> dict[str, Any]:
        """What is known of the run now. Used in error messages too, so a failing read must not hide the first error."""
        facts: dict[str, Any] = {"run_id": run_id, "run_url": self.run_url(run_id)}
        try:
            run = self.client.query(RUN, {"runId": run_id})["runOrError"]
        except (Unreachable, DagsterApiError) as error:
            return {**facts, "status": "unknown", "read_error": str(error)}
        if run["__typename"] != "Run":
            return {**facts, "status": "unknown", "read_error": error_text(run)}
        return {
            **facts,
            "status": run["status"],
            "job": run["jobName"],
            "duration": seconds_between(run["startTime"], run["endTime"]),
            "steps": [
                {
                    "name": step["stepKey"],
                    "status": step["status"],
                    "duration": seconds_between(step["startTime"], step["endTime"]),
                }
                for step in run["stepStats"]
            ],
        }


def tag_strings(tags: dict[str, Any]) -> dict[str, str]:
    """Dagster's tags are strings; YAML gives numbers, booleans and structures as well."""
    return {str(key): value if isinstance(value, str) else json.dumps(value) for key, value in tags.items()}


def seconds_between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round(end - start, 3)
