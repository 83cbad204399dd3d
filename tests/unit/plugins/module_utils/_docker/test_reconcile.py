# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""All containers of an engine in memory; the same against a real engine is in tests/integration."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from fake_engine import Engine

from ansible_collections.dataops.dagster.plugins.module_utils._docker import health, reconcile
from ansible_collections.dataops.dagster.plugins.module_utils._docker.location import (
    DEFAULT_PREFIX,
    location_from_params,
)

NAME = f"{DEFAULT_PREFIX}-etl"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A new engine; nobody waits for it."""
    clock = itertools.count()
    monkeypatch.setattr(health, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda _seconds: None))
    return Engine()


def run(engine: Engine, *changes: dict[str, Any], check_mode: bool = False) -> list[reconcile.Outcome]:
    """One call for locations that differ in this from a usual one."""
    usual = {"name": "etl", "image": "code:1", "command": ["p", "serve"], "port": 4000, "restart_policy": "always"}
    locations = [location_from_params({**usual, **change}, "dagster", DEFAULT_PREFIX) for change in changes]
    asked = health.Health(engine, ["check"], 5)
    return reconcile.reconcile(engine, locations, asked, check_mode=check_mode, prefix=DEFAULT_PREFIX)


def standing(engine: Engine) -> dict[str, str]:
    """Names and commands of what runs."""
    held = engine.api.held.values()
    return {item["Name"].lstrip("/"): item["Config"]["Cmd"][-1] for item in held if item["State"]["Running"]}


def test_made_once_and_removed(engine: Engine) -> None:
    (planned,) = run(engine, {}, check_mode=True)
    assert (planned.action, planned.changed, engine.api.calls) == ("created", True, [])
    (made,) = run(engine, {})
    assert (made.action, made.error, made.container_id) == ("created", None, "c0")
    assert [call.split()[0] for call in engine.api.calls] == ["create", "start", "exec", "update"]
    assert engine.api.held["c0"]["HostConfig"]["RestartPolicy"]["Name"] == "always", "only once it was healthy"
    (again,) = run(engine, {})
    assert (again.action, again.changed) == ("none", False)
    (removed,) = run(engine)
    assert (removed.action, engine.api.held) == ("removed", {})


def test_a_swap_keeps_the_previous_until_the_new_one_is_healthy(engine: Engine) -> None:
    run(engine, {})
    engine.api.calls.clear()
    (swapped,) = run(engine, {"image": "code:2"})
    assert (swapped.action, swapped.container_id, swapped.image_id) == ("recreated", "c1", "sha256:2")
    assert [call.split()[:2] for call in engine.api.calls] == [
        ["create", f"{NAME}-next"],
        ["stop", "c0"],
        ["rename", "c0"],
        ["rename", "c1"],
        ["start", "c1"],
        ["exec", "c1"],
        ["update", "c1"],
        ["remove", "c0"],
    ]


@pytest.mark.parametrize(("command", "words"), [("bad", "ended with exit code 7"), ("deaf", "was not healthy within")])
def test_a_bad_image_puts_the_previous_container_back(engine: Engine, command: str, words: str) -> None:
    run(engine, {})
    (failed,) = run(engine, {"command": ["p", command]})
    assert failed.error is not None
    assert words in failed.error
    assert "The previous container (c0) serves again." in failed.error
    assert (failed.container_id, failed.image_id, standing(engine)) == ("c0", "sha256:1", {NAME: "serve"})


def test_time_and_health_command_of_a_location(engine: Engine) -> None:
    """They say when it is healthy, and change no container."""
    (failed,) = run(engine, {"command": ["p", "deaf"], "start_timeout": 75})
    assert "was not healthy within 75 s (dagster_code_locations[etl].start_timeout)" in str(failed.error)
    run(engine, {})
    engine.api.calls.clear()
    (same,) = run(engine, {"start_timeout": 75, "health_command": ["other"]})
    assert (same.action, same.changed) == ("none", False)


def test_code_that_does_not_load_is_not_waited_for(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    run(engine, {})
    monkeypatch.setattr(engine.api, "exec_inspect", lambda _number: {"Running": False, "ExitCode": 3})
    (failed,) = run(engine, {"image": "code:2"})
    assert "its code does not load" in str(failed.error)
    assert "log of c1" in str(failed.error)


@pytest.mark.parametrize(
    "change",
    [
        {"capabilities": ["SYS_PTRACE"]},
        {"devices": ["/dev/fuse"]},
        {"shm_size": "1g"},
        {"extra_hosts": {"a": "10.0.0.1"}},
        {"labels": {"team": "data"}},
        {"stop_timeout": 300},
    ],
    ids=str,
)
def test_a_changed_option_makes_a_new_container_of_that_location_alone(engine: Engine, change: dict[str, Any]) -> None:
    other = {"name": "ml", "port": 4001}
    run(engine, {}, other)
    assert [item.action for item in run(engine, change, other, check_mode=True)] == ["recreated", "none"]
    assert [item.action for item in run(engine, change, other)] == ["recreated", "none"]
    assert [item.action for item in run(engine, change, other)] == ["none", "none"]
    assert [item.action for item in run(engine, {}, other)] == ["recreated", "none"], "taken away"


SHIPPED = {"restart_policy": "unless-stopped"}


def policies(engine: Engine) -> dict[str, str]:
    """The restart policy of each container by its ID."""
    return {number: item["HostConfig"]["RestartPolicy"]["Name"] for number, item in engine.api.held.items()}


@pytest.mark.parametrize(
    "moment", ["before it is set aside", "before the new one has its name", "before it is healthy"]
)
def test_a_reboot_in_the_middle_of_a_swap_starts_what_served(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The engine does not start a container again that was stopped by a call, unless its policy is always."""
    run(engine, SHIPPED)
    assert policies(engine) == {"c0": "unless-stopped"}, "the control"

    def killed(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    if moment == "before it is healthy":
        with monkeypatch.context() as patch:
            patch.setattr(reconcile._Work, "_bring_up", killed)
            with pytest.raises(KeyboardInterrupt):
                run(engine, {**SHIPPED, "image": "code:2"})
    else:
        engine.api.failing["rename"] = int(moment == "before the new one has its name")
        run(engine, {**SHIPPED, "image": "code:2"})
        engine.api.failing.clear()
    assert (standing(engine), policies(engine)) == ({}, {"c0": "always", "c1": "no"})
    engine.api.start("c0")  # as the engine does at boot
    (done,) = run(engine, {**SHIPPED, "image": "code:2"})
    assert (done.error, done.image_id, standing(engine)) == (None, "sha256:2", {NAME: "serve"})
    assert list(policies(engine).values()) == ["unless-stopped"]
    assert not run(engine, {**SHIPPED, "image": "code:2"})[0].changed


def test_a_container_that_serves_again_has_its_policy_again(engine: Engine) -> None:
    run(engine, SHIPPED)
    run(engine, {**SHIPPED, "command": ["p", "bad"]})
    assert (standing(engine), policies(engine)) == ({NAME: "serve"}, {"c0": "unless-stopped"})
    assert not run(engine, SHIPPED)[0].changed


def test_a_port_moves_from_one_location_to_another(engine: Engine) -> None:
    run(engine, {"name": "a", "port": 1}, {"name": "b", "port": 2})
    engine.api.calls.clear()
    swapped = run(engine, {"name": "a", "port": 2}, {"name": "b", "port": 1})
    assert [item.error for item in swapped] == [None, None]
    assert {call.split()[0] for call in engine.api.calls[:2]} == {"stop"}, "both are free before one is taken"


def test_what_is_refused_in_place_is_done_by_a_swap(engine: Engine) -> None:
    run(engine, {"mem_limit": "1g"})
    engine.api.failing["update"] = 0
    (done,) = run(engine, {"mem_limit": "2g"})
    assert (done.action, done.error, done.container_id) == ("recreated", None, "c1")
    assert "the engine refused the change in place: no update today" in done.differences


@pytest.mark.parametrize("call", ["create", "stop", "rename", "start", "exec", "update", "remove"])
@pytest.mark.parametrize("after", [0, 1])
def test_a_call_that_failed_anywhere_is_finished_by_the_next(engine: Engine, call: str, after: int) -> None:
    run(engine, {"networks": ["extra"]})
    engine.api.failing[call] = after
    run(engine, {"networks": ["extra"], "image": "code:2"})
    engine.api.failing.clear()
    (done,) = run(engine, {"networks": ["extra"], "image": "code:2"})
    assert (done.error, done.image_id, standing(engine)) == (None, "sha256:2", {NAME: "serve"})
    (again,) = run(engine, {"networks": ["extra"], "image": "code:2"})
    assert (again.changed, len(engine.api.held)) == (False, 1)


def test_a_restored_container_keeps_its_own_image(engine: Engine) -> None:
    """A swap was cut off, its container is bad, and the next attempt fails too: the previous one is named."""
    run(engine, {})
    engine.api.rename("c0", f"{NAME}-previous")
    run(engine, {"image": "code:2", "command": ["p", "bad"]})
    engine.api.failing["create"] = 0
    (failed,) = run(engine, {"image": "code:2", "user": "1"})
    assert (failed.container_id, failed.image_id) == ("c0", "sha256:1")
