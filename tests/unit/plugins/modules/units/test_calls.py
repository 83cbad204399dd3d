"""Module units: which commands the actions become. systemd itself is not asked."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
from fake_systemd import UP, Systemd

from ansible_collections.dataops.dagster.plugins.module_utils._host import units


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


def test_restarts_and_reloads_are_in_the_order_of_the_list(call: Any, new: str) -> None:
    """HAProxy before nginx, whichever of them needs a restart; what the second refuses does not keep the first back."""
    specs = [
        {"name": "a.service", "files": [new], "reload": True, "check": ["a", "-t"]},
        {"name": "b.service", "files": [new], "check": ["b", "-t"]},
    ]
    order = ["a -t", "systemctl reload a.service", "b -t", "systemctl restart b.service"]
    systemd = Systemd({"a.service": UP, "b.service": UP})
    assert call(systemd, *specs)[1] == 0
    assert [command for command in systemd.calls if command in order] == order
    refusing = Systemd({"a.service": UP, "b.service": UP})
    refusing.broken = "b -t"
    assert call(refusing, *specs)[1] == 1
    assert [command for command in refusing.calls if command in order] == order[:3]


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
        "systemctl disable --now gone.service",
        # a restarted unit too comes up at boot, without a second run
        "systemctl enable --quiet up2.service new1.service plain.service",
        "systemctl reset-failed new1.service new2.service",
        "systemctl start new1.service new2.service",
        "systemctl restart up1.service",
        "systemctl restart up2.service",
        "nginx -t",
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
