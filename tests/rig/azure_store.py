"""Azure Blob Storage of the tests: what the class of compute logs asks for, in memory, behind the real login.

    AZURE_KEY=KEY python azure_store.py HOST PORT ACCOUNT CERTIFICATE KEY_FILE

Each request is signed with the key of the account, or has a SAS (of the account, or of one blob) that is. Errors are
called as Azure calls them (learn.microsoft.com/rest/api/storageservices/blob-service-error-codes).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import ssl
import sys
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

CONTAINERS: dict[str, dict[str, bytes]] = {}
SIGNED = (
    *("Content-Encoding", "Content-Language", "Content-Length", "Content-MD5", "Content-Type", "Date"),
    *("If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range"),
)
# What a SAS signs, in this order: of an account, and of a blob, whose name comes after the third.
KIND = "<BlobType>BlockBlob</BlobType>"
OF_ACCOUNT = ("sp", "ss", "srt", "st", "se", "sip", "spr", "sv", "ses")
OF_BLOB = (
    ("sp", "st", "se"),
    ("si", "sip", "spr", "sv", "sr", "snapshot", "ses", "rscc", "rscd", "rsce", "rscl", "rsct"),
)


class Refused(Exception):
    """A status, and the name of an error."""


class Request(BaseHTTPRequestHandler):
    """One request to the account of the server."""

    protocol_version = "HTTP/1.1"
    account, key = "", b""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        now = format_datetime(datetime.now(UTC), usegmt=True)
        known = {"Last-Modified": now, "ETag": '"1"', "x-ms-blob-type": "BlockBlob", "x-ms-version": "2021-12-02"}
        for name, value in {**known, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        self.query = dict(parse_qsl(url.query))
        self.container, _slash, self.blob = unquote(url.path).strip("/").partition("/")
        try:
            self.check(url.path)
            if self.command == "POST":
                self.batch(data.decode())
            else:
                self.of_blob(data) if self.blob else self.of_container()
        except Refused as refused:
            status, code = refused.args
            words = "Server failed to authenticate the request." if code == "AuthenticationFailed" else code
            text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{words}\nRequestId:1</Message></Error>'
            self.answer(status, text.encode(), x_ms_error_code=code, Content_Type="application/xml")

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_any

    def check(self, path: str) -> None:
        """Who asks, and may they?"""
        scheme, _space, given = self.headers.get("Authorization", "").partition(" ")
        if scheme == "SharedKey":
            name, _colon, signature = given.partition(":")
            text = self.signed_text(path)
        elif "sig" in self.query:
            name, signature, text = self.account, self.query["sig"], self.sas_text()
        else:
            raise Refused(401, "NoAuthenticationInformation")
        right = base64.b64encode(hmac.digest(self.key, text.encode(), hashlib.sha256)).decode()
        if name != self.account or not hmac.compare_digest(signature, right):
            raise Refused(403, "AuthenticationFailed")
        needs = (
            {"GET": "r", "HEAD": "r", "PUT": "w", "DELETE": "d"}[self.command]
            if self.blob
            else "ld"[self.command == "POST"]
        )
        if "sig" in self.query and needs not in self.query["sp"]:
            raise Refused(403, "AuthorizationPermissionMismatch")

    def signed_text(self, path: str) -> str:
        """What a client signs with the key of the account."""
        values = [self.headers.get(name, "") for name in SIGNED]
        values[2] = "" if values[2] == "0" else values[2]
        ours = sorted(
            (name.lower(), value.strip()) for name, value in self.headers.items() if name[:5].lower() == "x-ms-"
        )
        asked = sorted((name.lower(), value) for name, value in self.query.items())
        first, last = ([f"{name}:{value}" for name, value in found] for found in (ours, asked))
        return "\n".join([self.command, *values, *first, f"/{self.account}{path}", *last])

    def sas_text(self) -> str:
        if "ss" in self.query:
            return "\n".join([self.account, *(self.query.get(name, "") for name in OF_ACCOUNT), ""])
        first, last = ([self.query.get(name, "") for name in names] for names in OF_BLOB)
        return "\n".join([*first, f"/blob/{self.account}/{self.container}/{self.blob}", *last])

    def of_container(self) -> None:
        if self.command == "PUT":
            if self.container in CONTAINERS:
                raise Refused(409, "ContainerAlreadyExists")
            CONTAINERS[self.container] = {}
            self.answer(201)
            return
        names = [name for name in self.blobs() if name.startswith(self.query.get("prefix", ""))]
        found = "".join(f"<Blob><Name>{escape(name)}</Name><Properties>{KIND}</Properties></Blob>" for name in names)
        text = f'<?xml version="1.0"?><EnumerationResults><Blobs>{found}</Blobs><NextMarker/></EnumerationResults>'
        self.answer(200, text.encode(), Content_Type="application/xml")

    def batch(self, data: str) -> None:
        """Deletions in one request, as the class deletes."""
        blobs, answers = self.blobs(), []
        for number, path in enumerate(re.findall(r"(?m)^DELETE /[^/ ]+/([^? ]+)", data)):
            status = (
                "404 The specified blob does not exist." if blobs.pop(unquote(path), None) is None else "202 Accepted"
            )
            answers.append(
                f"--batch\r\nContent-Type: application/http\r\nContent-ID: {number}\r\n\r\nHTTP/1.1 {status}\r\n\r\n"
            )
        self.answer(202, f"{''.join(answers)}--batch--\r\n".encode(), Content_Type="multipart/mixed; boundary=batch")

    def blobs(self) -> dict[str, bytes]:
        if self.container not in CONTAINERS:
            raise Refused(404, "ContainerNotFound")
        return CONTAINERS[self.container]

    def of_blob(self, data: bytes) -> None:
        blobs = self.blobs()
        if self.command == "PUT":
            if "comp" in self.query:  # blocks: not for logs of this size
                raise Refused(400, "InvalidQueryParameterValue")
            blobs[self.blob] = data
            self.answer(201)
            return
        if self.blob not in blobs:
            raise Refused(404, "BlobNotFound")
        if self.command == "DELETE":
            del blobs[self.blob]
            self.answer(202)
            return
        body = blobs[self.blob]
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("x-ms-range") or self.headers.get("Range") or "")
        if not asked:
            self.answer(200, body, x_ms_creation_time=format_datetime(datetime.now(UTC), usegmt=True))
            return
        start = int(asked[1])
        if start >= len(body):
            raise Refused(416, "InvalidRange")
        part = body[start : int(asked[2] or len(body)) + 1]
        self.answer(206, part, Content_Range=f"bytes {start}-{start + len(part) - 1}/{len(body)}")


def main(host: str, port: str, account: str, certificate: str, key_file: str) -> None:
    Request.account, Request.key = account, base64.b64decode(os.environ["AZURE_KEY"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key_file)
    server = ThreadingHTTPServer((host, int(port)), Request)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
