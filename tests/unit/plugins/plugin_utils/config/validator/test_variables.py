"""What looks like an environment variable and is none."""

from __future__ import annotations

from typing import Any

import pytest
from findings import findings

from ansible_collections.dataops.dagster.plugins.plugin_utils.config import validator as subject
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator.report import Finding

DOCKER = "run_launcher: {module: dagster_docker, class: DockerRunLauncher, config: X}"


def of_kind(name: str, text: str, kind: str = "dagster") -> list[Finding]:
    return [finding for finding in findings(text, kind) if finding.name == name]


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ("{network: '${NET}'}", "write {env: NET}"),
        ("{network: $NET}", "write {env: NET}"),
        ("{network: '${NET:-bridge}'}", "write {env: NET}, which has no default"),
        ("{networks: ['a-${NET}']}", "a variable stands alone: write {env: NAME}, and let NAME hold the whole text"),
        ("{env_vars: ['A=${A}']}", "write A, the name alone"),
        ("{env_vars: ['A=${B}']}", "write A, the name alone"),
        ("{env_vars: ['${B}']}", "write B, the name alone"),
        ("{container_kwargs: {volumes: ['${HOME}/x:/x']}}", "write the value: Dagster looks up no variable here"),
        ("{container_kwargs: {labels: {a: '${X}'}}}", "write the value: Dagster looks up no variable here"),
    ],
)
def test_a_variable_of_a_shell_stays_text(options: str, hint: str) -> None:
    (found,) = of_kind("shell_variable", DOCKER.replace("X", options, 1))
    assert "it stays text" in found.message
    assert found.hint.startswith(hint)


@pytest.mark.parametrize(
    "text",
    [
        DOCKER.replace("X", "{container_kwargs: {entrypoint: [sh, -c, 'exec ${PROGRAM}']}}", 1),
        "python_logs: {dagster_handler_config: {formatters: {f: {format: '${message}', style: '$'}}}}",
        "storage: {mysql: {mysql_db: {hostname: h, username: u, password: $ecret, db_name: d}}}",
    ],
)
def test_text_that_is_for_somebody_else(text: str) -> None:
    assert of_kind("shell_variable", text) == []


def test_a_variable_where_text_is_an_error_anyway() -> None:
    text = "run_queue: {max_concurrent_runs: '${A}', tag_concurrency_limits: [{key: a, limit: '${B}'}]}"
    hints = {finding.path: finding.hint for finding in findings(text)}
    assert hints == {
        "run_queue.max_concurrent_runs": "Dagster replaces no ${NAME}; write {env: NAME}",
        "run_queue.tag_concurrency_limits[0].limit": "Dagster replaces no ${NAME}; write the value",
    }


def test_variables_of_a_workspace() -> None:
    text = "load_from: [{grpc_server: {host: '${HOST}', port: 1}}, {python_file: '${HOME}/x.py'}]"
    first, second = findings(text, "workspace")
    assert (first.path, first.hint) == ("load_from[0].grpc_server.host", "write {env: HOST}")
    assert (second.path, second.hint) == (
        "load_from[1].python_file",
        "write the value: Dagster looks up no variable here",
    )


@pytest.mark.parametrize("kwargs", ["{mem_limit: {env: X}}", "{volumes: [{env: X}]}", "{ports: {'80': {env: X}}}"])
def test_env_in_arguments_of_the_container(kwargs: str) -> None:
    (found,) = subject.validate(DOCKER.replace("X", f"{{container_kwargs: {kwargs}}}", 1)).refusals
    assert found.name == "env_not_resolved"
    assert "TypeError" in found.message


@pytest.mark.parametrize(
    "data",
    [
        {"storage": {"postgres": {"postgres_db": {"params": {"sslrootcert": {"env": "CA"}}}}}},
        {"python_logs": {"dagster_handler_config": {"handlers": {"h": {"level": {"env": "LEVEL"}}}}}},
    ],
)
def test_env_in_other_free_form_parts(data: dict[str, Any]) -> None:
    if "storage" in data:
        data["storage"]["postgres"]["postgres_db"].update(hostname="h", username="u", password="", db_name="d")
    (found,) = [finding for finding in subject.validate_data(data).refusals if finding.name == "env_not_resolved"]
    assert found.hint == "write the value"


@pytest.mark.parametrize(
    "text",
    [
        DOCKER.replace("X", "{container_kwargs: {labels: {env: prod}}}", 1),
        DOCKER.replace("X", "{network: {env: NET}, networks: []}", 1),
        "auto_materialize: {run_tags: {env: prod}}",
        "run_launcher: {module: mine, class: L, config: {a: {b: {env: X}}}}",
    ],
)
def test_env_that_is_looked_up_or_is_a_name(text: str) -> None:
    assert of_kind("env_not_resolved", text) == []
