"""A second run changes nothing; a change by hand is shown by --check --diff and mended; a killed run is finished."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import ways
from deployment import Dagster, Play, at_task, identities, kill, oldest_ansible, reboot, until
from restarts import Checked


@pytest.mark.usefixtures("dagster")
def test_everything_comes_back_after_a_reboot(tunnel: Callable[[int], int], host: Any) -> None:
    containers = "docker ps --no-trunc --filter label=dataops.dagster.location --format '{{.ID}}'"
    before, rules = host.check_output(containers), ways.table(host)
    assert rules
    up = reboot(host, "dagster1")  # it closes the tunnel, which is opened again below
    until(lambda: Dagster(f"http://127.0.0.1:{tunnel(8080)}").healthy(up), 180, "the deployment is healthy", every=1)
    assert host.check_output(containers) == before
    assert host.check_output("systemctl --failed --no-legend") == ""
    assert ways.table(host) == rules
    loaded, engine = (
        int(host.check_output("systemctl show -p ActiveEnterTimestampMonotonic --value %s", unit))
        for unit in (ways.UNIT, "docker")
    )
    assert 0 < loaded < engine
    database, ssh = ("172.30.0.1", 5432), ("172.30.0.1", 22)
    assert ways.reached(host, [database, ssh], ways.in_run_network(host)) == {database: True, ssh: False}
    again = Dagster(f"http://127.0.0.1:{tunnel(8080)}")
    again.wait(until(lambda: again.launch("orders_report"), 180, "the code location serves", every=2))


def test_second_run_changes_nothing_and_sends_the_host_few_modules(play: Callable[..., Play], host: Any) -> None:
    """The play ends with the health gate, which agrees as well.

    Preflight has read in one call what the roles compare (tests/unit/test_second_run.py says which are left).
    """
    before, runs = identities(host), "docker ps -aq --filter label=dagster/run_id | sort"
    launched = host.check_output(runs)
    done = play("site.yml", "-vvv")
    assert done.changed == 0
    assert identities(host) == before
    assert host.check_output(runs) == launched, "a canary was launched, although nothing has changed"
    sent = [line for line in done.output.splitlines() if "SSH: EXEC" in line and "/usr/bin/python3" in line]
    assert 0 < len(sent) <= 5, "\n".join(sent)


def test_second_run_with_the_oldest_ansible_changes_nothing(play: Callable[..., Play], host: Any) -> None:
    """And without facts among the variables, as hardened sites have it."""
    before = identities(host)
    done = play("site.yml", "--verbose", env=oldest_ansible())
    assert done.changed == 0
    assert identities(host) == before


# What is deployed is judged although each of these will be elsewhere, or otherwise.
CHANGES: tuple[dict[str, Any], ...] = (
    {"dagster_webserver_path_prefix": "/dagster", "dagster_nginx_port": 8090, "dagster_version": "1.13.26"},
    {"dagster_database_port": 5433, "dagster_database_password": "another-password"},
)


def test_check_before_a_change_shows_it_and_judges_what_is_deployed(play: Callable[..., Play], host: Any) -> None:
    """Beside each other, because each only reads."""
    before = identities(host)
    with ThreadPoolExecutor(len(CHANGES)) as pool:
        found = list(pool.map(lambda change: play("site.yml", "--check", "--diff", "-e", json.dumps(change)), CHANGES))
    assert [done.changed > 0 for done in found] == [True] * len(CHANGES)
    assert all("Ask for versions, heartbeats and code locations" in done.output for done in found)
    assert not any("another-password" in done.output for done in found)
    assert identities(host) == before


def test_check_mode_says_nothing_to_do(checked: Checked) -> None:
    assert checked.play.changed == 0
    assert not checked.touched


def test_killed_run_is_finished_by_the_next(play: Callable[..., Play], inventory: str, host: Any) -> None:
    """The play dies between the write of dagster.yaml and the restarts that it calls for. Until then nobody reads it.

    The test after this one takes its change away, and asserts that nothing is left to do then.
    """
    change = '{"dagster_config": {"retention": {"sensor": {"purge_after_days": {"skipped": 6}}}}}'
    replicas = " ".join(f"dagster-webserver@{port}" for port in (3000, 3001, 3002))
    pids = f"systemctl show -p MainPID --value dagster-daemon {replicas}"
    before = host.check_output(pids)
    at_task("dataops.dagster.instance : Migrate the schema of the database", kill, "site.yml", inventory, "-e", change)
    assert "skipped: 6" in host.file("/etc/dagster/.dagster.yaml.next").content_string
    assert "skipped: 7" in host.file("/etc/dagster/dagster.yaml").content_string, (
        "a restart would read what came half-way"
    )
    assert host.check_output(pids) == before, "the play got further than it should have"

    play("site.yml", "-e", change)
    assert "skipped: 6" in host.file("/etc/dagster/dagster.yaml").content_string
    assert not host.file("/etc/dagster/.dagster.yaml.next").exists
    after = host.check_output(pids)
    assert not set(after.split()) & set(before.split()), "a process that reads dagster.yaml was not restarted"


def test_drift_is_shown_and_mended(play: Callable[..., Play], host: Any) -> None:
    host.check_output("sed -i 's/max_fails=0/max_fails=9/' /etc/nginx/conf.d/dagster.conf")
    host.check_output("sed -i 's/enabled: false/enabled: true/' /etc/dagster/dagster.yaml")
    host.check_output("chmod 0644 /etc/dagster/pgpass")
    host.check_output("docker update --memory 300m --memory-swap 300m dagster-code-pipeline")
    host.check_output("systemctl disable --now dagster-daemon.service")

    shown = play("site.yml", "--check", "--diff")
    for trace in ("max_fails=9", "enabled: true", "mode 0644", "memory", "dagster-daemon.service"):
        assert trace in shown.output, f"--check --diff does not show {trace}"
    assert "max_fails=9" in host.file("/etc/nginx/conf.d/dagster.conf").content_string, "check mode changed a file"

    mended = play("site.yml")
    assert mended.changed >= 5
    assert "max_fails=0" in host.file("/etc/nginx/conf.d/dagster.conf").content_string
    assert "enabled: true\n" not in host.check_output("grep -A1 telemetry: /etc/dagster/dagster.yaml") + "\n"
    assert host.file("/etc/dagster/pgpass").mode == 0o600
    assert host.check_output("docker inspect -f '{{.HostConfig.Memory}}' dagster-code-pipeline") == "0"
    assert host.service("dagster-daemon").is_running
    assert "skipped: 7" in host.file("/etc/dagster/dagster.yaml").content_string, "the change of the killed run is gone"
    assert play("site.yml").changed == 0
