# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One request of HTTP/1.1, read strictly: what two readers could understand in two ways is refused."""

from __future__ import annotations

import re
import select
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from gate_container import MIB, Refused

LARGEST_HEAD, LARGEST_BODY = 16 * 1024, MIB
GREETING = 3.0  # seconds that a client may take for the handshake of TLS
READING = 10.0  # seconds that a client may take to begin with its first request, and to send the rest of one
IDLE = 60.0  # seconds that a client may keep a connection after an answer

REQUEST = re.compile(rb"(GET|HEAD|POST|DELETE) (/[!-~]{0,4000}) HTTP/1\.1")
HEADER = re.compile(rb"([A-Za-z0-9-]{1,60}):[ \t]*([ -~]{0,4000}?)[ \t]*")
# A header that may change how the rest is read, or who reads it.
NEVER = {b"transfer-encoding", b"upgrade", b"te", b"trailer", b"expect", b"http2-settings", b"proxy-connection"}


@dataclass(frozen=True)
class Request:
    """A request as it was read."""

    method: str
    target: str
    body: bytes
    close: bool


def read(sock: socket.socket, wait: float = IDLE, begun: Callable[[], None] = lambda: None) -> Request | None:
    """The next request of a client, None when it has closed. Raises Refused and OSError.

    wait is for its first byte, and begun is called then.
    """
    sock.settimeout(wait)
    data = sock.recv(LARGEST_HEAD)
    if not data:
        return None
    begun()
    end = time.monotonic() + READING
    while b"\r\n\r\n" not in data:
        if len(data) > LARGEST_HEAD:
            raise Refused("a head that is too long")
        data += _more(sock, end)
    head, _empty, body = data.partition(b"\r\n\r\n")
    if len(head) > LARGEST_HEAD:
        raise Refused("a head that is too long")
    method, target, length, close = parsed_head(head)
    while len(body) < length:
        body += _more(sock, end)
    if len(body) > length or _waiting(sock):
        raise Refused("more than one request at a time")
    return Request(method, target, body, close)


def _more(sock: socket.socket, end: float) -> bytes:
    sock.settimeout(max(0.01, end - time.monotonic()))
    data = sock.recv(64 * 1024)
    if not data:
        raise ConnectionResetError("the client has gone")
    return data


def _waiting(sock: socket.socket) -> bool:
    """Whether the client has sent more already."""
    if isinstance(sock, ssl.SSLSocket):
        return sock.pending() > 0
    return bool(select.select([sock], [], [], 0)[0] and sock.recv(1, socket.MSG_PEEK))


def parsed_head(head: bytes) -> tuple[str, str, int, bool]:
    """Method, target, length of the body, and whether the client closes after it. Raises Refused."""
    first, *lines = head.split(b"\r\n")
    match = REQUEST.fullmatch(first)
    if not match:
        raise Refused("a request that is none of HTTP/1.1, or has another method")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        header = HEADER.fullmatch(line)
        if not header:
            raise Refused("a header that is not written plainly")
        name = header[1].lower()
        if name in headers:
            raise Refused("a header that comes twice")
        if name in NEVER:
            raise Refused(f"the header {name.decode()}")
        headers[name] = header[2]
    connection = headers.get(b"connection", b"keep-alive").lower()
    if connection not in (b"keep-alive", b"close"):
        raise Refused("a connection that becomes another")
    length = headers.get(b"content-length", b"0")
    if not re.fullmatch(rb"[0-9]{1,9}", length) or int(length) > LARGEST_BODY:
        raise Refused(f"a body of more than {LARGEST_BODY // MIB} MiB, or of no known length")
    if int(length) and headers.get(b"content-type", b"").split(b";")[0] != b"application/json":
        raise Refused("a body that is no JSON")
    return match[1].decode(), match[2].decode(), int(length), connection == b"close"
