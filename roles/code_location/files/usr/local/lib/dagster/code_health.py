"""code_health SOCKET PREFIX NETWORK PORT START: restarts code servers that hang.

Docker restarts a container whose process has ended, and none whose process hangs. This asks each code server of the
host for its gRPC health, from outside: a health command in the container would start a Python there each time, which
costs more than a CPU second. A code server is a running container of the engine at SOCKET whose name begins with PREFIX
and that has our label. It serves at PORT of its address in NETWORK. Code has START seconds until its first answer.
"""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import socket
import struct
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

LABEL = "dataops.dagster.config"  # of code servers, and of nothing else
PERIOD = 30.0  # seconds between two questions
FAILURES = 3  # in a row, after which a code server is restarted
TIMEOUT = 10.0  # seconds that an answer may take
OURS = "unless-stopped"  # how a container is restarted that a play is done with; while it replaces one, both differ

# The part of HTTP/2 that one question needs (RFC 9113): each frame has a length, a type, flags and a stream.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, ACK, END_HEADERS = 1, 1, 4
STREAM = 1
LARGEST_FRAME = 16384
# In HPACK: :method POST and :scheme http by their numbers, names of the static table with a text, `te` by its name.
PATH, SERVICE = b"/grpc.health.v1.Health/Check", b"DagsterApi"
HEAD = (
    b"\x83\x86"
    + (b"\x04" + bytes([len(PATH)]) + PATH)
    + (b"\x01" + bytes([len(SERVICE)]) + SERVICE)
    + (b"\x0f\x10" + bytes([16]) + b"application/grpc")
    + (b"\x00\x02te" + bytes([8]) + b"trailers")
)
# grpc.health.v1: a request for a service, and the answer that it serves; each after one byte for "not compressed".
QUESTION = b"\x00" + struct.pack(">I", len(SERVICE) + 2) + b"\x0a" + bytes([len(SERVICE)]) + SERVICE
SERVING = b"\x00" + struct.pack(">I", 2) + b"\x08\x01"


class Unhealthy(Exception):
    """A code server that does not say that it serves, and how."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def received(sock: socket.socket, length: int, end: float) -> bytes:
    """So many bytes, or fewer if the connection ends before; whoever sends one from time to time has until end too."""
    found = b""
    while len(found) < length:
        if (left := end - time.monotonic()) <= 0:
            raise TimeoutError
        sock.settimeout(left)
        if not (part := sock.recv(length - len(found))):
            break
        found += part
    return found


def frames(sock: socket.socket, end: float) -> Iterator[tuple[int, int, int, bytes]]:
    """Type, flags, stream and content of each frame that comes."""
    while len(head := received(sock, 9, end)) == 9:
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        length = int.from_bytes(head[:3], "big")
        if length > LARGEST_FRAME:
            raise Unhealthy("it does not speak HTTP/2")
        yield kind, flags, stream & 0x7FFFFFFF, received(sock, length, end)


def ask(address: str, port: int, timeout: float = TIMEOUT) -> None:
    """Returns when the code server says that it serves; raises Unhealthy."""
    answer, end = b"", time.monotonic() + timeout
    try:
        with socket.create_connection((address, port), timeout) as sock:
            sock.sendall(PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, STREAM, HEAD))
            sock.sendall(frame(DATA, END_STREAM, STREAM, QUESTION))
            for kind, flags, stream, content in frames(sock, end):
                if kind in (SETTINGS, PING) and not flags & ACK:
                    sock.sendall(frame(kind, ACK, 0, content if kind == PING else b""))
                elif kind in (RST_STREAM, GOAWAY):
                    raise Unhealthy("it has refused the question")
                elif stream == STREAM and kind == DATA:
                    answer += content
                if (stream == STREAM and kind in (DATA, HEADERS) and flags & END_STREAM) or len(answer) > LARGEST_FRAME:
                    break
    except TimeoutError:
        raise Unhealthy(f"no answer within {timeout:g} s") from None
    except OSError as error:
        raise Unhealthy(error.strerror or str(error)) from None
    if answer != SERVING:
        raise Unhealthy("it says that it does not serve" if answer else "it has ended the connection without an answer")


class Engine(http.client.HTTPConnection):
    """A connection to the engine's socket."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("docker", timeout=seconds)
        self.path = path

    def connect(self) -> None:
        """Raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def engine(path: str, method: str, target: str, seconds: float = 20.0) -> Any:
    """What the engine answers. Raises OSError, http.client.HTTPException and ValueError."""
    with contextlib.closing(Engine(path, seconds)) as connection:
        connection.request(method, target)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 400:
            raise OSError(f"the engine answers {answer.status} to {method} {target}: {text[:200]!r}")
        return json.loads(text) if text else None


class Watch:
    """What is known of one container."""

    def __init__(self) -> None:
        self.answered = 0.0  # when it has answered last, in seconds since 1970
        self.failures = 0
        self.asked = threading.Lock()  # held by the one question at a time


class Watcher:
    """Asks all code servers of a host, and restarts those that hang."""

    def __init__(self, socket_path: str, prefix: str, network: str, port: int, start: float) -> None:
        self.socket_path = socket_path
        self.prefix = prefix
        self.network = network
        self.port = port
        self.start = start
        self.known: dict[str, Watch] = {}

    def servers(self) -> list[dict[str, Any]]:
        """The containers of code servers that run."""
        wanted = json.dumps({"label": [LABEL], "name": [f"^/{self.prefix}"], "status": ["running"]})
        found: list[dict[str, Any]] = engine(
            self.socket_path, "GET", f"/containers/json?filters={urllib.parse.quote(wanted)}"
        )
        return found

    def look(self) -> None:
        """Asks each of them once, beside each other: one that hangs keeps none of the others waiting."""
        servers = self.servers()
        self.known = {server["Id"]: self.known.get(server["Id"], Watch()) for server in servers}
        for server in servers:
            threading.Thread(target=self.judge, args=(server, self.known[server["Id"]]), daemon=True).start()

    def judge(self, server: dict[str, Any], watch: Watch) -> None:
        """One question, and the restart that may follow."""
        if not watch.asked.acquire(blocking=False):
            return
        name = server["Names"][0].lstrip("/")
        try:
            address = server["NetworkSettings"]["Networks"][self.network]["IPAddress"]
            try:
                ask(address, self.port)
            except Unhealthy as error:
                self.failed(server["Id"], name, watch, error)
            else:
                watch.answered, watch.failures = time.time(), 0
        except (OSError, http.client.HTTPException, ValueError) as error:
            print(f"<4>{name} cannot be looked at: {error}", flush=True)
        except KeyError as error:
            print(f"<4>{name} cannot be asked: the engine names no {error} of it", flush=True)
        finally:
            watch.asked.release()

    def failed(self, container: str, name: str, watch: Watch, error: Unhealthy) -> None:
        """Counts a failure, but for code that has not started yet. At the last one the container is restarted."""
        found = engine(self.socket_path, "GET", f"/containers/{container}/json")
        state, began = found["State"], seconds(found["State"]["StartedAt"])
        starts = watch.answered < began and time.time() - began < self.start
        if not state["Running"] or state["Paused"] or starts or found["HostConfig"]["RestartPolicy"]["Name"] != OURS:
            watch.failures = 0
            return
        watch.failures += 1
        print(f"<4>{name} does not answer ({watch.failures} of {FAILURES}): {error}", flush=True)
        if watch.failures < FAILURES:
            return
        watch.failures = 0
        print(f"<3>{name} hangs: it is restarted", flush=True)
        stop = found["Config"].get("StopTimeout") or 10  # seconds that calls have that still go on
        engine(self.socket_path, "POST", f"/containers/{container}/restart", stop + 60.0)


def seconds(moment: str) -> float:
    """Seconds since 1970 of a moment as the engine writes it, in UTC with nanoseconds."""
    return datetime.datetime.fromisoformat(moment[:19] + "+00:00").timestamp()


def main(argv: list[str]) -> int:
    """For ever."""
    if len(argv) != 6 or not (argv[4].isdigit() and argv[5].isdigit()):
        print(__doc__, file=sys.stderr)
        return 2
    watcher = Watcher(argv[1], argv[2], argv[3], int(argv[4]), float(argv[5]))
    away = ""
    while True:
        try:
            watcher.look()
            away = ""
        except (OSError, http.client.HTTPException, ValueError) as error:  # an engine that restarts
            if str(error) != away:
                print(f"<4>the engine cannot be asked: {error}", flush=True)
            away = str(error)
        time.sleep(PERIOD)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
