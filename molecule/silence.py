"""What is silent for longer than proxies wait by default: a request to a replica that hangs, and an open page."""

from __future__ import annotations

import http.client
import json
import queue
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from deployment import Dagster

SILENCE = 65.0  # seconds: longer than the 60 that nginx waits by default, and HAProxy's packaged minute
UNIT = "dagster-webserver@3001"
NO_REPLICA = "No Dagster webserver answers. Look at: systemctl status 'dagster-webserver@*'\n"
NO_HAPROXY = "HAProxy does not answer. Look at: systemctl status haproxy-dagster\n"
OPEN = (
    b"GET /graphql HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-ws\r\n\r\n"
)


@dataclass
class Request:
    """A GET that another thread waits for."""

    url: str
    path: str
    status: int = 0
    text: str = ""
    took: float = 0.0
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self.ask, daemon=True)
        self.thread.start()

    def ask(self) -> None:
        since = time.monotonic()
        try:
            self.status, self.text = Dagster(self.url).get(self.path, timeout=200)
        except (OSError, http.client.HTTPException) as error:
            self.text = str(error)
        finally:
            self.took = time.monotonic() - since


class Websocket:
    """An open page: nothing but the server's pings, one in 20 s, goes over it until it is asked for something."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 3)
        self.socket.sendall(OPEN)
        assert self.socket.recv(1000).startswith(b"HTTP/1.1 101 ")
        self.socket.settimeout(None)
        self.since = time.monotonic()
        self.heard: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        """Answers pings as a browser does. What ends the connection is heard as such."""
        stream = self.socket.makefile("rb")
        try:
            while len(head := stream.read(2)) == 2 and head[0] & 15 != 8:
                data = stream.read(head[1] & 127)  # no frame of these is longer
                if head[0] & 15 == 9:
                    self.send(0x8A, data)
                else:
                    self.heard.put(data.decode())
        except OSError:
            pass
        self.heard.put("closed")

    def send(self, kind: int, data: bytes) -> None:
        """One frame; a client has to mask it."""
        self.socket.sendall(bytes([kind, 0x80 | len(data), 0, 0, 0, 0]) + data)

    def asked(self, message: dict[str, Any]) -> str:
        """The answer to a message."""
        self.send(0x81, json.dumps(message).encode())
        return self.heard.get(timeout=20)


@dataclass
class Frozen:
    """A replica that was stopped in the middle of its work, and what was asked of it just then."""

    pid: str
    since: float
    clock: float
    """CLOCK_MONOTONIC of the host when it was stopped, which systemd's times are taken from."""
    slow: list[Request]
    health: list[Request]
