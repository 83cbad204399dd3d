"""The Docker gate of six hosts: who reaches it over TLS with which role, and that nothing reaches the engine."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import gate_attacks
import pytest
from deployment import Dagster, Play, until

ROLES = {"ctl1": "launch", "ctl2": "launch", "edge1": "inspect", "edge2": "inspect"}
KEYS = {name: f"/etc/dagster/gate/{role}/key.pem" for name, role in ROLES.items()}
FOLDER, UNIT = "/etc/docker-gate-dagster/tls", "docker-gate-dagster.service"
# Sends whole requests (base64, a line each) with the certificate of a folder ("" for none), and shows the statuses; -1
# where the gate lets nobody in.
SEND = r"""
import base64, json, socket, ssl, sys
address, port, authority, folder, path = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
if folder:
    context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
found = []
for line in open(path):
    answer = b""
    try:
        with socket.create_connection((address, int(port)), 10) as sock:
            sock.settimeout(15)
            with context.wrap_socket(sock, server_hostname=address) as secured:
                secured.sendall(base64.b64decode(line))
                while data := secured.recv(65536):
                    answer += data
    except OSError:
        pass
    status = answer.split(b" ")[1:2]
    found.append(int(status[0]) if status else -1)
print(json.dumps(found))
"""
PING = b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="session")
def gate(connections: dict[str, dict[str, str]]) -> str:
    """The address of the gate."""
    return str(connections["run"]["ansible_host"])


def send(host: Any, gate: str, role: str, requests: list[bytes], folder: str | None = None) -> list[int]:
    """The statuses of some requests with the certificate of a role."""
    own = f"/etc/dagster/gate/{role}"
    host.check_output("rm -f /tmp/requests")
    lines = "\n".join(base64.b64encode(each).decode() for each in requests)
    for start in range(0, len(lines), 60000):
        host.check_output("printf %%s %s >>/tmp/requests", lines[start : start + 60000])
    answer = host.check_output(
        "timeout 400 python3 -c %s %s 2378 %s %s /tmp/requests",
        SEND,
        gate,
        f"{own}/ca.pem",
        own if folder is None else folder,
    )
    found: list[int] = json.loads(answer)
    return found


def written(method: str, target: str, body: Any = None) -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {target} HTTP/1.1", "Host: docker", "Connection: close", f"Content-Length: {len(data)}"]
    lines += ["Content-Type: application/json"] if data else []
    return "\r\n".join([*lines, "", ""]).encode() + data


@pytest.fixture(scope="module")
def attacks(dagster: Dagster, on: Callable[[str], Any]) -> dict[str, bytes]:
    """Each attack as bytes, with the container of a run, and one that is of nobody's."""
    run_id = dagster.launch("orders_report")
    dagster.wait(run_id)
    host = on("run")
    own = host.check_output("docker ps -aq --no-trunc --filter label=dagster/run_id=%s", run_id)
    found = json.loads(host.check_output("docker inspect %s", own))[0]
    number = "0123abcd-0000-4000-8000-00000000cafe"
    made = found["HostConfig"]
    base = {
        "Image": found["Config"]["Image"],
        "Cmd": [*found["Config"]["Cmd"][:3], json.dumps({"run_id": number})],
        "User": "0:0",
        "Labels": {"dagster/run_id": number, "dagster/job_name": "attack", "dataops.dagster.run": ""},
        "HostConfig": {
            "NetworkMode": made["NetworkMode"],
            "Binds": made["Binds"],
            "Init": True,
            "LogConfig": {"Type": "journald", "Config": {"labels": made["LogConfig"]["Config"]["labels"]}},
        },
    }
    foreign = host.check_output("docker create --label of=nobody %s true", found["Config"]["Image"])
    texts = {name: written(*each) for name, each in gate_attacks.requests(base, own, foreign).items()}
    return {"(control)": written("POST", "/v1.41/containers/create", base), **texts, **gate_attacks.texts(base, own)}


@pytest.mark.parametrize("name", ["ctl1", "edge1"])
def test_attacks_over_tls(name: str, gate: str, attacks: dict[str, bytes], on: Callable[[str], Any]) -> None:
    run = on("run")
    before = run.check_output("docker ps -a --no-trunc; docker network ls; docker volume ls; docker images -a")
    those = {title: data for title, data in attacks.items() if title != "(control)"}
    assert len(those) >= 60
    found = dict(zip(those, send(on(name), gate, ROLES[name], list(those.values())), strict=True))
    assert {title: status for title, status in found.items() if status != 403} == {}
    assert run.check_output("docker ps -a --no-trunc; docker network ls; docker volume ls; docker images -a") == before
    (control,) = send(on(name), gate, ROLES[name], [attacks["(control)"]])
    assert control == (201 if name == "ctl1" else 403), "the daemon may launch, a webserver may not"
    run.check_output("docker ps -aq --filter label=dagster/job_name=attack | xargs -r docker rm")


def test_gate_lets_nobody_in_without_its_certificate(gate: str, on: Callable[[str], Any]) -> None:
    edge1 = on("edge1")
    assert send(edge1, gate, "inspect", [PING]) == [200], "the control"
    assert send(edge1, gate, "inspect", [PING], folder="") == [-1]
    made = (
        "mkdir -p /tmp/x; cd /tmp/x; openssl req -x509 -newkey ed25519 -nodes -subj /CN=x -keyout key.pem -out cert.pem"
    )
    assert edge1.run(f"{made} -addext subjectAltName=DNS:launch.docker-gate-dagster").rc == 0
    assert send(edge1, gate, "inspect", [PING], folder="/tmp/x") == [-1]
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


def test_renewal_restarts_nothing(play: Callable[..., Play], dagster: Dagster, on: Callable[[str], Any]) -> None:
    units = {**dict.fromkeys(ROLES, "dagster-*"), "run": "docker* dagster-*"}
    before = {name: on(name).check_output(f"systemctl show -p MainPID {unit}") for name, unit in units.items()}
    ends = f"openssl x509 -noout -serial -in {FOLDER}/cert.pem"
    serial = on("run").check_output(ends)
    run_id = dagster.launch("sleep_job", config={"ops": {"sleep_seconds": {"config": {"seconds": 40.0}}}})
    until(lambda: dagster.status(run_id) == "STARTED", 60, "the run has started")
    assert play("site.yml", "-e", "dagster_docker_tls_renew_days=366").changed > 0
    assert on("run").check_output(ends) != serial
    dagster.wait(run_id)
    after = {name: on(name).check_output(f"systemctl show -p MainPID {unit}") for name, unit in units.items()}
    assert after == before
    dagster.wait(dagster.launch("orders_report"))


def test_lost_authority_is_made_anew(play: Callable[..., Play], dagster: Dagster, on: Callable[[str], Any]) -> None:
    on("run").check_output("rm %s %s", f"{FOLDER}/ca-key.pem", f"{FOLDER}/ca.pem")
    assert play("site.yml").changed > 0
    dagster.wait(dagster.launch("orders_report"))
