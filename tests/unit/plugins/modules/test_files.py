"""Module service, which writes the files of files too: given JSON as on a host, judged by its output and the disk."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.dataops.dagster.plugins.module_utils._host.snapshot import take
from ansible_collections.dataops.dagster.plugins.modules import service
from ansible_collections.dataops.dagster.plugins.plugin_utils import snapshot

ROOT = Path(__file__).resolve().parents[4]
MODULE = "ansible_collections.dataops.dagster.plugins.modules.service"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to another user")


class Host:
    """A folder that stands for a host's file system."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(
        self, *files: dict[str, Any], check: bool = False, secrets: dict[str, str] | None = None, ok: bool = True
    ) -> dict[str, Any]:
        entries = [{**entry, "dest": str(self.folder / entry["dest"])} for entry in files]
        arguments = {
            "files": entries,
            "secrets": {str(self.folder / name): text for name, text in (secrets or {}).items()},
            "_ansible_check_mode": check,
            "_ansible_diff": True,
        }
        with (
            patch_module_args(arguments),
            contextlib.redirect_stdout(io.StringIO()) as output,
            pytest.raises(SystemExit) as exit_status,
        ):
            service.main()
        self.output = output.getvalue()
        result: dict[str, Any] = json.loads(self.output)
        assert exit_status.value.code == (0 if ok else 1)
        assert bool(result.get("failed")) is not ok, self.output
        if ok:
            assert [self.name(path) for path in result["changed_paths"]] == [
                self.name(entry["after_header"]) for entry in result["diff"]
            ]
            assert result["changed"] is bool(result["changed_paths"])
        return result

    def changed(self, *files: dict[str, Any], **how: Any) -> list[str]:
        return [self.name(path) for path in self.run(*files, **how)["changed_paths"]]

    def converges(self, *files: dict[str, Any], **how: Any) -> list[str]:
        """Check promises what apply does, and a second apply does nothing. A snapshot tells both without a call."""
        before = self.tree()
        promised = self.changed(*files, check=True, **how)
        assert self.quiet(*files, **how) is (promised == [])
        assert self.tree() == before
        assert self.changed(*files, **how) == promised
        after = self.tree()
        assert self.quiet(*files, **how)
        assert self.changed(*files, **how) == []
        assert self.tree() == after
        return promised

    def quiet(self, *files: dict[str, Any], secrets: dict[str, str] | None = None) -> bool:
        """Whether nothing is to be done, as a snapshot of the folder tells it. It knows nothing of access lists."""
        folders = [self.folder, *(path for path in self.folder.rglob("*") if path.is_dir())]
        read = take([str(self.folder), *(f"{path}/*" for path in folders)], [], None, snapshot.KEY)
        wanted = {str(self.folder / name): text for name, text in (secrets or {}).items()}
        entries = [{**entry, "dest": str(self.folder / entry["dest"]), "writers": []} for entry in files]
        try:
            snapshot.Snapshot(json.loads(json.dumps(read))).service({"files": entries, "secrets": wanted})
        except (snapshot.Differs, snapshot.Unknown):
            return False
        return True

    def name(self, path: str) -> str:
        return str(Path(path).relative_to(self.folder))

    def tree(self) -> dict[str, tuple[Any, ...]]:
        """All that can differ in the folder; inode and time tell a file that was written again."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            state = path.lstat()
            text = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
            found[str(path.relative_to(self.folder))] = (state.st_mode, state.st_uid, state.st_gid, state.st_ino, text)
        return found

    def mode(self, name: str) -> int:
        return stat.S_IMODE((self.folder / name).stat().st_mode)


def test_as_a_process_of_its_own(tmp_path: Path) -> None:
    """The other tests call main; this one shows that the file is a program."""
    arguments = {"files": [{"dest": str(tmp_path / "a"), "content": "x\n", "mode": "0600"}]}
    done = subprocess.run(
        [sys.executable, "-m", MODULE],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        env={**os.environ, "PYTHONPATH": str(ROOT / ".deps")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["changed_paths"] == [str(tmp_path / "a")]
    assert (tmp_path / "a").read_text() == "x\n"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_folder_file_and_link(host: Host) -> None:
    wanted = [
        {"dest": "etc/deep", "state": "directory", "mode": "0750"},
        {"dest": "etc/deep/a.conf", "content": "ä = 1\n", "mode": "0640"},
        {"dest": "etc/deep/b.conf", "content": ""},
        {"dest": "current", "state": "link", "src": "etc/deep"},
    ]
    assert host.converges(*wanted) == ["etc/deep", "etc/deep/a.conf", "etc/deep/b.conf", "current"]
    assert (host.folder / "etc/deep/a.conf").read_bytes() == "ä = 1\n".encode()
    assert (host.folder / "etc/deep/b.conf").read_bytes() == b""
    assert [host.mode(name) for name in ("etc/deep", "etc/deep/a.conf", "etc/deep/b.conf")] == [0o750, 0o640, 0o644]
    assert os.readlink(host.folder / "current") == "etc/deep"
    assert sorted(host.tree()) == ["current", "etc", "etc/deep", "etc/deep/a.conf", "etc/deep/b.conf"]


def test_changed_content(host: Host) -> None:
    host.run({"dest": "a", "content": "one\n", "mode": "0600"})
    old = (host.folder / "a").stat().st_ino
    diff = host.run({"dest": "a", "content": "two\n"})["diff"]
    assert [(entry["before"], entry["after"]) for entry in diff] == [("one\n", "two\n")]
    assert host.mode("a") == 0o600, "the mode is kept where none is asked for"
    assert (host.folder / "a").stat().st_ino != old, "a reader of the old file must keep the old text"
    assert sorted(host.tree()) == ["a"]


def test_text_that_is_no_utf8_is_replaced(host: Host) -> None:
    (host.folder / "a").write_bytes(b"\xff")
    assert host.converges({"dest": "a", "content": "\N{REPLACEMENT CHARACTER}"}) == ["a"]
    assert (host.folder / "a").read_text(encoding="utf-8") == "\N{REPLACEMENT CHARACTER}"


def test_changed_mode_alone(host: Host) -> None:
    host.run({"dest": "a", "content": "x\n", "mode": "0644"}, {"dest": "d", "state": "directory"})
    wanted = [{"dest": "a", "content": "x\n", "mode": "0600"}, {"dest": "d", "state": "directory", "mode": "2775"}]
    diff = host.run(*wanted, check=True)["diff"]
    assert [(entry["before"][-10:], entry["after"][-10:]) for entry in diff] == [
        ("mode 0644\n", "mode 0600\n"),
        ("mode 0755\n", "mode 2775\n"),
    ]
    assert host.converges(*wanted) == ["a", "d"]
    assert (host.mode("a"), host.mode("d")) == (0o600, 0o2775)


def test_mode_of_a_file_whose_text_is_somebody_elses(host: Host) -> None:
    (host.folder / "a").write_text("theirs")
    (host.folder / "a").chmod(0o644)
    assert host.converges({"dest": "a", "mode": "0600"}) == ["a"]
    assert (host.folder / "a").read_text() == "theirs"


@as_root
def test_changed_owner(host: Host) -> None:
    host.run({"dest": "a", "content": "x\n"}, {"dest": "d", "state": "directory"})
    wanted = [
        {"dest": "a", "content": "x\n", "owner": "12345", "group": "daemon"},
        {"dest": "d", "state": "directory", "owner": "12345"},
        {"dest": "new", "content": "y\n", "owner": "daemon", "mode": "0400"},
    ]
    assert host.converges(*wanted) == ["a", "d", "new"]
    states = [(host.folder / name).stat() for name in ("a", "d", "new")]
    assert [state.st_uid for state in states] == [12345, 12345, 1]
    assert [state.st_gid for state in states] == [1, 0, 0]


@as_root
def test_new_text_keeps_the_owner(host: Host) -> None:
    host.run({"dest": "a", "content": "x\n", "owner": "12345", "group": "12346"})
    host.run({"dest": "a", "content": "y\n"})
    state = (host.folder / "a").stat()
    assert (state.st_uid, state.st_gid) == (12345, 12346)


@pytest.mark.parametrize(("key", "kind"), [("owner", "user"), ("group", "group")])
def test_owner_that_does_not_exist(host: Host, key: str, kind: str) -> None:
    entry = {"dest": "a", "content": "x\n", key: "no-such-name"}
    assert host.changed(entry, check=True) == ["a"], "in check mode the play would have made it by now"
    result = host.run(entry, ok=False)
    assert result["msg"] == f"{host.folder}/a: there is no {kind} no-such-name on this host"
    assert host.tree() == {}


def test_link_is_moved_and_nothing_else_is_replaced_by_one(host: Host) -> None:
    host.run({"dest": "current", "state": "link", "src": "/opt/1"})
    assert host.converges({"dest": "current", "state": "link", "src": "/opt/2"}) == ["current"]
    (host.folder / "data").mkdir()
    result = host.run({"dest": "data", "state": "link", "src": "/opt/2"}, ok=False)
    assert "data is not a symbolic link; move it away" in result["msg"]
    assert (host.folder / "data").is_dir()


def test_link_to_a_folder_is_a_folder(host: Host) -> None:
    """A site that has /var/lib/dagster on another disk has a link there."""
    (host.folder / "disk").mkdir(mode=0o755)
    (host.folder / "state").symlink_to("disk")
    assert host.converges({"dest": "state", "state": "directory", "mode": "0700"}) == ["state"]
    assert host.mode("disk") == 0o700
    assert (host.folder / "state").is_symlink()


@pytest.mark.parametrize(("state", "words"), [("file", "is not a plain file"), ("directory", "is not a folder")])
def test_what_is_something_else_is_left(host: Host, state: str, words: str) -> None:
    other = {"file": lambda path: path.mkdir(), "directory": lambda path: path.write_text("data")}
    other[state](host.folder / "a")
    before = host.tree()
    entry = {"dest": "a", "state": state, **({"content": "x"} if state == "file" else {})}
    for check in (True, False):
        assert words in host.run(entry, check=check, ok=False)["msg"]
    assert host.tree() == before


def test_absent(host: Host) -> None:
    (host.folder / "d").mkdir()
    (host.folder / "d/x").write_text("x")
    (host.folder / "f").write_text("x")
    (host.folder / "l").symlink_to("d")
    wanted = [{"dest": name, "state": "absent"} for name in ("l", "f", "never", "d")]
    assert host.converges(*wanted) == ["l", "f", "d"]
    assert host.tree() == {}


def test_purge_removes_what_is_not_in_the_list(host: Host) -> None:
    for name in ("p/keep", "p/old", "p/sub/kept", "p/gone/x", "beside"):
        (host.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (host.folder / name).write_text("x")
    wanted: list[dict[str, Any]] = [
        {"dest": "p", "state": "directory", "purge": True},
        {"dest": "p/keep", "content": "x"},
        {"dest": "p/sub/kept", "content": "x"},
    ]
    assert host.converges(*wanted) == ["p/gone", "p/old"]
    assert sorted(host.tree()) == ["beside", "p", "p/keep", "p/sub", "p/sub/kept"]


def test_purge_of_a_folder_that_is_made_now(host: Host) -> None:
    wanted: list[dict[str, Any]] = [
        {"dest": "p", "state": "directory", "purge": True},
        {"dest": "p/a", "content": "x"},
    ]
    assert host.converges(*wanted) == ["p", "p/a"]


def test_secret_is_shown_nowhere(host: Host) -> None:
    entry = {"dest": "pgpass", "secret": True, "mode": "0600"}
    result = host.run(entry, secrets={"pgpass": "hunter2hunter2\n"})
    assert [host.name(path) for path in result["changed_paths"]] == ["pgpass"]
    # Not left to Ansible, which hides whole values of secrets only.
    assert [(entry["before"], entry["after"]) for entry in result["diff"]] == [("", "(a secret, changed)\n")]
    assert (host.folder / "pgpass").read_text() == "hunter2hunter2\n"
    assert "hunter2" not in host.output
    result = host.run(entry, secrets={"pgpass": "correct-horse\n"})
    assert result["changed"]
    assert "hunter2" not in host.output
    assert "correct" not in host.output
    assert [(entry["before"], entry["after"]) for entry in result["diff"]] == [
        ("(a secret)\n", "(a secret, changed)\n")
    ]
    assert host.changed(entry, secrets={"pgpass": "correct-horse\n"}) == []


def test_failed_write_leaves_the_old_file_and_nothing_beside_it(host: Host) -> None:
    host.run({"dest": "a", "content": "old\n"})
    before = host.tree()
    result = host.run(
        {"dest": "b", "content": "x"}, {"dest": "a", "content": "new\n", "owner": "no-such-name"}, ok=False
    )
    assert [host.name(path) for path in result["changed_paths"]] == ["b"]
    assert {name: state for name, state in host.tree().items() if name != "b"} == before


def test_file_in_a_folder_that_is_missing(host: Host) -> None:
    result = host.run({"dest": "a", "content": "x"}, {"dest": "no/such/file", "content": "x"}, ok=False)
    assert result["msg"] == f"{host.folder}/no/such/file: No such file or directory"
    assert [host.name(path) for path in result["changed_paths"]] == ["a"]


def test_file_without_text_must_be_there(host: Host) -> None:
    result = host.run({"dest": "a", "mode": "0600"}, ok=False)
    assert result["msg"] == f"{host.folder}/a is not there, and neither content nor template is given for it"


def test_mode_that_is_none(host: Host) -> None:
    result = host.run({"dest": "a", "content": "x", "mode": "u=rw"}, ok=False)
    assert "mode is 'u=rw'; octal text is expected" in result["msg"]


def test_link_needs_src(host: Host) -> None:
    assert "src" in host.run({"dest": "a", "state": "link"}, ok=False)["msg"]
