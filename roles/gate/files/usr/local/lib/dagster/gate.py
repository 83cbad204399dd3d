# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""gate CONFIG: stands before the socket of the Docker engine, under systemd's Type=notify and watchdog.

Where a request comes from decides what it may ask: each role has a socket of its own on this host, and a name of its
own in the certificate with which another host comes. gate_policy.py says what a role may do. Each refusal is a line in
the journal.

One request is read at a time, strictly: what is not HTTP/1.1 with a known length is refused, and so are requests that
follow before the answer. SIGTERM ends the gate once it has answered what it has taken. Its listening sockets stay with
systemd meanwhile, so whoever asks during a restart waits, and is not refused.
"""

from __future__ import annotations

import contextlib
import grp
import hashlib
import http.client
import json
import os
import pwd
import selectors
import signal
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import gate_policy
from gate_container import MIB, Refused, Rules
from gate_requests import IDLE, READING, Request, read

LARGEST_ANSWER = 16 * MIB
ENGINE_WAIT = 20.0  # seconds in which an engine that restarts is waited for
CLIENTS = 48  # connections of one role at a time, so that one role cannot shut out the other
LISTENING = 128
ENDING = 45.0  # seconds for what was asked before the end
FIRST_DESCRIPTOR = 3  # of those that systemd hands over


class Settings:
    """The configuration, and the files whose changes count without a restart."""

    def __init__(self, path: str) -> None:
        with open(path, encoding="utf-8") as stream:
            self.given: dict[str, Any] = json.load(stream)
        self._seen: dict[str, tuple[Any, Any]] = {}
        self._lock = threading.Lock()

    def user(self, uid: int) -> str:
        """The name of a user who may ask, made after the gate on a new host; nothing for anybody else."""
        with contextlib.suppress(KeyError):
            name = pwd.getpwuid(uid).pw_name
            return name if name in self.given["users"] else ""
        return ""

    def _current(self, key: str, paths: list[str], read: Any) -> Any:
        """What was read of files, read again once one of them is another."""
        found = [os.stat(path) for path in paths]
        state = [(each.st_ino, each.st_mtime_ns, each.st_size) for each in found]
        with self._lock:
            if key not in self._seen or self._seen[key][0] != state:
                self._seen[key] = (state, read())
            return self._seen[key][1]

    def rules(self) -> Rules:
        """What the plan says of runs; of a file that is not there yet, nothing."""
        with contextlib.suppress(FileNotFoundError):
            found: Rules = self._current("rules", [self.given["runs"]], self._rules)
            return found
        return Rules()

    def _rules(self) -> Rules:
        with open(self.given["runs"], encoding="utf-8") as stream:
            found = json.load(stream)
        host = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return Rules(
            label=self.given["label"],
            memory=self.given["memory_mb"] * MIB or host * 3 // 4,
            most_memory=host,
            pids=self.given["pids"],
            locations=(*found["locations"], *found["before"]),
        )

    def tls(self) -> ssl.SSLContext:
        """Mutual TLS with the certificates as they are now."""
        files = self.given["listen"]
        paths = [files["ca"], files["cert"], files["key"]]
        found: ssl.SSLContext = self._current("tls", paths, self._tls)
        return found

    def _tls(self) -> ssl.SSLContext:
        files = self.given["listen"]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files["ca"])
        context.load_cert_chain(files["cert"], files["key"])
        return context

    def role_of(self, certificate: dict[str, Any] | None, encoded: bytes | None) -> str:
        """The role of a client on another host. Raises Refused for a certificate of none."""
        if self.given["certificates"]:  # the site's authority may sign any name, so only these count
            role = str(self.given["certificates"].get(hashlib.sha256(encoded or b"").hexdigest()))
            if role not in gate_policy.ROLES:
                raise Refused("a certificate that is not the one of the services")
            return role
        names = [name for kind, name in (certificate or {}).get("subjectAltName", ()) if kind == "DNS"]
        roles = [role for role in gate_policy.ROLES if self.given["names"].get(role) in names]
        if len(roles) != 1:
            raise Refused("a certificate that is for no role of the gate")
        return roles[0]


class Engine(http.client.HTTPConnection):
    """A connection to the engine's socket."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("docker", timeout=seconds)
        self.path = path

    def connect(self) -> None:
        """An engine that restarts is waited for. Raises OSError."""
        end = time.monotonic() + ENGINE_WAIT
        while True:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            try:
                self.sock.connect(self.path)
                return
            except (ConnectionRefusedError, FileNotFoundError, BlockingIOError):
                self.sock.close()
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of the answer. Raises OSError and http.client.HTTPException."""
        headers = {"Connection": "close", **({"Content-Type": "application/json"} if body else {})}
        with contextlib.closing(self):
            self.request(method, path, body or (b"" if method == "POST" else None), headers)
            answer = self.getresponse()
            found = answer.read(LARGEST_ANSWER + 1)
            if answer.length:
                raise http.client.IncompleteRead(found, answer.length)
            if len(found) > LARGEST_ANSWER:
                raise http.client.HTTPException("the engine's answer is too long")
            return answer.status, found


class Client:
    """One connection of a client."""

    def __init__(self, gate: Gate, sock: socket.socket, role: str, who: str) -> None:
        self.gate, self.sock, self.role, self.who = gate, sock, role, who
        self.idle = True  # waits for a request

    def serve(self) -> None:
        """Answers one request after the other until there is none."""
        while not self.gate.ending.is_set():
            what = "a request"
            try:
                self.idle = True
                request = read(self.sock)
                self.idle = False
                if request is None:
                    return
                what = f"{request.method} {request.target[:200]}"
                status, body = self.done(request)
                close = request.close or self.gate.ending.is_set()
            except Refused as error:
                self.gate.say(4, f"refused {self.who} ({self.role}): {what}: {error}")
                status, body, close = 403, message(f"The Docker gate refuses {error}"), True
            except (OSError, ValueError, http.client.HTTPException) as error:
                if what == "a request":
                    return  # the client has gone, or says nothing
                self.gate.say(3, f"the engine did not answer {self.who} ({self.role}): {what}: {error}")
                status, body, close = 502, message(f"The Docker gate gets no answer of the engine: {error}"), True
            try:
                self.answer(status, body, close, head=what.startswith("HEAD "))
            except OSError:
                return
            if close:
                return

    def done(self, request: Request) -> tuple[int, bytes]:
        """Status and body of the answer. Raises Refused, OSError and http.client.HTTPException."""
        rules = self.gate.settings.rules()
        step = gate_policy.decide(self.role, request.method, request.target, request.body, rules)
        if step.answer is not None:
            return 200, gate_policy.written(step.answer)
        path, body = step.path, step.body
        for name, where, judge in (
            (step.container, "containers/{}/json", gate_policy.container_id),
            (step.network, "networks/{}", gate_policy.network_id),
        ):
            if not name:
                continue
            status, found = self.engine().ask("GET", "/" + where.format(name))
            if status != 200:
                return status, found
            whole = judge(json.loads(found), rules)
            kind = where.partition("s/")[0]
            path = path.replace(f"{{{kind}}}", whole)
            body = body.replace(f"{{{kind}}}".encode(), whole.encode())
        target = f"{path}?{step.query}" if step.query else path
        status, found = self.engine(step.seconds).ask(step.method, target, body)
        return status, gate_policy.shown(found, step.shown) if status == 200 else found

    def engine(self, seconds: float = 60) -> Engine:
        """A new connection to the engine."""
        return Engine(self.gate.settings.given["engine"], seconds)

    def answer(self, status: int, body: bytes, close: bool, head: bool) -> None:
        """Sends an answer. Raises OSError."""
        kind = "application/json" if body[:1] in (b"{", b"[") else "text/plain; charset=utf-8"
        lines = [
            f"HTTP/1.1 {status} {http.client.responses.get(status, 'Answer')}",
            f"Content-Type: {kind}",
            *([] if status in (204, 304) else [f"Content-Length: {len(body)}"]),
            *(["Connection: close"] if close else []),
        ]
        self.sock.settimeout(IDLE)
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode() + (b"" if head or status in (204, 304) else body))


def message(text: str) -> bytes:
    """An error in the form that Docker's clients show."""
    return gate_policy.written({"message": text})


class Gate:
    """The listening sockets, and a thread for each client."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ending = threading.Event()
        rooms = [*gate_policy.ROLES, *(f"{role} over TLS" for role in gate_policy.ROLES)]
        self.room = {name: threading.BoundedSemaphore(CLIENTS) for name in rooms}
        self.room[""] = threading.BoundedSemaphore(3 * CLIENTS)  # over TLS, before their role is known
        self.clients: dict[threading.Thread, Client | None] = {}
        self.selector = selectors.DefaultSelector()

    def say(self, level: int, text: str) -> None:
        """A line for the journal; level is that of syslog."""
        print(f"<{level}>{text.encode('unicode_escape').decode()}", file=sys.stderr, flush=True)

    def listen(self) -> None:
        """Takes the listening sockets that systemd has kept, and makes those that are missing."""
        kept = kept_sockets()
        wanted: dict[str, Any] = {role: where["path"] for role, where in self.settings.given["sockets"].items()}
        if self.settings.given["listen"]:
            self.settings.tls()  # certificates that cannot be used are told at once
            wanted["tls"] = (self.settings.given["listen"]["address"], self.settings.given["listen"]["port"])
        for name, where in wanted.items():
            sock = kept.pop(name, None)
            if sock is not None and not is_at(sock, where):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)  # systemd has it too: closing ours does not free the address
                sock.close()
                sock = None
            if sock is None:
                sock = self.bound(name, where)
                tell(f"FDSTOREREMOVE=1\nFDNAME={name}")
                tell(f"FDSTORE=1\nFDNAME={name}", sock.fileno())
            sock.setblocking(False)
            self.selector.register(sock, selectors.EVENT_READ, "" if name == "tls" else name)
        for name in kept:
            tell(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def bound(self, name: str, where: Any) -> socket.socket:
        """A new listening socket. Raises OSError."""
        if isinstance(where, tuple):
            family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(where)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(where)
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            before = os.umask(0o117)
            try:
                sock.bind(where)
            finally:
                os.umask(before)
            os.chown(where, -1, grp.getgrnam(self.settings.given["sockets"][name]["group"]).gr_gid)
        sock.listen(LISTENING)
        return sock

    def run(self) -> None:
        """Serves until it is told to end."""
        tell("READY=1\nSTATUS=Stands before the engine")
        while not self.ending.is_set():
            for key, _events in self.selector.select(1.0):
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    sock, _address = key.fileobj.accept()  # type: ignore[union-attr]
                    self.take(sock, key.data)
            tell("WATCHDOG=1")
        tell("STOPPING=1")
        end = time.monotonic() + ENDING
        for thread, client in list(self.clients.items()):
            if client is not None and client.idle:
                with contextlib.suppress(OSError):
                    client.sock.shutdown(socket.SHUT_RDWR)
            thread.join(max(0.0, end - time.monotonic()))

    def take(self, sock: socket.socket, role: str) -> None:
        """Serves a client in a thread of its own, unless there are too many of them."""
        if not self.room[role].acquire(blocking=False):
            self.say(4, f"refused a connection ({role or 'TLS'}): {CLIENTS} of them are open")
            sock.close()
            return
        thread = threading.Thread(target=self.serve, args=(sock, role), daemon=True)
        self.clients[thread] = None
        thread.start()

    def serve(self, sock: socket.socket, role: str) -> None:
        """One client, from its first byte to its last."""
        who = address_of(sock)
        try:
            with self.greeted(sock, role) as client:
                self.clients[threading.current_thread()] = client
                client.serve()
        except (Refused, ssl.SSLError) as error:
            self.say(4, f"refused {who}: {error}")
        except OSError as error:
            self.say(5, f"lost {who}: {error}")
        finally:
            sock.close()
            self.room[role].release()
            self.clients.pop(threading.current_thread(), None)

    @contextlib.contextmanager
    def greeted(self, sock: socket.socket, role: str) -> Iterator[Client]:
        """A client whose role is known. Raises Refused and OSError."""
        sock.settimeout(READING)
        if role:
            pid, uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            user = self.settings.user(uid)
            if not user:
                raise Refused(f"user number {uid} (process {pid}) at the socket of {role}")
            yield Client(self, sock, role, f"{user}, process {pid}")
            return
        who = address_of(sock)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.settings.tls().wrap_socket(sock, server_side=True) as secured:
            found = self.settings.role_of(secured.getpeercert(), secured.getpeercert(binary_form=True))
            shared = self.room[f"{found} over TLS"]
            if not shared.acquire(blocking=False):
                raise Refused(f"a connection ({found}): {CLIENTS} of them are open")
            try:
                yield Client(self, secured, found, who)
            finally:
                shared.release()


def address_of(sock: socket.socket) -> str:
    """Where a client asks from."""
    try:
        return str(sock.getpeername()[0]) if sock.family != socket.AF_UNIX else "a process of this host"
    except OSError:
        return "a client that has gone"


def kept_sockets() -> dict[str, socket.socket]:
    """The sockets that systemd has kept through a restart, by name."""
    number = int(os.environ.get("LISTEN_FDS", "0")) if os.environ.get("LISTEN_PID") == str(os.getpid()) else 0
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    return {name: socket.socket(fileno=FIRST_DESCRIPTOR + at) for at, name in zip(range(number), names, strict=False)}


def is_at(sock: socket.socket, where: Any) -> bool:
    """Whether a kept socket is still the one that clients reach."""
    found = sock.getsockname()
    return tuple(found[:2]) == where if isinstance(where, tuple) else found == where and os.path.exists(where)


def tell(state: str, descriptor: int | None = None) -> None:
    """Sends a state to systemd (sd_notify), with a descriptor to keep; nowhere when it did not start us."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        if descriptor is None:
            sock.send(state.encode())
        else:
            socket.send_fds(sock, [state.encode()], [descriptor])


def main(argv: list[str]) -> int:
    """Serves until SIGTERM."""
    gate = Gate(Settings(argv[1]))
    signal.signal(signal.SIGTERM, lambda _number, _frame: gate.ending.set())
    try:
        gate.listen()
    except (OSError, ssl.SSLError) as error:
        gate.say(3, f"cannot listen: {error}")
        return 1
    gate.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
