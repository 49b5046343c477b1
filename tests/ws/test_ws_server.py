"""The handshake over a socket: `WsServer`, and `upgrade` beside the routes of an HttpServer."""

from __future__ import annotations

import socket

import pytest
from tests.ws.serving import ACCEPT, MASK, Peer, Site, echo, handshake, without

from nimloop_http import HttpRequest, HttpResponse, HttpServer
from nimloop_ws import Deflate, WebSocket, WsServer, encode_frame, upgrade


def test_the_answer(site: Site) -> None:
    """W8: 101 with what RFC 6455 §4.2.2 wants, the subprotocol and extra fields."""
    opened: list[WebSocket] = []
    targets: list[str] = []

    def on_open(ws: WebSocket) -> None:
        opened.append(ws)
        assert ws.request is not None
        targets.append(ws.request.target)

    site.add(WsServer(site.loop, on_open=on_open, subprotocols=("b", "a"), headers=[("X-Extra", "1")]))
    peer = site.open("/x?y", "Sec-WebSocket-Protocol: a, b, c")
    assert peer.headers["sec-websocket-accept"] == ACCEPT
    assert peer.headers["sec-websocket-protocol"] == "b"
    assert peer.headers["upgrade"].lower() == "websocket"
    assert peer.headers["connection"].lower() == "upgrade"
    assert peer.headers["x-extra"] == "1"
    assert "sec-websocket-extensions" not in peer.headers
    assert opened[0].subprotocol == "b"
    assert targets == ["/x?y"]
    assert opened[0].request is None, "it would cost more than the rest"


def test_a_frame_with_the_request(site: Site) -> None:
    """W6: frames that come in the same packet as the request are served, after `on_open`."""
    site.add(WsServer(site.loop, on_open=lambda ws: ws.send("welcome"), on_message=echo))
    peer = site.open(first=encode_frame(1, "early", mask=MASK) + encode_frame(1, "bird", mask=MASK)[:4])
    assert peer.next() == "welcome"
    assert peer.next() == "early"
    peer.send(encode_frame(1, "bird", mask=MASK)[4:])
    assert peer.next() == "bird"


def test_a_frame_and_an_end_with_the_request(site: Site) -> None:
    """Nor is an answer lost to one who sends a message and an end in the same packet as the request."""
    site.add(WsServer(site.loop, on_message=echo, on_close=site.note_close))
    peer = site.dial()
    peer.sock.send(handshake() + encode_frame(1, "early", mask=MASK) + encode_frame(2, b"bird", mask=MASK))
    peer.sock.shutdown(socket.SHUT_WR)
    assert (peer.next(), peer.next()) == ("early", b"bird")
    assert peer.wait_end()
    site.until(lambda: site.log == [("close", 1006, "")])


@pytest.mark.parametrize("as_number", [False, True])
def test_a_socket_that_listens_already(site: Site, *, as_number: bool) -> None:
    """`adopt` serves on it, given as an object or as a descriptor."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    server = WsServer(site.loop, on_message=echo)
    site.add(server)
    server.adopt(listener.detach() if as_number else listener)
    with socket.create_connection(address) as sock:
        sock.setblocking(False)
        peer = Peer(site, sock)
        peer.send(handshake() + encode_frame(1, "adopted", mask=MASK))
        assert peer.next() == "adopted"


def test_a_request_with_a_body(site: Site) -> None:
    """It opens nothing: RFC 6455 §4.1 has no place for one, and what follows could be taken for frames."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        upgrade(req, res)

    site.add(HttpServer(site.loop, on_request))
    peer = site.dial()
    peer.send(handshake("/", "Content-Length: 3") + b"abc")
    peer.until(lambda: b"no body" in peer.body)
    assert peer.status == 400


def test_a_request_byte_by_byte(site: Site) -> None:
    """W6: however it was split."""
    site.add(WsServer(site.loop, on_message=echo))
    peer = site.dial()
    for byte in handshake() + encode_frame(2, b"split", mask=MASK):
        peer.send(bytes([byte]))
        site.settle(1)
    assert peer.next() == b"split"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (handshake().replace(b"GET", b"POST"), 405),
        (handshake().replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
        (handshake().replace(b"Version: 13", b"Version: 7"), 426),
        (without(handshake(), "Upgrade"), 426),
        (without(handshake(), "Connection"), 426),
        (without(handshake(), "Sec-WebSocket-Key"), 400),
        (handshake("/", "Content-Length: 1") + b"x", 413),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426),
    ],
    ids=["method", "http/1.0", "version", "upgrade", "connection", "key", "body", "plain"],
)
def test_refusals(site: Site, request_: bytes, status: int) -> None:
    """W8: each wrong request gets its answer, and 426 what to ask for."""
    site.add(WsServer(site.loop, on_message=echo))
    peer = site.dial()
    peer.send(request_)
    peer.until(lambda: peer.status)
    assert peer.status == status
    if status == 426:
        assert peer.headers["sec-websocket-version"] == "13"
        assert peer.headers["upgrade"] == "websocket"
        assert "upgrade" in peer.headers["connection"].lower()


def test_any_other_answer(site: Site) -> None:
    """`on_handshake` refuses by answering, with whatever it likes."""

    def gate(req: HttpRequest, res: HttpResponse) -> None:
        if req.path != "/in":
            res.status(401).header("WWW-Authenticate", "Basic").send("who are you?")

    site.add(WsServer(site.loop, on_message=echo, on_handshake=gate))
    peer = site.ask("/out")
    peer.until(lambda: peer.body)
    assert (peer.status, peer.headers["www-authenticate"], peer.body) == (401, "Basic", b"who are you?")
    assert site.open("/in").status == 101


def test_origins(site: Site) -> None:
    """W8: the pages of others are refused where that is asked for."""
    site.add(WsServer(site.loop, origins=["http://good"]))
    assert site.open("/", "Origin: http://good").status == 101
    assert site.ask("/", "Origin: http://evil").status == 403


def test_the_handshake_has_a_deadline(timed: Site) -> None:
    """W12: a client that never finishes it is let go."""
    timed.add(WsServer(timed.loop, handshake_timeout=5.0))
    peer = timed.dial()
    peer.send(handshake()[:-2])
    timed.pass_time(4)
    peer.poll()
    assert not peer.ended
    timed.pass_time(7)
    peer.wait_end()


def test_upgrade_beside_routes(site: Site) -> None:
    """W-4: an HttpServer's route becomes a WebSocket, others answer as before, also on the connection of a refusal."""
    found: list[WebSocket | None] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        if req.path == "/ws":
            found.append(upgrade(req, res, on_message=echo, subprotocols=("chat",)))
        else:
            res.send("page")

    site.add(HttpServer(site.loop, on_request))
    assert site.open("/ws").status == 101
    assert isinstance(found.pop(), WebSocket)
    peer = site.dial()
    peer.send(b"GET /ws HTTP/1.1\r\nHost: test\r\n\r\n")
    peer.until(lambda: peer.status)
    assert peer.status == 426
    assert found == [None]


def test_upgrade_lets_only_its_own_pages_in(site: Site) -> None:
    """By default, because cookies would come with a request of anybody's page."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        upgrade(req, res)

    site.add(HttpServer(site.loop, on_request))
    assert site.open("/", "Origin: http://test").status == 101
    assert site.ask("/", "Origin: http://evil").status == 403


def test_pipelined_requests_before_the_upgrade(site: Site) -> None:
    """The answers to earlier requests leave first."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        if req.path == "/ws":
            upgrade(req, res, on_message=echo)
        else:
            res.send("first")

    site.add(HttpServer(site.loop, on_request))
    peer = site.dial()
    peer.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" + handshake("/ws") + encode_frame(1, "then", mask=MASK))
    peer.until(lambda: b"101 Switching" in peer.body and peer.body.endswith(encode_frame(1, "then")))
    assert peer.body.startswith(b"first")


def test_the_http_server_stops(site: Site) -> None:
    """Upgraded connections are closed with 1001 too."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        upgrade(req, res, on_close=site.note_close)

    server = HttpServer(site.loop, on_request)
    site.add(server)
    peer = site.open()
    server.shutdown(3.0)
    assert peer.next_close()[0] == 1001
    peer.close(1001)
    assert peer.wait_end()
    peer.sock.close()
    site.until(lambda: site.log)
    assert site.log == [("close", 1001, "")]


def test_close_cuts_everything(site: Site) -> None:
    """`WsServer.close` resets what is open; `on_close` gets 1006."""
    server = WsServer(site.loop, on_close=site.note_close)
    site.add(server)
    peer = site.open()
    server.close()
    server.close()
    assert not peer.wait_end()
    site.until(lambda: site.log)
    assert site.log == [("close", 1006, "")]
    assert server.websockets == []
    assert server.addresses == []


def test_a_unix_socket(site: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same over a path."""
    path = str(tmp_path_factory.mktemp("s") / "ws")
    server = WsServer(site.loop, on_message=echo)
    site.add(server)
    server.listen_unix(path)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        sock.sendall(handshake() + encode_frame(1, "unix", mask=MASK))
        site.settle(20)
        assert sock.recv(4096).endswith(encode_frame(1, "unix"))


def test_callbacks_may_be_replaced(site: Site) -> None:
    """Those of the server, for later WebSockets, and those of one WebSocket."""
    opened: list[WebSocket] = []
    server = WsServer(site.loop, on_open=opened.append)
    site.add(server)
    server.on_message = echo
    peer = site.open()
    peer.say("a")
    assert peer.next() == "a"
    opened[0].on_message = lambda ws, message: ws.send(f"{message!r}!")
    peer.say("b")
    assert peer.next() == "'b'!"


def test_no_compression(site: Site) -> None:
    """None declines it."""
    site.add(WsServer(site.loop, compression=None))
    assert "sec-websocket-extensions" not in site.open("/", "Sec-WebSocket-Extensions: permessage-deflate").headers
    site.add(WsServer(site.loop, compression=Deflate()))
    peer = site.open("/", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
    assert peer.headers["sec-websocket-extensions"] == (
        "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"
    )


def test_repr_tells_where_it_listens(site: Site) -> None:
    """In the words of the server that it is made of."""
    server = WsServer(site.loop)
    assert repr(server) == "<WsServer not listening>"
    _, port = server.listen("127.0.0.1", 0)[0]
    assert repr(server) == f"<WsServer listening on 127.0.0.1:{port}>"
    server.close()
    assert repr(server) == "<WsServer closed>"
