"""A stream server: listening sockets, and the connections that came in through them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, final

from nimloop_core import READ, Loop, Timer, Watcher
from nimloop_net._channel import Address, address_of
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
from nimloop_net._sockets import BACKLOG, UnixListener, adopt_listening, listen_tcp

if TYPE_CHECKING:
    from ssl import SSLContext

_ACCEPT_QUOTA: Final = 64  # per event, so that a burst of connections does not keep the others waiting
_BACK_OFF: Final = 0.1  # seconds without accepting after the process ran out of descriptors or memory
# That one connection failed before it was accepted. accept(2): try the next one; EPERM is a firewall's.
_ONE_FAILED: Final = frozenset(
    {
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EPROTO,
    }
)


@final
class _Listener:
    """One listening socket on the loop."""

    __slots__ = ("_on_accepted", "_sock", "_unix", "_watcher", "address", "loop")

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        on_accepted: Callable[[socket.socket, Address], object],
        unix: UnixListener | None = None,
    ) -> None:
        self.loop = loop
        self.address = address_of(sock.getsockname())
        self._sock = sock
        self._unix = unix
        self._on_accepted = on_accepted
        self._watcher: Watcher = loop.register(sock, READ, self._on_readable)

    def _on_readable(self, _events: int) -> None:
        for _ in range(_ACCEPT_QUOTA):
            try:
                sock, address = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _ONE_FAILED:
                    continue
                # The listener stays readable; without a break the loop would spin on it.
                self._watcher.modify(0)
                self.loop.call_later(_BACK_OFF, self._resume)
                return
            sock.setblocking(False)
            self._on_accepted(sock, address_of(address))
            if not self._watcher.active:
                return  # closed by on_accept

    def _resume(self) -> None:
        if self._watcher.active:
            self._watcher.modify(READ)

    def close(self) -> None:
        self._watcher.unregister()
        if self._unix is not None:
            self._unix.close()
        else:
            self._sock.close()


@final
class TcpServer:
    """Accepts connections on any number of TCP addresses and Unix paths.

    The callbacks are those of `Connection` and are given to every new one; ``on_accept(conn)`` comes first and may
    replace them, or close the connection. With `tls`, every connection begins with a handshake
    (`Connection.start_tls`): ``on_accept`` comes before it, so that a peer can be refused before it costs anything, and
    ``on_secure(conn)`` after it. A handshake that fails is told to ``on_close``.
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
    ) -> None:
        self.loop: Final = loop
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
        self._listeners: list[_Listener] = []
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
        listeners: list[_Listener] = []
        try:
            for sock in sockets:
                listeners.append(_Listener(self.loop, sock, self._on_accepted))  # noqa: PERF401 - kept when one fails
        except BaseException:
            for listener in listeners:
                listener.close()
            for sock in sockets:
                sock.close()
            raise
        self._listeners += listeners
        names = [sock.getsockname() for sock in sockets]
        return [(str(name[0]), int(name[1])) for name in names]

    def listen_unix(self, path: str, mode: int = 0o660, *, backlog: int = BACKLOG) -> None:
        """Listen on a Unix socket at `path`; the path is removed again by `close`.

        A path left behind by a dead server is taken over; that of a living one, or anything that is not a socket,
        raises `AddressError`.
        """
        unix = UnixListener(path, mode=mode, backlog=backlog)
        try:
            listener = _Listener(self.loop, unix.sock, self._on_accepted, unix)
        except BaseException:
            unix.close()
            raise
        self._listeners.append(listener)

    def adopt(self, sock: socket.socket) -> None:
        """Take over a socket that listens already, for instance one that was inherited; else `AddressError`."""
        adopt_listening(sock)
        self._listeners.append(_Listener(self.loop, sock, self._on_accepted))

    def stop_listening(self) -> None:
        """Close the listening sockets; connections stay."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def shutdown(self, grace: float, on_done: Callable[[int], object] | None = None) -> None:
        """Stop listening, let every connection say goodbye, abort what is left after `grace` seconds.

        A connection with `on_shutdown` is told by it; the others send what they have queued and close.
        ``on_done(aborted)`` is called when all are gone, with the number of those that were aborted.
        """
        self.stop_listening()
        for connection in self.connections:
            connection.end_with_server()
        self.wait_closed(grace, on_done)

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

    def forget(self, connection: Connection) -> None:
        """Called by a connection that has ended."""
        self._connections.pop(connection, None)
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

    def _on_accepted(self, sock: socket.socket, peer: Address) -> None:
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
