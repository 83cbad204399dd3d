"""Secrets that stand in a configuration as text."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import pytest
from support import GOOD

from ansible_collections.dataops.dagster.plugins.module_utils import _secrets as subject
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator import dotted
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.write import render


def with_value(path: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    node = config
    for part in parents:
        node = node.setdefault(part, {})
    node[last] = value
    return config


class Found(NamedTuple):
    path: str
    found: str
    expected: str


def problems(config: Any) -> list[Found]:
    return [Found(dotted(path), found, expected) for path, found, expected in subject.literal_secrets(config)]


def paths(config: Any) -> list[str]:
    return [problem.path for problem in problems(config)]


SECRET = "hunter2-uncommon"


@pytest.mark.parametrize(
    "path",
    [
        "storage.postgres.postgres_db.password",
        "run_launcher.config.registry.password",
        "compute_logs.config.access_key_or_sas_token",
        "compute_logs.config.secret_credential.client_secret",
        "defs_state_storage.config.storage_options.secret",
        "defs_state_storage.config.storage_options.connection_string",
        "defs_state_storage.config.storage_options.accountKey",
        "run_launcher.config.container_kwargs.labels.api-token",
        "auto_materialize.run_tags.DB_PASSWORD",
    ],
)
def test_literal_secret_is_refused_and_not_shown(path: str) -> None:
    config = with_value(path, SECRET)
    (problem,) = problems(config)
    assert problem.path == path
    assert "env: NAME" in problem.expected
    assert SECRET not in str(problem)
    assert SECRET not in str(subject.redacted(config))
    assert problems(with_value(path, {"env": "SOME_NAME"})) == []


def test_redacted_changes_nothing_else() -> None:
    assert subject.redacted(GOOD) == GOOD
    config = with_value("run_launcher.config.registry", {"url": "r.example", "username": "u", "password": SECRET})
    clean = subject.redacted(config)
    assert clean["run_launcher"]["config"]["registry"] == {
        "url": "r.example",
        "username": "u",
        "password": subject.REMOVED,
    }
    assert config["run_launcher"]["config"]["registry"]["password"] == SECRET


def test_postgres_password_names_pgpassfile() -> None:
    assert "PGPASSFILE" in problems(with_value("storage.postgres.postgres_db.password", SECRET))[0].expected


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://dagster:{SECRET}@db:5432/dagster",
        f"mysql+mysqlconnector://u:{SECRET}@db/dagster",
        f"pyamqp://guest:{SECRET}@rabbitmq:5672//",
        f"redis://:{SECRET}@redis:6379/0",
        f"postgresql://u:p/{SECRET}@db/dagster",
        f"postgresql://db/dagster?user=u&password={SECRET}",
        f"host=db user=u password={SECRET}",
    ],
)
def test_password_in_a_url(url: str) -> None:
    config = with_value("run_launcher.config.some_address", url)
    (problem,) = problems(config)
    assert problem.path == "run_launcher.config.some_address"
    assert SECRET not in str(problem)
    assert SECRET not in str(subject.redacted(config))


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://dagster@db:5432/dagster",
        "pyamqp://guest@rabbitmq:5672//",
        "https://example.org:8443/a@b",
        "docker://registry:5000/image@sha256:abc",
        "postgresql://dagster:@db/dagster",
    ],
)
def test_url_without_password(text: str) -> None:
    assert problems(with_value("run_launcher.config.some_address", text)) == []


@pytest.mark.parametrize(
    "entry", [f"DB_PASSWORD={SECRET}", f"AWS_SECRET_ACCESS_KEY={SECRET}", f"URL=amqp://u:{SECRET}@h"]
)
def test_env_vars_entry_with_a_secret(entry: str) -> None:
    config = with_value("run_launcher.config.env_vars", ["PLAIN=1", entry])
    (problem,) = problems(config)
    assert problem.path == "run_launcher.config.env_vars[1]"
    assert SECRET not in str(problem)
    clean = subject.redacted(config)["run_launcher"]["config"]["env_vars"]
    assert clean[0] == "PLAIN=1"
    assert clean[1].startswith(entry.split("=")[0] + "=")
    assert SECRET not in clean[1]


@pytest.mark.parametrize("entry", ["DB_PASSWORD", "DB_PASSWORD_FILE=/run/secrets/db", "PGPASSFILE=/x", "DB_PASSWORD="])
def test_env_vars_entry_without_a_secret(entry: str) -> None:
    assert problems(with_value("run_launcher.config.env_vars", [entry])) == []


def test_kubernetes_env_list() -> None:
    env = [{"name": "MODE", "value": "x"}, {"name": "DB_PASSWORD", "value": SECRET}]
    config = with_value("run_launcher.config.run_k8s_config.container_config.env", env)
    assert paths(config) == ["run_launcher.config.run_k8s_config.container_config.env[1].value"]
    assert SECRET not in str(subject.redacted(config))


def test_secret_written_as_a_number() -> None:
    assert paths(with_value("storage.postgres.postgres_db.password", 12345)) == [
        "storage.postgres.postgres_db.password"
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("json_credentials_envvar", "MY_JSON"),
        ("postgres_password_secret", "name"),
        ("image_pull_secrets", ["name"]),
        ("env_secrets", ["a"]),
        ("secrets_tag", "dagster"),
        ("max_tokens", 5),
        ("use_token", True),
        ("password", ""),
        ("password", None),
        ("key", "database"),
        ("secretName", "a"),
        ("monkey", "b"),
    ],
)
def test_names_of_secrets_are_no_secrets(key: str, value: Any) -> None:
    assert problems(with_value(f"run_launcher.config.{key}", value)) == []


def test_masked_hides_what_a_human_wrote() -> None:
    text = (
        f'storage:\n  password: {SECRET}\n  url: "pg://u:{SECRET}@h/d"\n  username: u\n'
        f"env_vars:\n  - DB_PASSWORD={SECRET}\n  - A=b\n  password:\n    env: NAME\n"
    )
    shown = subject.masked(text)
    assert SECRET not in shown
    for kept in ("username: u", "- A=b", "env: NAME", "pg://u:", "@h/d"):
        assert kept in shown
    assert subject.masked(render(GOOD)) == render(GOOD)


def test_a_name_that_is_no_secret_is_allowed_wherever_it_stands() -> None:
    config = with_value(
        "run_launcher.config.env_vars", [f"API_KEY={SECRET}", f"OTHER_KEY={SECRET}", f"API_TOKEN={SECRET}"]
    )
    config["run_launcher"]["config"]["registry"] = {"url": "r", "username": "u", "api_key": SECRET}
    found = [dotted(path) for path, _found, _expected in subject.literal_secrets(config, {"API_KEY", "api_key"})]
    assert found == ["run_launcher.config.env_vars[2]"]
    assert SECRET not in str(subject.redacted(config)["run_launcher"]["config"]["registry"])


@pytest.mark.parametrize(
    "text",
    [
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}",
        f"ghp_{SECRET}",
        f"DefaultEndpointsProtocol=https;AccountKey={SECRET}",
        f"https://hooks.slack.com/services/{SECRET}",
    ],
)
def test_secret_known_by_its_form(text: str) -> None:
    assert subject.is_secret("PLAIN", text)
    assert SECRET not in str(subject.redacted(with_value("run_launcher.config.some_text", text)))


@pytest.mark.parametrize(
    ("name", "value"),
    [("USE_TOKEN", "true"), ("MODEL_TOKENS", "4096"), ("URL", "pg://u:${PW}@h/x"), ("API_TOKEN", ""), ("A", None)],
)
def test_values_that_are_no_secrets(name: str, value: Any) -> None:
    assert not subject.is_secret(name, value)
