"""The client over real sockets: it opens, talks, is refused, gives up, and believes nothing that is wrong."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from typing import Self

import pytest
import trustme
from tests.ws.serving import Site, echo

from nimloop_http import HttpRequest, HttpResponse, HttpServer
from nimloop_net import Connection
from nimloop_ws import (
    SERVER,
    Deflate,
    Event,
    Opening,
    Pong,
    WebSocket,
    WsLimits,
    WsParser,
    WsServer,
    WsTimeouts,
    broadcast,
    build_handshake_response,
    compute_accept_key,
    connect,
    encode_frame,
)
from nimloop_ws.errors import (
    BadResponseError,
    FrameError,
    HandshakeRefusedError,
    HandshakeTimeoutError,
    InvalidUrlError,
)
from nimloop_ws.handshake import Accepted


class Client:
    """A client of ours, and what it has heard."""

    def __init__(self, site: Site, url: str = "", **settings: object) -> None:
        self.site = site
        self.ws: WebSocket | None = None
        self.messages: list[str | bytes] = []
        self.closed: list[tuple[int, str]] = []
        self.failures: list[Exception] = []
        self.errors: list[Exception] = []
        self.opening: Opening = connect(
            site.loop,
            url or site.url,
            on_open=self._on_open,
            on_message=lambda _ws, message: self.messages.append(message),
            on_close=lambda _ws, code, reason: self.closed.append((code, reason)),
            on_error=lambda _ws, error: self.errors.append(error),
            on_failure=self.failures.append,
            **settings,  # type: ignore[arg-type]
        )

    def _on_open(self, ws: WebSocket) -> None:
        self.ws = ws

    def open(self) -> WebSocket:
        """Wait until it is open."""
        self.site.until(lambda: self.ws or self.failures)
        assert self.failures == []
        assert self.ws is not None
        return self.ws

    def failure(self) -> Exception:
        """Wait until it has failed."""
        self.site.until(lambda: self.ws or self.failures)
        assert self.ws is None
        assert not self.opening.active
        (error,) = self.failures
        return error


class Fake:
    """A server that answers what the test wants."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.url = f"ws://127.0.0.1:{self.listener.getsockname()[1]}/"
        self.sock: socket.socket | None = None

    def accept(self) -> bytes:
        """Wait for a client and its request."""
        request = b""

        def arrived() -> bool:
            nonlocal request
            try:
                if self.sock is None:
                    self.sock, _ = self.listener.accept()
                    self.sock.setblocking(False)
                request += self.sock.recv(65536)
            except BlockingIOError:
                pass
            return request.endswith(b"\r\n\r\n")

        self.site.until(arrived)
        return request

    def answer(self, *more: bytes, key: str | None = None) -> None:
        """Accept the client's handshake, with more behind it."""
        request = self.accept().decode()
        sent = request.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
        assert self.sock is not None
        self.sock.sendall(build_handshake_response(Accepted(key or compute_accept_key(sent))) + b"".join(more))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()
        if self.sock is not None:
            self.sock.close()


def test_a_conversation(site: Site) -> None:
    """W-5: text, binary, empty, large and compressed messages, and a clean end, told to both sides."""
    site.add(WsServer(site.loop, on_message=echo, on_close=site.note_close, subprotocols=("chat",)))
    client = Client(site, subprotocols=("x", "chat"))
    ws = client.open()
    assert ws.subprotocol == "chat"
    assert ws.agreement is not None
    assert ws.is_client
    sent: list[str | bytes] = ["hellö", b"\x00\x01", "", b"", "z" * 500_000, bytes(3_000_000)]
    for message in sent:
        ws.send(message)
    site.until(lambda: len(client.messages) == len(sent))
    assert client.messages == sent
    ws.close(3001, "done")
    site.until(lambda: client.closed and site.log)
    assert client.closed == [(3001, "")]
    assert site.log == [("close", 3001, "done")]


@pytest.mark.parametrize("takeover", [True, False])
def test_compression_in_both_directions(site: Site, *, takeover: bool) -> None:
    """Windows of all sizes, with and without context take-over."""
    for bits in (8, 9, 12, 15):
        mine = Deflate(window_bits=bits, peer_window_bits=bits, threshold=0, context_takeover=takeover)
        site.add(WsServer(site.loop, on_message=echo, compression=mine))
        client = Client(site, compression=mine)
        ws = client.open()
        assert ws.agreement is not None
        assert (ws.agreement.window_bits, ws.agreement.context_takeover) == (bits, takeover)
        sent = [text * 200 for text in ("one ", "two ", "one ", "three")]
        for text in sent:
            ws.send(text)
        site.until(lambda: len(client.messages) == len(sent))  # noqa: B023 - waited for right here
        assert client.messages == sent
        assert ws.connection.bytes_sent < 2000
        ws.close()
        site.until(lambda: client.closed)  # noqa: B023


def test_messages_that_come_with_the_answer(site: Site) -> None:
    """They are handed out after `on_open`."""
    with Fake(site) as server:
        client = Client(site, server.url)
        server.answer(encode_frame(1, "early"), encode_frame(1, "bird")[:3])
        client.open()
        site.until(lambda: client.messages)
        assert server.sock is not None
        server.sock.sendall(encode_frame(1, "bird")[3:])
        site.until(lambda: len(client.messages) == 2)
        assert client.messages == ["early", "bird"]


def test_the_request_of_the_client(site: Site) -> None:
    """Extra fields, an origin, and a fresh key each time."""
    keys = set()
    for _ in range(3):
        with Fake(site) as server:
            client = Client(site, server.url + "x?y=1", headers=[("Authorization", "Bearer t")], origin="http://o")
            request = server.accept().decode()
            assert request.startswith("GET /x?y=1 HTTP/1.1\r\n")
            assert "\r\nAuthorization: Bearer t\r\n" in request
            assert "\r\nOrigin: http://o\r\n" in request
            keys.add(request.partition("Sec-WebSocket-Key: ")[2][:24])
            client.opening.cancel()
    assert len(keys) == 3


def test_frames_are_masked_with_fresh_keys(site: Site) -> None:
    """W10: no key comes twice."""
    with Fake(site) as server:
        client = Client(site, server.url, compression=None)
        server.answer()
        ws = client.open()
        for _ in range(300):
            ws.send(b"\0" * 4)
        site.settle()
        assert server.sock is not None
        data = server.sock.recv(65536)
        frames = [data[i : i + 10] for i in range(0, len(data), 10)]
        assert len(frames) == 300
        assert {frame[:2] for frame in frames} == {b"\x82\x84"}
        assert len({frame[2:6] for frame in frames}) == 300
        assert all(frame[2:6] == frame[6:] for frame in frames)


def test_a_masked_frame_of_a_server_is_1002(site: Site) -> None:
    """W10: RFC 6455 §5.1."""
    with Fake(site) as server:
        client = Client(site, server.url)
        server.answer(encode_frame(1, "x", mask=b"1234"))
        ws = client.open()
        site.until(lambda: not ws.is_open)
        site.settle()
        assert server.sock is not None
        assert server.sock.recv(100)[:2] == b"\x88" + bytes([0x80 | (2 + len(ws.close_reason))])
        server.sock.close()
        site.until(lambda: client.closed)
        assert client.closed == [(1002, ws.close_reason)]
        assert isinstance(client.errors[0], FrameError)


def test_a_wrong_accept_key(site: Site) -> None:
    """The handshake is not believed."""
    with Fake(site) as server:
        client = Client(site, server.url)
        server.answer(key="A" * 27 + "=")
        assert isinstance(client.failure(), BadResponseError)


def test_a_server_that_ends_the_connection(site: Site) -> None:
    """Before it has answered, or in the middle."""
    for said in (b"", b"HTTP/1.1 101 Switching"):
        with Fake(site) as server:
            client = Client(site, server.url)
            server.accept()
            assert server.sock is not None
            server.sock.sendall(said)
            server.sock.close()
            assert isinstance(client.failure(), BadResponseError)


def test_a_server_that_resets_the_connection(site: Site) -> None:
    """Before it has answered: the failure is the connection's own."""
    with Fake(site) as server:
        client = Client(site, server.url)
        server.accept()
        assert server.sock is not None
        server.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.sock.close()
        assert isinstance(client.failure(), ConnectionResetError)


def test_pings_of_a_server_that_does_not_read(site: Site) -> None:
    """RFC 6455 §5.5.3: once it reads again, the last of them is answered; the others would have piled up."""
    with Fake(site) as server:
        client = Client(site, server.url, compression=None)
        server.answer()
        ws = client.open()
        sock = server.sock
        assert sock is not None
        sent = 0
        while ws.write_buffer_size < 2 * WsLimits().high_water:  # what the kernel takes grows for a while
            ws.send(b"x" * 50_000)
            sent += 1
            site.settle(20)
        sock.sendall(b"".join(encode_frame(9, b"%d" % i) for i in range(100)))
        site.settle(20)
        parser = WsParser(SERVER)
        events: list[Event] = []

        def answered() -> bool:
            with contextlib.suppress(BlockingIOError):
                events.extend(parser.feed(sock.recv(1 << 18)))
            return bool(events) and isinstance(events[-1], Pong)

        site.until(answered)
        assert events[:-1] == [b"x" * 50_000] * sent
        assert str(events[-1]) == "Pong(b'99')"


def test_a_refusal(site: Site) -> None:
    """It carries the server's answer."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        res.status(403).header("X-Why", "mood").send("not today")

    site.add(HttpServer(site.loop, on_request))
    error = Client(site).failure()
    assert isinstance(error, HandshakeRefusedError)
    assert (error.status, error.headers["x-why"], error.body) == (403, "mood", b"not today")


def test_nobody_listens(site: Site) -> None:
    """The error of connecting is passed on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    assert isinstance(Client(site, f"ws://127.0.0.1:{port}/").failure(), OSError)
    opening = connect(site.loop, f"ws://127.0.0.1:{port}/")  # and nobody asked to be told
    assert repr(opening) == "<Opening active>"
    site.until(lambda: not opening.active)
    assert repr(opening) == "<Opening settled>"


def test_a_server_that_says_nothing(timed: Site) -> None:
    """It is given up after `timeout`."""
    with Fake(timed) as server:
        client = Client(timed, server.url, timeout=5.0)
        server.accept()
        timed.pass_time(4.8)
        assert client.opening.active
        timed.pass_time(0.4)
        assert isinstance(client.failure(), HandshakeTimeoutError)


def test_cancelling(site: Site) -> None:
    """Nothing is called any more, at whatever stage."""
    with Fake(site) as server:
        early = Client(site, server.url)
        early.opening.cancel()
        early.opening.cancel()
        site.settle()
    with Fake(site) as server:
        late = Client(site, server.url)
        server.accept()
        late.opening.cancel()
        assert server.sock is not None
        server.sock.setblocking(True)
        with pytest.raises(ConnectionResetError):
            server.sock.recv(1)
    for client in (early, late):
        assert (client.ws, client.failures) == (None, [])
        assert not client.opening.active
    site.add(WsServer(site.loop, on_message=echo))
    client = Client(site)
    client.open()
    client.opening.cancel()  # harmless, once it is open
    client.open().send("x")
    site.until(lambda: client.messages)


def test_wrong_calls(site: Site) -> None:
    """They raise at once, and leave nothing behind."""
    for url in ("http://x/", "ws://", "ws://a b/"):
        with pytest.raises(InvalidUrlError):
            connect(site.loop, url)
    with pytest.raises(ValueError):
        connect(site.loop, "ws://x/", headers=[("Host", "y")])
    with pytest.raises(AttributeError):
        connect(site.loop, "wss://localhost/", tls="no context")  # type: ignore[arg-type]


def test_failing_callbacks(site: Site) -> None:
    """Of the client: reported like all others."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    site.add(WsServer(site.loop))
    connect(site.loop, site.url, on_open=fail, on_close=site.note_close)
    site.until(lambda: site.log)
    assert site.log == [("close", 1011, "")]
    connect(site.loop, "ws://127.0.0.1:1/", on_failure=fail)
    site.until(lambda: len(site.errors) == 2)
    assert [type(error) for error in site.errors] == [ZeroDivisionError] * 2
    site.errors.clear()


def test_the_server_closes(site: Site) -> None:
    """A client that is told goodbye waits for the server to end the connection."""
    opened: list[WebSocket] = []
    site.add(WsServer(site.loop, on_open=opened.append, on_close=site.note_close))
    client = Client(site)
    client.open()
    site.until(lambda: opened)
    opened[0].close(4000, "bye")
    site.until(lambda: client.closed and site.log)
    assert client.closed == [(4000, "bye")]
    assert site.log == [("close", 4000, "")]
    assert client.errors == []


def test_a_server_that_does_not_end_the_connection(timed: Site) -> None:
    """W4: after both close frames a client waits `WsTimeouts.close`, no longer."""
    with Fake(timed) as server:
        client = Client(timed, server.url, timeouts=WsTimeouts(close=2.0))
        server.answer(encode_frame(8, b"\x03\xe8"))
        client.open()
        timed.pass_time(1.9)
        assert client.closed == []
        timed.pass_time(0.3)
        assert client.closed == [(1000, "")]


def test_a_connection_of_ones_own(site: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    """`over`: here one to a Unix socket."""
    path = str(tmp_path_factory.mktemp("s") / "ws")
    server = WsServer(site.loop, on_message=echo)
    site.add(server)
    server.listen_unix(path)
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    sock.setblocking(False)
    connection = Connection(site.loop, sock)
    connection.start()
    client = Client(site, "ws://localhost/", over=connection)
    client.open().send("through the wall")
    site.until(lambda: client.messages)


def test_broadcast(site: Site) -> None:
    """One message to all that are open, on both sides, each in its own terms; and each goes on talking."""
    opened: dict[WebSocket, None] = {}
    lean, full = Deflate(threshold=0), Deflate(window_bits=15, peer_window_bits=15, threshold=0)
    server = WsServer(site.loop, on_open=opened.setdefault, on_message=echo, on_close=lambda ws, *_: opened.pop(ws))
    site.add(server)
    clients = [Client(site, compression=terms) for terms in (None, lean, full, lean, None)]
    for client in clients:
        client.open().send("hello hello hello")
    site.until(lambda: all(client.messages for client in clients))
    stream = next(iter(opened)).stream_text()
    text = "to everybody: " + "news " * 100
    for message in (text, text.encode(), "short", text):
        assert broadcast(opened, message) == 4
        assert broadcast(opened, message, compress=True) == 4
        assert broadcast(opened, message, compress=False) == 4
    stream.end()
    for client in clients:
        client.open().send("hello hello hello")
    heard = [text] * 3 + [text.encode()] * 3 + ["short"] * 3 + [text] * 3
    site.until(
        lambda: all(client.messages[-1] == "hello hello hello" and len(client.messages) > 2 for client in clients)
    )
    assert clients[0].messages == ["hello hello hello", "", "hello hello hello"]
    for client in clients[1:]:
        assert client.messages == ["hello hello hello", *heard, "hello hello hello"]
    # From clients, each frame with a key of its own.
    assert broadcast([client.open() for client in clients], text) == 5
    site.until(lambda: all(client.messages[-1] == text for client in clients))
    assert broadcast([], "nobody") == 0
    for client in clients:
        client.open().close()
    assert broadcast([client.open() for client in clients], "too late") == 0


def test_broadcast_past_those_who_are_behind(site: Site) -> None:
    """With `skip_behind` a slow one misses what is out of date anyway, and costs nothing more."""
    opened: list[WebSocket] = []
    site.add(WsServer(site.loop, on_open=opened.append, limits=WsLimits(high_water=10_000, low_water=1000)))
    slow, quick = site.open(), site.open()
    slow.reading = False
    data = b"x" * 100_000
    while opened[0].write_buffer_size <= 10_000:
        opened[0].send(data)
        site.settle(1)
    before = opened[0].write_buffer_size
    assert broadcast(opened, b"tick", skip_behind=True) == 1
    assert opened[0].write_buffer_size <= before
    assert quick.next() == b"tick"
    assert broadcast(opened, b"tock") == 2


def test_wss(site: Site) -> None:
    """W7: the same over TLS, from our client to our server; a certificate that is not trusted is refused."""
    authority = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_side)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)
    site.add(WsServer(site.loop, on_message=echo, tls=server_side))
    url = f"wss://localhost:{site.address[1]}/"
    client = Client(site, url, tls=client_side)
    ws = client.open()
    assert ws.connection.tls is not None
    for message in ("hello", b"x" * 1_000_000):
        ws.send(message)
    site.until(lambda: len(client.messages) == 2)
    ws.close()
    site.until(lambda: client.closed)
    assert client.closed == [(1000, "")]
    assert isinstance(Client(site, url).failure(), ssl.SSLError)
