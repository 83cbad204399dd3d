"""Which job the canary is, and what makes one due."""

from __future__ import annotations

from typing import Any

import pytest
from plans import fact, groups, plan

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import canary

DEFAULT = {"location": "", "job": "dagster_canary", "run_config": {}, "timeout": 120}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, DEFAULT),
        ({"dagster_canary": ""}, DEFAULT),  # a question of a survey without an answer
        ({"dagster_canary": None}, DEFAULT),
        ({"dagster_canary": {"timeout": 300}}, {**DEFAULT, "timeout": 300}),
        ({"dagster_canary": {"location": "etl"}}, {**DEFAULT, "location": "etl"}),
        ({"dagster_canary": {"location": "etl", "job": "x"}}, {**DEFAULT, "location": "etl", "job": "x"}),
        ({"dagster_canary": {}}, {}),
        ({"dagster_canary": False}, {}),
        ({"dagster_canary": "false"}, {}),
    ],
)
def test_canary_is_on_by_default(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert fact(**given)["health"]["canary"] == expected


def test_first_proxy_says_which() -> None:
    hosts = groups(proxy=["b", "a"])
    assert fact("a", hosts, {"b": {"dagster_canary": {"timeout": 9}}})["health"]["canary"]["timeout"] == 9


def test_job_of_any_location_is_refused() -> None:
    (problem,) = plan(dagster_canary={"job": "nightly"}).problems()
    assert problem.startswith("dagster_canary.job is nightly, and no location is named")
    assert canary.problems({"location": "etl", "job": "nightly"}) == canary.problems({"timeout": 3}) == []


def test_what_a_run_needs_is_stamped_on_each_host() -> None:
    hosts = groups(database=["db"], code=["run"], run=["run"], proxy=["edge"])
    found = {host: fact(host, hosts)["runs"] for host in ("a", "db", "run", "edge")}
    for path in ("dagster.yaml", "environment", "environment.secret", "pgpass", "daemon.pgpass", "gate/*/*"):
        assert f"/etc/dagster/{path}" in found["a"]["stamps"]
    assert "/opt/dagster/current" in found["a"]["stamps"]
    assert "/etc/postgresql/*/*/dagster/pg_hba.conf" in found["db"]["stamps"]
    for path in ("/etc/dagster/containers/*", "/etc/dagster/secrets/*/*", "/etc/docker/daemon.json"):
        assert path in found["run"]["stamps"]
    for path in ("/etc/systemd/system/docker.service.d/*", "/usr/local/lib/dagster/downloads"):
        assert path in found["run"]["stamps"], "the proxy of pulls"
    assert found["run"]["engine"] != ""
    assert found["edge"] == {"stamps": [], "engine": ""}, "nothing that a run needs"
