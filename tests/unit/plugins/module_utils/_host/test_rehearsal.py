"""A program judges new files before any is in place."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils._host import rehearsal
from ansible_collections.dataops.dagster.plugins.module_utils._host.files import Refused

REST: dict[str, Any] = dict.fromkeys(("content", "src", "owner", "group", "mode"))
REST |= {"state": "file", "secret": False, "purge": False, "stage": False}
# Accepts a folder whose files all say good.
JUDGE = """
import pathlib, sys
sys.exit(" ".join(path.name for path in pathlib.Path(sys.argv[1]).iterdir() if "good" not in path.read_text()) or 0)
"""


def namespaces() -> bool:
    """Whether this machine lets a process mount in a namespace of its own."""
    argv = ["unshare", "--mount", "mount", "--bind", "/tmp", "/mnt"]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


needs_namespaces = pytest.mark.skipif(not namespaces(), reason="this machine allows no mount namespace")


@pytest.fixture(autouse=True)
def memory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("memory")
    monkeypatch.setattr(rehearsal, "MEMORY", str(folder))
    return folder


def unit(folder: Path) -> dict[str, Any]:
    check = [sys.executable, "-c", JUDGE, str(folder)]
    return {"name": "a.service", "state": "started", "files": [str(folder)], "check": check}


def wanted(path: Path, text: str) -> dict[str, Any]:
    return {**REST, "dest": str(path), "content": text}


def tree(folder: Path) -> dict[str, tuple[int, str]]:
    return {path.name: (path.stat().st_ino, path.read_text()) for path in folder.iterdir()}


@needs_namespaces
def test_a_bad_file_is_refused_and_not_written(tmp_path: Path, memory: Path) -> None:
    (tmp_path / "there").write_text("good")
    before = tree(tmp_path)
    rehearsal.rehearse([wanted(tmp_path / "new", "good")], {}, [unit(tmp_path)])
    with pytest.raises(Refused, match=r"ended with 1: new\nNothing was changed\. a\.service would have read .*/new"):
        rehearsal.rehearse([wanted(tmp_path / "new", "bad")], {}, [unit(tmp_path)])
    assert tree(tmp_path) == before
    assert list(memory.iterdir()) == [], "no copy stays"


@needs_namespaces
def test_what_goes_is_not_there_for_the_program(tmp_path: Path) -> None:
    (tmp_path / "default").write_text("bad")
    with pytest.raises(Refused):
        rehearsal.rehearse([wanted(tmp_path / "new", "good")], {}, [unit(tmp_path)])
    gone = {**REST, "dest": str(tmp_path / "default"), "state": "absent"}
    rehearsal.rehearse([gone], {}, [unit(tmp_path)])
    assert (tmp_path / "default").exists()


@needs_namespaces
def test_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    rehearsal.rehearse([wanted(folder / "new", "good")], {}, [unit(folder)])
    with pytest.raises(Refused):
        rehearsal.rehearse([wanted(folder / "new", "bad")], {}, [unit(folder)])
    assert not folder.exists()


@needs_namespaces
def test_a_secret_is_judged_too(tmp_path: Path) -> None:
    secret = {**wanted(tmp_path / "new", "x"), "secret": True, "content": None}
    rehearsal.rehearse([secret], {secret["dest"]: "good"}, [unit(tmp_path)])
    with pytest.raises(Refused):
        rehearsal.rehearse([secret], {secret["dest"]: "bad"}, [unit(tmp_path)])


def test_a_path_that_the_command_names_is_that_of_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So no folder is copied, which may be /etc, and no mount namespace is needed."""
    monkeypatch.setattr(rehearsal, "copies", lambda specs, *_more: [] if not specs else pytest.fail("a folder"))
    path = tmp_path / "a.cfg"
    path.write_text("good")
    program = "import sys; text = open(sys.argv[1]).read(); sys.exit('good' not in text and f'{sys.argv[1]}: bad' or 0)"
    check = [sys.executable, "-c", program, str(path)]
    reader = {"name": "a.service", "state": "started", "files": [str(path)], "check": check}
    rehearsal.rehearse([wanted(path, "also good")], {}, [reader])
    with pytest.raises(Refused, match=f"ended with 1: {path}: bad\n"):
        rehearsal.rehearse([wanted(path, "bad")], {}, [reader])
    assert path.read_text() == "good"


def test_copies_are_the_folders_as_they_would_be(tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    (etc / "inner").mkdir(parents=True)
    (etc / "kept").write_text("kept")
    (etc / "link").symlink_to("kept")
    stage = tmp_path / "stage"
    stage.mkdir()
    pairs = rehearsal.copies([wanted(etc / "inner/b", "new"), wanted(etc / "kept", "new")], {}, str(stage), {})
    assert pairs == [str(stage / "0"), str(etc), str(stage / "1"), str(etc / "inner")], "the outer folder first"
    assert ((stage / "0/kept").read_text(), (stage / "0/link").is_symlink()) == ("new", True)
    assert (stage / "1/b").read_text() == "new"
    assert ((etc / "kept").read_text(), list((etc / "inner").iterdir())) == ("kept", [])


@pytest.mark.parametrize("folder", ["new", "there"])
def test_copy_of_a_folder_lets_in_whom_the_folder_will(tmp_path: Path, folder: str) -> None:
    """A check may run as another user, and before the first play the folder is not there."""
    path, stage = tmp_path / "etc", tmp_path / "stage"
    stage.mkdir()
    if folder == "there":
        path.mkdir(mode=0o700)
    given = {str(path): {**wanted(path, ""), "state": "directory", "mode": "0751"}}
    before = os.umask(0o077)
    try:
        rehearsal.copies([wanted(path / "a", "new")], {}, str(stage), given)
        rehearsal.copies([wanted(tmp_path / "unsaid/a", "new")], {}, f"{stage}/0", {})
    finally:
        os.umask(before)
    assert (stage / "0").stat().st_mode & 0o777 == 0o751
    assert (stage / "0/0").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("files", ["same", "elsewhere"])
def test_nobody_is_asked_about_what_does_not_change(
    tmp_path: Path, files: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "ask", lambda *_arguments: "asked")
    (tmp_path / "there").write_text("good")
    path = tmp_path / "there" if files == "same" else tmp_path / "other/there"
    rehearsal.rehearse([wanted(path, "good")], {}, [unit(tmp_path)])
    with pytest.raises(Refused, match="asked"):
        rehearsal.rehearse([wanted(tmp_path / "new", "good")], {}, [unit(tmp_path)])


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1", ""),
        ("exit 126", ""),
        ("echo bad >&2; exit 1", "check -t ended with 1: bad"),
    ],
    ids=["no namespace", "no mount", "refused"],
)
def test_host_that_allows_no_such_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, said: str
) -> None:
    (tmp_path / "unshare").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert rehearsal.ask(["check", "-t"], [str(tmp_path), str(tmp_path)]) == said


def test_folder_that_cannot_be_copied(tmp_path: Path) -> None:
    """Somebody's socket is in it."""
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(tmp_path / "socket"))
        with pytest.raises(OSError, match="socket"):
            rehearsal.copies([wanted(tmp_path / "new", "bad")], {}, str(tmp_path / "stage"), {})
        rehearsal.rehearse([wanted(tmp_path / "new", "bad")], {}, [unit(tmp_path)])
    assert not (tmp_path / "new").exists()


def test_host_without_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert rehearsal.ask(["check", "-t"], []) == ""
