"""Rows about a whole deployment: the first run, a run with nothing to do, more locations, database connections."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import yaml
from measure import (
    CACHE,
    EXAMPLE,
    HERE,
    INVENTORY,
    ROOT,
    SITE,
    BenchError,
    Cost,
    Host,
    Json,
    Row,
    changed,
    median,
    play_unchanged,
    ratio,
    raw,
    remote_calls,
    run,
    say,
)

LOCKS = ROOT / "roles" / "instance" / "files" / "locks"
POPULAR_ROLES = ("geerlingguy.postgresql", "geerlingguy.nginx", "geerlingguy.docker")

# --- from a bare host to the first run ------------------------------------------------------------------------------


def stage_reference(host: Host) -> None:
    """Puts together what the reference script is given."""
    folder = CACHE / "reference"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    wanted = yaml.safe_load((INVENTORY / "group_vars" / "all" / "dagster.yml").read_text(encoding="utf-8"))
    shutil.copy(HERE / "reference.sh", folder)
    shutil.copy(LOCKS / "uv.txt", folder)
    # What hosts install, which is a part of the lock.
    part = "{{ lookup('ansible.builtin.file', lock, rstrip=false) | dataops.dagster.host_requirements }}"
    given = json.dumps({"lock": str(LOCKS / f"dagster-{wanted['dagster_version']}.txt"), "part": part})
    copy = f"content={{{{ part }}}} dest={folder / 'dagster.txt'}"
    run(["ansible", "localhost", "-m", "ansible.builtin.copy", "-a", copy, "-e", given])
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


def on_mariadb(bench: Host) -> Json:
    """The variables of a deployment on MariaDB; its code has the client's library."""
    return {"dagster_database_engine": "mysql", "dagster_code_locations": bench.locations("requirements-mysql.lock")}


def bare_to_first_run(bench: Host, reference: Host, rounds: int) -> Iterator[Row]:
    """Leaves a deployed bench host behind."""
    steps: dict[str, list[dict[str, float]]] = {"whole": [], "alone": []}
    sides: dict[str, tuple[Host, Callable[[], object]]] = {
        "whole": (reference, lambda: steps["whole"].append(run_reference(reference))),
        "alone": (reference, lambda: steps["alone"].append(run_reference(reference, "alone"))),
        "mariadb": (bench, lambda: bench.play(SITE, on_mariadb(bench))),
        "site": (bench, lambda: bench.play(SITE)),  # the last of all stays
    }
    reference.create()
    stage_reference(reference)
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    for number in range(rounds + 1):  # the first fills the caches of downloads and of the kernel, and does not count
        say(f"bare host to first run, round {number} of {rounds}" if number else "bare host to first run, warm-up")
        for name in reversed(sides) if (rounds - number) % 2 else sides:
            host, deploy = sides[name]
            for other in (bench, reference):  # one host at a time: an idle stack would be in the other's way
                other.destroy()
            host.create()
            costs[name].append(host.measure(deploy))
            say(f"{name}: {costs[name][-1].cpu:.1f} CPU s, {costs[name][-1].wall:.1f} s")
    reference.destroy()
    warm_up = {name: found.pop(0) for name, found in costs.items()}
    for found in steps.values():
        del found[0]
    colder = f"{warm_up['site'].cpu:.0f} and {warm_up['whole'].cpu:.0f} CPU s"
    note = f"against reference.sh; the warm-up, not counted: {colder}"
    first = ratio("bare host to first run", costs["site"], costs["whole"], 0.95, note)
    yield first
    yield Row("  the same by wall clock", by_wall=first.by_wall, bound=1.05)
    yield beside_packages(costs["whole"], steps)
    yield ratio("  with MariaDB", costs["mariadb"], costs["site"], None, "against PostgreSQL")


def beside_packages(whole: list[Cost], steps: dict[str, list[dict[str, float]]]) -> Row:
    """Wall clock of the reference less what no script can do without, within each round.

    Timed at another moment the steps have other caches and neighbours, and that difference would count as the script's.
    """
    alone = [sum(found.values()) for found in steps["alone"]]
    beside = [cost.wall - packages for cost, packages in zip(whole, alone, strict=True)]
    parts = {
        how: ", ".join(f"{name} {statistics.median(one[name] for one in found):.1f}" for name in found[0])
        for how, found in steps.items()
    }
    return Row(
        "  reference.sh beside its packages",
        by_wall=statistics.median(beside),
        bound=15,
        unit="s",
        note=f"s alone: {parts['alone']}; s in the whole: {parts['whole']}",
        samples={"beside": [[round(seconds, 3)] for seconds in beside]},
    )


# --- a run with nothing to do ---------------------------------------------------------------------------------------


def nothing_to_do(bench: Host, rounds: int, idle_seconds: int) -> tuple[list[Row], list[Cost]]:
    """The rows, and what each run has cost."""
    say(f"a run with nothing to do, {rounds} rounds")
    play_unchanged(bench)
    calls, modules = remote_calls(play_unchanged(bench, verbose=True))
    bench.measure_idle(idle_seconds)
    site: list[Cost] = []
    empty: list[Cost] = []
    ping: list[Cost] = []
    for _round in range(rounds):
        site.append(bench.measure(partial(play_unchanged, bench)))
        empty.append(bench.measure(partial(bench.play, HERE / "empty.yml")))
        ping.append(bench.measure(partial(bench.play, HERE / "ping.yml")))
    rows = [
        ratio("second run, nothing to do", site, empty, 10, "against a play without a task"),
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


# --- one more code location -----------------------------------------------------------------------------------------


def more_locations(bench: Host, one: list[Cost], more: int, rounds: int, idle_seconds: int) -> Iterator[Row]:
    """The further locations have one job and no sensor: what is measured is the play, not the work of sensors."""
    locations = bench.locations()
    build = locations[0]["build"]
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
    yield Row(
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
    watcher = 100 * bench.idle_of("code-health-dagster.service", 2 * idle_seconds)
    yield Row(
        "  the watcher of all code servers", by_cpu=watcher, bound=1, unit="%", note=f"of a core, {1 + more} locations"
    )


# --- fresh database connections -------------------------------------------------------------------------------------

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


# As the deployed unit does it: the password file is a credential, and libpq gets a copy that only this process reads.
START = """
import os, sys
sys.path.insert(0, "/usr/local/lib/dagster")
from systemd_service import credentials
os.environ["PGPASSFILE"] = os.environ["CREDENTIALS_DIRECTORY"] + "/pgpass"  # as Environment= of the unit says
os.environ.update(credentials())
os.execvp(sys.argv[1], sys.argv[1:])
"""


def webserver_command(port: int, recycle: int, deployed_unit: str) -> str:
    """Starts a webserver as a unit: it has the credentials of the deployed one and the drop-in of dagster-*.service."""
    credentials = [
        f"--property=LoadCredential={one}" for one in re.findall(r"^LoadCredential=(\S+)", deployed_unit, re.M)
    ]
    argv = ["systemd-run", "--quiet", "--collect", "--unit", f"dagster-bench-{port}", *credentials]
    argv += ["/usr/bin/python3", "-c", START, "dagster-webserver", "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--workspace", "/etc/dagster/workspace.yaml", "--db-pool-recycle", str(recycle)]
    return shlex.join(argv)


@contextlib.contextmanager
def webservers(host: Host, recycle: dict[int, int], deployed_unit: str) -> Iterator[None]:
    """One webserver for each value of --db-pool-recycle, by port.

    The daemon pauses: what its sensors cost would drown the figure.
    """
    host.shell("systemctl stop dagster-daemon")
    try:
        for port, seconds in recycle.items():
            host.shell(webserver_command(port, seconds, deployed_unit))
        for port in recycle:
            host.shell(
                f"for _ in {{1..480}}; do sleep 0.25; (: </dev/tcp/127.0.0.1/{port}) 2>&- && exit; done;"
                f" journalctl --no-pager -o cat -n 20 -u dagster-bench-{port}; exit 1"
            )
        yield
    finally:
        host.shell("systemctl stop " + " ".join(f"dagster-bench-{port}" for port in recycle) + " || true")
        host.shell("systemctl start dagster-daemon")


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

    with webservers(bench, recycle, unit):
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
