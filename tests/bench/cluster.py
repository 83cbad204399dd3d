"""Measures what a cluster costs against the same roles on one host. Started by tests/bench/run; see README.md."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from accounts import account, used
from clock import Clock
from deployment import NAME, Dagster, machine
from figures import record
from load import cost_of_replicas
from measure import CACHE, HERE, INVENTORY, ROOT, SITE, BenchError, Cost, Row, changed, conduct, median, run, say
from replicas import Edge, Replica, leaves, returns

CLUSTER = ROOT / "inventories" / "cluster"
SCENARIO = ROOT / "molecule" / "cluster"
PACKAGES = "Packages"  # a play of site.yml
# What keeps a deployment as it should be while nothing happens.
KEEPERS = "guard.py|notify.py|haproxy|keepalived"
ONE_REPLICA = {"dagster_webserver_ports": [3000]}  # as each host of scenario cluster has
TICKS = "for p in $(pgrep -f '%s'); do cat /proc/$p/stat 2>/dev/null; done; getconf CLK_TCK"


@dataclass(frozen=True)
class Step:
    """One task of a play: what each host and the controller spent from its start to that of the next task."""

    play: str
    role: str
    task: str
    hosts: list[str]
    wall: float
    cpu: dict[str, float]
    controller: float

    @property
    def part(self) -> str:
        """What it belongs to: a role, or a play without one."""
        return self.role.rpartition(".")[2] or self.play

    @property
    def all_cpu(self) -> float:
        return sum(self.cpu.values()) + self.controller


@dataclass
class Deployment:
    """Hosts of the rig, with the playbook's inventories."""

    name: str
    inventories: list[Path]
    idle: dict[str, float] = field(default_factory=dict)  # CPU seconds a second that nobody asked for

    @property
    def reached(self) -> Path:
        return ROOT / ".cache" / "rig" / self.name / "inventory"

    def ansible(
        self,
        playbook: Path,
        extra: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
        limit: str = "all",
    ) -> str:
        argv = ["ansible-playbook", *(f"-i{path}" for path in [*self.inventories, self.reached]), "--limit", limit]
        return run([*argv, "-e", json.dumps(extra or {}), str(playbook)], env={"RIG_NAME": self.name, **(env or {})})

    def create(self) -> None:
        self.destroy()
        say(f"booting the hosts of {self.name}")
        self.ansible(ROOT / "tests" / "rig" / "create.yml")

    def destroy(self) -> None:
        self.ansible(ROOT / "tests" / "rig" / "destroy.yml")

    def addresses(self) -> dict[str, str]:
        """Where each host is reached."""
        hosts = yaml.safe_load((self.reached / "hosts.yml").read_text(encoding="utf-8"))["all"]["hosts"]
        return {str(name): str(hosts[name]["ansible_host"]) for name in sorted(hosts)}

    def accounts(self) -> dict[str, Path]:
        """The kernel's file that counts each host's CPU time."""
        inspect = ["docker", "inspect", "-f", "{{.Id}}"]
        try:
            return {host: account(run([*inspect, f"rig-{self.name}-{host}"]).strip()) for host in self.addresses()}
        except LookupError as error:
            raise BenchError(str(error)) from error

    def play(self, extra: dict[str, Any] | None = None, *, unchanged: bool = False, limit: str = "all") -> list[Step]:
        """site.yml, task by task, less what the hosts do anyway."""
        path = CACHE / f"{self.name}.cpu.json"
        env = {"BENCH_CPU": str(path), "BENCH_CPU_ACCOUNTS": json.dumps(self.accounts(), default=str)}
        callback = {"ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins")}
        output = self.ansible(SITE, extra, env={**env, **callback}, limit=limit)
        if unchanged and (tasks := changed(output)):
            raise BenchError(f"site.yml changed something although there was nothing to do: {'; '.join(tasks)}")
        rows = json.loads(path.read_text(encoding="utf-8"))
        for row in rows:
            row["cpu"] = {host: cpu - self.idle.get(host, 0) * row["wall"] for host, cpu in row["cpu"].items()}
        return [Step(**row) for row in rows]

    def measure_idle(self, seconds: int) -> None:
        accounts = self.accounts()
        before = {host: used(path) for host, path in accounts.items()}
        time.sleep(seconds)
        self.idle = {host: (used(path) - before[host]) / seconds for host, path in accounts.items()}


# --- what a play cost -------------------------------------------------------------------------------------------------


def hosts_of_parts(steps: Iterable[Step]) -> dict[str, set[str]]:
    """The hosts on which each role, or play without one, did something."""
    found: dict[str, set[str]] = {}
    for step in steps:
        found.setdefault(step.part, set()).update(step.hosts)
    return found


def cost_of_parts(steps: Iterable[Step]) -> dict[str, float]:
    """CPU seconds of all hosts and of the controller, by role; without Debian's packages, of which each has its own."""
    found: dict[str, float] = defaultdict(float)
    for step in steps:
        if step.part == PACKAGES:
            continue
        found[step.part] += step.all_cpu
    return found


def same_roles(single: list[Step], cluster: list[Step]) -> float:
    """What the cluster would cost if each role cost on each of its hosts what it costs on the single one."""
    hosts, costs = hosts_of_parts(cluster), cost_of_parts(single)
    return sum(cost * max(1, len(hosts.get(part, ()))) for part, cost in costs.items())


def largest(costs: Mapping[str, float], number: int) -> list[tuple[str, float]]:
    return sorted(costs.items(), key=lambda item: item[1], reverse=True)[:number]


def chain(steps: list[Step]) -> tuple[float, float, list[str]]:
    """CPU seconds of the longest chain when each task waits for the slowest host, as plays do; of the one when
    only a play's end waits; and the plays that make the most of the first.
    """
    waited: dict[str, float] = defaultdict(float)
    own: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for step in steps:
        there = {host: step.cpu[host] for host in step.hosts if host in step.cpu}
        if there:
            waited[step.play] += max(there.values())
        for host, seconds in there.items():
            own[step.play][host] += seconds
    least = sum(max(hosts.values()) for hosts in own.values())
    return sum(waited.values()), least, [f"{play} {seconds:.0f}" for play, seconds in largest(waited, 5)]


def cost(steps: list[Step]) -> Cost:
    return Cost(sum(step.wall for step in steps), sum(cost_of_parts(steps).values()))


def against(name: str, cluster: list[list[Step]], single: list[list[Step]], bound: float) -> Row:
    """The cluster's medians against those of the same roles on one host."""
    ours, alone = (median([cost(steps) for steps in plays]) for plays in (cluster, single))
    theirs = statistics.median(same_roles(steps, cluster[0]) for steps in single)
    parts = ", ".join(f"{part} {seconds:.0f}" for part, seconds in largest(cost_of_parts(cluster[0]), 6))
    note = f"one host: {alone.cpu:.1f} CPU s; most: {parts}"
    return Row(name, ours, Cost(alone.wall, theirs), ours.cpu / theirs, None, bound, note=note)


def longer(name: str, ours: list[list[Step]], yardstick: list[list[Step]], bound: float) -> Row:
    """Wall clock, because an operator waits: the hosts of a cluster work beside each other."""
    left, right = (median([cost(steps) for steps in plays]) for plays in (ours, yardstick))
    return Row(name, left, right, by_wall=left.wall / right.wall, bound=bound)


# --- rows -------------------------------------------------------------------------------------------------------------


def deploy(single: Deployment, cluster: Deployment, rounds: int, idle_seconds: int) -> Iterator[Row]:
    """Leaves the cluster's hosts up."""
    single.create()
    say("deploying one host")
    first_single = [single.play(ONE_REPLICA)]
    single.play(ONE_REPLICA, unchanged=True)
    single.measure_idle(idle_seconds)
    second_single = [single.play(ONE_REPLICA, unchanged=True) for _round in range(rounds)]
    single.destroy()

    cluster.create()
    cluster.ansible(SCENARIO / "prepare.yml")
    say("deploying the cluster")
    first = cluster.play()
    yield against("cluster, bare hosts to healthy", [first], first_single, 1.3)
    for location in ("pipeline", "reporting"):  # its schedule would fire each minute
        Clock(Dagster(f"http://{cluster.addresses()['edge1']}:8080"), location).stop()
    waited, least, most = chain(first)
    yield Row(
        "  longest chain of tasks",
        Cost(0, waited),
        Cost(0, least),
        waited / least,
        note=f"each task waits for the slowest host, against a play that waits at its end; CPU s: {', '.join(most)}",
    )
    cluster.play(unchanged=True)
    cluster.measure_idle(idle_seconds)
    second = [cluster.play(unchanged=True) for _round in range(rounds)]
    yield against("cluster, second run", second, second_single, 1.3)
    yield longer("  its wall clock, against one host", second, second_single, 2.0)
    for host in cluster.addresses():
        limited = [cluster.play(unchanged=True, limit=host) for _round in range(rounds)]
        yield longer(f"  limited to {host}, against all six", limited, second, 0.5)


def keepers(cluster: Deployment, seconds: int) -> Row:
    """The share of a core of the hosts' guards, watchers and balancers while nothing happens; the worst host counts."""

    def ticks(host: str) -> float:
        *stats, hertz = str(machine(host).check_output(TICKS % KEEPERS)).splitlines()
        spent = (line.rpartition(")")[2].split()[11:13] for line in stats)
        return sum(int(user) + int(system) for user, system in spent) / int(hertz)

    hosts = [host for host in cluster.addresses() if host.startswith(("edge", "ctl"))]
    before, since = {host: ticks(host) for host in hosts}, time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - since
    shares = {host: (ticks(host) - before[host]) / took * 100 for host in hosts}
    worst = max(shares.values())
    record("guard, or watcher with HAProxy and keepalived, of the busiest host: share of a core", worst, "%", 1)
    note = ", ".join(f"{host} {share:.2f} %" for host, share in shares.items())
    return Row("guards, watchers and balancers, idle", by_cpu=worst, bound=1, unit="%", note=note)


def requests(cluster: Deployment) -> Row:
    """What a request costs with all replicas against one."""
    addresses = cluster.addresses()
    edges = [Edge(name, addresses[name]) for name in ("edge1", "edge2")]
    replicas: list[Replica] = [replica for edge in edges for replica in edge.replicas()]

    def only_one(alone: bool) -> None:
        for replica in replicas[1:]:
            replica.drain(alone)
        for replica in replicas[1:] if alone else []:
            leaves(edges, replica)
        if not alone:
            returns(edges, replicas)

    urls = [f"http://{edge.address}:8080" for edge in edges]
    found = cost_of_replicas(urls, lambda: sum(replica.cpu for replica in replicas), only_one)
    if min(found.values()) <= 0:
        raise BenchError(f"a request that costs nothing was not measured: {found}")
    record("CPU of a request, one replica", found["one"], "ms")
    record(f"CPU of a request, {len(replicas)} replicas", found["all"], "ms")
    record(f"CPU of a request, {len(replicas)} replicas against one", found["ratio"], "x", 1.15)
    note = f"{found['all']:.2f} ms with {len(replicas)}, {found['one']:.2f} ms with one"
    return Row("a request, all replicas against one", by_cpu=found["ratio"], bound=1.15, note=note)


def measure_all(single: Deployment, cluster: Deployment, rounds: int, idle_seconds: int) -> Iterator[Row]:
    yield from deploy(single, cluster, rounds, idle_seconds)
    yield keepers(cluster, idle_seconds)
    yield requests(cluster)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="second runs (3)")
    parser.add_argument("--idle", type=int, default=60, help="seconds of looking at what hosts do by themselves (60)")
    options = parser.parse_args()
    single = Deployment("bench", [INVENTORY])
    cluster = Deployment(NAME, [CLUSTER, SCENARIO / "inventory"])
    return conduct(measure_all(single, cluster, options.rounds, options.idle), [single, cluster], "cluster")


if __name__ == "__main__":
    sys.exit(main())
