"""What playbook health_gate calls unhealthy, of what each daemon host has said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

PLAYBOOK = Path(__file__).resolve().parents[2] / "playbooks/health_gate.yml"


def problems(daemons: dict[str, tuple[int, str]], asked: tuple[str, ...] = (), check: bool = False) -> list[str]:
    """What is found of these daemon hosts (start and status of each), and of the answers over the API."""
    loader = DataLoader()
    plays = loader.load_from_file(str(PLAYBOOK), trusted_as_template=True)
    (play,) = (play for play in plays if play["name"] == "Show the last words of the culprits")
    hosts: dict[str, dict[str, Any]] = {
        name: {"inventory_hostname": name, "__dagster_daemon_started": started, "__dagster_daemon_status": status}
        for name, (started, status) in daemons.items()
    }
    hosts["edge"] = {"inventory_hostname": "edge", "__dagster_health": {"problems": list(asked)}}
    variables = {
        **play["vars"],
        "groups": {"dagster_daemon": list(daemons), "dagster_proxy": ["edge"]},
        "hostvars": hosts,
        "ansible_check_mode": check,
    }
    found: list[str] = Templar(loader=loader, variables=variables).template(variables["__dagster_problems"])
    return found


ACTIVE, STANDBY, DOWN = (99, "active: daemon runs"), (98, "standby: a holds the lease"), (0, "it does not run")


def test_one_daemon_and_its_standby_are_healthy() -> None:
    assert problems({"a": ACTIVE}) == problems({"a": ACTIVE, "b": STANDBY}) == []
    assert problems({"a": DOWN}, check=True) == []


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (ACTIVE, "More than one host runs a daemon: a, b."),
        (DOWN, "dagster-daemon.service does not run on b."),
    ],
)
def test_second_host_has_its_part(second: tuple[int, str], sentence: str) -> None:
    assert problems({"a": ACTIVE, "b": second}) == [sentence]


def test_somebody_runs_the_daemon() -> None:
    assert problems({"a": STANDBY, "b": STANDBY}) == [
        "No host of group dagster_daemon runs the daemon: a says standby: a holds the lease; "
        "b says standby: a holds the lease."
    ]


def test_what_the_api_says_counts() -> None:
    assert problems({"a": ACTIVE}, ("Code location etl is not loaded.",)) == ["Code location etl is not loaded."]
