# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A small client of the Dagster webserver's GraphQL API, standard library only.

It runs on managed hosts, where Dagster itself lives in a virtual environment that a module cannot import.

Reads are repeated when the connection breaks or the server answers 5xx. Changes are sent once: whether a POST that
got no answer was carried out is not known here, so `Unreachable.maybe_sent` says what may have happened and the
caller decides.
"""

from __future__ import annotations

import errno
import http.client
import ipaddress
import json
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.dataops.dagster.plugins.module_utils._socket import LocalConnection

# What a login in front of the API answers: it wants one, refuses, or sends a browser to its page.
LOGIN = (301, 302, 303, 307, 308, 401, 403)
READ_ATTEMPTS = 5
READ_PAUSE = 1.0


class DagsterApiError(Exception):
    """The webserver answered, and the answer is an error."""

    def __init__(self, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.status = status


class LoginWanted(DagsterApiError):
    """A login in front of the API has answered. The request has not reached the webserver."""


class Unreachable(Exception):
    """No usable answer came back. `maybe_sent` is False only when the request cannot have reached the webserver."""

    def __init__(self, message: str, *, maybe_sent: bool) -> None:
        super().__init__(message)
        self.maybe_sent = maybe_sent


def normalise_url(url: str) -> str:
    """The base URL without a trailing slash; refuses what can only be a mistake."""
    text = url.strip().rstrip("/")
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"url is '{url}', expected http:// or https://, a host and, if the webserver has one, its path prefix, "
            "for example http://127.0.0.1:8080/dagster"
        )
    if parts.query or parts.fragment:
        raise ValueError(f"url is '{url}', expected the base URL of the Dagster UI without '?' or '#'")
    if parts.path.endswith("/graphql"):
        raise ValueError(f"url is '{url}', expected the base URL of the Dagster UI: leave out /graphql")
    return text


def is_loopback(host: str | None) -> bool:
    if host is None:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _never_sent(error: BaseException) -> bool:
    """True when the connection itself was not made, so that the request cannot have been carried out."""
    reason = getattr(error, "reason", error)
    return isinstance(reason, (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError)) or (
        isinstance(reason, OSError) and reason.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH)
    )


def error_text(error: dict[str, Any]) -> str:
    """A PythonError of the API as text: its message, then the causes (Dagster puts the user's exception there)."""
    lines = [str(error.get("message") or error.get("className") or "unknown error").strip()]
    for cause in error.get("causes") or []:
        text = str(cause.get("message") or cause.get("className") or "").strip()
        if text and text not in lines:
            lines.append(text)
    return "\n".join(lines)


def _messages(errors: object) -> str:
    """The messages of a GraphQL `errors` list with their causes, in one line."""
    if not isinstance(errors, list):
        return str(errors)
    return "; ".join(" <- ".join(_chain(item)) if isinstance(item, dict) else str(item) for item in errors)


def _data_errors(data: object) -> list[dict[str, Any]]:
    """The errors inside of data: Dagster answers 500 with these alone when it has caught an exception."""
    parts = data.values() if isinstance(data, dict) else ()
    failed = [part for part in parts if isinstance(part, dict) and str(part.get("__typename")).endswith("Error")]
    return [{"message": error_text(part)} for part in failed]


def _chain(error: dict[str, Any]) -> list[str]:
    """The message of a GraphQL error, then those of its causes. Dagster gives them as an extension."""
    found = [" ".join(str(error.get("message", error)).split())]
    extensions = error.get("extensions")
    info = extensions.get("errorInfo") if isinstance(extensions, dict) else None
    while isinstance(info, dict):
        text = " ".join(str(info.get("message") or "").split())
        # The first of them repeats the message behind the name of its class.
        if text and not any(text.endswith(known) for known in found):
            found.append(text)
        info = info.get("cause")
    return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer: its page may be on a server that this host does not reach."""

    def redirect_request(self, *_request: Any) -> None:
        return None


class _LocalHandler(urllib.request.HTTPHandler):
    """Sends each request to a local socket, whatever its URL says."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(lambda _host, timeout: LocalConnection(self.path, timeout), req)  # type: ignore[arg-type]

    https_open = http_open


class GraphQLClient:
    """`socket` is that of the server behind the URL. It is asked instead, once the URL has answered with a login."""

    def __init__(
        self,
        url: str,
        *,
        request_timeout: float = 30.0,
        validate_certs: bool = True,
        ca_path: str | None = None,
        socket: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = normalise_url(url)
        self.request_timeout = request_timeout
        # Unix seconds of the last answer's Date header: the servers' clock, not the clock of this machine.
        self.server_time: float | None = None
        self._sleep = sleep
        handlers: list[urllib.request.BaseHandler] = []
        if is_loopback(urlsplit(self.url).hostname):
            # http_proxy in the environment without no_proxy must not send requests for this host elsewhere.
            handlers.append(urllib.request.ProxyHandler({}))
        if self.url.startswith("https:"):
            context = ssl.create_default_context(cafile=ca_path)
            if not validate_certs:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            handlers.append(urllib.request.HTTPSHandler(context=context))
        # Without a server behind it, such as that of a deployment from before there was one, the URL alone is asked.
        self._behind = socket if socket and os.path.exists(socket) else None
        if self._behind:
            handlers.append(_NoRedirect())
        self._opener = urllib.request.build_opener(*handlers)

    def server_info(self) -> dict[str, str]:
        """The versions from <prefix>/server_info. It says that a webserver answers, not that the deployment works."""
        answer = self._retried(lambda: self._send(f"{self.url}/server_info", None))
        return {str(key): str(value) for key, value in answer.items()}

    def query(
        self, document: str, variables: dict[str, Any] | None = None, attempts: int = READ_ATTEMPTS
    ) -> dict[str, Any]:
        """A read. Repeated when nothing came back or the server answered 5xx (a replica restarts, a dead pool)."""
        return self._retried(lambda: self._graphql(document, variables), attempts)

    def mutate(self, document: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        """A change. Sent once, whatever happens."""
        return self._graphql(document, variables)

    def _retried(self, call: Callable[[], dict[str, Any]], attempts: int = READ_ATTEMPTS) -> dict[str, Any]:
        for attempt in range(1, attempts + 1):
            try:
                return call()
            except Unreachable:
                if attempt == attempts:
                    raise
            except DagsterApiError as error:
                if error.status < 500 or attempt == attempts:
                    raise
            self._sleep(READ_PAUSE * attempt)
        raise AssertionError("attempts must be at least 1")

    def _graphql(self, document: str, variables: dict[str, Any] | None) -> dict[str, Any]:
        body = json.dumps({"query": document, "variables": variables or {}}).encode()
        answer = self._send(f"{self.url}/graphql", body)
        if answer.get("errors"):
            raise DagsterApiError(f"{self.url}/graphql answered with errors: {_messages(answer['errors'])}")
        data = answer.get("data")
        if not isinstance(data, dict):
            raise DagsterApiError(f"{self.url}/graphql answered without data: {str(answer)[:300]}")
        return data

    def _send(self, url: str, body: bytes | None) -> dict[str, Any]:
        try:
            return self._ask(url, body)
        except LoginWanted:
            if not self._behind:
                raise
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _LocalHandler(self._behind))
        self._behind = None
        return self._ask(url, body)

    def _ask(self, url: str, body: bytes | None) -> dict[str, Any]:
        request = urllib.request.Request(url, data=body, headers={"Accept": "application/json"})
        if body is not None:
            request.add_header("Content-Type", "application/json")
        try:
            with self._opener.open(request, timeout=self.request_timeout) as response:
                self._note_time(response.headers.get("Date"))
                raw = response.read()
        except urllib.error.HTTPError as error:
            with error:
                self._note_time(error.headers.get("Date"))
                try:
                    raw = error.read()
                except (OSError, http.client.HTTPException):
                    raw = b""
            kind = LoginWanted if error.code in LOGIN else DagsterApiError
            raise kind(self._http_problem(url, error.code, raw), status=error.code) from error
        except (OSError, http.client.HTTPException) as error:
            # URLError and timeouts are OSErrors; a peer that closes in the middle raises an HTTPException.
            reason = getattr(error, "reason", None) or error
            raise Unreachable(
                f"no answer from {url}: {str(reason) or type(reason).__name__}. Expected a Dagster webserver there: "
                "check `url` and that the proxy and the webservers are running",
                maybe_sent=body is not None and not _never_sent(error),
            ) from error
        try:
            answer = json.loads(raw)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            # A login page may come with 200.
            raise LoginWanted(
                f"{url} answered something that is not JSON ({raw[:80]!r}). Expected the Dagster API: does `url` carry "
                "the path prefix of the webserver, and is no login page in front of it?"
            )
        return answer

    def _http_problem(self, url: str, code: int, raw: bytes) -> str:
        if code == 404:
            return (
                f"{url} answered 404. Expected the Dagster API there: does `url` carry exactly the path prefix of the "
                "webserver (dagster_webserver_path_prefix)?"
            )
        if code in LOGIN:
            return f"{url} answered {code}. Expected the Dagster API there, without a login or a redirect in front."
        try:
            answer = json.loads(raw)
        except ValueError:
            answer = None
        if isinstance(answer, dict) and (said := answer.get("errors") or _data_errors(answer.get("data"))):
            return f"{url} answered {code}: {_messages(said)}"
        detail = re.sub(r"<[^>]*>|\s+", " ", raw[:500].decode("utf-8", "replace"))
        return f"{url} answered {code}: {' '.join(detail.split()) or 'no text'}"

    def _note_time(self, date: str | None) -> None:
        if date:
            try:
                self.server_time = parsedate_to_datetime(date).timestamp()
            except (TypeError, ValueError):
                self.server_time = None
