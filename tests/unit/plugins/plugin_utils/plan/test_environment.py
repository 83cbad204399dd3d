"""Environment variables that the user sets: what is refused, and in which words."""

from __future__ import annotations

from typing import Any

import pytest
from plans import LOCATION, plan

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import environment

SECRET = "hunter2-uncommon"
PEM = f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----"


def told(**variables: Any) -> list[str]:
    found: list[str] = plan(**variables).problems()
    assert not [problem for problem in found if SECRET in problem], "a sentence shows the secret"
    return found


def of_location(**changes: Any) -> list[str]:
    return told(dagster_code_locations=[{**LOCATION, **changes}])


def test_secrets_of_the_environment_are_told_by_the_name_that_the_user_wrote() -> None:
    values = {"DB_PASS": SECRET, "DATABASE_URL": f"postgresql://u:{SECRET}@db/x", "KEY_TEXT": PEM, "REGION": "eu"}
    names = [problem.split()[1] for problem in told(dagster_environment=values)]
    assert names == ["DB_PASS", "DATABASE_URL", "KEY_TEXT"]
    names = [problem.split()[1] for problem in of_location(env=values)]
    assert names == ["DB_PASS", "DATABASE_URL", "KEY_TEXT"]


@pytest.mark.parametrize(
    "context",
    [
        {"env_vars": [f"SNOWFLAKE_PASSWORD={SECRET}"]},
        {"docker": {"env_vars": [f"SNOWFLAKE_PASSWORD={SECRET}"]}},
        {"env_vars": [f"DATABASE_URL=postgresql://u:{SECRET}@db/x"]},
        {"container_kwargs": {"labels": {"api_token": SECRET}}},
    ],
)
def test_secrets_of_a_container_context(context: dict[str, Any]) -> None:
    found = of_location(container_context=context)
    assert [problem for problem in found if "put it into secret_env" in problem], found


def test_a_name_is_allowed_everywhere() -> None:
    location = {**LOCATION, "env": {"API_KEY": "x"}, "container_context": {"env_vars": ["API_KEY=x"]}}
    given = {"dagster_environment": {"API_KEY": "x"}, "dagster_code_locations": [location]}
    assert len(told(**given)) == 3
    assert told(**given, dagster_config_allow=["literal_secret:API_KEY"]) == []
    assert len(told(**given, dagster_config_allow=["literal_secret:OTHER"])) == 3


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("4096", ""),
        (4096, ""),
        ("", ""),
        ("two\nlines", ""),
        (True, "is true or false for YAML, which also reads yes and on as these; quote"),
        (1.1, "is the number 1.1 for YAML, which makes 1.1 of 1.10; quote"),
        (None, 'is empty; write "" for an empty text'),
        (["x"], "is a list; an environment variable is text"),
        ("x\n", "has a newline as character 2 of 2; remove it"),
        ("a\x1bb", "has an escape character as character 2 of 3"),
        ("a\x85b", "has the control character U+0085 as character 2 of 3"),
        ("\ud800", "has the control character U+D800"),
        ("x" * 131071, "an environment variable takes at most 131071"),
    ],
)
def test_values(value: Any, words: str) -> None:
    for where in ("dagster_environment", "dagster_secret_environment"):
        (*found,) = told(**{where: {"LEVEL": value}})
        assert [problem.startswith(f"{where}: LEVEL ") and words in problem for problem in found] == (
            [True] if words else []
        )
    for where in ("env", "secret_env"):
        (*found,) = of_location(**{where: {"LEVEL": value}})
        assert [f".{where}: LEVEL" in problem and words in problem for problem in found] == ([True] if words else [])


@pytest.mark.parametrize("name", ["A-B", "a b", "1A", "", "A=B"])
def test_names(name: str) -> None:
    for where in ("env", "secret_env"):
        (problem,) = of_location(**{where: {name: "x"}})
        assert f"dagster_code_locations[etl].{where}: {name!r} is no name of an environment variable" in problem


@pytest.mark.parametrize("name", ["PGPASSFILE", "DAGSTER_POSTGRES_USER", "DAGSTER_PROJECT_ENV_FILE_PATHS", "PATH"])
def test_secret_env_sets_nothing_of_ours(name: str) -> None:
    (problem,) = of_location(secret_env={name: "x"})
    assert problem.startswith(f"dagster_code_locations[etl].secret_env: {name} is set by the collection; remove it")


def test_secret_env_beside_env() -> None:
    assert of_location(env={"A": "x"}, secret_env={"A": "y"}) == [
        "dagster_code_locations[etl]: A is in env and in secret_env; keep one"
    ]


def test_secret_env_needs_the_loader_of_dagster() -> None:
    entries = [{**LOCATION, "secret_env": {"A": "x"}}]
    own = {"secrets": {"custom": {"module": "a", "class": "B"}}}
    assert environment.loader_problems(entries, {}) == []
    assert environment.loader_problems([LOCATION], own) == []
    (problem,) = environment.loader_problems(entries, own)
    assert problem.startswith("dagster_config.secrets names a loader of your own")
    assert "secret_env of etl" in problem


@pytest.mark.parametrize(
    "name", ["../x", "../../containers/pgpass", "snow/pw", ".env", ".", "..", "a..b", "", "a\n", "x" * 246]
)
def test_name_of_a_secret_is_no_path(name: str) -> None:
    (problem,) = of_location(secrets={name: "x"})
    assert problem.startswith("dagster_code_locations[etl].secrets: ")


def test_names_of_secrets() -> None:
    assert of_location(secrets={"db.password": "x", "-a_B": "y", "n": 5, "x" * 245: "z", "pem": PEM + "\n"}) == []
    (problem,) = of_location(secrets={"a": True})
    assert problem == "dagster_code_locations[etl].secrets: a is true or false; a secret is text, so quote it"
