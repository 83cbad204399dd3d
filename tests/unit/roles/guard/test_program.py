"""The program around the guard: its configuration, systemd, its files and its clock."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from guard_world import ROOT, guard, lease

from ansible_collections.dataops.dagster.plugins.module_utils._database.dialects import DIALECTS


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


@pytest.mark.parametrize(
    ("role", "name", "variable"),
    [
        ("daemon", "dagster-daemon", "daemon.login"),
        ("webserver", "dagster-webserver", "webserver.login['read' if read_only else 'web']"),
    ],
)
def test_unit_names_its_credential(role: str, name: str, variable: str) -> None:
    text = (ROOT / "roles" / role / f"templates/etc/systemd/system/{name}.service.j2").read_text()
    credential = "{{ dagster_plan.storage.credential }}"
    assert f"\nLoadCredential={credential}:" in text
    assert f"\nEnvironment={{{{ dagster_plan.{variable} }}}}\n" in text


def test_dialect_knows_the_variables_of_the_plan() -> None:
    """Those of the host's program and those of the plan stand in two places: a host has no collection."""
    variables = DIALECTS["postgres"].VARIABLES
    assert lease.environment_of("d") == {variables["user"]: "d"}
    assert variables["credential"] in lease.Lease.__doc__


def test_unit_fits_the_guard() -> None:
    unit = (ROOT / "roles/daemon/templates/etc/systemd/system/dagster-daemon.service.j2").read_text()
    assert "Type=notify\n" in unit
    assert "WatchdogSec={{ dagster.daemon_watchdog | int }}\nWatchdogSignal=SIGKILL\n" in unit
    assert "RuntimeDirectory={{ dagster_plan.names.daemon }}\n" in unit, "the folder of the lock"
    assert "RuntimeDirectoryPreserve=yes\n" in unit, "a daemon that outlives its unit holds a lock that is still there"
    timeout = float(unit.split("TimeoutStopSec=")[1].split("\n")[0])
    assert timeout > guard.Timings().stop + guard.Timings().attempt + guard.KILL
