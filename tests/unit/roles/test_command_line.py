# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Role instance's command_line.py: Dagster's command line by hand, which starts no second daemon."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import command_line
import pytest

from ansible_collections.dataops.dagster.plugins.filter.environment_file import environment_file

PROGRAM = command_line.__file__
SECRETS = {"PLAIN": "x", "SPECIAL": 'a"b\\c`d$e%f', "LINES": 'one\ntwo="2"\n', "EMPTY": ""}
DAGSTER = f"""#!{sys.executable}
import os, sys
print(sys.argv[1:])
print(os.getcwd(), os.getuid(), os.getgroups(), os.environ["HOME"])
print([os.environ.get(name) for name in {list(SECRETS)}], os.environ.get("FOREIGN"))
print(open(os.environ["PGPASSFILE"]).read(), oct(os.stat(os.environ["PGPASSFILE"]).st_mode & 0o777))
sys.exit(7)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "environment").write_text("# Managed\n" + environment_file({"DAGSTER_HOME": str(tmp_path)}))
    (tmp_path / "environment.secret").write_text(environment_file(SECRETS))
    (tmp_path / "pgpass").write_text("*:*:*:dagster:hunter2\n")
    (tmp_path / "dagster").write_text(DAGSTER)
    (tmp_path / "dagster").chmod(0o755)
    return tmp_path


def call(home: Path, *command: str, user: str = "") -> subprocess.CompletedProcess[str]:
    """The program as the command of an instance calls it."""
    user = user or pwd.getpwuid(os.getuid()).pw_name
    instance = ["/usr/local/bin/etl-cli", "etl-daemon", user, str(home), str(home), "PGPASSFILE", "pgpass"]
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
    instance = command_line.Instance("/x/etl-cli", "etl-daemon", "etl", "/etc/etl", "/opt", "PGPASSFILE", "pgpass")
    assert command_line.refusal(instance, command) == ""


def test_environment_is_read_as_it_was_written() -> None:
    assert command_line.variables("# Managed\n" + environment_file(SECRETS)) == SECRETS


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes the services' user")
def test_command_runs_as_the_services(home: Path) -> None:
    home.chmod(0o755)
    for folder in (home.parent, home.parent.parent):
        folder.chmod(0o755)
    (home / "pgpass").chmod(0o600)
    nobody = pwd.getpwnam("nobody")
    done = call(home, "dagster", "run", "list", "$HOME {x}", user="nobody")
    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines() == [
        str(["run", "list", "$HOME {x}"]),
        f"{home} {nobody.pw_uid} [{nobody.pw_gid}] {nobody.pw_dir}",
        f"{list(SECRETS.values())} None",
        "*:*:*:dagster:hunter2",
        " 0o600",
    ]


@pytest.mark.parametrize(
    ("command", "words"),
    [([], "etl-cli dagster run list"), (["dagster-graphq"], "etl-cli: dagster-graphq cannot be run:")],
)
def test_what_cannot_be_run(home: Path, command: list[str], words: str) -> None:
    done = call(home, *command)
    assert done.returncode == 2
    assert words in done.stderr or "run it as root" in done.stderr
