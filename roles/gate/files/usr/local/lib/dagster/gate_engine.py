# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The engine behind the Docker gate."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time

from gate_container import MIB

LARGEST_ANSWER = 16 * MIB
ENGINE_WAIT = 20.0  # seconds in which an engine that restarts is waited for


class TooLong(http.client.HTTPException):
    """An answer that is longer than it may be."""


class Engine(http.client.HTTPConnection):
    """A connection to the engine's socket."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("docker", timeout=seconds)
        self.path = path

    def connect(self) -> None:
        """An engine that restarts is waited for. Raises OSError."""
        end = time.monotonic() + ENGINE_WAIT
        while True:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            try:
                self.sock.connect(self.path)
                return
            except (ConnectionRefusedError, FileNotFoundError, BlockingIOError):
                self.sock.close()
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def ask(self, method: str, path: str, body: bytes = b"", most: int = LARGEST_ANSWER) -> tuple[int, bytes]:
        """Status and body of the answer, of at most so many bytes. Raises OSError and http.client.HTTPException."""
        headers = {"Connection": "close", **({"Content-Type": "application/json"} if body else {})}
        with contextlib.closing(self):
            self.request(method, path, body or (b"" if method == "POST" else None), headers)
            answer = self.getresponse()
            found = answer.read(most + 1)
            if len(found) > most:
                raise TooLong(f"the engine's answer has more than {most // MIB} MiB")
            if answer.length:
                raise http.client.IncompleteRead(found, answer.length)
            return answer.status, found
