"""What a type checker says to a user of nimloop-ws. Never run: `hatch run typing:check` reads it."""

from __future__ import annotations

from typing import assert_type

from nimloop_core import Loop
from nimloop_http import HttpRequest, HttpResponse
from nimloop_net import Address
from nimloop_ws import (
    SERVER,
    Accepted,
    Agreement,
    Close,
    CloseCode,
    Deflate,
    Fragment,
    MessageStream,
    Opening,
    Ping,
    Pong,
    WebSocket,
    WsFrameKind,
    WsLimits,
    WsParser,
    WsServer,
    WsTimeouts,
    WsUrl,
    broadcast,
    check_request,
    compute_accept_key,
    connect,
    encode_frame,
    parse_url,
    upgrade,
)


def on_message(ws: WebSocket, message: str | bytes) -> None:
    """Text comes as str, binary as bytes."""
    assert_type(ws.send(message), bool)
    assert_type(ws.send_text("text", compress=False), bool)
    assert_type(ws.send_binary(bytearray(b"data")), bool)
    stream = assert_type(ws.stream_text(), MessageStream)
    stream.write("a")
    stream.end()
    assert_type(ws.ping(b"?"), bool)
    assert_type(ws.close_code, int | None)
    assert_type(ws.subprotocol, str | None)
    assert_type(ws.agreement, Agreement | None)
    assert_type(ws.request, HttpRequest | None)
    assert_type(ws.peer, Address)
    ws.context = object()
    ws.pause_reading()
    ws.resume_reading()
    ws.close(CloseCode.GOING_AWAY, "bye")
    ws.close(4000)

    ws.send(1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    ws.send_text(b"")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def on_close(ws: WebSocket, code: int, reason: str) -> None:
    """A number, because a peer may choose one of its own."""
    del ws, code, reason


def serving(loop: Loop) -> None:
    """A server of WebSockets and nothing else."""
    server = WsServer(
        loop,
        on_open=lambda ws: ws.send("hello"),
        on_message=on_message,
        on_close=on_close,
        origins=["https://example.org"],
        subprotocols=["chat"],
        compression=Deflate(threshold=1000),
        limits=WsLimits(message=1 << 20),
        timeouts=WsTimeouts(ping=None),
    )
    assert_type(server.listen("127.0.0.1", 0), list[tuple[str, int]])
    assert_type(broadcast(server.websockets, "to all", skip_behind=True), int)
    server.shutdown(1.0, on_done=lambda aborted: assert_type(aborted, int))

    WsServer(loop, on_message=on_close)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def on_request(req: HttpRequest, res: HttpResponse) -> None:
    """One route of an HttpServer."""
    upgrade(req, res, on_message=on_message, on_fragment=on_fragment, origins=None)


def on_fragment(ws: WebSocket, data: str | bytes, last: bool) -> None:  # noqa: FBT001 - as it is called
    """Pieces in place of messages."""
    del ws, data, last


def client(loop: Loop) -> None:
    """A handle until it is open."""
    opening = connect(loop, "wss://example.org/", on_message=on_message, on_failure=str)
    assert_type(opening, Opening).cancel()
    assert_type(parse_url("ws://localhost/"), WsUrl)


def parsing(data: bytes) -> None:
    """The parser alone: a type per event."""
    parser = WsParser(SERVER, WsLimits(frame=1000))
    for event in parser.feed(data):
        match event:
            case str():
                assert_type(event.upper(), str)
            case bytes():
                assert_type(event.hex(), str)
            case Ping() | Pong():
                assert_type(event.payload, bytes)
            case Close():
                assert_type(event.code, int)
            case Fragment():
                assert_type(event.data, str | bytes)
    assert_type(encode_frame(WsFrameKind.TEXT, "a", mask=b"\0\0\0\0"), bytes)
    assert_type(compute_accept_key("dGhlIHNhbXBsZSBub25jZQ=="), str)


def handshake(req: HttpRequest) -> Accepted:
    """The handshake without a server."""
    return check_request(req.method, 1, req.headers, subprotocols=("chat",))
