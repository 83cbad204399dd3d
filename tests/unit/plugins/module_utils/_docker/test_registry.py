"""The registry check of hosts that have no engine yet, against a small registry on loopback."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils._docker import registry as subject

LOGIN = f"Basic {b64encode(b'deploy:hunter2').decode()}"


class Registry(BaseHTTPRequestHandler):
    """Has open/app:1 for everybody, token/app:1 for an anonymous token, and private/app:1 for nobody.

    basic/app:1 and login/app:1 want the login deploy, the latter for a token.
    """

    def do_HEAD(self) -> None:
        if self.path == "/v2/open/app/manifests/1":
            return self.answer(200)
        if self.path.startswith("/v2/token/"):
            if self.headers.get("Authorization") == "Bearer anonymous":
                return self.answer(200 if self.path.endswith("/1") else 404)
            return self.answer(401, realm="/token")
        if self.path.startswith("/v2/private/"):
            return self.answer(401)
        if self.path.startswith("/v2/basic/"):
            return self.answer(200 if self.headers.get("Authorization") == LOGIN else 401, basic=True)
        if self.path.startswith("/v2/login/"):
            return self.answer(200 if self.headers.get("Authorization") == "Bearer deployed" else 401, realm="/login")
        return self.answer(404)

    def do_GET(self) -> None:
        known = self.headers.get("Authorization") == LOGIN
        body = json.dumps({"token": "deployed" if known else "anonymous"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, status: int, realm: str = "", basic: bool = False) -> None:
        self.send_response(status)
        if basic:
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
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


@pytest.mark.parametrize("path", ["basic/app:1", "login/app:1"])
def test_registry_that_wants_a_login(registry: str, path: str) -> None:
    login = {"address": registry, "username": "deploy", "password": "hunter2"}
    assert subject.problem(f"{registry}/{path}", [login]) == ""
    wrong = subject.problem(f"{registry}/{path}", [{**login, "password": "other"}])
    assert wrong == f"{registry} refuses the login deploy for {path.partition(':')[0]}; see dagster_registries"
    assert subject.problem(f"{registry}/{path}") == "", "the engine may have one"
    assert subject.problem(f"{registry}/{path}", [{**login, "address": "other.example.com"}]) == ""


def test_a_password_goes_nowhere_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second try is without TLS, for a registry that the engine is told to trust."""
    asked = []

    def status(url: str, login: subject.Login | None) -> int:
        asked.append((url.partition(":")[0], login is not None))
        if url.startswith("https"):
            raise OSError("certificate")
        return 401

    monkeypatch.setattr(subject, "_status", status)
    login = {"address": "r.example.com", "username": "deploy", "password": "hunter2"}
    assert subject.problem("r.example.com/a:1", [login]) == ""
    assert asked == [("https", True), ("http", False)]


def test_login_of_docker_has_three_names() -> None:
    for name in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        found = subject.login_for(subject.DEFAULT_REGISTRY, [{"address": name, "username": "me", "password": "x"}])
        assert found == subject.Login("me", "x")
