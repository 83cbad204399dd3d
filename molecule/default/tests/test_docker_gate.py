"""The Docker gate on the engine's own host: a run passes, attacks do not, and the services have no other way."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import gate_attacks
import gate_clients
import pytest
from deployment import Dagster, until
from gate_clients import PING_OF_A_SOCKET, UNIT, body_of, request, send

ENGINE = "/run/docker.sock"
FOLDER = "/run/docker-gate-dagster"
ROLES = ("launch", "inspect")
MOUNT = {"Type": "bind", "Source": "/srv/planned", "Target": "/planned", "ReadOnly": True}


@pytest.fixture
def run(dagster: Dagster, host: Any) -> dict[str, Any]:
    """The container of a run that has ended."""
    return gate_clients.container_of_a_run(host, dagster)


def test_services_do_not_reach_the_engine(host: Any) -> None:
    assert "dagster" not in host.check_output("getent group docker").rpartition(":")[2].split(",")
    for unit, group in (("dagster-daemon", "dagster_launch"), ("dagster-webserver@3000", "dagster_inspect")):
        assert host.check_output("systemctl show -p SupplementaryGroups --value %s", unit) == group
        pid = host.check_output("systemctl show -p MainPID --value %s", unit)
        groups = {
            host.check_output("getent group %s", number).partition(":")[0] for number in process_groups(host, pid)
        }
        assert groups == {"dagster", group}
        assert f"DOCKER_HOST=unix://{FOLDER}/{group.partition('_')[2]}.sock" in host.check_output(
            "tr '\\0' '\\n' </proc/%s/environ", pid
        )
    ask = "setpriv --reuid dagster --regid dagster --groups %s python3 -c %s %s"
    assert host.run(ask, "dagster,docker", PING_OF_A_SOCKET, ENGINE).stdout == "200\n", (
        "the control: that group reaches it"
    )
    assert host.run(ask, "dagster,dagster_launch,dagster_inspect", PING_OF_A_SOCKET, ENGINE).rc != 0
    assert host.run(ask, "dagster,dagster_launch", PING_OF_A_SOCKET, f"{FOLDER}/launch.sock").stdout == "200\n"
    assert host.run(ask, "dagster,dagster_launch", PING_OF_A_SOCKET, f"{FOLDER}/inspect.sock").rc != 0
    assert host.run(ask, "dagster,dagster_inspect", PING_OF_A_SOCKET, f"{FOLDER}/launch.sock").rc != 0
    assert host.run(ask, "dagster", PING_OF_A_SOCKET, f"{FOLDER}/inspect.sock").rc != 0


def process_groups(host: Any, pid: str) -> list[str]:
    found: str = host.check_output("awk '/^(Gid|Groups):/ {for (n = 2; n <= NF; n++) print $n}' /proc/%s/status", pid)
    return sorted(set(found.split()))


def test_gate_is_a_user_of_its_own(host: Any) -> None:
    for role in ROLES:
        assert (
            host.check_output("stat -c '%%U:%%G %%a' %s", f"{FOLDER}/{role}.sock") == f"dagster_gate:dagster_{role} 660"
        )
    assert host.check_output("systemctl show -p User --value %s", UNIT) == "dagster_gate"
    assert host.check_output("stat -c '%U:%G %a' /etc/docker-gate-dagster") == "root:dagster_gate 750"
    score = host.check_output("systemd-analyze security --no-pager %s | tail -1", UNIT)
    assert float(score.split(":")[1].split()[0]) <= 2.5, score
    pid = host.check_output("systemctl show -p MainPID --value %s", UNIT)
    rights = host.check_output("grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/%s/status", pid).split()
    assert rights == ["CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1", "Seccomp:", "2"]


def test_run_has_the_limits_of_the_gate(host: Any, run: dict[str, Any]) -> None:
    made = run["HostConfig"]
    assert (made["CapAdd"], made["CapDrop"], made["SecurityOpt"]) == (None, ["ALL"], ["no-new-privileges:true"])
    pages = int(host.check_output("getconf _PHYS_PAGES")) * int(host.check_output("getconf PAGE_SIZE"))
    assert made["Memory"] == pages * 3 // 4
    assert made["PidsLimit"] == 4096


def test_webserver_terminates_a_run_and_the_daemon_asks_for_its_health(dagster: Dagster, host: Any) -> None:
    run_id = dagster.launch("sleep_job", config={"ops": {"sleep_seconds": {"config": {"seconds": 300.0}}}})
    until(lambda: dagster.status(run_id) == "STARTED", 180, "the run has started")
    answer = dagster.query(
        "mutation($id: String!) { terminateRun(runId: $id) { __typename ... on PythonError { message } } }", id=run_id
    )
    assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess", answer
    dagster.wait(run_id, "CANCELED")
    assert host.check_output("docker ps -q --filter label=dagster/run_id=%s", run_id) == ""


def test_lost_run_is_found_by_its_health(dagster: Dagster, host: Any) -> None:
    """The daemon asks the gate for each run in progress, each 60 s: a killed one is a failed one."""
    run_id = dagster.launch("sleep_job", config={"ops": {"sleep_seconds": {"config": {"seconds": 300.0}}}})
    until(lambda: dagster.status(run_id) == "STARTED", 180, "the run has started")
    host.check_output("docker kill $(docker ps -q --filter label=dagster/run_id=%s)", run_id)
    dagster.wait(run_id, "FAILURE", seconds=180)


@pytest.mark.parametrize("role", ROLES)
def test_attacks_over_the_socket(host: Any, run: dict[str, Any], role: str) -> None:
    foreign = host.check_output("docker inspect -f '{{.Id}}' dagster-code-pipeline")
    attacks = gate_clients.attacks(run, foreign)
    assert len(attacks) >= 60
    since, before = host.check_output("date +%s.%N"), gate_clients.holdings(host)
    socket = f"{FOLDER}/{role}.sock"
    answers = dict(zip(attacks, send(host, list(attacks.values()), socket=socket), strict=True))
    assert {name: answer for name, answer in answers.items() if answer[0] != 403} == {}
    assert gate_clients.holdings(host) == before
    count = "journalctl -u %s --since @%s -o cat --no-pager | grep -c '^refused root'"
    until(lambda: int(host.check_output(count, UNIT, since)) == len(attacks), 30, "each refusal has its line")
    # The control: the same container without what is refused is made.
    if role == "launch":
        made(host, socket, body_of(run))


def made(host: Any, socket: str, body: dict[str, Any]) -> None:
    """A container is made of a body, and goes."""
    ((status, text),) = send(host, [request("POST", gate_clients.CREATE, body)], socket=socket)
    assert status == 201, text
    host.check_output("docker rm -f %s", json.loads(text[text.index("{") :])["Id"])


@pytest.mark.parametrize("name", ["privileged", "the host's disk", "a capability", "the network of the host"])
def test_engine_itself_takes_them(host: Any, run: dict[str, Any], name: str) -> None:
    """The control of all attacks: whoever reaches the engine may do it. It asks for this where it remaps users."""
    attack = gate_attacks.creations(body_of(run))[name]
    made(host, ENGINE, gate_attacks.body(attack, host__UsernsMode="host"))


@pytest.mark.parametrize(
    ("attack", "good"),
    [
        (
            {"Mounts": [{**MOUNT, "readonly": False}]},
            {"Mounts": [MOUNT]},
        ),
        ({"Tmpfs": {"/scratch": "remount,rw"}}, {"Tmpfs": {"/scratch": "size=1m"}}),
    ],
    ids=["a mount in other letters", "a mount that is mounted again"],
)
def test_read_only_stays_read_only(
    host: Any, run: dict[str, Any], attack: dict[str, Any], good: dict[str, Any]
) -> None:
    """To the engine the last of two keys counts, and it knows no big letters. Its options of mount(8) change others."""
    body, socket = body_of(run), f"{FOLDER}/launch.sock"

    def asking(more: dict[str, Any]) -> dict[str, Any]:
        return {**body, "HostConfig": {**body["HostConfig"], **more}}

    with planned_mount(host):
        ((status, text),) = send(host, [request("POST", gate_clients.CREATE, asking(attack))], socket=socket)
        assert status == 403, text
        made(host, socket, asking(good))
        made(host, ENGINE, gate_attacks.body(asking(attack), host__UsernsMode="host"))


@contextlib.contextmanager
def planned_mount(host: Any) -> Iterator[None]:
    """The gate knows one mount more, as if the inventory had it in mounts of container_kwargs."""
    runs = "/etc/docker-gate-dagster/runs.json"
    host.check_output("cp -a %s /tmp/runs.json && mkdir -p /srv/planned", runs)
    known = json.loads(host.check_output("cat %s", runs))
    for location in known["locations"]:
        location["mounts"] = [*location["mounts"], MOUNT]
    try:
        # In place: owner and mode stay, and the gate reads what has changed.
        host.check_output("printf %%s %s >%s", json.dumps(known), runs)
        yield
    finally:
        host.check_output("cp -a /tmp/runs.json %s && rm -r /tmp/runs.json /srv/planned", runs)


def test_fuzz_of_the_gate(host: Any, run: dict[str, Any]) -> None:
    """Wrong bytes in a good request: nothing but a container of that image comes of it, and the gate goes on."""
    rng = random.Random(7)  # noqa: S311 - the same each time
    good = request("POST", gate_clients.CREATE, body_of(run))
    requests = []
    for _number in range(200):
        data = bytearray(good)
        for _change in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        requests.append(bytes(data))
    pid = host.check_output("systemctl show -p MainPID --value %s", UNIT)
    every = "docker ps -aq --no-trunc"  # whatever labels they have
    before = set(host.check_output(every).split())
    assert 201 not in {status for status, _text in send(host, requests, socket=f"{FOLDER}/inspect.sock")}
    assert set(host.check_output(every).split()) == before, "who may only inspect makes nothing"
    answers = send(host, requests, socket=f"{FOLDER}/launch.sock")
    for container in set(host.check_output(every).split()) - before:
        found = json.loads(host.check_output("docker inspect %s", container))[0]["HostConfig"]
        assert set(found["Binds"]) <= set(run["HostConfig"]["Binds"])
        assert (found["Privileged"], found["CapDrop"], found["NetworkMode"]) == (False, ["ALL"], "dagster")
        host.check_output("docker rm -f %s", container)
    assert {status for status, _text in answers} <= {0, 201, 400, 403, 404, 500}
    assert host.check_output("systemctl show -p MainPID --value %s", UNIT) == pid


def test_gate_that_restarts_lets_clients_wait(dagster: Dagster, host: Any) -> None:
    ask = "for n in $(seq 40); do python3 -c %s %s; done"
    host.check_output(
        "systemd-run -q sh -c 'sleep 0.5; systemctl restart %s; sleep 0.7; systemctl restart %s'", UNIT, UNIT
    )
    assert set(host.check_output(ask, PING_OF_A_SOCKET, f"{FOLDER}/launch.sock").split()) == {"200"}
    host.check_output("systemctl kill -s KILL %s", UNIT)
    until(lambda: host.run("systemctl is-active %s", UNIT).rc == 0, 30, "systemd has started it again")
    dagster.wait(dagster.launch("orders_report"))


def test_launch_through_the_gate_takes_at_most_50_ms_more(host: Any, run: dict[str, Any]) -> None:
    """What the launcher asks for a run but its start, on each socket in turn; the median counts."""
    program = (
        "import json,sys,time,statistics as s,docker\n"
        "def once(path):\n"
        "    began=time.perf_counter(); c=docker.DockerClient(base_url='unix://'+path)\n"
        "    made=c.api.create_container_from_config(json.load(open('/tmp/body')))\n"
        "    c.api.inspect_container(made['Id'])\n"
        "    took=time.perf_counter()-began; c.api.remove_container(made['Id']); c.close(); return took\n"
        "found={p:[] for p in sys.argv[1:]}\n"
        "for n in range(12):\n"
        "    for p in found: found[p].append(once(p))\n"
        "print(json.dumps([s.median(v) for v in found.values()]))"
    )
    host.check_output("printf %%s %s >/tmp/body", json.dumps(body_of(run)))

    def at_most() -> bool:
        raw, gated = json.loads(host.check_output("python3 -c %s %s %s", program, ENGINE, f"{FOLDER}/launch.sock"))
        print(f"raw {raw * 1000:.1f} ms, through the gate {gated * 1000:.1f} ms")
        return bool(gated - raw <= 0.05)

    # Other work of the machine makes both slower. A gate that is slow by itself is so each time.
    until(at_most, 300, "at most 50 ms more", every=5)


def test_memory_above_that_of_the_host_is_refused_by_preflight(play: Callable[..., Any], host: Any) -> None:
    before = host.check_output("cat /etc/docker-gate-dagster/gate.json")
    done = play("site.yml", "-e", "dagster_gate_memory_mb=99999999", ok=False)
    assert done.rc != 0
    assert "dagster_gate_memory_mb is 99999999 MiB, and the host of the runs has" in done.output
    assert host.check_output("cat /etc/docker-gate-dagster/gate.json") == before
