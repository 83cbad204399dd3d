"""Requests to an engine or its gate, as bytes that no client would send, and what a run's container was made of."""

from __future__ import annotations

import base64
import json
from typing import Any

PING = r"""
import socket, sys
with socket.socket(socket.AF_UNIX) as sock:
    sock.settimeout(20)
    sock.connect(sys.argv[1])
    sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    print(sock.recv(65536).split(b" ")[1].decode())
"""
# Sends whole requests (base64, a line each) to a socket, and shows the status of each answer, 0 for none.
SEND = r"""
import base64, json, socket, sys
found = []
for line in open(sys.argv[2]):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(15)
        sock.connect(sys.argv[1])
        answer = b""
        try:
            sock.sendall(base64.b64decode(line))
            sock.shutdown(socket.SHUT_WR)
            while data := sock.recv(65536):
                answer += data
        except (ConnectionError, TimeoutError):
            pass
    status = answer.split(b" ")[1:2]
    found.append([int(status[0]) if status else 0, answer[-300:].decode("utf-8", "replace")])
print(json.dumps(found))
"""


def send(
    host: Any, socket: str, requests: list[bytes], python: str = "python3", file: str = "/tmp/requests"
) -> list[tuple[int, str]]:
    """Status and end of the answer to each request, sent by root of the host, or by another Python that reads file."""
    lines = "\n".join(base64.b64encode(each).decode() for each in requests)
    host.check_output("rm -f %s", file)
    for start in range(0, len(lines), 60000):
        host.check_output("printf %%s %s >>%s", lines[start : start + 60000], file)
    answer = json.loads(host.check_output(f"timeout 300 {python} -c %s %s %s", SEND, socket, file))
    return [(status, text) for status, text in answer]


def request(method: str, target: str, body: Any = None) -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {target} HTTP/1.1", "Host: docker", "Connection: close", f"Content-Length: {len(data)}"]
    lines += ["Content-Type: application/json"] if data else []
    return "\r\n".join([*lines, "", ""]).encode() + data


def body_of(found: dict[str, Any]) -> dict[str, Any]:
    """What the launcher has asked for, from what the engine shows of a run's container."""
    run_id = "0123abcd-0000-4000-8000-00000000cafe"
    config, host = found["Config"], found["HostConfig"]
    command = [*config["Cmd"][:3], json.dumps({"run_id": run_id})]
    labels = {"dagster/run_id": run_id, "dagster/job_name": "attack", "dataops.dagster.run": ""}
    log = {"Type": "journald", "Config": {"labels": host["LogConfig"]["Config"]["labels"]}}
    kept = {"NetworkMode": host["NetworkMode"], "Binds": host["Binds"], "LogConfig": log, "Init": True}
    return {"Image": config["Image"], "Cmd": command, "User": "0:0", "Labels": labels, "HostConfig": kept}
