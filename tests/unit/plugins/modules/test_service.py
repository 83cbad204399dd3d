"""Module service: files first, then the units that read them, and what a check says of both."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.dataops.dagster.plugins.module_utils._host import units
from ansible_collections.dataops.dagster.plugins.modules import service

UP = {"ActiveState": "active", "UnitFileState": "enabled", "MainPID": str(os.getpid())}


@pytest.fixture
def systemctl(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What systemd was told; all units are up, with this very process as their own."""
    told: list[str] = []

    def run(*argv: str) -> str:
        if argv[:2] == ("systemctl", "show"):
            return "\n\n".join("\n".join(f"{key}={value}" for key, value in UP.items()) for _name in argv[3:])
        told.append(" ".join(argv))
        return ""

    monkeypatch.setattr(units, "run", run)
    return told


def call(path: Path, check: bool = False, **more: Any) -> tuple[dict[str, Any], Any]:
    """The result and the exit status of the module for one file and the unit that reads it."""
    arguments = {
        "files": [{"dest": str(path), "content": "new\n"}],
        "units": [{"name": "a.service", "files": [str(path)]}],
        "_ansible_check_mode": check,
        **more,
    }
    with (
        patch_module_args(arguments),
        contextlib.redirect_stdout(io.StringIO()) as output,
        pytest.raises(SystemExit) as status,
    ):
        service.main()
    return json.loads(output.getvalue()), status.value.code


def old(path: Path, text: str) -> Path:
    """A file that is older than this process."""
    path.write_text(text)
    os.utime(path, (1, 1))
    return path


def test_files_come_before_their_units(tmp_path: Path, systemctl: list[str]) -> None:
    path = old(tmp_path / "a.conf", "old\n")
    result, _status = call(path)
    assert path.read_text() == "new\n"
    assert result["changed_paths"] == [str(path)]
    assert result["actions"] == {"a.service": f"restart: {path} is newer than the process"}
    assert "systemctl restart a.service" in systemctl
    assert [entry["after_header"] for entry in result["diff"]] == [str(path), "a.service"]


def test_nothing_to_do(tmp_path: Path, systemctl: list[str]) -> None:
    result, _status = call(old(tmp_path / "a.conf", "new\n"))
    assert (result["changed"], result["changed_paths"], result["actions"], systemctl) == (False, [], {}, [])
    assert result["started"]["a.service"] > 0


def test_check_shows_the_restarts_of_what_it_would_write(tmp_path: Path, systemctl: list[str]) -> None:
    path = old(tmp_path / "a.conf", "old\n")
    result, _status = call(path, check=True)
    assert (path.read_text(), systemctl) == ("old\n", [])
    assert result["changed_paths"] == [str(path)]
    assert result["actions"] == {"a.service": f"restart: {path} is newer than the process"}


def test_check_shows_the_restart_of_what_watches_the_folder(tmp_path: Path, systemctl: list[str]) -> None:
    path = tmp_path / "a.conf"
    os.utime(tmp_path, (1, 1))
    watching = [{"name": "a.service", "files": [str(tmp_path)]}, {"name": "b.service", "files": ["/no/such"]}]
    result, _status = call(path, check=True, units=watching)
    assert list(result["actions"]) == ["a.service"]
    assert systemctl == []


def test_refused_file_leaves_the_units_alone(tmp_path: Path, systemctl: list[str]) -> None:
    result, status = call(tmp_path)
    assert status == 1
    assert "is not a plain file" in result["msg"]
    assert (result["changed_paths"], systemctl) == ([], [])


def test_failed_unit_says_which_files_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*argv: str) -> str:
        raise units.Failed(f"{argv[0]} ended with 1")

    monkeypatch.setattr(units, "run", run)
    result, status = call(tmp_path / "a.conf")
    assert (status, result["changed_paths"]) == (1, [str(tmp_path / "a.conf")])
    assert "systemctl ended with 1" in result["msg"]
