"""What a call replaces comes back when it is refused, wherever the call or the host ends before that.

A kill is a real one: a child process runs the module and ends at its Nth operation, without a last word. Then the disk
is judged as a restart or a reboot would find it, and a later call goes on from there.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils._host import kept, units
from ansible_collections.dataops.dagster.plugins.modules import service

OPERATIONS = ("link", "symlink", "replace", "rename", "unlink", "utime", "chmod", "chown")
FILE: dict[str, Any] = dict.fromkeys(("content", "template", "vars", "src", "owner", "group", "mode"))
FILE |= {"state": "file", "secret": False, "purge": False, "stage": False}
UNIT = {"name": "a.service", "files": [], "reload": False, "check": [], "state": "started", "status": "", "log": None}
UP = {"ActiveState": "active", "UnitFileState": "enabled", "MainPID": str(os.getpid())}


class World:
    """A folder of a service: a file, a link, a file that goes, one that is new, and one that is staged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started = folder.with_name(f"{folder.name}.started")  # when the unit's process has read its files
        self.new = {"a.conf": "new\n", "current": "/opt/2", "new.conf": "new\n", "staged.conf": "new\n"}
        (folder / "a.conf").write_text("old\n")
        (folder / "gone.conf").write_text("old\n")
        (folder / "current").symlink_to("/opt/1")
        (folder / "staged.conf").write_text("old\n")
        for path in folder.iterdir():
            os.utime(path, (1, 1), follow_symlinks=False)
        self.started.write_text("2")
        self.stage()
        self.old = self.visible()

    def stage(self) -> None:
        next_version = Path(kept.next_of(str(self.folder / "staged.conf")))
        if self.read("staged.conf") == "old\n":  # as role instance does: what is in place is not staged again
            next_version.write_text("new\n")

    @property
    def params(self) -> dict[str, Any]:
        wanted: dict[str, dict[str, Any]] = {
            "a.conf": {"content": "new\n", "mode": "0600"},
            "gone.conf": {"state": "absent"},
            "current": {"state": "link", "src": "/opt/2"},
            "new.conf": {"content": "new\n"},
        }
        files = [{**FILE, "dest": str(self.folder / name), **more} for name, more in wanted.items()]
        reads = [str(self.folder / name) for name in (*wanted, "staged.conf")]
        more = {"secrets": {}, "staged": [str(self.folder / "staged.conf")], "status_timeout": 0, "journal_lines": 5}
        return {"files": files, "units": [{**UNIT, "files": reads}], **more}

    def read(self, name: str) -> str | None:
        path = self.folder / name
        return os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else None

    def visible(self) -> dict[str, str | None]:
        """What programs read."""
        return {path.name: self.read(path.name) for path in self.folder.iterdir() if not path.name.startswith(".")}

    def hidden(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if path.name.startswith("."))

    def call(self, refuses: bool = False) -> str:
        """Runs the module's work; what it failed with. A unit that refuses the new file takes the old one."""

        def run(*argv: str) -> str:
            if argv[:2] == ("systemctl", "show"):
                return "\n\n".join("\n".join(f"{key}={value}" for key, value in UP.items()) for _name in argv[3:])
            if argv[:2] == ("systemctl", "restart"):
                if refuses and self.read("a.conf") == "new\n":
                    raise units.Failed("a.service does not like it")
                self.started.write_text(str(time.time()))
                time.sleep(0.01)  # what is written later is younger, by the clock of the file system too
            return ""

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(units, "run", run)
            patch.setattr(units, "started_at", lambda _pid: float(self.started.read_text()))
            self.stage()
            try:
                service.write(self.params, False, [])
            except units.Failed as error:
                return str(error)
            return ""

    def killed(self, after: int, refuses: bool) -> bool:
        """Runs it in a process that is killed at one operation; whether it came that far."""
        child = os.fork()
        if child == 0:
            left = [after]

            def counted(operation: Any) -> Any:
                def instead(*arguments: Any, **more: Any) -> Any:
                    if left[0] == 0:
                        os._exit(9)
                    left[0] -= 1
                    return operation(*arguments, **more)

                return instead

            for name in OPERATIONS:
                setattr(os, name, counted(getattr(os, name)))
            tempfile.mkstemp = counted(tempfile.mkstemp)
            units.attempt = counted(units.attempt)
            units.perform = counted(units.perform)
            try:
                self.call(refuses)
            finally:
                os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9

    def judge(self) -> None:
        """Each path is its old or its new version, whole; the old one of what is new is still known."""
        now = self.visible()
        for name in {*self.old, *self.new}:
            assert now.get(name) in (self.old.get(name), self.new.get(name)), name


def test_accepted(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.call() == ""
    assert (world.visible(), world.hidden()) == (world.new, [])


def test_refused(tmp_path: Path) -> None:
    """Also the age: who reads a file is not restarted because it has been away."""
    world = World(tmp_path)
    said = world.call(refuses=True)
    assert (world.visible(), world.hidden()) == (world.old, [])
    assert {path.lstat().st_mtime for path in tmp_path.iterdir() if path.is_file()} == {1.0}
    assert said.startswith("a.service does not like it\n")
    names = ("a.conf", "current", "gone.conf", "new.conf", "staged.conf")
    paths = ", ".join(str(tmp_path / name) for name in names)
    assert said.endswith(f"The previous files are back: {paths}.\na.service serves with them.")


@pytest.mark.parametrize("refuses", [False, True], ids=["accepted", "refused"])
@pytest.mark.parametrize("later", [False, True], ids=["later accepted", "later refused"])
def test_killed_at_any_operation(tmp_path: Path, refuses: bool, later: bool) -> None:
    operation = 0
    while True:
        folder = tmp_path / str(operation)
        folder.mkdir()
        world = World(folder)
        if not world.killed(operation, refuses):
            break
        world.judge()
        said = world.call(refuses=later)
        proven = world.new if said == "" else world.old
        assert (world.visible(), [name for name in world.hidden() if not name.startswith(".new-")]) == (proven, [])
        operation += 1
    assert operation > 15, "the control: it was killed at many operations"
    assert world.visible() == (world.old if refuses else world.new), "the control: the last one was not killed"


def test_what_a_killed_call_left_does_not_hide_a_later_success(tmp_path: Path) -> None:
    """The units already run with the files: only the tidying was cut off. What serves is then what comes back."""
    world = World(tmp_path)
    assert world.call() == ""
    Path(kept.previous_of(str(tmp_path / "a.conf"))).write_text("older\n")
    assert world.call(refuses=True) == ""
    assert (world.visible(), world.hidden()) == (world.new, [])


def test_folder_comes_back_with_its_content(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir(mode=0o750)
    (tmp_path / "docker/key").write_text("key")
    it = kept.Kept()
    it.remove(str(tmp_path / "docker"))
    assert not (tmp_path / "docker").exists()
    assert it.put_back() == [str(tmp_path / "docker")]
    assert (tmp_path / "docker/key").read_text() == "key"
    it.remove(str(tmp_path / "docker"))
    it.drop()
    assert list(tmp_path.iterdir()) == []


def test_owner_and_mode_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    path.chmod(0o640)
    it = kept.Kept()
    it.keep_attributes(str(path), path.stat())
    path.chmod(0o600)
    assert it.is_needed()
    it.put_back()
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_watched_folder_is_not_younger_for_what_was_hidden_in_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    it = kept.Kept()
    it.keep(str(path))
    os.utime(tmp_path, (5, 5))
    it.drop()
    assert tmp_path.stat().st_mtime == 5
    assert not Path(kept.previous_of(str(path))).exists()


def test_hidden_names() -> None:
    assert [kept.is_version(name) for name in (".a.conf.next", ".a.previous", "a.next", ".bashrc")] == [
        True,
        True,
        False,
        False,
    ]
