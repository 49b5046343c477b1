"""An HTTP/1.1 server that calls one function per request. Bring your own router.

`HttpServer` works on a loop of yours; `serve` owns a loop, the signals and the end.
"""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from ssl import SSLContext
from types import TracebackType
from typing import Final, Self, final

from nimloop_core import Loop
from nimloop_http._encode import DateLine
from nimloop_http._framing import STANDARD_METHODS
from nimloop_http._preface import Preface
from nimloop_http._running import run_until_signalled
from nimloop_http._session import HttpSession
from nimloop_http._source import Source
from nimloop_http._tally import Tally
from nimloop_http._workers import WorkerPool
from nimloop_http.limits import DEFAULT_LIMITS, DEFAULT_TIMEOUTS, Limits, Timeouts
from nimloop_http.metrics import ServerStats
from nimloop_http.proxy import TrustedProxies
from nimloop_http.request import HttpRequest
from nimloop_http.response import HttpResponse
from nimloop_net import Address, Connection, TcpServer, format_address

__all__ = ["HttpServer", "OnHeaders", "OnRequest", "serve"]

OnRequest = Callable[[HttpRequest, HttpResponse], object]
"""Called with each complete request and the response to fill in; its result is ignored."""

OnHeaders = Callable[[HttpRequest, HttpResponse], object]
"""Called with each request as soon as its head is there, before its body; its result is ignored."""

# A tunnel is not a response: after CONNECT and 2xx the bytes that follow are no requests (RFC 9110 §9.3.6).
_METHODS: Final = STANDARD_METHODS - {"CONNECT"}

# Disks do not get faster with many threads; one that writes for each file that is being received may wait.
_FILE_THREADS: Final = 4
_FILE_JOBS: Final = 4096

# No status of the RFCs: the one that nginx writes to its log when the client has gone before the answer.
CLIENT_GONE: Final = 499

log: Final = logging.getLogger("nimloop.http")
access: Final = logging.getLogger("nimloop.http.access")


@final
class HttpServer:
    """Serves HTTP on any number of TCP addresses and Unix paths.

    `on_headers`, if there is one, sees each request first, before a byte of its body is kept: it may answer, which
    refuses the body, set a limit, or choose where the body goes (see `HttpRequest`). A `ProtocolError` that it raises
    is answered with its status. `on_request` may answer at once or keep the response for later. If one of them raises,
    the exception goes to the loop's exception handler and the client gets 500. `methods` are the ones that reach them,
    others get 501; None: all. By default they are the standard ones but CONNECT, which asks for a tunnel.

    With `tls`, a server-side context, it serves HTTPS; the context's ALPN is set to ``http/1.1``. `proxies` are those
    in front of it whose header fields are believed; with `proxy_protocol`, each of their connections has to begin with
    a PROXY header, version 1 or 2, and nobody else is let in. Beyond `max_connections` new ones wait in the backlog.
    """

    def __init__(
        self,
        loop: Loop,
        on_request: OnRequest,
        *,
        on_headers: OnHeaders | None = None,
        limits: Limits = DEFAULT_LIMITS,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        methods: frozenset[str] | None = _METHODS,
        tls: SSLContext | None = None,
        proxies: TrustedProxies | None = None,
        proxy_protocol: bool = False,
        max_connections: int | None = None,
        access_log: bool = False,
    ) -> None:
        if proxy_protocol and proxies is None:
            raise ValueError("proxy_protocol needs to know from whom: give proxies")
        if tls is not None:
            tls.set_alpn_protocols(["http/1.1"])
        self.loop: Final[Loop] = loop
        """The loop that it belongs to."""
        self.on_request = on_request
        """Called with each request and the response to fill in."""
        self._on_headers = on_headers
        self.looks_first: bool = on_headers is not None  # whether a head needs more than to be answered
        self.limits: Final[Limits] = limits
        """How much a request may have."""
        # How large a body may be is decided per request, once its head is there.
        self.parser_limits: Final = replace(limits, body=sys.maxsize)
        self.timeouts: Final[Timeouts] = timeouts
        """How long things may take."""
        self.methods: Final = methods
        self.tls = tls
        """The certificate and the rules of TLS for new connections, or None for plain HTTP."""
        self.proxies: Final = proxies
        self.proxy_protocol: Final = proxy_protocol
        self.access_log = access_log
        """Whether each answer is logged to ``nimloop.http.access``, at level INFO."""
        self.date: Final = DateLine()
        self.head_ns: Final = int(timeouts.head * 1e9)
        self.body_ns: Final = int(timeouts.body * 1e9)
        self.idle_ns: Final = int(timeouts.idle * 1e9)
        self.write_ns: Final = int(timeouts.write * 1e9)
        self.answer_ns: Final = int(timeouts.answer * 1e9)
        self.shortest: Final = min(timeouts.head, timeouts.body, timeouts.idle, timeouts.write, timeouts.answer)
        self.tally: Final = Tally()  # of complete answers
        self.lost = 0
        self._accepted = self._rejected = self._bytes_sent = 0
        self._workers: WorkerPool | None = None
        self._tcp: Final = TcpServer(loop, on_accept=self._on_accept, max_connections=max_connections)
        self.stopping: bool = False
        """Whether `shutdown` or `close` was called."""

    @property
    def on_headers(self) -> OnHeaders | None:
        """Called with each request before its body; may be replaced at any time."""
        return self._on_headers

    @on_headers.setter
    def on_headers(self, callback: OnHeaders | None) -> None:
        self._on_headers = callback
        self.looks_first = callback is not None or self.stopping

    @property
    def addresses(self) -> list[Address]:
        """Where it listens: ``(host, port)`` or a path each."""
        return self._tcp.addresses

    def listen(
        self, host: str | None = "127.0.0.1", port: int = 8000, *, backlog: int = 2048, reuse_port: bool = False
    ) -> list[tuple[str, int]]:
        """Listen on every address of `host` (None: all of this machine) and return them with their ports.

        Port 0 takes a free one. Raises OSError, for instance when the port is taken.
        """
        return self._tcp.listen(host, port, backlog=backlog, reuse_port=reuse_port)

    def listen_unix(self, path: str, mode: int = 0o660, *, backlog: int = 2048) -> None:
        """Listen on a Unix socket. Raises `AddressError` when the path is a living server's or not a socket."""
        self._tcp.listen_unix(path, mode, backlog=backlog)

    def adopt(self, sock: socket.socket | int) -> None:
        """Take over a socket, or its descriptor, that listens already, for instance one of `inherited_sockets`.

        Raises `AddressError` for any other, and leaves it open.
        """
        self._tcp.adopt(sock)

    def inject(self, sock: socket.socket | int) -> None:
        """Serve a socket, or its descriptor, that somebody else has accepted; raises `AddressError` for any other."""
        self._tcp.inject(sock)

    def retire(self) -> None:
        """Stop listening, and let each connection end with its next answer, which says ``Connection: close``.

        Idle connections stay open, unlike with `shutdown`, and those that wait in the backlog are accepted: a request
        that is on its way on one is answered, not lost.
        """
        self.stopping = self.looks_first = True
        self._tcp.accept_waiting()
        self._tcp.stop_listening()

    def shutdown(self, grace: float | None = None, on_done: Callable[[int], object] | None = None) -> None:
        """Stop listening, answer what is under way with ``Connection: close``, then end.

        Connections that wait in the backlog are accepted and, as those that have just been made, have a moment for one
        request; idle ones are closed. Connections that were upgraded hear of it by the `on_shutdown` they were given.
        What is still busy after `grace` seconds (by default ``timeouts.grace``) is cut off. ``on_done(aborted)`` is
        called once all connections are gone, with the number of those that were cut off.
        """
        patience = self.timeouts.grace if grace is None else grace
        self._tcp.wait_closed(patience)  # first, so that nothing has happened yet when that is no time
        self.retire()
        self._tcp.shutdown(patience, on_done)

    def close(self) -> None:
        """Stop listening and cut off every connection, now. Harmless when repeated."""
        self.stopping = True
        self._tcp.close()
        if not self.loop.closed:
            self.loop.call_soon(self._close_workers)  # after the connections have given up their files

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def stats(self) -> ServerStats:
        """A snapshot of what the server has done and has to do."""
        connections = self._tcp.connections
        statuses = self.tally.counts()
        return ServerStats(
            connections=len(connections),
            accepted=self._accepted,
            rejected=self._rejected,
            responses=sum(statuses.values()),
            statuses=statuses,
            lost=self.lost,
            bytes_sent=self._bytes_sent + sum(connection.bytes_sent for connection in connections),
        )

    @property
    def workers(self) -> WorkerPool:
        """Threads for what would block the loop, such as writing uploads to files; started when they are needed."""
        if self._workers is None:
            self._workers = WorkerPool("nimloop-files", _FILE_THREADS, _FILE_JOBS)
        return self._workers

    def _close_workers(self) -> None:
        if self._workers is not None:
            self._workers.close()

    def __repr__(self) -> str:
        addresses = self._tcp.addresses
        if addresses:
            return f"<HttpServer listening on {', '.join(map(format_address, addresses))}>"
        if not self.stopping:
            return "<HttpServer not listening>"
        return f"<HttpServer {'stopping' if self._tcp.connections else 'closed'}>"

    # For the sessions -----------------------------------------------------------------------------------------

    def log_when_done(self, response: HttpResponse) -> None:
        """Have the answer written to the access log once it is complete; the time counts from the last call."""
        ending = response.ending
        ending.started_ns = self.loop.clock()
        ending.log = self._write_log

    def _write_log(self, response: HttpResponse, started_ns: int) -> None:
        head = response.head
        # Quoted, or a target could end the field and forge the rest of the line.
        what = f"{head.method} {head.target} HTTP/1.{head.minor}".replace('"', "%22") if head is not None else "-"
        milliseconds = (self.loop.clock() - started_ns) / 1e6
        client = response.client_ip or "unix"
        status = response.status_code if response.sent else CLIENT_GONE
        access.info('%s "%s" %d %d %.1fms', client, what, status, response.bytes_sent, milliseconds)

    def reject(self, connection: Connection, why: str) -> None:
        """Cut a connection off before its first request."""
        log.info("a connection from %s was refused: %s", connection.peer, why)
        connection.abort()

    def count_rejected(self) -> None:
        """Take note that a connection has ended before its first request."""
        self._rejected += 1

    def count_sent(self, connection: Connection) -> None:
        """Take note of what a connection that has ended was sent."""
        self._bytes_sent += connection.bytes_sent

    def _on_accept(self, connection: Connection) -> None:
        self._accepted += 1
        # The callbacks of the connection keep whatever is made here.
        if self.tls is None and not self.proxy_protocol:
            HttpSession(self, connection, Source(connection, self.proxies))
        else:
            Preface(self, connection)


def serve(
    on_request: OnRequest,
    host: str | None = "127.0.0.1",
    port: int = 8000,
    *,
    on_headers: OnHeaders | None = None,
    uds: str | None = None,
    sockets: Sequence[socket.socket] = (),
    tls: SSLContext | None = None,
    proxies: TrustedProxies | None = None,
    proxy_protocol: bool = False,
    max_connections: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    access_log: bool = False,
    backend: str | None = None,
    on_listening: Callable[[HttpServer], object] | None = None,
) -> int:
    """Serve until SIGINT or SIGTERM, then finish what is under way; a second signal ends at once.

    Listens on `host` and `port`, or on the Unix socket `uds`, or on `sockets` that listen already and are taken over.
    ``on_listening(server)`` is called when it does. The other settings are those of `HttpServer`. Returns the number of
    connections that had to be cut off. Raises OSError when it cannot listen. Main thread only.
    """
    with Loop(backend) as loop:
        server = HttpServer(
            loop,
            on_request,
            on_headers=on_headers,
            tls=tls,
            proxies=proxies,
            proxy_protocol=proxy_protocol,
            max_connections=max_connections,
            limits=limits,
            timeouts=timeouts,
            access_log=access_log,
        )
        with server:
            for sock in sockets:
                server.adopt(sock)
            if sockets:
                pass
            elif uds is not None:
                server.listen_unix(uds)
            else:
                server.listen(host, port)
            announce = None if on_listening is None else lambda: on_listening(server)
            return run_until_signalled(loop, server, on_running=announce)
