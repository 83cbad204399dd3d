"""The registry check of hosts that have no engine yet, against a small registry on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils._docker import registry as subject


class Registry(BaseHTTPRequestHandler):
    """Has open/app:1 for everybody, token/app:1 for an anonymous token, and private/app:1 for nobody."""

    def do_HEAD(self) -> None:
        if self.path == "/v2/open/app/manifests/1":
            return self.answer(200)
        if self.path.startswith("/v2/token/"):
            if self.headers.get("Authorization") == "Bearer anonymous":
                return self.answer(200 if self.path.endswith("/1") else 404)
            return self.answer(401, realm="/token")
        if self.path.startswith("/v2/private/"):
            return self.answer(401)
        return self.answer(404)

    def do_GET(self) -> None:
        body = json.dumps({"token": "anonymous"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, status: int, realm: str = "") -> None:
        self.send_response(status)
        if realm:
            self.send_header("WWW-Authenticate", f'Bearer realm="http://{self.headers["Host"]}{realm}",service="x"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


@pytest.fixture
def registry() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("ref", "parts"),
    [
        ("debian", ("registry-1.docker.io", "library/debian", "latest")),
        ("me/app:2", ("registry-1.docker.io", "me/app", "2")),
        ("localhost/app", ("localhost", "app", "latest")),
        ("r.example.com:5000/a/b:3", ("r.example.com:5000", "a/b", "3")),
        ("r.example.com/a@sha256:00", ("r.example.com", "a", "sha256:00")),
    ],
)
def test_parse(ref: str, parts: tuple[str, str, str]) -> None:
    assert subject.parse(ref) == parts


@pytest.mark.parametrize("path", ["open/app:1", "token/app:1", "private/app:1"])
def test_nothing_to_say(registry: str, path: str) -> None:
    assert subject.problem(f"{registry}/{path}") == ""


@pytest.mark.parametrize("path", ["open/app:2", "none/app:1", "token/app:2"])
def test_missing(registry: str, path: str) -> None:
    assert subject.problem(f"{registry}/{path}") == f"{registry} has no {path}"


def test_unreachable() -> None:
    assert "127.0.0.1:1 cannot be reached" in subject.problem("127.0.0.1:1/a:1")
