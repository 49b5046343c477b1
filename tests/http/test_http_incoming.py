"""Bodies: refused before a byte is kept, bounded per request, streamed with back-pressure, spooled to files."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.http.serving import Site, parse, request

from nimloop_core.testing import FakeClock
from nimloop_http import (
    BodyFile,
    BodyStream,
    HttpRequest,
    HttpResponse,
    Limits,
    RequestBody,
    Timeouts,
    _files,
    _incoming,
    _spool,
)
from nimloop_http._incoming import SKIP_BYTES
from nimloop_http.errors import (
    BodyNotReadyError,
    BodyTooLargeError,
    IncompleteMessageError,
    LimitError,
    RequestTimeoutError,
)

pytest_plugins = ("tests.http.fixtures",)

CHUNKED = request("POST", "/", "Transfer-Encoding: chunked")
EXPECTING = "Expect: 100-continue"


def never(_req: HttpRequest, _res: HttpResponse) -> None:
    """Fail: this handler must not be called."""
    raise AssertionError("on_request was called")


def echo(req: HttpRequest, res: HttpResponse) -> None:
    """Answer with the body."""
    res.send(req.body)


def chunks(*pieces: bytes, trailers: str = "") -> bytes:
    """Spell a chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + f"0\r\n{trailers}\r\n".encode()


class Collector:
    """A sink that keeps everything, and what was called."""

    def __init__(self) -> None:
        self.data = b""
        self.ends: list[str] = []
        self.error: Exception | None = None
        self.flow: RequestBody | None = None

    def begin(self, flow: RequestBody) -> None:
        """Keep the flow."""
        self.flow = flow

    def write(self, data: bytes) -> None:
        """Keep a piece."""
        assert data
        assert not self.ends
        self.data += data

    def end(self) -> None:
        """Note the end."""
        self.ends.append("end")

    def abort(self, error: Exception) -> None:
        """Note the failure."""
        self.ends.append("abort")
        self.error = error


# Before the body -----------------------------------------------------------------------------------------------------


def test_h3_on_headers_comes_first_and_for_every_request(site: Site) -> None:
    """With a body or without; then on_request gets the same request and response."""
    seen: list[tuple[str, str, HttpRequest]] = []

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        seen.append(("head", req.path, req))
        res.header("X-Seen", "1")
        if req.content_length:
            with pytest.raises(BodyNotReadyError):
                _ = req.body

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        seen.append(("request", req.path, req))
        res.send(req.body)

    site.start(on_request, on_headers=on_headers)
    client = site.dial()
    client.send(request("GET", "/a") + request("POST", "/b", body=b"hello")[:-2])
    site.until(lambda: len(seen) == 3)
    assert [(what, path) for what, path, _ in seen] == [("head", "/a"), ("request", "/a"), ("head", "/b")]
    client.send(b"lo")
    answers = client.answers("GET", "POST")
    assert [(answer.body, answer.get("x-seen")) for answer in answers] == [(b"", "1"), (b"hello", "1")]
    assert seen[3][2] is seen[2][2]


def test_h3_a_small_refused_body_leaves_the_connection_alone(site: Site) -> None:
    """It is read and thrown away, and the next request is answered."""
    asked: list[str] = []

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        if req.method == "POST":
            res.send_error(403)

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        asked.append(req.path)
        res.send()

    site.start(on_request, on_headers=on_headers)
    client = site.dial()
    client.send(request("POST", "/1", f"Content-Length: {SKIP_BYTES}"))
    assert (client.answer("POST").status, client.ended) == (403, False)
    client.send(bytes(SKIP_BYTES) + request("GET", "/2"))
    assert client.answer().status == 200
    client.send(CHUNKED + chunks(b"abc", b"def") + request("GET", "/3"))
    assert [answer.status for answer in client.answers("POST", "GET")] == [403, 200]
    assert asked == ["/2", "/3"]


@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_h3_a_large_refused_body_ends_the_connection(site: Site, coding: str) -> None:
    """Reading it would cost more than a new connection. The client can still read the answer."""
    site.start(never, on_headers=lambda _req, res: res.send_error(403))
    client = site.dial()
    if coding == "length":
        client.send(request("POST", "/", f"Content-Length: {SKIP_BYTES + 1}"))
    else:
        client.send(CHUNKED)
        client.send(b"ffff\r\n" + bytes(0xFFFF) + b"\r\n")
        for _ in range(SKIP_BYTES // 0xFFFF + 1):
            client.send(b"ffff\r\n" + bytes(0xFFFF) + b"\r\n")
    (answer,) = parse(client.read_all(), ["POST"], ended=True)
    assert answer.status == 403
    assert answer.get("connection") == ("close" if coding == "length" else None)


@pytest.mark.parametrize(("size", "closes"), [(11, False), (SKIP_BYTES, False), (SKIP_BYTES + 1, True)])
def test_a_body_announced_too_large_is_refused_at_once(site: Site, size: int, *, closes: bool) -> None:
    """413 before it is sent; its end is known, so the connection goes on where the rest is small."""
    site.start(echo, limits=Limits(body=10))
    client = site.dial()
    client.send(request("POST", "/", f"Content-Length: {size}"))
    if closes:
        (answer,) = parse(client.read_all(), ["POST"], ended=True)
    else:
        answer = client.answer("POST")
        client.send(bytes(size) + request("POST", "/", body=b"x"))
        assert client.answer("POST").body == b"x"
    assert (answer.status, answer.get("connection")) == (413, "close" if closes else None)
    assert f"{size} bytes; the limit is 10" in answer.body.decode()


def test_a_chunked_body_that_becomes_too_large_is_refused(site: Site) -> None:
    """As soon as it is; what is left of it is thrown away."""
    site.start(echo, limits=Limits(body=10))
    client = site.dial()
    client.send(CHUNKED + b"b\r\n0123456789A")
    assert client.answer("POST").status == 413
    client.send(b"\r\n" + chunks(b"more") + request("POST", "/", body=b"x"))
    assert client.answer("POST").body == b"x"


def test_h3_a_request_may_have_its_own_limit(site: Site) -> None:
    """Higher or lower than that of the server, by length or in chunks."""

    def on_headers(req: HttpRequest, _res: HttpResponse) -> None:
        with pytest.raises(ValueError, match="not negative"):
            req.limit_body(-1)
        req.limit_body({"/high": 1000, "/low": 5}.get(req.path, 10))

    site.start(echo, on_headers=on_headers, limits=Limits(body=10))
    client = site.dial()
    for path, size, status in [("/high", 1000, 200), ("/high", 1001, 413), ("/low", 5, 200), ("/low", 6, 413)]:
        body = bytes(size)
        client.send(request("POST", path, body=body))
        assert client.answer("POST").status == status
        client.send(request("POST", path, "Transfer-Encoding: chunked") + chunks(body))
        assert client.answer("POST").status == status


def test_h3_a_limit_that_on_headers_raises_is_answered(site: Site) -> None:
    """A ProtocolError is an answer; anything else is a mistake, reported and answered with 500."""

    def on_headers(req: HttpRequest, _res: HttpResponse) -> None:
        if req.path == "/limit":
            raise BodyTooLargeError("not for you")
        raise ZeroDivisionError

    site.start(never, on_headers=on_headers)
    client = site.dial()
    client.send(request("POST", "/limit", body=b"abc") + request("GET", "/zero") + request("POST", "/zero", body=b"a"))
    answers = client.answers("POST", "GET", "POST")
    assert [answer.status for answer in answers] == [413, 500, 500]
    assert b"not for you" in answers[0].body
    assert [type(site.errors.pop()) for _ in range(2)] == [ZeroDivisionError] * 2


def test_a_stream_begun_in_on_headers_is_cut_when_it_fails(site: Site) -> None:
    """The client must not take what it got for complete."""

    def on_headers(_req: HttpRequest, res: HttpResponse) -> None:
        res.stream().write("begun")
        raise BodyTooLargeError

    site.start(never, on_headers=on_headers)
    client = site.dial()
    client.send(request("POST", "/", body=b"abc"))
    with pytest.raises(ConnectionResetError):
        client.read_all()


# Methods and expectations --------------------------------------------------------------------------------------------


def test_unknown_methods_and_expectations_keep_the_connection(site: Site) -> None:
    """The framing is known: 501 and 417 are answers like others, the bodies are thrown away."""
    site.start(echo, methods=frozenset({"GET", "POST"}))
    client = site.dial()
    client.send(
        request("BREW", "/", body=b"coffee")
        + request("BREW", "/")
        + request("POST", "/", "Expect: a-miracle", body=b"x")
        + request("GET", "/", "Expect: a-miracle")
        + request("POST", "/", body=b"fine")
    )
    answers = client.answers("POST", "GET", "POST", "GET", "POST")
    assert [answer.status for answer in answers] == [501, 501, 417, 417, 200]
    assert answers[4].body == b"fine"
    assert "BREW" in answers[0].body.decode()
    assert "a-miracle" in answers[2].body.decode()


def test_h3_continue_is_sent_when_the_body_is_wanted(site: Site) -> None:
    """Not before on_headers has agreed, and not before a paused stream is resumed."""
    streams: list[BodyStream] = []

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        def on_end() -> None:
            res.send("got it")

        stream = req.body_stream(lambda _data: None, on_end)
        stream.pause()
        streams.append(stream)

    site.start(never, on_headers=on_headers)
    client = site.dial()
    client.send(request("POST", "/", EXPECTING, "Content-Length: 3"))
    site.until(lambda: streams)
    site.settle()
    client.poll()
    assert not client.received
    streams[0].resume()
    site.until(lambda: client.poll() or client.received)
    assert bytes(client.received) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"abc")
    answer = client.answer("POST")
    assert (answer.interim, answer.body) == ([100], b"got it")


@pytest.mark.parametrize("size", [5, 500])
def test_h3_an_expectation_can_be_refused(site: Site, size: int) -> None:
    """RFC 9110 §10.1.1: whether the body follows nobody knows, so the connection ends, and says so."""
    site.start(never, on_headers=lambda _req, res: res.send_error(401), limits=Limits(body=100))
    client = site.dial()
    client.send(request("POST", "/", EXPECTING, f"Content-Length: {size}"))
    (answer,) = parse(client.read_all(), ["POST"], ended=True)
    assert (answer.status, answer.interim, answer.get("connection")) == (401, [], "close")


def test_continue_is_not_said_in_the_middle_of_an_answer(site: Site) -> None:
    """A stream that has begun is answer enough; the body may come all the same (RFC 9110 §10.1.1)."""

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        out = res.stream()
        out.write("begun ")
        req.body_stream(out.write, out.end)

    site.start(never, on_headers=on_headers)
    client = site.dial()
    client.send(request("POST", "/", EXPECTING, "Content-Length: 3"))
    site.until(lambda: client.poll() or client.received.endswith(b"begun \r\n"))
    client.send(b"abc")
    answer = client.answer("POST")
    assert (answer.interim, answer.body, answer.get("connection")) == ([], b"begun abc", "close")


# Streams -------------------------------------------------------------------------------------------------------------


def take(site: Site, log: list[object]) -> Callable[[HttpRequest, HttpResponse], None]:
    """Make an on_headers that writes down what a stream delivers, and answers at its end."""

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        def on_end() -> None:
            log.append(stream.trailers["x-sum"] if stream.trailers is not None else "end")
            res.send(str(stream.received))

        stream = req.body_stream(log.append, on_end, log.append)
        log.append(stream)

    return on_headers


@pytest.mark.parametrize("cut", [1, 3, 1000])
def test_a_stream_delivers_the_body_as_it_comes(site: Site, cut: int) -> None:
    """By length and in chunks; on_request is not called."""
    log: list[object] = []
    site.start(never, on_headers=take(site, log))
    client = site.dial()
    data = (
        request("POST", "/", body=b"0123456789")
        + CHUNKED
        + chunks(b"abc", b"defgh", trailers="X-Sum: 8\r\n")
        + request("POST", "/", body=b"")
    )
    for start in range(0, len(data), cut):
        client.send(data[start : start + cut])
        site.settle(2)
    assert [answer.body for answer in client.answers("POST", "POST", "POST")] == [b"10", b"8", b"0"]
    assert b"".join(item for item in log if isinstance(item, bytes)) == b"0123456789abcdefgh"
    assert [item for item in log if isinstance(item, str)] == ["end", "8", "end"]
    streams = [item for item in log if isinstance(item, BodyStream)]
    assert len(streams) == 3
    assert all(stream.ended for stream in streams)


def test_a_paused_stream_holds_the_client_back(site: Site) -> None:
    """A client that is faster than its reader fills the kernel's buffers and no memory; then nothing is missing."""
    got: list[int] = []
    streams: list[BodyStream] = []

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        def on_data(data: bytes) -> None:
            got.append(len(data))
            stream.pause()

        stream = req.body_stream(on_data, lambda: res.send(str(sum(got))))
        streams.append(stream)

    site.start(never, on_headers=on_headers, limits=Limits(body=1 << 30))
    client = site.dial()
    size = 32 << 20
    client.send(request("POST", "/", f"Content-Length: {size}"))
    site.until(lambda: streams)
    left = memoryview(bytes(size))
    for _ in range(50):
        try:
            left = left[client.sock.send(left) :]
        except BlockingIOError:
            pass
        site.loop.run_once(0)
    assert len(got) == 1
    assert len(left) > size // 4
    while left:
        streams[0].resume()
        site.settle(1)
        try:
            left = left[client.sock.send(left) :]
        except BlockingIOError:
            pass

    def answered() -> bool:
        streams[0].resume()
        return client.poll() or bool(client.received)

    site.until(answered)
    assert client.answer("POST").body == str(size).encode()


def test_a_pause_is_not_on_the_client_s_account(timed_site: Site) -> None:
    """The deadline for the body stands still while the server does not want it."""
    log: list[object] = []
    timed_site.start(
        never, on_headers=take(timed_site, log), timeouts=Timeouts(body=5.0), limits=Limits(body_rate=1 << 30)
    )
    client = timed_site.dial()
    client.send(request("POST", "/", "Content-Length: 4") + b"ab")
    timed_site.settle()
    (stream,) = [item for item in log if isinstance(item, BodyStream)]
    timed_site.pass_time(3.0, 0.01)
    stream.pause()
    timed_site.pass_time(60.0, 0.05)
    stream.resume()
    timed_site.pass_time(1.9, 0.01)
    assert not client.poll()
    client.sock.send(b"c")
    timed_site.pass_time(0.3, 0.01)
    assert client.answer("POST").status == 408
    assert isinstance(log[-1], RequestTimeoutError)


def test_a_body_buys_time_with_its_bytes(timed_site: Site) -> None:
    """It may take as long as its bytes need at the slowest rate, and no longer."""
    timed_site.start(
        lambda req, res: res.send(str(len(req.body))),
        timeouts=Timeouts(body=5.0, idle=100.0),
        limits=Limits(body_rate=1000),
    )
    client = timed_site.dial()
    client.send(request("POST", "/", "Content-Length: 10000"))
    for _ in range(9):
        client.sock.send(bytes(1000))
        timed_site.pass_time(1.5, 0.01)
    client.sock.send(bytes(1000))
    timed_site.settle()
    assert client.answer("POST").body == b"10000"
    client.send(request("POST", "/", "Content-Length: 10000"))
    for _ in range(6):
        client.sock.send(bytes(100))
        timed_site.pass_time(1.0, 0.01)
    timed_site.pass_time(0.2, 0.01)
    assert client.answer("POST").status == 408


def test_a_body_that_nobody_takes_is_given_up(timed_site: Site) -> None:
    """The server's own time is bounded too: a stream that stays paused is a mistake, and 500."""
    log: list[object] = []
    timed_site.start(never, on_headers=take(timed_site, log), timeouts=Timeouts(answer=20.0))
    client = timed_site.dial()
    client.send(request("POST", "/", "Content-Length: 4") + b"ab")
    timed_site.settle()
    (stream,) = [item for item in log if isinstance(item, BodyStream)]
    stream.pause()
    timed_site.pass_time(19.9, 0.01)
    assert not client.received
    timed_site.pass_time(0.2, 0.01)
    assert client.answer("POST").status == 500
    assert isinstance(timed_site.errors.pop(), TimeoutError)
    assert isinstance(log[-1], TimeoutError)
    client.send(b"cd" + request("POST", "/", body=b"abc"))
    assert client.answer("POST").status == 200


@pytest.mark.parametrize("how", ["eof", "reset", "garbage", "limit", "close"])
def test_a_stream_hears_that_the_rest_will_not_come(site: Site, how: str) -> None:
    """Either on_end or on_error, once, and what the client gets depends on whether it can be told."""
    log: list[object] = []
    lost: list[str] = []
    begin = take(site, log)

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        res.on_close = lambda: lost.append("lost")
        begin(req, res)

    server = site.start(never, on_headers=on_headers, limits=Limits(body=10))
    client = site.dial()
    client.send(CHUNKED + b"3\r\nabc\r\n")
    site.until(lambda: b"abc" in log)
    expected: type[Exception] = ConnectionError
    status = 0
    match how:
        case "eof":
            client.half_close()
            expected = IncompleteMessageError
        case "reset":
            client.abort()
        case "garbage":
            client.send(b"zz\r\n")
            status = 400
            expected = Exception
        case "limit":
            client.send(b"8\r\n12345678\r\n")
            status = 413
            expected = BodyTooLargeError
        case _:
            server.close()
    site.until(lambda: isinstance(log[-1], Exception))
    assert isinstance(log[-1], expected)
    assert len([item for item in log if isinstance(item, (Exception, str))]) == 1
    if status:
        assert client.answer("POST").status == status
    else:
        assert lost == ["lost"]


def test_answering_and_reading_may_go_on_together(site: Site) -> None:
    """An echo that streams both ways, and a body that is longer than what is kept anywhere."""

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        out = res.stream()

        def on_data(data: bytes) -> None:
            if not out.write(data):
                body.pause()

        body = req.body_stream(on_data, out.end)
        out.on_drain = body.resume

    site.start(never, on_headers=on_headers)
    client = site.dial()
    content = os.urandom(3 << 20)
    client.sock.send(request("POST", "/", f"Content-Length: {len(content)}"))
    left = memoryview(content)

    def pump() -> bool:
        nonlocal left
        if left:
            try:
                left = left[client.sock.send(left) :]
            except BlockingIOError:
                pass
        client.poll()
        return client.received.endswith(b"\r\n0\r\n\r\n")

    site.until(pump)
    assert client.answer("POST").body == content


def test_an_answer_before_the_end_does_not_stop_the_stream(site: Site) -> None:
    """Accepted at once, and read to its end all the same; the connection goes on."""
    log: list[object] = []

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        req.body_stream(log.append, lambda: log.append("end"))
        res.status(202).send()

    site.start(never, on_headers=on_headers)
    client = site.dial()
    client.send(request("POST", "/", f"Content-Length: {SKIP_BYTES * 2}"))
    assert client.answer("POST").status == 202
    client.send(bytes(SKIP_BYTES * 2) + request("POST", "/", body=b"x"))
    assert client.answer("POST").status == 202
    site.until(lambda: log.count("end") == 2)
    assert sum(len(item) for item in log if isinstance(item, bytes)) == SKIP_BYTES * 2 + 1


def test_a_stream_that_raises_is_answered_with_500(site: Site) -> None:
    """The mistake is reported once, the rest is thrown away, the connection goes on."""

    def fail(_data: bytes) -> None:
        raise ZeroDivisionError

    ends: list[Exception] = []
    site.start(never, on_headers=lambda req, _res: req.body_stream(fail, None, ends.append))
    client = site.dial()
    for _ in range(2):
        client.send(request("POST", "/", body=b"abc" * 1000))
        assert client.answer("POST").status == 500
        assert isinstance(site.errors.pop(), ZeroDivisionError)
    site.until(lambda: len(ends) == 2)


@pytest.mark.parametrize("body", [None, b"", b"hello"])
def test_h2_a_stream_of_a_body_that_is_there(site: Site, body: bytes | None) -> None:
    """Taken in on_request, it delivers the same in the same way, from the loop."""
    log: list[object] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        def on_end() -> None:
            log.append("end")
            res.send()

        stream = req.body_stream(log.append, on_end)
        assert log == []
        stream.pause()
        stream.resume()

    site.start(on_request)
    client = site.dial()
    client.send(request("POST", "/", body=body))
    client.answer("POST")
    assert log == [*([body] if body else []), "end"]


def test_a_stream_may_be_paused_between_the_body_and_its_end(site: Site) -> None:
    """The end waits too, and what is done to a stream after it is harmless."""
    log: list[object] = []
    streams: list[BodyStream] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        def on_data(data: bytes) -> None:
            log.append(data)
            stream.pause()

        def on_end() -> None:
            log.append("end")
            res.send()

        stream = req.body_stream(on_data, on_end)
        streams.append(stream)

    site.start(on_request)
    client = site.dial()
    client.send(request("POST", "/", body=b"hello"))
    site.until(lambda: log)
    site.settle()
    assert log == [b"hello"]
    streams[0].resume()
    client.answer("POST")
    client.send(request("GET", "/"))
    client.answer("GET")
    for stream in streams:
        stream.pause()
        stream.resume()
    site.settle()
    assert log == [b"hello", "end", "end"]


def test_a_pause_that_ends_at_once_changes_nothing(site: Site) -> None:
    """Also before the first byte is awaited."""
    log: list[object] = []
    begin = take(site, log)

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        begin(req, res)
        (stream,) = [item for item in log if isinstance(item, BodyStream)]
        stream.pause()
        stream.resume()

    site.start(never, on_headers=on_headers)
    client = site.dial()
    client.send(request("POST", "/", EXPECTING, "Content-Length: 3"))
    site.until(lambda: client.poll() or client.received)
    client.send(b"abc")
    answer = client.answer("POST")
    assert (answer.interim, answer.body) == ([100], b"3")


def test_a_stream_may_lose_interest(site: Site) -> None:
    """Without `on_data` the body is read to its end and forgotten."""
    got: list[bytes] = []

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        def on_data(data: bytes) -> None:
            got.append(data)
            stream.on_data = None

        stream = req.body_stream(on_data, lambda: res.send(str(stream.received)))

    site.start(never, on_headers=on_headers)
    client = site.dial()
    client.send(CHUNKED + b"5\r\nfirst\r\n")
    site.until(lambda: got)
    client.send(chunks(b"second", b"third"))
    assert client.answer("POST").body == b"16"
    assert got == [b"first"]


def test_a_server_that_closes_after_its_loop_tells_the_stream_at_once(site: Site) -> None:
    """There is no later."""
    log: list[object] = []
    server = site.start(never, on_headers=take(site, log))
    client = site.dial()
    client.send(request("POST", "/", "Content-Length: 4") + b"ab")
    site.until(lambda: b"ab" in log)
    site.loop.close()
    server.close()
    assert isinstance(log[-1], ConnectionError)
    client.close()


@pytest.mark.parametrize("how", ["garbage", "eof"])
def test_a_begun_answer_is_cut_when_the_body_breaks_off(site: Site, how: str) -> None:
    """The client must not take what it got for complete."""
    log: list[object] = []

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        res.stream().write("begun")
        req.body_stream(log.append, None, log.append)

    site.start(never, on_headers=on_headers)
    client = site.dial()
    client.send(CHUNKED + b"3\r\nabc\r\n")
    site.until(lambda: b"abc" in log)
    if how == "eof":
        client.half_close()
    else:
        client.send(b"zz\r\n")
    with pytest.raises(ConnectionResetError):
        client.read_all()
    site.until(lambda: isinstance(log[-1], Exception))


@pytest.mark.parametrize("behind", [False, True])
def test_a_body_that_breaks_after_its_answer_ends_the_connection(site: Site, *, behind: bool) -> None:
    """The answer that was given stays the only one, and those before it are still given."""
    log: list[object] = []
    kept: list[HttpResponse] = []

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        if req.method == "POST":
            req.body_stream(log.append, None, log.append)
            res.status(202).send()

    site.start(lambda _req, res: kept.append(res), on_headers=on_headers)
    client = site.dial()
    client.send(request("GET", "/") * behind + CHUNKED + b"3\r\nabc\r\n")
    site.until(lambda: b"abc" in log)
    client.send(b"zz\r\n")
    site.until(lambda: isinstance(log[-1], Exception))
    for res in kept:
        res.send("first")
    answers = parse(client.read_all(), ["GET", "POST"] if behind else ["POST"], ended=True)
    assert [answer.status for answer in answers] == ([200, 202] if behind else [202])


# Files ---------------------------------------------------------------------------------------------------------------


def spool(directory: Path, *, in_headers: bool) -> dict[str, Callable[[HttpRequest, HttpResponse], object]]:
    """Make handlers that answer with what they find in the file of the request."""

    def on_headers(req: HttpRequest, _res: HttpResponse) -> None:
        if in_headers:
            req.stream_to_file(directory)

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        file = req.stream_to_file(directory)
        if file is None:
            res.send("none")
            return
        assert req.stream_to_file() is file
        path = Path(file.path)
        assert path.parent == directory
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert file.size == path.stat().st_size
        assert req.body == file.read() == path.read_bytes()
        res.send(req.body)

    return {"on_request": on_request, "on_headers": on_headers}


@pytest.mark.parametrize("in_headers", [True, False])
@pytest.mark.parametrize("size", [0, 1, 70_000, 3 << 20])
def test_h2_a_body_in_a_file_is_the_same(site: Site, tmp_path: Path, size: int, *, in_headers: bool) -> None:
    """However it was kept, `body` and the file hold the same; afterwards the file is gone (H1)."""
    site.start(**spool(tmp_path, in_headers=in_headers))  # type: ignore[arg-type]
    client = site.dial()
    content = os.urandom(size)
    for coding in ("length", "chunked"):
        if coding == "length":
            client.send(request("POST", "/", body=content))
        else:
            client.send(CHUNKED + chunks(*([content] if content else [])))
        assert client.answer("POST").body == content
        assert list(tmp_path.iterdir()) == []
    client.send(request("GET", "/"))
    assert client.answer().body == b"none"


def test_h1_files_are_removed_whatever_happens(site: Site, tmp_path: Path) -> None:
    """Ignored by the handler, failed, given up by the client, cut by the server: the folder is empty."""

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        req.stream_to_file(tmp_path)
        if req.path == "/refused":
            res.send_error(403)
        if req.path == "/failed":
            raise ZeroDivisionError

    def on_request(_req: HttpRequest, res: HttpResponse) -> None:
        res.send("ignored")

    server = site.start(on_request, on_headers=on_headers)
    client = site.dial()
    for path in ("/ignored", "/refused", "/failed"):
        client.send(request("POST", path, body=bytes(1 << 20)))
        client.answer("POST")
        assert list(tmp_path.iterdir()) == []
    site.errors.clear()
    half = request("POST", "/", "Content-Length: 1000000") + bytes(500_000)
    client.send(half)
    site.until(lambda: list(tmp_path.iterdir()))
    client.close()
    site.until(lambda: not list(tmp_path.iterdir()))
    other = site.dial()
    other.send(half)
    site.until(lambda: list(tmp_path.iterdir()))
    server.close()
    site.until(lambda: not list(tmp_path.iterdir()))
    site.until(lambda: server._workers is not None and server._workers._count == 0)


def test_a_saved_file_stays(site: Site, tmp_path: Path) -> None:
    """It is moved, and what becomes of the request does not matter any more."""
    spooled = tmp_path / "spool"
    spooled.mkdir()

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        file = req.stream_to_file()
        assert isinstance(file, BodyFile)
        file.save(tmp_path / "kept")
        res.send()

    site.start(on_request, on_headers=lambda req, _res: req.stream_to_file(spooled))
    client = site.dial()
    client.send(request("POST", "/", body=b"keep me"))
    client.answer("POST")
    assert (tmp_path / "kept").read_bytes() == b"keep me"
    assert list(spooled.iterdir()) == []


def test_h21_a_slow_disk_holds_its_own_client_back(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing happens in a thread; what waits for it is bounded, and other requests are served meanwhile."""
    slow = [True]
    real_write = _files.write_all

    def write(fd: int, data: bytes) -> None:
        while slow[0]:
            time.sleep(0.001)
        real_write(fd, data)

    monkeypatch.setattr(_spool, "write_all", write)
    flows: list[RequestBody] = []

    def on_headers(req: HttpRequest, _res: HttpResponse) -> None:
        if req.method == "POST":
            req.stream_to_file(tmp_path)
            assert req._body is not None
            flows.append(req._body)

    site.start(lambda req, res: res.send(str(len(req.body))), on_headers=on_headers, limits=Limits(body=1 << 30))
    client = site.dial()
    size = 16 << 20
    left = memoryview(request("POST", "/", f"Content-Length: {size}") + bytes(size))

    def pump() -> None:
        nonlocal left
        try:
            left = left[client.sock.send(left) :]
        except BlockingIOError:
            pass
        site.loop.run_once(0)

    try:
        for _ in range(200):
            pump()
        assert flows[0].paused
        assert flows[0].received < 4 << 20
        other = site.dial()
        other.send(request())
        assert other.answer().status == 200
    finally:
        slow[0] = False
    while left:
        pump()
    assert client.answer("POST").body == str(size).encode()


def test_a_full_disk_is_500(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the thread meets is reported in the loop; the file is gone, the connection goes on."""
    real_write = _files.write_all
    full = [True]

    def write(fd: int, data: bytes) -> None:
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_write(fd, data)

    monkeypatch.setattr(_spool, "write_all", write)
    site.start(**spool(tmp_path, in_headers=True))  # type: ignore[arg-type]
    client = site.dial()
    client.send(request("POST", "/", body=b"abc"))
    assert client.answer("POST").status == 500
    assert isinstance(site.errors.pop(), OSError)
    site.until(lambda: not list(tmp_path.iterdir()))
    full[0] = False
    client.send(request("POST", "/", body=b"abc"))
    assert client.answer("POST").body == b"abc"


def test_a_body_in_memory_meets_a_full_disk(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler is told, nothing stays behind, and the body is still there."""

    def full(_fd: int, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        with pytest.raises(OSError, match="space"):
            req.stream_to_file(tmp_path)
        assert list(tmp_path.iterdir()) == []
        res.send(req.body)

    monkeypatch.setattr(_incoming, "write_all", full)
    site.start(on_request)
    client = site.dial()
    client.send(request("POST", "/", body=b"abc"))
    assert client.answer("POST").body == b"abc"


# Sinks ---------------------------------------------------------------------------------------------------------------


def test_a_sink_gets_everything_and_on_request_follows(site: Site) -> None:
    """The handler finds its sink; `body` says that it is not kept."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        sink = req.sink
        assert isinstance(sink, Collector)
        with pytest.raises(BodyNotReadyError):
            _ = req.body
        res.send(sink.data)

    site.start(on_request, on_headers=lambda req, _res: req.receive_into(Collector()))
    client = site.dial()
    client.send(request("POST", "/", body=b"one") + CHUNKED + chunks(b"t", b"wo"))
    assert [answer.body for answer in client.answers("POST", "POST")] == [b"one", b"two"]


def test_a_sink_may_take_its_time_at_the_end(site: Site) -> None:
    """A pause in `end` delays on_request, and the next request of the connection too."""
    sinks: list[Collector] = []

    class Slow(Collector):
        def end(self) -> None:
            super().end()
            assert self.flow is not None
            self.flow.pause()

    def on_headers(req: HttpRequest, _res: HttpResponse) -> None:
        sink = Slow()
        sinks.append(sink)
        req.receive_into(sink)

    asked: list[str] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        asked.append(req.path)
        res.send(req.path)

    site.start(on_request, on_headers=on_headers)
    client = site.dial()
    client.send(request("POST", "/1", body=b"one") + request("POST", "/2", body=b"two"))
    site.until(lambda: sinks and sinks[0].ends)
    site.settle()
    assert (asked, len(sinks)) == ([], 1)
    assert sinks[0].flow is not None
    sinks[0].flow.resume()
    site.until(lambda: len(sinks) == 2 and sinks[1].ends)
    assert asked == ["/1"]
    assert sinks[1].flow is not None
    sinks[1].flow.resume()
    assert [answer.body for answer in client.answers("POST", "POST")] == [b"/1", b"/2"]


@pytest.mark.parametrize("where", ["write", "end", "fail"])
@pytest.mark.parametrize("kind", [BodyTooLargeError, ZeroDivisionError])
def test_a_sink_that_fails_ends_its_request_only(site: Site, where: str, kind: type[Exception]) -> None:
    """A limit of its own is answered as such, a mistake with 500; it is aborted once, and the connection goes on."""
    sinks: list[Collector] = []

    class Failing(Collector):
        def write(self, data: bytes) -> None:
            super().write(data)
            if where == "write":
                raise kind
            if where == "fail":
                assert self.flow is not None
                self.flow.fail(kind())

        def end(self) -> None:
            if where == "end":
                raise kind
            super().end()

    def on_headers(req: HttpRequest, _res: HttpResponse) -> None:
        sinks.append(Failing())
        req.receive_into(sinks[-1])

    site.start(never, on_headers=on_headers)
    client = site.dial()
    client.send(request("POST", "/", body=bytes(100_000)) + CHUNKED + chunks(b"abc"))
    status = 413 if issubclass(kind, LimitError) else 500
    assert [answer.status for answer in client.answers("POST", "POST")] == [status, status]
    assert [sink.ends for sink in sinks] == [["abort"], ["abort"]]
    assert [type(error) for error in site.errors] == ([kind, kind] if status == 500 else [])
    site.errors.clear()


def test_a_sink_that_fails_while_it_is_paused(site: Site) -> None:
    """What it has not taken is thrown away, and the connection goes on."""
    sinks: list[Collector] = []

    class Pausing(Collector):
        def write(self, data: bytes) -> None:
            super().write(data)
            assert self.flow is not None
            self.flow.pause()

    def on_headers(req: HttpRequest, _res: HttpResponse) -> None:
        if req.method == "POST":
            sinks.append(Pausing())
            req.receive_into(sinks[-1])

    site.start(lambda _req, res: res.send("next"), on_headers=on_headers)
    client = site.dial()
    client.send(request("POST", "/", body=bytes(200_000)) + request("GET", "/"))
    site.until(lambda: sinks and sinks[0].data)
    site.settle()
    assert sinks[0].flow is not None
    sinks[0].flow.fail(BodyTooLargeError("enough"))
    assert [answer.status for answer in client.answers("POST", "GET")] == [413, 200]
    assert sinks[0].ends == ["abort"]


def test_a_sink_may_do_anything_when_it_is_aborted(site: Site) -> None:
    """Its flow is over: nothing comes of it, now or later."""
    sinks: list[Collector] = []

    class Stubborn(Collector):
        def abort(self, error: Exception) -> None:
            super().abort(error)
            assert self.flow is not None
            self.flow.pause()
            self.flow.resume()
            self.flow.fail(error)
            self.flow.pause()

    def on_headers(req: HttpRequest, _res: HttpResponse) -> None:
        sinks.append(Stubborn())
        req.receive_into(sinks[-1])

    site.start(never, on_headers=on_headers)
    client = site.dial()
    client.send(request("POST", "/", "Content-Length: 4") + b"ab")
    site.until(lambda: sinks and sinks[0].data)
    client.close()
    site.until(lambda: sinks[0].ends)
    assert sinks[0].ends == ["abort"]
    assert sinks[0].flow is not None
    sinks[0].flow.resume()
    sinks[0].flow.fail(BodyTooLargeError("too late"))
    with pytest.raises(BodyNotReadyError):
        _ = sinks[0].flow.loop
    site.settle()
    assert sinks[0].ends == ["abort"]


def test_a_sink_that_fails_when_it_is_aborted_is_reported(site: Site) -> None:
    """And the client is answered as if it had not."""

    class Failing(Collector):
        def abort(self, error: Exception) -> None:
            super().abort(error)
            raise ZeroDivisionError

    site.start(never, on_headers=lambda req, _res: req.receive_into(Failing()), limits=Limits(body=2))
    client = site.dial()
    client.send(CHUNKED + chunks(b"abc"))
    assert client.answer("POST").status == 413
    assert isinstance(site.errors.pop(), ZeroDivisionError)


def test_a_refused_body_without_end_waits_for_the_answers_before_it(site: Site) -> None:
    """It is read no further than others are, and then the connection ends with the answers that are due."""
    kept: list[HttpResponse] = []

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        if req.method == "POST":
            res.send_error(403)

    site.start(lambda _req, res: kept.append(res), on_headers=on_headers)
    client = site.dial()
    client.send(request("GET", "/") + CHUNKED + chunks(bytes(SKIP_BYTES + 1)) + request("GET", "/"))
    site.until(lambda: kept)
    site.settle()
    assert not client.received
    kept[0].send("first")
    assert [answer.status for answer in parse(client.read_all(), ["GET", "POST"], ended=True)] == [200, 403]
    assert len(kept) == 1


def test_where_a_body_goes_is_chosen_once_and_in_time(site: Site) -> None:
    """The second choice, and one that comes too late, raise; nothing is lost by that."""

    def on_headers(req: HttpRequest, _res: HttpResponse) -> None:
        if req.path == "/twice":
            req.receive_into(Collector())
            with pytest.raises(BodyNotReadyError):
                req.receive_into(Collector())
            with pytest.raises(BodyNotReadyError):
                req.stream_to_file()
            with pytest.raises(BodyNotReadyError):
                req.body_stream(bytes)

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        if req.method == "POST":
            with pytest.raises(BodyNotReadyError):
                req.receive_into(Collector())
        else:
            req.receive_into(Collector())  # never called
        res.send(req.body if req.sink is None else b"sink")

    site.start(on_request, on_headers=on_headers)
    client = site.dial()
    client.send(request("POST", "/twice", body=b"x") + request("POST", "/late", body=b"y") + request("GET", "/none"))
    assert [answer.body for answer in client.answers("POST", "POST", "GET")] == [b"sink", b"y", b""]


# Whatever comes ------------------------------------------------------------------------------------------------------

Plan = tuple[str, int, bool, int]


@given(
    plans=st.lists(
        st.tuples(
            st.sampled_from(["memory", "stream", "sink", "file", "early", "refused"]),
            st.sampled_from([0, 1, 100, 70_000]),
            st.booleans(),
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=8,
    ),
    cut=st.integers(1, 100_000),
)
def test_h5_any_mixture_of_bodies_and_answers_keeps_order(plans: list[Plan], cut: int) -> None:
    """However bodies are received, cut and answered, now or later: each answer in its place, nothing lost."""
    content = os.urandom(80_000)
    with Site(clock=FakeClock()) as site:

        def later(delay: int, act: Callable[[], object]) -> None:
            if delay:
                site.loop.call_later(delay / 1000, act)
            else:
                act()

        def on_headers(req: HttpRequest, res: HttpResponse) -> None:
            number = int(req.path[1:])
            way, _, _, delay = plans[number]
            match way:
                case "stream":
                    got = bytearray()

                    def on_data(data: bytes) -> None:
                        got.extend(data)
                        if delay:
                            stream.pause()
                            site.loop.call_later(delay / 1000, stream.resume)

                    stream = req.body_stream(on_data, lambda: later(delay, lambda: res.send(got)))
                case "sink":
                    req.receive_into(Collector())
                case "file":
                    req.stream_to_file()
                case "early":
                    req.body_stream(lambda _data: None)
                    res.send("early")
                case "refused":
                    res.send_error(403)

        def on_request(req: HttpRequest, res: HttpResponse) -> None:
            _, _, _, delay = plans[int(req.path[1:])]
            later(delay, lambda: res.send(req.sink.data if isinstance(req.sink, Collector) else req.body))

        site.start(on_request, on_headers=on_headers)
        client = site.dial()
        spelt = []
        for number, (_, size, chunked, _) in enumerate(plans):
            data = content[number : number + size]
            if chunked:
                spelt.append(request("POST", f"/{number}", "Transfer-Encoding: chunked"))
                spelt.append(chunks(*([data] if data else [])))
            else:
                spelt.append(request("POST", f"/{number}", body=data))
        left = memoryview(b"".join(spelt))
        step = max(cut, len(left) // 500)  # a byte at a time is for the tests of the parser
        found: list[bytes] = []

        def over() -> bool:
            nonlocal left
            if left:
                try:
                    left = left[client.sock.send(left[:step]) :]
                except BlockingIOError:
                    pass
            assert site.clock is not None
            site.clock.advance(0.0005)
            client.poll()
            if left or site.clock() % 5_000_000:
                return False
            answers = parse(bytes(client.received), ["POST"] * len(plans))
            found[:] = [answer.body for answer in answers if answer.complete]
            return len(found) == len(plans)

        site.until(over)
        for number, (way, size, _, _) in enumerate(plans):
            expected = content[number : number + size]
            if way == "early":
                assert found[number] == b"early"
            elif way == "refused":
                assert found[number].startswith(b"403")
            else:
                assert found[number] == expected
