"""One connection: answers in order, nothing after the last one, deadlines that are kept, and nothing left behind."""

from __future__ import annotations

import gc
import logging
import os
import random
import socket
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.http.serving import Answer, Client, OnRequest, Site, counting_listener, parse, request
from tests.support.descriptors import file_with

from nimloop_core.testing import FakeClock
from nimloop_http import HttpRequest, HttpResponse, Limits, ResponseStream, Timeouts
from nimloop_http._scan_py import MOST_PIECES
from nimloop_http._session import _PER_TURN
from nimloop_http.errors import BodyTooLargeError, ResponseSentError, StaleResponseError

pytest_plugins = ("tests.http.fixtures",)


def echo(req: HttpRequest, res: HttpResponse) -> None:
    """Answer with the path and the size of the body."""
    res.send(f"{req.target} {len(req.body)}")


def many(count: int, first: int = 0) -> bytes:
    """Spell requests for /0, /1 and so on."""
    return b"".join(request("GET", f"/{number}") for number in range(first, first + count))


def bodies(answers: list[Answer]) -> list[str]:
    """Return the bodies as text."""
    return [answer.body.decode() for answer in answers]


# Order ---------------------------------------------------------------------------------------------------------------


def test_keep_alive_serves_one_request_after_another(site: Site) -> None:
    """One connection carries them all, with bodies or without."""
    site.start(echo)
    client = site.dial()
    for number in range(5):
        client.send(request("POST", f"/{number}", body=b"x" * number))
        answer = client.answer()
        assert (answer.body, answer.get("connection")) == (f"/{number} {number}".encode(), None)


def test_h5_an_answer_may_come_later(site: Site) -> None:
    """From a timer, long after the handler has returned."""
    site.start(lambda req, res: site.loop.call_later(0.02, lambda: echo(req, res)))
    client = site.dial()
    for number in range(3):
        client.send(request("GET", f"/{number}"))
        assert client.answer().body == f"/{number} 0".encode()


def test_answers_leave_in_the_order_of_the_requests(site: Site) -> None:
    """The last is given first, and waits."""
    kept: list[tuple[HttpRequest, HttpResponse]] = []
    site.start(lambda req, res: kept.append((req, res)))
    client = site.dial()
    client.send(many(5))
    site.until(lambda: len(kept) == 5)
    for req, res in reversed(kept[1:]):
        echo(req, res)
        site.settle()
        client.poll()
        assert not client.received
    echo(*kept[0])
    assert bodies(client.answers(*["GET"] * 5)) == [f"/{number} 0" for number in range(5)]


Plan = tuple[str, int, int]  # way of answering, size of the body, when


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    plans=st.lists(
        st.tuples(
            st.sampled_from(["whole", "stream", "sized", "file", "late stream"]),
            st.sampled_from([0, 1, 10, 1000, 70_000, 140_000]),
            st.integers(-1, 8),
        ),
        min_size=1,
        max_size=12,
    ),
    pipeline=st.sampled_from([1, 2, 5, 32]),
    cut=st.integers(1, 2000),
)
def test_h7_any_order_of_answers_gives_the_same_bytes(plans: list[Plan], pipeline: int, cut: int) -> None:
    """Whole, streamed and file answers, given in any order over tiny socket buffers, arrive in order and exactly."""
    content = random.Random(7).randbytes(150_000)

    with Site(clock=FakeClock()) as site:

        def write_all(stream: ResponseStream, data: bytes) -> None:
            """Write in pieces, with respect for back-pressure."""
            position = 0

            def on_drain() -> None:
                nonlocal position
                while position < len(data):
                    piece = data[position : position + 30_000]
                    position += len(piece)
                    if not stream.write(piece):
                        return
                stream.end()

            stream.on_drain = on_drain
            on_drain()

        def give(res: HttpResponse, way: str, data: bytes) -> None:
            match way:
                case "whole":
                    res.send(data)
                case "file":
                    res.send_file(file_with(data), 0, len(data))
                case "sized":
                    write_all(res.stream(length=len(data)), data)
                case _:
                    write_all(res.stream(), data)

        def on_request(req: HttpRequest, res: HttpResponse) -> None:
            res.connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            number = int(req.path[1:])
            way, size, when = plans[number]
            data = content[number : number + size]
            if when < 0:
                give(res, way, data)
            elif way == "late stream":
                stream = res.stream()
                site.loop.call_later(when / 1000, lambda: write_all(stream, data))
            else:
                site.loop.call_later(when / 1000, lambda: give(res, way, data))

        site.start(on_request, limits=Limits(pipeline=pipeline))
        client = site.dial(receive_buffer=4096)
        asked = b"".join(
            request("GET", f"/{number}", *(["Connection: close"] if number == len(plans) - 1 else []))
            for number in range(len(plans))
        )
        left = memoryview(asked)

        def over() -> bool:
            nonlocal left
            if left:
                left = left[client.sock.send(left[:cut]) :]
            assert site.clock is not None
            site.clock.advance(0.0005)
            return client.poll(16384)

        site.until(over)
        assert not client.reset
        answers = parse(bytes(client.received), ["GET"] * len(plans), ended=True)
        assert [len(answer.body) for answer in answers] == [size for _, size, _ in plans]
        for number, answer in enumerate(answers):
            assert answer.body == content[number : number + len(answer.body)]
            assert answer.complete


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("count", [1, 31, 32, 33, 64, 65, 300])
def test_h6_more_requests_than_the_pipeline_are_all_answered(site: Site, count: int, *, late: bool) -> None:
    """What exceeds the limit, or one turn, waits and loses nothing."""
    most = 0
    waiting = 0

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        nonlocal most, waiting
        waiting += 1
        most = max(most, waiting)

        def answer() -> None:
            nonlocal waiting
            waiting -= 1
            echo(req, res)

        if late:
            site.loop.call_later(0.001, answer)
        else:
            answer()

    site.start(on_request)
    client = site.dial()
    client.send(many(count))
    assert bodies(client.answers(*["GET"] * count)) == [f"/{number} 0" for number in range(count)]
    assert most == (min(count, 32) if late else 1)


@pytest.mark.parametrize("pipeline", [1, 2, 7])
def test_the_pipeline_limit_bounds_what_is_open(site: Site, pipeline: int) -> None:
    """No more than so many wait for their answers; each answer makes room for the next request."""
    kept: list[tuple[HttpRequest, HttpResponse]] = []
    site.start(lambda req, res: kept.append((req, res)), limits=Limits(pipeline=pipeline))
    client = site.dial()
    client.send(many(20))
    for number in range(20):
        site.settle()
        assert len(kept) == min(20, number + pipeline)
        echo(*kept[number])
    assert bodies(client.answers(*["GET"] * 20)) == [f"/{number} 0" for number in range(20)]


def test_a_client_that_does_not_read_is_not_asked_for_more(site: Site) -> None:
    """Its requests wait in the kernel until it takes its answers, and then none is missing."""
    handled = 0

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        nonlocal handled
        handled += 1
        res.connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        res.send(req.path.encode() * 10_000)

    site.start(on_request)
    client = site.dial(receive_buffer=1 << 16)
    client.send(many(200))
    site.settle(50)
    before = handled
    assert before < 60
    site.settle(50)
    assert handled == before
    answers = client.answers(*["GET"] * 200)
    assert [len(answer.body) for answer in answers] == [len(f"/{number}") * 10_000 for number in range(200)]
    assert handled == 200


def test_a_flood_is_served_in_turns(site: Site) -> None:
    """A connection with thousands of requests at hand gets one quota of them, then the others are served."""
    log: list[str] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        log.append(req.path[1])
        res.send()

    site.start(on_request)
    flood, other = site.dial(), site.dial()
    site.settle()
    flood.sock.send(request("GET", "/f") * 600)
    for _ in range(4):
        other.sock.send(request("GET", "/o"))
        before = len(log)
        site.until(lambda start=before: "o" in log[start:])  # type: ignore[misc]
        assert log[before:].count("f") <= 2 * _PER_TURN
    flood.answers(*["GET"] * 600)


def test_a_late_answer_does_not_lengthen_a_turn(site: Site) -> None:
    """While a connection waits for its next turn, an answer given meanwhile does not start one."""
    kept: list[HttpResponse] = []
    handled = 0

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        nonlocal handled
        handled += 1
        if handled == 1:
            kept.append(res)
        else:
            res.send()

    site.start(on_request, limits=Limits(pipeline=1000))
    client = site.dial()
    site.settle()
    client.sock.send(many(600))
    site.until(lambda: handled)
    assert handled == _PER_TURN
    kept[0].send()
    assert handled == _PER_TURN
    site.loop.run_once(0)
    assert handled <= 2 * _PER_TURN
    client.answers(*["GET"] * 600)


def test_a_body_in_crumbs_is_read_in_turns(timed_site: Site) -> None:
    """A few bytes per chunk cost most; they get no longer turns than requests, and no more time than other bodies."""
    timed_site.start(echo, timeouts=Timeouts(body=5.0), limits=Limits(pipeline=1, body_rate=1 << 30))
    client = timed_site.dial()
    client.send(CHUNKED)
    timed_site.settle()
    (body,) = [session._receiving for session in timed_site.sessions]
    assert body is not None
    crumbs = 2 * _PER_TURN * MOST_PIECES
    for seconds in (2.0, 2.9):
        client.sock.sendall(b"1\r\nx\r\n" * crumbs)
        before = read = len(body._data)
        while read < before + crumbs:
            timed_site.loop.run_once(0)
            assert len(body._data) - read <= (_PER_TURN + 1) * MOST_PIECES
            read = len(body._data)
        timed_site.pass_time(seconds, 0.01)
    assert not client.poll()
    timed_site.pass_time(0.12, 0.01)
    assert client.poll()
    assert client.received.startswith(b"HTTP/1.1 408")


def test_one_packet_of_requests_is_answered_by_one_send(site: Site) -> None:
    """Answers that are ready together leave together: one system call, be they sixty."""
    sends: list[int] = []
    listener = counting_listener(lambda call, size: sends.append(size) if call == "send" else None)
    site.start(echo).adopt(listener)
    client = site.dial(listener.getsockname())
    site.settle()
    for count in (1, 2, 60):
        client.sock.send(many(count))
        client.answers(*["GET"] * count)
        assert sends == [len(client.received)]
        client.received.clear()
        sends.clear()


# The last answer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["close", "stream", "field", "old"])
def test_h8_nothing_is_handled_after_the_last_answer(site: Site, way: str) -> None:
    """However the end was asked for, what was pipelined behind it is not handed to the handler."""
    seen: list[str] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        seen.append(req.path)
        if way == "close":
            res.close_connection().send("last")
        elif way == "stream":
            res.close_connection().stream().end()
        else:
            res.send("last")

    site.start(on_request)
    first = {
        "field": request("GET", "/1", "Connection: close"),
        "old": b"GET /1 HTTP/1.0\r\n\r\n",
    }.get(way, request("GET", "/1"))
    client = site.dial()
    client.send(first + request("POST", "/2", body=b"x") + request("GET", "/3"))
    (answer,) = parse(client.read_all(), ["GET"], ended=True)
    assert answer.get("connection") == "close"
    client.close()
    site.settle()
    assert seen == ["/1"]


def test_h8_a_last_answer_that_has_to_wait_stops_the_others_at_once(site: Site) -> None:
    """It is given out of turn; from then on nothing is handled, and what was handled after it is lost."""
    kept: dict[str, HttpResponse] = {}
    lost: list[str] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        kept[req.path] = res
        res.on_close = lambda: lost.append(req.path)

    site.start(on_request)
    client = site.dial()
    client.send(many(3) + b"POST /3 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
    site.until(lambda: len(kept) == 3)
    kept["/1"].close_connection().send("last")
    assert kept["/2"].closed
    with pytest.raises(StaleResponseError):
        kept["/2"].send()
    client.send(b"cd" + many(2, 4))
    site.settle()
    assert lost == ["/2"]
    assert len(kept) == 3
    kept["/0"].send("first")
    data = client.read_all()
    answers = parse(data, ["GET", "GET"], ended=True)
    assert bodies(answers) == ["first", "last"]
    assert [answer.get("connection") for answer in answers] == [None, "close"]
    assert len(kept) == 3


def test_h8_an_old_client_s_stream_is_the_last_answer(site: Site) -> None:
    """The body ends with the connection, so nothing after it can be answered, and nothing is handled."""
    kept: list[HttpResponse] = []
    site.start(lambda _req, res: kept.append(res))
    client = site.dial()
    client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2)
    site.until(lambda: len(kept) == 2)
    stream = kept[0].stream()
    assert kept[1].closed
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    site.settle()
    stream.write("all")
    stream.end()
    assert client.read_all().endswith(b"\r\n\r\nall")
    assert len(kept) == 2


def test_h8_nothing_is_handled_after_an_answer_was_cut(site: Site) -> None:
    """A handler that fails in the middle of a stream ends the connection, and the requests behind it."""
    seen: list[str] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        seen.append(req.path)
        res.stream().write("half")
        raise ZeroDivisionError

    site.start(on_request)
    client = site.dial()
    client.send(many(3))
    with pytest.raises(ConnectionResetError):
        client.read_all()
    assert seen == ["/0"]
    assert isinstance(site.errors.pop(), ZeroDivisionError)


def test_the_last_of_several_answers_says_that_it_is(site: Site) -> None:
    """Only the answer to the request that asked for the end carries Connection: close."""
    kept: list[HttpResponse] = []
    site.start(lambda _req, res: kept.append(res))
    client = site.dial()
    client.send(many(2) + request("GET", "/", "Connection: close"))
    site.until(lambda: len(kept) == 3)
    for res in kept:
        res.send()
    answers = parse(client.read_all(), ["GET"] * 3, ended=True)
    assert [answer.get("connection") for answer in answers] == [None, None, "close"]


# Failing handlers ----------------------------------------------------------------------------------------------------


def test_h4_a_handler_that_raises_gives_500(site: Site) -> None:
    """What it had prepared is forgotten, the exception is reported, and connection and server live on."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        res.status(201).header("X-Secret", "1").header("Content-Type", "text/x")
        if req.path == "/bad":
            raise ZeroDivisionError("do not tell")
        res.send("fine")

    site.start(on_request)
    client = site.dial()
    client.send(request("GET", "/bad") + request("GET", "/good"))
    bad, good = client.answers("GET", "GET")
    assert (bad.status, bad.body, bad.get("x-secret")) == (500, b"500 Internal Server Error\n", None)
    assert bad.get("content-type") == "text/plain; charset=utf-8"
    assert (good.status, good.body) == (201, b"fine")
    assert isinstance(site.errors.pop(), ZeroDivisionError)


def test_a_handler_that_raises_out_of_turn_gives_500_in_turn(site: Site) -> None:
    """The 500 waits for the answers before it."""
    kept: list[HttpResponse] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        if req.path == "/1":
            raise ZeroDivisionError
        kept.append(res)

    site.start(on_request)
    client = site.dial()
    client.send(many(3))
    site.until(lambda: len(kept) == 2)
    kept[1].send("2")
    kept[0].send("0")
    assert [answer.status for answer in client.answers(*["GET"] * 3)] == [200, 500, 200]
    assert isinstance(site.errors.pop(), ZeroDivisionError)


def test_a_handler_that_raises_after_the_answer_changes_nothing(site: Site) -> None:
    """The answer is out; the exception is only reported, and not even that where it stands for an answer."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        res.send("done")
        raise ZeroDivisionError if req.path == "/0" else BodyTooLargeError

    site.start(on_request)
    client = site.dial()
    client.send(many(2))
    assert bodies(client.answers("GET", "GET")) == ["done", "done"]
    assert [type(error) for error in site.errors] == [ZeroDivisionError]
    site.errors.clear()


def test_a_handler_that_raises_after_it_has_cut_itself_off_is_only_reported(site: Site) -> None:
    """There is nobody left to get a 500."""
    kept: list[HttpResponse] = []

    def on_request(_req: HttpRequest, res: HttpResponse) -> None:
        kept.append(res)
        if len(kept) == 2:
            kept[0].close_connection().send("last")
            res.send("too late")

    site.start(on_request)
    client = site.dial()
    client.send(many(2))
    assert bodies(parse(client.read_all(), ["GET"], ended=True)) == ["last"]
    assert isinstance(site.errors.pop(), StaleResponseError)


def test_a_stream_that_fails_behind_the_last_answer_does_not_cut_it(site: Site) -> None:
    """What was lost with the end of the connection cannot harm what comes before."""
    kept: list[HttpResponse] = []

    def on_request(_req: HttpRequest, res: HttpResponse) -> None:
        kept.append(res)
        if len(kept) == 2:
            stream = res.stream()
            kept[0].close_connection().send(bytes(1 << 20))
            stream.write("too late")

    site.start(on_request)
    client = site.dial()
    client.send(many(2))
    (answer,) = parse(client.read_all(), ["GET"], ended=True)
    assert (len(answer.body), answer.complete) == (1 << 20, True)
    assert isinstance(site.errors.pop(), StaleResponseError)


def test_an_interrupt_passes_through(site: Site) -> None:
    """Ctrl+C in a handler ends the run, not the server: run again and it goes on."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        if req.path == "/0":
            raise KeyboardInterrupt
        res.send(req.path)

    site.start(on_request)
    interrupted, other = site.dial(), site.dial()
    interrupted.send(many(1))
    with pytest.raises(KeyboardInterrupt):
        site.until(lambda: False)
    other.send(many(1, 1))
    assert other.answer().body == b"/1"
    interrupted.abort()
    site.settle()


# Clients that go away ------------------------------------------------------------------------------------------------


def test_an_answer_for_nobody_raises(site: Site) -> None:
    """`on_close` comes once, and every way to answer raises from then on."""
    told: list[str] = []
    kept: list[HttpResponse] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        res.on_close = lambda: told.append(req.path)
        kept.append(res)

    site.start(on_request)
    client = site.dial()
    client.send(many(3))
    site.until(lambda: len(kept) == 3)
    client.abort()
    site.until(lambda: told)
    site.settle()
    assert told == ["/0", "/1", "/2"]
    for res in kept:
        assert res.closed
        with pytest.raises(StaleResponseError):
            res.send()


def test_on_close_is_in_time_to_cancel_the_answer(timed_site: Site) -> None:
    """A timer that would answer, due in the very iteration in which the client goes away, is cancelled before."""
    kept: list[HttpResponse] = []

    def on_request(_req: HttpRequest, res: HttpResponse) -> None:
        res.on_close = timed_site.loop.call_later(1.0, res.send).cancel
        kept.append(res)

    timed_site.start(on_request)
    client = timed_site.dial()
    client.send(many(1))
    timed_site.until(lambda: kept)
    kept[0].connection.abort()
    assert timed_site.clock is not None
    timed_site.clock.advance(2.0)
    timed_site.settle()
    assert kept[0].closed
    assert timed_site.errors == []


def test_an_on_close_that_raises_harms_nobody(site: Site) -> None:
    """The exception is reported, and the others are told all the same."""
    told: list[str] = []

    def on_request(_req: HttpRequest, res: HttpResponse) -> None:
        def fail() -> None:
            told.append("one")
            raise ZeroDivisionError

        res.on_close = fail
        stream = res.stream()
        stream.on_close = lambda: told.append("stream")

    site.start(on_request)
    client = site.dial()
    client.send(many(2))
    site.settle()
    client.abort()
    site.until(lambda: len(told) == 4)
    assert told == ["one", "stream"] * 2
    assert [type(error) for error in site.errors] == [ZeroDivisionError] * 2
    site.errors.clear()


def test_an_answer_in_the_moment_of_the_end_is_lost_quietly(site: Site) -> None:
    """The connection has been closed but nobody was told yet: nothing raises, and nothing more is handled."""
    seen: list[str] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        seen.append(req.path)
        res.connection.close()
        res.send("x")

    site.start(on_request)
    client = site.dial()
    client.send(many(5))
    assert client.read_all() == b""
    assert seen == ["/0"]


def test_a_body_that_never_comes_leaves_no_request(site: Site) -> None:
    """A client that vanishes in the middle of its body was never there."""
    seen: list[str] = []
    site.start(lambda req, res: seen.append(req.path))
    for end in (Client.abort, Client.close, Client.half_close):
        client = site.dial()
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
        site.settle()
        end(client)
        site.until(lambda: not site.sessions)
    assert seen == []


def test_files_that_wait_are_closed_with_the_client(site: Site) -> None:
    """An answer from a file that never got its turn gives the descriptor back."""
    kept: list[HttpResponse] = []
    site.start(lambda _req, res: kept.append(res))
    client = site.dial()
    client.send(many(3))
    site.until(lambda: len(kept) == 3)
    fd = file_with(b"hello")
    kept[1].send_file(fd, 0, 5)
    kept[2].send("text")
    client.abort()
    site.until(lambda: kept[0].closed)
    with pytest.raises(OSError):
        os.fstat(fd)


def test_a_half_closed_client_still_gets_everything(site: Site) -> None:
    """It sends no more, and reads on: answers at once, late ones and pipelined ones all arrive, then the end."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        if req.path == "/1":
            site.loop.call_later(0.02, lambda: res.send("late"))
        elif req.path == "/2":
            stream = res.stream()
            stream.write("st")
            site.loop.call_later(0.03, lambda: stream.write("ream"))
            site.loop.call_later(0.04, stream.end)
        else:
            res.send(req.path)

    site.start(on_request)
    answers = site.ask(many(4), *["GET"] * 4)
    assert bodies(answers) == ["/0", "late", "stream", "/3"]


def test_a_half_closed_client_is_told_which_answer_is_the_last(site: Site) -> None:
    """When its end is known before the answer is given, the answer says so."""
    kept: list[HttpResponse] = []
    site.start(lambda _req, res: kept.append(res))
    client = site.dial()
    client.send(many(2))
    client.half_close()
    site.until(lambda: len(kept) == 2)
    site.settle()
    for res in kept:
        res.send()
    answers = parse(client.read_all(), ["GET", "GET"], ended=True)
    assert [answer.get("connection") for answer in answers] == [None, "close"]


@pytest.mark.parametrize("rest", [b"GET / HT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab"])
def test_half_a_request_and_the_end_are_dropped(site: Site, rest: bytes) -> None:
    """The complete requests before it are answered, and the rest is not waited for."""
    kept: list[HttpResponse] = []
    site.start(lambda _req, res: kept.append(res))
    client = site.dial()
    client.send(many(1) + rest)
    client.half_close()
    site.until(lambda: kept)
    site.settle()
    kept[0].send("x")
    assert bodies(parse(client.read_all(), ["GET"], ended=True)) == ["x"]
    assert len(kept) == 1


def test_half_a_request_alone_is_closed_without_a_word(site: Site) -> None:
    """There is nobody who would read an answer to it."""
    site.start(echo)
    for data in (b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab"):
        assert site.ask(data) == []


# 100-continue --------------------------------------------------------------------------------------------------------

EXPECT = request("POST", "/", "Expect: 100-continue", "Content-Length: 5")


def test_continue_comes_before_the_body_is_sent(site: Site) -> None:
    """The client waits for it, and gets it at once."""
    site.start(echo)
    client = site.dial()
    client.send(EXPECT)
    site.until(lambda: client.poll() or client.received)
    assert client.received == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"hello")
    answer = client.answer("POST")
    assert (answer.interim, answer.status, answer.body) == ([100], 200, b"/ 5")


def test_continue_waits_for_the_answers_before_it(site: Site) -> None:
    """An interim response belongs to its request like the final one."""
    kept: list[tuple[HttpRequest, HttpResponse]] = []
    site.start(lambda req, res: kept.append((req, res)))
    client = site.dial()
    client.send(many(1) + EXPECT)
    site.until(lambda: kept)
    site.settle()
    client.poll()
    assert not client.received
    echo(*kept[0])
    site.until(lambda: client.poll() or client.received.endswith(b"100 Continue\r\n\r\n"))
    client.send(b"hello")
    site.until(lambda: len(kept) == 2)
    echo(*kept[1])
    first, second = client.answers("GET", "POST")
    assert (first.interim, first.body, second.interim, second.body) == ([], b"/0 0", [100], b"/ 5")


def test_continue_is_for_those_who_can_understand_it(site: Site) -> None:
    """HTTP/1.0 clients get none, nor does a request without a body, nor one that is refused."""
    site.start(echo, limits=Limits(body=10))
    old = b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab"
    assert site.ask(old, "POST")[0].interim == []
    assert site.ask(request("GET", "/", "Expect: 100-continue"))[0].interim == []
    (answer,) = site.ask(request("POST", "/", "Expect: 100-continue", "Content-Length: 11"), "POST")
    assert (answer.status, answer.interim) == (413, [])
    (answer,) = site.ask(request("POST", "/", "Expect: a-miracle", "Content-Length: 1"), "POST")
    assert (answer.status, answer.interim) == (417, [])


# Protocol errors -----------------------------------------------------------------------------------------------------

LIMITS = Limits(request_line=100, header_bytes=200, headers=5, body=100, chunk_line=20, trailer_bytes=50)
CHUNKED = request("POST", "/", "Transfer-Encoding: chunked")
BAD = {
    "garbage": (b"\x16\x03\x01\x02\x00\x01", 400),
    "no request line": (b"GET\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "space before colon": (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    "lengths differ": (request("POST", "/", "Content-Length: 1", "Content-Length: 2"), 400),
    "length and coding": (request("POST", "/", "Content-Length: 1", "Transfer-Encoding: chunked"), 400),
    "bad chunk": (CHUNKED + b"zz\r\n", 400),
    "bad chunk end": (CHUNKED + b"1\r\nabc", 400),
    "chunk line": (CHUNKED + b"1;" + b"x" * 30, 400),
    "trailers too large": (CHUNKED + b"0\r\nX: " + b"y" * 60, 431),
    "request line": (b"GET /" + b"a" * 110, 414),
    "header bytes": (request("GET", "/", "X: " + "y" * 230), 431),
    "headers": (request("GET", "/", *["X: y"] * 6), 431),
    "coding": (request("POST", "/", "Transfer-Encoding: gzip, chunked"), 501),
    "version": (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
}


@pytest.mark.parametrize("name", BAD)
def test_a_broken_request_is_refused_and_the_connection_ends(site: Site, name: str) -> None:
    """The answers before it come first; then its status with Connection: close; nothing after it is handled."""
    data, status = BAD[name]
    seen: list[str] = []
    kept: list[HttpResponse] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        seen.append(req.path)
        if req.path == "/0":
            kept.append(res)
        else:
            res.send("fine")

    site.start(on_request, limits=LIMITS)
    client = site.dial()
    client.send(many(2) + data)
    site.until(lambda: kept)
    site.settle()
    client.send(many(3))
    site.settle()
    kept[0].send("late")
    answers = parse(client.read_all(), ["GET"] * 3, ended=True)
    assert [answer.status for answer in answers] == [200, 200, status]
    assert [answer.get("connection") for answer in answers] == [None, None, "close"]
    assert bodies(answers)[:2] == ["late", "fine"]
    assert bodies(answers)[2].startswith(str(status))
    assert seen == ["/0", "/1"]


def test_a_refused_body_of_head_gets_no_body(site: Site) -> None:
    """The refusal of a request whose method is known is framed for that method."""
    site.start(echo, limits=LIMITS)
    client = site.dial()
    client.send(request("HEAD", "/", "Transfer-Encoding: chunked") + b"zz\r\n")
    (answer,) = parse(client.read_all(), ["HEAD"], ended=True)
    assert (answer.status, answer.body) == (400, b"")


@pytest.mark.parametrize(
    "head",
    [
        b"HEAD / HTTP/1.1\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"HEAD /" + b"a" * 9000,
    ],
)
@pytest.mark.parametrize("cut", [0, 3, 20])
def test_a_refused_head_gets_no_body(site: Site, head: bytes, cut: int) -> None:
    """RFC 9110 §9.3.2: no content, whatever is wrong; and the next client's GET is told why."""
    site.start(echo)
    client = site.dial()
    client.send(request("HEAD", "/fine") + head[:cut])
    site.settle()
    client.send(head[cut:])
    fine, refused = parse(client.read_all(), ["HEAD", "HEAD"], ended=True)
    assert (fine.status, refused.status in {400, 414}, refused.body) == (200, True, b"")
    assert refused.get("connection") == "close"
    client = site.dial()
    client.send(request("HEAD", "/fine") + head.replace(b"HEAD", b"GET"))
    assert parse(client.read_all(), ["HEAD", "GET"], ended=True)[1].body.startswith(b"4")


def test_the_client_can_read_the_refusal_while_it_still_sends(site: Site) -> None:
    """Closing must not destroy the answer of a client that is in the middle of a large body."""
    site.start(echo, limits=Limits(body=1000))
    client = site.dial()
    client.send(request("POST", "/", "Content-Length: 8000000"))
    client.send(bytes(4_000_000))
    (answer,) = parse(client.read_all(), ["POST"], ended=True)
    assert answer.status == 413


# Deadlines -----------------------------------------------------------------------------------------------------------


def test_h11_a_silent_client_is_closed(timed_site: Site) -> None:
    """It has as long as for a head, and gets no answer because it asked nothing."""
    timed_site.start(echo, timeouts=Timeouts(head=2.0, body=9.0, idle=9.0, write=9.0))
    client = timed_site.dial()
    timed_site.settle()
    timed_site.pass_time(1.99)
    assert not client.poll()
    timed_site.pass_time(0.02)
    assert client.poll()
    assert not client.received


def test_h11_a_slow_head_gets_408(timed_site: Site) -> None:
    """One byte now and then does not extend the deadline (slowloris)."""
    timed_site.start(echo, timeouts=Timeouts(head=2.0, body=9.0, idle=9.0, write=9.0))
    client = timed_site.dial()
    timed_site.settle()
    for byte in b"GET / HTTP/1.1\r\nHos":
        client.sock.send(bytes([byte]))
        timed_site.pass_time(0.1)
    timed_site.pass_time(0.08)
    assert not client.poll()
    timed_site.pass_time(0.03)
    assert client.poll()
    (answer,) = parse(bytes(client.received), ["GET"], ended=True)
    assert (answer.status, answer.get("connection")) == (408, "close")
    assert b"head" in answer.body


def test_h11_a_slow_body_gets_408(timed_site: Site) -> None:
    """One byte now and then does not extend the deadline; it begins with the end of the head."""
    timed_site.start(echo, timeouts=Timeouts(head=2.0, body=3.0, idle=9.0, write=9.0))
    client = timed_site.dial()
    timed_site.settle()
    timed_site.pass_time(1.5)
    client.send(request("POST", "/", "Content-Length: 100"))
    timed_site.settle()
    for _ in range(29):
        client.sock.send(b"x")
        timed_site.pass_time(0.1)
    assert not client.poll()
    timed_site.pass_time(0.12)
    assert client.poll()
    (answer,) = parse(bytes(client.received), ["POST"], ended=True)
    assert (answer.status, answer.get("connection")) == (408, "close")
    assert b"body" in answer.body


def test_h11_an_idle_connection_is_closed(timed_site: Site) -> None:
    """From the answer on, without a word: there is no request to answer."""
    timed_site.start(echo, timeouts=Timeouts(head=9.0, body=9.0, idle=2.0, write=9.0))
    client = timed_site.dial()
    for _ in range(3):
        client.send(many(1))
        client.answer()
        timed_site.pass_time(1.9)
        assert not client.poll()
    timed_site.pass_time(0.12)
    assert client.poll()
    assert not client.received


def test_h11_a_client_that_still_takes_its_answer_is_not_idle(timed_site: Site) -> None:
    """Whatever the deadline for the next request; only what cannot leave for too long ends it."""
    size = 8 << 20
    timed_site.start(lambda _req, res: res.send(bytes(size)), timeouts=Timeouts(idle=2.0, answer=2.0, write=60.0))
    client = timed_site.dial(receive_buffer=4096)
    client.send(many(1))
    timed_site.settle()
    timed_site.pass_time(10.0, 0.01)
    assert len(client.answer().body) == size
    timed_site.pass_time(60.1, 0.01)
    assert client.poll()


def test_h11_a_slow_handler_is_not_cut(timed_site: Site) -> None:
    """No deadline is for the server itself, and idle time begins with the answer."""
    kept: list[HttpResponse] = []
    timed_site.start(lambda _req, res: kept.append(res), timeouts=Timeouts(head=1.0, body=1.0, idle=1.0, write=1.0))
    client = timed_site.dial()
    client.send(many(1))
    timed_site.until(lambda: kept)
    timed_site.pass_time(50.0, 0.05)
    kept[0].send("at last")
    assert client.answer().body == b"at last"
    timed_site.pass_time(0.9)
    assert not client.poll()
    timed_site.pass_time(0.2)
    assert client.poll()


def test_a_handler_that_never_answers_is_answered_for(timed_site: Site) -> None:
    """503 in its turn, counted from when its turn began; what it sends too late raises, and the connection goes on."""
    kept: list[HttpResponse] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        if req.path == "/fine":
            res.send("fine")
        else:
            kept.append(res)

    timed_site.start(on_request, timeouts=Timeouts(answer=20.0))
    client = timed_site.dial()
    client.send(many(3))
    timed_site.settle()
    timed_site.pass_time(15.0, 0.01)
    kept[0].send("in time")
    timed_site.pass_time(19.9, 0.01)
    client.poll()
    assert client.received.count(b"HTTP/1.1") == 1
    timed_site.pass_time(0.2, 0.01)
    client.poll()
    assert client.received.count(b"HTTP/1.1") == 2
    with pytest.raises(ResponseSentError):
        kept[1].send("too late")
    stream = kept[2].stream()
    timed_site.pass_time(60.0, 0.05)
    stream.end()
    assert [answer.status for answer in client.answers(*["GET"] * 3)] == [200, 503, 200]
    client.received.clear()
    client.send(request("GET", "/fine"))
    assert client.answer().status == 200
    assert isinstance(timed_site.errors.pop(), TimeoutError)
    assert timed_site.errors == []


def test_an_exception_handler_may_answer_for_a_handler_that_does_not(timed_site: Site) -> None:
    """It is told before the 503, with the response, and what it says counts."""
    timed_site.start(lambda _req, _res: None, timeouts=Timeouts(answer=20.0))

    def on_error(error: Exception, owner: object) -> None:
        assert isinstance(owner, HttpResponse)
        owner.send(type(error).__name__)

    timed_site.loop.exception_handler = on_error
    client = timed_site.dial()
    client.send(many(1))
    timed_site.settle()
    timed_site.pass_time(20.1, 0.01)
    answer = client.answer()
    assert (answer.status, answer.body) == (200, b"TimeoutError")


def test_h11_a_slow_stream_is_not_cut(timed_site: Site) -> None:
    """A handler may write as seldom as it likes, as long as the client takes what there is."""
    streams: list[ResponseStream] = []
    timed_site.start(lambda _req, res: streams.append(res.stream()), timeouts=Timeouts(write=1.0, idle=1.0))
    client = timed_site.dial()
    client.send(many(1))
    timed_site.until(lambda: streams)
    for _ in range(10):
        timed_site.pass_time(3.0, 0.05)
        streams[0].write("tick")
    streams[0].end()
    assert client.answer().body == b"tick" * 10


def test_h11_an_answer_given_at_a_deadline_is_not_cut(timed_site: Site) -> None:
    """What was queued only just before the timer looks has had no time to leave."""
    kept: list[HttpResponse] = []
    timed_site.start(lambda _req, res: kept.append(res), timeouts=Timeouts(head=1.0, body=1.0, idle=1.0, write=1.0))
    client = timed_site.dial()
    assert timed_site.clock is not None
    for number in range(30):
        client.send(many(1))
        timed_site.until(lambda count=number: len(kept) > count)  # type: ignore[misc]
        deadline = 2.0 - number * 0.0005
        timed_site.loop.call_later(deadline, lambda res=kept[-1]: res.send(bytes(200_000)))  # type: ignore[misc]
        timed_site.pass_time(deadline + 0.01)
        assert len(client.answer().body) == 200_000


@pytest.mark.parametrize("way", ["whole", "stream", "file", "closing"])
def test_h11_a_client_that_does_not_read_is_cut(timed_site: Site, way: str) -> None:
    """After the write time-out without a byte taken, and not before."""
    told: list[float] = []

    def on_request(_req: HttpRequest, res: HttpResponse) -> None:
        data = bytes(32 << 20)
        if way == "stream":
            stream = res.stream()
            stream.on_close = lambda: told.append(timed_site.loop.time())
            stream.write(data)
        elif way == "file":
            res.send_file(file_with(data), 0, len(data))
        else:
            res.send(data)

    timed_site.start(on_request, timeouts=Timeouts(head=2.0, body=50.0, idle=50.0, write=20.0))
    client = timed_site.dial(receive_buffer=1 << 14)
    client.send(request("GET", "/", *(["Connection: close"] if way == "closing" else [])))
    timed_site.settle(20)
    timed_site.pass_time(19.9, 0.05)
    assert timed_site.sessions
    timed_site.pass_time(2.2 if way != "closing" else 0.3, 0.05)
    assert not timed_site.sessions
    assert len(told) == (way == "stream")


def test_h11_a_client_that_reads_slowly_is_not_cut(timed_site: Site) -> None:
    """A little within each time-out is enough."""
    size = 6 << 20

    def on_request(_req: HttpRequest, res: HttpResponse) -> None:
        # What the kernel takes off us counts, and it does that in bites of a third of its buffer.
        res.connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        res.send(bytes(size))

    timed_site.start(on_request, timeouts=Timeouts(head=1.0, body=1.0, idle=1.0, write=2.0))
    client = timed_site.dial(receive_buffer=1 << 14)
    client.send(many(1))
    timed_site.settle(20)
    for _ in range(12):
        taken = 0
        while taken < 200_000:  # enough for the window to open again
            timed_site.loop.run_once(0.001)
            try:
                data = client.sock.recv(1 << 16)
            except BlockingIOError:
                continue
            client.received += data
            taken += len(data)
        timed_site.pass_time(1.9, 0.01)
    assert len(client.answer().body) == size


def test_h11_each_message_has_its_own_deadlines(timed_site: Site) -> None:
    """A body that begins in the packet in which another one ends, or a head, gets its full time."""
    timed_site.start(echo, timeouts=Timeouts(head=2.0, body=3.0, idle=9.0, write=9.0))
    client = timed_site.dial()
    timed_site.settle()
    client.sock.send(request("POST", "/1", "Content-Length: 1"))
    for number in range(2, 5):
        timed_site.pass_time(2.9)
        client.sock.send(b"x" + request("POST", f"/{number}", "Content-Length: 1"))
    timed_site.pass_time(2.9)
    client.sock.send(b"xGET /5 HT")
    for number in range(6, 9):
        timed_site.pass_time(1.9)
        client.sock.send(f"TP/1.1\r\nHost: x\r\n\r\nGET /{number} HT".encode())
    timed_site.pass_time(1.9)
    client.sock.send(b"TP/1.1\r\nHost: x\r\n\r\n")
    assert bodies(client.answers(*["GET"] * 8)) == [f"/{number} {int(number < 5)}" for number in range(1, 9)]


def test_h11_a_slow_body_behind_a_slow_handler_is_refused_once(
    timed_site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """The 408 waits for the answer before it, however long that takes, and comes once."""
    caplog.set_level(logging.INFO, "nimloop.http.access")
    kept: list[HttpResponse] = []
    timed_site.start(
        lambda _req, res: kept.append(res),
        timeouts=Timeouts(head=1.0, body=1.0, idle=1.0, write=1.0),
        access_log=True,
    )
    client = timed_site.dial()
    client.send(many(1) + request("POST", "/", "Content-Length: 5"))
    timed_site.until(lambda: kept)
    timed_site.pass_time(10.0, 0.01)
    assert not client.poll()
    kept[0].send("at last")
    answers = parse(client.read_all(), ["GET", "POST"], ended=True)
    assert [answer.status for answer in answers] == [200, 408]
    said = [record.getMessage().split('" ')[1][:3] for record in caplog.records]
    assert sorted(said) == ["200", "408"]


def test_h11_a_half_closed_client_with_half_a_body_gets_what_is_due(timed_site: Site) -> None:
    """No deadline is left for a body that cannot come any more: the slow answer before it arrives alone."""
    kept: list[HttpResponse] = []
    timed_site.start(lambda _req, res: kept.append(res), timeouts=Timeouts(head=1.0, body=1.0, idle=1.0, write=1.0))
    client = timed_site.dial()
    client.send(many(1) + request("POST", "/", "Content-Length: 5"))
    client.half_close()
    timed_site.until(lambda: kept)
    timed_site.pass_time(10.0, 0.01)
    kept[0].send("at last")
    assert bodies(parse(client.read_all(), ["GET"], ended=True)) == ["at last"]


TIMES = st.sampled_from([0.05, 0.1, 0.2, 0.5, 1.0, 3.0])


@given(
    times=st.builds(Timeouts, head=TIMES, body=TIMES, idle=TIMES, write=TIMES),
    moves=st.lists(st.tuples(st.sampled_from(["request", "head", "rest", "drip"]), st.floats(0.0, 0.99)), max_size=8),
    last=st.sampled_from(["nothing", "head", "body"]),
)
def test_h11_no_deadline_is_missed_whatever_the_order_of_short_and_long_ones(
    times: Timeouts, moves: list[tuple[str, float]], last: str
) -> None:
    """One lazily re-armed timer: after any history, the end comes at the deadline, not before and not later."""
    with Site(clock=FakeClock(5.0)) as site:
        site.start(echo, timeouts=times)
        client = site.dial()
        site.settle(3)
        assert site.clock is not None
        since = site.clock()
        state = "nothing yet"  # what is waited for; `since` when
        missing = 0

        def left() -> float:
            assert site.clock is not None
            most = {"nothing yet": times.head, "head": times.head, "body": times.body, "idle": times.idle}[state]
            return most - (site.clock() - since) / 1e9

        def send(data: bytes, then: str) -> None:
            nonlocal state, since
            client.sock.send(data)
            site.settle(3)
            assert site.clock is not None
            if then != state or then == "idle":
                state, since = then, site.clock()

        for move, fraction in moves:
            site.pass_time(left() * fraction // 0.005 * 0.005, 0.005)
            assert not client.poll()
            if state == "body" and move == "drip" and missing > 1:
                missing -= 1
                send(b"x", "body")
            elif state == "body":
                send(b"x" * missing, "idle")
            elif move == "head":
                missing = 24
                send(request("POST", "/", "Content-Length: 24"), "body")
            else:
                send(many(1), "idle")
        if state == "idle" and last != "nothing":
            send(b"GET / HTT" if last == "head" else request("POST", "/", "Content-Length: 9"), last)
        client.poll()
        client.received.clear()
        site.pass_time(max(0.0, left() - 0.006) // 0.005 * 0.005, 0.005)
        assert not client.poll()
        site.pass_time(left() + 0.01, 0.005)
        assert client.poll()
        assert client.received.startswith(b"HTTP/1.1 408") == (state in {"head", "body"})


# Nothing is left behind ----------------------------------------------------------------------------------------------


@contextmanager
def no_collector() -> Iterator[None]:
    """Switch the garbage collector off: what goes away goes away by itself."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def late(site: Site) -> Callable[[HttpRequest, HttpResponse], None]:
    """Make a handler that answers from a timer, which the response cancels when the client goes away."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        timer = site.loop.call_later(0.005, lambda: echo(req, res))
        res.on_close = timer.cancel

    return on_request


def streaming(site: Site) -> Callable[[HttpRequest, HttpResponse], None]:
    """Make a handler that streams, with callbacks that know the stream and the response."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        stream = res.stream()
        stream.on_drain = lambda: stream.write("more")
        stream.on_close = lambda: stream.closed
        res.on_close = lambda: res.closed
        res.on_done = lambda done: done is res
        site.loop.call_soon(stream.end)

    return on_request


def failing(_site: Site) -> Callable[[HttpRequest, HttpResponse], None]:
    """Make a handler that raises."""

    def on_request(_req: HttpRequest, res: HttpResponse) -> None:
        res.on_close = lambda: res.closed
        raise ZeroDivisionError

    return on_request


@pytest.mark.parametrize("make", [lambda _site: echo, late, streaming, failing], ids=["now", "late", "stream", "fail"])
def test_no_request_leaves_a_cycle(site: Site, make: Callable[[Site], OnRequest]) -> None:
    """Request and response are gone once answered, while the connection lives on and without a collector."""
    left: list[weakref.ref[object]] = []
    inner = make(site)

    class Body:
        """Stands for what a handler hangs on its request, because requests take no weak references."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        body = Body()
        left.append(weakref.ref(body))
        req.context = body
        mark = Body()
        left.append(weakref.ref(mark))
        keep = res.on_close
        inner(req, res)
        after = res.on_close
        if not res.done:
            res.on_close = lambda: (mark, keep, after() if after is not None else None)

    site.start(on_request, access_log=True)
    site.loop.exception_handler = lambda _error, _owner: None
    client = site.dial()
    with no_collector():
        client.send(many(5))
        client.answers(*["GET"] * 5)
        site.settle()
        assert len(left) == 10
        assert [ref() for ref in left] == [None] * 10


def write_to_all(site: Site) -> None:
    """Find out which clients have gone: one that has ended its side may still be listening, until it is written to."""
    for _ in range(3):
        for session in site.sessions:
            if session.connection.writable:
                session.connection.send(b"x")
        site.settle()


@pytest.mark.parametrize("end", ["close", "reset", "half", "bad", "408", "shutdown"])
def test_no_connection_leaves_a_cycle(timed_site: Site, end: str) -> None:
    """However it ends, sessions and responses go with it, without a collector; `on_close` comes once for each."""
    site = timed_site
    told: list[str] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        if req.path == "/stream":
            stream = res.stream()
            stream.on_close = lambda: told.append(f"stream {stream.closed}")
            stream.on_drain = lambda: stream.write("x")
            stream.write(bytes(100_000))
        elif req.path == "/keep":
            res.on_close = lambda: told.append(f"keep {res.closed}")
        else:
            echo(req, res)

    def count(name: str) -> int:
        return sum(type(each).__name__ == name for each in gc.get_objects())

    site.start(on_request, timeouts=Timeouts(head=1.0))
    with no_collector():
        before = [count(name) for name in ("HttpSession", "HttpResponse", "ResponseStream", "HttpParser", "Connection")]
        for path in ("/", "/stream", "/keep"):
            client = site.dial()
            client.send(request("GET", path) + (b"GET /" if end == "408" else b""))
            site.settle()
            match end:
                case "close":
                    client.close()
                case "reset":
                    client.abort()
                case "half":
                    client.half_close()
                    site.settle()
                    client.abort()
                case "bad":
                    client.send(b"\0\r\n")
                    site.settle()
                    client.close()
                case "408":
                    site.pass_time(1.1, 0.05)
                    client.abort()
                case _:
                    site.server.shutdown(0.1)
                    site.pass_time(0.2, 0.05)
                    client.close()
                    site.start(on_request, timeouts=Timeouts(head=1.0))
            site.settle(10)
            if path == "/keep" and site.sessions:
                write_to_all(site)
            site.until(lambda: not site.sessions)
            del client
        site.settle()
        after = [count(name) for name in ("HttpSession", "HttpResponse", "ResponseStream", "HttpParser", "Connection")]
        assert after == before
    assert sorted(told) == ["keep True", "stream True"]


def test_a_thousand_connections_leave_no_descriptor(site: Site, descriptors: Callable[[], set[str]]) -> None:
    """Those that end well, those that vanish and those that are refused."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        match req.path:
            case "/file":
                res.send_file(file_with(b"hello"), 0, 5)
            case "/late":
                res.on_close = site.loop.call_later(0.003, lambda: res.send_file(file_with(b"late"), 0, 4)).cancel
            case _:
                echo(req, res)

    site.start(on_request)
    site.ask(many(1))
    before = descriptors()
    for number in range(1000):
        client = site.dial()
        match number % 5:
            case 0:
                client.send(request("GET", "/file", "Connection: close"))
                client.read_all()
            case 1:
                client.send(request("GET", "/late"))
                site.loop.run_once(0)
                client.abort()
            case 2:
                client.send(b"\0")
                site.loop.run_once(0)
            case 3:
                client.send(request("GET", "/late") + request("GET", "/file") + b"POST")
                site.loop.run_once(0)
            case _:
                site.loop.run_once(0)
        client.close()
    site.until(lambda: not site.sessions)
    assert descriptors() == before


def test_a_body_in_crumbs_takes_no_more_memory_than_its_size(site: Site) -> None:
    """Chunks of two bytes are joined as they come, not kept as an object each."""
    seen: list[int] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        seen.append(len(req.body))
        res.send()

    site.start(on_request)
    client = site.dial()
    client.send(CHUNKED)
    client.send(b"2\r\nab\r\n" * 50_000)
    site.until(lambda: any(session._receiving for session in site.sessions))
    (body,) = [session._receiving for session in site.sessions]
    assert body is not None
    site.until(lambda: len(body._data) == 100_000)
    assert isinstance(body._data, bytearray)
    client.send(b"0\r\n\r\n")
    client.answer("POST")
    assert seen == [100_000]


# Whatever comes ------------------------------------------------------------------------------------------------------


def mutated(data: bytes, cuts: list[tuple[int, bytes]]) -> bytes:
    """Replace single bytes here and there by other bytes."""
    result = bytearray(data)
    for position, replacement in cuts:
        at = position % len(result)
        result[at : at + 1] = replacement
    return bytes(result)


GOOD = (
    many(1)
    + request("POST", "/", "Expect: 100-continue", body=b"hello")
    + CHUNKED
    + b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n"
    + request("HEAD", "/x?y", "Connection: keep-alive")
    + b"GET http://h/ HTTP/1.0\r\n\r\n"
)
NOISE = st.one_of(
    st.binary(max_size=300),
    st.builds(
        mutated,
        st.just(GOOD),
        st.lists(st.tuples(st.integers(0, 1000), st.binary(max_size=3)), min_size=1, max_size=4),
    ),
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(packets=st.lists(NOISE, min_size=1, max_size=3), cut=st.integers(1, 400))
def test_whatever_comes_is_answered_or_closed(packets: list[bytes], cut: int) -> None:
    """Noise never reaches the exception handler, every byte sent back is HTTP, and the next client is served."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        assert isinstance(f"{req.path} {req.params} {req.text} {req.headers} {req.client_ip} {req.url}", str)
        echo(req, res)

    with Site() as site:
        site.start(on_request)
        client = site.dial()
        data = b"".join(packets)
        for position in range(0, len(data), cut):
            try:
                client.sock.send(data[position : position + cut])
            except (BrokenPipeError, ConnectionResetError):
                break
            site.loop.run_once(0)
        try:
            client.half_close()
        except OSError:
            pass
        site.until(client.poll)
        if client.received:
            assert client.received.startswith(b"HTTP/1.1 ")
        client.close()
        assert site.errors == []
        assert bodies(site.ask(many(1))) == ["/0 0"]


def test_handlers_may_send_files_from_anywhere(site: Site, tmp_path: Path) -> None:
    """An ordinary file on disk, in the middle of a pipeline."""
    path = tmp_path / "file"
    path.write_bytes(b"on disk" * 20_000)
    site.start(lambda _req, res: res.send_file(os.open(path, os.O_RDONLY), 7, 14))
    client = site.dial()
    client.send(many(3))
    assert bodies(client.answers(*["GET"] * 3)) == ["on diskon disk"] * 3
