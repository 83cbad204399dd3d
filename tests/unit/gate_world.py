"""A Docker gate before an engine that only writes down what it is asked, for the tests of the gate."""

from __future__ import annotations

import base64
import grp
import hashlib
import http.server
import json
import os
import pwd
import re
import socket
import socketserver
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gate as program
import gate_policy
import gate_requests
import gate_settings
from gate_container import NETWORKS as JOINS
from gate_container import STEP, STEPS

ROOT = Path(__file__).resolve().parents[2]
RUN = "0123abcd-0000-4000-8000-00000000cafe"
ANOTHER = "0123abcd-0000-4000-8000-00000000beef"  # a run of the same location
OWN, FOREIGN, CODE = "a" * 64, "b" * 64, "c" * 64  # containers: of a run, of somebody else, of a code server
# A run that starts steps, one of its steps, and a step of another run.
DELEGATING, OWN_STEP, OTHER_STEP = "d" * 64, "e" * 64, "f" * 64
NETWORKS = {"dagster": "1" * 64, "lake": "2" * 64, "bridge": "3" * 64}
LABELS = {"dagster/run_id": RUN, "dagster/job_name": "nightly", "dataops.dagster.run": ""}
LOG = {"Type": "journald", "Config": {"labels": "dagster/run_id"}}
LOCATION: dict[str, Any] = {
    "images": ["dagster-code/etl:0123456789abcdef"],
    "networks": ["dagster", "lake"],
    "binds": ["/var/lib/dagster:/var/lib/dagster", "/etc/dagster/containers:/run/dagster:ro"],
    "mounts": [{"Type": "bind", "Source": "/srv/lake", "Target": "/lake", "ReadOnly": True}],
    "devices": [{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rwm"}],
    "capabilities": ["NET_RAW"],
    "security_opt": [],
    "labels": {"team": "data"},
    "exactly": {"LogConfig": LOG, "User": "0:0"},
}
OTHER: dict[str, Any] = {
    **LOCATION,
    "images": ["registry.example.com:5000/team/reports@sha256:" + "0" * 64],
    "networks": ["dagster"],
    "binds": [*LOCATION["binds"], "/etc/dagster/secrets/reports:/run/secrets:ro"],
    "mounts": [],
    "devices": [],
    "capabilities": [],
}
# A location whose runs may start steps. Its socket is put in by the world.
BIND = "/run/docker-gate-dagster/steps/mapped:/run/docker-gate:ro"
DELEGATES: dict[str, Any] = {
    **LOCATION,
    "name": "mapped",
    "images": ["dagster-code/mapped:0123456789abcdef"],
    "binds": [*LOCATION["binds"], BIND],
    "steps": BIND,
}
# What the gate writes on its runs.
LIMITS = {"Memory": 1 << 30, "PidsLimit": 4096, "SecurityOpt": ["no-new-privileges:true"]}
ALLOWED = {**DELEGATES, "binds": LOCATION["binds"], "limits": LIMITS}
CONTAINERS = {
    OWN: {**LABELS, JOINS: json.dumps(LOCATION["networks"])},
    FOREIGN: {"dagster/run_id": RUN} | {"com.example": "x"},
    CODE: {"dataops.dagster.location": "etl"},
    DELEGATING: {**LABELS, STEPS: json.dumps(ALLOWED)},
    OWN_STEP: {**LABELS, STEP: "load", STEPS: "", JOINS: json.dumps(LOCATION["networks"])},
    OTHER_STEP: {**LABELS, "dagster/run_id": ANOTHER, STEP: "load", STEPS: ""},
}
SETTINGS: dict[str, Any] = {
    "container_root": os.getuid(),
    "label": "dataops.dagster.run",
    "memory_mb": 1024,
    "pids": 4096,
    "names": {"launch": "launch.docker-gate-dagster", "inspect": "inspect.docker-gate-dagster"},
    "certificates": {},
    "listen": {},
    "users": ["root"],
}


def run_body(**host: Any) -> dict[str, Any]:
    """What DockerRunLauncher asks for (docker 7.1), with further settings of the host."""
    return {
        **dict.fromkeys(("Domainname", "ExposedPorts", "WorkingDir", "MacAddress", "Entrypoint", "StopSignal")),
        **dict.fromkeys(("Healthcheck", "StopTimeout", "Runtime", "Hostname")),
        **dict.fromkeys(("Tty", "OpenStdin", "StdinOnce", "AttachStdin", "AttachStdout", "AttachStderr"), False),
        "NetworkDisabled": False,
        "User": "0:0",
        "Env": ["DAGSTER_POSTGRES_USER=dagster_run", "DAGSTER_RUN_JOB_NAME=nightly"],
        "Cmd": ["dagster", "api", "execute_run", json.dumps({"run_id": RUN})],
        "Image": LOCATION["images"][0],
        "Volumes": {"/var/lib/dagster": {}, "/run/dagster": {}},
        "HostConfig": {
            "NetworkMode": "dagster",
            "Binds": LOCATION["binds"],
            "LogConfig": LOG,
            "Init": True,
            **host,
        },
        "NetworkingConfig": {"dagster": None},
        "Labels": dict(LABELS),
    }


def delegating_body(**host: Any) -> dict[str, Any]:
    """What DockerRunLauncher asks for a run of the location whose runs start steps."""
    body = run_body(**{"Binds": DELEGATES["binds"], **host})
    env = [*body["Env"], "DOCKER_HOST=unix:///run/docker-gate/docker.sock"]
    volumes: dict[str, Any] = {each.split(":")[1]: {} for each in body["HostConfig"]["Binds"]}
    return {**body, "Image": DELEGATES["images"][0], "Env": env, "Volumes": volumes}


def step_command(run: str = RUN, *keys: str, **more: Any) -> list[str]:
    """The command of a step, as docker_executor writes it."""
    told = {"__class__": "ExecuteStepArgs", "pipeline_run_id": run, "step_keys_to_execute": list(keys or ("load",))}
    packed = zlib.compress(json.dumps({**told, **more}).encode())
    return ["dagster", "api", "execute_step", "--compressed-input-json", base64.b64encode(packed).decode()]


def step_name(run: str = RUN, key: str = "load") -> str:
    """The name that docker_executor gives."""
    return f"dagster-step-{hashlib.sha1(f'{run}{key}'.encode(), usedforsecurity=False).hexdigest()}"


def step_body(**host: Any) -> dict[str, Any]:
    """What docker_executor asks for: all that its run has."""
    body = delegating_body(**host)
    env = [*body["Env"], "DAGSTER_RUN_STEP_KEY=load"]
    return {**body, "Cmd": step_command(), "Env": env, "Labels": {"dataops.dagster.run": ""}}


def here(value: Any, bind: str) -> Any:
    """The same with the socket of steps where the test has it."""
    return json.loads(json.dumps(value).replace(BIND, bind))


class Engine(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers like an engine and remembers each request, but for the gate's own looks at containers and networks."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Answers)
        self.asked: list[tuple[str, str, bytes]] = []
        self.images: set[str] = set()
        self.listed: list[dict[str, Any]] = []
        self.ended: set[str] = set()  # containers that have
        self.bind = BIND
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def changes(self) -> list[tuple[str, str, bytes]]:
        """What it was asked but looks."""
        return [each for each in self.asked if each[0] != "GET"]


class Answers(http.server.BaseHTTPRequestHandler):
    """What the engine says."""

    protocol_version = "HTTP/1.1"
    server: Engine

    def address_string(self) -> str:
        return "gate"

    def log_message(self, *_arguments: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path, body))
        path = re.sub(r"^/v1\.\d+", "", self.path.partition("?")[0])
        match = re.fullmatch(r"/(containers|networks)/([^/]+)(/json)?", path)
        if path == "/_ping":
            self.say(200, b"OK")
        elif path == "/containers/json":
            self.say(200, self.server.listed)
        elif match and self.command == "GET":
            self.say(*self.found(match[1], match[2]))
        elif path == "/containers/create":
            self.say(201, {"Id": OWN, "Warnings": []})
        elif self.command == "GET":
            self.say(200, {"ApiVersion": "1.41", "Version": "20.10", "ServerVersion": "20.10", "Id": "x", "Secret": 1})
        else:
            self.say(204)

    do_POST = do_DELETE = do_HEAD = do_PUT = do_post = do_GET

    def found(self, kind: str, name: str) -> tuple[int, Any]:
        """A container or network by ID or name."""
        if kind == "networks":
            full = {**NETWORKS, **{number: number for number in NETWORKS.values()}}.get(name)
            named = next((key for key, number in NETWORKS.items() if number == full), "")
            return (200, {"Id": full, "Name": named, "IPAM": {}}) if full else (404, {"message": "no such network"})
        name = {step_name(): OWN_STEP, step_name(ANOTHER): OTHER_STEP}.get(name, name)
        full = next((number for number in CONTAINERS if number.startswith(name)), "")
        if not full:
            return 404, {"message": "no"}
        state = {"Running": full not in self.server.ended}
        return 200, {"Id": full, "Config": {"Labels": here(CONTAINERS[full], self.server.bind)}, "State": state}

    def say(self, status: int, body: Any = None) -> None:
        """An answer."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if data:
            self.wfile.write(data)


class Heard(program.Gate):
    """A gate that keeps its lines of the journal."""

    def __init__(self, settings: gate_settings.Settings) -> None:
        self.said: list[str] = []
        super().__init__(settings)

    def say(self, level: int, text: str) -> None:  # noqa: ARG002
        self.said.append(text)


class World:
    """An engine and its gate."""

    def __init__(self, folder: Path, engine: Callable[[Path], Any] | None = None, **settings: Any) -> None:
        self.folder = folder
        self.engine = (engine or Engine)(folder / "engine.sock")
        self.engine.bind = self.bind = f"{folder}/s/mapped:/run/docker-gate:ro"
        self.write_runs([LOCATION, OTHER, DELEGATES])
        group, user = grp.getgrgid(os.getgid()).gr_name, pwd.getpwuid(os.getuid()).pw_name
        given = {
            **SETTINGS,
            "engine": str(folder / "engine.sock"),
            "runs": str(folder / "runs.json"),
            "sockets": {role: {"path": str(folder / f"{role}.sock"), "group": group} for role in gate_policy.ROLES},
            "users": [user],
            **settings,
        }
        (folder / "gate.json").write_text(json.dumps(given), encoding="utf-8")
        self.gate = Heard(gate_settings.Settings(str(folder / "gate.json")))
        self.said = self.gate.said
        self.gate.proc = str(folder / "proc")
        self.is_in(DELEGATING)
        self.gate.listen()
        self.thread = threading.Thread(target=self.gate.run, daemon=True)
        self.thread.start()

    def write_runs(self, locations: list[dict[str, Any]], before: list[dict[str, Any]] | None = None) -> None:
        """What the plan says of runs."""
        text = json.dumps(here({"locations": locations, "before": before or []}, self.bind))
        path = self.folder / "runs.json"
        new = path.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        new.rename(path)

    def is_in(self, container: str, line: str = "0::/system.slice/docker-{}.scope\n") -> None:
        """This process is in a container from now on."""
        path = self.folder / "proc" / str(os.getpid()) / "cgroup"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line.format(container), encoding="utf-8")

    def door(self, role: str) -> Path:
        """Where a role asks."""
        return self.folder / ("s/mapped/docker.sock" if role == "steps" else f"{role}.sock")

    def connect(self, role: str) -> socket.socket:
        """A connection in a role."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(10)
        sock.connect(str(self.door(role)))
        return sock

    def send(self, role: str, data: bytes) -> bytes:
        """The answer to some bytes, all of it."""
        with self.connect(role) as sock:
            return exchanged(sock, data)

    def send_without(self, data: bytes) -> bytes:
        """The answer of the engine itself, when nobody refuses them."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(10)
            sock.connect(str(self.folder / "engine.sock"))
            return exchanged(sock, data)

    def ask(self, role: str, method: str, target: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and body of the answer to a request."""
        answer = self.send(role, request(method, target, body, **headers))
        head, _empty, found = answer.partition(b"\r\n\r\n")
        try:
            told = json.loads(found) if found else None
        except ValueError:
            told = found
        return int(head.split()[1]) if head else 0, told

    def wait_for_a_line(self) -> None:
        """A connection that is not let in ends before the journal has its line."""
        end = time.monotonic() + 10
        while not self.said and time.monotonic() < end:
            time.sleep(0.02)

    def end(self) -> None:
        """Ends both."""
        self.gate.ending.set()
        self.thread.join(10)
        self.engine.shutdown()
        self.engine.server_close()


def exchanged(sock: socket.socket, data: bytes) -> bytes:
    """The answer to some bytes, all of it."""
    try:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
    except (BrokenPipeError, ConnectionResetError):
        pass
    return everything(sock)


def everything(sock: socket.socket) -> bytes:
    """What is read until the other side closes."""
    found = b""
    try:
        while data := sock.recv(65536):
            found += data
    except ConnectionResetError:
        pass
    return found


def request(method: str, target: str, body: Any = None, **headers: str) -> bytes:
    """A request as docker-py writes it; a body may be ready bytes."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close"]
    if data:
        lines.append("Content-Type: application/json")
    if data or method == "POST":
        lines.append(f"Content-Length: {len(data)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


LARGEST = gate_requests.LARGEST_BODY
