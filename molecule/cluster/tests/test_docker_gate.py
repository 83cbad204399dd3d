"""The Docker gate of six hosts: who reaches it over TLS with which role, and that nothing reaches the engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gate_clients
import pytest
import sandbox
import ways
from deployment import Dagster, Play, until
from gate_clients import PING, UNIT, body_of, request

ROLES = {"ctl1": "launch", "ctl2": "launch", "edge1": "inspect", "edge2": "inspect"}
KEYS = {name: f"/etc/dagster/gate/{role}/key.pem" for name, role in ROLES.items()}
FOLDER = "/etc/docker-gate-dagster/tls"


@pytest.fixture(scope="session")
def gate(connections: dict[str, dict[str, str]]) -> str:
    """The address of the gate."""
    return str(connections["run"]["ansible_host"])


def send(host: Any, gate: str, role: str, requests: list[bytes], folder: str | None = None) -> list[int]:
    """The statuses of some requests with the certificate of a role."""
    own = f"/etc/dagster/gate/{role}"
    way: dict[str, Any] = {
        "address": gate,
        "port": 2378,
        "authority": f"{own}/ca.pem",
        "folder": own if folder is None else folder,
    }
    return [status for status, _text in gate_clients.send(host, requests, **way)]


@pytest.fixture
def run(dagster: Dagster, on: Callable[[str], Any]) -> dict[str, Any]:
    """The container of a run that has ended."""
    return gate_clients.container_of_a_run(on("run"), dagster)


@pytest.mark.parametrize("name", ["ctl1", "edge1"])
def test_attacks_over_tls(name: str, gate: str, run: dict[str, Any], on: Callable[[str], Any]) -> None:
    engine = on("run")
    foreign = engine.check_output("docker create --label of=nobody %s true", run["Config"]["Image"])
    try:
        before, attacks = gate_clients.holdings(engine), gate_clients.attacks(run, foreign)
        assert len(attacks) >= 60
        found = dict(zip(attacks, send(on(name), gate, ROLES[name], list(attacks.values())), strict=True))
        assert {title: status for title, status in found.items() if status != 403} == {}
        assert gate_clients.holdings(engine) == before
    finally:
        engine.check_output("docker rm %s", foreign)
    (control,) = send(on(name), gate, ROLES[name], [request("POST", gate_clients.CREATE, body_of(run))])
    assert control == (201 if name == "ctl1" else 403), "the daemon may launch, a webserver may not"
    engine.check_output("docker ps -aq --filter label=dagster/job_name=attack | xargs -r docker rm")


def test_gate_lets_nobody_in_without_its_certificate(gate: str, on: Callable[[str], Any]) -> None:
    edge1 = on("edge1")
    assert send(edge1, gate, "inspect", [PING]) == [200], "the control"
    assert send(edge1, gate, "inspect", [PING], folder="") == [0]
    made = (
        "mkdir -p /tmp/x; cd /tmp/x; openssl req -x509 -newkey ed25519 -nodes -subj /CN=x -keyout key.pem -out cert.pem"
    )
    assert edge1.run(f"{made} -addext subjectAltName=DNS:launch.docker-gate-dagster").rc == 0
    assert send(edge1, gate, "inspect", [PING], folder="/tmp/x") == [0]
    assert on("run").check_output("journalctl -u %s -o cat --no-pager | grep -c '^refused '", UNIT) != "0"


def test_engine_listens_on_its_socket_alone(gate: str, on: Callable[[str], Any]) -> None:
    run = on("run")
    assert run.check_output("ss -Hltnp | grep -c dockerd || true") == "0"
    assert not run.file("/etc/systemd/system/docker.service.d/10-dagster-tls.conf").exists
    assert not run.file("/etc/docker/tls").exists
    assert run.check_output("ss -Hltn 'sport = 2378'").split()[3] == f"{gate}:2378"
    for name in ("ctl1", "ctl2", "edge1"):
        assert on(name).check_output("ss -Hltn 'sport = 2376 or sport = 2378'") == ""
        assert not on(name).file("/etc/dagster/docker").exists


def test_keys_stay_where_they_were_made(on: Callable[[str], Any]) -> None:
    digests = {on(name).check_output("sha256sum %s", key).split()[0] for name, key in KEYS.items()}
    assert len(digests) == len(KEYS)
    for name, key in KEYS.items():
        assert on(name).check_output("stat -c '%%U:%%G %%a' %s", key) == f"root:dagster_{ROLES[name]} 440"
        assert on(name).run("setpriv --reuid dagster --regid dagster --clear-groups cat %s", key).rc != 0
    names = sorted(on("run").check_output("ls %s", FOLDER).split())
    assert names == ["ca-key.pem", "ca.pem", "cert.pem", "key.pem"]


def test_services_are_not_in_the_group_of_an_engine(on: Callable[[str], Any]) -> None:
    for name, unit in (("edge1", "dagster-webserver@3000"), ("ctl1", "dagster-daemon")):
        groups = on(name).check_output("systemctl show -p SupplementaryGroups --value %s", unit)
        assert groups == f"dagster_{ROLES[name]}"


@pytest.mark.parametrize(
    ("name", "unit", "most"),
    [("run", UNIT, 2.5), ("ctl1", "dagster-daemon.service", 2.0), ("edge1", "dagster-webserver@3000.service", 2.0)],
)
def test_exposure_with_a_network(on: Callable[[str], Any], name: str, unit: str, most: float) -> None:
    """Each of them talks to other hosts here."""
    assert sandbox.exposure(on(name), unit) <= most


# What root in the container of a run looks for.
INSIDE = r"""
import glob, json, os
def can(attempt):
    try:
        attempt()
        return True
    except OSError:
        return False
def device():
    os.mknod("/tmp/a-disk", 0o60600, os.makedev(1, 0))
    os.unlink("/tmp/a-disk")
found = {
    "socket of the engine": bool(glob.glob("/run/docker.sock") + glob.glob("/var/run/docker.sock")),
    "socket of the gate": bool(glob.glob("/run/docker-gate*")),
    "secrets of all locations": can(lambda: os.listdir("/etc/dagster/secrets")),
    "processes of the host": any("dockerd" in open(path).read() for path in glob.glob("/proc/[0-9]*/comm")),
    "make a device": can(device),
    "own secret": can(lambda: open("/run/secrets/aws").close()),
}
print(json.dumps(found))
"""


def test_root_of_a_run_finds_its_own_secrets_alone(
    dagster: Dagster, gate: str, connections: dict[str, dict[str, str]], on: Callable[[str], Any]
) -> None:
    """In the container of a real run, by its root. The control is a container without our boundaries."""
    engine = on("run")
    others = [str(connections[name]["ansible_host"]) for name in ("ctl1", "ctl2")]
    pairs = [(gate, 2378), (gate, 22), *((address, 4000) for address in others)]
    run_id = dagster.launch("sleep_job", config={"ops": {"sleep_seconds": {"config": {"seconds": 45.0}}}})
    until(lambda: dagster.status(run_id) == "STARTED", 180, "the run has started")
    container = engine.check_output("docker ps -q --filter label=dagster/run_id=%s", run_id)
    inside = f"docker exec -u 0 {container} python"
    found = json.loads(engine.check_output(f"{inside} -c %s", INSIDE))
    assert [name for name, right in found.items() if right] == ["own secret"]
    assert ways.reached(engine, pairs, inside) == dict.fromkeys(pairs, False)
    image = engine.check_output("docker inspect -f '{{.Config.Image}}' %s", container)
    open_wide = (
        "docker run --rm --userns host --pid host --network host -v /run:/run -v /etc/dagster:/etc/dagster"
        f" -v /etc/dagster/secrets/pipeline:/run/secrets {image} python"
    )
    control = json.loads(engine.check_output(f"{open_wide} -c %s", INSIDE))
    assert [name for name, right in control.items() if not right] == []
    # The other hosts refuse this host as a whole, which the matrix of test_firewall.py shows.
    assert ways.reached(engine, pairs, open_wide) == {pair: pair[1] != 4000 for pair in pairs}
    dagster.wait(run_id)


def test_renewal_restarts_nothing(play: Callable[..., Play], dagster: Dagster, on: Callable[[str], Any]) -> None:
    units = {**dict.fromkeys(ROLES, "dagster-*"), "run": "docker* dagster-*"}
    before = {name: on(name).check_output(f"systemctl show -p MainPID {unit}") for name, unit in units.items()}
    ends = f"openssl x509 -noout -serial -in {FOLDER}/cert.pem"
    serial = on("run").check_output(ends)
    run_id = dagster.launch("sleep_job", config={"ops": {"sleep_seconds": {"config": {"seconds": 40.0}}}})
    until(lambda: dagster.status(run_id) == "STARTED", 180, "the run has started")
    assert play("site.yml", "-e", "dagster_docker_tls_renew_days=366").changed > 0
    assert on("run").check_output(ends) != serial
    dagster.wait(run_id)
    after = {name: on(name).check_output(f"systemctl show -p MainPID {unit}") for name, unit in units.items()}
    assert after == before
    dagster.wait(dagster.launch("orders_report"))


@pytest.mark.long  # the renewal above goes the same way with the authority that is there
def test_lost_authority_is_made_anew(play: Callable[..., Play], dagster: Dagster, on: Callable[[str], Any]) -> None:
    on("run").check_output("rm %s %s", f"{FOLDER}/ca-key.pem", f"{FOLDER}/ca.pem")
    assert play("site.yml").changed > 0
    dagster.wait(dagster.launch("orders_report"))
