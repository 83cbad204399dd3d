"""Clients of the Docker gate on a host: whole requests are sent as they are, and the attacks on a run's container."""

from __future__ import annotations

import base64
import json
from typing import Any

import gate_attacks
from deployment import Dagster, no_run_goes, until

UNIT = "docker-gate-dagster.service"
CREATE = f"{gate_attacks.API}/containers/create"
# Sends whole requests (base64, a line each) to a socket, or to an address and port with the certificate of a folder
# ("" for none), and shows status and end of each answer; 0 where there was none.
PROGRAM = r"""
import base64, json, socket, ssl, sys
way = json.loads(sys.argv[1])
def connected():
    if "socket" in way:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(15)
        sock.connect(way["socket"])
        return sock
    context = ssl.create_default_context(cafile=way["authority"])
    if way["folder"]:
        context.load_cert_chain(way["folder"] + "/cert.pem", way["folder"] + "/key.pem")
    sock = socket.create_connection((way["address"], way["port"]), 15)
    return context.wrap_socket(sock, server_hostname=way["address"])
found = []
for line in open(sys.argv[2]):
    answer = b""
    try:
        with connected() as sock:
            sock.sendall(base64.b64decode(line))
            if "socket" in way:
                sock.shutdown(socket.SHUT_WR)
            while data := sock.recv(65536):
                answer += data
    except OSError:
        pass
    status = answer.split(b" ")[1:2]
    found.append([int(status[0]) if status else 0, answer[-300:].decode("utf-8", "replace")])
print(json.dumps(found))
"""
# Shows the status of the answer at a socket.
PING_OF_A_SOCKET = r"""
import socket, sys
with socket.socket(socket.AF_UNIX) as sock:
    sock.settimeout(20)
    sock.connect(sys.argv[1])
    sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    print(sock.recv(65536).split(b" ")[1].decode())
"""
PING = b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def send(
    host: Any, requests: list[bytes], python: str = "python3", file: str = "/tmp/requests", **way: Any
) -> list[tuple[int, str]]:
    """Status and end of the answer to each request; way is what PROGRAM takes.

    They are sent by root of the host, or by another Python that reads file.
    """
    lines = "\n".join(base64.b64encode(each).decode() for each in requests)
    host.check_output("rm -f %s", file)
    for start in range(0, len(lines), 60000):
        host.check_output("printf %%s %s >>%s", lines[start : start + 60000], file)
    answer = json.loads(host.check_output(f"timeout 400 {python} -c %s %s %s", PROGRAM, json.dumps(way), file))
    return [(int(status), str(text)) for status, text in answer]


def request(method: str, target: str, body: Any = None) -> bytes:
    """A request as a client writes it."""
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {target} HTTP/1.1", "Host: docker", "Connection: close", f"Content-Length: {len(data)}"]
    lines += ["Content-Type: application/json"] if data else []
    return "\r\n".join([*lines, "", ""]).encode() + data


def container_of_a_run(host: Any, dagster: Dagster) -> dict[str, Any]:
    """What the engine of a host shows of the container of a run that has ended. There is one, or a run is launched."""
    ended = "docker ps -aq --filter status=exited --filter label=dagster/job_name=orders_report"
    if not (containers := host.check_output(ended).split()):
        dagster.wait(dagster.launch("orders_report"))
        until(lambda: host.check_output(ended) != "", 30, "the container of the run has ended")
        containers = host.check_output(ended).split()
    no_run_goes(host)
    found: dict[str, Any] = json.loads(host.check_output("docker inspect %s", containers[0]))[0]
    return found


def body_of(found: dict[str, Any]) -> dict[str, Any]:
    """What the launcher has asked for, for a run of another number, from what the engine shows of its container."""
    run_id = "0123abcd-0000-4000-8000-00000000cafe"
    config, host = found["Config"], found["HostConfig"]
    command = [*config["Cmd"][:3], json.dumps({"run_id": run_id})]
    labels = {"dagster/run_id": run_id, "dagster/job_name": "attack", "dataops.dagster.run": ""}
    log = {"Type": "journald", "Config": {"labels": host["LogConfig"]["Config"]["labels"]}}
    kept = {"NetworkMode": host["NetworkMode"], "Binds": host["Binds"], "LogConfig": log, "Init": True}
    return {"Image": config["Image"], "Cmd": command, "User": "0:0", "Labels": labels, "HostConfig": kept}


def attacks(run: dict[str, Any], foreign: str) -> dict[str, bytes]:
    """Each attack as bytes, by its name: on the container of a run, and on a foreign one."""
    base, own = body_of(run), run["Id"]
    plain = {name: request(*each) for name, each in gate_attacks.requests(base, own, foreign).items()}
    return {**plain, **gate_attacks.texts(base, own)}


def holdings(host: Any) -> str:
    """All that an engine has, to compare."""
    containers = "docker ps -a --no-trunc --format '{{.ID}} {{.Names}} {{.State}}'"
    everything = f"{containers}; docker network ls -q; docker volume ls -q; docker images -aq"
    found: str = host.check_output(f"({everything}) | sort")
    return found
