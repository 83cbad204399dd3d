"""A play that fails leaves nothing that a restart or a reboot would set off.

Each test makes site.yml fail at another place, in a way that preflight cannot see. The control is that it fails, with
the words of who refused it. What services read is then as it was, to the age of each file. At the end, with all of that
behind it, everything is restarted, and the host is rebooted.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from deployment import ROOT, Dagster, Play, at_task, kill, reboot, until
from long import but

OTHER = "1.13.26"
LOCATION = {
    "name": "pipeline",
    "port": 4000,
    "module": "no.such.module",
    "build": {
        "context": str(ROOT / "examples/pipeline"),
        "args": "{{ pipeline_build_args }}",
        "base_archive": "{{ pipeline_base_archive }}",
    },
}
# What the user writes, who refuses it, and the variable that the failure names.
KINDS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nginx": (
        {"dagster_nginx_server_name": "~("},
        ["nginx -t ended with 1", "closing parenthesis", "Nothing was changed", "dagster_nginx_server_name"],
    ),
    "haproxy": (
        {"dagster_haproxy_webservers": ["127.0.0.1 nonsense"]},
        ["haproxy -c", "Nothing was changed", "dagster_haproxy_webservers"],
    ),
    "postgres": (
        {"dagster_postgres_options": {"work_mem": "nonsense"}},
        ["-C max_connections ended with 1", "work_mem", "Nothing was changed", "dagster_postgres_options"],
    ),
    "dagster.yaml": (
        {
            "dagster_config": {"scheduler": {"module": "no_such_module", "class": "Scheduler"}},
            "dagster_config_allow": ["custom_module:no_such_module"],
            "dagster_environment": {"MARK": "1", "PYTHONPATH": "/nonexistent"},
        },
        ["cannot import no_such_module", "dagster_config"],
    ),
    "code server": (
        {"dagster_code_locations": [LOCATION], "dagster_environment": {"MARK": "1"}},
        ["no.such.module", "dagster_code_locations[pipeline]"],
    ),
    "start of a service": (
        {"dagster_secret_environment": {"PYTHONHOME": "/nonexistent"}},
        ["The previous files are back", "serves with them", "dagster_secret_environment"],
    ),
}
SERVICES = ("'postgresql@*'", "docker", "nginx", "'*haproxy*'", "'dagster-webserver@*'", "dagster-daemon")


def judge(dagster: Dagster, host: Any, since: float) -> None:
    """All of it serves: daemons, code and a run; and nothing of a failed play is half-way in place."""
    until(lambda: dagster.healthy(since), 180, "the daemon is healthy", every=1)
    dagster.wait(until(lambda: dagster.launch("orders_report"), 60, "the code location serves", every=2))
    assert host.check_output("find /etc /opt/dagster /usr/local/lib/dagster -xdev -name '.*.previous'") == ""
    assert host.check_output("systemctl --failed --no-legend") == ""


def read(host: Any) -> str:
    """What services read, with the age of each file; what a play remembers of canary runs and images is none of it."""
    folders = "/etc/dagster /etc/nginx /etc/haproxy* /etc/systemd/system /opt/dagster/current /usr/local/lib/dagster"
    folders += " /etc/postgresql /etc/docker"
    found: str = host.check_output(
        f"find {folders} ! -name '.*.next' ! -name 'proven*' ! -type d -printf '%p %T@ %m %U %G %l\\n' | sort"
    )
    return found


@pytest.fixture
def untouched(host: Any) -> Iterator[None]:
    before = read(host)
    yield
    assert read(host) == before


@pytest.mark.usefixtures("untouched")
# Both others that are left out refuse a file in the same way: checked before it is in place.
@pytest.mark.parametrize("kind", but(KINDS, ("nginx", "dagster.yaml", "code server", "start of a service")))
def test_refused(play: Callable[..., Play], kind: str) -> None:
    variables, words = KINDS[kind]
    failed = play("site.yml", "-e", json.dumps(variables), ok=False)
    assert failed.rc != 0, "it was not refused: the test would prove nothing"
    said = " ".join(failed.output.split())
    assert [word for word in words if word not in said] == [], failed.output[-4000:]


@pytest.mark.usefixtures("untouched")
def test_failed_migration(play: Callable[..., Play], host: Any) -> None:
    """A revision that no Dagster knows. The link to the version and all that the new one reads stay."""
    query = "sudo -u postgres psql -Atc %s dagster"
    revision = host.check_output(query, "SELECT version_num FROM alembic_version")
    update = "UPDATE alembic_version SET version_num = "
    host.check_output(query, f"{update}'nonsense'")
    try:
        failed = play("site.yml", "-e", json.dumps({"dagster_version": OTHER}), ok=False)
        assert failed.rc != 0
        said = " ".join(failed.output.split())
        assert "dagster instance migrate ended with" in said, failed.output[-4000:]
        assert "set dagster_version back" in said
    finally:
        host.check_output(query, f"{update}'{revision}'")


@pytest.mark.usefixtures("untouched")
def test_disk_full_at_the_venv(play: Callable[..., Play], host: Any) -> None:
    place = f"/opt/dagster/{OTHER}"
    host.check_output(f"rm -rf {place} && mkdir {place} && mount -t tmpfs -o size=16m tmpfs {place}")
    try:
        failed = play("site.yml", "-e", json.dumps({"dagster_version": OTHER}), ok=False)
        assert failed.rc != 0
        assert "No space left on device" in failed.output, failed.output[-4000:]
        assert "TASK [dataops.dagster.instance : Migrate" not in failed.output
    finally:
        host.check_output(f"umount {place} && rm -rf {place}")


@pytest.mark.long  # tests/unit/plugins/modules/test_schema.py makes each table again
@pytest.mark.usefixtures("untouched")
def test_missing_table_is_made_again(play: Callable[..., Play], host: Any) -> None:
    """At the newest revision. It belongs to the same role as the others."""
    table = "asset_check_executions"
    there = f"sudo -u postgres psql -Atc \"SELECT to_regclass('public.{table}')\" dagster"
    host.check_output(f"sudo -u postgres psql -qc 'DROP TABLE {table}' dagster")
    assert host.check_output(there) == ""
    done = play("site.yml")
    assert f"lacked table {table}" in done.output
    assert host.check_output(there) == table
    assert play("site.yml").changed == 0
    owner = "sudo -u postgres psql -Atc \"SELECT tableowner FROM pg_tables WHERE tablename = '%s'\" dagster"
    assert host.check_output(owner % table) == host.check_output(owner % "runs")


@pytest.mark.parametrize(
    "task", but(["dataops.dagster.code_location : ", "dataops.dagster.webserver : "], ("dataops.dagster.webserver : ",))
)
def test_killed_play(inventory: str, host: Any, task: str) -> None:
    """With a bad value, before it would be refused: the connections break, and nobody finishes the play."""
    variables = json.dumps({"dagster_secret_environment": {"PYTHONHOME": "/nonexistent"}})

    def in_the_middle(started: subprocess.Popen[str]) -> None:
        time.sleep(0.5)
        kill(started)

    at_task(task, in_the_middle, "site.yml", inventory, "-e", variables)
    secret = "grep -c PYTHONHOME /etc/dagster/environment.secret || true"
    until(lambda: host.check_output(secret) == "0", 60, "what was in the middle has been undone", every=1)


@pytest.mark.long  # scenario alternative has a password that is wrong, and the kinds above a play that fails
def test_play_that_ends_after_the_database_leaves_nothing_shut_out(
    play: Callable[..., Play], dagster: Dagster, host: Any, passwords: dict[str, str]
) -> None:
    """A password of PostgreSQL ends when the new one is set. Here the play fails at the code servers after that."""
    new = {name: f"{value}-new" for name, value in passwords.items() if name.startswith("dagster_database_")}
    assert len(new) == 3
    login = "PGPASSFILE=/run/old.pgpass psql -h 127.0.0.1 -U dagster -Atwc 'SELECT 1' dagster"
    host.check_output("install -m 600 /etc/dagster/pgpass /run/old.pgpass")
    assert host.check_output(login) == "1"
    try:
        variables = {**new, "dagster_code_locations": [LOCATION], "dagster_environment": {"MARK": "1"}}
        failed = play("site.yml", "-e", json.dumps(variables), ok=False)
        assert failed.rc != 0
        assert "no.such.module" in failed.output, failed.output[-4000:]
        assert "password authentication failed" in host.run(login).stderr, "the control: the old one has ended"
        judge(dagster, host, float(host.check_output("date +%s")))
        since = float(host.check_output("date +%s"))
        for service in SERVICES:
            host.check_output(f"systemctl try-restart {service}")
        judge(dagster, host, since)
        assert [value for value in new.values() if value in failed.output] == []
    finally:
        play("site.yml")
        host.check_output("rm /run/old.pgpass")
    assert play("site.yml").changed == 0


@pytest.mark.long  # the reboot after it starts all of it as well
def test_everything_restarts_after_all_of_that(dagster: Dagster, host: Any) -> None:
    since = float(host.check_output("date +%s"))
    for service in SERVICES:
        host.check_output(f"systemctl try-restart {service}")
    judge(dagster, host, since)


def test_reboot_after_all_of_that(play: Callable[..., Play], tunnel: Callable[[int], int], host: Any) -> None:
    up = reboot(host, "dagster1")
    until(lambda: Dagster(f"http://127.0.0.1:{tunnel(8080)}").healthy(up), 180, "the deployment is healthy", every=1)
    judge(Dagster(f"http://127.0.0.1:{tunnel(8080)}"), host, up)
    play("site.yml")
    assert host.check_output("find /etc /opt/dagster /usr/local/lib/dagster -xdev -name '.*.next'") == ""
    assert play("site.yml").changed == 0
