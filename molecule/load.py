"""Users of a deployment: clients that send GETs or POSTs, and open pages that hold a websocket.

Each request is counted and none is sent twice, because a client that tries again hides what a restart did to the first
try. `Load` runs in a thread of its own, while a test does something to the hosts.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import aiohttp

REQUEST_TIMEOUT = 30.0  # seconds until a request without an answer counts as failed
ANSWER_TIMEOUT = 5.0  # the same for a message on a websocket
PING = 0.25  # seconds between two messages of an open page
RECONNECT = 0.1  # seconds between two tries of a page to come back
# Seconds that a client rests after a failure. The kernel needs some ten milliseconds to close all sockets of a process
# that was killed, and a client that fails then must not meet the last of them again.
REST = 0.25
LONGEST = 900.0  # seconds after which a load ends by itself, whatever became of the test that started it
MOST = 50_000  # the same for its requests
# What every page of the UI subscribes to. It is silent as long as the code servers stay as they are.
SUBSCRIPTION = "subscription { locationStateChangeEvents { event { message } } }"


@dataclass(frozen=True)
class Ask:
    """A request that a client sends again and again."""

    kind: str
    path: str
    body: Mapping[str, Any] | None = None  # with a body it is a POST
    keep: bool = False  # whether the answers are of interest


GETS = (Ask("GET", "/server_info"), Ask("GET", "/graphql?query={version}"), Ask("GET", "/"))
POSTS = (Ask("POST", "/graphql", {"query": "{ version }"}),)


@dataclass(frozen=True)
class Failure:
    """A request that had anything but a 200.

    cut: the answer had begun. No proxy can ask another replica then.
    """

    kind: str
    client: int
    phase: str
    began: float
    ended: float
    error: str
    cut: bool = False


@dataclass(frozen=True)
class Outage:
    """How long a page was without an answer, from the last one before to the first one after."""

    client: int
    phase: str
    seconds: float
    back: bool = True


@dataclass
class Load:
    """Clients of one or more edges, from `with` to its end.

    clients: for each client what it asks, in turns.
    pages: how many websockets are held open.
    pause: seconds that a client waits between an answer and its next request.
    limit: requests after which the clients stop by themselves.
    longest: seconds after which they do.
    """

    urls: Sequence[str]
    clients: Sequence[Sequence[Ask]] = (GETS,) * 4 + (POSTS,) * 4
    pages: int = 0
    pause: float = 0.05
    limit: int = MOST
    longest: float = LONGEST

    phase: str = "start"
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)  # answered and failed, by phase and kind
    failures: list[Failure] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)  # to what was asked with keep
    open: set[int] = field(default_factory=set)  # pages whose last message was answered

    def __enter__(self) -> Load:
        self._ended = threading.Event()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._deadline = time.monotonic() + self.longest
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Lets each client have its last answer; nothing is cut off, so that the end fails no request."""
        self._stop.set()
        self._thread.join(REQUEST_TIMEOUT + 30)
        assert not self._thread.is_alive(), "the load does not end"
        if self._error:
            raise self._error

    def wait(self, requests: int, seconds: float) -> None:
        """Until so many requests were sent, all phases together."""
        end = time.monotonic() + seconds
        while self.requests < requests:
            assert time.monotonic() < end, f"{self.requests} of {requests} requests in {seconds} s: {self.summary()}"
            assert not self._ended.is_set(), f"the load ended at {self.requests} requests: {self._error!r}"
            time.sleep(0.1)

    @property
    def requests(self) -> int:
        return self.counts.total()

    def sent(self, phase: str, kind: str = "") -> int:
        """Requests that began in a phase."""
        return sum(
            number for (where, what), number in list(self.counts.items()) if where == phase and kind in ("", what)
        )

    def failed(self, kind: str = "", phase: str = "") -> list[Failure]:
        return [one for one in list(self.failures) if kind in ("", one.kind) and phase in ("", one.phase)]

    @property
    def longest_outage(self) -> float:
        return max((outage.seconds for outage in list(self.outages)), default=0.0)

    def summary(self) -> str:
        counted = ", ".join(f"{phase} {kind} {number}" for (phase, kind), number in sorted(self.counts.items()))
        failed = "\n".join(f"  {failure}" for failure in self.failures[:20])
        outages = "\n".join(f"  {outage}" for outage in self.outages[:20])
        return f"{counted}; {len(self.failures)} failed\n{failed}\noutages\n{outages}"

    # The thread's side. Its lists are only appended to and its counters only read from outside.

    @property
    def _done(self) -> bool:
        return self._stop.is_set() or time.monotonic() > self._deadline

    def _run(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseException as error:  # for the thread of the test
            self._error = error
        finally:
            self._ended.set()

    async def _all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number, asks in enumerate(self.clients):
                group.create_task(self._client(number, asks))
            for number in range(self.pages):
                group.create_task(self._page(number))

    def _session(self) -> aiohttp.ClientSession:
        """One client: its connection stays open. Proxies of the environment are none of the rig's."""
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT)
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1), timeout=timeout, trust_env=False)
        # aiohttp sends a GET again when a kept connection turns out to be closed. There is no public switch; the one it
        # has is what its own test client sets. tests/unit/molecule/test_load.py sees that it still works.
        session._retry_connection = False
        return session

    async def _client(self, number: int, asks: Sequence[Ask]) -> None:
        url = self.urls[number % len(self.urls)]
        async with self._session() as session:
            await asyncio.sleep(self.pause * number / len(self.clients))  # not all at the same moment
            for ask in itertools.cycle(asks):
                if self._done or self.requests >= self.limit:
                    return
                answered = await self._ask(session, url, number, ask)
                await asyncio.sleep(self.pause if answered else max(self.pause, REST))

    async def _ask(self, session: aiohttp.ClientSession, url: str, number: int, ask: Ask) -> bool:
        """Whether the answer was as it should be."""
        phase, began, error, answering = self.phase, time.monotonic(), "", False
        self.counts[phase, ask.kind] += 1
        try:
            method = "GET" if ask.body is None else "POST"
            async with session.request(method, url + ask.path, json=ask.body, allow_redirects=False) as response:
                answering = True
                text = await response.text()
                answering = False
                if response.status != 200:
                    error = f"{response.status} {text[:200]}"
                elif ask.keep:
                    self.answers.append(json.loads(text))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as problem:
            error = repr(problem)
        if error:
            self.failures.append(Failure(ask.kind, number, phase, began, time.monotonic(), error, answering))
        return not error

    async def _page(self, number: int) -> None:
        """A websocket that asks PING after PING; when it is lost, it comes back as soon as it can."""
        url = self.urls[number % len(self.urls)] + "/graphql"
        answered, lost, phase = time.monotonic(), False, self.phase
        async with self._session() as session:
            while not self._done:
                try:
                    # A frozen replica answers no goodbye either.
                    goodbye = aiohttp.ClientWSTimeout(ws_close=1)
                    async with session.ws_connect(url, protocols=["graphql-ws"], timeout=goodbye) as socket:
                        await _say(socket, "start", {"query": SUBSCRIPTION})
                        while not self._done:
                            await _ping(socket)
                            if lost:
                                self.outages.append(Outage(number, phase, time.monotonic() - answered))
                            answered, lost = time.monotonic(), False
                            self.open.add(number)
                            await asyncio.sleep(PING)
                except (aiohttp.ClientError, OSError, TimeoutError):
                    self.open.discard(number)
                    if not lost:
                        lost, phase = True, self.phase
                    await asyncio.sleep(RECONNECT)
        if lost:
            self.outages.append(Outage(number, phase, time.monotonic() - answered, back=False))


async def _say(socket: aiohttp.ClientWebSocketResponse, kind: str, payload: Mapping[str, Any]) -> None:
    await socket.send_json({"id": "1", "type": kind, "payload": payload})


async def _ping(socket: aiohttp.ClientWebSocketResponse) -> None:
    """One message and its answer. The webserver acknowledges each connection_init, not only the first."""
    async with asyncio.timeout(ANSWER_TIMEOUT):
        await _say(socket, "connection_init", {})
        while True:
            message = await socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise ConnectionError(f"the websocket was closed: {message.type.name} {message.data}")
            if message.json().get("type") == "connection_ack":
                return


# --- figures of the replicas ----------------------------------------------------------------------------------------


def deviation(before: Mapping[str, int], after: Mapping[str, int]) -> float:
    """How far the replica with the most unequal part of the requests is from an equal one, in percent of that."""
    parts = [after[name] - before[name] for name in after]
    assert sum(parts) > 0, "no replica had a request"
    return max(abs(part * len(parts) / sum(parts) - 1) for part in parts) * 100


def cpu_per_request(urls: Sequence[str], cpu: Callable[[], float], requests: int, idle_seconds: float = 5) -> float:
    """CPU seconds of all replicas for one request, less what they use while nobody asks."""
    before, since = cpu(), time.monotonic()
    time.sleep(idle_seconds)
    idle = (cpu() - before) / (time.monotonic() - since)
    before, since = cpu(), time.monotonic()
    with Load(urls, limit=requests) as load:
        load.wait(requests, LONGEST)
    used = cpu() - before - idle * (time.monotonic() - since)
    assert not load.failures, load.summary()
    return used / load.requests


def cost_of_replicas(
    urls: Sequence[str],
    cpu: Callable[[], float],
    only_one: Callable[[bool], None],
    requests: int = 2000,
    rounds: int = 5,
) -> dict[str, float]:
    """What a request costs in ms with all replicas and with one, by turns; medians, because a machine has neighbours.

    only_one: takes all replicas but one out of rotation (True) and brings them back (False).
    """
    costs: dict[bool, list[float]] = {False: [], True: []}
    try:
        for number in range(rounds):
            for alone in (False, True) if number % 2 else (True, False):
                only_one(alone)
                costs[alone].append(cpu_per_request(urls, cpu, requests))
    finally:
        only_one(False)
    every, one = statistics.median(costs[False]), statistics.median(costs[True])
    return {"all": every * 1000, "one": one * 1000, "ratio": every / one}
