"""Which files of the one host hold a secret, and who may read them: the whole host is searched, by content."""

from __future__ import annotations

import base64
import re
from typing import Any

import secrets_on_host as secrets

# Root of the containers is nobody of the host.
CONTAINERS = "165536:165536"
REPLICAS = ("3000", "3001", "3002")
SERVICES, RUNS = "dagster_database_password", "dagster_database_run_password"
MIGRATION = "dagster_database_migration_password"
DAEMON = "dagster_daemon_dagster1 dagster_guard"
UNITS = {"dagster-daemon.service": DAEMON, **{f"dagster-webserver@{port}.service": SERVICES for port in REPLICAS}}

# The secrets, owner, group and mode, and the accounts but root that can open the file.
FILES = {
    "/etc/dagster/pgpass": (SERVICES, "root:root 600", ""),
    "/etc/dagster/daemon.pgpass": (DAEMON, "root:root 600", ""),
    "/etc/dagster/environment.secret": ("", "root:root 600", ""),
    "/etc/dagster/containers/pgpass": (RUNS, f"{CONTAINERS} 400", ""),
    "/etc/dagster/code/pgpass": ("dagster_code", f"{CONTAINERS} 400", ""),
    # What systemd hands to a unit is for the unit's user.
    **{f"/run/credentials/{unit}/pgpass": (held, "dagster:root 400", "dagster") for unit, held in UNITS.items()},
}
FOLDERS = {
    "/etc/dagster": "root:dagster 750",
    "/etc/dagster/containers": f"{CONTAINERS} 500",
    "/etc/dagster/code": f"{CONTAINERS} 500",
    **{f"/run/credentials/{unit}": "dagster:root 500" for unit in UNITS},
}


def test_secrets_are_in_their_files_for_their_readers(passwords: dict[str, str], host: Any) -> None:
    """The migration's password is in no file. The control is a copy that the services' user may read."""
    logins = secrets.derived(passwords[MIGRATION], ["dagster_guard", "dagster_daemon_dagster1", "dagster_code"])
    copy = "/var/lib/dagster/copy"
    host.check_output("install -m 640 -g dagster /etc/dagster/pgpass %s", copy)
    try:
        found = secrets.look(host, {**passwords, **logins}, also=["/etc/dagster/environment.secret"])
    finally:
        host.check_output("rm %s", copy)
    assert found.files.pop(copy, None) == (SERVICES, "root:dagster 640", "dagster")
    found.folders.pop("/var/lib/dagster")
    secrets.assert_only(found, FILES, FOLDERS)


def test_secrets_show_nowhere_else(passwords: dict[str, str], host: Any) -> None:
    expected = {SERVICES: ["/etc/dagster/pgpass"], RUNS: ["/etc/dagster/containers/pgpass"]}
    assert expected.keys() <= passwords.keys()
    for variable, secret in passwords.items():
        # The secret itself must not stand in the command: sudo writes that to the journal.
        # A password file escapes ':' and backslash.
        escaped = re.sub(r"([\\:])", r"\\\1", secret)
        setup = "".join(
            f"{name}=$(echo {base64.b64encode(text.encode()).decode()} | base64 -d); "
            for name, text in (("secret", secret), ("escaped", escaped))
        )
        places = {
            "control": 'grep -lF -e "$secret" -e "$escaped" /etc/dagster/pgpass /etc/dagster/containers/pgpass',
            "processes": 'grep -alsF -e "$secret" -e "$escaped" /proc/[0-9]*/cmdline /proc/[0-9]*/environ',
            "containers": 'docker inspect $(docker ps -aq) | grep -F -e "$secret" -e "$escaped"',
            "journal": 'journalctl --no-pager -o export | grep -aF -e "$secret" -e "$escaped"',
        }
        found = {place: host.run(f"{setup}{command} || true").stdout.split() for place, command in places.items()}
        assert found["control"] == expected.get(variable, []), variable
        assert found["containers"] == [], variable
        assert found["journal"] == [], variable
        # grep has the word in its own arguments for a moment; nobody else may.
        for path in found["processes"]:
            command = host.run("tr '\\0' ' ' < %s", path).stdout
            assert not command or command.startswith(("grep ", "/bin/sh -c secret=")), (
                f"{variable} in {path}: {command}"
            )
