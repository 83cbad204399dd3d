"""Module units: which action a unit needs, and which commands that becomes. systemd itself is not asked."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.dataops.dagster.plugins.module_utils._host import units
from ansible_collections.dataops.dagster.plugins.modules import units as module

SPEC: dict[str, Any] = {"name": "a.service", "files": [], "reload": False, "check": [], "state": "started"}
UP = {"ActiveState": "active", "UnitFileState": "enabled", "MainPID": str(os.getpid()), "ControlGroup": "/x"}


def monotonic(seconds_ago: float) -> str:
    """A time stamp as systemd gives it."""
    return str(int((time.monotonic() - seconds_ago) * 1e6))


@pytest.fixture
def old(tmp_path: Path) -> str:
    """A file older than this process."""
    path = tmp_path / "old"
    path.write_text("x")
    os.utime(path, (1, 1))
    return str(path)


@pytest.fixture
def new(tmp_path: Path) -> str:
    """A file written just now."""
    path = tmp_path / "new"
    path.write_text("x")
    return str(path)


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


def test_reload_is_over_when_a_worker_is_newer(new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload keeps the main process, so its age says nothing."""
    spec = {**SPEC, "files": [new], "reload": True}
    monkeypatch.setattr(units, "processes", lambda cgroup: [os.getpid()] if cgroup == "/x" else [])
    assert units.wanted_action(spec, UP) == ("reload", f"{new} is newer than the process")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as worker:
        monkeypatch.setattr(units, "processes", lambda _cgroup: [os.getpid(), worker.pid])
        os.utime(new, (time.time() - 1, time.time() - 1))
        assert units.wanted_action(spec, UP) == ("", "")
        assert units.wanted_action({**spec, "reload": False}, UP)[0] == "restart"
        worker.communicate(b"\n")


def test_processes_of_a_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unit").mkdir()
    (tmp_path / "unit/cgroup.procs").write_text("12\n13\n")
    (tmp_path / "cgroup.procs").write_text("2\n")
    monkeypatch.setattr(units, "CGROUPS", ("/no/such/folder", str(tmp_path)))
    assert units.processes("/unit") == [12, 13]
    assert units.processes("/other") == []
    assert units.processes("") == [], "the processes of the root group are not the unit's"


class Systemd:
    """Stands for systemctl and journalctl, and remembers what it was told."""

    def __init__(self, states: dict[str, dict[str, str]]) -> None:
        self.states = states
        self.calls: list[str] = []
        self.broken = ""
        self.workers = [os.getpid(), 1]
        self.refuses = False  # a reload, as nginx does: systemctl says ok all the same

    def processes(self, cgroup: str) -> list[int]:
        return list(self.workers) if cgroup == "/x" else []

    def run(self, *argv: str) -> str:
        if argv[:2] == ("systemctl", "show"):
            if self.broken == "show":
                raise units.Failed("systemctl show ended with 1: no bus")
            blocks = ["\n".join(f"{key}={value}" for key, value in self.states[name].items()) for name in argv[3:]]
            return "\n\n".join(blocks) + "\n"
        self.calls.append(" ".join(argv))
        if argv[:2] == ("systemctl", "reload") and not self.refuses:
            self.workers.append(max(self.workers) + 1)
        if self.broken and self.calls[-1].startswith(self.broken):
            raise units.Failed(f"{self.calls[-1]} ended with 1: see the journal")
        return "died of cold\n" if argv[0] == "journalctl" else ""


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the module against a Systemd; result and exit status."""

    def run(systemd: Systemd, *specs: dict[str, Any], check: bool = False, **more: Any) -> tuple[dict[str, Any], Any]:
        monkeypatch.setattr(units, "run", systemd.run)
        monkeypatch.setattr(units, "processes", systemd.processes)
        with (
            patch_module_args({"units": list(specs), "_ansible_check_mode": check, **more}),
            contextlib.redirect_stdout(io.StringIO()) as output,
            pytest.raises(SystemExit) as status,
        ):
            module.main()
        return json.loads(output.getvalue()), status.value.code

    return run


def test_nothing_is_called_when_all_is_as_wanted(call: Any, old: str) -> None:
    systemd = Systemd({"a.service": UP, "b.timer": {**UP, "MainPID": "0", "ActiveEnterTimestampMonotonic": "0"}})
    result, _status = call(systemd, {"name": "a.service", "files": [old]}, {"name": "b.timer"})
    assert (result["changed"], result["actions"], systemd.calls) == (False, {}, [])
    assert result["started"]["b.timer"] == 0
    assert result["status"]["b.timer"] == ""
    assert result["started"]["a.service"] == int(units.started_at(int(UP["MainPID"]))) > 0


def test_status_is_waited_for(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    systemd = Systemd({"a.service": {**UP, "StatusText": "standby: b holds"}})
    asked = []

    def sleep(_seconds: float) -> None:
        asked.append(1)
        if len(asked) == 3:
            systemd.states["a.service"]["StatusText"] = "active: daemon runs"

    monkeypatch.setattr(time, "sleep", sleep)
    spec = {"name": "a.service", "status": "active"}
    result, _status = call(systemd, spec, check=True, status_timeout=20)
    assert (result["status"], len(asked)) == ({"a.service": "active: daemon runs"}, 3)
    spec["status"] = "standby"
    assert call(systemd, spec, check=True)[0]["status"] == {"a.service": "active: daemon runs"}, "nothing is waited for"
    systemd.states["a.service"]["ActiveState"] = "inactive"
    call(systemd, spec, check=True, status_timeout=20)
    assert len(asked) == 3, "a unit that is down has nothing to say"
    systemd.states["a.service"]["ActiveState"] = "active"
    monkeypatch.setattr(time, "monotonic", iter(range(0, 10000, 6)).__next__)
    call(systemd, spec, check=True, status_timeout=20)
    assert 3 < len(asked) < 9


def test_all_actions_in_one_call(call: Any, new: str) -> None:
    down = {"ActiveState": "inactive", "UnitFileState": "disabled", "MainPID": "0"}
    states = {
        "up1.service": UP,
        "up2.service": {**UP, "UnitFileState": "disabled"},
        "new1.service": down,
        "new2.service": {**down, "UnitFileState": "enabled"},
        "proxy.service": UP,
        "gone.service": UP,
        "plain.service": {**UP, "UnitFileState": "disabled"},
    }
    specs = [
        {"name": "up1.service", "files": [new]},
        {"name": "up2.service", "files": [new]},
        {"name": "new1.service"},
        {"name": "new2.service"},
        {"name": "proxy.service", "files": [new], "reload": True, "check": ["nginx", "-t"]},
        {"name": "gone.service", "state": "stopped"},
        {"name": "plain.service", "check": ["never", "called"]},
    ]
    systemd = Systemd(states)
    promised, _status = call(systemd, *specs, check=True)
    assert systemd.calls == []
    result, _status = call(systemd, *specs)
    assert result["changed"]
    assert result["actions"] == promised["actions"]
    assert {name: text.split(":")[0] for name, text in result["actions"].items()} == {
        "up1.service": "restart",
        "up2.service": "restart",
        "new1.service": "start",
        "new2.service": "start",
        "proxy.service": "reload",
        "gone.service": "stop",
        "plain.service": "enable",
    }
    assert systemd.calls == [
        "systemctl daemon-reload",
        "nginx -t",
        "systemctl disable --now gone.service",
        # a restarted unit too comes up at boot, without a second run
        "systemctl enable --quiet up2.service new1.service plain.service",
        "systemctl reset-failed new1.service new2.service",
        "systemctl start new1.service new2.service",
        "systemctl restart up1.service",
        "systemctl restart up2.service",
        "systemctl reload proxy.service",
    ]


def test_second_replica_is_not_restarted_after_the_first_failed(call: Any, new: str) -> None:
    systemd = Systemd({"a@1.service": {**UP, "ActiveState": "reloading"}, "a@2.service": UP})
    systemd.broken = "systemctl restart a@1"
    result, status = call(systemd, {"name": "a@1.service", "files": [new]}, {"name": "a@2.service", "files": [new]})
    assert status == 1
    assert "systemctl restart a@2.service" not in systemd.calls
    assert result["msg"] == (
        "systemctl restart a@1.service ended with 1: see the journal\nLast lines of a@1.service:\ndied of cold\n"
    )


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time passes only where the module sleeps; each sleep."""
    slept: list[float] = []
    start = time.monotonic()
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "monotonic", lambda: start + sum(slept))
    return slept


def test_reload_that_is_refused(call: Any, new: str, tmp_path: Path, hours: list[float]) -> None:
    """systemctl has said ok, but no process has read the files."""
    log = tmp_path / "error.log"
    log.write_text("of yesterday\n")
    systemd = Systemd({"proxy.service": UP, "b.service": UP})
    systemd.refuses = True
    run = systemd.run

    def refuse(*argv: str) -> str:
        if argv[1] == "reload":
            with log.open("a") as stream:
                stream.write("bind() to 0.0.0.0:8080 failed\n")
        return run(*argv)

    systemd.run = refuse  # type: ignore[method-assign]
    spec = {"name": "proxy.service", "files": [new], "reload": True, "log": str(log)}
    result, status = call(systemd, spec)
    assert status == 1
    assert result["msg"] == (
        "proxy.service has refused the reload: it has no new process after 20 s, so its old configuration still "
        "serves. It said:\ndied of cold\nbind() to 0.0.0.0:8080 failed\n"
    )
    assert systemd.calls[1] == "systemctl reload proxy.service"
    assert systemd.calls[2].startswith("journalctl --no-pager -o cat --since=@")
    assert 20 <= sum(hours) < 21
    # The next play tries again, and says so before.
    assert call(systemd, spec, check=True)[0]["actions"] == {
        "proxy.service": f"reload: {new} is newer than the process"
    }
    assert call(systemd, spec)[1] == 1
    systemd.refuses = False
    result, status = call(systemd, spec)
    assert not status
    assert result["changed"]


def test_reload_takes_its_time(call: Any, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new process comes after systemctl has said ok; one that ends meanwhile is none."""
    systemd = Systemd({"proxy.service": UP})
    systemd.refuses = True
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            systemd.workers.remove(1)
        if len(slept) == 5:
            systemd.workers.append(2)

    monkeypatch.setattr(time, "sleep", sleep)
    result, _status = call(systemd, {"name": "proxy.service", "files": [new], "reload": True})
    assert result["changed"]
    assert len(slept) == 5


def test_reload_that_cannot_be_verified(
    call: Any, new: str, hours: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container may hide the control groups: then no process is seen, before the reload or after it."""
    warnings: list[str] = []
    monkeypatch.setattr(units, "warn", warnings.append)
    systemd = Systemd({"proxy.service": {**UP, "ControlGroup": "/hidden"}, "seen.service": UP})
    spec = {"name": "proxy.service", "files": [new], "reload": True}
    call(systemd, {**spec, "name": "seen.service"})
    assert warnings == [], "the control"
    result, status = call(systemd, spec)
    assert (status, result["changed"]) == (0, True)
    assert systemd.calls[-1] == "systemctl reload proxy.service"
    assert warnings == [
        "The reload of proxy.service could not be verified: found no process in cgroup.procs of /hidden below "
        "/sys/fs/cgroup, /sys/fs/cgroup/systemd, /sys/fs/cgroup/unified, so a new process cannot be seen."
    ]
    assert sum(hours) == 0


@pytest.mark.parametrize("state", ["failed", "activating", "inactive"])
def test_unit_that_went_down_at_the_reload(state: str, call: Any, new: str, hours: list[float]) -> None:
    systemd = Systemd({"proxy.service": {**UP}})
    systemd.refuses = True
    run = systemd.run

    def die(*argv: str) -> str:
        if argv[1] == "reload":
            systemd.workers.clear()
            systemd.states["proxy.service"]["ActiveState"] = state
        return run(*argv)

    systemd.run = die  # type: ignore[method-assign]
    result, status = call(systemd, {"name": "proxy.service", "files": [new], "reload": True})
    assert status == 1
    assert result["msg"].startswith(
        f"proxy.service went down at the reload: it has no new process after 20 s and is {state}. It said:\ndied"
    )
    assert "still serves" not in result["msg"]
    assert sum(hours) >= 20


@pytest.mark.parametrize(
    "error", [units.Failed("journalctl ended with 1: no journal"), FileNotFoundError("journalctl")]
)
def test_journal_that_fails_hides_no_refusal(error: Exception, call: Any, new: str, hours: list[float]) -> None:
    systemd = Systemd({"proxy.service": UP})
    systemd.refuses = True
    run = systemd.run

    def fail(*argv: str) -> str:
        if argv[0] == "journalctl":
            raise error
        return run(*argv)

    systemd.run = fail  # type: ignore[method-assign]
    result, status = call(systemd, {"name": "proxy.service", "files": [new], "reload": True})
    assert status == 1
    assert result["msg"].startswith("proxy.service has refused the reload: ")
    assert result["msg"].endswith(f"It said:\n{error}\n")
    assert sum(hours) >= 20


def test_refusal_when_systemd_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    systemd = Systemd({"proxy.service": UP})
    monkeypatch.setattr(units, "run", systemd.run)
    assert units.refusal("proxy.service").endswith("its old configuration still serves."), "the control"
    systemd.broken = "show"
    assert units.refusal("proxy.service") == (
        "proxy.service has no new process 20 s after the reload. "
        "Whether it is up is unknown: systemctl show ended with 1: no bus."
    )


def test_what_a_log_has_gained(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert (units.size_of(None), units.size_of(str(log))) == (0, 0)
    assert (units.gained(None, 0), units.gained(str(log), 0)) == ("", "")
    log.write_text("old\n")
    size = units.size_of(str(log))
    log.write_text("old\nnew\n")
    assert units.gained(str(log), size) == "new\n"
    log.write_text("a\n")
    assert units.gained(str(log), size) == "a\n", "logrotate was faster"
    log.write_text("".join(f"{number}\n" for number in range(100)))
    assert units.gained(str(log), 0).split() == [str(number) for number in range(40, 100)], "the last lines"


@pytest.mark.parametrize(
    ("state", "reload"), [("active", True), ("active", False), ("inactive", True)], ids=["reload", "restart", "start"]
)
def test_failed_check_changes_nothing(call: Any, new: str, state: str, reload: bool) -> None:
    systemd = Systemd({"proxy.service": {**UP, "ActiveState": state}})
    systemd.broken = "nginx"
    spec = {"name": "proxy.service", "files": [new], "reload": reload, "check": ["nginx", "-t"]}
    result, status = call(systemd, spec)
    assert status == 1
    assert result["msg"].startswith("nginx -t ended with 1")
    assert systemd.calls == ["systemctl daemon-reload", "nginx -t"]


def test_systemd_that_does_not_answer(call: Any) -> None:
    systemd = Systemd({})
    systemd.broken = "show"
    result, status = call(systemd, {"name": "a.service"})
    assert status == 1
    assert result["msg"].startswith("systemctl show ended with 1: no bus")


def test_output_and_failure_of_a_real_command() -> None:
    assert units.run(sys.executable, "-c", "print('x')") == "x\n"
    with pytest.raises(units.Failed, match=r"ended with 3: broken$"):
        units.run(sys.executable, "-c", "import sys; print('broken', file=sys.stderr); sys.exit(3)")
