"""molecule/silence.py: a request that fails has an end too."""

from __future__ import annotations

import socket

import pytest
from silence import Request


@pytest.mark.parametrize(
    "answer", [b"", b"no HTTP at all\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"]
)
def test_bad_answer(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        request = Request(f"http://127.0.0.1:{server.getsockname()[1]}", "/")
        connection, _address = server.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(answer)
    request.thread.join(10)
    assert request.took > 0
    assert request.status == 0
    assert request.text
