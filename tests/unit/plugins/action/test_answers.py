"""Action preflight: answers of a survey, which may be blank, or text where a list is meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from plans import LOCATION, PASSWORDS, groups, specs
from preflights import Preflight


@pytest.fixture
def action() -> Preflight:
    return Preflight()


OPTIONAL = {
    name: option for options in specs().values() for name, option in options.items() if not option.get("required")
}


@pytest.mark.parametrize("nothing", ["", None, " ", "\n"])
def test_blank_answer_is_the_default_of_every_option(action: Preflight, nothing: str | None) -> None:
    """AWX sends "" for each question without an answer, and null with ansible-core since 2.19."""
    texts = {name for name, option in OPTIONAL.items() if option.get("no_log") and option["type"] == "str"}
    blank: dict[str, Any] = {name: nothing for name in OPTIONAL if name not in texts or not nothing}
    blank["dagster_code_locations"] = [LOCATION]
    action.others = {"b": {"dagster_address": nothing}}
    assert action.run(**blank) == action.run()
    hosts = groups(database=["b"], proxy=["b"])
    assert action.run(hosts, **blank) == action.run(hosts)
    assert action.options(hosts, **blank)["dagster_database_host"] == "x", "its ansible_host"


@pytest.mark.parametrize("name", sorted(OPTIONAL))
def test_blank_answer_of_one_option(action: Preflight, name: str) -> None:
    locations = {"dagster_code_locations": [] if name == "dagster_code_locations" else [LOCATION]}
    assert action.run(**{**locations, name: ""}) == action.run(**locations)


@pytest.mark.parametrize("nothing", ["", None])
def test_blank_answer_of_what_is_required(action: Preflight, nothing: str | None) -> None:
    required = {name for options in specs().values() for name, option in options.items() if option.get("required")}
    problems = action.refused(**dict.fromkeys(required, nothing))
    assert {problem.partition(" is not set: ")[0] for problem in problems} == required
    assert len(problems) == len(required)


def test_roles_get_no_secret_as_an_option(action: Preflight) -> None:
    """Facts are shown and logged, and a list of locations may hold secrets."""
    secret = {name for options in specs().values() for name, option in options.items() if option.get("no_log")}
    assert secret >= {*PASSWORDS, "dagster_secret_environment", "dagster_code_locations", "dagster_docker_tls_key"}
    result = action.run(dagster_secret_environment={"X": "a-secret"})
    assert {f"dagster_{name}" for name in result["options"]}.isdisjoint(secret)
    assert "a-secret" not in str(result)


def test_structured_variables_as_text(action: Preflight) -> None:
    """From a survey or key=value: YAML or JSON, with the same effect as the typed value."""
    typed: dict[str, Any] = {
        "dagster_code_locations": [{**LOCATION, "env": {"A": "{{ b }}"}, "port": 4001}],
        "dagster_webserver_ports": [3000, 3005],
        "dagster_config": {"run_monitoring": {"max_resume_run_attempts": 0}},
        "dagster_canary": {"location": "etl", "job": "nightly"},
    }
    wanted = action.run(**typed)
    assert wanted["options"]["canary"] == typed["dagster_canary"]
    assert action.run(**{name: json.dumps(value) for name, value in typed.items()}) == wanted
    assert action.run(**{name: yaml.safe_dump(value) for name, value in typed.items()}) == wanted


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        (
            "dagster_config",
            '{"a": 1, ]',
            "dagster_config, line 1, column 10: the YAML cannot be read: "
            "expected the node content, but found ']'; expected YAML or JSON",
        ),
        (
            "dagster_config",
            "retention:\n  sensor: 1\nretention: 2\n",
            "dagster_config.retention stands in line 1 and again in line 3; remove one of them",
        ),
        (
            "dagster_webserver_ports",
            "[22:30]",
            "dagster_webserver_ports[0] is 22:30, which YAML reads as the number 1350; quote it",
        ),
        (
            "dagster_config",
            "!vault abc",
            "dagster_config, line 1, column 1: the YAML cannot be read: could not determine a constructor for the tag "
            "'!vault'; expected YAML or JSON",
        ),
    ],
)
def test_text_that_is_not_clear(action: Preflight, name: str, text: str, sentence: str) -> None:
    assert action.refused(**{name: text}) == [sentence]


def test_text_of_a_secret_is_not_shown(action: Preflight) -> None:
    (problem,) = action.refused(dagster_secret_environment="a-secret")
    assert problem.startswith("dagster_secret_environment is text; expected a dictionary, such as {name: value}")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("dagster_home", "{{ base }}/x", "dagster_home is '{{ base }}/x'; a template that is typed into a survey"),
        (
            "dagster_code_locations",
            [{"name": "etl", "module": "m", "build": {"context": "{{ playbook_dir }}/x"}}],
            "dagster_code_locations[etl].build.context is '{{ playbook_dir }}/x'; a template that is typed",
        ),
        ("dagster_user", True, "dagster_user was read as true or false, as YAML reads yes, no, on and off; expected t"),
        ("dagster_nginx_port", True, "dagster_nginx_port was read as true or false, as YAML reads yes, no, on and off"),
    ],
)
def test_message_shows_what_was_typed(action: Preflight, name: str, value: Any, sentence: str) -> None:
    (problem,) = action.refused(**{name: value})
    assert problem.startswith(sentence)


def test_path_is_handed_on_as_it_was_written(
    action: Preflight, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert action.options(dagster_ca_certificates=["~/ca.pem"])["dagster_ca_certificates"] == ["~/ca.pem"]


def test_name_in_which_roles_read_their_options(action: Preflight) -> None:
    (problem,) = action.refused(dagster={"home": "/x"})
    assert (
        problem
        == "the variable dagster is one in which the roles read what preflight hands on; give yours another name"
    )
    (problem,) = action.refused(dagster_host="db.example.com")
    assert problem.startswith("the variable dagster_host is one in which the roles read")
    action.run(dagster_host={"kept": "in a fact cache by 0.1.0"})
    action.run(dagster={}, dagster_plan={})  # of a preflight before
