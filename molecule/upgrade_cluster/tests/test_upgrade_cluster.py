"""Six hosts of the last release become six of this checkout by site.yml alone, under load, and nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from clock import Clock
from daemons import Controller, Watch, epoch
from deployment import PLAY_TIMEOUT, RIG, Dagster, Play, machine, until
from load import GETS, Load
from refusals import refused
from releases import AS_JSON, SHOWN, VERSION, checkout, deploy, failed_units, left_over, unknown_units, written_by_host

HOSTS = ["ctl1", "ctl2", "db", "edge1", "edge2", "run"]
LOCATIONS = ["pipeline", "reporting"]
SECRETS = "/etc/dagster/secrets"
INVENTORIES = ("inventories/cluster", "molecule/cluster/inventory")
RELEASE_SECONDS = 1800  # six bare hosts on two cores
SLEEP = {"ops": {"sleep_seconds": {"config": {"seconds": 300.0}}}}
QUIET = 100  # requests before and after the upgrade
ENOUGH = 500  # requests meanwhile, less would prove nothing


@dataclass(frozen=True)
class Before:
    """What the release had done, and what it was doing when the upgrade began."""

    began: float  # seconds since 1970
    ended: list[str]
    running: str
    runs: set[str]
    ticks: set[float]
    guards: list[str]
    epoch: int


@dataclass(frozen=True)
class Upgrade:
    """The play, and what was seen meanwhile."""

    play: Play
    load: Load
    watch: Watch


@pytest.fixture(scope="module")
def play(play: Callable[..., Play]) -> Callable[..., Play]:
    """The playbooks of this checkout: play("site.yml", folder=...) with the inventories of another one."""

    def run(playbook: str, *arguments: str, folder: Path | None = None, **more: Any) -> Play:
        sources = [str(folder / source) if folder else source for source in INVENTORIES]
        return play(playbook, *arguments, inventories=[*sources, str(RIG)], **more)

    return run


@pytest.fixture(scope="module")
def urls(connections: dict[str, dict[str, str]]) -> list[str]:
    """Both proxies, and the address that they share."""
    own = [connections[name]["ansible_host"] for name in ("edge1", "edge2")]
    return [f"http://{address}:8080" for address in (*own, f"{own[0].rpartition('.')[0]}.200")]


@pytest.fixture(scope="module")
def edge(urls: list[str]) -> Dagster:
    return Dagster(urls[0])


@pytest.fixture(scope="module")
def controllers() -> list[Controller]:
    return [Controller("ctl1"), Controller("ctl2")]


@pytest.fixture(scope="module")
def release() -> Path:
    return checkout()


@pytest.fixture(scope="module")
def old(release: Path) -> Play:
    """The deployment of the release on bare hosts."""
    return deploy(release, *INVENTORIES, seconds=RELEASE_SECONDS)


@pytest.fixture(scope="module")
def before(old: Play, edge: Dagster, controllers: list[Controller]) -> Before:
    """Runs of both locations, a schedule that has fired and one that was stopped, and a run that goes on."""
    assert old.changed > 0
    Clock(edge, "reporting").stop()
    ended = [edge.launch("orders_report", location) for location in LOCATIONS]
    for run_id in ended:
        edge.wait(run_id, seconds=300)
    clock = Clock(edge, "pipeline")
    until(clock.ticks, 120, "the schedule has fired", every=2)
    running = edge.launch("sleep_job", config=SLEEP)
    until(lambda: edge.status(running) == "STARTED", 120, "the run has started")
    until(lambda: any(one.active for one in controllers), 60, "one runs the daemon")
    return Before(
        time.time(),
        ended,
        running,
        every_run(edge),
        {tick["timestamp"] for tick in clock.ticks()},
        [one.guard for one in controllers],
        max(epoch(one) for one in controllers),
    )


def every_run(edge: Dagster) -> set[str]:
    found = edge.query("{ runIdsOrError(limit: 100000) { ... on RunIds { results } } }")
    return set(found["runIdsOrError"]["results"])


@pytest.fixture(scope="module")
def upgrade(before: Before, urls: list[str], play: Callable[..., Play]) -> Upgrade:
    """This checkout over the release, while clients ask both proxies and the shared address."""
    assert before
    watch = Watch(["ctl1", "ctl2"])
    try:
        with Load(urls, clients=[GETS] * 2 * len(urls), pause=0.2, longest=PLAY_TIMEOUT + 300) as running:
            running.wait(QUIET, 120)
            assert not running.failures, running.summary()
            running.phase = "upgrade"
            done = play("site.yml", *SHOWN, env=AS_JSON)
            running.phase = "after"
            running.wait(running.requests + QUIET, 120)
    finally:
        watch.end()
    return Upgrade(done, running, watch)


@pytest.mark.usefixtures("old")
def test_renames_are_said_before_anything_is_changed(play: Callable[..., Play], release: Path) -> None:
    """The inventory of the release, as it was."""
    refused(play("site.yml", folder=release, ok=False), ["dagster_nginx_vip is now called dagster_vip"])


def test_no_request_has_failed(upgrade: Upgrade) -> None:
    assert upgrade.play.changed > 0, "the control: there was something to upgrade"
    assert upgrade.load.sent("upgrade") >= ENOUGH, upgrade.load.summary()
    assert not upgrade.load.failures, upgrade.load.summary()


def test_daemon_was_away_for_less_than_a_take_over(
    upgrade: Upgrade, before: Before, controllers: list[Controller]
) -> None:
    """A take-over of a lost host waits for the lease to run out."""
    print(f"the daemon was away for {upgrade.watch.longest_away:.1f} s")
    restarted = [one.guard != guard for one, guard in zip(controllers, before.guards, strict=True)]
    assert all(restarted), "the control: there was a daemon to restart on each host"
    assert upgrade.watch.most == 1
    assert upgrade.watch.longest_away < controllers[0].timings["ttl"]


@pytest.mark.usefixtures("upgrade")
def test_runs_are_kept(edge: Dagster, before: Before) -> None:
    assert before.runs - every_run(edge) == set()
    for run_id in before.ended:
        assert edge.status(run_id) == "SUCCESS"
        assert edge.output(run_id)
    assert edge.status(before.running) in ("STARTED", "SUCCESS"), "the upgrade ended a run"
    edge.wait(before.running, seconds=600)


@pytest.mark.usefixtures("upgrade")
def test_schedules_are_kept(edge: Dagster, before: Before, controllers: list[Controller]) -> None:
    """One goes on, each minute once; the other is still stopped."""
    clock = Clock(edge, "pipeline")
    assert (clock.status, Clock(edge, "reporting").status) == ("RUNNING", "STOPPED")
    assert before.ticks - {tick["timestamp"] for tick in clock.ticks()} == set()
    minutes = clock.runs_of_minutes(before.began)
    assert len(minutes) > 1, "the control: it has fired since"
    assert max(minutes.values()) == 1
    moved = max(epoch(one) for one in controllers) - before.epoch
    assert clock.missed(before.began) <= moved


@pytest.mark.usefixtures("upgrade")
@pytest.mark.parametrize("location", LOCATIONS)
def test_new_runs_work_through_each_proxy(urls: list[str], location: str) -> None:
    for url in urls:
        dagster = Dagster(url)
        run_id = dagster.launch("orders_report", location)
        dagster.wait(run_id)
        assert dagster.output(run_id)


@pytest.mark.parametrize("name", HOSTS)
def test_nothing_of_the_release_is_left_over(old: Play, upgrade: Upgrade, name: str) -> None:
    theirs, mine = written_by_host(old)[name], written_by_host(upgrade.play)[name]
    assert theirs, "the control: the release has written files there"
    assert left_over(machine(name), theirs, mine) == []
    assert unknown_units(machine(name), mine) == []
    assert failed_units(machine(name)) == ""


@pytest.mark.parametrize(("name", "locations"), [("ctl1", LOCATIONS[:1]), ("ctl2", LOCATIONS[1:]), ("run", LOCATIONS)])
@pytest.mark.usefixtures("upgrade")
def test_hosts_keep_the_secrets_of_what_starts_there(old: Play, name: str, locations: list[str]) -> None:
    """The control: the release has written those of all locations to each host."""
    theirs = written_by_host(old)[name]
    assert {f"{SECRETS}/{location}/aws" for location in LOCATIONS} <= theirs
    assert machine(name).check_output(f"ls -A {SECRETS}").split() == locations


@pytest.mark.usefixtures("upgrade")
def test_second_run_changes_nothing(play: Callable[..., Play]) -> None:
    assert play("site.yml").changed == 0


@pytest.mark.usefixtures("old")
def test_it_was_the_release(release: Path) -> None:
    """The control: its own version, not this one."""
    assert f"version: {VERSION}\n" in (release / "galaxy.yml").read_text()
    assert (release / "roles/nginx").exists()


@pytest.mark.usefixtures("upgrade")
def test_clients_and_watch_notice(urls: list[str], controllers: list[Controller]) -> None:
    """The control: a proxy that is down fails requests, and daemons that are stopped are away."""
    until(lambda: any(one.active for one in controllers), 60, "one runs the daemon")
    watch = Watch(["ctl1", "ctl2"])
    with Load(urls[:1], clients=[GETS], pause=0.1) as running:
        running.wait(5, 60)
        machine("edge1").check_output("systemctl stop nginx")
        try:
            until(lambda: running.failures, 30, "a request has failed")
        finally:
            machine("edge1").check_output("systemctl start nginx")
    for one in controllers:
        one("systemctl stop dagster-daemon")
    time.sleep(3)
    for one in controllers:
        one("systemctl start dagster-daemon")
    until(lambda: any(one.active for one in controllers), 60, "one runs the daemon again")
    watch.end()
    assert watch.longest_away > 3
