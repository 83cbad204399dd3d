"""molecule/load.py against servers that drop connections, answer badly, or close websockets."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from aiohttp import web
from deployment import until
from load import GETS, POSTS, Ask, Load, cpu_per_request, deviation


class Stub:
    """A web server on loopback, in a thread of its own; counts what it was asked."""

    def __init__(self) -> None:
        self.seen = 0
        self.drop_every = 0  # each so manieth request is read, and its connection closed
        self.cut_every = 0  # each so manieth answer breaks off
        self.status = 200
        self.most_pings = 0  # messages that a websocket answers before it is closed
        self.tasks: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._up.wait(10)

    def _run(self) -> None:
        self._loop.run_until_complete(self._start())
        self._up.set()
        self._loop.run_forever()

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket" and self.status == 200:
            return await self._page(request)
        self.seen += 1
        await request.read()
        if self.drop_every and self.seen % self.drop_every == 0:
            assert request.transport is not None
            request.transport.abort()
        if self.cut_every and self.seen % self.cut_every == 0:
            return await self._begin(request)
        return web.json_response({"data": {"version": "1"}}, status=self.status)

    async def _begin(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "10"})
        await answer.prepare(request)
        await answer.write(b"begin")
        await asyncio.sleep(0.05)
        assert request.transport is not None
        request.transport.abort()
        return answer

    async def _page(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=["graphql-ws"])
        await socket.prepare(request)
        answered = 0
        async for message in socket:
            kind = message.json()["type"]
            if kind == "connection_init":
                await socket.send_json({"type": "ka"})  # not an answer
                await socket.send_json({"type": "connection_ack"})
                answered += 1
                if 0 < self.most_pings <= answered:
                    await socket.close(code=1012)
            else:
                self.tasks.append(kind)
        return socket


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()
    yield stub
    stub.stop()


def test_each_request_is_counted_and_sent_once(stub: Stub) -> None:
    with Load([stub.url], pause=0, limit=300) as load:
        load.wait(300, 30)
    assert load.requests == stub.seen == 300
    assert not load.failures
    assert load.sent("start", "GET") + load.sent("start", "POST") == 300


@pytest.mark.parametrize("asks", [GETS, POSTS])
def test_dropped_connection_is_a_failure_and_is_not_tried_again(stub: Stub, asks: tuple[Ask, ...]) -> None:
    stub.drop_every = 10
    with Load([stub.url], clients=[asks] * 2, pause=0, limit=200) as load:
        load.wait(200, 30)
    assert stub.seen == load.requests == 200, "a request was sent twice"
    assert len(load.failures) == 20, load.summary()
    assert all("Disconnected" in failure.error or "OSError" in failure.error for failure in load.failures)


def test_answer_that_breaks_off_is_told_from_none(stub: Stub) -> None:
    stub.drop_every, stub.cut_every = 10, 15
    with Load([stub.url], clients=[GETS] * 2, pause=0, limit=60) as load:
        load.wait(60, 30)
    assert [failure.cut for failure in load.failures].count(False) == 6, load.summary()
    assert [failure.cut for failure in load.failures].count(True) == 2, load.summary()


def test_other_status_is_a_failure_of_its_phase(stub: Stub) -> None:
    with Load([stub.url], clients=[GETS, POSTS], pause=0.01) as load:
        load.wait(10, 30)
        stub.status, load.phase = 503, "away"
        load.wait(load.requests + 10, 30)
        load.phase = "later"
    assert load.failed(phase="away")
    assert {failure.kind for failure in load.failures} == {"GET", "POST"}
    assert all(failure.error.startswith("503 ") and failure.ended >= failure.began for failure in load.failures)


def test_nobody_listens(stub: Stub) -> None:
    stub.stop()
    stub.stop = lambda: None  # type: ignore[method-assign] # it is stopped already
    with Load([stub.url], clients=[GETS], pages=1, pause=0.05) as load:
        load.wait(5, 30)
    assert len(load.failures) == load.requests
    assert [outage.back for outage in load.outages] == [False]


def test_answers_are_kept_on_demand(stub: Stub) -> None:
    ask = Ask("POST", "/graphql", {"query": "{ version }"}, keep=True)
    with Load([stub.url], clients=[[ask]], pause=0, limit=3) as load:
        load.wait(3, 30)
    assert load.answers == [{"data": {"version": "1"}}] * 3


def test_page_that_is_closed_comes_back(stub: Stub) -> None:
    stub.most_pings = 2
    with Load([stub.url], clients=[], pages=2) as load:
        wait(lambda: len(load.outages) >= 4)
        stub.most_pings = 0
        wait(lambda: len(load.open) == 2)
    assert all(outage.back and 0 < outage.seconds < 3 for outage in load.outages), load.summary()
    assert {outage.client for outage in load.outages} == {0, 1}
    assert set(stub.tasks) == {"start"}, "each page subscribes as the UI does"


def test_page_that_stays_open_has_no_outage(stub: Stub) -> None:
    with Load([stub.url], clients=[GETS], pages=2) as load:
        wait(lambda: len(load.open) == 2)
        load.wait(load.requests + 20, 30)
    assert load.outages == []
    assert load.longest_outage == 0


def test_deviation_is_that_of_the_most_unequal() -> None:
    assert deviation({"a": 100, "b": 0}, {"a": 200, "b": 100}) == 0
    assert deviation({"a": 0, "b": 0}, {"a": 60, "b": 40}) == pytest.approx(20)
    assert deviation({"a": 0, "b": 0}, {"a": 100, "b": 0}) == pytest.approx(100)


def test_cpu_of_a_request_is_without_the_idle_work(stub: Stub) -> None:
    """Something that uses a second of CPU in a second whether asked or not costs nothing."""
    assert cpu_per_request([stub.url], time.monotonic, 50, idle_seconds=0.2) == pytest.approx(0, abs=0.02)
    assert cpu_per_request([stub.url], lambda: stub.seen * 0.25, 50, idle_seconds=0.2) == pytest.approx(0.25)


def wait(check: Callable[[], bool]) -> None:
    until(check, 20, "the load is so far", every=0.05)
