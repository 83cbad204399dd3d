# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""At most one daemon at a time, whatever fails."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from guard_postgres import Cluster
from guard_rig import HOSTS, ON_BOTH, PROGRAM, PYTHON, TIMINGS, Host, other, programs, until

pytestmark = [pytest.mark.alone, ON_BOTH]

START = 6.0  # seconds that a guard or daemon may take to start here
ROUNDS = int(os.environ.get("GUARD_ROUNDS", "5"))


class Overlap:
    """The largest number of daemons that ran at a time; those in `but` are known not to be able to do anything."""

    def __init__(self, hosts: list[Host]) -> None:
        self.hosts, self.most, self.end = hosts, 0, False
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self.end:
            self.most = max(self.most, sum(len(host.daemons()) for host in self.hosts))
            time.sleep(0.01)

    def __enter__(self) -> Overlap:
        self.thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.end = True
        self.thread.join()


@pytest.fixture
def lease_only(cluster: Cluster, free: None, tmp_path: Path) -> Iterator[list[Host]]:  # noqa: ARG001 - it comes first
    """Two hosts of a deployment whose logins are not fenced."""
    cluster.install(HOSTS, full=False)
    found = [Host(name, tmp_path, cluster, full=False) for name in "ab"]
    yield found
    for host in found:
        host.close()
    cluster.install(HOSTS)


def lead(first: Host, second: Host) -> None:
    """The first one runs the daemon, the second one waits."""
    first.start()
    until(lambda: first.cluster.last_writer() == first.name, START, f"{first.name} runs the daemon")
    second.start()
    until(lambda: second.status.startswith("standby"), START, f"{second.name} waits")


def test_control_two_daemons_without_a_guard(cluster: Cluster, hosts: list[Host]) -> None:
    """What the other tests would see if it happened."""
    cluster.let_in("a", "b")
    started = []
    with Overlap(hosts) as overlap:
        try:
            for number, host in enumerate(hosts):
                environment = {**host.environment, "DAGSTER_GUARD_EPOCH": str(number)}
                started.append(subprocess.Popen(host.command, env=environment))
            until(lambda: len(cluster.query("SELECT DISTINCT host FROM work")) == 2, START, "both write")
            time.sleep(0.5)
        finally:
            for process in started:
                process.kill()
                process.wait()
    assert overlap.most == 2
    assert cluster.stale() > 0


def test_started_together(cluster: Cluster, hosts: list[Host]) -> None:
    for _round in range(ROUNDS):
        with Overlap(hosts) as overlap:
            for host in hosts:
                host.start()
            until(cluster.last_writer, START, "one runs")
            until(lambda: sorted(host.status[:6] for host in hosts) == ["active", "standb"], START, "one waits")
            for host in hosts:
                host.wanted = False
            standby = next(host for host in hosts if host.status.startswith("standby"))
            standby.stop()
            other(hosts, standby).stop()
        assert overlap.most == 1
        assert cluster.holder() == ""
    assert cluster.stale() == 0
    assert cluster.epoch() == ROUNDS


def test_status(hosts: list[Host]) -> None:
    lead(*hosts)
    pid = hosts[0].daemons()[0]
    assert hosts[0].status == f"active: daemon runs as PID {pid}, a holds the lease, epoch 1"
    assert hosts[1].status == "standby: a holds the lease, epoch 1"


def test_by_hand(cluster: Cluster, hosts: list[Host], tmp_path: Path) -> None:
    """A daemon started beside the guards is refused by the database on a standby."""
    lead(*hosts)
    with (tmp_path / "by hand").open("w+b") as log:
        process = subprocess.Popen(hosts[1].command, env=hosts[1].environment, stdout=log, stderr=log)
        try:
            until(lambda: cluster.refusal in (tmp_path / "by hand").read_text(), START, cluster.refusal)
        finally:
            process.kill()
            process.wait()
    assert {row[0] for row in cluster.query("SELECT DISTINCT host FROM work")} == {"a"}


def test_stop_hands_over(cluster: Cluster, hosts: list[Host]) -> None:
    lead(*hosts)
    with Overlap(hosts) as overlap:
        started = time.monotonic()
        hosts[0].stop()
        until(lambda: cluster.last_writer() == "b", 5, "the standby runs")
        print(f"handover {time.monotonic() - started:.1f} s")
    assert (overlap.most, cluster.stale(), cluster.epoch()) == (1, 0, 2)


def test_switchover(cluster: Cluster, hosts: list[Host], tmp_path: Path) -> None:
    lead(*hosts)
    third = Host("c", tmp_path, cluster)
    try:
        third.start()
        until(lambda: third.status.startswith("standby"), START, "c waits")
        with Overlap([*hosts, third]) as overlap:
            third.signal(signal.SIGUSR1)
            until(lambda: cluster.last_writer() == "c", 5, "the host that was asked to runs, not the other standby")
            until(
                lambda: hosts[0].status == "standby: c holds the lease, epoch 2",
                1 + TIMINGS["renew"],
                "the old one waits",
            )
        assert (overlap.most, cluster.stale(), cluster.epoch()) == (1, 0, 2)
        third.signal(signal.SIGUSR1)
        time.sleep(1 + TIMINGS["renew"])
        assert cluster.epoch() == 2, "the holder has nothing to ask for"
    finally:
        third.close()


def test_kill_guard(cluster: Cluster, hosts: list[Host]) -> None:
    lead(*hosts)
    with Overlap(hosts) as overlap:
        old = hosts[0].daemons()
        hosts[0].signal(signal.SIGKILL)
        until(lambda: not set(old) & set(hosts[0].daemons()), 0.5, "the daemon dies with its guard")
        until(lambda: set(hosts[0].daemons()) - set(old), 5, "it runs again on the same host")
    assert (overlap.most, cluster.stale(), cluster.holder()) == (1, 0, "a")


def test_kill_daemon(cluster: Cluster, hosts: list[Host]) -> None:
    lead(*hosts)
    with Overlap(hosts) as overlap:
        old = hosts[0].daemons()[0]
        os.kill(old, signal.SIGKILL)
        until(lambda: [pid for pid in hosts[0].daemons() if pid != old], 5, "it runs again on the same host")
    assert (overlap.most, cluster.epoch(), hosts[0].starts) == (1, 1, 1)


def test_frozen_guard(cluster: Cluster, hosts: list[Host]) -> None:
    lead(*hosts)
    with Overlap(hosts) as overlap:
        old = hosts[0].daemons()
        hosts[0].signal(signal.SIGSTOP)
        assert hosts[0].daemons() == old, "the control: the daemon goes on at first"
        until(lambda: not set(old) & set(hosts[0].daemons()), TIMINGS["watchdog"] + 1, "the whole unit is dead")
        until(cluster.last_writer, START, "one runs again")
    assert (overlap.most, cluster.stale(), hosts[0].kills) == (1, 0, 1)


def test_frozen_guard_without_a_database(cluster: Cluster, hosts: list[Host]) -> None:
    """The worst moment: it froze just before its deadline. Its last sign of life must not outlast the lease."""
    lead(*hosts)
    with Overlap(hosts) as overlap:
        hosts[0].proxy.open.clear()
        time.sleep(TIMINGS["deadline"] - TIMINGS["renew"] - 0.4)  # its last renewal was up to a period before the cut
        hosts[0].signal(signal.SIGSTOP)
        assert hosts[0].daemons(), "the control: it has not ended it by itself"
        until(lambda: cluster.last_writer() == "b", TIMINGS["ttl"] + 2 + START, "the standby runs")
    assert (overlap.most, cluster.stale(), hosts[0].kills) == (1, 0, 1)


def test_silent_daemon(cluster: Cluster, hosts: list[Host]) -> None:
    lead(*hosts)
    old = hosts[0].daemons()[0]
    (hosts[0].folder / "silent").touch()
    until(lambda: old not in hosts[0].daemons(), TIMINGS["heartbeat"] + 2, "it is restarted")
    (hosts[0].folder / "silent").unlink()
    until(hosts[0].daemons, START, "a new one runs")
    time.sleep(TIMINGS["heartbeat"] + 1)
    assert hosts[0].text().count("no heartbeat") == 1
    assert cluster.epoch() == 1


def test_frozen_daemon(cluster: Cluster, hosts: list[Host]) -> None:
    lead(*hosts)
    old = hosts[0].daemons()[0]
    os.kill(old, signal.SIGSTOP)
    until(lambda: hosts[0].daemons() not in ([old], []), TIMINGS["heartbeat"] + 2 + START, "a new one runs")
    assert cluster.epoch() == 1


def test_network_cut(cluster: Cluster, hosts: list[Host]) -> None:
    lead(*hosts)
    with Overlap(hosts) as overlap:
        cut = time.monotonic()
        hosts[0].proxy.open.clear()
        until(lambda: not hosts[0].daemons(), TIMINGS["deadline"] + 1, "the old daemon is dead")
        dead = time.monotonic() - cut
        until(lambda: cluster.last_writer() == "b", TIMINGS["ttl"] + 2 + START - dead, "the standby runs")
        print(f"dead after {dead:.1f} s, taken over after {time.monotonic() - cut:.1f} s")
        time.sleep(2)
        hosts[0].proxy.open.set()
        until(lambda: hosts[0].status == "standby: b holds the lease, epoch 2", 5, "the old one waits after the heal")
        time.sleep(1)
        assert cluster.last_writer() == "b"
    assert (overlap.most, cluster.stale(), cluster.epoch()) == (1, 0, 2)


def test_paused_host(cluster: Cluster, hosts: list[Host]) -> None:
    """Guard and daemon are frozen beyond the lease and then go on where they were: only the database can stop them."""
    lead(*hosts)
    old = hosts[0].daemons()[0]
    hosts[0].paused = True
    hosts[0].signal(signal.SIGSTOP)
    os.kill(old, signal.SIGSTOP)
    until(lambda: cluster.last_writer() == "b", TIMINGS["ttl"] + 2 + START, "the standby runs")
    time.sleep(1)
    os.kill(old, signal.SIGCONT)  # the daemon first: it gets all the time it could wish for
    time.sleep(1)
    assert old in hosts[0].daemons()
    assert cluster.refusal in hosts[0].text(), "it did try"
    hosts[0].signal(signal.SIGCONT)
    hosts[0].paused = False
    until(lambda: old not in hosts[0].daemons(), 2, "the guard ends it")
    until(lambda: hosts[0].status == "standby: b holds the lease, epoch 2", 1 + 2 * TIMINGS["renew"], "and waits")
    assert (cluster.stale(), cluster.epoch()) == (0, 2)


def test_guards_that_freeze_in_the_middle_of_a_take(cluster: Cluster, hosts: list[Host], tmp_path: Path) -> None:
    """Before and after the fence. They go on when a third host has the lease: nothing changes."""
    first, second, third = *hosts, Host("c", tmp_path, cluster)
    try:
        for host, moment in ((second, "after take"), (third, "after fence")):
            host.freezes, host.paused = moment, True
            host.start()
            until(host.frozen, TIMINGS["ttl"] + 2 + START, f"{host.name} freezes")
        first.start()
        until(lambda: cluster.last_writer() == "a", TIMINGS["ttl"] + 2 + START, "a runs the daemon")
        old = first.daemons()
        with Overlap([*hosts, third]) as overlap:
            for host in (second, third):
                host.signal(signal.SIGCONT)
            for host in (second, third):
                until(lambda host=host: host.status == "standby: a holds the lease, epoch 3", 10, f"{host.name} waits")
            time.sleep(1)
            assert cluster.last_writer() == "a"
        assert (overlap.most, cluster.stale(), cluster.epoch()) == (1, 0, 3)
        assert first.daemons() == old
        assert "daemon:" not in first.text(), "its daemon has noticed nothing"
    finally:
        third.close()


def test_control_paused_host_with_lease_only(cluster: Cluster, lease_only: list[Host]) -> None:
    """What a lease without a fence cannot do, which is why lease_only has to be asked for."""
    first, second = lease_only
    lead(first, second)
    old = first.daemons()[0]
    first.paused = True
    first.signal(signal.SIGSTOP)
    os.kill(old, signal.SIGSTOP)
    until(lambda: cluster.last_writer() == "b", TIMINGS["ttl"] + 2 + START, "the standby runs")
    os.kill(old, signal.SIGCONT)
    time.sleep(1)
    assert cluster.stale() > 0


def test_lease_only_cut(cluster: Cluster, lease_only: list[Host]) -> None:
    """With clocks alone a cut network and a stop are still safe."""
    lead(*lease_only)
    with Overlap(lease_only) as overlap:
        lease_only[0].proxy.open.clear()
        until(lambda: cluster.last_writer() == "b", TIMINGS["ttl"] + 2 + START, "the standby runs")
        lease_only[0].proxy.open.set()
        time.sleep(1)
        lease_only[1].stop()
        until(lambda: cluster.last_writer() == "a", 5, "back again")
    assert (overlap.most, cluster.stale()) == (1, 0)


def test_database_restart(cluster: Cluster, hosts: list[Host]) -> None:
    lead(*hosts)
    with Overlap(hosts) as overlap:
        old = hosts[0].daemons()
        cluster.stop()
        cluster.start()
        until(lambda: cluster.last_writer() == "a", 5, "the daemon writes again")
        time.sleep(2)
    assert (overlap.most, cluster.epoch(), hosts[0].daemons()) == (1, 1, old)


def test_database_away_for_longer(cluster: Cluster, hosts: list[Host]) -> None:
    lead(*hosts)
    with Overlap(hosts) as overlap:
        cluster.stop()
        until(lambda: not hosts[0].daemons(), TIMINGS["deadline"] + 1, "none runs")
        time.sleep(TIMINGS["ttl"])
        assert [host.daemons() for host in hosts] == [[], []]
        assert "no answer from the database" in hosts[0].status
        cluster.start()
        until(cluster.last_writer, 5, "one runs")
        time.sleep(1)
    assert (overlap.most, cluster.stale(), [host.kills for host in hosts]) == (1, 0, [0, 0])


def test_frozen_database(cluster: Cluster, hosts: list[Host]) -> None:
    """It accepts and says nothing: the case that a blocking client never comes back from."""
    lead(*hosts)
    with Overlap(hosts) as overlap:
        frozen = cluster.processes()
        for pid in frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        try:
            until(lambda: not hosts[0].daemons(), TIMINGS["deadline"] + 1, "none runs")
            time.sleep(TIMINGS["ttl"])
        finally:
            for pid in reversed(frozen):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        until(cluster.last_writer, 5, "one runs")
    assert (overlap.most, cluster.stale(), [host.kills for host in hosts]) == (1, 0, [0, 0])


def test_second_guard_on_one_host(cluster: Cluster, hosts: list[Host], tmp_path: Path) -> None:
    lead(*hosts)
    argv = [PYTHON, str(PROGRAM), str(hosts[0].folder / "guard.json")]
    with (tmp_path / "second").open("w+b") as log:
        second = subprocess.Popen(argv, env=hosts[0].environment, stderr=log)
        try:
            said = "another guard or its daemon still runs on this host"
            until(lambda: said in (tmp_path / "second").read_text(), START, said)
            time.sleep(1)
            assert second.poll() is None
            second.terminate()
            assert second.wait(5) == 0
        finally:
            second.kill()
            second.wait()
    assert cluster.epoch() == 1


def test_second_guard_while_the_daemon_of_the_first_one_runs(cluster: Cluster, hosts: list[Host]) -> None:
    """The old guard is gone and its daemon is not: the daemon holds the lock too, and the new guard waits for it."""
    host = hosts[0]
    (host.folder / "outlives").touch()
    host.start()
    old = until(host.daemons, START, "the daemon runs")
    until(cluster.last_writer, START, "it writes")
    with Overlap(hosts[:1]) as overlap:
        host.signal(signal.SIGKILL)
        until(lambda: host.starts == 2, 5, "systemd starts a guard again")
        until(lambda: host.status.startswith("waiting for "), START, "it waits for the lock")
        time.sleep(2 * TIMINGS["renew"] + 1)  # its own lease it would take at once
        assert host.daemons() == old, "the control: this daemon did not end with its guard"
        assert cluster.epoch() == 1
        os.kill(old[0], signal.SIGKILL)
        until(lambda: cluster.epoch() == 2 and host.daemons() not in ([], old), START, "a new one runs after it")
    assert overlap.most == 1


def test_no_false_alarms(cluster: Cluster, hosts: list[Host]) -> None:
    lead(*hosts)
    old = hosts[0].daemons()
    time.sleep(float(os.environ.get("GUARD_QUIET_SECONDS", "10")))
    assert hosts[0].daemons() == old
    assert (cluster.epoch(), [host.kills for host in hosts], [host.starts for host in hosts]) == (1, [0, 0], [1, 1])


def test_bad_configuration(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "guard.json"
    path.write_text("{")
    environment = programs(cluster.lease_folder)
    argv = [PYTHON, str(PROGRAM), str(path)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "the configuration cannot be used" in done.stderr
