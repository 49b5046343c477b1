"""Leaving HTTP: in its turn, with every byte, and still the server's when that is asked to stop."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.http.serving import Client, Site, parse, request

from nimloop_http import HttpRequest, HttpResponse
from nimloop_http._framing import Head
from nimloop_http._upgrade import offers
from nimloop_http.errors import InvalidHeaderError, ResponseSentError, StaleResponseError, UpgradeError
from nimloop_http.parser import HttpParser
from nimloop_net import Connection

pytest_plugins = ("tests.http.fixtures",)

ASK = request("GET", "/up", "Connection: keep-alive, Upgrade", "Upgrade: other/1, Echo")


class Echo:
    """The other protocol: what comes goes back."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.closed: list[Exception | None] = []
        self.stopped = 0

    def begin(self, res: HttpResponse) -> None:
        """Take the connection over."""
        connection, rest = res.upgrade("echo", headers=[("X-Kind", "loud")], on_shutdown=self.on_shutdown)
        self.connection = connection
        connection.on_data = lambda connection, data: connection.send(data.upper())
        connection.on_close = lambda _connection, error: self.closed.append(error)
        if rest:
            connection.send(rest.upper())

    def on_shutdown(self, connection: Connection) -> None:
        """Say goodbye."""
        self.stopped += 1
        connection.send(b"BYE")
        connection.close_after_drain()


def until_received(client: Client, ending: bytes) -> bytes:
    """Wait for some bytes and return everything before them."""
    client.site.until(lambda: client.poll() or client.received.endswith(ending))
    assert client.received.endswith(ending), bytes(client.received)
    return bytes(client.received[: -len(ending)])


HEAD_101 = b"HTTP/1.1 101 Switching Protocols\r\n"


@pytest.mark.parametrize("cut", [0, 1, 10, len(ASK) - 1, len(ASK), len(ASK) + 2, len(ASK) + 5])
def test_w6_every_byte_behind_the_request_is_handed_over(site: Site, cut: int) -> None:
    """However the packets were cut, what follows the request goes to the new protocol, once."""
    echo = Echo()
    site.start(lambda _req, res: echo.begin(res))
    client = site.dial()
    data = ASK + b"hello"
    if cut:
        client.send(data[:cut])
        site.settle()
    client.send(data[cut:])
    head = until_received(client, b"HELLO")
    assert head.startswith(HEAD_101)
    fields = head.split(b"\r\n")[1:]
    assert [line for line in fields if not line.startswith(b"Date: ")] == [
        b"Connection: Upgrade", b"Upgrade: echo", b"X-Kind: loud", b"", b"",
    ]  # fmt: skip
    client.send(b"more")
    until_received(client, b"MORE")
    client.close()
    site.until(lambda: echo.closed == [None])


def test_a_body_comes_before_the_new_protocol(site: Site) -> None:
    """RFC 9110 §7.8: the request has to be complete; then the bytes behind its body are the other protocol's."""
    echo = Echo()
    bodies: list[bytes] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        bodies.append(req.body)
        echo.begin(res)

    site.start(on_request)
    client = site.dial()
    client.send(request("POST", "/", "Connection: upgrade", "Upgrade: echo", body=b"body") + b"rest")
    until_received(client, b"REST")
    assert bodies == [b"body"]


def test_it_waits_for_the_answers_before_it(site: Site) -> None:
    """The handler is not even asked before they are out; then 101 is the last thing that HTTP says."""
    kept: list[HttpResponse] = []
    asked: list[str] = []
    echo = Echo()

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        asked.append(req.path)
        if req.path == "/up":
            echo.begin(res)
        else:
            kept.append(res)

    site.start(on_request)
    client = site.dial()
    client.send(request("GET", "/1") + request("GET", "/2") + ASK + b"hello")
    site.settle()
    assert asked == ["/1", "/2"]
    kept[1].send("two")
    site.settle()
    assert asked == ["/1", "/2"]
    kept[0].send("one")
    before, _, after = until_received(client, b"HELLO").partition(HEAD_101)
    assert [answer.body for answer in parse(before, ["GET", "GET"])] == [b"one", b"two"]
    assert after
    assert asked == ["/1", "/2", "/up"]


@pytest.mark.parametrize("stopping", [False, True])
def test_the_last_request_may_be_one_that_waits(site: Site, *, stopping: bool) -> None:
    """Whoever has said that it is the last one: it gets its turn, and its answer."""
    kept: list[HttpResponse] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        if req.path == "/up":
            res.send("no change")
        else:
            kept.append(res)

    server = site.start(on_request)
    client = site.dial()
    option = "Connection: Upgrade" if stopping else "Connection: close, Upgrade"
    client.send(request("GET", "/1") + request("GET", "/up", option, "Upgrade: echo"))
    site.until(lambda: kept)
    site.settle()
    if stopping:
        server.shutdown(5.0)
    kept[0].send("first")
    answers = parse(client.read_all(), ["GET", "GET"], ended=True)
    assert [answer.body for answer in answers] == [b"first", b"no change"]
    assert answers[1].get("connection") == "close"


def test_it_is_not_asked_for_behind_the_last_answer(site: Site) -> None:
    """An answer that ends the connection was given before its turn has come."""
    kept: list[HttpResponse] = []
    asked: list[str] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        asked.append(req.path)
        kept.append(res)

    site.start(on_request)
    client = site.dial()
    client.send(request("GET", "/1") + ASK + b"hello")
    site.until(lambda: kept)
    site.settle()
    kept[0].close_connection().send("last")
    (answer,) = parse(client.read_all(), ["GET"], ended=True)
    assert (answer.body, answer.get("connection")) == (b"last", "close")
    assert asked == ["/1"]


@pytest.mark.parametrize("late", [False, True])
def test_it_may_be_declined(site: Site, *, late: bool) -> None:
    """An ordinary answer leaves the connection as it is, and what is pipelined behind it is HTTP."""
    kept: list[HttpResponse] = []
    asked: list[str] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        asked.append(req.path)
        if req.path == "/up" and late:
            kept.append(res)
        else:
            res.send(req.path)

    site.start(on_request)
    client = site.dial()
    client.send(ASK + request("GET", "/next") + ASK + request("GET", "/last"))
    if late:
        for before in (["/up"], ["/up", "/next", "/up"]):
            site.until(lambda: kept)
            site.settle()
            assert asked == before
            kept.pop().send("/up")
    assert [answer.body for answer in client.answers(*["GET"] * 4)] == [b"/up", b"/next", b"/up", b"/last"]


def test_a_late_change_loses_nothing(site: Site) -> None:
    """The decision takes a while; what arrives meanwhile is not read as HTTP."""
    kept: list[HttpResponse] = []
    echo = Echo()
    site.start(lambda _req, res: kept.append(res))
    client = site.dial()
    client.send(ASK + b"abc")
    site.until(lambda: kept)
    client.send(b"def")
    site.settle()
    echo.begin(kept[0])
    client.send(b"ghi")
    until_received(client, b"ABCDEFGHI")


def test_it_knows_no_deadline_of_http(timed_site: Site) -> None:
    """An upgraded connection may be silent for as long as it likes."""
    echo = Echo()
    timed_site.start(lambda _req, res: echo.begin(res))
    client = timed_site.dial()
    client.send(ASK)
    timed_site.settle()
    timed_site.pass_time(300, 0.5)
    client.send(b"still there")
    until_received(client, b"STILL THERE")


def test_h13_shutdown_lets_it_say_goodbye(timed_site: Site) -> None:
    """It is told, and counts as open until it has ended."""
    echo = Echo()
    done: list[int] = []
    server = timed_site.start(lambda _req, res: echo.begin(res))
    client = timed_site.dial()
    client.send(ASK)
    timed_site.settle()
    server.shutdown(5.0, done.append)
    timed_site.settle()
    assert (echo.stopped, done) == (1, [])
    assert client.read_all().endswith(b"BYE")
    client.close()
    timed_site.until(lambda: done)
    assert (done, echo.closed) == ([0], [None])


def test_h13_shutdown_cuts_what_does_not_go(timed_site: Site) -> None:
    """After the grace it is aborted like everything else, and counted."""
    done: list[int] = []
    told: list[Connection] = []
    server = timed_site.start(lambda _req, res: res.upgrade("echo", on_shutdown=told.append))
    client = timed_site.dial()
    client.send(ASK)
    timed_site.settle()
    server.shutdown(5.0, done.append)
    timed_site.pass_time(4.9, 0.01)
    assert (len(told), done) == (1, [])
    timed_site.pass_time(0.2, 0.01)
    assert done == [1]
    with pytest.raises(ConnectionResetError):
        client.read_all()


def test_h13_without_a_goodbye_it_is_closed(site: Site) -> None:
    """What is queued is sent, then it ends."""
    done: list[int] = []
    server = site.start(lambda _req, res: res.upgrade("echo")[0].send(b"last"))
    client = site.dial()
    client.send(ASK)
    until_received(client, b"last")
    server.shutdown(5.0, done.append)
    client.read_all()
    client.close()
    site.until(lambda: done)
    assert done == [0]


def test_h13_a_change_during_shutdown_hears_of_it_too(site: Site) -> None:
    """The request was under way when the server was asked to stop."""
    kept: list[HttpResponse] = []
    echo = Echo()
    server = site.start(lambda _req, res: kept.append(res))
    client = site.dial()
    client.send(ASK)
    site.until(lambda: kept)
    server.shutdown(5.0)
    echo.begin(kept[0])
    until_received(client, b"BYE")
    assert echo.stopped == 1


def test_a_handler_that_fails_after_the_change_ends_the_connection(site: Site) -> None:
    """Nobody has taken it over."""

    def on_request(_req: HttpRequest, res: HttpResponse) -> None:
        res.upgrade("echo")
        raise ZeroDivisionError

    site.start(on_request)
    client = site.dial()
    client.send(ASK)
    with pytest.raises(ConnectionResetError):
        client.read_all()
    assert isinstance(site.errors.pop(), ZeroDivisionError)


def test_what_was_not_offered_is_refused(site: Site) -> None:
    """The error says so, and the response can still be used."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        assert not req.wants_upgrade("nothing")
        with pytest.raises(UpgradeError, match="'nothing'"):
            res.upgrade("nothing")
        with pytest.raises(InvalidHeaderError):
            res.upgrade("echo", headers=[("X", "a\r\nb")])
        with pytest.raises(InvalidHeaderError):
            res.upgrade("echo", headers=[("Connection", "close")])
        res.header("Upgrade", "echo").send_error(426)
        with pytest.raises(ResponseSentError):
            res.upgrade("echo")

    site.start(on_request)
    client = site.dial()
    client.send(ASK)
    answer = client.answer()
    assert (answer.status, answer.get("upgrade"), answer.get("connection")) == (426, "echo", "upgrade")


@pytest.mark.parametrize("how", ["half-closed", "gone"])
def test_a_client_that_ended_first_gets_no_change(site: Site, how: str) -> None:
    """There is nobody to speak to any more."""
    kept: list[HttpResponse] = []
    site.start(lambda _req, res: kept.append(res))
    client = site.dial()
    client.send(ASK)
    site.until(lambda: kept)
    kept[0].connection.resume_reading()
    if how == "gone":
        kept[0].connection.abort()
    else:
        client.half_close()
    site.settle()
    with pytest.raises(StaleResponseError):
        kept[0].upgrade("echo")


def test_the_access_log_has_it(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """A change of protocol is an answer like others."""
    caplog.set_level("INFO", "nimloop.http.access")
    echo = Echo()
    site.start(lambda _req, res: echo.begin(res), access_log=True)
    client = site.dial()
    client.send(ASK + b"x")
    until_received(client, b"X")
    assert [record.getMessage().rpartition(" ")[0] for record in caplog.records] == [
        '127.0.0.1 "GET /up HTTP/1.1" 101 0'
    ]


def head_of(*fields: str, version: str = "1.1") -> Head:
    """Parse a head."""
    event = HttpParser().feed(request("GET", "/", *fields, version=version)).__next__()
    assert isinstance(event, Head)
    return event


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["Connection: Upgrade", "Upgrade: websocket"], True),
        (["connection: keep-alive, UPGRADE", "upgrade: h2c, WebSocket"], True),
        (["Connection: keep-alive", "Connection: upgrade", "Upgrade: h2c", "Upgrade: websocket"], True),
        (["Upgrade: websocket"], False),
        (["Connection: close", "Upgrade: websocket"], False),
        (["Connection: upgrade"], False),
        (["Connection: upgrade", "Upgrade: websocket/13"], False),
        (["Connection: upgrades", "Upgrade: websocket"], False),
    ],
)
def test_what_an_offer_is(fields: list[str], *, expected: bool) -> None:
    """Both fields, in any case, with the protocol as one element of a list."""
    assert offers(head_of(*fields), "WebSocket") is expected


def test_an_old_client_offers_nothing() -> None:
    """RFC 9110 §7.8: Upgrade in an HTTP/1.0 request is ignored."""
    assert not offers(head_of("Connection: upgrade", "Upgrade: websocket", version="1.0"), "websocket")


def test_many_changes_leave_nothing_behind(site: Site, descriptors: Callable[[], set[str]]) -> None:
    """Descriptors and connections are gone with the clients."""
    echo = Echo()
    server = site.start(lambda _req, res: echo.begin(res))
    before = descriptors()
    for _ in range(100):
        client = site.dial()
        client.send(ASK + b"x")
        until_received(client, b"X")
        client.close()
    site.until(lambda: len(echo.closed) == 100)
    assert server._tcp.connections == []
    assert descriptors() == before
