"""Responses as the client sees them: whole, streamed, from files; framed by the server, never split by a header."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import pytest
from tests.http.serving import Answer, Site, parse, request
from tests.support.descriptors import file_with, is_open

from nimloop_http import HttpRequest, HttpResponse, ResponseStream, Timeouts
from nimloop_http.errors import ContentLengthError, InvalidHeaderError, ResponseSentError, StaleResponseError

pytest_plugins = ("tests.http.fixtures",)

Act = Callable[[HttpResponse], object]


def handler(act: Act) -> Callable[[HttpRequest, HttpResponse], None]:
    """Make a handler of something that is done to the response alone."""

    def on_request(_req: HttpRequest, res: HttpResponse) -> None:
        act(res)

    return on_request


def answer_to(site: Site, act: Act, method: str = "GET", version: str = "1.1") -> Answer:
    """Serve one request with `act`, over a connection of its own."""
    site.start(handler(act))
    fields = ["Connection: keep-alive"] if version == "1.0" else []
    client = site.dial()
    client.send(request(method, "/", *fields, version=version))
    return client.answer(method)


def hello(res: HttpResponse) -> None:
    """Send a whole body."""
    res.send(b"hello")


def hello_streamed(res: HttpResponse) -> None:
    """Send a body without telling its length."""
    stream = res.stream("text/x")
    stream.write(b"he")
    stream.write("llo")
    stream.end()


def hello_sized(res: HttpResponse) -> None:
    """Send a body in pieces, with its length."""
    stream = res.stream("text/x", length=5)
    stream.write(memoryview(b"hel"))
    stream.write(bytearray(b"lo"))
    stream.end()


def hello_from_file(res: HttpResponse) -> None:
    """Send a body from a file."""
    res.send_file(file_with(b"<hello>"), 1, 5)


# What is sent for a response with a body in each way of giving it: length, coding, body; None: the field is absent.
WHOLE = [hello, hello_sized, hello_from_file]


# Framing -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", [hello, hello_streamed, hello_sized, hello_from_file])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("status", [200, 206, 299, 404, 500])
def test_h9_a_response_with_a_body_is_framed(site: Site, act: Act, version: str, method: str, status: int) -> None:
    """Exactly one of length, chunks or the end of the connection frames the body; HEAD gets the same head alone."""
    answer = answer_to(site, lambda res: act(res.status(status)), method, version)
    assert answer.status == status
    assert answer.body == (b"" if method == "HEAD" else b"hello")
    length, coding = answer.get("content-length"), answer.get("transfer-encoding")
    if act is not hello_streamed:
        assert (length, coding) == ("5", None)
    elif version == "1.1":
        assert (length, coding) == (None, "chunked")
    else:
        assert (length, coding) == (None, None)
    if act is hello_streamed and version == "1.0":
        assert answer.get("connection") == "close"
    else:
        assert answer.get("connection") == ("keep-alive" if version == "1.0" else None)
    assert answer.version == "1.1"
    assert answer.get("date") is not None


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize(
    "act",
    [
        lambda res: res.send(),
        lambda res: res.stream().end(),
        lambda res: res.stream(length=0).end(),
        lambda res: res.send_file(file_with(b""), 0, 0),
    ],
    ids=["send", "stream", "sized", "file"],
)
def test_h9_a_response_that_cannot_have_a_body_has_none(
    site: Site, act: Act, version: str, method: str, status: int
) -> None:
    """204 and 304 carry neither a body nor a field that announces one."""
    answer = answer_to(site, lambda res: act(res.status(status)), method, version)
    assert (answer.status, answer.body) == (status, b"")
    assert answer.get("content-length") is None
    assert answer.get("transfer-encoding") is None


@pytest.mark.parametrize("act", [hello, hello_sized, hello_from_file])
def test_h9_a_body_for_204_is_a_mistake(site: Site, act: Act) -> None:
    """The handler hears of it, the client gets 500."""
    answer = answer_to(site, lambda res: act(res.status(204)))
    assert answer.status == 500
    assert isinstance(site.errors.pop(), ValueError)


@pytest.mark.parametrize("act", [hello, hello_streamed, hello_sized, hello_from_file])
def test_h9_304_leaves_the_body_out(site: Site, act: Act) -> None:
    """A handler need not care: what it sends with 304 stays here."""
    answer = answer_to(site, lambda res: act(res.status(304)))
    assert (answer.status, answer.body, answer.get("content-length")) == (304, b"", None)


def test_h9_nothing_follows_a_head_that_has_no_body(site: Site) -> None:
    """After the bodiless answers the next one begins at once, with every method and way of sending (byte-exact)."""
    ways = [hello, hello_streamed, hello_sized, hello_from_file]

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        ways[int(req.query)](res.status(304 if req.path == "/304" else 200))

    site.start(on_request)
    client = site.dial()
    methods = []
    for way in range(4):
        for method, path in (("HEAD", "/"), ("GET", "/304"), ("GET", "/"), ("HEAD", "/304")):
            client.send(request(method, f"{path}?{way}"))
            methods.append(method)
    bodies = [answer.body for answer in client.answers(*methods)]
    assert bodies == [b"", b"", b"hello", b""] * 4


# Whole responses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "sent", "content_type"),
    [
        ("hällo", "hällo".encode(), "text/plain; charset=utf-8"),
        ("", b"", "text/plain; charset=utf-8"),
        (b"x", b"x", "application/octet-stream"),
        (b"", b"", None),
        (bytearray(b"x"), b"x", "application/octet-stream"),
        (memoryview(b"xyz")[::2], b"xz", "application/octet-stream"),
        (memoryview(b"abcdefgh").cast("I"), b"abcdefgh", "application/octet-stream"),
    ],
)
def test_text_and_bytes_get_their_type(
    site: Site, body: str | bytes | bytearray | memoryview, sent: bytes, content_type: str | None
) -> None:
    """Text is UTF-8, bytes are just bytes, and nothing has no type."""
    answer = answer_to(site, lambda res: res.send(body))
    assert (answer.body, answer.get("content-type"), answer.get("content-length")) == (
        sent,
        content_type,
        str(len(sent)),
    )


def test_no_body_is_the_default(site: Site) -> None:
    """`send()` alone is a complete answer."""
    answer = answer_to(site, lambda res: res.send())
    assert (answer.status, answer.body, answer.get("content-length")) == (200, b"", "0")


def test_a_number_is_no_body(site: Site) -> None:
    """It does not become so many zeros."""
    answer = answer_to(site, lambda res: res.send(5))  # type: ignore[arg-type]
    assert answer.status == 500
    assert isinstance(site.errors.pop(), TypeError)


def test_fields_go_out_in_order_and_repeatedly(site: Site) -> None:
    """Each call adds a field; Content-Type alone replaces the one before."""

    def act(res: HttpResponse) -> None:
        res.header("Set-Cookie", "a=1").header("set-cookie", "b=2").header("X-L", " \xe9 ")
        res.header("Content-Type", "text/a").header("content-type", "text/b")
        res.status(201).send("x")

    answer = answer_to(site, act)
    assert answer.status == 201
    assert [value for name, value in answer.headers if name == "set-cookie"] == ["a=1", "b=2"]
    assert (answer.get("x-l"), answer.get("content-type")) == ("\xe9", "text/b")


def test_json_is_compact_and_utf_8(site: Site) -> None:
    """JSON has its own type, unless another was set."""
    answer = answer_to(site, lambda res: res.send_json({"ä": [1, None]}))
    assert (answer.body, answer.get("content-type")) == ('{"ä":[1,null]}'.encode(), "application/json")
    answer = answer_to(site, lambda res: res.header("Content-Type", "application/x+json").send_json(1))
    assert (json.loads(answer.body), answer.get("content-type")) == (1, "application/x+json")


@pytest.mark.parametrize("value", [float("nan"), object(), {(): 1}])
def test_what_json_cannot_hold_is_an_error(site: Site, value: object) -> None:
    """NaN is not JSON either."""
    assert answer_to(site, lambda res: res.send_json(value)).status == 500
    assert isinstance(site.errors.pop(), (TypeError, ValueError))


def test_h12_errors_leave_the_connection_alone(site: Site) -> None:
    """A 404 is an answer like others: the connection goes on."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        res.send_error(int(req.path[1:]), req.query)

    site.start(on_request)
    client = site.dial()
    for status, message, body in (
        (404, "", b"404 Not Found\n"),
        (400, "no", b"400 Bad Request: no\n"),
        (503, "", b"503 Service Unavailable\n"),
        (599, "x", b"599 : x\n"),
    ):
        client.send(request("GET", f"/{status}?{message}"))
        answer = client.answer()
        assert (answer.status, answer.body, answer.get("connection")) == (status, body, None)


def test_a_redirect_names_the_location(site: Site) -> None:
    """302 unless told otherwise."""
    answer = answer_to(site, lambda res: res.redirect("/there?a=b"))
    assert (answer.status, answer.get("location"), answer.body) == (302, "/there?a=b", b"")
    assert answer_to(site, lambda res: res.redirect("/", 308)).status == 308


def test_close_ends_the_connection_after_the_answer(site: Site) -> None:
    """The client is told, and then sees the end."""
    site.start(handler(lambda res: res.close_connection().send("bye")))
    client = site.dial()
    client.send(request())
    (answer,) = parse(client.read_all(), ["GET"], ended=True)
    assert (answer.body, answer.get("connection")) == (b"bye", "close")


@pytest.mark.parametrize("size", [65535, 65536, 65537, 3 << 20, 70 << 20])
def test_a_body_of_any_size_is_sent_as_a_whole(site: Site, size: int) -> None:
    """Also one larger than what the connection lets a stream queue."""
    site.start(handler(lambda res: res.send(b"\xa5" * size)))
    client = site.dial()
    client.send(request("GET", "/", "Connection: close"))
    head, _, body = client.read_all().partition(b"\r\n\r\n")
    assert f"Content-Length: {size}\r\n".encode() in head
    assert (len(body), body.strip(b"\xa5")) == (size, b"")


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "a\r\nSet-Cookie: stolen=1"),
        ("X", "a\n\n<script>"),
        ("X", "a\0b"),
        ("X", "\u010d\u010a"),
        ("Content-Type", "text/html\r\nX: y"),
        ("X\r\nY", "a"),
        ("X: y", "a"),
        ("", "a"),
        ("Content-Length", "5"),
        ("transfer-encoding", "chunked"),
        ("Connection", "keep-alive"),
        ("Date", "now"),
    ],
)
def test_h10_injection_is_refused(site: Site, name: str, value: str) -> None:
    """What would split the response, or frame it twice, raises; nothing of it gets out."""

    def act(res: HttpResponse) -> None:
        with pytest.raises(InvalidHeaderError):
            res.header(name, value)
        res.send("fine")

    answer = answer_to(site, act)
    assert answer.body == b"fine"
    assert {key for key, _ in answer.headers} == {"date", "content-length", "content-type"}


@pytest.mark.parametrize("content_type", ["a\r\nb: c", "a\n", "\u2028"])
def test_h10_the_type_of_a_stream_is_checked_too(site: Site, content_type: str) -> None:
    """The short way to set a field is no way around the check, and the response can still be sent."""

    def act(res: HttpResponse) -> None:
        with pytest.raises(InvalidHeaderError):
            res.stream(content_type)
        res.send("fine")

    assert answer_to(site, act).body == b"fine"


def test_h10_a_location_is_checked_too(site: Site) -> None:
    """A redirect to what a client has sent cannot split the response."""
    assert answer_to(site, lambda res: res.redirect("/\r\nX: y")).status == 500
    assert isinstance(site.errors.pop(), InvalidHeaderError)


def test_a_status_has_to_be_one(site: Site) -> None:
    """An interim status is no answer."""
    assert answer_to(site, lambda res: res.status(101)).status == 500
    assert isinstance(site.errors.pop(), ValueError)


def again(res: HttpResponse) -> list[Callable[[], object]]:
    """List everything that a response must not do twice, or when the client has gone."""
    return [
        lambda: res.status(200),
        lambda: res.header("X", "y"),
        res.close_connection,
        res.send,
        lambda: res.send_json(1),
        lambda: res.send_error(404),
        lambda: res.redirect("/"),
        res.stream,
        lambda: res.stream(length=3),
        lambda: res.send_file(file_with(b"x"), 0, 1),
    ]


@pytest.mark.parametrize("act", [hello, hello_streamed, hello_sized, hello_from_file, lambda res: res.stream()])
def test_nothing_is_sent_twice(site: Site, act: Act) -> None:
    """The second attempt raises, whatever the first one was, and closes the file it was given."""
    kept: list[HttpResponse] = []

    def on_request(_req: HttpRequest, res: HttpResponse) -> None:
        before = res.sent
        act(res)
        assert (before, res.sent) == (False, True)
        kept.append(res)
        for attempt in again(res):
            with pytest.raises(ResponseSentError):
                attempt()

    site.start(on_request)
    client = site.dial()
    client.send(request())
    site.until(lambda: kept)
    site.settle()
    client.poll()
    assert client.received.count(b"HTTP/1.1") == 1


def test_nothing_is_sent_to_a_client_that_has_gone(site: Site) -> None:
    """A handle that is used too late raises (H5)."""
    kept: list[HttpResponse] = []
    site.start(handler(kept.append))
    client = site.dial()
    client.send(request())
    site.until(lambda: kept)
    (res,) = kept
    assert not res.closed
    client.abort()
    site.until(lambda: res.closed)
    for attempt in again(res):
        with pytest.raises(StaleResponseError):
            attempt()
    assert not res.done


@pytest.mark.parametrize(("offset", "count"), [(-1, 5), (0, -5), (-3, -3)])
def test_a_part_of_a_file_is_not_negative(site: Site, offset: int, count: int) -> None:
    """The file is closed, and the client gets 500 instead of a length below zero."""
    fd = file_with(b"hello")
    assert answer_to(site, lambda res: res.send_file(fd, offset, count)).status == 500
    assert isinstance(site.errors.pop(), ValueError)
    assert not is_open(fd)


def test_a_length_is_not_negative(site: Site) -> None:
    """A stream cannot promise less than nothing."""
    assert answer_to(site, lambda res: res.stream(length=-1)).status == 500
    assert isinstance(site.errors.pop(), ValueError)


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file_is_taken_over(site: Site, method: str) -> None:
    """The descriptor is closed once the range is out, or at once where it is not wanted."""
    data = os.urandom(300_000)
    fd = file_with(data)
    answer = answer_to(site, lambda res: res.send_file(fd, 1000, 250_000), method)
    assert answer.body == (data[1000:251_000] if method == "GET" else b"")
    assert answer.get("content-length") == "250000"
    assert answer.get("content-type") == "application/octet-stream"
    assert not is_open(fd)


@pytest.mark.parametrize(("part", "expected"), [((), b"0123456789"), ((4,), b"456789"), ((4, 3), b"456"), ((20,), b"")])
def test_a_file_object_stays_the_handlers(site: Site, tmp_path: Path, part: tuple[int, ...], expected: bytes) -> None:
    """It may be closed at once; without a count, all that follows is sent."""
    path = tmp_path / "digits"
    path.write_bytes(b"0123456789")
    kept: list[BinaryIO] = []

    def act(res: HttpResponse) -> None:
        with path.open("rb") as file:
            res.send_file(file, *part)
            assert not file.closed
            kept.append(file)

    answer = answer_to(site, act)
    assert answer.body == expected
    assert answer.get("content-length") == str(len(expected))
    assert kept[0].closed


def test_a_file_that_is_shorter_than_promised_cuts_the_connection(site: Site) -> None:
    """The client must not take it for complete."""
    site.start(handler(lambda res: res.send_file(file_with(b"short"), 0, 50)))
    client = site.dial()
    client.send(request())
    with pytest.raises(ConnectionResetError):
        client.read_all()


def test_a_file_for_a_closed_connection_is_closed(site: Site) -> None:
    """Also when the connection ended in this very handler."""
    fd = file_with(b"hello")

    def act(res: HttpResponse) -> None:
        res.connection.close()
        res.send_file(fd, 0, 5)

    site.start(handler(act))
    client = site.dial()
    client.send(request() + request())
    assert client.read_all() == b""
    assert not is_open(fd)


# Streams -------------------------------------------------------------------------------------------------------------


def test_h14_a_stream_is_chunked(site: Site) -> None:
    """Each piece is a chunk, empty ones are left out because they would end the body."""

    def act(res: HttpResponse) -> None:
        stream = res.stream("text/x")
        before = stream.closed
        assert stream.write(b"")
        assert stream.write("ä")
        assert stream.write(b"z" * 20)
        stream.end()
        assert (before, stream.closed) == (False, True)
        assert (res.done, res.bytes_sent) == (True, 22)

    site.start(handler(act))
    client = site.dial()
    client.send(request())
    site.until(lambda: client.poll() or client.received.endswith(b"0\r\n\r\n"))
    body = bytes(client.received).partition(b"\r\n\r\n")[2]
    assert body == b"2\r\n\xc3\xa4\r\n14\r\n" + b"z" * 20 + b"\r\n0\r\n\r\n"


def test_a_stream_leaves_as_it_is_written(site: Site) -> None:
    """The head does not wait for the first piece, nor a piece for the next."""
    streams: list[ResponseStream] = []
    site.start(handler(lambda res: streams.append(res.stream())))
    client = site.dial()
    client.send(request())
    site.until(lambda: client.poll() or client.received.endswith(b"\r\n\r\n"))
    client.received.clear()
    for piece in (b"one", b"two"):
        streams[0].write(piece)
        site.until(lambda: client.poll() or client.received)
        assert client.received == b"3\r\n" + piece + b"\r\n"
        client.received.clear()
    streams[0].end()
    site.until(lambda: client.poll() or client.received)
    assert client.received == b"0\r\n\r\n"


def test_http_1_0_gets_no_chunks(site: Site) -> None:
    """The body ends with the connection, and the head says so, even if the client had asked to keep it."""
    site.start(handler(hello_streamed))
    client = site.dial()
    client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    head, _, body = client.read_all().partition(b"\r\n\r\n")
    assert body == b"hello"
    assert b"\r\nConnection: close" in head
    assert b"Transfer-Encoding" not in head


def test_http_1_0_keeps_the_connection_when_it_asked_to(site: Site) -> None:
    """A body with a length needs no end of the connection."""
    site.start(handler(hello_sized))
    client = site.dial()
    for _ in range(2):
        client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = client.answer()
        assert (answer.body, answer.get("connection")) == (b"hello", "keep-alive")
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    (answer,) = parse(client.read_all(), ["GET"], ended=True)
    assert (answer.body, answer.get("connection")) == (b"hello", "close")


def test_a_type_set_before_counts_for_a_stream(site: Site) -> None:
    """The argument of `stream` is only a default."""
    answer = answer_to(site, lambda res: res.header("Content-Type", "a/b").stream("c/d").end())
    assert answer.get("content-type") == "a/b"
    assert answer_to(site, lambda res: res.stream().end()).get("content-type") == "application/octet-stream"


def test_writing_too_much_cuts_the_connection(site: Site) -> None:
    """What exceeds the promise would be read as the next response."""

    def act(res: HttpResponse) -> None:
        stream = res.stream(length=3)
        stream.write(b"ab")
        with pytest.raises(ContentLengthError, match="2 bytes more"):
            stream.write(b"cde")
        stream.write(b"c")

    site.start(handler(act))
    client = site.dial()
    client.send(request() + request())
    with pytest.raises(ConnectionResetError):
        client.read_all()
    assert b"ab" not in client.received


def test_writing_too_little_cuts_the_connection(site: Site) -> None:
    """The client must not wait for the rest, nor take it for complete."""

    def act(res: HttpResponse) -> None:
        stream = res.stream(length=3)
        stream.write(b"ab")
        with pytest.raises(ContentLengthError, match="1 bytes less"):
            stream.end()

    site.start(handler(act))
    client = site.dial()
    client.send(request())
    with pytest.raises(ConnectionResetError):
        client.read_all()


def test_a_handler_need_not_stream_to_head(site: Site) -> None:
    """To HEAD, the promised length is what a GET would get, and writing it is optional."""
    answer = answer_to(site, lambda res: res.stream(length=1000).end(), "HEAD")
    assert (answer.status, answer.get("content-length")) == (200, "1000")


def test_a_stream_ends_once(site: Site) -> None:
    """After `end` nothing more can be written, nor ended."""

    def act(res: HttpResponse) -> None:
        stream = res.stream()
        stream.end()
        with pytest.raises(ResponseSentError):
            stream.end()
        with pytest.raises(ResponseSentError):
            stream.write(b"x")

    assert answer_to(site, act).complete


def test_a_number_is_no_piece(site: Site) -> None:
    """It does not become so many zeros."""

    def act(res: HttpResponse) -> None:
        stream = res.stream()
        with pytest.raises(TypeError):
            stream.write(5)  # type: ignore[arg-type]
        stream.end()

    assert answer_to(site, act).body == b""


def test_a_stream_hears_that_the_client_has_gone(site: Site) -> None:
    """`on_close` of the stream and of the response come once each, and writing raises from then on."""
    told: list[str] = []
    streams: list[ResponseStream] = []

    def act(res: HttpResponse) -> None:
        stream = res.stream()
        stream.on_close = lambda: told.append("stream")
        res.on_close = lambda: told.append("response")
        streams.append(stream)

    site.start(handler(act))
    client = site.dial()
    client.send(request())
    site.until(lambda: streams)
    client.abort()
    site.until(lambda: told)
    site.settle()
    assert sorted(told) == ["response", "stream"]
    (stream,) = streams
    assert stream.closed
    for attempt in (stream.end, lambda: stream.write(b"x")):
        with pytest.raises(StaleResponseError):
            attempt()


def test_nobody_is_told_after_the_end(site: Site) -> None:
    """A client that goes away after a complete response is nothing to hear of."""
    told: list[str] = []
    done: list[HttpResponse] = []

    def act(res: HttpResponse) -> None:
        res.on_close = lambda: told.append("response")
        stream = res.stream()
        stream.on_close = lambda: told.append("stream")
        res.on_done = done.append
        stream.end()
        assert done == [res]

    site.start(handler(act))
    client = site.dial()
    client.send(request())
    client.answer()
    client.abort()
    site.until(lambda: done[0].connection.closed)
    site.settle()
    assert told == []


def test_a_slow_reader_holds_the_writer_back(site: Site) -> None:
    """`write` says False, `on_drain` says go on; never more than a little waits in memory, and all of it arrives."""
    total = 24 << 20
    piece = bytes(range(256)) * 64
    most = 0
    drains = 0

    def act(res: HttpResponse) -> None:
        res.connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        stream = res.stream(length=total)
        left = total

        def produce() -> None:
            nonlocal left, most
            while left:
                left -= len(piece)
                room = stream.write(piece)
                most = max(most, res.connection.write_buffer_size)
                if not room:
                    return
            stream.end()

        def on_drain() -> None:
            nonlocal drains
            drains += 1
            produce()

        stream.on_drain = on_drain
        produce()

    site.start(handler(act))
    client = site.dial(receive_buffer=1 << 16)
    client.send(request("GET", "/", "Connection: close"))
    site.settle(50)
    assert drains < 50  # nobody reads: it stands still
    body = client.read_all().partition(b"\r\n\r\n")[2]
    assert body == piece * (total // len(piece))
    assert most <= (64 << 10) + 2 * len(piece)
    assert drains > 50


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204)])
def test_a_body_that_nobody_gets_keeps_nobody_busy(site: Site, method: str, status: int) -> None:
    """A handler that writes while there is room is told to wait, then that it is over; the next is answered."""
    told: list[str] = []
    streams: list[ResponseStream] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        if req.path == "/short":
            res.send("short")
            return
        stream = res.status(status).stream()
        streams.append(stream)

        def produce() -> None:
            while stream.write(bytes(1000)):
                pass

        stream.on_drain = produce
        stream.on_close = lambda: told.append("stream")
        res.on_close = lambda: told.append("response")
        produce()

    site.start(on_request)
    client = site.dial()
    client.send(request(method, "/endless") * 2 + request("GET", "/short", "Connection: close"))
    answers = parse(client.read_all(), [method, method, "GET"], ended=True)
    assert [answer.status for answer in answers] == [status, status, 200]
    assert told == ["response", "stream"] * 2
    for stream in streams:
        assert stream.closed
        assert not stream.write(b"for nobody")
        stream.end()


def test_a_long_body_for_head_may_be_written_at_once(site: Site) -> None:
    """It is over when the handler says so, if that is before the loop goes on."""
    told: list[str] = []

    def act(res: HttpResponse) -> None:
        stream = res.stream(length=1 << 20)
        stream.on_close = lambda: told.append("close")
        stream.write(bytes(1 << 20))
        stream.end()

    assert answer_to(site, act, "HEAD").get("content-length") == str(1 << 20)
    site.settle()
    assert not told


def test_on_drain_is_optional(site: Site) -> None:
    """A writer that does not ask to be told is not, and may go on whenever it likes."""
    streams: list[ResponseStream] = []

    def act(res: HttpResponse) -> None:
        stream = res.stream(length=(4 << 20) + 1)
        assert not stream.write(bytes(4 << 20))
        streams.append(stream)

    site.start(handler(act))
    client = site.dial()
    client.send(request())
    site.until(lambda: client.poll() or len(client.received) > 4 << 20)
    assert streams[0].write(b"x")
    streams[0].end()
    assert len(client.answer().body) == (4 << 20) + 1


def test_on_drain_is_only_for_those_who_were_held_back(site: Site) -> None:
    """A writer that was never told to wait is not told to go on, whatever others have queued before it."""
    drains: list[str] = []
    kept: list[HttpResponse] = []
    streams: list[ResponseStream] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        if req.path == "/big":
            kept.append(res)
        else:
            stream = res.stream()
            stream.on_drain = lambda: drains.append("drain")
            streams.append(stream)

    site.start(on_request)
    client = site.dial()
    for size in (4 << 20, 0):
        client.send(request("GET", "/big") + request())
        site.until(lambda: streams)
        kept.pop().send(bytes(size))
        site.until(lambda size=size: client.poll() or len(client.received) > size)  # type: ignore[misc]
        site.settle()
        streams.pop().end()
        client.answers("GET", "GET")
        client.received.clear()
    assert drains == []


def test_no_drain_is_reported_after_the_client_has_gone(site: Site) -> None:
    """A stream that is let go when its turn has come, and is lost in the same moment, is not told to write."""
    kept: list[HttpResponse] = []
    streams: list[ResponseStream] = []

    def on_request(_req: HttpRequest, res: HttpResponse) -> None:
        kept.append(res)
        if len(kept) == 2:
            stream = res.stream()
            stream.write(b"x")
            stream.on_drain = lambda: stream.write(b"y")
            streams.append(stream)

    site.start(on_request)
    client = site.dial()
    client.send(request() + request())
    site.until(lambda: streams)
    kept[0].send()
    kept[1].connection.abort()
    site.settle()
    assert streams[0].closed


def test_a_stream_that_waits_for_its_turn_is_bounded(site: Site) -> None:
    """One that ignores `write` returning False behind an answer that never comes is cut, not collected."""
    streams: list[ResponseStream] = []
    first: list[HttpResponse] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        if req.path == "/1":
            first.append(res)
        else:
            streams.append(res.stream())

    site.start(on_request)
    client = site.dial()
    client.send(request("GET", "/1") + request("GET", "/2"))
    site.until(lambda: streams)
    (stream,) = streams
    first[0].connection.max_buffer = 1 << 20
    written = 0
    while not stream.closed:
        assert not stream.write(bytes(65536))
        written += 65536
        assert written <= 3 << 20
        site.loop.run_once(0)
    assert first[0].closed
    with pytest.raises(ConnectionResetError):
        client.read_all()


def test_a_stream_that_ignores_the_client_is_cut(site: Site) -> None:
    """The connection's limit holds for a stream, and the handler is told by `on_close`."""
    told: list[str] = []
    streams: list[ResponseStream] = []

    def act(res: HttpResponse) -> None:
        res.connection.max_buffer = 1 << 20
        stream = res.stream()
        stream.on_close = lambda: told.append("stream")
        streams.append(stream)
        for _ in range(64):
            stream.write(bytes(65536))

    site.start(handler(act))
    client = site.dial()
    client.send(request() + request())
    with pytest.raises(ConnectionResetError):
        client.read_all()
    site.until(lambda: told)
    assert told == ["stream"]
    assert len(streams) == 1  # nothing was handled after the cut


# What it tells ------------------------------------------------------------------------------------------------------


def test_on_done_comes_once_with_the_facts(site: Site) -> None:
    """Status and size are those of what was sent, for each way of sending."""
    seen: list[tuple[int, int, bool]] = []
    ways = [hello, hello_streamed, hello_sized, hello_from_file]

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        res.on_done = lambda res: seen.append((res.status_code, res.bytes_sent, res.done))
        ways[int(req.query)](res.status(203))

    site.start(on_request)
    client = site.dial()
    client.send(b"".join(request(method, f"/?{way}") for way in range(4) for method in ("GET", "HEAD")))
    client.answers(*["GET", "HEAD"] * 4)
    assert seen == [(203, 5, True), (203, 0, True)] * 4


def test_an_on_done_that_raises_harms_nobody(site: Site) -> None:
    """The exception is reported, and the answers after it leave all the same."""

    def act(res: HttpResponse) -> None:
        def fail(_res: HttpResponse) -> None:
            raise ZeroDivisionError

        res.on_done = fail
        res.send("x")

    site.start(handler(act))
    client = site.dial()
    client.send(request() * 3)
    assert [answer.body for answer in client.answers(*["GET"] * 3)] == [b"x"] * 3
    assert [type(error) for error in site.errors] == [ZeroDivisionError] * 3
    site.errors.clear()


def test_what_is_asked_of_an_end(site: Site) -> None:
    """`on_done` may be looked at and taken away; a cleanup that raises is reported, and keeps no other from running."""
    told: list[str] = []
    kept: list[HttpResponse] = []

    def act(res: HttpResponse) -> None:
        def on_done(_res: HttpResponse) -> None:
            told.append("never")

        def fail() -> None:
            raise ZeroDivisionError

        assert res.on_done is None
        res.on_done = on_done
        assert res.on_done is on_done
        res.on_done = None
        res.at_end(fail)
        res.at_end(lambda: told.append("end"))
        res.send("x")
        kept.append(res)

    site.start(handler(act))
    client = site.dial()
    client.send(request())
    assert client.answer().body == b"x"
    assert told == ["end"]
    assert isinstance(site.errors.pop(), ZeroDivisionError)
    with pytest.raises(ResponseSentError):
        kept[0].at_end(lambda: told.append("too late"))


def test_a_response_describes_itself(site: Site) -> None:
    """Status and state are in its repr."""
    seen: list[str] = []

    def act(res: HttpResponse) -> None:
        seen.append(repr(res.status(404)))
        stream = res.stream()
        seen.append(repr(res))
        stream.end()
        seen.append(repr(res))
        assert res.head is not None
        assert (res.head.method, res.status_code) == ("GET", 404)

    answer_to(site, act)
    assert seen == [f"<HttpResponse 404 {state}>" for state in ("fresh", "streaming", "done")]


def test_a_loop_that_is_closed_first_still_tells(site: Site) -> None:
    """Closing the server after its loop reports every unfinished response, there and then."""
    told: list[str] = []
    with ExitStack() as stack:
        server = site.start(handler(lambda res: setattr(res, "on_close", lambda: told.append("gone"))))
        stack.callback(server.close)
        client = site.dial()
        client.send(request())
        site.settle()
        site.loop.close()
        assert told == []
    assert told == ["gone"]


def test_an_old_client_is_answered_in_time(timed_site: Site) -> None:
    """A stream to HTTP/1.0 is lost like any other when the client does not read: the write time-out counts."""
    told: list[str] = []

    def act(res: HttpResponse) -> None:
        stream = res.stream()
        stream.on_close = lambda: told.append("stream")
        stream.write(bytes(32 << 20))

    timed_site.start(handler(act), timeouts=Timeouts(write=3.0))
    client = timed_site.dial(receive_buffer=1 << 14)
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    timed_site.settle(20)
    timed_site.pass_time(2.9, 0.1)
    assert told == []
    timed_site.pass_time(6.2, 0.1)
    assert told == ["stream"]


# Before and after ----------------------------------------------------------------------------------------------------


def test_early_hints_come_before_the_answer(site: Site) -> None:
    """RFC 8297: as many as there are, in order, and in the turn of their answer; none for HTTP/1.0."""

    def on_request(_req: HttpRequest, res: HttpResponse) -> None:
        res.inform(headers=[("Link", "</style.css>; rel=preload; as=style")]).inform(102)
        with pytest.raises(InvalidHeaderError):
            res.inform(headers=[("Link", "a\r\nb")])
        for code in (100, 101, 200):
            with pytest.raises(ValueError, match="between 102 and 199"):
                res.inform(code)
        res.send("done")
        with pytest.raises(ResponseSentError):
            res.inform()

    site.start(on_request)
    client = site.dial()
    client.send(request() + request())
    site.until(lambda: client.poll() or client.received.count(b"done") == 2)
    assert client.received.startswith(
        b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload; as=style\r\n\r\n"
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n"
    )
    assert [answer.interim for answer in client.answers("GET", "GET")] == [[103, 102]] * 2
    (old,) = site.ask(b"GET / HTTP/1.0\r\n\r\n")
    assert (old.interim, old.body) == ([], b"done")


def test_early_hints_wait_for_their_turn(site: Site) -> None:
    """They are part of their answer and come no earlier than what is before it."""
    kept: list[HttpResponse] = []
    site.start(lambda _req, res: kept.append(res))
    client = site.dial()
    client.send(request() + request())
    site.until(lambda: len(kept) == 2)
    kept[1].inform()
    site.settle()
    client.poll()
    assert not client.received
    kept[0].send("one")
    kept[1].send("two")
    answers = client.answers("GET", "GET")
    assert [(answer.interim, answer.body) for answer in answers] == [([], b"one"), ([103], b"two")]


def test_trailers_come_after_the_last_chunk(site: Site) -> None:
    """Where there are no chunks there is no place for them; what frames or routes is refused."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        stream = res.header("Trailer", "X-Sum").stream(length=4 if req.path == "/sized" else None)
        stream.write("body")
        for bad in ("Content-Length", "Host", "Content-Type", "Transfer-Encoding"):
            with pytest.raises(InvalidHeaderError):
                stream.end([(bad, "1")])
        with pytest.raises(InvalidHeaderError):
            stream.end([("X", "a\nb")])
        stream.end([("X-Sum", "42"), ("X-More", "1")])

    site.start(on_request)
    client = site.dial()
    client.send(request("GET", "/sized"))
    assert client.answer().body == b"body"
    client.send(request("GET", "/"))
    site.until(lambda: client.poll() or (client.received.endswith(b"\r\n\r\n") and b"body" in client.received))
    assert client.received.endswith(b"4\r\nbody\r\n0\r\nX-Sum: 42\r\nX-More: 1\r\n\r\n")
    client.received.clear()
    client.send(request("HEAD", "/"))
    assert client.answer("HEAD").body == b""
    (old,) = site.ask(b"GET / HTTP/1.0\r\n\r\n")
    assert old.body == b"body"
