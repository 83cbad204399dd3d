# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Requests to the API of a cluster, over TLS and with the login of a kubeconfig."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
from types import TracebackType
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._addresses import host_port
from ansible_collections.dataops.dagster.plugins.module_utils._kubernetes.kubeconfig import Connection

TIMEOUT = 10.0
JSON = "application/json"
# Everything but the content: what an object is called, and its labels.
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


class Unreachable(Exception):
    """Nobody answers as an API of Kubernetes; the text says where and why."""


class Refused(Exception):
    """The API answers and says no. status is that of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """One connection, which stays open for several requests."""

    def __init__(self, where: Connection) -> None:
        self.where = where
        self.place = f"https://{host_port(where.host, where.port)}"
        self.connection: http.client.HTTPSConnection | None = None

    def __enter__(self) -> Api:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.connection is not None:
            self.connection.close()

    def request(self, method: str, path: str, body: Any = None, accept: str = JSON) -> dict[str, Any]:
        """The answer to a request. Raises Unreachable or Refused."""
        headers = {"Accept": accept, "User-Agent": "dataops.dagster"}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json" if method == "PATCH" else JSON
        if self.where.token:
            headers["Authorization"] = f"Bearer {self.where.token}"
        try:
            connection = self.connection = self.connection or self._connected()
            text = None if body is None else json.dumps(body)
            connection.request(method, f"{self.where.path}{path}", text, headers)
            response = connection.getresponse()
            status, data = response.status, response.read()
        except ssl.SSLCertVerificationError as error:
            raise Unreachable(
                f"{self.place} has a certificate that dagster_kubeconfig does not know ({error.verify_message}); write "
                "the certificate-authority-data of that cluster"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unreachable(
                f"{self.place}, the server of dagster_kubeconfig, cannot be reached from {socket.gethostname()}: "
                f"{reason}"
            ) from error
        return self._read(status, data)

    def _read(self, status: int, data: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or "kind" not in answer:
            raise Unreachable(f"{self.place}, the server of dagster_kubeconfig, answers, but not as Kubernetes does")
        if status >= 300:
            raise Refused(status, str(answer.get("message") or answer.get("reason") or status))
        return answer

    def _connected(self) -> http.client.HTTPSConnection:
        context = self._context()
        connection = http.client.HTTPSConnection(self.where.host, self.where.port, timeout=TIMEOUT, context=context)
        plain = socket.create_connection((self.where.host, self.where.port), TIMEOUT)
        connection.sock = context.wrap_socket(plain, server_hostname=self.where.name or self.where.host)
        return connection

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.where.authority or None)
        if self.where.certificate:
            # It is read from files alone. This one is in memory, and goes with its descriptor.
            descriptor = os.memfd_create("client")
            try:
                os.write(descriptor, f"{self.where.certificate}\n{self.where.key}\n".encode())
                context.load_cert_chain(f"/proc/self/fd/{descriptor}")
            finally:
                os.close(descriptor)
        return context
