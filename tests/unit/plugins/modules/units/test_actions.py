"""Module units: which action a unit needs. systemd itself is not asked."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_systemd import SPEC, UP, monotonic

from ansible_collections.dataops.dagster.plugins.module_utils._host import units


def test_start_of_a_process() -> None:
    before = time.time()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        started = units.started_at(child.pid)
        child.communicate(b"\n")
    assert before - 0.1 < started < time.time() + 0.1
    assert 0 < units.started_at(os.getpid()) < before
    assert units.started_at(child.pid) == 0.0, "it is gone"


def test_start_of_a_unit_without_process() -> None:
    assert abs(units.activated_at(monotonic(100)) - (time.time() - 100)) < 0.1


@pytest.mark.parametrize(
    ("now", "action", "reason"),
    [
        ({}, "", ""),
        ({"ActiveState": "inactive"}, "start", "was inactive"),
        ({"ActiveState": "failed"}, "start", "was failed"),
        ({"ActiveState": "deactivating"}, "start", "was deactivating"),
        ({"ActiveState": "reloading"}, "", ""),
        ({"ActiveState": "activating"}, "", ""),
        # between two tries of a unit that crashes
        ({"ActiveState": "activating", "MainPID": "0"}, "start", "was activating"),
        ({"UnitFileState": "disabled"}, "enable", "was disabled"),
        ({"UnitFileState": ""}, "enable", "was not enabled"),
        ({"UnitFileState": "static"}, "", ""),
        # by another unit, which somebody may have disabled
        ({"UnitFileState": "enabled-runtime"}, "enable", "was enabled-runtime"),
    ],
)
def test_action_of_a_unit_that_is_wanted(now: dict[str, str], action: str, reason: str, old: str) -> None:
    found = units.wanted_action({**SPEC, "files": [old]}, {**UP, "FragmentPath": old, **now})
    assert found == (action, reason)


def test_a_unit_that_does_not_exist_is_started() -> None:
    """systemd then says what is missing."""
    assert units.wanted_action(SPEC, {}) == ("start", "was unknown")


@pytest.mark.parametrize(
    ("now", "action"),
    [
        ({}, "stop"),
        ({"ActiveState": "activating"}, "stop"),
        ({"ActiveState": "inactive"}, "stop"),  # it would come up at boot
        ({"ActiveState": "failed"}, "stop"),
        ({"UnitFileState": "disabled"}, "stop"),
        ({"ActiveState": "inactive", "UnitFileState": "disabled"}, ""),
        ({"ActiveState": "inactive", "UnitFileState": ""}, ""),  # there is none
        ({"ActiveState": "inactive", "UnitFileState": "static"}, ""),
    ],
)
def test_action_of_a_unit_that_is_not_wanted(now: dict[str, str], action: str) -> None:
    assert units.wanted_action({**SPEC, "state": "stopped"}, {**UP, **now})[0] == action


@pytest.mark.parametrize("where", ["files", "FragmentPath", "DropInPaths"])
def test_restart_when_a_file_is_newer_than_the_process(where: str, old: str, new: str) -> None:
    for path, action in ((old, ""), (new, "restart"), ("/no/such/file", "")):
        spec = {**SPEC, "files": [old, path] if where == "files" else []}
        now = {**UP, **({where: f"{old} {path}" if where == "DropInPaths" else path} if where != "files" else {})}
        reason = f"{path} is newer than the process" if action else ""
        assert units.wanted_action(spec, now) == (action, reason)


def test_drop_in_that_systemd_has_not_read_counts(tmp_path: Path, old: str) -> None:
    """Else the next run would find it, and change something again."""
    now = {**UP, "FragmentPath": str(tmp_path / "own.service")}
    (tmp_path / "own.service").symlink_to(old)
    os.utime(tmp_path / "own.service", (1, 1), follow_symlinks=False)
    assert units.wanted_action(SPEC, now) == ("", "")
    folder = tmp_path / "own.service.d"
    reason = f"{folder} is newer than the process"
    assert units.wanted_action(SPEC, now, [f"{folder}/20-sandbox.conf"]) == ("restart", reason)
    folder.mkdir()
    (folder / "20-sandbox.conf").write_text("x")
    assert units.wanted_action(SPEC, now) == ("restart", reason)
    assert units.wanted_action({**SPEC, "reload": True}, now) == ("reload", reason)


def test_link_that_was_moved_counts_itself(tmp_path: Path, old: str) -> None:
    """/opt/dagster/current is a link to a venv that may be older than the process."""
    link = tmp_path / "current"
    link.symlink_to(old)
    assert units.wanted_action({**SPEC, "files": [str(link)]}, UP)[0] == "restart"


def test_directory_stands_for_the_files_in_it(tmp_path: Path) -> None:
    """An edit in place leaves the directory as old as it was; a file that is gone has left the directory younger."""
    path = tmp_path / "10-own.conf"
    path.write_text("x")
    os.utime(path, (1, 50))
    os.utime(tmp_path, (1, 20))
    assert units.modified_at(str(tmp_path)) == 50
    path.unlink()
    os.utime(tmp_path, (1, 60))
    assert units.modified_at(str(tmp_path)) == 60
    path.symlink_to("/no/such/file")
    assert units.modified_at(str(tmp_path)) > 60


def test_file_that_vanishes_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor's temporary file is listed, and gone before it is looked at."""
    (tmp_path / "own.conf").write_text("x")
    os.utime(tmp_path / "own.conf", (1, 50))
    os.utime(tmp_path, (1, 20))
    monkeypatch.setattr(os, "listdir", lambda _path: [".own.conf.swp", "own.conf"])
    assert units.modified_at(str(tmp_path)) == 50
    assert units.modified_at(str(tmp_path / "no")) == 0


def test_timer_is_restarted_when_its_file_is_newer_than_its_start(new: str) -> None:
    timer = {**UP, "MainPID": "0", "FragmentPath": new}
    assert units.wanted_action(SPEC, {**timer, "ActiveEnterTimestampMonotonic": monotonic(60)})[0] == "restart"
    assert units.wanted_action(SPEC, {**timer, "ActiveEnterTimestampMonotonic": monotonic(-60)})[0] == ""
