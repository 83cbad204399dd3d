"""The client against a real HTTP server that misbehaves in the ways a proxy and a restarting webserver do."""

from __future__ import annotations

import json
import socket
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils._graphql import client as subject
from ansible_collections.dataops.dagster.plugins.module_utils._graphql.client import (
    DagsterApiError,
    GraphQLClient,
    Unreachable,
    error_text,
    is_loopback,
    normalise_url,
)

DATE = "Tue, 24 Nov 2026 06:00:00 GMT"
DATE_SECONDS = 1795500000.0


class Stub(ThreadingHTTPServer):
    """Answers what `script` says, one entry a request, the last one for ever. None closes without an answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[tuple[int, str] | None] = []
        self.requests: list[tuple[str, str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/dagster"


class Handler(BaseHTTPRequestHandler):
    server: Stub

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((self.command, self.path, json.loads(body) if body else None))
        entry = self.server.script.pop(0) if len(self.server.script) > 1 else self.server.script[0]
        if entry is None:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, text = entry
        self.send_response_only(status)
        self.send_header("Date", DATE)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = answer

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def client(stub: Stub, pauses: list[float]) -> GraphQLClient:
    return GraphQLClient(stub.url, request_timeout=5, sleep=pauses.append)


# As Dagster gives an exception with its cause.
CAUSED = {
    "message": "no checks",
    "extensions": {
        "errorInfo": {
            "message": "DagsterError: no checks\n",
            "cause": {"message": "psycopg2.errors.UndefinedTable: relation\nmissing\n", "cause": None},
        }
    },
}
GOOD = (200, '{"data": {"version": "1"}}')


def test_query_posts_json_below_the_prefix_and_returns_data(stub: Stub, client: GraphQLClient) -> None:
    stub.script = [GOOD]
    assert client.query("{version}", {"a": 1}) == {"version": "1"}
    assert stub.requests == [("POST", "/dagster/graphql", {"query": "{version}", "variables": {"a": 1}})]
    assert client.server_time == DATE_SECONDS


def test_server_info_is_asked_below_the_prefix(stub: Stub, client: GraphQLClient) -> None:
    stub.script = [(200, '{"dagster_version": "1.13.27"}')]
    assert client.server_info() == {"dagster_version": "1.13.27"}
    assert stub.requests == [("GET", "/dagster/server_info", None)]


@pytest.mark.parametrize(
    "trouble", [None, (502, "<html>bad gateway</html>"), (500, '{"errors": [{"message": "pool"}]}')]
)
def test_reads_are_repeated(
    stub: Stub, client: GraphQLClient, pauses: list[float], trouble: tuple[int, str] | None
) -> None:
    stub.script = [trouble, trouble, GOOD]
    assert client.query("{version}") == {"version": "1"}
    assert len(stub.requests) == 3
    assert len(pauses) == 2


def test_reads_give_up(stub: Stub, client: GraphQLClient) -> None:
    stub.script = [(503, "")]
    with pytest.raises(DagsterApiError, match="answered 503: no text"):
        client.query("{version}")
    assert len(stub.requests) == subject.READ_ATTEMPTS


@pytest.mark.parametrize("trouble", [None, (502, "bad gateway"), (500, '{"errors": [{"message": "pool"}]}')])
def test_changes_are_never_repeated(stub: Stub, client: GraphQLClient, trouble: tuple[int, str] | None) -> None:
    stub.script = [trouble, GOOD]
    with pytest.raises((Unreachable, DagsterApiError)):
        client.mutate("mutation {x}")
    assert len(stub.requests) == 1


def test_a_change_that_got_no_answer_may_have_been_sent(stub: Stub, client: GraphQLClient) -> None:
    stub.script = [None]
    with pytest.raises(Unreachable) as caught:
        client.mutate("mutation {x}")
    assert caught.value.maybe_sent


def test_a_refused_connection_was_not_sent() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(Unreachable, match="refused") as caught:
        GraphQLClient(f"http://127.0.0.1:{port}").mutate("mutation {x}")
    assert not caught.value.maybe_sent


def test_a_slow_answer_may_have_been_sent(stub: Stub) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = GraphQLClient(f"http://127.0.0.1:{listener.getsockname()[1]}", request_timeout=0.2)
        with pytest.raises(Unreachable, match="timed out") as caught:
            client.mutate("mutation {x}")
    assert caught.value.maybe_sent
    assert stub.requests == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((404, "Not Found"), "path prefix"),
        ((401, ""), "without a login"),
        ((200, "<html>log in</html>"), "not JSON"),
        ((200, "[]"), "not JSON"),
        ((200, '{"data": null}'), "without data"),
        ((200, '{"errors": [{"message": "no field x"}], "data": null}'), "no field x"),
        ((400, '{"errors": [{"message": "syntax"}]}'), "answered 400: syntax"),
        ((400, json.dumps({"errors": [CAUSED]})), "400: no checks <- psycopg2.*UndefinedTable: relation missing$"),
    ],
)
def test_other_answers_are_named_at_once(
    stub: Stub, client: GraphQLClient, answer: tuple[int, str], message: str
) -> None:
    stub.script = [answer]
    with pytest.raises(DagsterApiError, match=message):
        client.query("{version}")
    assert len(stub.requests) == 1


def test_a_proxy_in_the_environment_is_not_used_for_loopback(
    stub: Stub, client: GraphQLClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    del client
    stub.script = [GOOD]
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert GraphQLClient(stub.url).query("{version}") == {"version": "1"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (" http://h:8080/ ", "http://h:8080"),
        ("https://h/dagster/", "https://h/dagster"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_normalise_url(url: str, expected: str) -> None:
    assert normalise_url(url) == expected


@pytest.mark.parametrize(
    "url", ["", "h:8080", "ftp://h", "http://", "http://h/graphql", "http://h/?a=1", "http://h/#x"]
)
def test_normalise_url_refuses(url: str) -> None:
    with pytest.raises(ValueError, match="url is"):
        normalise_url(url)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.0.0.9", True), ("::1", True), ("10.0.0.1", False), ("dagster", False), (None, False)],
)
def test_is_loopback(host: str | None, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_error_text_has_the_causes_once() -> None:
    error: dict[str, Any] = {"message": "outer\n", "causes": [{"message": "ValueError: inner\n"}, {"message": "outer"}]}
    assert error_text(error) == "outer\nValueError: inner"
    assert error_text({}) == "unknown error"


@pytest.fixture
def behind(stub: Stub) -> Iterator[str]:
    """The socket of a server behind the stub, which stands for an edge: its path is short enough for a socket."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/s"

        class Local(socketserver.ThreadingUnixStreamServer):
            script = (GOOD,)
            requests = stub.requests

        with Local(path, Handler) as server:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
            yield path
            server.shutdown()


@pytest.mark.parametrize("login", [(401, ""), (403, ""), (302, ""), (307, ""), (200, "<html>log in</html>")])
def test_behind_a_login_the_server_behind_it_is_asked(stub: Stub, behind: str, login: tuple[int, str]) -> None:
    stub.script = [login]
    with pytest.raises(DagsterApiError, match="login"):
        GraphQLClient(stub.url).query("{version}")
    del stub.requests[:]
    client = GraphQLClient(stub.url, socket=behind)
    assert client.query("{version}") == client.mutate("mutation {x}") == {"version": "1"}
    assert [path for _method, path, _body in stub.requests] == ["/dagster/graphql"] * 3, "the edge was asked once"


@pytest.mark.parametrize(("trouble", "message"), [((503, ""), "answered 503"), (None, "no answer"), ((404, ""), "404")])
def test_edge_that_does_not_work_is_noticed(
    stub: Stub, behind: str, trouble: tuple[int, str] | None, message: str
) -> None:
    stub.script = [trouble]
    with pytest.raises((DagsterApiError, Unreachable), match=message):
        GraphQLClient(stub.url, socket=behind, sleep=lambda _seconds: None).query("{version}")


def test_without_a_login_the_edge_alone_is_asked(stub: Stub, behind: str) -> None:
    stub.script = [GOOD]
    client = GraphQLClient(stub.url, socket=behind)
    assert client.query("{version}") == client.query("{version}")
    assert client.url == stub.url
    assert client._behind == behind
