"""The daemon's process and the lock of its host, with real processes."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from guard_world import guard


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
