"""What counts as healthy, and what an operator reads when it is not."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils._graphql import instance_info
from ansible_collections.dataops.dagster.plugins.module_utils._graphql.client import DagsterApiError, Unreachable
from ansible_collections.dataops.dagster.plugins.module_utils._graphql.instance_info import (
    Expectation,
    facts,
    judge,
    watch,
)

NOW = 1_000_000.0
VERSIONS = {f"{name}_version": "1.13.27" for name in ("dagster", "dagster_webserver", "dagster_graphql")}


def daemon(**changes: Any) -> dict[str, Any]:
    return {
        "daemonType": "SCHEDULER",
        "required": True,
        "healthy": True,
        "lastHeartbeatTime": NOW - 10,
        "lastHeartbeatErrors": [],
        **changes,
    }


def location(name: str = "analytics", **loaded: Any) -> dict[str, Any]:
    jobs = [{"name": job} for job in ("daily", "__ASSET_JOB", "dagster_canary")]
    repositories = [{"name": "r", "jobs": jobs}]
    good = {"__typename": "RepositoryLocation", "dagsterLibraryVersions": None, "repositories": repositories}
    return {
        "name": name,
        "loadStatus": "LOADED",
        "updatedTimestamp": NOW,
        "locationOrLoadError": loaded.get("loaded", good),
    }


def data(daemons: list[dict[str, Any]] | None = None, locations: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {
        "instance": {"daemonHealth": {"allDaemonStatuses": [daemon()] if daemons is None else daemons}},
        "workspaceOrError": {
            "__typename": "Workspace",
            "locationEntries": [location()] if locations is None else locations,
        },
    }


def problems(answer: dict[str, Any], **expected: Any) -> list[str]:
    return judge(facts(VERSIONS, answer, NOW), Expectation(**expected))


def test_a_healthy_deployment_has_no_problem() -> None:
    assert problems(data(), dagster_version="1.13.27", locations=("analytics",), daemons_newer_than=NOW - 11) == []


def test_facts() -> None:
    seen = facts(VERSIONS, data(), NOW)
    assert seen["versions"] == {"dagster": "1.13.27", "dagster_webserver": "1.13.27", "dagster_graphql": "1.13.27"}
    assert seen["daemons"][0]["heartbeat_age"] == 10
    assert seen["locations"][0] == {
        "name": "analytics",
        "state": "loaded",
        "updated": NOW,
        "error": "",
        "repositories": ["r"],
        "jobs": ["dagster_canary", "daily"],
        "versions": {},
    }


def test_each_version_is_compared() -> None:
    found = problems(data(), dagster_version="1.13.26")
    assert len(found) == 3
    assert found[0] == "dagster on the webserver is 1.13.27, expected 1.13.26 (dagster_version)."


@pytest.mark.parametrize(
    ("changes", "expected", "sentence"),
    [
        ({"lastHeartbeatTime": None}, {}, "has never written a heartbeat"),
        ({"lastHeartbeatTime": NOW - 76}, {}, "76 s ago, expected at most 75 s"),
        ({"lastHeartbeatTime": NOW - 31}, {"max_heartbeat_age": 30.0}, "31 s ago, expected at most 30 s"),
        ({}, {"daemons_newer_than": NOW - 9}, "1.0 s before the daemon was started"),
        ({"lastHeartbeatTime": NOW + 6}, {}, "6 s in the future"),
    ],
)
def test_a_bad_daemon_is_one_sentence(changes: dict[str, Any], expected: dict[str, Any], sentence: str) -> None:
    found = problems(data([daemon(**changes)]), **expected)
    assert len(found) == 1
    assert sentence in found[0]
    assert found[0].startswith("Daemon SCHEDULER ")


def test_an_error_that_is_repeated_for_minutes_is_no_problem_of_now() -> None:
    changes = {"healthy": False, "lastHeartbeatErrors": [{"message": "Could not reach user code server", "causes": []}]}
    assert problems(data([daemon(**changes)])) == []


@pytest.mark.parametrize("age", [75.0, -5.0])
def test_the_bounds_are_still_good(age: float) -> None:
    assert problems(data([daemon(lastHeartbeatTime=NOW - age)])) == []


def test_a_daemon_that_is_not_required_is_not_judged() -> None:
    assert problems(data([daemon(required=False, healthy=None, lastHeartbeatTime=None)])) == []


def test_locations() -> None:
    broken = {"__typename": "PythonError", "message": "No module\n named x", "causes": []}
    found = problems(
        data(locations=[location("good"), location("bad", loaded=broken), location("late", loaded=None)]),
        locations=("good", "gone"),
    )
    assert found == [
        "Code location gone is not in the workspace, expected it there (found: bad, good, late).",
        "Code location bad is not loaded: No module named x",
        "Code location late is still loading, expected it to be loaded.",
    ]


def test_a_workspace_that_cannot_be_read_is_an_error() -> None:
    answer = data()
    answer["workspaceOrError"] = {"__typename": "PythonError", "message": "bad yaml", "causes": []}
    with pytest.raises(DagsterApiError, match="bad yaml"):
        facts(VERSIONS, answer, NOW)


class Client:
    """Gives one answer a look; an exception is raised."""

    def __init__(self, *answers: Any, server_time: float | None = NOW) -> None:
        self.answers = list(answers)
        self._answer_time = server_time
        self.server_time: float | None = None

    def server_info(self) -> dict[str, str]:
        return VERSIONS

    def query(self, document: str) -> dict[str, Any]:
        assert document == instance_info.INSTANCE
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        self.server_time = self._answer_time
        return dict(answer)


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def look(client: Client, wait: float, time: Time) -> dict[str, Any]:
    return watch(client, Expectation(), wait, clock=time, sleep=time.sleep)  # type: ignore[arg-type]


def test_the_server_s_clock_counts() -> None:
    seen = instance_info.gather(Client(data()), clock=lambda: NOW + 5000)  # type: ignore[arg-type]
    assert (seen["clock"], seen["time"], seen["daemons"][0]["heartbeat_age"]) == ("server", NOW, 10)


def test_without_a_date_header_the_local_clock_counts_and_is_named() -> None:
    seen = instance_info.gather(Client(data(), server_time=None), clock=lambda: NOW + 1)  # type: ignore[arg-type]
    assert (seen["clock"], seen["daemons"][0]["heartbeat_age"]) == ("local", 11)


def test_watch_waits_until_all_is_well() -> None:
    time = Time()
    bad = data([daemon(lastHeartbeatTime=None)])
    result = look(Client(Unreachable("no answer", maybe_sent=True), bad, data()), 60, time)
    assert result["ok"] is True
    assert result["problems"] == []
    assert time.now == 4


def test_watch_ends_with_the_last_look() -> None:
    time = Time()
    result = look(Client(data([daemon(lastHeartbeatTime=None)])), 5, time)
    assert result["ok"] is False
    assert len(result["problems"]) == 1
    assert result["locations"]
    assert 5 <= time.now < 6


def test_watch_without_an_answer_says_so_instead_of_failing() -> None:
    time = Time()
    result = look(Client(DagsterApiError("answered 502", status=502)), 0, time)
    assert result == {"ok": False, "problems": ["The deployment cannot be asked: answered 502"]}
    assert time.now == 0
