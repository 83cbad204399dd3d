"""What the guard does about its daemon: starting, watching, stopping it."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest
from guard_world import World, guard


def test_daemon_that_ends_is_started_again(world: World) -> None:
    world.go(1)
    world.status = 1
    world.go(1.5)
    assert world.done == ["start 5"]
    world.go(1)
    assert world.done == ["start 5", "start 5"]
    assert "take" not in world.calls[2:]


def test_daemon_without_heartbeats(world: World) -> None:
    world.go(110)
    world.row[5] = "heartbeat 2"
    world.go(115)
    assert world.done == ["start 5"]
    world.go(15)
    assert world.done == ["start 5", "kill", "start 5"]
    world.go(115)
    assert len(world.done) == 3, "a new daemon has its time"


def test_daemon_that_is_stopping_needs_no_heartbeat(world: World) -> None:
    """It writes none while it joins its threads."""
    world.go(100)
    world.guard.handle(signal.SIGTERM)
    world.go(70)
    assert world.done == ["start 5", "SIGTERM"]
    world.go(6)
    assert world.done == ["start 5", "SIGTERM", "kill"], "the control: its time to stop is over"


def test_heartbeats_that_cannot_be_read(world: World) -> None:
    world.row[5] = None
    world.go(300)
    assert world.done == ["start 5"]


def test_stop_keeps_the_lease_until_the_daemon_has_ended(world: World) -> None:
    world.go(1)
    world.guard.handle(signal.SIGTERM)
    world.go(20)
    assert world.done == ["start 5", "SIGTERM"]
    assert "release" not in world.calls
    assert world.calls[-2:] == ["renew", "look"]
    world.status = 0
    world.go(0.5)
    assert world.calls[-1] == "release"
    assert world.guard.epoch == 0
    assert world.told.count("STOPPING=1") == 1


def test_stop_that_takes_too_long(world: World) -> None:
    world.go(1)
    world.guard.handle(signal.SIGTERM)
    world.go(76)
    assert world.done == ["start 5", "SIGTERM", "kill"]
    assert "release" in world.calls
    assert world.arguments["release"] == ("a", "now", 5)


def test_second_stop_gives_no_more_time(world: World) -> None:
    world.go(1)
    world.guard.handle(signal.SIGINT)
    world.go(40)
    world.guard.handle(signal.SIGTERM)
    world.go(36)
    assert world.done == ["start 5", "SIGTERM", "kill"]
    assert world.when[2] - world.when[1] == pytest.approx(guard.Timings().stop, abs=0.2)


def test_stop_without_a_database(world: World) -> None:
    world.go(1)
    world.guard.handle(signal.SIGTERM)
    world.down, world.status = True, 0
    world.go(1)
    assert world.calls[-1] == "release", "it was tried"
    assert (world.guard.epoch, world.process) == (0, None), "the guard ends all the same"


def test_program_leaves_after_a_stop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not before the daemon has ended and the lease is given back."""
    received = [None, SimpleNamespace(si_signo=signal.SIGTERM), None, SimpleNamespace(si_signo=signal.SIGCHLD)]

    def wait(signals: set[signal.Signals], seconds: float) -> SimpleNamespace | None:
        assert signals == {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD}
        assert 0 <= seconds <= guard.Timings().renew
        world.time += 0.1
        found = received.pop(0)
        if not received:
            world.status = 0
        return found

    monkeypatch.setattr(signal, "sigtimedwait", wait)
    world.guard.run()
    assert received == []
    assert world.done == ["start 5", "SIGTERM"]
    assert world.calls[-1] == "release"
