"""Passwords, names and lengths: what no reader of them would take is refused, and the text of a secret never shown."""

from __future__ import annotations

from typing import Any

import pytest
from plans import groups, plan

PASSWORDS = ("dagster_database_password", "dagster_database_run_password", "dagster_database_migration_password")


@pytest.mark.parametrize(
    "text", ["p@ss:w\\ord/%41 {x}", "{{ x }}", " ", "$#'\"", "\N{LATIN SMALL LETTER U WITH DIAERESIS}"]
)
def test_any_printable_character_is_good_in_a_password(text: str) -> None:
    for name in PASSWORDS:
        assert given(**{name: text}) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("secret-of-the-services\n", "has a newline as character 23 of 23; remove it (cat FILE"),
        ("line1\nline2", "has a newline as character 6 of 11"),
        ("a\r\n", "has a carriage return as character 2 of 3"),
        ("a\tb", "has a tab as character 2 of 3"),
        ("a\0", "has a zero byte as character 2 of 2"),
        ("a\N{LINE SEPARATOR}b", "has the control character U+2028"),
    ],
)
def test_control_characters_in_a_password(text: str, words: str) -> None:
    for name in PASSWORDS:
        (problem,) = given(**{name: text})
        assert problem.startswith(f"{name} {words}")
        assert "line1" not in problem
        assert "secret-of" not in problem


def given(**variables: Any) -> list[str]:
    from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import spec

    options = {name: option for role in spec.specs().values() for name, option in role.items()}
    return [problem for name, value in variables.items() for problem in spec.problems_of(name, value, options[name])]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("dagster_database_name", "dagster-prod", ""),
        ("dagster_database_user", "dagster@site", ""),
        ("dagster_database_run_user", "Runs.2", ""),
        ("dagster_database_run_user", "dagster run", "'_', '-', '.' and '@' are allowed"),
        ("dagster_database_name", "a/b?c", "'_', '-' and '.' are allowed"),
        ("dagster_database_name", "a@b", "'_', '-' and '.' are allowed"),
        ("dagster_database_user", "+a", "are allowed"),
        ("dagster_database_user", "x" * 63, ""),
        ("dagster_database_user", "x" * 64, "has 64 bytes; the database takes at most 63"),
        ("dagster_database_name", "x" * 70, "has 70 bytes; the database takes at most 63"),
        ("dagster_database_owner_role", "pg_owner", "keeps for itself"),
        ("dagster_database_user", "postgres", "keeps for itself"),
        ("dagster_database_name", "replication", "keeps for itself"),
        ("dagster_user", "data", ""),
        ("dagster_user", "x" * 32, ""),
        ("dagster_user", "x" * 33, "has 33 bytes; Linux takes at most 32"),
        ("dagster_group", "Data Team", "small letters"),
        ("dagster_docker_network", "data_runs.1", ""),
        ("dagster_docker_network", "a b", "is no name of a network"),
        ("dagster_docker_socket", "unix:///run/" + "x" * 102, ""),
        ("dagster_docker_socket", "unix:///run/" + "x" * 103, "has 108 bytes; the path of a socket takes at most 107"),
    ],
)
def test_names_and_their_lengths(name: str, value: str, words: str) -> None:
    found = plan(**{name: value}).problems()
    assert [problem.startswith(name) and words in problem for problem in found] == ([True] if words else [])


def test_a_server_of_ones_own_may_have_the_database_postgres() -> None:
    variables = {"dagster_database_host": "db.example.com", "dagster_daemon_fencing": "lease_only"}
    assert plan(hosts=groups(database=[]), dagster_database_name="postgres", **variables).problems() == []


def test_name_of_a_host_that_gets_a_certificate() -> None:
    long = "ctl." + "x" * 61
    for name in (long[:64], long):
        found = plan(name, hosts=groups(daemon=[name], webserver=[name])).problems()
        expected = [f"the name {name} of the host has 65 bytes; the certificate for the engine takes at most 64"]
        assert [problem for problem in found if "certificate" in problem] == (expected if name == long else [])


def test_names_of_certificates() -> None:
    assert plan(dagster_ca_certificates=["/a/site-ca.pem", "/b/other.crt"]).problems() == []
    (problem,) = plan(dagster_ca_certificates=["/a/ca.pem", "/b/ca.crt"]).problems()
    assert problem == ("dagster_ca_certificates: /a/ca.pem and /b/ca.crt would both be ca.crt on the host; rename one")
    (problem,) = plan(dagster_ca_certificates=["/a/our ca.pem"]).problems()
    assert "dagster_ca_certificates: /a/our ca.pem: 'our ca' is no name of a file" in problem
