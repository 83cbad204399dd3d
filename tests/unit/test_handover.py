"""What the plays hand on: all that preflight works out reaches the roles and modules that need it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dry_play import DEPLOYMENTS, Players

from ansible_collections.dataops.dagster.plugins.action import preflight
from ansible_collections.dataops.dagster.plugins.module_utils import _preflight

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = sorted(path for path in (ROOT / "playbooks").glob("*.yml") if path.name != "argument_specs.yml")
WORKED_OUT = set(_preflight.TOPOLOGY_VARIABLES.values())


def plays() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in PLAYBOOKS:
        for play in yaml.safe_load(path.read_text(encoding="utf-8")):
            if "hosts" in play:
                yield f"{path.stem}: {play['name']}", play


def roles(play: dict[str, Any]) -> list[str]:
    return [entry["role"].removeprefix("dataops.dagster.") for entry in play.get("roles") or []]


@pytest.mark.parametrize(("role", "play"), [(role, play) for _name, play in plays() for role in roles(play)])
def test_a_role_gets_all_that_is_worked_out_for_it(role: str, play: dict[str, Any]) -> None:
    """A variable of its spec that preflight works out comes from there, not from the role's default."""
    needed = WORKED_OUT & preflight.specs()[role].keys()
    given = {name for name, value in play.get("vars", {}).items() if "dagster_topology." in str(value)}
    assert sorted(needed - given) == []


def test_all_that_is_worked_out_is_used() -> None:
    worked_out: set[str] = set(Players(DEPLOYMENTS["single_host"]).hosts["dagster1"].facts["dagster_topology"])
    sources = [*PLAYBOOKS, *(ROOT / "roles").glob("*/tasks/*.yml"), *(ROOT / "roles").glob("*/vars/*.yml")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    used = set(re.findall(r"dagster_topology\.(\w+)", text))
    assert used == worked_out


@pytest.mark.parametrize(("name", "play"), list(plays()), ids=lambda value: value if isinstance(value, str) else "")
def test_a_play_stops_on_all_hosts_when_one_fails(name: str, play: dict[str, Any]) -> None:
    if name.startswith("validate"):  # on the controller, one file after the other
        return
    assert play.get("any_errors_fatal") is True


def test_hosts_of_a_live_deployment_are_changed_one_after_the_other() -> None:
    """What restarts a service; role instance restarts none, and the database is one host."""
    serial = {role: play.get("serial") for name, play in plays() if name.startswith("site") for role in roles(play)}
    one = "{{ 1 if 'dagster_live' in groups else '100%' }}"
    assert {role for role, value in serial.items() if value == one} == {
        "docker",
        "webserver",
        "haproxy",
        "nginx",
        "daemon",
    }
    assert {role for role, value in serial.items() if value is None} == {"postgres", "instance", "code_location"}
