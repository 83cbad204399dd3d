"""When the health gate launches the canary, and where: the variables of its play, for what its tasks have found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from dry_play import TRUSTED, HostVars

GATE = Path(__file__).resolve().parents[2] / "playbooks/part_health_gate.yml"
PROVEN = "/usr/local/lib/dagster/proven"
SKIPPED: dict[str, Any] = {"skipped": True, "changed": False}
JOBS = [{"name": "a", "jobs": ["dagster_canary"]}, {"name": "b", "jobs": ["x", "dagster_canary"]}, {"name": "c"}]


def state(*stamps: str, proven: str = "") -> dict[str, Any]:
    """What a host has now, and what was proven there."""
    return {"changed": False, "host": {"stamps": list(stamps), "texts": {PROVEN: proven} if proven else {}}}


def gate(name: str, again: bool = False, check: bool = False, job: Any = None, **hosts: dict[str, Any]) -> Any:
    """A variable of the gate in a play of these hosts, each with its registered results."""
    loader = DataLoader()
    (play,) = loader.load_from_file(str(GATE), **TRUSTED)
    found = hosts or {"h": {"__dagster_state": SKIPPED}}
    results = next(iter(found.values())).pop("results", [{"problems": [], "locations": [*JOBS[:2]]}])
    health = {"canary": {"job": "dagster_canary", "location": ""} if job is None else job, "locations": ["b", "a"]}
    variables: dict[str, Any] = {
        **play["vars"],
        "dagster_plan": {"health": health, "names": {"proven": PROVEN}},
        "ansible_play_hosts": list(found),
        "ansible_check_mode": check,
        "__dagster_prove_again": again,
        "__dagster_health": {"results": results},
        "__dagster_canary": SKIPPED,
        "__dagster_container": SKIPPED,
        **next(iter(found.values())),
        "hostvars": HostVars((host, HostVars(known)) for host, known in found.items()),
    }
    value = Templar(loader=loader, variables=variables).template(variables[name])
    return value == "True" if value in ("True", "False") else value


def due(**play: Any) -> bool:
    return bool(gate("__dagster_due", **play))


def test_first_location_of_the_inventory_that_offers_the_job() -> None:
    assert gate("__dagster_location") == "b"
    assert gate("__dagster_location", job={"job": "dagster_canary", "location": "a"}) == "a"
    assert gate("__dagster_location", job={"job": "nightly", "location": ""}) == ""
    assert gate("__dagster_location", job={}) == "", "none is wanted"


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ({"h": {"__dagster_state": SKIPPED}}, False),
        ({"h": {"__dagster_state": state("f 1", "g 2")}}, True),
        ({"h": {"__dagster_state": state("f 1", proven="f 1\ng 2\n")}}, False),
        ({"h": {"__dagster_state": state("f 3", proven="f 1\n")}}, True),
        ({"h": {"__dagster_state": SKIPPED}, "i": {"__dagster_state": state("f 3", proven="f 1\n")}}, True),
        ({"h": {"__dagster_state": SKIPPED, "__dagster_database_logins": {"changed": True}}}, True),
        ({"h": {"__dagster_state": SKIPPED}, "i": {"dagster_daemon_units": {"changed": True}}}, True),
        ({"h": {"__dagster_state": SKIPPED}, "db": {"__dagster_database_passwords": {"changed": True}}}, True),
        ({"h": {"__dagster_state": SKIPPED, "__dagster_instance_schema": {"changed": True}}}, True),
        ({"h": {"__dagster_state": SKIPPED, "__dagster_instance_schema": {"changed": False}}}, False),
        ({"h": {"__dagster_state": SKIPPED, "__dagster_code_loaded": SKIPPED}}, False),
        ({"h": {"__dagster_state": state("f 1"), "results": [{"problems": ["no daemon"]}]}}, False),
    ],
)
def test_canary_is_due_when_something_is_not_proven(hosts: dict[str, Any], expected: bool) -> None:
    assert due(**hosts) is expected


def test_canary_of_health_is_due_each_time() -> None:
    assert due(again=True)
    assert not due(again=True, check=True)
    assert not due(again=True, job={})
    assert not due(again=True, job={"job": "nightly", "location": ""}), "no location offers it"


def test_what_became_of_the_container_is_told_beside_the_cause() -> None:
    failed = {"__dagster_canary": {"msg": "run r ended."}, "__dagster_container": {"host": {"run_container": "Gone."}}}
    assert gate("__dagster_problems", h=failed) == ["run r ended.", "Gone."]
    assert gate("__dagster_problems", h={"__dagster_canary": {"msg": "no job."}}) == ["no job."]
    assert gate("__dagster_problems") == []
