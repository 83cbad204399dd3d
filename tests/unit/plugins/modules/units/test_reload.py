"""Module units: when a reload is over, and when it was refused."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fake_systemd import SPEC, UP, Systemd

from ansible_collections.dataops.dagster.plugins.module_utils._host import units


def test_reload_is_over_when_a_worker_is_newer(new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload keeps the main process, so its age says nothing."""
    spec = {**SPEC, "files": [new], "reload": True}
    monkeypatch.setattr(units, "processes", lambda cgroup: [os.getpid()] if cgroup == "/x" else [])
    assert units.wanted_action(spec, UP) == ("reload", f"{new} is newer than the process")
    # This process may have been made a moment ago: the file is younger, and the worker is younger than the file.
    written = units.started_at(os.getpid()) + 0.1
    time.sleep(max(0.0, written + 0.1 - time.time()))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as worker:
        monkeypatch.setattr(units, "processes", lambda _cgroup: [os.getpid(), worker.pid])
        os.utime(new, (written, written))
        assert units.wanted_action(spec, UP) == ("", "")
        assert units.wanted_action({**spec, "reload": False}, UP)[0] == "restart"
        worker.communicate(b"\n")


def test_reload_applies_no_unit_file(new: str, old: str) -> None:
    """systemd gives sandbox and command to a process at its start. A unit file of others is left to them."""
    ours = {**SPEC, "files": [old, new], "reload": True}
    for place in ({"FragmentPath": new}, {"FragmentPath": old, "DropInPaths": f"{old} {new}"}):
        action, reason = units.wanted_action(ours, {**UP, **place})
        assert (action, reason) == ("restart", f"{new} is newer than the process, and a reload would not apply it")
        assert units.wanted_action({**ours, "files": [old]}, {**UP, **place})[0] == "reload"
    assert units.wanted_action({**ours, "files": [old]}, {**UP, "FragmentPath": old}, [old])[0] == "restart"


def test_processes_of_a_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unit").mkdir()
    (tmp_path / "unit/cgroup.procs").write_text("12\n13\n")
    (tmp_path / "cgroup.procs").write_text("2\n")
    monkeypatch.setattr(units, "CGROUPS", ("/no/such/folder", str(tmp_path)))
    assert units.processes("/unit") == [12, 13]
    assert units.processes("/other") == []
    assert units.processes("") == [], "the processes of the root group are not the unit's"


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

    systemd.run = refuse
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

    systemd.run = die
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

    systemd.run = fail
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
