"""What the tests of WebSockets share: a loop that the test turns by hand, and a bare peer that may do it all wrong."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import final

from tests.support.turning import PATIENCE, TurnedLoop

from nimloop_core import Loop
from nimloop_core.testing import FakeClock
from nimloop_http import Headers, HttpServer
from nimloop_ws import CLIENT, Agreement, Close, Event, Pong, WebSocket, WsParser, WsServer, encode_frame
from nimloop_ws.frames import CLOSE, PING, PONG

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 §1.3
MASK = b"\x12\x34\x56\x78"


def handshake(target: str = "/", *fields: str) -> bytes:
    """Spell the request that opens a WebSocket."""
    lines = [
        f"GET {target} HTTP/1.1",
        "Host: test",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *fields,
        "",
        "",
    ]
    return "\r\n".join(lines).encode("latin-1")


def without(request: bytes, name: str) -> bytes:
    """Take a field out of a request."""
    lines = request.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.lower().startswith(name.lower().encode() + b":"))


def echo(ws: WebSocket, message: str | bytes) -> None:
    """Answer with the same."""
    ws.send(message)


@final
class Peer:
    """A bare client: what it sends is up to the test, what it gets is read strictly."""

    def __init__(self, site: Site, sock: socket.socket) -> None:
        self.site = site
        self.sock = sock
        self.status = 0
        self.headers = Headers()
        self.head = b""
        self.body = b""
        self.events: list[Event] = []
        self.ended = False
        self.reset = False
        self.reading = True
        self._received = bytearray()
        self._parser = WsParser(CLIENT)

    def agree(self, agreement: Agreement) -> None:
        """Expect compressed messages."""
        self._parser = WsParser(CLIENT, agreement=agreement)

    def send(self, data: bytes) -> None:
        """Send all of it, while the loop runs."""
        left = memoryview(data)

        def sent() -> bool:
            nonlocal left
            try:
                left = left[self.sock.send(left) :]
            except BlockingIOError:
                self.poll()  # a server that waits for us to read takes nothing
                return False
            return not left

        if data:
            self.site.until(sent)

    def frame(self, opcode: int, payload: str | bytes = b"", *, fin: bool = True, rsv1: bool = False) -> None:
        """Send a masked frame."""
        self.send(encode_frame(opcode, payload, fin=fin, rsv1=rsv1, mask=MASK))

    def say(self, message: str | bytes) -> None:
        """Send a message."""
        self.frame(1 if isinstance(message, str) else 2, message)

    def close(self, code: int | None = 1000, reason: bytes = b"") -> None:
        """Send a close frame."""
        self.frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)

    def poll(self) -> None:
        """Take in what has arrived."""
        while self.reading and not self.ended:
            try:
                data = self.sock.recv(1 << 18)
            except BlockingIOError:
                return
            except ConnectionResetError:
                self.ended = self.reset = True
                return
            self.ended = not data
            self._received += data
            if not self.status:
                self._read_head()
            if self.status == 101:
                self.events.extend(self._parser.feed(bytes(self._received)))
                self._received.clear()
            else:
                self.body = bytes(self._received)

    def _read_head(self) -> None:
        head, end, rest = bytes(self._received).partition(b"\r\n\r\n")
        if end:
            self.head = head
            self.status = int(head[9:12])
            self.headers = Headers.from_head((head[head.index(b"\r\n") :] + end).decode("latin-1"))
            self._received = bytearray(rest)

    def until(self, holds: Callable[[], object]) -> None:
        """Run until something holds, or the connection has ended."""

        def there() -> object:
            self.poll()
            return holds() or self.ended

        self.site.until(there)

    def next(self) -> Event:
        """Wait for the next event and take it."""
        self.until(lambda: self.events)
        assert self.events, "the connection ended"
        return self.events.pop(0)

    def next_close(self) -> tuple[int, str]:
        """Wait for a close frame, passing over everything else."""
        while True:
            event = self.next()
            if isinstance(event, Close):
                return event.code, event.reason

    def wait_end(self) -> bool:
        """Wait for the end of the connection; tell whether it was an orderly one."""
        self.until(lambda: False)
        return not self.reset

    def ping_pong(self, payload: bytes = b"there?") -> None:
        """Make sure that everything sent so far was seen; what else comes meanwhile stays."""
        self.frame(PING, payload)

        def answered() -> bool:
            return any(isinstance(event, Pong) and event.payload == payload for event in self.events)

        self.until(answered)
        assert answered()
        self.events = [event for event in self.events if not isinstance(event, Pong)]

    def pong(self, payload: bytes = b"") -> None:
        """Send a pong."""
        self.frame(PONG, payload)


@final
class Site(TurnedLoop):
    """Servers on a loop in the test's own thread. With a `FakeClock`, time passes only in `pass_time`."""

    step = 0.05

    def __init__(self, backend: str | None = None, *, clock: FakeClock | None = None) -> None:
        super().__init__(backend, clock=clock)
        self.log: list[tuple[object, ...]] = []
        """What the WebSockets of `note` have said."""
        self._address: tuple[str, int] | None = None

    def add(self, server: WsServer | HttpServer) -> None:
        """Listen with a server; `dial` goes to the one added last."""
        self.stack.callback(server.close)
        (self._address,) = server.listen("127.0.0.1", 0)

    @property
    def address(self) -> tuple[str, int]:
        """Where the server listens."""
        assert self._address is not None
        return self._address

    @property
    def url(self) -> str:
        """The same as a URL."""
        return f"ws://{self.address[0]}:{self.address[1]}/"

    def note_close(self, ws: WebSocket, code: int, reason: str) -> None:
        """An `on_close` that takes note."""
        self.log.append(("close", code, reason))

    def note_error(self, ws: WebSocket, error: Exception) -> None:
        """An `on_error` that takes note."""
        self.log.append(("error", type(error).__name__))

    def note_message(self, ws: WebSocket, message: str | bytes) -> None:
        """An `on_message` that takes note."""
        self.log.append(("message", message))

    def dial(self, *, receive_buffer: int = 0) -> Peer:
        """Connect a bare peer."""
        sock = socket.socket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stack.callback(sock.close)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(self.address)
        sock.setblocking(False)
        return Peer(self, sock)

    def open(self, target: str = "/", *fields: str, receive_buffer: int = 0, first: bytes = b"") -> Peer:
        """Connect a peer and open a WebSocket; `first` goes with the request."""
        peer = self.ask(target, *fields, first=first, receive_buffer=receive_buffer)
        assert peer.status == 101, (peer.head, peer.body)
        return peer

    def ask(self, target: str = "/", *fields: str, first: bytes = b"", receive_buffer: int = 0) -> Peer:
        """Connect a peer, and ask for a WebSocket: `peer.status` tells whether it got one."""
        peer = self.dial(receive_buffer=receive_buffer)
        peer.send(handshake(target, *fields) + first)
        peer.until(lambda: peer.status)
        return peer

    def serve(self, **settings: object) -> list[WebSocket]:
        """Serve an echo; the list fills with its WebSockets, `log` with their ends and errors."""
        opened: list[WebSocket] = []
        defaults: dict[str, object] = {
            "on_open": opened.append,
            "on_message": echo,
            "on_close": self.note_close,
            "on_error": self.note_error,
        }
        self.add(WsServer(self.loop, **{**defaults, **settings}))  # type: ignore[arg-type]
        return opened


@contextmanager
def in_thread(make: Callable[[Loop], WsServer]) -> Iterator[tuple[str, int]]:
    """Serve from a thread of its own, for clients that block; gives the address."""
    loop = Loop()
    errors: list[Exception] = []
    loop.exception_handler = lambda error, _owner: errors.append(error)
    server = make(loop)
    (address,) = server.listen("127.0.0.1", 0)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        yield address
    finally:
        loop.call_soon_threadsafe(lambda: server.shutdown(2.0, lambda _aborted: loop.stop()))
        thread.join(PATIENCE)
        loop.close()
    assert not thread.is_alive()
    assert errors == []
