"""What tests of the guard are given."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from guard_world import World, guard, lease


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


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


@pytest.fixture
def database() -> Any:
    where = {"host": "db.example", "port": 5432, "name": "dagster"}
    return lease.Lease(where, "g", guard.Timings().attempt)
