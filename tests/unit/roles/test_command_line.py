# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Role instance's command_line.py: Dagster's command line by hand, which starts no second daemon."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import command_line
import pytest

from ansible_collections.dataops.dagster.plugins.filter.environment_file import environment_file

PROGRAM = command_line.__file__
SECRETS = {"PLAIN": "x", "SPECIAL": 'a"b\\c`d$e%f', "MULTI": 'one\ntwo="2"\n', "EMPTY": ""}
DAGSTER = """#!/bin/sh
printf '[%s]' "$@"
echo; pwd; id -u; id -G; env
cat "$PGPASSFILE"
stat -Lc %a "$PGPASSFILE"
cat "$KUBECONFIG"
exit 7
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """DAGSTER_HOME and a program, in a folder that other users may enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "environment").write_text("# Managed\n" + environment_file({"DAGSTER_HOME": name}))
        (folder / "environment.secret").write_text(environment_file(SECRETS))
        (folder / "pgpass").write_text("*:*:*:dagster:hunter2\n")
        (folder / "pgpass").chmod(0o600)
        (folder / "kubeconfig").write_text("token\n")
        (folder / "kubeconfig").chmod(0o600)
        (folder / "dagster").write_text(DAGSTER)
        (folder / "dagster").chmod(0o755)
        yield folder


def call(home: Path, *command: str, user: str = "") -> subprocess.CompletedProcess[str]:
    """The program as the command of an instance calls it."""
    user = user or pwd.getpwuid(os.getuid()).pw_name
    instance = [
        "/usr/local/bin/etl-cli",
        "etl-daemon",
        user,
        str(home),
        str(home),
        json.dumps({"pgpass": f"PGPASSFILE={home}/pgpass", "kubeconfig": f"KUBECONFIG={home}/kubeconfig"}),
    ]
    return subprocess.run(
        [sys.executable, PROGRAM, *instance, *command],
        env={**os.environ, "FOREIGN": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    "command",
    [
        ["dagster-daemon", "run"],
        ["dagster-daemon", "run", "-w", "/etc/dagster/workspace.yaml"],
        ["/opt/dagster/current/bin/dagster-daemon", "run"],
        ["dagster", "dev"],
    ],
)
def test_second_daemon_is_refused(home: Path, command: list[str]) -> None:
    done = call(home, *command)
    assert (done.returncode, done.stdout) == (2, "")
    name = f"{os.path.basename(command[0])} {command[1]}"
    assert done.stderr.startswith(f"etl-cli: {name} is not run: it would be a second daemon, and exactly one may run.")
    assert "unit etl-daemon" in done.stderr
    assert "playbooks/daemon_switchover.yml" in done.stderr


@pytest.mark.parametrize(
    "command",
    [["dagster-daemon", "liveness-check"], ["dagster", "run", "list"], ["dagster", "job", "launch", "-j", "dev"]],
)
def test_everything_else_is_run(command: list[str]) -> None:
    instance = command_line.Instance("/x/etl-cli", "etl-daemon", "etl", "/etc/etl", "/opt", "{}")
    assert command_line.refusal(instance, command) == ""


def test_environment_is_read_as_it_was_written() -> None:
    assert command_line.variables("# Managed\n" + environment_file(SECRETS)) == SECRETS


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes the services' user")
def test_command_runs_as_the_services(home: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    done = call(home, "dagster", "run", "list", "$HOME {x}", user="nobody")
    assert done.returncode == 7, done.stderr
    said = done.stdout.splitlines()
    assert said[:4] == ["[run][list][$HOME {x}]", str(home), str(nobody.pw_uid), str(nobody.pw_gid)]
    assert said[-3:] == ["*:*:*:dagster:hunter2", "600", "token"]
    for name, value in {**SECRETS, "DAGSTER_HOME": str(home), "HOME": nobody.pw_dir}.items():
        assert f"\n{name}={value}\n" in done.stdout
    assert "FOREIGN" not in done.stdout


@pytest.mark.parametrize(
    ("command", "words"),
    [([], "etl-cli dagster run list"), (["dagster-graphq"], "etl-cli: dagster-graphq cannot be run:")],
)
def test_what_cannot_be_run(home: Path, command: list[str], words: str) -> None:
    done = call(home, *command)
    assert done.returncode == 2
    assert words in done.stderr or "run it as root" in done.stderr
