"""A deployment of the last release becomes one of this checkout by site.yml alone, and nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deployment import PLAY_TIMEOUT, Dagster, Play, oldest_ansible
from releases import VERSION, checkout, deploy, failed_units, left_over, unknown_units, written

SLEEP = {"ops": {"sleep_seconds": {"config": {"seconds": 120.0}}}}


def units(host: Any) -> set[str]:
    """The units of ours that systemd knows by a file."""
    listed = host.check_output("systemctl list-unit-files --no-legend '*dagster*' | cut -d' ' -f1")
    return set(listed.split())


@pytest.fixture(scope="module")
def release() -> Path:
    return checkout()


@pytest.fixture(scope="module")
def old(release: Path) -> Play:
    """The deployment of the release on a bare host."""
    return deploy(release, "inventories/single_host", seconds=PLAY_TIMEOUT)


@pytest.fixture(scope="module")
def before(old: Play, tunnel: Callable[[int], int]) -> dict[str, str]:
    """A run that has ended, and one that goes on over the upgrade."""
    assert old.changed > 0
    dagster = Dagster(f"http://127.0.0.1:{tunnel(8080)}")
    ended_run = dagster.launch("orders_report")
    dagster.wait(ended_run)
    return {"ended": ended_run, "running": dagster.launch("sleep_job", config=SLEEP)}


@pytest.fixture(scope="module")
def too_little(before: dict[str, str], play: Callable[..., Play]) -> Play:
    """One role of this version, before the one whose files it needs."""
    assert before
    return play("site.yml", "--tags", "daemon", ok=False)


@pytest.fixture(scope="module")
def new(too_little: Play, play: Callable[..., Play]) -> Play:
    """The upgrade, with the oldest Ansible that is accepted."""
    assert too_little
    return play("site.yml", "-vvv", env={"ANSIBLE_CALLBACK_RESULT_FORMAT": "json", **oldest_ansible()})


def test_role_that_needs_another_one_is_refused_before_anything_is_changed(too_little: Play) -> None:
    assert too_little.rc != 0
    assert too_little.changed == 0
    assert "the play applies role daemon without role instance" in too_little.output
    assert "(--tags instance,daemon)" in too_little.output


def test_runs_are_kept(new: Play, before: dict[str, str], dagster: Dagster) -> None:
    assert new.changed > 0, "the control: there was something to upgrade"
    assert dagster.status(before["ended"]) == "SUCCESS"
    assert dagster.output(before["ended"])
    assert dagster.status(before["running"]) in ("STARTED", "SUCCESS"), "the upgrade ended a run"
    dagster.wait(before["running"])


def test_code_servers_and_runs_are_in_two_networks(new: Play, host: Any, before: dict[str, str]) -> None:
    """A run that was in progress has kept its own, which is that of all runs still."""
    assert new.rc == 0
    network = "docker inspect -f '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}' "
    assert host.check_output(f"{network} dagster-code-pipeline") == "dagster_code"
    run = host.check_output("docker ps -aq --filter label=dagster/run_id=%s", before["running"])
    assert host.check_output(network + run) == "dagster"
    hba = host.check_output("cat /etc/postgresql/15/main/dagster/pg_hba.conf")
    assert "# Separate: " in hba
    (line,) = (line.split() for line in hba.splitlines() if "172.30.0.0/24" in line)
    assert line[2] == "dagster_run"


def test_new_runs_work(new: Play, dagster: Dagster) -> None:
    assert new.rc == 0
    run_id = dagster.launch("orders_report")
    dagster.wait(run_id)
    assert dagster.output(run_id)


def test_fence_is_up_in_the_tables_that_were_there(new: Play, host: Any) -> None:
    assert new.rc == 0
    tick = "SET ROLE dagster; INSERT INTO job_ticks (status) VALUES ('STARTED')"
    refused = host.run("sudo -u postgres psql -c %s dagster", tick)
    assert "may not evaluate a schedule or sensor" in refused.stderr, refused.stderr


def test_nothing_of_the_release_is_left_over(old: Play, new: Play, host: Any) -> None:
    """What the release has written is kept by this version, or gone."""
    mine, theirs = written(new), written(old)
    assert len(theirs) > 20, "the control: the release has written its files"
    assert left_over(host, theirs, mine) == []
    assert unknown_units(host, mine) == []


def test_units_are_those_of_this_version(new: Play, host: Any) -> None:
    assert new.rc == 0
    assert units(host) == {
        "code-health-dagster.service",
        "dagster-daemon.service",
        "dagster-webserver@.service",
        "docker-gate-dagster.service",
        "firewall-dagster.service",
        "haproxy-dagster.service",
        "prune-dagster-runs.service",
        "prune-dagster-runs.timer",
        "sysctl-dagster-postgres.service",
    }
    assert failed_units(host) == ""


def test_haproxy_is_our_own_unit(old: Play, new: Play, host: Any) -> None:
    """The release ran the packaged unit with our configuration."""
    assert "/etc/haproxy/haproxy.cfg" in written(old), "the control"
    assert new.rc == 0
    assert host.check_output("systemctl show -p ActiveState,UnitFileState --value haproxy").split() == [
        "inactive",
        "disabled",
    ]
    assert host.check_output("find /etc/haproxy /run/haproxy /run/systemd/system -iname '*dagster*'") == ""
    assert host.file("/run/haproxy-dagster/dagster_webserver.sock").exists
    assert {"haproxy", "nginx-light"} <= set(host.file("/usr/local/lib/dagster/installed").listdir())


def test_database_stays_in_its_cluster(old: Play, new: Play, host: Any) -> None:
    """The release took Debian's `main`. A new deployment has a cluster of its own name, and nobody moves data."""
    main = "/etc/postgresql/15/main/conf.d/dagster.conf"
    assert main in written(old), "the control"
    assert main in written(new)
    listed = host.check_output("pg_lsclusters --no-header | awk '{print $1 \"/\" $2, $3, $4}'")
    assert listed == "15/main 5432 online"


def test_engine_and_images_of_the_release_are_ours(new: Play, host: Any) -> None:
    """An engine that is somebody else's would have no settings of ours, and its images would never be removed."""
    assert new.rc == 0
    assert "is not ours and stays as it is" not in new.output
    assert "docker.io" in host.file("/usr/local/lib/dagster/installed").listdir()
    assert '"live-restore": true' in host.file("/etc/docker/daemon.json").content_string
    names = host.check_output("docker image ls --format '{{.Repository}}:{{.Tag}}'").split()
    assert "dagster-code-current:pipeline" in names


def test_second_run_changes_nothing(new: Play, play: Callable[..., Play]) -> None:
    assert new.rc == 0
    assert play("site.yml").changed == 0


def test_it_was_the_release(release: Path) -> None:
    """The control: its own version, not this one."""
    assert f"version: {VERSION}\n" in (release / "galaxy.yml").read_text()
    assert os.path.exists(release / "roles/nginx")
