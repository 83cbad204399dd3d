"""The replicas of a host: where they listen, and at which path they serve."""

from __future__ import annotations

from typing import Any

import pytest
from plans import FACTS, component, groups, options, plan

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.webserver import prefix_problems


def test_two_webserver_hosts() -> None:
    found = groups(webserver=["a", "b"], run=["a"])
    said = options("a", found)
    assert said["dagster_haproxy_webservers"] == ["127.0.0.1", "10.0.0.2"]
    assert said["dagster_code_publish_address"] == "10.0.0.1", (
        "the second host's webserver reaches the code server there"
    )
    assert said["dagster_code_endpoints"][0]["host"] == "10.0.0.1"
    users = ["dagster", "dagster_migration"]
    assert {"address": "10.0.0.2/32", "users": users, "tls": True} in said["dagster_postgres_clients"]
    assert options("b", found)["dagster_webserver_bind"] == "10.0.0.2"


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("", []),
        ("/a/b-c", []),
        ("/a/", ["dagster_webserver_path_prefix is '/a/'", "for example '/a'"]),
        ("a", ["dagster_webserver_path_prefix is 'a'", "for example '/a'"]),
    ],
)
def test_path_prefix(prefix: str, words: list[str]) -> None:
    variables: dict[str, Any] = {"dagster_webserver_path_prefix": prefix}
    problems = prefix_problems(variables)
    assert len(problems) == (1 if words else 0), problems
    assert all(word in problems[0] for word in words), problems
    assert plan(**variables).problems() == problems


WANTS = "/etc/systemd/system/multi-user.target.wants"


@pytest.mark.parametrize(
    ("links", "running", "gone"),
    [
        (["dagster-webserver@3000.service", "dagster-webserver@3001.service"], [], []),
        (["dagster-webserver@3002.service"], [], ["dagster-webserver@3002.service"]),  # down, until the next boot
        ([], ["dagster-webserver@3002.service"], ["dagster-webserver@3002.service"]),  # nothing starts it at boot
        (
            ["dagster-webserver@3009.service", "dagster-webserver-read-only@3000.service"],
            ["dagster-webserver@3009.service", "dagster-webserver-read-only@3009.service"],
            ["dagster-webserver-read-only@3000.service", "dagster-webserver@3009.service"],
        ),
        # Of somebody else, or of another instance.
        (["etl-webserver@3002.service"], ["dagster-webserver-mine.service", "nginx.service"], []),
    ],
)
def test_replicas_that_are_no_longer_listed(links: list[str], running: list[str], gone: list[str]) -> None:
    found = component("webserver", dagster_webserver_read_only_port=3009)
    asked = found.plan.questions()["paths"]
    assert {f"{WANTS}/dagster-webserver@*.service", f"{WANTS}/dagster-webserver-read-only@*.service"} <= set(asked)
    facts = {
        **FACTS,
        "paths": [found.mark(), *(f"{WANTS}/{name}" for name in links)],
        "listeners": [{"port": 1, "address": "127.0.0.1", "process": "x", "unit": unit} for unit in running],
    }
    assert found.handed(facts)["gone"] == gone
