"""Module service: files first, then the units that read them, and what a check says of both."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.dataops.dagster.plugins.module_utils._host import files, rehearsal, units
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


def test_failed_unit_leaves_the_files_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*argv: str) -> str:
        raise units.Failed(f"{argv[0]} ended with 1")

    monkeypatch.setattr(units, "run", run)
    result, status = call(tmp_path / "a.conf")
    assert (status, result["changed_paths"]) == (1, [])
    assert "systemctl ended with 1" in result["msg"]
    assert f"The previous files are back: {tmp_path / 'a.conf'}." in result["msg"]
    assert list(tmp_path.iterdir()) == []


def states(monkeypatch: pytest.MonkeyPatch, refused: str, **now: str) -> list[str]:
    """What systemd was told, in a world where it refuses one command the first time."""
    told: list[str] = []

    def run(*argv: str) -> str:
        if argv[:2] == ("systemctl", "show"):
            return "\n\n".join(
                "\n".join(f"{key}={value}" for key, value in {**UP, **now}.items()) for _unit in argv[3:]
            )
        told.append(" ".join(argv))
        if told[-1] == refused and told.count(refused) == 1:
            raise units.Failed(f"{refused} ended with 1: bad file")
        return ""

    monkeypatch.setattr(units, "run", run)
    return told


def test_file_that_the_check_refuses_is_never_in_place(
    tmp_path: Path, systemctl: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Judged by the program itself, which looks at a copy and at the real path."""
    path = old(tmp_path / "a.conf", "old\n")
    monkeypatch.setattr(rehearsal, "MEMORY", str(tmp_path))
    program = f"import sys; sys.exit(open({str(path)!r}).read() + open(sys.argv[1]).read())"
    unit = {"name": "a.service", "files": [str(path)], "check": [sys.executable, "-c", program, str(path)]}
    result, status = call(path, units=[unit])
    assert (status, path.read_text(), path.stat().st_mtime, systemctl) == (1, "old\n", 1, [])
    assert "ended with 1: old\nnew\nNothing was changed." in result["msg"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.conf"]


def test_refused_restart_is_done_again_with_the_previous_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = states(monkeypatch, "systemctl restart a.service")
    path = old(tmp_path / "a.conf", "old\n")
    result, status = call(path)
    assert (status, path.read_text(), path.stat().st_mtime) == (1, "old\n", 1)
    again = ["systemctl daemon-reload", "systemctl reset-failed a.service", "systemctl restart a.service"]
    assert told == ["systemctl daemon-reload", "systemctl restart a.service", *again]
    assert result["msg"].endswith(f"The previous files are back: {path}.\na.service serves with them.")


def test_previous_file_that_is_refused_too_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the file is not the cause."""

    def run(*argv: str) -> str:
        if argv[:2] == ("systemctl", "show"):
            return "\n".join(f"{key}={value}" for key, value in UP.items())
        if argv[:2] == ("systemctl", "restart"):
            raise units.Failed("no memory")
        return ""

    monkeypatch.setattr(units, "run", run)
    result, _status = call(old(tmp_path / "a.conf", "old\n"))
    assert result["msg"].endswith("a.service does not come up with them either: no memory")


def test_refused_first_start_leaves_no_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = states(
        monkeypatch, "systemctl start a.service", ActiveState="inactive", UnitFileState="disabled", MainPID="0"
    )
    _result, status = call(tmp_path / "a.conf")
    assert (status, list(tmp_path.iterdir())) == (1, [])
    ends = ["systemctl stop a.service", "systemctl disable --quiet a.service", "systemctl daemon-reload"]
    assert told[-3:] == ends, "while its unit file is there"


def test_unit_that_was_down_before_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = states(monkeypatch, "systemctl start a.service", ActiveState="failed", MainPID="0")
    call(old(tmp_path / "a.conf", "old\n"))
    assert told[-1] == "systemctl restart --no-block a.service"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_call_that_is_ended_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    path = old(tmp_path / "a.conf", "old\n")
    restarts = []

    def run(*argv: str) -> str:
        if argv[:2] == ("systemctl", "show"):
            return "\n".join(f"{key}={value}" for key, value in UP.items())
        if argv[:2] == ("systemctl", "restart"):
            restarts.append(path.read_text())
            if len(restarts) == 1:
                os.kill(os.getpid(), number)
        return ""

    monkeypatch.setattr(units, "run", run)

    def unheard(*_arguments: Any) -> None:
        raise AssertionError("the module did not hear the signal")

    before = signal.signal(number, unheard)
    try:
        result, status = call(path)
        assert signal.getsignal(number) is unheard, "given back"
    finally:
        signal.signal(number, before)
    assert status == 1
    assert result["msg"].startswith(f"The call was ended by {number.name}")
    assert restarts == ["new\n", "old\n"]


@pytest.mark.usefixtures("systemctl")
def test_staged_files_are_put_in_place_only_where_that_is_asked(tmp_path: Path) -> None:
    path, other = old(tmp_path / "a.conf", "old\n"), tmp_path / "b.conf"
    files.Entry(False, spec(path, "new\n"), {}).reconcile()
    assert (path.read_text(), (tmp_path / ".a.conf.next").read_text()) == ("old\n", "new\n")
    own = [{"dest": str(other), "content": "b\n"}]
    units_ = [{"name": "a.service", "files": [str(path)]}]
    result, _status = call(path, files=own, units=units_)
    assert (path.read_text(), result["actions"]) == ("old\n", {})
    result, _status = call(path, files=own, units=units_, staged=[str(path)], check=True)
    assert path.read_text() == "old\n"
    result, _status = call(path, files=own, units=units_, staged=[str(path)])
    assert path.read_text() == "new\n"
    assert result["actions"] == {"a.service": f"restart: {path} is newer than the process"}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.conf", "b.conf"]


def test_what_is_wanted_again_is_no_longer_staged(tmp_path: Path) -> None:
    path = old(tmp_path / "a.conf", "old\n")
    link = tmp_path / "current"
    link.symlink_to("/opt/1")
    for text, target in (("new\n", "/opt/2"), ("old\n", "/opt/1")):
        files.Entry(False, spec(path, text), {}).reconcile()
        files.Entry(False, {**spec(link, None), "state": "link", "src": target}, {}).reconcile()
        assert (path.read_text(), os.readlink(link)) == ("old\n", "/opt/1")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.conf", "current"]


def test_what_is_staged_already_is_not_staged_again(tmp_path: Path) -> None:
    path, link = old(tmp_path / "a.conf", "old\n"), tmp_path / "current"
    link.symlink_to("/opt/1")
    entries = [spec(path, "new\n"), {**spec(link, None), "state": "link", "src": "/opt/2"}]
    assert all(files.Entry(False, entry, {}).reconcile() for entry in entries)
    assert [files.Entry(False, entry, {}).reconcile() for entry in entries] == [None, None]


def test_what_is_written_at_once_has_no_staged_version_left(tmp_path: Path) -> None:
    """The roles of the services would put an older one in its place."""
    path = old(tmp_path / "a.conf", "old\n")
    files.Entry(False, spec(path, "new\n"), {}).reconcile()
    path.unlink()
    files.Entry(False, spec(path, "newer\n"), {}).reconcile()
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("a.conf", "newer\n")]


@pytest.mark.usefixtures("systemctl")
def test_what_others_have_left_in_the_same_folder_is_theirs(tmp_path: Path) -> None:
    """Services share folders: what a killed call of another one has left decides about that one alone."""
    old(tmp_path / "b.conf", "b new\n")
    left = old(tmp_path / ".b.conf.previous", "b old\n")
    result, status = call(old(tmp_path / "a.conf", "old\n"))
    assert (status, result["changed_paths"], left.read_text()) == (0, [str(tmp_path / "a.conf")], "b old\n")
    result, status = call(tmp_path / "a.conf", files=[{"dest": str(tmp_path), "content": "x\n"}])
    assert status == 1, "the control: a call that fails puts its own files back"
    assert (tmp_path / "b.conf").read_text() == "b new\n"


def test_what_is_not_there_yet_is_written_at_once(tmp_path: Path) -> None:
    files.Entry(False, spec(tmp_path / "a.conf", "new\n"), {}).reconcile()
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("a.conf", "new\n")]


def spec(path: Path, text: str | None) -> dict[str, Any]:
    """An entry that is staged, as the module gives it."""
    rest = dict.fromkeys(("src", "owner", "group", "mode"))
    return {**rest, "dest": str(path), "state": "file", "content": text, "secret": False, "stage": True}
