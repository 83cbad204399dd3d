# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""gate [--check] CONFIG: stands before the socket of the Docker engine, under systemd's Type=notify and watchdog.

Where a request comes from decides what it may ask: each role has a socket of its own on this host, and a name of its
own in the certificate with which another host comes. Runs that start steps have a socket for each code location, which
is mounted into their containers. gate_policy.py says what a role may do. Each refusal is a line in the journal.

One request is read at a time, strictly: what is not HTTP/1.1 with a known length is refused, and so are requests that
follow before the answer. SIGTERM ends the gate once it has answered what it has taken. Its listening sockets stay with
systemd meanwhile, so whoever asks during a restart waits, and is not refused.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import selectors
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gate_endings
import gate_policy
import gate_sockets
import gate_steps
from gate_container import RUN_ID, STEPS, Refused
from gate_engine import Engine, TooLong
from gate_json import written
from gate_requests import GREETING, IDLE, READING, Request, read
from gate_rooms import CLIENTS, GREETED, OF_HOST, Rooms
from gate_settings import Settings
from gate_sockets import address_of, tell

ENDING = 45.0  # seconds for what was asked before the end
FIRST = 2.0  # seconds of them for who has connected before, and not asked yet
PAUSE = 0.2  # seconds until the next try, where no connection can be taken
LISTS = 2  # of containers that are read at a time
OF_STEPS = "steps-"  # begins the name of a location's socket


class Client:
    """One connection of a client."""

    def __init__(
        self,
        gate: Gate,
        sock: socket.socket,
        role: str,
        who: str,
        asking: gate_steps.Run | Refused | None = None,  # in the role of steps: the run, or why it is none
    ) -> None:
        self.gate, self.sock, self.role, self.who, self.asking = gate, sock, role, who, asking
        self.idle = True  # waits for a request
        self.served = False  # has had an answer
        self.writing = threading.Lock()
        self.ended = ""  # the run that was stopped last

    def serve(self) -> None:
        """Answers one request after the other until there is none."""
        while True:
            what = "a request"
            try:
                self.idle = True
                request = read(self.sock, IDLE if self.served else READING, self.begins)
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
            finally:
                self.end_steps()
            if close:
                return

    def begins(self) -> None:
        """The first bytes of a request are there."""
        self.idle = False

    def ends(self) -> None:
        """Takes no more requests. What has come is read still, and its answer gets through."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RD)  # not that of TLS, which would end its answers too

    def give_up(self) -> None:
        """Says that there will be no answer, unless one is under way."""
        if self.writing.acquire(blocking=False):  # for good
            text = "The Docker gate ends, and the engine is at work on this still. Ask again what has become of it"
            with contextlib.suppress(OSError):
                self.send(503, message(text), close=True, head=False)

    def done(self, request: Request) -> tuple[int, bytes]:
        """Status and body of the answer. Raises Refused, OSError and http.client.HTTPException."""
        rules, run = self.gate.settings.rules(), self.asking
        if isinstance(run, Refused):
            raise run
        if run and request.method == "POST":
            self.gate.look_at(run.container, gate_steps.running)
        with self.gate.reading if run else contextlib.nullcontext():
            rules = run.rules(rules) if run else rules
            order = gate_policy.decide(self.role, request.method, request.target, request.body, rules, run)
        if order.answer is not None:
            return 200, written(order.answer)
        if order.steps:
            self.gate.serve_steps(order.steps)
        path, body, known = order.path, order.body, {}
        made: Mapping[str, Any] | None = None  # the container that joins a network
        for name, where, judge in (
            (order.container, "containers/{}/json", gate_policy.container_id),
            (order.network, "networks/{}", gate_policy.network_id),
        ):
            if not name:
                continue
            status, found = self.gate.engine().ask("GET", "/" + where.format(name))
            if status != 200:
                return status, found
            known = json.loads(found)
            whole = judge(known, rules, run, made)
            made = known
            kind = where.partition("s/")[0]
            path = path.replace(f"{{{kind}}}", whole)
            body = body.replace(f"{{{kind}}}".encode(), whole.encode())
        target = f"{path}?{order.query}" if order.query else path
        try:
            with self.gate.lists if order.most else contextlib.nullcontext():
                way = self.gate.engine(order.seconds)
                status, found = way.ask(order.method, target, body, *([order.most] if order.most else []))
        except TooLong as error:
            raise Refused(f"{error}. {order.less}" if order.most else str(error)) from error
        if order.ends and status in (204, 304) and known["Config"]["Labels"].get(STEPS):
            self.ended = known["Config"]["Labels"][RUN_ID]
        return status, gate_policy.shown(found, order.shown) if status == 200 else found

    def end_steps(self) -> None:
        """Ends the steps of the run that was stopped."""
        run, self.ended = self.ended, ""
        if run:
            self.gate.endings.of_run(run)

    def answer(self, status: int, body: bytes, close: bool, head: bool) -> None:
        """Sends the answer of a request. Raises OSError."""
        with self.writing:
            self.send(status, body, close, head)
            self.served = True

    def send(self, status: int, body: bytes, close: bool, head: bool) -> None:
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
    return written({"message": text})


class Gate:
    """The listening sockets, and a thread for each client."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        settings.say = self.say
        self.ending = threading.Event()
        over_tls = [f"{role} over TLS" for role in gate_policy.ROLES]
        # Over TLS, before their role is known, and of the steps of all locations.
        every = dict.fromkeys(("TLS", gate_policy.STEPS), 3 * CLIENTS)
        self.room = Rooms({**dict.fromkeys((*gate_policy.ROLES, *over_tls), CLIENTS), **every})
        self.lists = threading.BoundedSemaphore(LISTS)
        self.told = 0.0  # when it was said last that no connection can be taken
        self.lock = threading.Lock()  # of the sockets of locations
        self.reading = threading.Lock()  # one run at a time: many large requests would take the memory of all others
        self.proc = "/proc"
        self.clients: dict[threading.Thread, Client | None] = {}
        self.selector = selectors.DefaultSelector()
        self.endings = gate_endings.Endings(self.engine, self.say)

    def say(self, level: int, text: str) -> None:
        """A line for the journal; level is that of syslog."""
        print(f"<{level}>{text.encode('unicode_escape').decode()}", file=sys.stderr, flush=True)

    def engine(self, seconds: float = 60) -> Engine:
        """A new connection to the engine."""
        return Engine(self.settings.given["engine"], seconds)

    def listen(self) -> None:
        """Takes the listening sockets that systemd has kept, and makes those that are missing."""
        kept = gate_sockets.kept_sockets()
        wanted: dict[str, Any] = {role: where["path"] for role, where in self.settings.given["sockets"].items()}
        if self.settings.given["listen"]:
            self.settings.tls()  # certificates that cannot be used are told at once, and the sockets serve without them
            wanted["tls"] = (self.settings.given["listen"]["address"], self.settings.given["listen"]["port"])
        for name, where in wanted.items():
            group = self.settings.given["sockets"].get(name, {}).get("group", "")
            self.open(name, where, kept.pop(name, None), 0o660, group)
        for location in self.settings.rules().locations:
            if location.get("steps"):
                # Runs in progress have it mounted. Without it, those of this location are refused, and no others.
                with contextlib.suppress(Refused):
                    self.serve_steps(location, kept)
        for name in kept:
            tell(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def open(self, name: str, where: Any, kept: socket.socket | None, mode: int, group: str = "") -> None:
        """Listens at a socket that systemd has kept, or at a new one. Raises OSError."""
        sock = gate_sockets.still_at(kept, where)
        if sock is None:
            sock = gate_sockets.bound(where, mode, group)
            tell(f"FDSTOREREMOVE=1\nFDNAME={name}")
            tell(f"FDSTORE=1\nFDNAME={name}", sock.fileno())
        sock.setblocking(False)
        self.selector.register(sock, selectors.EVENT_READ, "" if name == "tls" else name)

    def serve_steps(self, location: Mapping[str, Any], kept: dict[str, socket.socket] | None = None) -> None:
        """Listens at the socket of a location whose runs start steps, unless it does. Raises Refused.

        Nobody of the host but root comes to its folder. It is mounted into runs, where anybody may connect.
        """
        name, folder = OF_STEPS + location["name"], gate_steps.folder(location["steps"])
        with self.lock:
            if name in self.room:
                return
            try:
                gate_sockets.folder(os.path.dirname(folder), 0o700)
                gate_sockets.folder(folder, 0o711)
                self.room.add(name, CLIENTS)
                self.open(name, f"{folder}/{gate_steps.SOCKET}", (kept or {}).pop(name, None), 0o666)
            except OSError as error:
                self.room.remove(name)
                self.say(3, f"cannot listen for the steps of {location['name']}: {error}")
                raise Refused(f"a run whose socket for steps cannot be made: {error}") from error

    def run(self) -> None:
        """Serves until it is told to end."""
        threading.Thread(target=self.endings.watch, args=(self.ending, self.label_of_steps), daemon=True).start()
        tell("READY=1\nSTATUS=Stands before the engine")
        while not self.ending.is_set():
            for key, _events in self.selector.select(1.0):
                if not self.ending.is_set():  # who comes now waits for the next gate
                    self.accept(key)
            tell("WATCHDOG=1")
        tell("STOPPING=1")
        self.end()

    def end(self) -> None:
        """Answers what was asked, as long as there is time for it."""
        began = time.monotonic()
        while self.clients and (took := time.monotonic() - began) < ENDING:
            for client in list(self.clients.values()):
                if client is not None and client.idle and (client.served or took > FIRST):
                    client.ends()
            time.sleep(0.02)
        for client in list(self.clients.values()):
            if client is not None and not client.idle:
                client.give_up()

    def accept(self, key: selectors.SelectorKey) -> None:
        """Takes a connection. Where that cannot be, because too many files are open, it is tried again soon."""
        try:
            sock, _address = key.fileobj.accept()  # type: ignore[union-attr]
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:
            self.cannot(error)
            return
        self.take(sock, key.data)

    def cannot(self, error: Exception) -> None:
        """Says why no connection can be taken, once a minute, and waits: the reason does not go at once."""
        if not self.told or time.monotonic() - self.told > 60:
            self.told = time.monotonic()
            self.say(3, f"cannot take a connection, so who asks has to wait: {error}")
        time.sleep(PAUSE)

    def take(self, sock: socket.socket, door: str) -> None:
        """Serves a client in a thread of its own, unless there are too many of them."""
        rooms: dict[str, int | None] = {door or "TLS": None}
        if not door:
            rooms[f"{address_of(sock)} without a role"] = GREETED
        elif door.startswith(OF_STEPS):
            rooms[gate_policy.STEPS] = None
        if full := self.room.enter(rooms):
            self.say(4, f"refused a connection ({door or 'TLS'}): {full} are open")
            sock.close()
            return
        held = list(rooms)
        thread = threading.Thread(target=self.serve, args=(sock, door, held), daemon=True)
        self.clients[thread] = None
        try:
            thread.start()
        except RuntimeError as error:
            self.clients.pop(thread, None)
            self.room.leave(held)
            sock.close()
            self.cannot(error)

    def serve(self, sock: socket.socket, door: str, held: list[str]) -> None:
        """One client, from its first byte to its last."""
        who = address_of(sock)
        try:
            with self.greeted(sock, door, held) as client:
                self.clients[threading.current_thread()] = client
                client.serve()
        except (Refused, ssl.SSLError) as error:
            self.say(4, f"refused {who}: {error}")
        except OSError as error:
            self.say(5, f"lost {who}: {error}")
        finally:
            sock.close()
            self.room.leave(held)
            self.clients.pop(threading.current_thread(), None)

    @contextlib.contextmanager
    def greeted(self, sock: socket.socket, door: str, held: list[str]) -> Iterator[Client]:
        """A client whose role is known. Raises Refused and OSError."""
        sock.settimeout(READING)
        if door.startswith(OF_STEPS):
            yield self.run_at(sock, door.removeprefix(OF_STEPS))
            return
        if door:
            pid, uid = gate_sockets.peer(sock)
            user = self.settings.user(uid)
            if not user:
                raise Refused(f"user number {uid} (process {pid}) at the socket of {door}")
            yield Client(self, sock, door, f"{user}, process {pid}")
            return
        who, context = address_of(sock), self.settings.tls()
        if context is None:
            raise Refused("a connection over TLS: the gate has no certificate that can be used")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(GREETING)
        with context.wrap_socket(sock, server_side=True) as secured:
            found = self.settings.role_of(secured.getpeercert(), secured.getpeercert(binary_form=True))
            rooms: dict[str, int | None] = {f"{found} over TLS": None, f"{found} over TLS by {who}": OF_HOST}
            if full := self.room.enter(rooms):
                raise Refused(f"a connection ({found}): {full} are open")
            greeting = held.pop()
            held += rooms
            self.room.leave([greeting])
            yield Client(self, secured, found, who)

    def run_at(self, sock: socket.socket, location: str) -> Client:
        """A client at the socket of a location. Who is no run there is told so, because its own log is read first."""
        pid, uid = gate_sockets.peer(sock)
        try:
            run = self.run_of(pid, uid, location)
        except Refused as error:
            return Client(self, sock, gate_policy.STEPS, f"process {pid} at the socket of {location}", error)
        return Client(self, sock, gate_policy.STEPS, f"run {run.id} of {location}, process {pid}", run)

    def label_of_steps(self) -> str:
        """The label of runs, where any of them may start steps."""
        return str(self.settings.given["label"]) if self.room.any(OF_STEPS) else ""

    def look_at(self, container: str, judge: Callable[[Mapping[str, Any]], Any]) -> Any:
        """What is said of a container that the engine shows. Raises Refused."""
        try:
            status, found = self.engine().ask("GET", f"/containers/{container}/json")
            if status != 200:
                raise Refused("a process of a container that the engine does not know")
            return judge(json.loads(found))
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Refused(f"a process of which the engine does not say whose it is: {error}") from error

    def run_of(self, pid: int, uid: int, location: str) -> gate_steps.Run:
        """The run in whose container a process is. Raises Refused."""
        try:
            with open(f"{self.proc}/{pid}/cgroup", encoding="utf-8") as stream:
                whole = gate_steps.container(stream.read())
        except OSError as error:
            raise Refused(f"a process whose container is not to be seen ({error.strerror})") from error
        rules = self.settings.rules()
        run: gate_steps.Run = self.look_at(whole, lambda found: gate_steps.asking(found, location, rules))
        wanted = self.settings.given["container_root"] + run.user
        if uid != wanted:
            raise Refused(f"user number {uid}; the user of the run is {wanted}")
        return run


def main(argv: list[str]) -> int:
    """Serves until SIGTERM, or says with --check what it could not use of its files."""
    if argv[1] == "--check":
        problems = list(Settings(argv[2]).problems())
        print("\n".join(problems), end="")
        return int(bool(problems))
    gate = Gate(Settings(argv[1]))
    signal.signal(signal.SIGTERM, lambda _number, _frame: gate.ending.set())
    try:
        gate.listen()
    except OSError as error:
        gate.say(3, f"cannot listen: {error}")
        return 1
    gate.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
