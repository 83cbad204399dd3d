"""When role code_location lets images go: once the code servers of all hosts serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from dry_play import TRUSTED, holds

TASKS = Path(__file__).resolve().parents[3] / "roles/code_location/tasks/run.yml"
EVERY = ["ctl1", "ctl2", "run"]


def tasks() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DataLoader().load_from_file(str(TASKS), **TRUSTED)
    return found


def images_go(old_images: bool, batch: list[str]) -> bool:
    """Whether the host removes images in a play that has these hosts at that time."""
    servers, removal = tasks()
    assert "dataops.dagster.code_containers" in servers
    assert "keep" in removal["dataops.dagster.code_images"]
    variables = {
        servers["register"]: {"old_images": old_images},
        "dagster_plan": {"code_location": {"engines": EVERY}},
        # As it is in a play without `serial` and without --limit, whoever has failed.
        "ansible_play_hosts_all": EVERY,
        "ansible_play_batch": batch,
    }
    templar = Templar(loader=DataLoader(), variables=variables)
    return all(holds(condition, templar, variables) for condition in removal["when"])


def test_images_go_once_all_hosts_serve() -> None:
    assert images_go(True, EVERY)
    assert images_go(True, [*EVERY, "another"])


def test_nothing_to_do_costs_no_call() -> None:
    assert not images_go(False, EVERY)


@pytest.mark.parametrize("batch", [["run"], ["ctl1", "run"]])
def test_images_stay_when_a_host_has_failed_or_is_left_out(batch: list[str]) -> None:
    """It may still serve code whose runs need their image on the host of the runs."""
    assert not images_go(True, batch)


def test_new_password_for_users_too() -> None:
    """Each login is in the file of root and in that of each user: both are written with a new password."""
    (task,) = DataLoader().load_from_file(str(TASKS.with_name("password.yml")), **TRUSTED)
    roots, _plus, users = task["dataops.dagster.files"]["files"].partition("+ ((")
    assert "__dagster_code_passwords" in roots
    assert "__dagster_code_passwords" in users
    assert (
        "| dataops.dagster.user_files(__dagster_code_locations_started, dagster.home, __dagster_container_root)"
        in users
    )
