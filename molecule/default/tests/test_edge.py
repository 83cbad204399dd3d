"""Limits and answers of the edge: sizes, headers, compression, who says what when somebody is away, and silence."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from deployment import Dagster, until
from silence import NO_HAPROXY, NO_REPLICA, Frozen, Websocket

# Sends a body of so many bytes to the edge of this host; prints the status and the beginning of the answer.
SEND = """
import http.client, sys
edge = http.client.HTTPConnection("127.0.0.1", 8080, timeout=60)
edge.putrequest("POST", "/graphql")
edge.putheader("Content-Type", "application/json")
edge.putheader("Content-Length", sys.argv[1])
edge.endheaders()
left = int(sys.argv[1])
try:
    while left:
        left -= edge.sock.send(b"x" * min(left, 2**20))
except OSError:  # nginx has answered at the header already
    pass
answer = edge.getresponse()
print(answer.status, answer.read(200).decode())
"""
# Stands in for HAProxy: says what nginx sent, in JSON.
ECHO = """
import http.server, json, os, socketserver

class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"path": self.path, **{name.lower(): value for name, value in self.headers.items()}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def address_string(self):
        return "nginx"

path = "/run/haproxy-dagster/dagster_webserver.sock"
os.makedirs(os.path.dirname(path), exist_ok=True)  # it goes with the unit
with socketserver.UnixStreamServer(path, Echo) as server:
    os.chmod(path, 0o666)
    server.serve_forever()
"""


@pytest.fixture
def edge(tunnel: Callable[[int], int]) -> Iterator[http.client.HTTPConnection]:
    """A connection to nginx."""
    connection = http.client.HTTPConnection("127.0.0.1", tunnel(8080), timeout=60)
    yield connection
    connection.close()


def test_size_of_a_request(host: Any) -> None:
    """dagster_nginx_max_body_size is 50m: what is just below reaches Dagster, which says that it is no JSON."""
    most = 50 * 2**20
    assert host.check_output("python3 -c %s %s", SEND, str(most - 1)).startswith("400 ")
    assert host.check_output("python3 -c %s %s", SEND, str(most + 1)).startswith("413 ")


def test_headers_and_compression(edge: http.client.HTTPConnection) -> None:
    query = json.dumps({"query": "{ __schema { types { name description } } }"})
    for method, path, body in (("GET", "/", None), ("POST", "/graphql", query)):
        edge.request(method, path, body, {"Accept-Encoding": "gzip", "Content-Type": "application/json"})
        answer = edge.getresponse()
        packed = answer.read()
        assert answer.status == 200
        assert answer.getheader("Server") == "nginx", "the version of nginx is nobody's business"
        assert answer.getheader("Content-Encoding") == "gzip", path
        assert packed[:2] == b"\x1f\x8b", path
    edge.request("GET", "/server_info")
    answer = edge.getresponse()
    assert json.loads(answer.read())["dagster_version"] == "1.13.27"
    assert answer.getheader("Content-Encoding") is None, "the control: whoever cannot unpack gets it plain"


def test_without_haproxy_nginx_says_unavailable(dagster: Dagster, edge: http.client.HTTPConnection, host: Any) -> None:
    """503, which a load balancer in front of this one understands. A stand-in then hears what nginx tells HAProxy."""
    host.check_output("systemctl stop haproxy-dagster")
    try:
        for path in ("/server_info", "/", "/graphql"):
            assert dagster.get(path) == (503, NO_HAPROXY), path
        host.check_output("systemd-run -q --collect --unit=stand-in python3 -c %s", ECHO)
        until(lambda: dagster.get("/")[0] == 200, 20, "the stand-in answers", every=0.1)
        edge.request(
            "GET", "/some/page?x=1", headers={"Host": "dagster.example.com:8080", "X-Forwarded-For": "192.0.2.7"}
        )
        heard = json.loads(edge.getresponse().read())
    finally:
        host.check_output("systemctl stop stand-in; rm -rf /run/haproxy-dagster; systemctl start haproxy-dagster")
    assert heard["path"] == "/some/page?x=1"
    assert heard["host"] == "dagster.example.com:8080"
    assert heard["x-forwarded-for"] == "192.0.2.7, 127.0.0.1"
    assert heard["x-forwarded-proto"] == "http"
    assert heard["connection"] == "close"
    until(lambda: dagster.get("/server_info")[0] == 200, 60, "HAProxy answers again")


def test_no_replica_is_503_and_one_is_enough(dagster: Dagster, host: Any) -> None:
    host.check_output("systemctl stop dagster-webserver@3000 dagster-webserver@3001 dagster-webserver@3002")
    try:
        assert dagster.get("/server_info") == (503, NO_REPLICA)
        assert dagster.get("/") == (503, NO_REPLICA)
    finally:
        host.check_output("systemctl start dagster-webserver@3001")
    try:
        until(lambda: dagster.get("/server_info")[0] == 200, 60, "one replica answers for all")
    finally:
        host.check_output("systemctl start dagster-webserver@3000 dagster-webserver@3002")


def test_frozen_replica_hides_behind_the_short_patience_of_health(frozen: Frozen, websocket: Websocket) -> None:
    """A health request that hangs is answered with 503 after 5 s. Users' requests wait: see test_faults.py."""
    assert websocket.since > frozen.since
    assert not [request for request in frozen.health if not request.took], "whoever asks for health is left to wait"
    hung = [request for request in frozen.health if request.status != 200]
    assert hung, "no request met the frozen replica: the test would prove nothing"
    assert {(request.status, request.text) for request in hung} == {(503, NO_HAPROXY)}
    assert min(request.took for request in hung) > 4.5
    assert max(request.took for request in frozen.health) < 30
    assert len(hung) < len(frozen.health), "the other replica answers nobody"
    assert any(request.thread.is_alive() for request in frozen.slow), "no GET hangs in the frozen replica"
