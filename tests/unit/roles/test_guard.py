"""Role daemon's guard.py without a database: its rules, and what it does with each answer, refusal and silence.

tests/integration/test_guard.py runs it against PostgreSQL.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils import _preflight

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / "roles/daemon/files/usr/local/lib/dagster/guard.py"


class Refused(Exception):
    """Stands for psycopg2.Error."""


def load() -> ModuleType:
    """The program with a stand-in for psycopg2, which is in Dagster's venv only."""
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
        assert bool(timings.problems()) == bool(_preflight.timing_problems(variables)), timings


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
    """A guard on host a, its clock, the answers of its database, and what happened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 1000.0
        self.row: list[Any] = [4, 40, "", "", "", "heartbeat 1"]
        self.answers: dict[str, bool] = {}
        self.down = False
        self.calls: list[str] = []
        self.limits: list[float] = []
        self.told: list[str] = []
        self.done: list[str] = []
        self.process: SimpleNamespace | None = None
        self.started = self.ended = 0.0
        self.status: int | None = None
        monkeypatch.setattr(guard, "now", lambda: self.time)
        monkeypatch.setattr(guard, "tell", self.told.append)
        config = SimpleNamespace(host="a", login="dagster_daemon_a", timings=guard.Timings())
        self.guard = guard.Guard(config, self, self, "now")

    # As the database

    def call(self, function: str, *_arguments: Any, limit: float) -> tuple[Any, ...]:
        self.calls.append(function)
        self.limits.append(limit)
        if self.down:
            self.time += limit
            raise Refused("no answer in time")
        if function == "look":
            return tuple(self.row)
        if function == "take" and self.answers.get("take", True):
            self.row[:4] = [self.row[0] + 1, self.row[1] + 1, "a", "now"]
        if function == "renew" and self.answers.get("renew", True):
            self.row[1] += 1
        return (self.answers.get(function, True),)

    # As the daemon

    def start(self, epoch: int) -> None:
        self.done.append(f"start {epoch}")
        self.process, self.started = SimpleNamespace(pid=7), self.time

    def signal(self, number: int) -> None:
        self.done.append(signal.Signals(number).name)

    def kill(self) -> None:
        if self.process is not None:
            self.done.append("kill")
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
    assert world.told[1] == "READY=1\nSTATUS=active: starting the daemon, a holds the lease, epoch 5"
    assert world.told[-1] == "STATUS=active: daemon runs as PID 7, a holds the lease, epoch 5"


def test_does_not_start_before_the_fence(world: World) -> None:
    world.answers["fence"] = False
    world.go(5)
    assert world.done == []


def test_somebody_was_faster(world: World) -> None:
    world.answers["take"] = False
    world.go(1)
    assert world.done == []
    assert "fence" not in world.calls


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


# The program


def test_configuration(tmp_path: Path) -> None:
    path = tmp_path / "guard.json"
    values: dict[str, Any] = {
        "host": "a",
        "database": {},
        "user": "g",
        "daemon_user": "d",
        "login": None,
        "command": [],
        "lock": "x",
    }
    path.write_text(json.dumps({**values, "timings": {"renew": 1, "deadline": 4, "ttl": 6, "watchdog": 3}}))
    assert guard.Config.read(str(path)).timings.ttl == 6
    path.write_text(json.dumps({**values, "timings": {"ttl": 8}}))
    with pytest.raises(ValueError, match="timings do not hold: ttl must be at least deadline"):
        guard.Config.read(str(path))


@pytest.fixture
def unblocked() -> Iterator[None]:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


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


def test_notification_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import systemd_service

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        systemd_service.tell("WATCHDOG=1")
        assert heard.recv(100) == b"WATCHDOG=1"
    monkeypatch.delenv("NOTIFY_SOCKET")
    systemd_service.tell("WATCHDOG=1")


def test_password_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import systemd_service

    monkeypatch.setenv("PGPASSFILE", "/x")
    assert systemd_service.passfile() == "/x"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert systemd_service.passfile() == "/x", "the unit brings no password"
    (tmp_path / "pgpass").write_text("secret")
    path = systemd_service.passfile()
    assert Path(path).read_text() == Path(path).read_text() == "secret"
    assert os.stat(path).st_mode & 0o777 == 0o600
    os.close(int(path.rsplit("/", 1)[1]))


def test_unit_fits_the_guard() -> None:
    unit = (ROOT / "roles/daemon/templates/etc/systemd/system/dagster-daemon.service.j2").read_text()
    assert "Type=notify\n" in unit
    assert "WatchdogSec={{ dagster_daemon_watchdog | int }}\nWatchdogSignal=SIGKILL\n" in unit
    timeout = float(unit.split("TimeoutStopSec=")[1].split("\n")[0])
    assert timeout > guard.Timings().stop + guard.Timings().attempt + guard.KILL
