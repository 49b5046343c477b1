"""What the tests of the server share: a server on a loop that the test turns by hand, bare clients, a strict reader."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import final

import h11
from tests.support.turning import PATIENCE, TurnedLoop

from nimloop_core import Loop
from nimloop_core.testing import FakeClock
from nimloop_http import HttpRequest, HttpResponse, HttpServer, Limits, Timeouts, TrustedProxies
from nimloop_http._session import HttpSession
from nimloop_net import Address

OnRequest = Callable[[HttpRequest, HttpResponse], object]


@dataclass
class Answer:
    """One response, as a strict client has understood it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    interim: list[int] = field(default_factory=list)
    complete: bool = False
    version: str = "1.1"

    def get(self, name: str) -> str | None:
        """Return the only value of a field, or None."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, f"{name} comes {len(values)} times"
        return values[0] if values else None


def framed(answer: Answer) -> bool:
    """Tell whether the head of an answer says where its body ends."""
    return answer.get("content-length") is not None or answer.get("transfer-encoding") is not None


def parse(data: bytes, methods: Sequence[str], *, ended: bool = False) -> list[Answer]:
    """Read the responses with h11, which is strict; the last one may be incomplete, and nothing may follow."""
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    if data:
        reader.receive_data(data)
    answers: list[Answer] = []
    rest = list(methods)
    interim: list[int] = []
    asked = False
    while True:
        if not asked:
            if not rest:
                break
            head = h11.Request(method=rest.pop(0), target="/", headers=[("Host", "x")])
            reader.send(head)
            reader.send(h11.EndOfMessage())
            asked = True
        event = reader.next_event()
        if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
            if ended and answers and not answers[-1].complete and not framed(answers[-1]):
                ended = False
                reader.receive_data(b"")  # the end of the connection is the end of the body
                continue
            break
        if isinstance(event, h11.InformationalResponse):
            interim.append(event.status_code)
        elif isinstance(event, h11.Response):
            fields = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
            answers.append(Answer(event.status_code, fields, interim=interim, version=event.http_version.decode()))
            interim = []
        elif isinstance(event, h11.Data):
            answers[-1].body += event.data
        elif isinstance(event, h11.EndOfMessage):
            answers[-1].complete = True
            if reader.our_state is h11.MUST_CLOSE or reader.their_state in (h11.MUST_CLOSE, h11.CLOSED):
                break
            reader.start_next_cycle()
            asked = False
    left = bytes(reader.trailing_data[0])
    assert not left, f"bytes that belong to no answer: {left[:100]!r}"
    return answers


def request(
    method: str = "GET", target: str = "/", *fields: str, body: bytes | None = None, version: str = "1.1"
) -> bytes:
    """Spell a request; a body gets its Content-Length."""
    lines = [f"{method} {target} HTTP/{version}", "Host: test", *fields]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


@final
class Client:
    """A bare socket, and what has come in through it."""

    def __init__(self, site: Site, sock: socket.socket) -> None:
        self.site = site
        self.sock = sock
        self.received = bytearray()
        self.ended = False
        self.reset = False

    def send(self, data: bytes) -> None:
        """Send all of it, while the loop runs."""
        left = memoryview(data)

        def sent() -> bool:
            nonlocal left
            try:
                left = left[self.sock.send(left) :]
            except BlockingIOError:
                return False
            return not left

        self.site.until(sent)

    def poll(self, most: int = 1 << 18) -> bool:
        """Take what has arrived; tell whether the server's end has been seen."""
        while not self.ended:
            try:
                data = self.sock.recv(most)
            except BlockingIOError:
                break
            except ConnectionResetError:
                self.ended = self.reset = True
                break
            self.received += data
            self.ended = not data
        return self.ended

    def answers(self, *methods: str) -> list[Answer]:
        """Wait for the complete answers to requests with these methods, and return them."""
        found: list[Answer] = []

        def there() -> bool:
            nonlocal found
            before = len(self.received)
            ended = self.poll()
            if len(self.received) != before or ended or not found:
                found = parse(bytes(self.received), methods, ended=ended)
            return ended or (len(found) == len(methods) and found[-1].complete)

        self.site.until(there)
        assert len(found) == len(methods), found
        assert all(answer.complete for answer in found), found
        return found

    def answer(self, method: str = "GET") -> Answer:
        """Wait for the complete answer to one request; what was received is forgotten."""
        (answer,) = self.answers(method)
        self.received.clear()
        return answer

    def read_all(self) -> bytes:
        """Wait for the end, and return everything received; raises ConnectionResetError after a reset."""
        self.site.until(self.poll)
        if self.reset:
            raise ConnectionResetError
        return bytes(self.received)

    def half_close(self) -> None:
        """Send no more."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def abort(self) -> None:
        """Go away with a reset, which the server sees at once; else it might just be that nothing more is asked for."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


@final
class Site(TurnedLoop):
    """A server on a loop in the test's own thread. With a `FakeClock`, time passes only in `pass_time`."""

    def __init__(self, backend: str | None = None, *, clock: FakeClock | None = None) -> None:
        super().__init__(backend, clock=clock)
        self._server: HttpServer | None = None

    @property
    def server(self) -> HttpServer:
        """The server that was started last."""
        assert self._server is not None
        return self._server

    @property
    def sessions(self) -> list[HttpSession]:
        """The sessions of its connections."""
        found = [connection.context for connection in self.server._tcp.connections]
        return [session for session in found if isinstance(session, HttpSession)]

    def start(
        self,
        on_request: OnRequest,
        *,
        on_headers: OnRequest | None = None,
        tls: ssl.SSLContext | None = None,
        proxies: TrustedProxies | None = None,
        proxy_protocol: bool = False,
        max_connections: int | None = None,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        access_log: bool = False,
        methods: frozenset[str] | None = frozenset({"GET", "HEAD", "POST", "PUT", "CONNECT", "OPTIONS"}),
    ) -> HttpServer:
        """Start a server on a free port."""
        server = HttpServer(
            self.loop,
            on_request,
            on_headers=on_headers,
            tls=tls,
            proxies=proxies,
            proxy_protocol=proxy_protocol,
            max_connections=max_connections,
            limits=limits or Limits(),
            timeouts=timeouts or Timeouts(),
            access_log=access_log,
            methods=methods,
        )
        self.stack.callback(server.close)
        server.listen("127.0.0.1", 0)
        self._server = server
        return server

    def dial(self, address: Address | None = None, *, receive_buffer: int = 0) -> Client:
        """Connect a bare client."""
        if address is None:
            address = self.server.addresses[0]
        if isinstance(address, str):
            sock = socket.socket(socket.AF_UNIX)
        else:
            sock = socket.socket()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stack.callback(sock.close)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(address)
        sock.setblocking(False)
        return Client(self, sock)

    def ask(self, data: bytes, *methods: str) -> list[Answer]:
        """Send bytes over a new connection, half-close it, and return the answers, which have to be complete."""
        client = self.dial()
        client.send(data)
        client.half_close()
        found = parse(client.read_all(), methods or ("GET",), ended=True)
        assert all(answer.complete for answer in found), found
        client.close()
        return found


def counting_listener(note: Callable[[str, int], object]) -> socket.socket:
    """Listen on a free port with a socket whose connections tell what they are asked for: ``note(call, size)``.

    A class of its own is served by the Python, call for call.
    """

    class Accepted(socket.socket):
        def recv_into(self, buffer: memoryview, *_rest: int) -> int:  # type: ignore[override]
            note("recv", len(buffer))
            return super().recv_into(buffer)

        def send(self, data: bytes | memoryview, flags: int = 0, /) -> int:  # type: ignore[override]
            note("send", len(data))
            return super().send(data, flags)

        def sendmsg(self, *_arguments: object) -> int:
            raise AssertionError("nothing here is large enough to be gathered")

    class Listener(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            sock, address = super().accept()
            return Accepted(fileno=sock.detach()), address

    listener = Listener()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


@contextmanager
def in_thread(
    on_request: OnRequest, *, on_headers: OnRequest | None = None, limits: Limits | None = None
) -> Iterator[tuple[str, int]]:
    """Serve from a thread of its own, for clients that block; gives the address."""
    loop = Loop()
    errors: list[Exception] = []
    loop.exception_handler = lambda error, _owner: errors.append(error)
    server = HttpServer(loop, on_request, on_headers=on_headers, limits=limits or Limits())
    (address,) = server.listen("127.0.0.1", 0)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        yield address
    finally:
        loop.call_soon_threadsafe(lambda: server.shutdown(0.5, lambda _aborted: loop.stop()))
        thread.join(PATIENCE)
        loop.close()
    assert not thread.is_alive()
    assert errors == []
