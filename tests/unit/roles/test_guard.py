"""Role daemon's guard.py and what it imports, without a database: its rules, and what it does with each answer,
refusal and silence.

tests/integration/test_guard.py runs it against PostgreSQL.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils._dialects import DIALECTS
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.daemon import timing_problems

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / "roles/daemon/files/usr/local/lib/dagster/guard.py"


class Refused(Exception):
    """Stands for psycopg2.Error."""


def load() -> ModuleType:
    """The program and its dialect with a stand-in for psycopg2, which is in Dagster's venv only."""
    extensions = SimpleNamespace(set_wait_callback=lambda _callback: None, POLL_OK=0, POLL_READ=1)
    library = SimpleNamespace(Error=Refused, OperationalError=Refused, extensions=extensions)
    before = {name: sys.modules.get(name) for name in ("psycopg2", "psycopg2.extensions")}
    sys.modules.update({"psycopg2": library, "psycopg2.extensions": extensions})  # type: ignore[dict-item]
    spec = importlib.util.spec_from_file_location("guard", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["guard"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    for name, library_before in before.items():
        if library_before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = library_before
    return module


guard = load()
lease = sys.modules["lease"]  # with the stand-in


# Timings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"renew": 1, "deadline": 4, "ttl": 6, "watchdog": 3}, ""),
        ({"renew": 0}, "renew must be above 0"),
        ({"deadline": 5}, "deadline must be at least 3 x renew"),
        ({"ttl": 11}, "ttl must be at least deadline + 2"),
        ({"watchdog": 3}, "watchdog must be at least 2 x renew"),
        ({"watchdog": 11}, "ttl must be at least watchdog + 2 x renew + 1"),
        ({"heartbeat": 0}, "heartbeat must be above 0"),
    ],
)
def test_timings(changes: dict[str, Any], words: str) -> None:
    problems = guard.Timings(**changes).problems()
    assert [words] == [problem[: len(words)] for problem in problems] if words else problems == []


def test_preflight_refuses_what_the_guard_refuses() -> None:
    values = itertools.product((0, 1, 2, 3), (3, 4, 6, 9, 10), (5, 6, 8, 11, 12, 15), (2, 3, 4, 6, 9))
    for renew, deadline, ttl, watchdog in values:
        timings = guard.Timings(renew=renew, deadline=deadline, ttl=ttl, watchdog=watchdog)
        variables = {
            "dagster_daemon_lease_renew": renew,
            "dagster_daemon_lease_deadline": deadline,
            "dagster_daemon_lease_ttl": ttl,
            "dagster_daemon_watchdog": watchdog,
            "dagster_daemon_heartbeat_timeout": 120,
        }
        assert bool(timings.problems()) == bool(timing_problems(variables)), timings


def test_the_last_sign_of_life_does_not_outlast_the_lease() -> None:
    for timings in (guard.Timings(), guard.Timings(renew=1, deadline=4, ttl=6, watchdog=3)):
        assert timings.problems() == []
        assert timings.trusted + timings.watchdog < timings.ttl, "a guard that freezes right after WATCHDOG=1"
        assert timings.trusted >= 2 * timings.renew, "one slow answer must not silence a healthy guard"
        assert timings.attempt < timings.watchdog, "nor may the wait for an answer"


# Who may take the lease


@pytest.mark.parametrize(
    ("row", "unchanged", "allowed"),
    [
        ({"holder": ""}, 0, True),
        ({"holder": "", "wanted": "a"}, 0, True),
        ({"holder": "", "wanted": "b"}, 0, False),
        ({"holder": "", "wanted": "b"}, 15, True),
        ({"holder": "b"}, 14.9, False),
        ({"holder": "b"}, 15, True),
        ({"holder": "a", "boot": "now"}, 0, True),
        ({"holder": "b", "boot": "now"}, 0, False),  # containers of one machine share its boot
        ({"holder": "a", "boot": "before"}, 0, False),
        ({"holder": "a", "boot": "before"}, 15, True),
    ],
)
def test_may_take(row: dict[str, str], unchanged: float, allowed: bool) -> None:
    values = {"epoch": 1, "generation": 1, "holder": "", "boot": "", "wanted": "", **row}
    assert guard.may_take(guard.Row(**values), "a", "now", unchanged, 15) is allowed


def test_watch_goes_by_its_own_clock() -> None:
    watch = guard.Watch()
    assert watch.see((1, 1), 100.0) == 0
    assert watch.see((1, 1), 114.0) == 14
    assert watch.see((1, 2), 115.0) == 0
    assert watch.see((1, 2), 116.0) == 1


# The protocol, with a clock and a database that the test drives


class World:
    """A guard on host a, its clock, the answers of its database, and what happened.

    A call takes as long as `slow` says: half of it is the way to the database, half of it the way back.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 1000.0
        self.row: list[Any] = [4, 40, "", "", "", "heartbeat 1"]
        self.answers: dict[str, bool] = {}
        self.down = False
        self.failing: set[str] = set()  # functions that raise at once
        self.slow: dict[str, float] = {}
        self.calls: list[str] = []
        self.arguments: dict[str, tuple[Any, ...]] = {}
        self.sent: dict[str, float] = {}  # when the last call that had an answer was sent
        self.limits: list[float] = []
        self.told: list[str] = []
        self.alive: list[float] = []  # when systemd heard WATCHDOG=1
        self.done: list[str] = []
        self.when: list[float] = []  # of each entry of done
        self.process: SimpleNamespace | None = None
        self.started = self.ended = 0.0
        self.status: int | None = None
        monkeypatch.setattr(guard, "now", lambda: self.time)
        monkeypatch.setattr(guard, "tell", self.tell)
        config = SimpleNamespace(host="a", login="dagster_daemon_a", timings=guard.Timings())
        self.guard = guard.Guard(config, self, self, "now")

    # As systemd

    def tell(self, text: str) -> None:
        self.told.append(text)
        if text == "WATCHDOG=1":
            self.alive.append(self.time)

    # As the database

    def call(self, function: str, *arguments: Any, limit: float) -> tuple[Any, ...]:
        self.calls.append(function)
        self.arguments[function] = arguments
        self.limits.append(limit)
        took, sent = self.slow.get(function, 0.0), self.time
        if self.down or took > limit:
            self.time += limit
            raise Refused("no answer in time")
        if function in self.failing:
            raise Refused("refused")
        self.time += took / 2
        answer = self.answer(function)
        self.time += took / 2
        self.sent[function] = sent
        return answer

    def answer(self, function: str) -> tuple[Any, ...]:
        if function == "look":
            return tuple(self.row)
        if function == "take" and self.answers.get("take", True):
            self.row[:4] = [self.row[0] + 1, self.row[1] + 1, "a", "now"]
        if function == "renew" and self.answers.get("renew", True):
            self.row[1] += 1
        return (self.answers.get(function, True),)

    # As the daemon

    def note(self, event: str) -> None:
        self.done.append(event)
        self.when.append(self.time)

    def start(self, epoch: int) -> None:
        self.note(f"start {epoch}")
        self.process, self.started = SimpleNamespace(pid=7), self.time

    def signal(self, number: int) -> None:
        self.note(signal.Signals(number).name)

    def kill(self) -> None:
        if self.process is not None:
            self.note("kill")
        self.process, self.ended = None, self.time

    def reap(self) -> int | None:
        status, self.status = self.status, None
        if status is not None:
            self.process, self.ended = None, self.time
        return status

    # As time

    def go(self, seconds: float) -> None:
        """Lets the guard's loop run for so long."""
        end = self.time + seconds
        while self.time < end:
            self.guard.alive()
            try:
                self.guard.step()
            except Refused as error:
                self.guard.complain(error)
            self.time += max(0.01, min(self.guard.pause(), end - self.time))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_takes_fences_then_starts(world: World) -> None:
    world.go(0.1)
    assert world.calls == ["look", "take", "fence"]
    assert world.done == ["start 5"]
    alive = "WATCHDOG=1"  # before the first call, and before the third one
    assert world.told[:3] == [alive, alive, "READY=1\nSTATUS=active: starting the daemon, a holds the lease, epoch 5"]
    assert world.told[-1] == "STATUS=active: daemon runs as PID 7, a holds the lease, epoch 5"
    assert world.told.count("READY=1") == 0
    assert len([text for text in world.told if "READY=1" in text]) == 1
    # Compare-and-set: with what was seen, for this host, its boot and the login that is let in.
    assert world.arguments["take"] == ("a", "now", "dagster_daemon_a", 4, 40)
    assert world.arguments["fence"] == (5,)


def test_does_not_start_before_the_fence(world: World) -> None:
    world.answers["fence"] = False
    world.go(5)
    assert world.done == []


def test_does_not_start_while_the_fence_has_no_answer(world: World) -> None:
    world.failing = {"fence"}
    world.go(5)
    assert world.calls.count("fence") > 1, "it is tried again"
    assert world.done == []
    world.failing = set()
    world.go(1)
    assert world.done == ["start 5"], "the control: only the fence was missing"
    world.go(10)
    assert world.calls[world.calls.index("renew") :].count("take") == 0


def test_does_not_start_when_the_fence_answers_after_the_deadline(world: World) -> None:
    world.failing = {"fence", "renew"}
    world.go(5)
    world.time = world.guard.renewed + world.guard.timings.deadline - 0.02
    world.failing, world.slow = {"renew"}, {"fence": 0.05}
    world.guard.lead()
    assert world.guard.fenced, "the control: the fence did answer"
    assert world.done == []


def test_somebody_was_faster(world: World) -> None:
    world.answers["take"] = False
    world.go(1)
    assert world.done == []
    assert "fence" not in world.calls
    assert world.calls[:3] == ["look", "take", "look"]
    assert world.sent["look"] - 1000 > 0.9, "who it is shows at once, not a period later"


def test_nothing_is_ready_before_the_database_has_answered(world: World) -> None:
    """The unit is Type=notify: a play must see that the database cannot be reached."""
    world.down = True
    world.go(30)
    assert set(world.told) == {"WATCHDOG=1"}
    world.down = False
    world.go(3)
    assert any(text.startswith("READY=1") for text in world.told), "the control"


def test_standby_says_that_the_database_is_silent(world: World) -> None:
    world.row[2:4] = ["b", "x"]
    world.go(1)
    world.down = True
    world.go(10)
    assert world.told[-1] in ("WATCHDOG=1", "STATUS=standby: no answer from the database: no answer in time")
    assert world.told.count("STATUS=standby: no answer from the database: no answer in time") == 1


def test_trouble_is_said_once_and_again_after_it_was_over(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.row[2:4] = ["b", "x"]
    for _time in range(2):
        world.down = True
        world.go(10)
        world.down = False
        world.go(5)
    assert capsys.readouterr().err.count("guard: database: no answer in time") == 2


# With calls that take time


@pytest.mark.parametrize("slow", [{}, {"take": 2.0}, {"fence": 2.0}, {"take": 2.0, "fence": 2.0}])
def test_the_lease_is_counted_from_the_sending_of_take(world: World, slow: dict[str, float]) -> None:
    """Another host may have seen the row as soon as the database has written it, long before the answer is here."""
    world.slow = slow
    while world.process is None:
        world.go(0.01)
    sent = world.sent["take"]
    assert world.time - sent >= sum(slow.values()), "the control: the answers took their time"
    world.slow, world.down = {}, True
    world.go(20)
    assert world.done == ["start 5", "kill"]
    assert world.when[-1] - sent == pytest.approx(guard.Timings().deadline, abs=0.06)


@pytest.mark.parametrize("took", [0.0, 1.0, 2.5])
def test_the_lease_is_counted_from_the_sending_of_renew(world: World, took: float) -> None:
    world.go(1)
    world.slow = {"renew": took}
    world.go(8)
    sent = world.sent["renew"]
    assert sent > 1001, "the control: it was renewed"
    world.down = True
    world.go(20)
    assert world.done == ["start 5", "kill"]
    assert world.when[-1] - sent == pytest.approx(guard.Timings().deadline, abs=0.06)


@pytest.mark.parametrize("refuses", [True, False])
def test_the_end_comes_at_the_deadline_however_the_database_fails(world: World, refuses: bool) -> None:
    """Also between two tries: a database that refuses at once leaves the guard asleep in between."""
    world.go(1.3)
    sent = world.sent["take"]
    world.failing, world.down = {"look", "renew"} if refuses else set(), not refuses
    world.go(20)
    assert world.when[1] - sent == pytest.approx(guard.Timings().deadline, abs=0.06)


@pytest.mark.parametrize("took", [0.0, 2.0])
def test_standby_counts_from_the_answer_and_takes_as_soon_as_it_may(world: World, took: float) -> None:
    """What was read may be as young as the answer; from there it is exactly ttl, not a period of the looks later."""
    world.row[2:4], world.slow = ["b", "x"], {"look": took}
    world.go(0.01)
    answered = 1000 + took
    assert world.guard.lease.since == answered
    while "take" not in world.calls:
        world.go(0.01)
    assert world.sent["look"] + took <= world.sent["take"]
    assert answered + 15 <= world.sent["take"] <= answered + 15 + took + 0.1


def test_slow_answers_silence_no_healthy_guard(world: World) -> None:
    """Each answer comes within its limit, so that systemd has no reason to end anything."""
    attempt = guard.Timings().attempt
    world.slow = dict.fromkeys(("look", "take", "fence", "renew"), attempt - 0.1)
    world.go(120)
    assert world.done == ["start 5"], "neither the deadline nor a second take"
    pauses = [after - before for before, after in itertools.pairwise([1000.0, *world.alive])]
    assert max(pauses) > attempt, "the control: the answers took their time"
    assert max(pauses) < guard.Timings().watchdog


def test_holder_tries_again_sooner(world: World) -> None:
    world.go(1)
    world.failing = {"renew"}
    before = world.calls.count("renew")
    world.go(8)
    assert world.calls.count("renew") - before >= 14
    world.failing = set()
    world.go(5)
    assert world.done == ["start 5"], "answers that were lost end nothing before the deadline"


def test_standby_waits_for_its_own_observation(world: World) -> None:
    world.row[2:4] = ["b", "x"]
    world.go(14.5)
    assert world.done == []
    assert world.guard.status == "standby: b holds the lease, epoch 4"
    world.row[1] += 1
    world.go(15)
    assert world.done == []
    world.go(2.1)
    assert world.done == ["start 5"]
    assert world.arguments["take"][3:] == (4, 41), "the row that it has watched"


def test_holder_ends_its_daemon_by_itself(world: World) -> None:
    world.go(1)
    world.down = True
    last = world.guard.renewed
    while world.process is not None:
        world.go(0.05)
    assert world.time - last == pytest.approx(10, abs=0.2)
    assert world.done == ["start 5", "kill"]
    assert world.guard.status.startswith("standby")
    world.down = False
    world.go(5)
    assert world.done[-1] == "start 6", "its own lease it takes back at once"


def test_silent_about_its_life_when_the_lease_is_old(world: World) -> None:
    world.go(1)
    last = world.guard.renewed
    world.down = True
    spoken = []
    while world.process is not None:
        world.told.clear()
        before = world.time
        world.guard.alive()
        if "WATCHDOG=1" in world.told:
            spoken.append(before)
        world.go(0.2)
    assert max(spoken) + guard.Timings().watchdog < last + guard.Timings().ttl
    world.told.clear()
    world.guard.alive()
    assert world.told == ["WATCHDOG=1"], "without a daemon it has nothing to fear"


def test_lease_that_another_host_took(world: World) -> None:
    world.go(1)
    world.answers["renew"] = False
    world.row[:4] = [6, 99, "b", "x"]
    world.go(2.5)
    assert world.done == ["start 5", "kill"]
    world.go(2)
    assert world.guard.status == "standby: b holds the lease, epoch 6"


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


def test_switchover(world: World) -> None:
    world.go(1)
    world.row[4] = "b"
    world.go(2.5)
    assert world.done == ["start 5", "SIGTERM"]
    world.status = 0
    world.row[2:4] = ["", ""]
    world.go(5)
    assert world.calls.count("release") == 1
    assert world.guard.status == "standby: the lease waits for b, epoch 5"


def test_asks_for_the_lease(world: World) -> None:
    world.row[2:4] = ["b", "x"]
    world.go(1)
    world.guard.handle(signal.SIGUSR1)
    assert world.calls[-1] == "request"
    world.row[2:5] = ["", "", "a"]
    world.go(0.5)
    assert world.done == ["start 5"]
    world.guard.handle(signal.SIGUSR1)
    assert world.calls.count("request") == 1, "the holder has nothing to ask for"


def test_no_call_of_a_holder_outlasts_its_deadline(world: World) -> None:
    world.go(1)
    last = world.guard.renewed
    world.down = True
    while world.process is not None:
        world.go(0.05)
        assert world.time <= last + guard.Timings().deadline + 0.2
    assert max(world.limits) <= guard.Timings().attempt


# The daemon's process


@pytest.fixture
def unblocked() -> Iterator[None]:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@pytest.fixture
def daemon(tmp_path: Path, unblocked: None) -> Iterator[Any]:  # noqa: ARG001 - the mask is put back at the end
    """A daemon that has not started; its command only waits. Signals are blocked as in the guard."""
    signal.pthread_sigmask(signal.SIG_BLOCK, guard.SIGNALS)
    config = SimpleNamespace(daemon_user="dagster_daemon_a", command=["sleep", "60"])
    found = guard.Daemon(config, guard.lock(str(tmp_path / "lock")))
    yield found
    found.kill()
    with contextlib.suppress(OSError):
        os.close(found.lock)


def is_locked(path: Path) -> bool:
    """Whether a second guard would have to wait."""
    with path.open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_daemon_keeps_the_lock_of_its_host(daemon: Any, tmp_path: Path) -> None:
    """A guard that is gone has left its daemon behind: the next one waits for that daemon's end."""
    daemon.start(5)
    os.close(daemon.lock)
    assert is_locked(tmp_path / "lock")
    daemon.kill()
    assert not is_locked(tmp_path / "lock"), "the control: nobody else held it"


class Slow:
    """A process whose end takes a moment after the signal, as that of a big one does."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def kill(self) -> None:
        threading.Timer(0.2, self.process.kill).start()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.process, name)


def test_end_of_a_daemon_is_waited_for(daemon: Any) -> None:
    """Whoever goes on after kill() has no daemon any more, not one that is just ending."""
    assert (daemon.process, daemon.started, daemon.ended) == (None, 0, 0), "none has ended yet: nothing to wait for"
    before = guard.now()
    daemon.start(5)
    assert before <= daemon.started <= guard.now(), "from here it has its time for a heartbeat"
    folder = Path(f"/proc/{daemon.process.pid}")
    assert folder.exists()
    daemon.process = Slow(daemon.process)
    before = guard.now()
    daemon.kill()
    assert not folder.exists()
    assert daemon.process is None
    assert before <= daemon.ended <= guard.now()


def test_daemon_hears_signals(daemon: Any) -> None:
    """The guard blocks them for itself, and a mask is inherited."""
    daemon.start(5)
    daemon.signal(signal.SIGTERM)
    assert daemon.process.wait(10) == -signal.SIGTERM
    assert daemon.reap() == -signal.SIGTERM
    assert daemon.process is None


def test_environment_of_the_daemon(daemon: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own login, the password file, and nothing by which it could speak to systemd for the guard."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY", "DAGSTER_HOME"):
        monkeypatch.setenv(name, "given")
    monkeypatch.setenv("PGPASSFILE", "/proc/1/fd/9")
    monkeypatch.setenv("DAGSTER_POSTGRES_USER", "dagster")
    daemon.config.command = ["sh", "-c", f"env > {tmp_path}/environment"]
    daemon.start(5)
    assert daemon.process.wait(10) == 0
    found = dict(line.split("=", 1) for line in (tmp_path / "environment").read_text().splitlines() if "=" in line)
    assert {name: found.get(name) for name in ("DAGSTER_POSTGRES_USER", "PGPASSFILE", "DAGSTER_GUARD_EPOCH")} == {
        "DAGSTER_POSTGRES_USER": "dagster_daemon_a",
        "PGPASSFILE": "/proc/1/fd/9",
        "DAGSTER_GUARD_EPOCH": "5",
    }
    assert found["DAGSTER_HOME"] == "given", "the control: the rest of the unit's environment is the daemon's"
    assert {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY"} & set(found) == set()


def test_daemon_ends_with_the_guard(daemon: Any) -> None:
    """The kernel sees to it, so that it is true however the guard ends."""
    daemon.config.command = [
        *(sys.executable, "-c"),
        "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n)); raise SystemExit(n.value)",
    ]
    daemon.start(5)
    assert daemon.process.wait(10) == signal.SIGKILL, "PR_GET_PDEATHSIG"


def test_daemon_of_a_guard_that_went_before_it_was_asked_for(daemon: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getppid", lambda: 1)
    daemon.start(5)
    assert daemon.process.wait(10) == -signal.SIGKILL


# The lock


def test_lock_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        descriptor = guard.lock(str(tmp_path / "lock"))
    finally:
        os.umask(before)
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    assert not os.get_inheritable(descriptor), "the daemon is given it, nobody else inherits it"
    assert is_locked(tmp_path / "lock")
    os.close(descriptor)


@pytest.mark.usefixtures("unblocked")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_waiting_for_the_lock_ends_with_the_unit(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, guard.SIGNALS)
    told: list[str] = []
    waited: list[float] = []

    def wait(_signals: set[signal.Signals], seconds: float) -> SimpleNamespace | None:
        waited.append(seconds)
        assert len(waited) <= 3, "it waits on"  # with its signals blocked nothing else would end this test
        return SimpleNamespace(si_signo=number) if len(waited) == 3 else None

    monkeypatch.setattr(guard, "tell", told.append)
    monkeypatch.setattr(signal, "sigtimedwait", wait)
    descriptor = guard.lock(str(tmp_path / "lock"))
    with pytest.raises(SystemExit) as end:
        guard.lock(str(tmp_path / "lock"))
    os.close(descriptor)
    assert end.value.code == 0
    assert len(waited) == 3
    assert told == [f"STATUS=waiting for {tmp_path}/lock"], "once"


# The connection


class Silent:
    """Stands for a connection whose server has accepted it and says nothing."""

    def __init__(self) -> None:
        self.ends = socket.socketpair()
        self.closed = False

    def fileno(self) -> int:
        return self.ends[0].fileno()

    def poll(self) -> int:
        return 1  # POLL_READ

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def database() -> Any:
    where = {"host": "db.example", "port": 5432, "name": "dagster"}
    return lease.Lease(where, "g", guard.Timings().attempt)


def test_no_call_outlasts_its_limit(database: Any) -> None:
    silent = Silent()
    before = guard.now()
    database.until = before + 0.2
    with pytest.raises(Refused, match="no answer in time"):
        database._wait(silent)
    assert 0.2 <= guard.now() - before < 2
    for end in silent.ends:
        end.close()


def test_what_a_connection_is_made_with(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server too gives up: a statement of a guard that is gone must not wait for a lock and then take the lease."""
    made: list[dict[str, Any]] = []

    def connect(**arguments: Any) -> SimpleNamespace:
        made.append(arguments)
        return SimpleNamespace(autocommit=False)

    monkeypatch.setattr(lease.psycopg2, "connect", connect, raising=False)
    monkeypatch.setattr(database, "_resolve", lambda host, _limit: f"address of {host}")
    database.until = guard.now() + 1
    assert database._connect().autocommit is True, "each call is a transaction of its own: take is over before fence"
    limit = int(1000 * guard.Timings().attempt)
    assert made == [
        {
            "host": "db.example",
            "hostaddr": "address of db.example",
            "port": 5432,
            "dbname": "dagster",
            "user": "g",
            "application_name": "dagster-guard",
            "options": f"-c statement_timeout={limit} -c lock_timeout={limit}",
        }
    ]
    database.where["host"] = "/run/postgresql"
    database._connect()
    assert "hostaddr" not in made[1], "a socket has no address"


class Answering:
    """Stands for a connection and its cursor."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    def cursor(self) -> Answering:
        return self

    def __enter__(self) -> Answering:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def execute(self, text: str, arguments: tuple[Any, ...]) -> None:
        self.asked.append((text, arguments))

    def fetchone(self) -> tuple[int, ...]:
        return (7,)


def test_each_call_has_its_limit_from_its_sending(database: Any) -> None:
    database.connection = Answering()
    for limit in (1.0, 3.0):
        before = guard.now()
        assert database.call("renew", "a", "boot", 5, limit=limit) == (7,)
        assert before + limit <= database.until <= guard.now() + limit
    query = "SELECT * FROM dagster_guard.renew(%s, %s, %s)"
    assert database.connection.asked == [(query, ("a", "boot", 5))] * 2


def test_psycopg_waits_with_our_limit(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise libpq waits, for as long as it likes."""
    made: list[Any] = []
    monkeypatch.setattr(lease.psycopg2.extensions, "set_wait_callback", made.append)
    fresh = lease.Lease(database.where, "g", 1)
    assert made == [fresh._wait]


def test_connection_that_failed_is_not_used_again(database: Any) -> None:
    silent = Silent()

    def cursor() -> None:
        raise Refused("gone")

    silent.cursor = cursor  # type: ignore[attr-defined]
    database.connection = silent
    with pytest.raises(Refused, match="gone"):
        database.call("look", limit=1)
    assert silent.closed
    assert database.connection is None
    for end in silent.ends:
        end.close()


def test_resolver_that_hangs(database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs its limit and no more, and the address that was found before is used."""
    program = tmp_path / "getent"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def getent(text: str) -> None:
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)

    getent("exec sleep 30")
    before = guard.now()
    with pytest.raises(Refused, match=r"the name db.example cannot be resolved"):
        database._resolve("db.example", 0.2)
    getent("echo 192.0.2.7 STREAM $2")
    assert database._resolve("db.example", 10) == "192.0.2.7"
    getent("exec sleep 30")
    assert database._resolve("db.example", 0.2) == "192.0.2.7"
    assert guard.now() - before < 15


# The program


def test_clock_goes_on_in_suspend(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that sleeps must not come back with a lease that its clock takes for fresh."""
    monkeypatch.setattr(time, "clock_gettime", {time.CLOCK_BOOTTIME: 5.0, time.CLOCK_MONOTONIC: 3.0}.__getitem__)
    assert guard.now() == 5.0


CONFIGURATION: dict[str, Any] = {
    "host": "a",
    "database": {},
    "user": "g",
    "daemon_user": "d",
    "login": None,
    "command": [],
    "lock": "x",
}


def test_configuration(tmp_path: Path) -> None:
    path = tmp_path / "guard.json"
    path.write_text(json.dumps({**CONFIGURATION, "timings": {"renew": 1, "deadline": 4, "ttl": 6, "watchdog": 3}}))
    assert guard.Config.read(str(path)).timings.ttl == 6
    path.write_text(json.dumps({**CONFIGURATION, "timings": {"ttl": 8}}))
    with pytest.raises(ValueError, match="timings do not hold: ttl must be at least deadline"):
        guard.Config.read(str(path))


@pytest.mark.usefixtures("unblocked")
def test_what_it_cannot_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guard.main(["guard"]) == 2
    assert "guard CONFIG" in capsys.readouterr().err
    for text in (None, "{", '{"host": "a"}', '{"hots": "a"}'):
        path = tmp_path / "guard.json"
        if text is not None:
            path.write_text(text)
        assert guard.main(["guard", str(path)]) == 2
        assert "the configuration cannot be used" in capsys.readouterr().err


@pytest.mark.usefixtures("unblocked")
def test_what_the_program_guards_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock comes before all else; signals are blocked by then, so that none ends it without its daemon."""
    path = tmp_path / "guard.json"
    path.write_text(json.dumps({**CONFIGURATION, "command": ["x"], "lock": "/the/lock"}))
    done: list[Any] = []

    def lock(name: str) -> int:
        assert set(guard.SIGNALS) <= signal.pthread_sigmask(signal.SIG_BLOCK, [])
        done.append(f"lock {name}")
        return 17

    def credentials() -> dict[str, str]:
        done.append("credentials")
        return {"PGPASSFILE": "/secrets"}

    class Found:
        def __init__(self, config: Any, database: Any, daemon: Any, boot: str) -> None:
            done.append((config.host, os.environ["PGPASSFILE"], database.attempt, daemon.lock, boot))

        def run(self) -> None:
            done.append("run")

    monkeypatch.setattr(guard, "lock", lock)
    monkeypatch.setenv("PGPASSFILE", "/the/credential")
    monkeypatch.setattr(guard, "credentials", credentials)
    monkeypatch.setattr(guard, "Guard", Found)
    assert guard.main(["guard", str(path)]) == 0
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert done == ["lock /the/lock", "credentials", ("a", "/secrets", guard.Timings().attempt, 17, boot), "run"]


def test_notification_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import systemd_service

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        systemd_service.tell("WATCHDOG=1")
        assert heard.recv(100) == b"WATCHDOG=1"
    monkeypatch.delenv("NOTIFY_SOCKET")
    systemd_service.tell("WATCHDOG=1")


def test_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that names one gets a copy of its own; nobody else's variable is touched."""
    import systemd_service

    monkeypatch.setenv("PGPASSFILE", f"{tmp_path}/pgpass")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    (tmp_path / "pgpass").write_text("secret")
    assert systemd_service.credentials() == {}, "this service has none: the file is somebody's own"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("OTHER", f"{tmp_path}er/pgpass")
    monkeypatch.setenv("MISSING", f"{tmp_path}/none")
    found = systemd_service.credentials()
    assert found.keys() == {"PGPASSFILE"}
    path = found["PGPASSFILE"]
    assert Path(path).read_text() == Path(path).read_text() == "secret"
    assert os.stat(path).st_mode & 0o777 == 0o600
    os.close(int(path.rsplit("/", 1)[1]))


def test_programs_of_version_0_1_find_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While an upgrade is on its way, one of them may be started: its unit names no variable and has one credential."""
    import systemd_service

    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert systemd_service.passfile() == ""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert systemd_service.passfile() == ""
    (tmp_path / "pgpass").write_text("secret")
    path = systemd_service.passfile()
    assert Path(path).read_text() == "secret"
    assert os.stat(path).st_mode & 0o777 == 0o600
    os.close(int(path.rsplit("/", 1)[1]))


@pytest.mark.parametrize("unit", ["daemon/dagster-daemon", "webserver/dagster-webserver"])
def test_unit_names_its_credential(unit: str) -> None:
    role, name = unit.split("/")
    text = (ROOT / "roles" / role / f"templates/etc/systemd/system/{name}.service.j2").read_text()
    credential = "{{ dagster_plan.storage.credential }}"
    assert f"\nLoadCredential={credential}:" in text
    assert f"\nEnvironment={{{{ dagster_plan.storage.variables.credential }}}}=%d/{credential}\n" in text


def test_dialect_knows_the_variables_of_the_plan() -> None:
    """Those of the host's program and those of the plan stand in two places: a host has no collection."""
    variables = DIALECTS["postgres"].VARIABLES
    assert lease.environment_of("d") == {variables["user"]: "d"}
    assert variables["credential"] in lease.Lease.__doc__


def test_unit_fits_the_guard() -> None:
    unit = (ROOT / "roles/daemon/templates/etc/systemd/system/dagster-daemon.service.j2").read_text()
    assert "Type=notify\n" in unit
    assert "WatchdogSec={{ dagster_daemon_watchdog | int }}\nWatchdogSignal=SIGKILL\n" in unit
    assert "RuntimeDirectory=dagster-daemon\n" in unit, "the folder of the lock"
    assert "RuntimeDirectoryPreserve=yes\n" in unit, "a daemon that outlives its unit holds a lock that is still there"
    timeout = float(unit.split("TimeoutStopSec=")[1].split("\n")[0])
    assert timeout > guard.Timings().stop + guard.Timings().attempt + guard.KILL
