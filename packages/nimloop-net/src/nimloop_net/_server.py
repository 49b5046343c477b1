"""A stream server: listening sockets, and the connections that came in through them.

Connections are made anew for each peer. A pool would not pay: making one takes 5 µs where accepting, serving and
closing takes more than 100, most of that in the kernel, and putting every field of a used one back costs half as much
again. Read buffers need none: there is one for the whole loop.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, final

from nimloop_core import Loop, Timer
from nimloop_net._channel import Address, Channel, format_address
from nimloop_net._connection import (
    HANDSHAKE,
    Connection,
    OnAccept,
    OnClose,
    OnData,
    OnDrain,
    OnEof,
    OnSecure,
)
from nimloop_net._listener import Listener, Reserve
from nimloop_net._sockets import BACKLOG, UnixListener, adopt_connected, adopt_listening, borrowed, listen_tcp

if TYPE_CHECKING:
    from ssl import SSLContext


@final
class TcpServer:
    """Accepts connections on any number of TCP addresses and Unix paths.

    The callbacks are those of `Connection` and are given to every new one; ``on_accept(conn)`` comes first and may
    replace them, or close the connection. With `tls`, every connection begins with a handshake
    (`Connection.start_tls`): ``on_accept`` comes before it, so that a peer can be refused before it costs anything, and
    ``on_secure(conn)`` after it. A handshake that fails is told to ``on_close``.

    Beyond `max_connections`, peers wait in the backlog, or with `refuse` are accepted and closed at once. The same when
    the process runs out of descriptors: `refuse` keeps one in reserve to say so with; without it, accepting rests for a
    moment. Both are logged to ``nimloop.net``.
    """

    def __init__(
        self,
        loop: Loop,
        *,
        on_data: OnData | None = None,
        on_accept: OnAccept | None = None,
        on_close: OnClose | None = None,
        on_drain: OnDrain | None = None,
        on_eof: OnEof | None = None,
        on_secure: OnSecure | None = None,
        tls: SSLContext | None = None,
        handshake_timeout: float = HANDSHAKE,
        max_connections: int | None = None,
        refuse: bool = False,
    ) -> None:
        if max_connections is not None and max_connections < 1:
            raise ValueError(f"a server needs room for one connection at least, not for {max_connections}")
        if not handshake_timeout >= 0:
            raise ValueError(f"a handshake has zero seconds or more, not {handshake_timeout}")
        self.loop: Final[Loop] = loop
        """The loop that it belongs to."""
        self.on_data = on_data
        self.on_accept = on_accept
        self.on_close = on_close
        self.on_drain = on_drain
        self.on_eof = on_eof
        self.on_secure = on_secure
        self.tls = tls
        """The certificate and the rules of TLS; those who are connected keep the ones they got."""
        self.handshake_timeout = handshake_timeout
        """Seconds that a peer has for the TLS handshake."""
        self.max_connections: Final[int | None] = max_connections
        """How many connections there may be at a time; None for any number."""
        self.refuse: Final[bool] = refuse
        """Whether a connection too many is accepted and closed at once; otherwise it waits in the backlog."""
        self.refused = 0
        """How many were."""
        self._full = False
        self._resting = False  # no listener accepts, because there are as many as there may be
        self._reserve: Final = Reserve()
        self._listeners: list[Listener] = []
        self._connections: dict[Connection, None] = {}
        self._on_done: list[Callable[[int], object]] = []
        self._grace: Timer | None = None
        self._aborted = 0

    @property
    def addresses(self) -> list[Address]:
        """Where it listens: ``(host, port)`` or a path each."""
        return [listener.address for listener in self._listeners]

    @property
    def connections(self) -> list[Connection]:
        """The connections that are open now."""
        return list(self._connections)

    def listen(
        self, host: str | None, port: int, *, backlog: int = BACKLOG, reuse_port: bool = False
    ) -> list[tuple[str, int]]:
        """Listen on every address of `host` (None: all of this machine) and return them with their ports.

        Port 0 takes a free port. `reuse_port` lets other sockets, also of other processes, share the port
        (SO_REUSEPORT). A name is looked up here and now. Raises OSError, for instance EADDRINUSE.
        """
        sockets = listen_tcp(host, port, backlog=backlog, reuse_port=reuse_port)
        listeners: list[Listener] = []
        try:
            for sock in sockets:
                listeners.append(Listener(self, sock))  # noqa: PERF401 - kept when one fails
        except BaseException:
            for listener in listeners:
                listener.close()
            for sock in sockets:
                sock.close()
            raise
        self._add(*listeners)
        names = [sock.getsockname() for sock in sockets]
        return [(str(name[0]), int(name[1])) for name in names]

    def listen_unix(self, path: str, mode: int = 0o660, *, backlog: int = BACKLOG) -> None:
        """Listen on a Unix socket at `path`; the path is removed again by `close`.

        A path left behind by a dead server is taken over; that of a living one, or anything that is not a socket,
        raises `AddressError`. `mode` holds from the moment the path exists. A path that begins with a NUL is an
        abstract name of Linux (unix(7)), to which permissions do not apply.
        """
        unix = UnixListener(path, mode=mode, backlog=backlog)
        try:
            listener = Listener(self, unix.sock, unix)
        except BaseException:
            unix.close()
            raise
        self._add(listener)

    def adopt(self, sock: socket.socket | int) -> None:
        """Take over a socket, or its descriptor, that listens already, for instance one of `inherited_sockets`.

        Raises `AddressError` for any other, and leaves it open.
        """
        with borrowed(sock) as listening:
            adopt_listening(listening)
            self._add(Listener(self, listening))

    def inject(self, sock: socket.socket | int) -> Connection:
        """Serve a socket, or its descriptor, that somebody else has accepted like one of our own, whatever the limit.

        Raises `AddressError` for a socket that is not connected, and leaves it open.
        """
        with borrowed(sock) as connected:
            return self._on_accepted(connected, adopt_connected(connected))

    def _add(self, *listeners: Listener) -> None:
        self._listeners += listeners
        if self.refuse:
            self._reserve.take()

    def accept_waiting(self) -> None:
        """Accept what waits in the backlog, as far as there is room; `stop_listening` would reset it."""
        for listener in self._listeners.copy():
            listener.accept_waiting()

    def stop_listening(self) -> None:
        """Close the listening sockets; connections stay."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self._reserve.give_up()

    def shutdown(self, grace: float, on_done: Callable[[int], object] | None = None) -> None:
        """Stop listening, let every connection say goodbye, abort what is left after `grace` seconds.

        A connection with `on_shutdown` is told by it; the others send what they have queued and close.
        ``on_done(aborted)`` is called when all are gone, with the number of those that were aborted.
        """
        self.wait_closed(grace, on_done)  # first, so that nothing has happened yet when the grace is no time
        self.stop_listening()
        for connection in self.connections:
            connection.end_with_server()

    def wait_closed(self, grace: float, on_done: Callable[[int], object] | None = None) -> None:
        """Wait for the connections to end by themselves, and abort what is left after `grace` seconds.

        ``on_done(aborted)`` is called once when all are gone, after the last `on_close`. Waiting again while one
        waits already moves the deadline, for both.
        """
        if self._grace is None:
            self._aborted = 0
            self._grace = self.loop.call_later(grace, self._abort_all)
        else:
            self._grace.reschedule(grace)
        if on_done is not None:
            self._on_done.append(on_done)
        if not self._connections:
            self.loop.call_soon(self._finished)

    def close(self) -> None:
        """Close the listening sockets and abort every connection, now. Harmless when repeated."""
        self.stop_listening()
        self._abort_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        where = ", ".join([format_address(address) for address in self.addresses])
        state = f"listening on {where}" if where else "not listening"
        return f"<TcpServer {state} connections={len(self._connections)}>"

    def forget(self, connection: Connection) -> None:
        """Called by a connection that has ended."""
        self._connections.pop(connection, None)
        if self._full:
            self._full = False
            if self._resting:
                self._resting = False
                for listener in self._listeners:
                    listener.update()
        if not self._connections and self._grace is not None and not self.loop.closed:
            self.loop.call_soon(self._finished)  # `on_close` comes first

    def _abort_all(self) -> None:
        for connection in self.connections:
            self._aborted += not connection.closed
            connection.abort()

    def _finished(self) -> None:
        if self._connections or self._grace is None:
            return
        self._grace.cancel()
        self._grace = None
        waiting, self._on_done = self._on_done, []
        for on_done in waiting:
            try:
                on_done(self._aborted)
            except Exception as error:
                self.loop.exception_handler(error, self)

    def _rest(self) -> None:
        self._resting = True
        for listener in self._listeners:
            listener.update()

    def _on_accepted(self, sock: Channel, peer: Address | None) -> Connection:
        connection = Connection(
            self.loop,
            sock,
            peer,
            self,
            on_data=self.on_data,
            on_close=self.on_close,
            on_drain=self.on_drain,
            on_eof=self.on_eof,
        )
        self._connections[connection] = None
        self._full = self.max_connections is not None and len(self._connections) >= self.max_connections
        try:
            if self.tls is not None:
                connection.start_tls(
                    self.tls, server_side=True, timeout=self.handshake_timeout, on_secure=self.on_secure
                )
            if self.on_accept is not None:
                self.on_accept(connection)
        except Exception as error:
            connection.abort()
            self.loop.exception_handler(error, connection)
        connection.start()
        return connection
