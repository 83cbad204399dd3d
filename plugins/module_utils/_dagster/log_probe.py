# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write, read and delete an object of compute logs, with the class of dagster.yaml, and tell what was in the way.

Runs under the Python of Dagster's virtual environment, or of a code location's image, and needs nothing beside the
standard library and that Dagster.

Input, JSON on stdin:   {"section": compute_logs of dagster.yaml, "env": {NAME: value}, or null for that of the process,
                         "secrets": {NAME: value}, "login": {"variable": NAME, "file": true, "text": "..."} or null}
Output, JSON on stdout: {"problem": "bucket", "phase": "write", "said": "NoSuchBucket: ...", "address": "host:port",
                         "left": false}; problem is empty when all went well, left says whether the object could not
                         be deleted
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import ssl
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

TIME_LIMIT_SECONDS = 120
# A connection that is not there after this is not there. The libraries wait a minute, five times.
PATIENCE = 10
TEXT = "dataops.dagster has written this to see whether it can.\n"
# Of the machine itself. A library that finds no role there says so.
METADATA = ("169.254.", "fd00:ec2:", "metadata.google.internal")
METADATA_VARIABLES = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "GCE_METADATA_HOST")

# What is watched, by our own name for it.
NAMES = {"resolved": "getaddrinfo", "connected": "connect", "wrapped": "wrap_socket"}

# By what the stores call it, and by the status where a HEAD has no name.
CODES = {
    "NoSuchBucket": "bucket",
    "InvalidBucketName": "bucket",
    "ContainerNotFound": "bucket",
    "ContainerBeingDeleted": "bucket",
    "404": "bucket",
    "PermanentRedirect": "region",
    "AuthorizationHeaderMalformed": "region",
    "301": "region",
    "InvalidAccessKeyId": "login",
    "SignatureDoesNotMatch": "login",
    "InvalidToken": "login",
    "ExpiredToken": "login",
    "AuthenticationFailed": "login",
    "InvalidAuthenticationInfo": "login",
    "401": "login",
    "AccessDenied": "rights",
    "AuthorizationFailure": "rights",
    "AuthorizationPermissionMismatch": "rights",
    "AuthorizationResourceTypeMismatch": "rights",
    "AuthorizationServiceMismatch": "rights",
    "InsufficientAccountPermissions": "rights",
    "403": "rights",
    "RequestTimeTooSkewed": "clock",
}
# A host that takes no file: the class writes one before it stores it.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# By the name of the exception, where the store was not asked.
CLASSES = {
    "NoCredentialsError": "no login",
    "CredentialUnavailableError": "no login",
    "PartialCredentialsError": "login",
    "CredentialRetrievalError": "login",
    "ConfigParseError": "login",
    "MalformedError": "login",
    "RefreshError": "login",
    "ClientAuthenticationError": "login",
    "SSLError": "certificate",
    "gaierror": "name",
    "ConnectTimeoutError": "route",
    "EndpointConnectionError": "route",
    "ConnectionRefusedError": "route",
    "TimeoutError": "route",
}


class Stop(BaseException):
    """What is wrong is known. Not an Exception: the libraries catch and retry those, for minutes."""

    def __init__(self, problem: str, said: str) -> None:
        super().__init__(said)
        self.problem = problem


class Way:
    """What the libraries do on the network: whom they ask, and the first thing that cannot go well the next time."""

    def __init__(self) -> None:
        self.address = ""
        self.failed: set[str] = set()
        given = (os.environ.get(name, "").rpartition("//")[2].strip("/") for name in METADATA_VARIABLES)
        self.metadata = (*METADATA, *filter(None, given))
        self.stop: Stop | None = None  # also one that a thread of a library has swallowed

    def stopped(self, problem: str, said: str) -> Stop:
        """What is to be raised."""
        self.stop = self.stop or Stop(problem, said)
        return self.stop

    def watch(self) -> None:
        """From now on."""
        resolve, connect, wrap = socket.getaddrinfo, socket.socket.connect, ssl.SSLContext.wrap_socket

        def resolved(host: Any, port: Any, *more: Any, **named: Any) -> Any:
            name = host.decode() if isinstance(host, bytes) else str(host)
            if not f"{name}:{port}".startswith(self.metadata):
                self.address = f"{name}:{port}"
            try:
                return resolve(host, port, *more, **named)
            except socket.gaierror as error:
                if f"{name}:{port}".startswith(self.metadata):
                    raise
                raise self.stopped("name", str(error.strerror)) from error

        def connected(connection: socket.socket, address: Any) -> None:
            before = connection.gettimeout()
            if before is None or before > PATIENCE:
                connection.settimeout(PATIENCE)
            try:
                connect(connection, address)
            except OSError as error:
                self.refused(address, error)
                raise
            connection.settimeout(before)

        def wrapped(context: ssl.SSLContext, *more: Any, **named: Any) -> ssl.SSLSocket:
            try:
                return wrap(context, *more, **named)
            except ssl.SSLError as error:
                self.address = str(named.get("server_hostname") or self.address)
                reason = getattr(error, "verify_message", "") or str(error.reason or error)
                raise self.stopped("no tls" if "WRONG_VERSION" in reason else "certificate", reason) from error

        for owner, function in ((socket, resolved), (socket.socket, connected), (ssl.SSLContext, wrapped)):
            setattr(owner, NAMES[function.__name__], function)

    def refused(self, address: Any, error: OSError) -> None:
        """A name may have several addresses. One that is asked again will not be there either."""
        where = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address)
        if where.startswith(self.metadata) or isinstance(error, BlockingIOError):
            return
        if where in self.failed:
            raise self.stopped("route", error.strerror or str(error)) from error
        self.failed.add(where)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it came of, from the outside to the inside."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def codes(error: BaseException) -> Iterator[str]:
    """What a store has said in an exception: a name, then the status."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        yield str((response.get("Error") or {}).get("Code"))
    for name in ("error_code", "code", "status_code"):
        found = getattr(error, name, None)
        yield str(getattr(found, "value", found))


def judged(error: BaseException, phase: str) -> str:
    """What is wrong: login, bucket, ..., empty when that is not known."""
    if isinstance(error, Stop):
        return error.problem
    for each in causes(error):
        if "failed to authenticate" in str(each):  # Azure has one code for a wrong key and for a missing right
            return "login"
        if isinstance(each, OSError) and each.errno in FULL:
            return "disk"
        for code in codes(each):
            if code in CODES:
                return CODES[code]
    for each in causes(error):
        kind = type(each).__name__
        if kind == "DagsterInvalidConfigError":
            return "config"
        if kind == "DefaultCredentialsError":
            return "no login" if "were not found" in str(each) else "login"
        if kind in CLASSES:
            return CLASSES[kind]
        if isinstance(each, ImportError):
            return "class"
        if kind == "Error" and type(each).__module__ == "binascii":  # a key of Azure that is no base64
            return "login"
    # The class of GCS asks for its bucket when it is built.
    return "bucket" if phase == "build" and type(error).__name__ == "CheckError" else ""


def text_of(error: BaseException, secrets: Mapping[str, str]) -> str:
    """What an exception says, in one line, without secrets."""
    refused = [str(found.message) for found in getattr(error, "errors", None) or () if hasattr(found, "message")]
    text = " ".join((" ".join(refused) or str(error)).partition("RequestId:")[0].split()) or type(error).__name__
    for secret in secrets.values():
        for part in {secret, *secret.splitlines()}:
            if len(part) > 5:
                text = text.replace(part, "***")
    return text[:300]


def built(section: Mapping[str, Any], folder: str) -> Any:
    """The object of dagster.yaml, which keeps what it fetches in a folder of ours."""
    serdes = import_module("dagster._serdes")
    config = {**(section.get("config") or {}), "local_dir": folder}
    data = serdes.ConfigurableClassData(str(section["module"]), str(section["class"]), json.dumps(config))
    try:
        return data.rehydrate(import_module("dagster._core.storage.compute_log_manager").ComputeLogManager)
    except TypeError:  # where code may have an older Dagster than hosts
        return data.rehydrate()


class Probe:
    """One object, from its making to its end."""

    def __init__(self, section: Mapping[str, Any]) -> None:
        self.section = section
        self.phase = "build"
        self.key = ["dataops.dagster", "probe", uuid.uuid4().hex[:12]]

    def run(self, folder: str) -> bool:
        """Whether the object is left, because it could not be deleted. Raises what is in the way."""
        manager = built(self.section, folder)
        kind = import_module("dagster._core.storage.compute_log_manager").ComputeIOType.STDERR
        self.phase = "write"
        with manager.open_log_stream(self.key, kind) as stream:
            stream.write(TEXT)
        self.phase = "read"
        if manager.get_log_data(self.key).stderr != TEXT.encode():
            raise Stop("rights", "it does not find what it has written")
        self.phase = "delete"
        manager.delete_logs(log_key=self.key)
        there: Callable[..., bool] | None = getattr(manager, "cloud_storage_has_logs", None)
        return bool(there and there(self.key, kind))


def with_login(login: Mapping[str, Any] | None) -> dict[str, str]:
    """The variable with the login, or with the path of a file that only this process can read."""
    if not login:
        return {}
    if not login["file"]:
        return {login["variable"]: login["text"]}
    descriptor = os.memfd_create("login")
    os.write(descriptor, login["text"].encode())
    return {login["variable"]: f"/proc/{os.getpid()}/fd/{descriptor}"}


def ask(request: Mapping[str, Any]) -> dict[str, Any]:
    """Do it; never raises."""
    secrets = {str(name): str(value) for name, value in (request.get("secrets") or {}).items()}
    login = request.get("login")
    if request.get("env") is not None:
        os.environ.clear()
        os.environ.update({"PATH": os.defpath, **{name: str(value) for name, value in request["env"].items()}})
        sys.path[:0] = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    # One try: the libraries' own patience is for a store that is busy.
    os.environ.update({"AWS_MAX_ATTEMPTS": "1", **secrets, **with_login(login)})
    way, probe = Way(), Probe(request["section"])
    shown = {**secrets, "login": login["text"] if login else ""}
    answer = {"problem": "", "phase": "", "said": "", "address": "", "left": False}
    try:
        way.watch()
        with tempfile.TemporaryDirectory() as folder:
            answer["left"] = probe.run(folder)
    except (Exception, SystemExit, Stop) as error:
        error = way.stop or error
        problem = judged(error, probe.phase)
        if probe.phase == "delete" and problem == "rights":
            return {**answer, "left": True}
        said = text_of(error, shown)
        return {**answer, "problem": problem or "store", "phase": probe.phase, "said": said, "address": way.address}
    return answer


def main() -> None:
    """Read the request, write the answer. Whatever libraries print goes to stderr."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.dont_write_bytecode = True

    def too_slow(*_args: Any) -> None:
        raise Stop("store", f"it did not answer within {TIME_LIMIT_SECONDS} seconds")

    signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(TIME_LIMIT_SECONDS)
    result = ask(json.load(sys.stdin))
    signal.alarm(0)
    json.dump(result, answer)
    answer.close()
    os._exit(0)  # a library may have a thread that waits
