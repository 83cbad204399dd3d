"""What keeps the host clean: the timers' own commands, run on things that are old enough and on things that are not."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from deployment import Dagster, Play

# Gives containers an age, in hours: the engine reads this file when it starts. live-restore lets them run meanwhile.
AGE = """
import base64, datetime, glob, json, subprocess, sys
subprocess.run(["systemctl", "stop", "docker.socket", "docker.service"], check=True)
try:
    for container, hours in json.loads(base64.b64decode(sys.argv[1])).items():
        # With userns-remap (the default) the engine's folder is one of its own below this one.
        (path,) = glob.glob(f"/var/lib/docker/*/containers/{container}/config.v2.json")
        with open(path) as stream:
            config = json.load(stream)
        made = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=hours)
        config["Created"] = made.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        with open(path, "w") as stream:
            json.dump(config, stream)
finally:
    subprocess.run(["systemctl", "start", "docker.socket", "docker.service"], check=True)
"""
RETENTION = 72  # hours, dagster_docker_run_retention_hours
LATER = 30  # days, dagster_compute_log_retention_days


def timer(host: Any, name: str) -> dict[str, str]:
    shown = host.check_output("systemctl show -p ActiveState,UnitFileState,Unit,NextElapseUSecRealtime %s", name)
    return dict(line.split("=", 1) for line in shown.splitlines())


@pytest.mark.parametrize(
    ("name", "states", "within"),
    [("prune-dagster-runs.timer", ("enabled",), "70 min"), ("systemd-tmpfiles-clean.timer", ("static",), "1 day")],
)
def test_timer_is_set(host: Any, name: str, states: tuple[str, ...], within: str) -> None:
    found = timer(host, name)
    assert found["ActiveState"] == "active"
    assert found["UnitFileState"] in states
    assert found["Unit"] == name.replace(".timer", ".service")
    if found["NextElapseUSecRealtime"]:  # one that counts from the boot has no time of the day
        left = "echo $(($(date -d %s +%%s) - $(date +%%s))) $(($(date -d %s +%%s) - $(date +%%s)))"
        next_one, most = host.check_output(left, found["NextElapseUSecRealtime"], f"now + {within}").split()
        assert int(next_one) <= int(most)
    else:
        assert name == "systemd-tmpfiles-clean.timer"


@pytest.fixture
def spares(host: Any) -> Iterator[dict[str, str]]:
    """Containers that were never started: one of somebody else, and one like a code server that is stopped."""
    image = host.check_output("docker inspect -f '{{.Config.Image}}' dagster-code-pipeline")
    create = "docker create --name %s --label %s %s true"
    yield {
        "foreign": host.check_output(create, "foreign", "somebody=else", image),
        "server": host.check_output(create, "dagster-code-spare", "dataops.dagster.location=spare", image),
    }
    host.check_output("docker rm -f foreign dagster-code-spare")


def test_old_containers_of_runs_go_and_nothing_else(dagster: Dagster, host: Any, spares: dict[str, str]) -> None:
    ended = "docker ps -aq --no-trunc --filter label=dagster/run_id --filter status=exited"
    while len(host.check_output(ended).split()) < 2:  # the tests before have left more
        dagster.wait(dagster.launch("orders_report"))
    ids = {**spares, **dict(zip(("old", "young"), host.check_output(ended).split(), strict=False))}
    serves = host.check_output("docker inspect -f '{{.Id}} {{.State.Pid}}' dagster-code-pipeline")
    ages = {ids["old"]: RETENTION + 1, ids["young"]: RETENTION - 1, ids["foreign"]: 1000, ids["server"]: 1000}
    host.check_output("python3 -c %s %s", AGE, base64.b64encode(json.dumps(ages).encode()).decode())
    assert host.check_output("docker inspect -f '{{.Id}} {{.State.Pid}}' dagster-code-pipeline") == serves

    def there() -> set[str]:
        listed = host.check_output("docker ps -aq --no-trunc").split()
        return {name for name, container in ids.items() if container in listed}

    assert there() == {"old", "young", "foreign", "server"}, "all of them outlive a start of the engine"
    host.check_output("systemctl start prune-dagster-runs.service")
    assert there() == {"young", "foreign", "server"}
    assert host.check_output("docker inspect -f '{{.Id}} {{.State.Pid}}' dagster-code-pipeline") == serves


ONE, TWO, THREE = (f"dagster-code/pipeline:{digit * 16}" for digit in "123")
OTHERS = ("shop:1", "dagster-code/pipeline:latest")


@pytest.fixture
def old_images(host: Any) -> Iterator[None]:
    """Images of earlier code: one was used before the current one, one has a container; and images of somebody else."""
    for image in (ONE, TWO, THREE, *OTHERS):
        host.check_output("tar -c -T /dev/null | docker import - %s", image)
    host.check_output("docker tag %s dagster-code-previous:pipeline", ONE)
    host.check_output("docker create --name holder %s true", TWO)
    yield
    host.run("docker rm holder")
    host.check_output(
        "for image in %s %s %s dagster-code-previous:pipeline; do docker rmi $image || true; done", ONE, TWO, THREE
    )
    host.check_output("docker rmi %s %s", *OTHERS)


@pytest.mark.long  # tests/integration/containers asks the module for the same
@pytest.mark.usefixtures("old_images")
def test_images_that_no_location_needs_go(play: Callable[..., Play], host: Any) -> None:
    serves = host.check_output("docker inspect -f '{{.Id}} {{.State.Pid}} {{.Config.Image}}' dagster-code-pipeline")
    current = serves.split()[-1]
    image = "docker image inspect -f '{{.Id}}' %s"
    assert host.check_output(image, "dagster-code-current:pipeline") == host.check_output(image, current)

    def there() -> set[str]:
        names = host.check_output("docker image ls --format '{{.Repository}}:{{.Tag}}'").split()
        return {ONE, TWO, THREE, *OTHERS, current}.intersection(names)

    assert there() == {ONE, TWO, THREE, *OTHERS, current}, "the control"
    only = ("site.yml", "--tags", "code_location")
    assert play(*only, "--check").changed > 0
    assert there() == {ONE, TWO, THREE, *OTHERS, current}
    assert play(*only).changed == 1
    assert there() == {ONE, TWO, *OTHERS, current}, "the previous one, and one that has a container"
    assert play(*only).changed == 0
    host.check_output("docker rm holder")
    assert play(*only).changed == 1
    assert there() == {ONE, *OTHERS, current}
    assert (
        host.check_output("docker inspect -f '{{.Id}} {{.State.Pid}} {{.Config.Image}}' dagster-code-pipeline")
        == serves
    )


def test_old_compute_logs_go(host: Any) -> None:
    """systemd-tmpfiles believes in another date, and sees a folder of its own in place of the real logs.

    A file cannot be made old: its ctime is always now.
    """
    host.check_output(
        "test -e /var/tmp/faketime ||"
        " { cd /var/tmp && apt-get download -qq libfaketime && dpkg -x libfaketime_*.deb faketime; }"
    )
    clean = (
        "unshare -m sh -c 'mount -t tmpfs none /var/lib/dagster/compute_logs;"
        " mkdir -p /var/lib/dagster/compute_logs/run/compute_logs;"
        " touch /var/lib/dagster/compute_logs/run/compute_logs/step.out; sleep 0.1;"
        " LD_PRELOAD=$(echo /var/tmp/faketime/usr/lib/*/faketime/libfaketime.so.1) FAKETIME_DONT_FAKE_MONOTONIC=1"
        " FAKETIME=%s systemd-tmpfiles --clean --prefix /var/lib/dagster;"
        " find /var/lib/dagster/compute_logs -type f'"
    )
    before = host.check_output("find /var/lib/dagster/compute_logs -type f | wc -l")
    assert host.check_output(clean.replace("%s", f"+{LATER - 1}d")).endswith("step.out"), "too early"
    assert host.check_output(clean.replace("%s", f"+{LATER + 1}d")) == "", "too late"
    assert host.check_output("find /var/lib/dagster/compute_logs -type f | wc -l") == before
    # The timer's service is Debian's, which reads all rules.
    assert "systemd-tmpfiles --clean" in host.check_output("systemctl cat systemd-tmpfiles-clean.service")


def test_old_ticks_go(dagster: Dagster) -> None:
    """What the running instance has, not what the file says."""
    instance = yaml.safe_load(dagster.query("{ instance { info } }")["instance"]["info"])
    assert instance["retention"] == {
        "schedule": {"purge_after_days": 90},
        "sensor": {"purge_after_days": {"skipped": 7, "failure": 30, "success": 90}},
    }
