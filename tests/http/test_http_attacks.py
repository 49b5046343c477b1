"""What the open internet sends to a server: each attack has a right answer and a bounded cost.

Single connections of these kinds are tested beside what defends against them: garbage, early ends and cut packets in
`test_http_session`, TLS on a plain port in `test_http_proxy`, header injection in `test_http_response`, path tricks in
`test_http_static`, names of devices in `test_http_paths`, range bombs in `test_http_filebody`, multipart bombs in
`test_http_forms`, WSGI applications that misbehave in `test_http_wsgi`. Here many come at once.
"""

from __future__ import annotations

import gc
import os
import random
import socket
import tracemalloc

import pytest
from tests.http.serving import Client, Site, parse, request

from nimloop_http import HttpRequest, HttpResponse, Limits, Timeouts

pytest_plugins = ("tests.http.fixtures",)

CROWD = 150


def serve_still(site: Site) -> None:
    """Ask as an honest client, and get an answer before any time passes."""
    client = site.dial()
    client.send(request())
    assert client.answer().status == 200
    client.close()


def hello(_req: HttpRequest, res: HttpResponse) -> None:
    """Answer at once."""
    res.send("hello")


def statuses(site: Site, clients: list[Client], method: str = "GET") -> set[int]:
    """Wait for the ends of all of them; return what they were answered."""
    found = set()
    for client in clients:
        (answer,) = parse(client.read_all(), [method], ended=True)
        found.add(answer.status)
        client.close()
    site.until(lambda: not site.server._tcp.connections)
    return found


def test_attack_slow_heads(timed_site: Site) -> None:
    """Slowloris: a byte now and then keeps nobody longer than the deadline, and others are served meanwhile."""
    timed_site.start(hello, timeouts=Timeouts(head=10.0))
    crowd = [timed_site.dial() for _ in range(CROWD)]
    text = request("GET", "/", *[f"X-{number}: {number}" for number in range(50)])
    for second in range(9):
        for client in crowd:
            client.sock.send(text[second : second + 1])
        timed_site.pass_time(1.0, 0.1)
        serve_still(timed_site)
    assert not any(client.poll() for client in crowd)
    timed_site.pass_time(1.8, 0.1)
    assert statuses(timed_site, crowd) == {408}


@pytest.mark.parametrize("coding", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
def test_attack_slow_bodies(timed_site: Site, coding: str) -> None:
    """R.U.D.Y.: the same for bodies, however they are framed."""
    timed_site.start(hello, timeouts=Timeouts(body=10.0))
    crowd = [timed_site.dial() for _ in range(CROWD)]
    for client in crowd:
        client.send(request("POST", "/", coding))
    for _ in range(9):
        for client in crowd:
            client.sock.send(b"a" if "Length" in coding else b"1\r\na\r\n")
        timed_site.pass_time(1.0, 0.1)
        serve_still(timed_site)
    assert not any(client.poll() for client in crowd)
    timed_site.pass_time(1.8, 0.1)
    assert statuses(timed_site, crowd, "POST") == {408}


def test_attack_slow_readers(timed_site: Site) -> None:
    """Who takes nothing of the answers is asked for no more, costs a bounded amount, and is cut off."""
    handled = 0
    body = bytes(1 << 16)

    def on_request(_req: HttpRequest, res: HttpResponse) -> None:
        nonlocal handled
        handled += 1
        res.connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        res.send(body)

    timed_site.start(on_request, timeouts=Timeouts(write=10.0))
    crowd = [timed_site.dial(receive_buffer=4096) for _ in range(20)]
    for client in crowd:
        client.sock.send(request() * 500)
    timed_site.settle(100)
    assert handled <= 20 * 5  # the first answers fill the kernel, one more the queue
    queued = sum(connection.write_buffer_size for connection in timed_site.server._tcp.connections)
    assert queued <= 20 * 3 * len(body)
    timed_site.pass_time(25.0, 0.1)
    timed_site.until(lambda: not timed_site.server._tcp.connections)
    assert handled <= 20 * 5
    for client in crowd:
        client.close()


def test_attack_idle_connections(timed_site: Site) -> None:
    """Thousands of them cost a few kilobytes each, and not for long."""
    count = 1000
    server = timed_site.start(hello, timeouts=Timeouts(head=10.0, idle=5.0))
    pairs = [socket.socketpair() for _ in range(count)]
    timed_site.settle()
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for here, _ in pairs:
        server.inject(here)
    for _, there in pairs:
        there.send(request())
    timed_site.settle(30)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert server.stats.responses == count
    assert (after - before) / count < 4096
    timed_site.pass_time(5.2, 0.1)
    timed_site.pass_time(0.6, 0.1)
    for _, there in pairs:
        there.close()
    timed_site.until(lambda: not server._tcp.connections)


OVERSIZED = {
    "target": (b"GET /" + b"a" * (1 << 20), 414),
    "method": (b"A" * (1 << 20), 414),
    "spaces": (b" " * (1 << 20), 400),
    "field": (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (1 << 20), 431),
    "name": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a" * (1 << 20), 431),
    "fields": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * (1 << 18), 431),
    "length": (request("POST", "/", "Content-Length: " + "9" * 18), 413),
    "digits": (request("POST", "/", "Content-Length: " + "9" * 1000), 413),
    "body": (request("POST", "/", "Content-Length: 20000000") + bytes(1 << 20), 413),
    "chunk": (request("POST", "/", "Transfer-Encoding: chunked") + b"fffffffffffffff\r\n" + bytes(32 << 20), 413),
    "chunk size": (request("POST", "/", "Transfer-Encoding: chunked") + b"f" * (1 << 20), 400),
    "extension": (request("POST", "/", "Transfer-Encoding: chunked") + b"1;" + b"a" * (1 << 20), 400),
    "trailers": (request("POST", "/", "Transfer-Encoding: chunked") + b"0\r\nX: " + b"a" * (1 << 20), 431),
}


@pytest.mark.parametrize("name", OVERSIZED)
def test_attack_oversized(site: Site, name: str) -> None:
    """Refused as soon as it is too much, however much more is sent; the client can read why."""
    data, status = OVERSIZED[name]
    site.start(hello)
    client = site.dial()
    left = memoryview(data)

    def refused() -> bool:
        nonlocal left
        if left:
            try:
                left = left[client.sock.send(left[: 1 << 18]) :]
            except BlockingIOError:
                pass
            except ConnectionError:
                left = left[:0]
        client.poll()
        return b"\r\n\r\n" in client.received

    site.until(refused)
    assert client.received.startswith(b"HTTP/1.1 %d " % status)
    client.close()
    site.until(lambda: not site.server._tcp.connections)


def test_attack_pipelining_flood(timed_site: Site) -> None:
    """Requests without end, answers that take their time: few are open, the rest waits in the kernel."""
    kept: list[HttpResponse] = []
    timed_site.start(lambda _req, res: kept.append(res), limits=Limits(pipeline=8))
    crowd = [timed_site.dial() for _ in range(10)]
    flood = request() * 20_000
    for client in crowd:
        client.sock.send(flood)
    timed_site.settle(50)
    assert len(kept) == 80
    waiting = [len(session._parser._data) for session in timed_site.sessions]
    assert max(waiting) <= 1 << 18
    for _ in range(5):
        answered, kept[:] = list(kept), []
        for res in answered:
            res.send()
        timed_site.settle(10)
        assert len(kept) == 80
    for client in crowd:
        client.close()
    timed_site.server.close()


def test_attack_connections_that_come_and_go(site: Site) -> None:
    """A thousand that end anywhere, well or badly: nothing is left, and the server answers the next one."""
    chance = random.Random(9)

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        if req.path == "/late":
            res.on_close = site.loop.call_later(0.01, res.send).cancel
        else:
            res.send(req.body)

    site.start(on_request)
    text = request("POST", "/", body=b"abc") + request("GET", "/late") + os.urandom(20)
    for _ in range(1000):
        client = site.dial()
        client.sock.send(text[: chance.randrange(len(text))])
        if chance.random() < 0.5:
            site.loop.run_once(0)
        if chance.random() < 0.3:
            client.half_close()
        client.close()
    client = site.dial()
    client.send(request())
    client.answer()
    site.until(lambda: len(site.server._tcp.connections) == 1)


def test_attack_a_handler_that_never_answers(timed_site: Site) -> None:
    """The client is answered in its place, and the connection serves on."""
    timed_site.start(lambda req, res: res.send() if req.path == "/fine" else None, timeouts=Timeouts(answer=30.0))
    client = timed_site.dial()
    client.send(request("GET", "/never") + request("GET", "/fine"))
    timed_site.settle()
    timed_site.pass_time(30.5, 0.1)
    assert [answer.status for answer in client.answers("GET", "GET")] == [503, 200]
    assert isinstance(timed_site.errors.pop(), TimeoutError)
