"""Access lists of folders, on a real file system."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils._host import access, files

SPEC = {"state": "directory", "mode": "2775", "owner": None, "group": None, "src": None, "content": None}


def reconciled(path: Path, writers: list[int], check_mode: bool = False) -> list[str]:
    spec = {**SPEC, "dest": str(path), "secret": False, "purge": False, "stage": False, "writers": writers}
    return [difference["after"] for difference in files.reconcile([spec], {}, check_mode)]


def test_writers_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    assert reconciled(folder, [100000, 101000], check_mode=True) != []
    assert not folder.exists()
    assert reconciled(folder, [100000, 101000]) == ["written by 100000, 101000\n"]
    assert reconciled(folder, [100000, 101000]) == [], "a second run changes nothing"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o2775
    assert reconciled(folder, [100000, 102000], check_mode=True) == ["written by 100000, 102000\n"]
    (folder / "inside").mkdir()
    inherited = access.read(str(folder / "inside"), access.NAMES[0])
    assert {number for tag, number in inherited if tag == access.USER} == {100000, 101000}


def test_nobody_is_taken_off_the_list(tmp_path: Path) -> None:
    """An operator may have put a user of theirs on it."""
    assert reconciled(tmp_path, [4242])
    assert reconciled(tmp_path, [101000])
    assert reconciled(tmp_path, []) == []
    listed = {number for tag, number in access.read(str(tmp_path), access.NAMES[1]) if tag == access.USER}
    assert listed == {4242, 101000}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become these users")
def test_writer_writes_and_another_does_not(tmp_path: Path) -> None:
    assert reconciled(tmp_path / "state", [101000])
    state = os.open(tmp_path / "state", os.O_RDONLY)  # nobody else may come this far by the path

    def can_write(user: int) -> bool:
        child = os.fork()
        if child == 0:
            try:
                os.setgroups([])
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
                os.mkdir(str(user), dir_fd=state)
            except OSError:
                os._exit(1)
            os._exit(0)
        return os.waitpid(child, 0)[1] == 0

    assert can_write(101000)
    assert not can_write(102000)
    os.close(state)


def test_file_system_without_access_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_given: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuses)
    with pytest.raises(files.Refused, match=r"has no access lists \(ACL\).*remove user from dagster_code_locations"):
        reconciled(tmp_path, [1])
