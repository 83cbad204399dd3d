"""Addresses of an inventory: each reader gets its form, and a host has what it shall listen on."""

from __future__ import annotations

from typing import Any

import pytest
from plans import FACTS, groups, options, plan

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import addresses as subject

THERE = {**FACTS, "addresses": ["10.0.0.1", "127.0.0.1", "172.30.0.1", "::1", "fd00::1"]}
NONLOCAL = {"texts": {"/proc/sys/net/ipv4/ip_nonlocal_bind": "1\n"}}


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("dagster_nginx_listen", "10.0.0.5", ""),
        ("dagster_nginx_listen", "[fd00::5]", ""),
        ("dagster_nginx_listen", "localhost", ""),
        ("dagster_nginx_listen", "10.0.0.5:80", "write 10.0.0.5 alone, the port 80 belongs in dagster_nginx_port"),
        ("dagster_nginx_listen", "[::]:80", "write :: alone, the port 80 belongs in dagster_nginx_port"),
        ("dagster_nginx_listen", "10.0.0.5, 10.0.0.6", "give a list of addresses"),
        ("dagster_nginx_listen", "10.0.0.5/24", "write the address or name of the host alone"),
        ("dagster_nginx_listen", "unix:/run/x.sock", "write the address or name of the host alone"),
        ("dagster_nginx_listen", "10.0.0.500", "no address and no name of a host"),
        ("dagster_nginx_listen", "fe80::1%eth0", "means something on one interface alone"),
        ("dagster_webserver_bind", "[fd00::5]", "write it without brackets: fd00::5"),
        ("dagster_database_host", "fd00::5", ""),
        ("dagster_database_host", "db_1.example.com", ""),
        ("dagster_database_host", "db.example.com:6432", "the port 6432 belongs in dagster_database_port"),
        ("dagster_database_host", "a,b", "it is one address"),
        ("dagster_database_host", "/run/postgresql", "write the address or name of the host alone"),
        ("dagster_database_host", "postgresql://u:secret@db/x", "write the address or name of the host alone"),
    ],
)
def test_form(variable: str, text: str, said: str) -> None:
    found = subject.form_problem(variable, text)
    assert said in found if said else found == ""
    assert "secret" not in found
    assert not found or found.startswith(variable)


def test_all_problems_at_once_and_each_once() -> None:
    found = plan(
        hosts=groups(database=[]),
        dagster_daemon_fencing="lease_only",
        dagster_nginx_listen=["10.0.0.5:80", "[::1]", "fe80::1%eth0"],
        dagster_webserver_bind="[fd00::1]",
        dagster_database_host="[db.example.com]",
    ).problems()
    assert [text.partition(" is ")[0] for text in found] == [
        "dagster_database_host",
        "dagster_nginx_listen",
        "dagster_nginx_listen",
        "dagster_webserver_bind",
    ]


@pytest.mark.parametrize(
    ("listen", "both", "url"),
    [
        ("::", True, "http://127.0.0.1:8080"),
        ("[::]", True, "http://127.0.0.1:8080"),
        (["::", "fd00::1"], True, "http://127.0.0.1:8080"),
        (["::", "0.0.0.0"], False, "http://127.0.0.1:8080"),
        (["::", "10.0.0.1"], False, "http://[::1]:8080"),
        (["10.0.0.1", "::"], False, "http://10.0.0.1:8080"),
        ("[fd00::1]", False, "http://[fd00::1]:8080"),
        ("*", False, "http://127.0.0.1:8080"),
    ],
)
def test_where_nginx_listens_and_is_asked(listen: Any, both: bool, url: str) -> None:
    """Beside an address of IPv4 nginx could not bind :: for both families."""
    found = plan(dagster_nginx_listen=listen).as_fact(THERE)["proxy"]
    assert found["both_families"] is both
    assert found["url"] == url
    assert not [address for address in found["listen"] if "[" in address]


def test_ipv6_between_hosts() -> None:
    """Dagster makes a URL of the database's address; the guard's library takes it as it is."""
    each = {"a": {"ansible_host": "fd00::1"}, "b": {"ansible_host": "fd00::2"}}
    hosts = groups(database=["b"], proxy=["b"])
    deployment = plan("a", hosts, each)
    found = deployment.as_fact(THERE)
    assert found["options"]["dagster_database_host"] == "fd00::2"
    assert found["instance"]["environment"]["DAGSTER_POSTGRES_HOST"] == "[fd00::2]"
    assert found["options"]["dagster_webserver_bind"] == "fd00::1"
    clients = options("b", hosts, each)["dagster_postgres_clients"]
    assert "fd00::1/128" in [client["address"] for client in clients]
    # The way of containers, which have IPv4 only.
    (said,) = deployment.problems()
    assert "a have IPv4 only" in said
    assert "from fd00::1 at fd00::2; give both hosts an IPv4 dagster_address" in said


def test_containers_and_a_server_that_has_ipv6_only() -> None:
    external = {"dagster_database_host": "fd00::5", "dagster_daemon_fencing": "lease_only"}
    (said,) = plan(hosts=groups(database=[]), **external).problems()
    assert "set dagster_database_run_host to an IPv4 address" in said
    assert plan(hosts=groups(database=[]), **external, dagster_database_run_host="db.example.com").problems() == []


@pytest.mark.parametrize(
    ("variables", "facts", "said"),
    [
        ({"dagster_nginx_listen": "10.0.0.1"}, {}, []),
        ({"dagster_nginx_listen": "127.0.0.2"}, {}, []),
        ({"dagster_nginx_listen": "fd00:0::1"}, {}, []),
        ({"dagster_nginx_listen": "::"}, {}, []),
        (
            {"dagster_nginx_listen": "[::]"},
            {"addresses": ["10.0.0.1", "127.0.0.1"]},
            ["dagster_nginx_listen is ::, and the host has no IPv6; set it to 0.0.0.0"],
        ),
        (
            {"dagster_nginx_listen": "10.0.0.9"},
            {},
            [
                "dagster_nginx_listen is 10.0.0.9, and the host has no such address; it has 10.0.0.1, 172.30.0.1, "
                "fd00::1"
            ],
        ),
        # A shared address of the user's own comes and goes; only our own setting lets servers listen before.
        ({"dagster_nginx_listen": "10.0.0.9"}, NONLOCAL, []),
        ({"dagster_nginx_listen": "10.0.0.9"}, {**NONLOCAL, "paths": ["/etc/sysctl.d/60-dagster-postgres.conf"]}, [1]),
        ({"dagster_nginx_listen": "fd00::9"}, NONLOCAL, [1]),
    ],
)
def test_an_address_is_one_of_the_host(variables: dict[str, Any], facts: dict[str, Any], said: list[Any]) -> None:
    every = plan(**variables).host_problems({**THERE, **facts}, 0, 0)
    found = [text for text in every if text.startswith("dagster_nginx_listen")]
    assert len(found) == len(said)
    assert found == said or said == [1]


def test_an_address_of_another_host_is_refused_whatever_the_kernel_lets_in() -> None:
    facts = {**THERE, **NONLOCAL}
    (said,) = plan("a", groups(proxy=["a", "b"]), dagster_nginx_listen="10.0.0.2").host_problems(facts, 0, 0)
    assert "the host has no such address (it is that of b)" in said


def test_a_host_behind_another_address() -> None:
    """Others reach it at one that its router has. What listens for them would not start."""
    each = {"a": {"ansible_host": "198.51.100.7"}}
    found = plan("a", groups(proxy=["b"]), each).host_problems(THERE, 0, 0)
    assert len(found) == 1, found
    assert found[0].startswith("dagster_webserver_bind would be 198.51.100.7, by which other hosts know this one")
    assert "Set dagster_address to one of these" in found[0]


def test_addresses_that_other_hosts_cannot_use() -> None:
    each = {"a": {"dagster_address": "10.0.0.1:22"}, "b": {"ansible_host": "127.0.0.1"}}
    found = plan("a", groups(proxy=["b"]), each).problems()
    assert any(text.startswith("a: dagster_address is 10.0.0.1:22; write 10.0.0.1 alone") for text in found)
    assert any(text.startswith("b is known as 127.0.0.1, where each other host finds itself") for text in found)


def test_a_code_server_is_published_at_an_address() -> None:
    every = plan("c", groups(code=["c"], run=["c"])).problems()
    (said,) = [text for text in every if text.startswith("dagster_code_publish_address")]
    assert "Docker publishes a code server at an address, not at a name" in said
    assert "dagster_address of c" in said
