"""Sums and collisions over all components, groups that do not fit, and hosts that cannot be what they are to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from plans import LOCATION, Groups, groups, inventory, plan

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import checks
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import Port


def listener(port: int, unit: str, address: str = "127.0.0.1", process: str = "x") -> Mapping[str, Any]:
    return {"port": port, "address": address, "process": process, "unit": unit}


@pytest.mark.parametrize(
    ("hosts", "external", "words"),
    [
        (groups(), "", []),
        (groups(database=[]), "db.example.com", []),
        (groups(database=["b"], code=["c", "d"], proxy=["a", "b"]), "", []),
        (groups(code=[]), "", []),
        (groups(daemon=[]), "", ["group dagster_daemon has no host"]),
        (groups(database=["a", "b"]), "", ["group dagster_database has 2 hosts"]),
        (groups(), "db.example.com", ["dagster_database_host names an external server"]),
        (groups(database=[]), "", ["there is no database"]),
        (groups(webserver=[]), "", ["group dagster_webserver has no host"]),
        (groups(proxy=[]), "", ["group dagster_proxy has no host"]),
        (groups(run=[]), "", ["group dagster_run has 0 hosts"]),
        (groups(run=["a", "b"]), "", ["group dagster_run has 2 hosts"]),
        (groups(run=["b"]), "", []),
    ],
)
def test_groups(hosts: Groups, external: str, words: list[str]) -> None:
    problems = checks.group_problems(inventory(hosts), external)
    assert len(problems) == len(words), problems
    assert all(word in problem for word, problem in zip(words, problems, strict=True)), problems


@pytest.mark.parametrize(
    ("distribution", "release", "problems"),
    [
        ("debian", "bookworm", []),
        ("debian", "bullseye", ["the host runs debian bullseye; supported is debian bookworm"]),
        ("ubuntu", "bookworm", ["the host runs ubuntu bookworm; supported is debian bookworm"]),
    ],
)
def test_system(distribution: str, release: str, problems: list[str]) -> None:
    assert checks.system_problems({"distribution": distribution, "release": release}) == problems


def test_names_of_other_hosts() -> None:
    three = inventory(groups(database=["b"], code=["c"]))
    assert checks.names_to_resolve(three, "a") == ["c.example.com"]
    assert checks.names_to_resolve(three, "c") == []
    alone = inventory({group: ["dagster1"] for group in groups()})
    assert alone.address("dagster1") == "dagster1"
    assert checks.names_to_resolve(alone, "dagster1") == []


@pytest.mark.parametrize(
    ("clock", "words"),
    [
        (1000.5, ""),
        (1061.0, ""),
        (940.0, ""),
        (1302.0, "the host's clock is 300 s ahead of the controller's"),
        (700.0, "the host's clock is 300 s behind the controller's"),
    ],
)
def test_clock(clock: float, words: str) -> None:
    problems = checks.surroundings_problems({"time": clock}, 1000.0, 1002.0)
    assert len(problems) == bool(words)
    assert not words or problems[0].startswith(words)


def test_name_that_a_host_does_not_know() -> None:
    assert checks.surroundings_problems({"unresolved": ["ctl1"]}, 0, 1) == [
        "the host cannot resolve ctl1, another host of the inventory; give that one a dagster_address"
    ]


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({}, []),
        ({"dagster_nginx_port": "8081"}, []),
        ({"dagster_nginx_port": 0}, ["dagster_nginx_port is 0; a port is a number from 1 to 65535"]),
        (
            {"dagster_nginx_port": "3000"},
            [
                "port 3000 is set 2 times on one host: dagster_nginx_port and dagster_webserver_ports; "
                "each needs a port of its own"
            ],
        ),
        (
            {"dagster_webserver_ports": [3000, 3000]},
            [
                "port 3000 is set 2 times on one host: dagster_webserver_ports and dagster_webserver_ports; "
                "each needs a port of its own"
            ],
        ),
        # nginx on two addresses is one port all the same
        ({"dagster_nginx_listen": ["127.0.0.1", "10.0.0.1"]}, []),
    ],
)
def test_ports(changes: dict[str, Any], problems: list[str]) -> None:
    found = plan(**changes)
    assert checks.port_problems(found.ports()) == problems
    assert found.problems() == problems


def test_port_that_is_no_number() -> None:
    port = Port("http", "dagster_nginx_port", ("127.0.0.1",), "nginx.service")
    assert checks.port_problems([port]) == ["dagster_nginx_port is 'http'; a port is a number from 1 to 65535"]


@pytest.mark.parametrize(
    ("held", "changes", "problems"),
    [
        ([], {}, []),
        # a second run finds our own services
        (
            [
                listener(5432, "postgresql@15-main.service", "0.0.0.0"),
                listener(3000, "dagster-webserver@3000.service"),
                listener(8080, "nginx.service"),
                listener(4000, "docker.service"),
                listener(22, "ssh.service", "0.0.0.0"),
            ],
            {},
            [],
        ),
        (
            [listener(8080, "tomcat.service", "::", "java")],
            {},
            ["port 8080 is held by java of tomcat.service on ::; stop it or change dagster_nginx_port"],
        ),
        ([listener(8080, "tomcat.service", "10.0.0.1")], {}, []),
        (
            [listener(8080, "tomcat.service", "10.0.0.1")],
            {"dagster_nginx_listen": ["127.0.0.1", "10.0.0.1"]},
            ["port 8080 is held by x of tomcat.service on 10.0.0.1; stop it or change dagster_nginx_port"],
        ),
        (
            [listener(5432, "", "10.0.0.1", "")],
            {},
            ["port 5432 is held by another process on 10.0.0.1; stop it or change dagster_database_port"],
        ),
        # ours, but not the one that is to be there
        (
            [listener(3001, "dagster-webserver-read-only@3001.service")],
            {},
            [
                "port 3001 is held by x of dagster-webserver-read-only@3001.service on 127.0.0.1; "
                "stop it or change dagster_webserver_ports"
            ],
        ),
    ],
)
def test_taken_ports(held: list[Mapping[str, Any]], changes: dict[str, Any], problems: list[str]) -> None:
    assert checks.taken_port_problems(plan(**changes).ports(), held) == problems


# MiB of each part, as measured; two replicas of the first.
PARTS = {
    "webserver": 165,
    "daemon": 140,
    "code_location": 120,
    "docker": 125,
    "gate": 20,
    "postgres": 200,
    "run": 300,
    "system": 200,
}


def memory_problems(memory_mb: int, hosts: Groups | None = None, **variables: Any) -> list[str]:
    return checks.memory_problems(list(plan("a", hosts, **variables).components.values()), memory_mb)


def test_memory() -> None:
    whole = sum(PARTS.values()) + PARTS["webserver"]
    assert memory_problems(whole) == []
    problems = memory_problems(whole - 1)
    assert problems[0].startswith(f"the host has {whole - 1} MiB of memory, its part of the stack needs {whole} (")
    assert f"2 x webserver of {PARTS['webserver']}" in problems[0]
    assert all(f" x {part} of {each}" in problems[0] for part, each in PARTS.items())
    assert "fewer dagster_webserver_ports or a larger host" in problems[0]
    proxy = {group: ["a" if group == "dagster_proxy" else "b"] for group in groups()}
    assert memory_problems(PARTS["system"], proxy) == []
    assert memory_problems(whole + PARTS["webserver"] - 1, dagster_webserver_read_only_port="3009")


def test_live_is_a_host_that_serves() -> None:
    assert not checks.live([listener(22, "ssh.service"), listener(8080, "nginx.service")], "dagster-webserver")
    assert checks.live([listener(3000, "dagster-webserver@3000.service")], "dagster-webserver")


def test_matches_of_one_field_stand_together() -> None:
    """For journalctl those of one field are alternatives, those of two fields need a plus between them."""
    code, unit = "CONTAINER_NAME=dagster-code-", "_SYSTEMD_UNIT="
    two = [{**LOCATION, "name": name, "port": port} for name, port in (("x", 4001), ("y", 4002))]
    found = checks.journal(list(plan(dagster_code_locations=two).components.values()))
    assert found[:5] == [
        f"{code}x",
        f"{code}y",
        "+",
        f"{unit}code-health-dagster.service",
        f"{unit}dagster-daemon.service",
    ]
    assert found.count("+") == 1
