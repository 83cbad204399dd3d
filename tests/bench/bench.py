"""Measures how fast a deployment is, on throw-away hosts of the rig. Started by tests/bench/run; see README.md."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import json
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import yaml
from cpu import cpu_seconds

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "bench"
CACHE = ROOT / ".cache" / "bench"
EXAMPLE = ROOT / "examples" / "pipeline"
LOCKS = ROOT / "roles" / "instance" / "files" / "locks"
INVENTORY = ROOT / "inventories" / "single_host"
SITE = ROOT / "playbooks" / "site.yml"
HOST = "dagster1"  # the one host of inventories/single_host
CANARY = {"dagster_canary": {"location": "pipeline", "job": "orders_report"}}
POPULAR_ROLES = ("geerlingguy.postgresql", "geerlingguy.nginx", "geerlingguy.docker")

Json = dict[str, Any]


class BenchError(Exception):
    """What kept the bench from measuring, for the person who started it."""


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


# --- what a thing costs ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """Seconds of wall clock, and CPU seconds of the host and of the controller together."""

    wall: float
    cpu: float


def median(costs: list[Cost]) -> Cost:
    return Cost(statistics.median(cost.wall for cost in costs), statistics.median(cost.cpu for cost in costs))


def children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def adopt_orphans() -> None:
    """Makes the kernel give us the orphans among our descendants, so that their CPU time is counted as ours."""
    pr_set_child_subreaper = 36
    if ctypes.CDLL(None, use_errno=True).prctl(pr_set_child_subreaper, 1, 0, 0, 0):
        raise BenchError(f"prctl failed: {os.strerror(ctypes.get_errno())}")


def bury_orphans(seconds: float = 10.0) -> None:
    """Waits for adopted processes, which adds their CPU time to getrusage."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            pid, _status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            time.sleep(0.01)


def run(argv: list[str], *, env: dict[str, str] | None = None, data: str = "") -> str:
    """Output of a command that succeeds."""
    done = subprocess.run(
        argv,
        env={**os.environ, **(env or {})},
        input=data,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-40:])
        raise BenchError(f"{' '.join(argv)} ended with {done.returncode}:\n{tail}")
    return done.stdout


# --- hosts ----------------------------------------------------------------------------------------------------------


class Host:
    """A throw-away host of the rig."""

    def __init__(self, rig_name: str) -> None:
        self.rig_name = rig_name
        self.container = f"rig-{rig_name}-{HOST}"
        self.inventory = ROOT / ".cache" / "rig" / rig_name / "inventory"
        self.idle = 0.0  # CPU seconds that it uses in a second while nobody asks for anything

    def create(self) -> None:
        """Boots the host, as bare as a new machine."""
        self.destroy()
        say(f"booting {self.container}")
        self._rig("create.yml")

    def destroy(self) -> None:
        self.idle = 0.0
        self._rig("destroy.yml")

    def _rig(self, playbook: str) -> None:
        env = {"RIG_NAME": self.rig_name}
        run(["ansible-playbook", "-i", str(INVENTORY), str(ROOT / "tests" / "rig" / playbook)], env=env)

    def shell(self, script: str) -> str:
        return run(["docker", "exec", "-i", self.container, "bash", "-euc", script])

    def has_downloads(self) -> bool:
        """Whether the caches of apt and uv, which outlive the host, hold something."""
        found = self.shell(
            "find /var/cache/apt/archives /root/.cache/uv -name '*.deb' -o -path '*/uv/archive-*/*' -type d"
        )
        return ".deb" in found and "/uv/" in found

    def cpu(self) -> float:
        """CPU seconds that the host and all containers on it have used since it was booted."""
        return cpu_seconds(
            self.shell("cat /sys/fs/cgroup/cpuacct/cpuacct.usage 2>/dev/null || cat /sys/fs/cgroup/cpu.stat")
        )

    def measure_idle(self, seconds: int) -> None:
        """The daemon and the code servers poll all the time; that is taken off what a play is charged for."""
        before, since = self.cpu(), time.monotonic()
        time.sleep(seconds)
        self.idle = (self.cpu() - before) / (time.monotonic() - since)

    def measure(self, action: Callable[[], object]) -> Cost:
        """What an action costs beside the host's own idle work."""
        host, controller, since = self.cpu(), children_cpu(), time.monotonic()
        action()
        wall = time.monotonic() - since
        bury_orphans()
        return Cost(wall, self.cpu() - host - self.idle * wall + children_cpu() - controller)

    def play(self, playbook: Path, extra: Json | None = None, *, verbose: bool = False, roles: str = "") -> str:
        """Runs a playbook against this host over a connection of its own, as the first play of a day has it."""
        argv = ["ansible-playbook", "-i", str(INVENTORY), "-i", str(self.inventory), "-e", json.dumps(extra or {})]
        argv += ["-vvv"] if verbose else []
        env = {"ANSIBLE_ROLES_PATH": roles} if roles else {}
        # Short, because the path of a socket may be 108 characters long.
        with tempfile.TemporaryDirectory(prefix="bench-") as sockets:
            try:
                return run([*argv, str(playbook)], env={**env, "ANSIBLE_SSH_CONTROL_PATH_DIR": sockets})
            finally:
                # The process that holds the connection outlives the play; it ends here, within what is measured.
                for path in Path(sockets).iterdir():
                    run(["ssh", "-o", f"ControlPath={path}", "-O", "exit", HOST])

    def ssh(self) -> list[str]:
        """The command that logs in to this host."""
        hosts = yaml.safe_load((self.inventory / "hosts.yml").read_text(encoding="utf-8"))["all"]["hosts"][HOST]
        argv = ["ssh", "-i", hosts["ansible_ssh_private_key_file"], *str(hosts["ansible_ssh_common_args"]).split()]
        return [*argv, f"{hosts['ansible_user']}@{hosts['ansible_host']}"]

    def rig_variables(self) -> Json:
        found: Json = yaml.safe_load((self.inventory / "group_vars" / "all.yml").read_text(encoding="utf-8"))
        return found


def changed(output: str) -> list[str]:
    """The tasks and handlers of a play that changed something."""
    return re.findall(
        r"^(?:TASK|RUNNING HANDLER) \[(.*)\] \**\n(?:(?!TASK|RUNNING HANDLER|PLAY).*\n)*?changed: ", output, re.M
    )


# --- result ---------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """One line of the table. CPU seconds decide the verdict: a neighbour on the machine changes the wall clock more."""

    name: str
    ours: Cost | None = None
    yardstick: Cost | None = None
    by_cpu: float | None = None
    by_wall: float | None = None
    bound: float | None = None
    unit: str = "x"
    note: str = ""
    samples: dict[str, list[list[float]]] = field(default_factory=dict)

    def judge(self, value: float | None) -> str:
        if self.bound is None:
            return ""
        if value is None:
            return "not measured"
        return "PASS" if value <= self.bound else "FAIL"

    @property
    def verdict(self) -> str:
        return self.judge(self.by_wall if self.by_cpu is None else self.by_cpu)

    def cells(self) -> list[str]:
        def pair(cost: Cost | None) -> str:
            return f"{cost.cpu:.2f} / {cost.wall:.2f}" if cost else ""

        def value(number: float | None) -> str:
            return "" if number is None else f"{number:.3g} {self.unit}"

        bound = "" if self.bound is None else f"<= {self.bound:g} {self.unit}"
        values = [value(self.by_cpu), value(self.by_wall)]
        return [self.name, pair(self.ours), pair(self.yardstick), *values, bound, self.verdict, self.note]


def ratio(name: str, ours: list[Cost], yardstick: list[Cost], bound: float | None, note: str = "") -> Row:
    left, right = median(ours), median(yardstick)
    samples = {"ours": raw(ours), "yardstick": raw(yardstick)}
    return Row(name, left, right, left.cpu / right.cpu, left.wall / right.wall, bound, note=note, samples=samples)


def raw(costs: list[Cost]) -> list[list[float]]:
    return [[round(cost.cpu, 3), round(cost.wall, 3)] for cost in costs]


def table(rows: list[Row]) -> str:
    head = ["", "ours CPU / wall s", "against CPU / wall s", "by CPU", "by wall", "bound", "verdict", ""]
    lines = [head, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([text[0], "-" * sum(widths[:-1]), *text[1:]])


# --- (a) from a bare host to the first run --------------------------------------------------------------------------


def stage_reference(host: Host) -> None:
    """Puts together what the reference script is given."""
    folder = CACHE / "reference"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    wanted = yaml.safe_load((INVENTORY / "group_vars" / "all" / "dagster.yml").read_text(encoding="utf-8"))
    shutil.copy(HERE / "reference.sh", folder)
    shutil.copy(LOCKS / "uv.txt", folder)
    shutil.copy(LOCKS / f"dagster-{wanted['dagster_version']}.txt", folder / "dagster.txt")
    shutil.copytree(EXAMPLE, folder / "context", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "base.tar").symlink_to(host.rig_variables()["pipeline_base_archive"])


def run_reference(host: Host, *how: str) -> dict[str, float]:
    """The reference, transfer included; seconds of each of its steps. `alone`: see the script."""
    base = host.rig_variables()["pipeline_build_args"]["BASE_IMAGE"]
    with subprocess.Popen(["tar", "-ch", "-C", str(CACHE / "reference"), "."], stdout=subprocess.PIPE) as packed:
        sent = subprocess.run([*host.ssh(), "mkdir reference && tar -x -C reference"], stdin=packed.stdout, check=False)
    if sent.returncode or packed.returncode:
        raise BenchError("the reference could not be sent to its host")
    output = run([*host.ssh(), "sudo", "bash", "reference/reference.sh", base, *how])
    steps = dict(line.split() for line in output.splitlines() if re.fullmatch(r"\w+ [\d.]+", line))
    return {name: float(seconds) for name, seconds in steps.items()}


def bare_to_first_run(bench: Host, reference: Host, rounds: int) -> list[Row]:
    """Leaves a deployed bench host behind."""

    def by_script() -> None:
        run_reference(reference)

    def by_site() -> None:
        bench.play(SITE, CANARY)

    sides = [(reference, by_script), (bench, by_site)]
    reference.create()
    stage_reference(reference)
    for host, deploy in sides:
        host.create()
        if not host.has_downloads():
            say(f"one deployment of {host.container} beforehand: the caches of downloads are to be full for both")
            deploy()
    say("the steps of reference.sh that no script can do without, one after the other")
    bench.destroy()
    reference.create()
    alone = run_reference(reference, "alone")
    costs: dict[str, list[Cost]] = {host.rig_name: [] for host, _deploy in sides}
    for number in range(rounds):
        say(f"bare host to first run, round {number + 1} of {rounds}")
        for host, deploy in sides if (rounds - number) % 2 else reversed(sides):
            for other, _deploy in sides:  # one host at a time: an idle stack would be in the other's way
                other.destroy()
            host.create()
            costs[host.rig_name].append(host.measure(deploy))
    theirs = costs[reference.rig_name]
    reference.destroy()
    return [
        ratio("bare host to first run", costs[bench.rig_name], theirs, 1.3, "against reference.sh"),
        Row(
            "  reference.sh beside its packages",
            by_wall=median(theirs).wall - sum(alone.values()),
            bound=15,
            unit="s",
            note="alone: " + ", ".join(f"{name} {second:.1f} s" for name, second in alone.items()),
        ),
    ]


# --- (b), (c) a run with nothing to do ------------------------------------------------------------------------------


def play_unchanged(host: Host, extra: Json | None = None, *, verbose: bool = False) -> str:
    """site.yml once more; an error if it finds something to do."""
    output = host.play(SITE, extra, verbose=verbose)
    if tasks := changed(output):
        raise BenchError(f"site.yml changed something although there was nothing to do: {'; '.join(tasks)}")
    return output


def remote_calls(host: Host) -> tuple[int, int]:
    """Commands sent to the host by a run with nothing to do, and how many of them are modules (and not questions)."""
    sent = [line for line in play_unchanged(host, verbose=True).splitlines() if "SSH: EXEC" in line]
    return len(sent), sum("/usr/bin/python3" in line for line in sent)


def nothing_to_do(bench: Host, rounds: int, idle_seconds: int) -> tuple[list[Row], list[Cost]]:
    """The rows, and what each run has cost."""
    say(f"a run with nothing to do, {rounds} rounds")
    play_unchanged(bench)
    calls, modules = remote_calls(bench)
    bench.measure_idle(idle_seconds)
    site: list[Cost] = []
    empty: list[Cost] = []
    ping: list[Cost] = []
    for _round in range(rounds):
        site.append(bench.measure(partial(play_unchanged, bench)))
        empty.append(bench.measure(partial(bench.play, HERE / "empty.yml")))
        ping.append(bench.measure(partial(bench.play, HERE / "ping.yml")))
    rows = [
        ratio("second run, nothing to do", site, empty, 18, "against a play without a task"),
        ratio("  the same", site, ping, None, "against a play of one ping"),
        Row("  remote calls", note=f"{calls} commands sent to the host, {modules} of them modules"),
        Row("  idle", note=f"{bench.idle:.2f} CPU s a second are the stack's own and taken off"),
    ]
    return rows, site


def popular_play(password: str) -> list[Json]:
    """The popular roles, set up for what the stack needs of PostgreSQL, nginx and Docker."""
    postgresql = {
        "role": "geerlingguy.postgresql",
        "postgresql_auth_method": "scram-sha-256",
        "postgresql_users": [
            {"name": name, "password": password} for name in ("dagster", "dagster_run", "dagster_migration")
        ],
        "postgresql_databases": [{"name": "dagster", "owner": "dagster_migration"}],
    }
    nginx = {
        "role": "geerlingguy.nginx",
        "nginx_package_name": "nginx-light",
        "nginx_remove_default_vhost": True,
        "nginx_listen_ipv6": False,
        "nginx_upstreams": [{"name": "dagster", "keepalive": 32, "servers": ["127.0.0.1:3000", "127.0.0.1:3001"]}],
        "nginx_vhosts": [
            {
                "listen": "127.0.0.1:8080",
                "server_name": "dagster",
                "extra_parameters": "location / { proxy_pass http://dagster; }",
            }
        ],
    }
    docker = {
        "role": "geerlingguy.docker",
        # Debian's engine, so that no other repository has to be reached.
        "docker_add_repo": False,
        "docker_packages": ["docker.io", "containerd", "runc", "iptables"],
        "docker_obsolete_packages": ["docker", "docker-engine", "podman-docker"],
        "docker_install_compose_plugin": False,
        "docker_daemon_options": {"log-driver": "journald", "live-restore": True, "userns-remap": "default"},
    }
    return [{"name": "Popular roles", "hosts": "dagster_run", "become": True, "roles": [postgresql, nginx, docker]}]


def popular_roles(host: Host, ours: list[Cost], rounds: int) -> Row:
    name, bound = "second run, against popular roles", 0.75
    path = os.environ.get("BENCH_ROLES_PATH", "")
    if not path:
        return Row(name, bound=bound, note="set BENCH_ROLES_PATH")
    missing = [role for role in POPULAR_ROLES if not (Path(path) / role / "tasks").is_dir()]
    if missing:
        raise BenchError(f"BENCH_ROLES_PATH={path} holds no {', '.join(missing)}")
    host.create()
    say(f"popular roles, {rounds} rounds")
    # The role generates a locale with a program that a minimal Debian lacks.
    host.shell("apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -qq -y locales >/dev/null 2>&1")
    playbook = CACHE / "popular_roles.yml"
    playbook.write_text(json.dumps(popular_play("throw-away")), encoding="utf-8")
    play = partial(host.play, playbook, roles=str(Path(path).resolve()))
    play()
    number = len(changed(play()))
    host.measure_idle(10)
    theirs = [host.measure(play) for _round in range(rounds)]
    note = "all of ours against PostgreSQL, nginx and Docker alone"
    return ratio(name, ours, theirs, bound, note + (f"; {number} tasks change each time" if number else ""))


# --- (d) one more code location -------------------------------------------------------------------------------------


def more_locations(bench: Host, one: list[Cost], more: int, rounds: int, idle_seconds: int) -> Row:
    """The further locations have one job and no sensor: what is measured is the play, not the work of sensors."""
    variables = bench.rig_variables()
    build = {
        "context": str(EXAMPLE),
        "args": variables["pipeline_build_args"],
        "base_archive": variables["pipeline_base_archive"],
    }
    locations: list[Json] = [{"name": "pipeline", "port": 4000, "module": "pipeline.definitions", "build": build}]
    for number in range(1, more + 1):
        code = {"module": "pipeline.jobs", "attribute": "orders_report"}
        locations.append({"name": f"pipeline_{number}", "port": 4000 + number, **code, "build": build})
    extra = {"dagster_code_locations": locations}
    say(f"{more} more code locations, {rounds} rounds")
    bench.play(SITE, extra)
    play_unchanged(bench, extra)
    bench.measure_idle(idle_seconds)
    many = [bench.measure(partial(play_unchanged, bench, extra)) for _round in range(rounds)]
    left, right = median(many), median(one)
    return Row(
        "one more code location",
        left,
        right,
        (left.cpu - right.cpu) / more,
        (left.wall - right.wall) / more,
        0.1,
        "s",
        f"{1 + more} locations against 1; {bench.idle:.2f} CPU s a second idle taken off",
        {"ours": raw(many), "yardstick": raw(one)},
    )


# --- (e) fresh database connections ---------------------------------------------------------------------------------

ASK = r"""
import http.client, json, statistics, sys, time
port, number, pause = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
body = json.dumps({"query": "{ runsOrError(limit: 25) { ... on Runs { results { runId status } } } }"})
connection, took = http.client.HTTPConnection("127.0.0.1", port, timeout=30), []
for _ in range(number):
    time.sleep(pause)
    since = time.monotonic()
    connection.request("POST", "/graphql", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200 or "results" not in json.loads(answer.read())["data"]["runsOrError"]:
        sys.exit("GraphQL answered %d" % answer.status)
    took.append(time.monotonic() - since)
print(statistics.median(took))
"""


@contextlib.contextmanager
def webservers(host: Host, recycle: dict[int, int]) -> Iterator[None]:
    """One webserver for each value of --db-pool-recycle, by port; the drop-in of dagster-*.service applies to them."""
    for port, seconds in recycle.items():
        host.shell(
            f"systemd-run --quiet --collect --unit dagster-bench-{port} /usr/bin/env dagster-webserver --host 127.0.0.1"
            f" --port {port} --workspace /etc/dagster/workspace.yaml --db-pool-recycle {seconds}"
        )
    try:
        for port in recycle:
            host.shell(f"for _ in {{1..240}}; do sleep 0.25; (: </dev/tcp/127.0.0.1/{port}) 2>&- && exit; done; exit 1")
        yield
    finally:
        host.shell("systemctl stop " + " ".join(f"dagster-bench-{port}" for port in recycle))


def pool_recycle(bench: Host, rounds: int, requests: int = 300) -> list[Row]:
    """What fresh database connections cost; the bound holds for the seconds that the deployed webserver has."""
    unit = bench.shell("systemctl cat dagster-webserver@3000.service")
    found = re.search(r"--db-pool-recycle[ =](\d+)", unit)
    deployed = int(found.group(1)) if found else 3600
    recycle = {3900 + number: value for number, value in enumerate(sorted({1, 5, deployed, 3600}))}
    say(f"--db-pool-recycle, {rounds} rounds of {requests} requests for each of {list(recycle.values())} s")

    def ask(port: int, number: int, pause: float) -> float:
        argv = ["docker", "exec", "-i", bench.container, "python3", "-", str(port), str(number), str(pause)]
        return float(run(argv, data=ASK))

    with webservers(bench, recycle):
        for port in recycle:
            ask(port, 50, 0)
        bench.measure_idle(15)
        costs: dict[int, list[Cost]] = {port: [] for port in recycle}
        for number in range(rounds):
            for port in recycle if number % 2 else reversed(recycle):
                costs[port].append(bench.measure(partial(ask, port, requests, 0)))
        paced = {port: ask(port, 10, 1.2) * 1000 for port in recycle}
    *ports, never = recycle
    rows = [
        ratio(
            f"{requests} requests, db_pool_recycle {recycle[port]}",
            costs[port],
            costs[never],
            1.05 if recycle[port] == deployed else None,
            "against 3600" + ("; the deployed value" if recycle[port] == deployed else ""),
        )
        for port in ports
    ]
    note = ", ".join(f"{paced[port]:.1f} ms with {seconds}" for port, seconds in recycle.items())
    return [*rows, Row("  a request after 1.2 s of silence", note=note)]


# --- the whole ------------------------------------------------------------------------------------------------------


def measure_all(options: argparse.Namespace, bench: Host, reference: Host) -> Iterator[Row]:
    """The rows as they come, so that what was measured is kept when something breaks later."""
    rounds = options.rounds or (3 if options.quick else 7)
    idle_seconds, more = (30, 5) if options.quick else (60, 10)
    if options.quick:
        bench.create()
        say("deploying")
        bench.play(SITE)
    else:
        yield from bare_to_first_run(bench, reference, options.deployments)
    rows, second = nothing_to_do(bench, rounds, idle_seconds)
    yield from rows
    if not options.quick:
        yield from pool_recycle(bench, rounds)
    yield more_locations(bench, second, more, rounds, idle_seconds)
    if not options.quick:
        bench.destroy()
        yield popular_roles(reference, second, rounds)


def report(rows: list[Row], load: float, name: str = "result", *, quick: bool = False) -> int:
    """Prints the table, keeps all in .cache/bench/NAME.json, and returns 1 when a bound is missed."""
    print(table(rows))
    verdicts = [row.verdict for row in rows]
    failed = verdicts.count("FAIL")
    counted = f"{verdicts.count('PASS')} passed, {failed} failed, {verdicts.count('not measured')} not measured"
    print(f"\n{counted}; CPU decides. The load was {load:.1f} at the start.")
    result = {
        "quick": quick,
        "cpus": os.cpu_count(),
        "load": load,
        "rows": [
            {
                "name": row.name.strip(),
                "by_cpu": row.by_cpu,
                "by_wall": row.by_wall,
                "bound": row.bound,
                "unit": row.unit,
                "verdict": row.verdict,
                "verdict_by_wall": row.judge(row.by_wall),
                "note": row.note,
                "samples_cpu_wall": row.samples,
            }
            for row in rows
        ],
    }
    (CACHE / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 1 if failed else 0


class Removable(Protocol):
    """Hosts that a bench takes away."""

    def destroy(self) -> None: ...


def conduct(rows: Iterator[Row], hosts: Sequence[Removable], name: str = "result", *, quick: bool = False) -> int:
    """Measures the rows and reports them: 0, 1 when a bound is missed, 2 when something could not be measured.

    One bench at a time in a checkout. The hosts are removed at the end, and what a killed bench left at the start.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("bench: another bench is running in this checkout", file=sys.stderr)
            return 2
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the hosts go even then
        load = os.getloadavg()[0]
        measured: list[Row] = []
        broken = False
        try:
            for host in hosts:
                host.destroy()
            for row in rows:
                measured.append(row)
        except (AssertionError, BenchError) as error:
            say(str(error))
            broken = True
        finally:
            for host in hosts:
                host.destroy()
        status = report(measured, load, name, quick=quick)
    return 2 if broken else status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the rows that a busy machine cannot spoil, few rounds")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of what takes seconds (7; quick: 3)")
    parser.add_argument("--deployments", type=int, default=3, help="rounds from a bare host to the first run (3)")
    options = parser.parse_args()

    adopt_orphans()
    hosts = Host("bench"), Host("reference")
    return conduct(measure_all(options, *hosts), hosts, quick=options.quick)


if __name__ == "__main__":
    sys.exit(main())
