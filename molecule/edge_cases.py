"""The edge of a host with replicas of the test behind it: what reaches them, and how often.

A second nginx and a second HAProxy run on the host with the deployed files. Only what would meet the deployment is
replaced: the addresses that they listen on, the folder of HAProxy's sockets, and the replicas. Nothing depends on luck:
a replica of the test reads each request completely, and closes the connection without an answer the first time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

# Runs on the host. Its arguments: a folder of its own, and how many requests of each kind.
PROGRAM = r"""
import http.client, json, os, pathlib, re, socket, subprocess, sys, threading, time

folder, number = pathlib.Path(sys.argv[1]), int(sys.argv[2])
folder.mkdir(mode=0o755)
arrived, lock = {}, threading.Lock()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

def serve(connection, agent):
    with connection:
        connection.settimeout(20)
        if agent:
            connection.sendall(b"ready\n")
            return
        stream = connection.makefile("rb")
        method, path = stream.readline().decode().split()[:2]
        length = 0
        while (line := stream.readline().strip()):
            name, _, value = line.decode().partition(":")
            if name.lower() == "content-length":
                length = int(value)
        body = stream.read(length)
        key = (method + " " + path, body.decode())
        if not path.endswith("/server_info"):
            with lock:
                arrived[key] = arrived.get(key, 0) + 1
                if arrived[key] == 1:
                    return  # read completely and closed without an answer, as a replica that is killed
        connection.sendall(OK)

def listen(agent):
    server = socket.create_server(("127.0.0.1", 0))
    def accept():
        while True:
            connection, _address = server.accept()
            threading.Thread(target=quietly, args=(connection,), daemon=True).start()
    def quietly(connection):
        try:
            serve(connection, agent)
        except (OSError, ValueError, IndexError):
            pass
    threading.Thread(target=accept, daemon=True).start()
    return server.getsockname()[1]

def replaced(text, pattern, by):
    text, count = re.subn(pattern, by, text, flags=re.MULTILINE)
    if not count:
        sys.exit(f"nothing in the deployed file is like {pattern}")
    return text

haproxy = pathlib.Path("/etc/haproxy-dagster.cfg").read_text()
prefix = re.search(r"option httpchk GET (\S*)/server_info", haproxy).group(1)
haproxy = replaced(haproxy, r"/run/haproxy-dagster/", f"{folder}/")
haproxy = replaced(
    haproxy,
    r"^(\s+server \S+) \S+(.*) agent-addr \S+ agent-port \d+",
    lambda found: f"{found[1]} 127.0.0.1:{listen(False)}{found[2]} agent-addr 127.0.0.1 agent-port {listen(True)}",
)
(folder / "haproxy.cfg").write_text(haproxy)

with socket.socket() as one:
    one.bind(("127.0.0.1", 0))
    port = one.getsockname()[1]
nginx = pathlib.Path("/etc/nginx/conf.d/dagster.conf").read_text()
nginx = replaced(nginx, r"/run/haproxy-dagster/", f"{folder}/")
nginx = nginx.split("upstream dagster_read_only")[0]  # the second entry is made as the first one is
nginx = replaced(nginx, r"(^\s+listen [^;]+;\n)+", f"    listen 127.0.0.1:{port};\n")
(folder / "dagster.conf").write_text(nginx)
(folder / "nginx.conf").write_text(
    f"user www-data;\npid {folder}/nginx.pid;\nerror_log stderr;\nevents {{}}\n"
    f"http {{ access_log off; include {folder}/dagster.conf; }}\n"
)

log = (folder / "log").open("w")
programs = [
    subprocess.Popen(argv, stdout=log, stderr=log)
    for argv in (
        ["haproxy", "-db", "-f", f"{folder}/haproxy.cfg"],
        ["nginx", "-c", f"{folder}/nginx.conf", "-g", "daemon off;"],
    )
]

def ask(method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, prefix + path, body)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()

answers = []
try:
    end = time.monotonic() + 30
    while ask("GET", "/server_info") != 200:
        if time.monotonic() > end or any(program.poll() is not None for program in programs):
            sys.exit("the second edge does not serve: " + (folder / "log").read_text())
        time.sleep(0.1)
    for method in ("GET", "POST"):
        for count in range(number):
            path, body = f"/graphql?n={count}", f"launch {count}" if method == "POST" else ""
            status = ask(method, path, body or None)
            answers.append({"method": method, "status": status, "key": [f"{method} {prefix}{path}", body]})
    time.sleep(1)  # for a second try that comes after the answer
finally:
    for program in programs:
        program.terminate()
        try:
            program.wait(10)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()
with lock:
    for answer in answers:
        answer["arrived"] = arrived.get(tuple(answer.pop("key")), 0)
    print(json.dumps({"answers": answers, "arrived": sum(arrived.values())}))
"""


@dataclass(frozen=True)
class Answer:
    """One request: what its client got, and how often it reached a replica."""

    method: str
    status: int
    arrived: int


def replicas_that_close_without_an_answer(host: Any, number: int = 8) -> list[Answer]:
    """Sends so many GETs and so many POSTs through the host's own edge, each one once."""
    folder = host.check_output("mktemp -d -u /run/edge-case-XXXXXX")
    try:
        found = json.loads(host.check_output("timeout 180 python3 -c %s %s %s", PROGRAM, folder, str(number)))
    finally:
        host.check_output("rm -rf %s", folder)
    answers = [Answer(**answer) for answer in found["answers"]]
    assert found["arrived"] == sum(answer.arrived for answer in answers), "a request reached a replica as another one"
    return answers
