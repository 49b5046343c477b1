"""What a request costs, counted: system calls, timers, changes of interest, objects that stay."""

from __future__ import annotations

import gc
import socket
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from tests.http.serving import counting_listener

from nimloop_core import Backend, Loop, WatcherTable
from nimloop_core.backends import create
from nimloop_http import HttpRequest, HttpResponse, HttpServer

REQUEST = b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n"
MOST_BLOCKS = 8  # 5 with the parts in C, 7 without


class CountingBackend:
    """The system's own backend, with a count of what is asked of it."""

    def __init__(self, real: Backend, calls: Counter[str]) -> None:
        self.name, self.edge, self.wake_fd = real.name, real.edge, real.wake_fd
        self._real = real
        self._calls = calls

    def add(self, fd: int, events: int, *, edge: bool) -> None:
        """Count, and pass on."""
        self._calls["add"] += 1
        self._real.add(fd, events, edge=edge)

    def modify(self, fd: int, events: int, *, edge: bool) -> None:
        """Count, and pass on."""
        self._calls["modify"] += 1
        self._real.modify(fd, events, edge=edge)

    def remove(self, fd: int) -> None:
        """Count, and pass on."""
        self._calls["remove"] += 1
        self._real.remove(fd)

    def wake(self) -> None:
        """Pass on."""
        self._real.wake()

    def poll(self, timeout_ns: int, table: WatcherTable) -> int:
        """Count, and pass on."""
        self._calls["poll"] += 1
        return self._real.poll(timeout_ns, table)

    def fileno(self) -> int:
        """Pass on."""
        return self._real.fileno()

    def close(self) -> None:
        """Pass on."""
        self._real.close()


@pytest.fixture
def calls() -> Counter[str]:
    """Count what accepted sockets and the backend are asked for."""
    return Counter()


@pytest.fixture
def loop(calls: Counter[str]) -> Iterator[Loop]:
    """Run on the best backend of the system, counted."""
    with Loop(CountingBackend(create(), calls)) as loop:
        yield loop


def hello(_req: HttpRequest, res: HttpResponse) -> None:
    """Answer."""
    res.send("Hello, World!")


@pytest.fixture
def client(loop: Loop, calls: Counter[str]) -> Iterator[socket.socket]:
    """Connect to a server, and have the first request answered: what a connection costs is not counted."""
    with HttpServer(loop, hello) as server:
        listener = counting_listener(lambda call, _size: calls.update([call]))
        server.adopt(listener)
        with socket.create_connection(listener.getsockname()) as client:
            ask(loop, client, REQUEST, 1)
            yield client


def ask(loop: Loop, client: socket.socket, data: bytes, answers: int) -> None:
    """Send requests, and turn the loop until they are answered."""
    client.setblocking(False)
    client.send(data)
    received = b""
    while received.count(b"Hello, World!") < answers:
        loop.run_once(5)
        try:
            received += client.recv(65536)
        except BlockingIOError:
            continue


def test_a_request_costs_one_receive_and_one_send(loop: Loop, client: socket.socket, calls: Counter[str]) -> None:
    """And its share of a wait: no second read, no change of interest, no timer."""
    calls.clear()
    fired, timers = loop.stats.timers_fired, loop.stats.timers
    for _ in range(100):
        ask(loop, client, REQUEST, 1)
    polls = calls.pop("poll")
    assert calls == {"recv": 100, "send": 100}
    assert polls < 300  # a wait may be early, before the kernel has delivered
    assert (loop.stats.timers_fired, loop.stats.timers) == (fired, timers)


def test_pipelined_answers_leave_together(loop: Loop, client: socket.socket, calls: Counter[str]) -> None:
    """Sixteen requests that come at once are one call in and one out."""
    calls.clear()
    for _ in range(10):
        ask(loop, client, REQUEST * 16, 16)
    assert (calls["recv"], calls["send"]) == (10, 10)
    assert not calls.keys() - {"recv", "send", "poll"}


@pytest.mark.skipif(not hasattr(sys, "getallocatedblocks"), reason="CPython counts its objects")
@pytest.mark.parametrize("data", [REQUEST, REQUEST * 16], ids=["one", "pipelined"])
def test_a_request_leaves_nothing_behind(
    loop: Loop, client: socket.socket, data: bytes, disabled_gc: Callable[[], int]
) -> None:
    """No cycle for the collector, and no object that stays."""
    count = len(data) // len(REQUEST)
    for _ in range(50):
        ask(loop, client, data, count)
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(200):
        ask(loop, client, data, count)
    assert disabled_gc() == 0
    assert sys.getallocatedblocks() - before < 100


@pytest.mark.skipif(not hasattr(sys, "getallocatedblocks"), reason="CPython counts its objects")
@pytest.mark.skipif(sys.gettrace() is not None, reason="a tracer takes memory, too")
def test_a_request_takes_few_blocks_of_memory(loop: Loop) -> None:
    """While it is handled: the bytes that came, the head and what was read of it, the request, the response."""
    during: list[int] = [0] * 100
    before = [0] * len(during)
    count = 0

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        nonlocal count
        assert req.path == "/hello"
        during[count] = sys.getallocatedblocks()
        res.send("Hello, World!")
        count += 1

    with HttpServer(loop, on_request) as server:
        server.listen("127.0.0.1", 0)
        address = server.addresses[0]
        assert isinstance(address, tuple)
        with socket.create_connection(address) as client:
            client.setblocking(False)
            while count < len(during):
                turn = count
                client.send(REQUEST)
                before[turn] = sys.getallocatedblocks()
                while count == turn:
                    loop.run_once(5)
    # The median, as a table that grows now and then, here or in the collector, is not the request's.
    assert statistics.median(now - then for now, then in zip(during, before, strict=True)) <= MOST_BLOCKS


@pytest.fixture
def disabled_gc() -> Iterator[Callable[[], int]]:
    """Switch the collector off; gives the function that says how many objects it would have had to break up."""
    gc.collect()
    gc.disable()
    yield gc.collect
    gc.enable()
