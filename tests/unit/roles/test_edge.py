"""Role vip's edge.sh: whether this host is fit to hold the address that the proxies share."""

from __future__ import annotations

import http.server
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[3] / "roles/vip/files/usr/local/lib/dagster/edge.sh"


def ask(port: int) -> int:
    return subprocess.run(["bash", str(PROGRAM), str(port)], check=False, timeout=10).returncode


@pytest.mark.parametrize(("status", "rc"), [(200, 0), (503, 1), (404, 1), (401, 0), (302, 0), (403, 0)])
def test_answer(status: int, rc: int) -> None:
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Host"]))
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            assert ask(server.server_port) == rc
        finally:
            server.shutdown()
    assert asked == [("/server_info", "127.0.0.1")]


def test_nobody_listens() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert ask(sock.getsockname()[1]) != 0


def test_silence_ends_before_keepalived_loses_patience() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        started = time.monotonic()
        assert ask(server.getsockname()[1]) != 0
        assert time.monotonic() - started < 4
