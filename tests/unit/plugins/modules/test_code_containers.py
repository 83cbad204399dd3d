"""Module code_containers around its parts: it says whether images can go, and removes none itself."""

from __future__ import annotations

import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils._docker.old_images import Change
from ansible_collections.dataops.dagster.plugins.module_utils._docker.reconcile import Outcome
from ansible_collections.dataops.dagster.plugins.modules import code_containers

OLD = "dagster-code/etl:1111111111111111"
GOOD, BAD = Outcome("etl", "none"), Outcome("ml", "recreated", error="it never answered", changed=True)


class Ended(Exception):
    """The module has said its result."""


def run(
    monkeypatch: pytest.MonkeyPatch, *outcomes: Outcome, images: Any = None, check: bool = False
) -> tuple[dict[str, Any], list[Change]]:
    """The result of a call whose locations end like this, and what was done to the names of images."""
    unseen = dict.fromkeys(("docker_host", "network", "health_command", "health_timeout"))
    params = {
        **unseen,
        "prefix": "dagster-code",
        "log_driver": "journald",
        "locations": [],
        "written": [],
        "images": images,
    }
    module = MagicMock(params=params, check_mode=check, _diff=True)
    module.exit_json.side_effect = module.fail_json.side_effect = Ended
    made: list[Change] = []
    wish = Change(removed=(OLD,))
    old = SimpleNamespace(change=lambda wanted: wish if wanted else Change(), make=made.append)
    for name, value in {
        "AnsibleModule": lambda **_given: module,
        "Engine": MagicMock(),
        "Health": MagicMock(),
        "DOCKER_IMPORT_ERROR": None,
        "reconcile": lambda *_given, **_named: list(outcomes),
        "OldImages": lambda _engine: old,
    }.items():
        monkeypatch.setattr(code_containers, name, value)
    with pytest.raises(Ended):
        code_containers.main()
    said = module.fail_json if module.fail_json.called else module.exit_json
    return dict(said.call_args.kwargs), made


@pytest.mark.parametrize("check", [False, True])
def test_old_images_are_told_and_stay(monkeypatch: pytest.MonkeyPatch, check: bool) -> None:
    """The code servers of another host may have failed, and runs of theirs start with images of this one."""
    result, made = run(monkeypatch, GOOD, images={"etl": "x"}, check=check)
    assert (result["changed"], result["old_images"], made) == (False, True, [])
    assert result["diff"] == {"before": "", "after": ""}


def test_location_that_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    result, made = run(monkeypatch, GOOD, BAD, images={"etl": "x"})
    assert made == []
    assert "dagster_code_locations[ml]: it never answered" in result["msg"]


def test_images_are_looked_at_only_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "old_images" not in run(monkeypatch, GOOD)[0]
    assert run(monkeypatch, GOOD, images={})[0]["old_images"] is False


@pytest.mark.parametrize("check", [True, False])
def test_files_that_the_process_reads(tmp_path: Path, check: bool) -> None:
    """In check mode a file that would have been written by now counts as newer than every container."""
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    for path in (old, new):
        Path(path).touch()
        os.utime(path, (100, 100))
    item = {"name": "etl", "image": "etl:1", "command": ["x"], "env": {}, "reads": [old, new, "/not/there"]}
    params = {"network": "dagster", "prefix": "dagster-code", "log_driver": "", "locations": [item], "written": [new]}
    (location,) = code_containers.parse(MagicMock(params=params, check_mode=check, no_log_values=set()))
    assert location.reads == {old: 100.0, new: math.inf if check else 100.0, "/not/there": 0.0}
