"""What a snapshot of a host says, when it is believed, and when the host is asked all the same."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_systemd import UP, Systemd, monotonic
from support import ROOT

from ansible_collections.dataops.dagster.plugins.action import end_snapshot, firewall, host_facts
from ansible_collections.dataops.dagster.plugins.action import files as files_action
from ansible_collections.dataops.dagster.plugins.action import units as units_action
from ansible_collections.dataops.dagster.plugins.module_utils._host import firewall as rules
from ansible_collections.dataops.dagster.plugins.module_utils._host import snapshot as host
from ansible_collections.dataops.dagster.plugins.module_utils._host import units
from ansible_collections.dataops.dagster.plugins.plugin_utils import snapshot

Json = dict[str, Any]
PASSWORD = "hunter2\n"


class Deployed:
    """A folder and a unit that are as wanted, and what a role asks of them."""

    def __init__(self, folder: Path, systemd: Systemd) -> None:
        self.folder, self.systemd = folder, systemd
        self.texts = {"a.conf": "a = 1\n", "pgpass": PASSWORD}
        for name, text in self.texts.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)
        (folder / "current").symlink_to("v1")
        (folder / "kept").mkdir()
        for path in folder.rglob("*"):
            os.utime(path, (1, 1), follow_symlinks=False)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    @property
    def wanted(self) -> Json:
        return {
            "files": [
                {"dest": self.path("a.conf"), "content": self.texts["a.conf"], "mode": "0600"},
                {"dest": self.path("pgpass"), "secret": True, "mode": "0600"},
                {"dest": self.path("current"), "state": "link", "src": "v1"},
                {"dest": self.path("kept"), "state": "directory", "purge": True},
                {"dest": self.path("gone"), "state": "absent"},
            ],
            "secrets": {self.path("pgpass"): PASSWORD},
            "units": [{"name": "a.service", "files": [self.path("a.conf"), self.path("kept")]}],
            "staged": [self.path("a.conf")],
        }

    def read(self) -> Json:
        """As it comes from the host."""
        places = [self.path("*"), self.path("kept/*")]
        found = host.take(places, ["a.service"], None, snapshot.KEY)
        read: Json = json.loads(json.dumps(found))
        return read

    def answer(self, **options: Any) -> Json:
        return snapshot.Snapshot(self.read()).service({**self.wanted, **options})


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Systemd:
    found = Systemd({"a.service": {**UP, "Id": "a.service"}})
    monkeypatch.setattr(units, "run", found.run)
    monkeypatch.setattr(units, "processes", found.processes)
    return found


@pytest.fixture
def deployed(tmp_path: Path, systemd: Systemd) -> Deployed:
    return Deployed(tmp_path, systemd)


def test_nothing_to_do_is_answered_as_by_the_module(deployed: Deployed) -> None:
    answer = deployed.answer()
    started = int(units.started_at(os.getpid()))
    shown = answer.pop("invocation")["module_args"]
    assert (answer.pop("started"), answer.pop("status")) == ({"a.service": started}, {"a.service": ""})
    assert answer == {"changed": False, "changed_paths": [], "actions": {}, "diff": []}
    assert [entry["dest"] for entry in shown["files"]] == [entry["dest"] for entry in deployed.wanted["files"]]
    assert PASSWORD.strip() not in json.dumps(shown)


def write(name: str, text: str) -> Callable[[Deployed], None]:
    def change(deployed: Deployed) -> None:
        deployed.folder.joinpath(name).write_text(text)
        os.utime(deployed.folder / name, (1, 1))

    return change


def relink(deployed: Deployed) -> None:
    (deployed.folder / "current").unlink()
    (deployed.folder / "current").symlink_to("v2")


def folder_for_file(deployed: Deployed) -> None:
    (deployed.folder / "a.conf").unlink()
    (deployed.folder / "a.conf").mkdir()


def state(**changed: str) -> Callable[[Deployed], None]:
    return lambda deployed: deployed.systemd.states["a.service"].update(changed)


DRIFT: dict[str, Callable[[Deployed], Any]] = {
    "text": write("a.conf", "a = 2\n"),
    "secret": write("pgpass", "hunter3\n"),
    "mode": lambda deployed: (deployed.folder / "pgpass").chmod(0o644),
    "link": relink,
    "missing": lambda deployed: (deployed.folder / "a.conf").unlink(),
    "another kind": folder_for_file,
    "there again": write("gone", ""),
    "more in a folder": write("kept/more", ""),
    "staged by a killed play": write(".a.conf.next", ""),
    "replaced by a killed play": write(".a.conf.previous", ""),
    "staged in a folder": write("kept/.x.next", ""),
    "written since the start": lambda deployed: os.utime(deployed.folder / "a.conf"),
    "folder changed since the start": lambda deployed: os.utime(deployed.folder / "kept"),
    "down": state(ActiveState="failed", MainPID="0"),
    "not enabled": state(UnitFileState="disabled"),
    "crash loop": state(ActiveState="activating", MainPID="0"),
}


@pytest.mark.parametrize("drift", DRIFT)
def test_drift_is_for_the_host(deployed: Deployed, drift: str) -> None:
    DRIFT[drift](deployed)
    with pytest.raises(snapshot.Differs):
        deployed.answer()


def test_files_of_the_unit_itself(deployed: Deployed) -> None:
    """Nobody names them: the host says which they are."""
    place = deployed.folder / "units"
    (place / "a.service.d").mkdir(parents=True)
    for name in ("a.service", "a.service.d/10.conf"):
        (place / name).touch()
    for path in (place / "a.service", place / "a.service.d/10.conf", place / "a.service.d"):
        os.utime(path, (1, 1))
    deployed.systemd.states["a.service"].update(
        FragmentPath=str(place / "a.service"), DropInPaths=str(place / "a.service.d/10.conf")
    )
    assert deployed.answer()["actions"] == {}
    for path in (place / "a.service", place / "a.service.d/10.conf", place / "a.service.d/20.conf"):
        path.touch()
        with pytest.raises(snapshot.Differs):
            deployed.answer()
        path.unlink() if path.name == "20.conf" else os.utime(path, (1, 1))
        os.utime(place / "a.service.d", (1, 1))
    (place / ".a.service.previous").touch()
    with pytest.raises(snapshot.Differs):
        deployed.answer()


def test_a_reload_has_made_new_processes(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = {"name": "a.service", "files": [deployed.path("a.conf")], "reload": True}
    os.utime(deployed.folder / "a.conf")
    with pytest.raises(snapshot.Differs):
        deployed.answer(units=[unit])
    monkeypatch.setattr(units, "started_at", lambda pid: 5e9 if pid == 1 else 1.0)  # a worker
    assert deployed.answer(units=[unit])["actions"] == {}
    with pytest.raises(snapshot.Differs):
        deployed.answer(units=[{**unit, "reload": False}])


def test_a_timer_is_as_old_as_its_last_start(deployed: Deployed) -> None:
    timer = {"MainPID": "0", "ActiveEnterTimestampMonotonic": monotonic(60)}
    deployed.systemd.states["a.service"].update(timer)
    assert deployed.answer()["started"] == {"a.service": 0}
    os.utime(deployed.folder / "a.conf")
    with pytest.raises(snapshot.Differs):
        deployed.answer()


NOT_SAID: dict[str, Json] = {
    "a path that nobody asked for": {"files": [{"dest": "/etc/other.conf", "content": ""}]},
    "a unit that nobody asked for": {"units": [{"name": "b.service"}]},
    "a file of a unit": {"units": [{"name": "a.service", "files": ["/etc/other.conf"]}]},
    "a status to wait for": {"status_timeout": 1},
    "a wrong option": {"files": [{"dest": "/etc", "state": "pipe"}]},
}


@pytest.mark.parametrize("options", NOT_SAID.values(), ids=NOT_SAID)
def test_what_it_does_not_say_is_for_the_host(deployed: Deployed, options: Json) -> None:
    with pytest.raises(snapshot.Unknown):
        deployed.answer(**options)


def test_owners_and_access_lists_that_it_does_not_say(deployed: Deployed) -> None:
    entry: Json = {"dest": deployed.path("kept"), "state": "directory"}
    for more in ({"owner": "nobody-here"}, {"group": "nobody-here"}, {"writers": [4711]}):
        with pytest.raises(snapshot.Unknown):
            deployed.answer(files=[{**entry, **more}])
    assert deployed.answer(files=[{**entry, "owner": str(os.getuid()), "writers": []}])["changed"] is False


def test_a_path_that_cannot_be_read(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network's file system that has gone: it is neither there nor away, and preflight goes on."""
    lstat = os.lstat

    def gone(path: str) -> os.stat_result:
        if str(path) == deployed.path("gone"):
            raise OSError(errno.ESTALE, "Stale file handle")
        return lstat(path)

    (deployed.folder / "gone").touch()
    monkeypatch.setattr(os, "lstat", gone)
    with pytest.raises(snapshot.Unknown):
        deployed.answer()


def test_a_path_with_brackets(tmp_path: Path, systemd: Systemd) -> None:
    """To glob they are a pattern, to us a name."""
    folder = tmp_path / "[a]"
    folder.mkdir()
    assert Deployed(folder, systemd).answer()["changed"] is False


def test_a_file_too_large_for_a_mark(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "LARGEST", 3)
    with pytest.raises(snapshot.Unknown):
        deployed.answer()


def test_a_folder_on_another_disk(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A link stands in its place. Owner and mode are those of the folder."""
    elsewhere = tmp_path_factory.mktemp("disk")
    elsewhere.chmod(0o750)
    (deployed.folder / "moved").symlink_to(elsewhere)
    entry: Json = {"dest": deployed.path("moved"), "state": "directory"}
    assert deployed.answer(files=[{**entry, "mode": "0750"}])["changed"] is False
    with pytest.raises(snapshot.Differs):
        deployed.answer(files=[{**entry, "mode": "0700"}])


def test_a_host_without_systemd_has_no_units(deployed: Deployed) -> None:
    deployed.systemd.broken = "show"
    assert deployed.read()["units"] == {}


def test_what_travels_says_nothing_of_a_secret(deployed: Deployed) -> None:
    """Without the key, a short password cannot be tried out, and equal files do not look alike."""
    (deployed.folder / "copy").write_text(PASSWORD)
    read = deployed.read()
    marks = {os.path.basename(path): entry["mark"] for path, entry in read["entries"].items() if "mark" in entry}
    assert marks["pgpass"] != marks["copy"]
    assert "hunter2" not in json.dumps(read)
    assert snapshot.KEY not in json.dumps(read)
    other = host.take([deployed.path("*")], [], None, "another key")
    assert other["entries"][deployed.path("pgpass")]["mark"] != marks["pgpass"]


def test_its_file_is_for_this_user_alone_and_has_no_key(deployed: Deployed) -> None:
    snapshot.remember("somewhere", deployed.read(), snapshot.now())
    path = Path(snapshot.place("somewhere"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert snapshot.KEY not in path.read_text()
    assert str(path).startswith(os.environ["ANSIBLE_LOCAL_TEMP"])
    snapshot.forget("somewhere")
    assert not path.exists()


# --- when it is believed ----------------------------------------------------------------------------------------------

VARIABLES: Json = {"inventory_hostname": "believed", "playbook_dir": str(ROOT / "playbooks")}
TASK = SimpleNamespace(delegate_to=None)


@pytest.fixture
def remembered(deployed: Deployed) -> Deployed:
    more = {"asked": ["/etc/a"], "stamps": ["/etc/a 1"], "images": {"etl:1": "sha256:1"}}
    texts = {"/proven": "/etc/a 1\n", "/none": None}
    snapshot.remember("believed", {**deployed.read(), **more, "texts": texts}, snapshot.now())
    return deployed


@pytest.mark.usefixtures("remembered")
def test_it_is_believed_in_plays_of_this_collection_alone() -> None:
    assert snapshot.of(TASK, VARIABLES) is not None
    assert snapshot.of(TASK, {**VARIABLES, "playbook_dir": "/srv/site"}) is None, "an operator's own tasks"
    assert snapshot.of(TASK, {"inventory_hostname": "believed"}) is None
    assert snapshot.of(TASK, {**VARIABLES, "inventory_hostname": "other"}) is None
    assert snapshot.of(SimpleNamespace(delegate_to="other"), VARIABLES) is None
    assert (
        snapshot.of(SimpleNamespace(delegate_to="believed"), {**VARIABLES, "inventory_hostname": "other"}) is not None
    )


@pytest.mark.usefixtures("remembered")
def test_it_is_believed_for_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "SECONDS", 0)
    assert snapshot.of(TASK, VARIABLES) is None


def asked(options: Json, answer: Json, variables: Json | None = None, delegate_to: str | None = None) -> list[Json]:
    """The calls that a host gets when a role asks for this, and then twice for nothing new."""
    calls: list[Json] = []

    def ask() -> Json:
        calls.append(options)
        return answer

    task = SimpleNamespace(delegate_to=delegate_to)
    snapshot.answered(task, variables or VARIABLES, lambda read: read.service(options), ask)
    return calls


def test_no_call_where_all_is_as_wanted(remembered: Deployed) -> None:
    assert asked(remembered.wanted, {}) == []
    assert asked(remembered.wanted, {}) == []


def test_the_first_difference_ends_it(remembered: Deployed) -> None:
    """Whatever the host answers: two names of an inventory may be one machine."""
    other = {**remembered.wanted, "files": [{"dest": remembered.path("a.conf"), "content": "new\n"}], "secrets": {}}
    assert len(asked(other, {"changed": False})) == 1
    assert len(asked(remembered.wanted, {"changed": False})) == 1


def test_what_it_does_not_say_ends_nothing(remembered: Deployed) -> None:
    assert len(asked({"files": [{"dest": "/etc/other", "content": ""}]}, {"changed": False})) == 1
    assert asked(remembered.wanted, {}) == []


@pytest.mark.parametrize("result", [{"changed": True}, {"failed": True, "changed": False}, {"unreachable": True}])
def test_a_change_or_a_failure_ends_it(remembered: Deployed, result: Json) -> None:
    assert len(asked({"files": [{"dest": "/etc/other", "content": ""}]}, result)) == 1
    assert len(asked(remembered.wanted, {})) == 1


@pytest.mark.parametrize("where", [None, "third"])
def test_a_change_anywhere_ends_it(remembered: Deployed, where: str | None) -> None:
    """A database that is restarted takes the daemons of other hosts with it. Two names may be one machine."""
    elsewhere = {**VARIABLES, "inventory_hostname": "elsewhere"}
    other = {"files": [{"dest": "/etc/other", "content": ""}]}
    assert len(asked(other, {"changed": True}, elsewhere, where)) == 1
    assert len(asked(remembered.wanted, {})) == 1


def test_a_host_that_cannot_be_reached_ends_it(remembered: Deployed) -> None:
    def ask() -> Json:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        snapshot.answered(TASK, VARIABLES, lambda read: read.unit("other"), ask)
    assert len(asked(remembered.wanted, {})) == 1


@pytest.mark.usefixtures("remembered")
def test_what_was_read_before_a_change_is_not_believed() -> None:
    """However late it comes: a host may still be read while another one is changed."""
    began = snapshot.now()
    snapshot.end()
    snapshot.remember("believed", {"places": []}, began)
    assert snapshot.of(TASK, VARIABLES) is None


@pytest.mark.usefixtures("remembered")
def test_a_module_of_others_ends_it() -> None:
    assert snapshot.of(TASK, VARIABLES) is not None
    result, calls = action(end_snapshot, {}, {})
    assert (result["changed"], calls) == (False, [])
    assert snapshot.of(TASK, VARIABLES) is None


# --- actions ----------------------------------------------------------------------------------------------------------


def action(kind: Any, arguments: Json, answer: Json, variables: Json | None = None) -> tuple[Json, list[Json]]:
    """The result of an action, and the calls that it makes."""
    calls: list[Json] = []
    names = {"delegate_to": None, "async_val": 0, "check_mode": False, "action": "x", "environment": None}
    task = SimpleNamespace(args=arguments, **names)
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
    made = kind.ActionModule(task, connection, SimpleNamespace(), None, None, None)

    def execute(module_args: Json | None = None, **_how: Any) -> Json:
        calls.append(arguments if module_args is None else module_args)
        return dict(answer)

    made._execute_module = execute
    return made.run(task_vars=VARIABLES if variables is None else variables), calls


def test_units_that_were_touched_end_it(remembered: Deployed) -> None:
    for answer, believed in (({"changed": False}, True), ({"changed": True}, False)):
        result, calls = action(units_action, {"units": []}, answer)
        assert (result["changed"], len(calls)) == (answer["changed"], 1)
        assert (snapshot.of(TASK, VARIABLES) is not None) is believed
    assert len(asked(remembered.wanted, {})) == 1


def test_files_without_a_call(remembered: Deployed) -> None:
    entry = {"dest": remembered.path("pgpass"), "content": PASSWORD, "secret": True, "mode": "0600"}
    result, calls = action(files_action, {"files": [entry]}, {})
    assert (result["changed"], result["changed_paths"], calls) == (False, [], [])
    _result, calls = action(files_action, {"files": [{**entry, "content": "new\n"}]}, {"changed": True})
    assert len(calls) == 1


@pytest.mark.usefixtures("remembered")
def test_stamps_of_preflight_are_recent_enough() -> None:
    question = {"stamps": ["/etc/a"], "texts": ["/proven", "/none"], "engine": "unix:///x", "recent": True}
    answered = {"stamps": ["/etc/a 1"], "texts": {"/proven": "/etc/a 1\n"}}
    assert action(host_facts, question, {})[0]["host"] == answered
    for other in ({"recent": False}, {"recent": "false"}, {"stamps": ["/etc/b"]}, {"texts": ["/more"]}):
        assert len(action(host_facts, {**question, **other}, {"changed": False})[1]) == 1
    assert len(action(host_facts, {"engine": "unix:///x"}, {"changed": False})[1]) == 1
    action(units_action, {"units": []}, {"changed": True})
    assert len(action(host_facts, question, {"changed": False})[1]) == 1


def test_rules_that_the_kernel_has(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    path = deployed.path("a.conf")
    asked: list[rules.Rules] = []

    def has(wanted: rules.Rules) -> bool:
        asked.append(wanted)
        return deployed.texts["kernel"] == "same"

    monkeypatch.setattr(rules, "NFT", path)
    monkeypatch.setattr(rules, "has", has)
    options = {"state": "tried", "path": path, "content": "a = 1", "table": "t", "timer": "x"}

    def calls(kernel: str, **more: Any) -> int:
        deployed.texts["kernel"] = kernel
        table = {"path": path, "table": "t"}
        found = host.take([path], [], table, snapshot.KEY)
        snapshot.remember("believed", json.loads(json.dumps(found)), snapshot.now())
        return len(action(firewall, {**options, **more}, {"changed": True})[1])

    assert calls("same") == 0
    assert (asked[0].text, asked[0].table) == ("a = 1\n", "t")
    assert calls("flushed") == 1
    assert calls("same", content="a = 2") == 1
    assert calls("same", state="confirmed") == 1
