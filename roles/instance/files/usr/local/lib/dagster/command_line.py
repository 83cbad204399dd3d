# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Dagster's command line by hand, as root: put it before a command of Dagster's documentation.

    COMMAND dagster run list
    COMMAND dagster sensor cursor my_sensor --set 7 --location pipeline

The command runs as the user of the services, with their environment and the database login of the webservers, in the
folder of dagster.yaml and workspace.yaml. So name files with their whole path.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import sys
from dataclasses import dataclass

# As filter environment_file writes it: one value in double quotes, which may go over several lines.
VARIABLE = re.compile(r'^([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"$', re.MULTILINE | re.DOTALL)
KEPT = ("LANG", "LC_ALL", "TERM", "COLUMNS", "LINES")  # of the terminal


@dataclass(frozen=True)
class Instance:
    """What role instance says about itself."""

    command: str  # path of the command that calls this program
    unit: str  # of the daemon
    user: str
    home: str
    programs: str  # folder of dagster and its like
    secrets: str  # JSON: the secret files of home, each with the variable (NAME=VALUE) whose value has its path


def refusal(instance: Instance, command: list[str]) -> str:
    """Why a command is not run, empty when it is."""
    name = os.path.basename(command[0])
    if [name, *command[1:2]] == ["dagster", "dev"] or (name == "dagster-daemon" and "run" in command[1:]):
        return (
            f"{' '.join([name, *command[1:2]])} is not run: it would be a second daemon, and exactly one may run. That "
            f"is unit {instance.unit}: systemctl status on the hosts of group dagster_daemon says which of them runs "
            "it, systemctl restart restarts it, and playbooks/daemon_switchover.yml moves it."
        )
    return ""


def variables(text: str) -> dict[str, str]:
    """The variables of an EnvironmentFile that filter environment_file has written."""
    return {name: re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL) for name, value in VARIABLE.findall(text)}


def environment(instance: Instance, home: str) -> dict[str, str]:
    """The environment of the services without the password, and what a terminal needs."""
    found = {name: os.environ[name] for name in KEPT if name in os.environ}
    for name in ("environment", "environment.secret"):
        with open(os.path.join(instance.home, name), encoding="utf-8") as stream:
            found.update(variables(stream.read()))
    return {**found, "HOME": home, "PATH": f"{instance.programs}:/usr/local/bin:/usr/bin:/bin"}


def copied(path: str, user: pwd.struct_passwd) -> str:
    """The path of a copy in memory, which only this process and what it becomes can read.

    Module systemd_service has such a function as well, but in a deployment that is being upgraded it may be older.
    """
    with open(path, "rb") as stream:
        secret = stream.read()
    descriptor = os.memfd_create(os.path.basename(path), 0)
    os.set_inheritable(descriptor, True)
    os.fchmod(descriptor, 0o600)
    os.fchown(descriptor, user.pw_uid, user.pw_gid)
    os.write(descriptor, secret)
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def run(instance: Instance, command: list[str]) -> None:
    """Becomes the command. Raises OSError."""
    user = pwd.getpwnam(instance.user)
    found = environment(instance, user.pw_dir)
    given = {}
    for file, variable in json.loads(instance.secrets).items():
        path = os.path.join(instance.home, file)
        name, _equals, value = variable.partition("=")
        given[name] = value.replace(path, copied(path, user))
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.umask(0o027)
    os.chdir(instance.home)
    os.environ["PATH"] = found["PATH"]  # where execvpe looks
    os.execvpe(command[0], command, {**found, **given})  # noqa: S606 - what root typed


def main(argv: list[str]) -> int:
    """The arguments are those of Instance, then the command."""
    instance, command = Instance(*argv[1:7]), argv[7:]
    name = os.path.basename(instance.command)
    if not command or command[0] in ("-h", "--help"):
        print(str(__doc__).replace("COMMAND", name), end="", file=sys.stdout if command else sys.stderr)
        return 0 if command else 2
    why = refusal(instance, command)
    if not why and os.geteuid() != 0:
        why = "run it as root: only root may read the password of the database"
    if not why:
        try:
            run(instance, command)
        except OSError as error:
            why = f"{command[0]} cannot be run: {error.filename or ''} {error.strerror}"
    print(f"{name}: {why}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
