"""TLS between a connection and its socket, over the memory buffers of the standard library's `ssl`.

`TlsChannel` looks like a socket to the connection above, so everything said there holds here: quotas, marks, pausing,
the ways to end. It also stands between the socket's events and the connection, because a handshake has to go on when
nobody wants to read or has anything to send.

What is encrypted counts as unsent until the kernel has it: `send` tells of no more than that, and the outbox keeps the
rest. OpenSSL is therefore never asked twice for the same bytes, and never ahead of the peer by more than `_PLAIN`.

The ends. `shutdown` and `close` send close_notify after the last byte, and only then; `abort`, an error, and a `close`
that throws away what was queued send none, so that the peer can tell (RFC 8446 §6.1). The same the other way round: the
end of a stream without close_notify is a `TruncatedError`, unless nobody reads any more.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, final

from nimloop_core import READ, WRITE, Timer, Watcher
from nimloop_net import _state as st
from nimloop_net._ending import end, guard
from nimloop_net._io import receiver, socket_of
from nimloop_net._tlsinfo import TlsInfo, check_host_name
from nimloop_net._tlsrecords import RAW, TlsRecords
from nimloop_net.errors import ConnectionClosedError, HandshakeTimeoutError, TruncatedError, WriteBufferFullError

if TYPE_CHECKING:
    from nimloop_net._connection import Connection

_RAW_READS: Final = 8  # per turn, for a peer that sends records with nothing in them
_PLAIN: Final = 65536  # bytes that are encrypted before the kernel has to take them: four records
_QUOTA: Final = 1 << 20  # bytes per turn of sending: 2 to 3 ms of encryption


def start(
    connection: Connection,
    context: ssl.SSLContext,
    *,
    server_side: bool,
    server_hostname: str | None,
    timeout: float,
    received: bytes,
    on_secure: Callable[[Connection], object] | None,
) -> None:
    """Put TLS between a connection and its socket; see `Connection.start_tls`."""
    if connection._state != st.OPEN:
        raise ConnectionClosedError(f"cannot start TLS on a connection that is {connection.state}")
    outbox = connection._outbox
    if outbox.files:
        raise ValueError("a file is on its way: wait until it is sent")
    connection._peer = connection.peer
    sock = socket_of(connection._sock)
    if sock is None:
        raise ValueError("TLS runs over a socket, and once")
    connection._sock = sock
    channel = TlsChannel(
        connection,
        sock,
        context,
        server_side=server_side,
        server_hostname=server_hostname,
        timeout=timeout,
        received=received,
        on_secure=on_secure,
    )
    queued = outbox.take()
    connection._watcher.unregister()
    try:
        channel.begin(queued)
    except OSError as error:
        end(connection, error)
        channel.close()
        return
    connection.bytes_sent += len(queued)
    outbox.go_through(channel, _QUOTA)
    connection._sock = connection._watcher = channel
    connection._receive = receiver(channel)
    connection._tls = channel.info
    connection._unread = False
    if connection._started:
        connection.start()


@final
class TlsChannel:
    """One connection's TLS: a channel for the connection, a watcher for its interest."""

    __slots__ = (
        "_alerted",
        "_claimed",
        "_connection",
        "_ended",
        "_established",
        "_failure",
        "_notified",
        "_on_secure",
        "_records",
        "_reset",
        "_sock",
        "_ssl",
        "_stash",
        "_timer",
        "_wanted",
        "_watcher",
        "edge",
        "info",
    )

    def __init__(
        self,
        connection: Connection,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None,
        timeout: float,
        received: bytes,
        on_secure: Callable[[Connection], object] | None,
    ) -> None:
        """Prepare TLS; raises what `ssl.SSLContext.wrap_bio` raises. The time runs, nothing moves before `begin`."""
        if not server_side:
            check_host_name(context, server_hostname)
        self._connection: Final = connection
        self._sock: Final = sock
        self._records: Final = TlsRecords(sock, received)
        if server_side:
            # A client that has the keys renewed over and over costs it little and the server a lot.
            context.options |= ssl.OP_NO_RENEGOTIATION
        self._ssl: Final = context.wrap_bio(
            self._records.incoming,
            self._records.outgoing,
            server_side=server_side,
            server_hostname=server_hostname,
        )
        self.info: Final = TlsInfo(self._ssl)
        self._on_secure = on_secure
        self._established = False
        self._claimed = 0  # bytes at the front of the outbox whose encrypted form is not all in the kernel
        self._stash = b""  # read, because our close_notify may not overtake it, and not yet delivered
        self._failure: OSError | None = None  # comes after what was read together with it
        self._ended = False  # the peer's close_notify was read
        self._notified = False  # our close_notify is out, or on its way
        self._alerted = False  # the peer was told why: a reset could take that away from it
        self._reset = False
        self._wanted = 0
        self._watcher: Watcher | None = None
        self.edge = False
        self._timer: Timer | None = connection.loop.call_later(timeout, lambda: self._expired(timeout))

    def begin(self, queued: bytes) -> None:
        """Watch the socket, send what was queued in plain text, and shake hands."""
        self._records.pending = queued
        self._watcher = self._connection.loop.register(self._sock, 0, self.on_events, edge=True)
        self.edge = self._watcher.edge

    # Events ---------------------------------------------------------------------------------------------------

    def on_events(self, events: int) -> None:
        """Serve one event of the socket; the connection gets it once there is something to talk about."""
        connection = self._connection
        if connection._state == st.CLOSED or not connection._started:
            return
        self._records.on_events(events)
        if not self._established:
            try:
                self._shake_hands()
            except OSError as error:
                end(connection, error)
                return
            if not self._established:
                self._update()
                return
        connection._on_events(events)
        if connection._state != st.CLOSED:
            self._update()

    def _shake_hands(self) -> None:
        """Go on with the handshake as far as what has come allows."""
        records = self._records
        while True:
            try:
                self._ssl.do_handshake()
            except ssl.SSLWantReadError:
                records.answer()
                if records.drained or not records.receive():
                    if records.broken is not None:
                        raise records.broken from None
                    return
            except ssl.SSLError as error:
                raise self._alert(error) from None
            else:
                break
        records.answer()
        self._established = True
        self._stop_timer()
        on_secure, self._on_secure = self._on_secure, None
        connection = self._connection
        if on_secure is not None:
            guard(connection, on_secure)
        if connection._above:
            connection._flush()  # on_drain is owed for what was taken over by `begin`
        connection._unread = True  # what came behind the handshake is here already
        connection._soon()

    def _expired(self, timeout: float) -> None:
        end(self._connection, HandshakeTimeoutError(f"the TLS handshake took more than {timeout} seconds"))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _alert(self, error: ssl.SSLError) -> OSError:
        """Tell the peer what is wrong with what it sent, and return what there is to report."""
        self._records.answer()
        self._alerted = True
        if isinstance(error, ssl.SSLEOFError):
            if self._records.broken is not None:
                return self._records.broken  # a reset, which is reported only once, and the sending side was told
            where = "stream" if self._established else "handshake"
            return TruncatedError(f"the peer ended the connection in the middle of the TLS {where}")
        return error

    # Reading --------------------------------------------------------------------------------------------------

    def recv_into(self, buffer: memoryview, /) -> int:
        """Decrypt what is here, at most as much as fits."""
        if not self._established:
            raise BlockingIOError
        records = self._records
        filled = 0
        if self._stash:
            filled = min(len(buffer), len(self._stash))
            buffer[:filled] = self._stash[:filled]
            self._stash = self._stash[filled:]
        if not self._ended and self._failure is None:
            filled = self._decrypt(buffer, filled)
            if records.outgoing.pending:
                records.answer()
                if isinstance(records.broken, WriteBufferFullError):
                    self._failure = records.broken  # reading on would only bring more to answer
        if filled:
            if self._ended or self._failure is not None:
                self._again()  # the end has come with these bytes, and no event will tell of it
        elif self._failure is not None:
            raise self._failure
        elif not self._ended:
            raise BlockingIOError if records.broken is None else records.broken
        return filled

    def _decrypt(self, buffer: memoryview, filled: int) -> int:
        """Fill the buffer from `filled` on, and tell how full it is then."""
        size = len(buffer)
        records, ssl_object = self._records, self._ssl
        incoming = records.incoming
        reads = 0
        while filled < size:
            # Asked first, because an exception costs more than everything else here.
            waiting = incoming.pending
            if not waiting and not ssl_object.pending():
                if records.drained:
                    break
                if reads == _RAW_READS:
                    self._again()
                    break
                reads += 1
                try:
                    if not records.receive():
                        break
                except OSError as error:
                    self._failure = error
                    break
                waiting = incoming.pending
            try:
                # With a buffer, a number comes back, whatever typeshed says.
                count = int(ssl_object.read(size - filled, buffer[filled:]))
            except ssl.SSLWantReadError:
                if waiting and incoming.pending == waiting:
                    break  # it has taken nothing, and would take nothing again
                continue
            except ssl.SSLZeroReturnError:
                count = 0
            except ssl.SSLError as error:
                failure = self._alert(error)
                if isinstance(failure, TruncatedError) and self._connection._state not in st.DELIVERS:
                    self._ended = True  # who does not listen does not miss it
                else:
                    self._failure = failure
                break
            if count == 0:
                self._ended = True
                break
            filled += count
        return filled

    def _again(self) -> None:
        self._connection.loop.call_soon(lambda: self.on_events(READ))

    # Sending --------------------------------------------------------------------------------------------------

    def send(self, data: bytes | memoryview, _flags: int = 0, /) -> int:
        """Encrypt the next bytes, and tell how many of them the kernel has now."""
        return self.sendmsg([data])

    def sendmsg(self, pieces: list[bytes | memoryview], _ancillary: tuple[()] = (), _flags: int = 0, /) -> int:
        """Do the same for the next pieces."""
        records = self._records
        if records.broken is not None:
            raise records.broken
        if not self._established:
            raise BlockingIOError
        if self._claimed == 0:
            self._encrypt(pieces)
        taken = records.push()
        # Each byte on the wire stands for one of the caller's, until all are out: a slow peer is seen to make progress.
        credit = min(taken, self._claimed - 1) if records.pending else self._claimed
        if credit <= 0:
            raise BlockingIOError
        self._claimed -= credit
        return credit

    def _encrypt(self, pieces: list[bytes | memoryview]) -> None:
        try:
            for piece in pieces:
                room = _PLAIN - self._claimed
                if room == 0:
                    return
                self._claimed += self._ssl.write(piece if len(piece) <= room else memoryview(piece)[:room])
        except ssl.SSLWantReadError:
            pass  # only in the middle of a renegotiation, which is switched off for servers
        except ssl.SSLError as error:
            raise self._alert(error) from None

    # Ending ---------------------------------------------------------------------------------------------------

    def shutdown(self, how: int, /) -> None:
        """Send close_notify, then FIN: now, or as soon as there is room."""
        self._notify()
        self._records.finish()

    def close(self) -> None:
        """Close the socket; with close_notify when everything was sent."""
        self._stop_timer()
        self._on_secure = None
        if not self._reset and not self._connection.write_buffer_size:
            self._notify()
            self._records.answer()
        self._sock.close()
        # No circles, by way of a traceback neither: freed as soon as nobody wants to know.
        self._failure = self._records.broken = None
        if self._watcher is not None:
            self._connection._sock, self._connection._watcher = self._sock, self._watcher

    def _notify(self) -> None:
        if not self._established or self._notified or self._failure is not None:
            return
        self._notified = True
        # OpenSSL looks for the peer's answer at once, and takes anything else for an error.
        scratch = bytearray()
        try:
            while piece := self._ssl.read(RAW):
                scratch += piece
            self._ended = True
        except ssl.SSLError:
            pass
        if self._connection._state in st.DELIVERS:
            self._stash += scratch
        with contextlib.suppress(ssl.SSLError):
            self._ssl.unwrap()

    # What a socket and a watcher can do besides ---------------------------------------------------------------

    def modify(self, events: int) -> None:
        """Note what the connection waits for."""
        self._wanted = events
        self._update()
        if not self._established:  # a client speaks first; and something may be here already
            self._again()

    def _update(self) -> None:
        """Ask for what the connection waits for, or for what TLS itself does."""
        assert self._watcher is not None
        if self.edge:
            self._watcher.modify(READ | WRITE)
        else:
            wanted = self._wanted if self._established else READ
            try:
                self._watcher.modify(wanted | WRITE if self._records.pending else wanted)
            except OSError as error:  # no memory, for one (epoll_ctl(2))
                end(self._connection, error)

    def unregister(self) -> None:
        """Hear of no more events."""
        assert self._watcher is not None
        self._watcher.unregister()

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._sock.fileno()

    def getsockopt(self, level: int, option: int, /) -> int:
        """Ask the socket."""
        return self._sock.getsockopt(level, option)

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        """Tell the socket; but once the peer was told why this ends, nothing may take that away from it."""
        if option == socket.SO_LINGER:
            if self._alerted:
                return
            self._reset = True
        self._sock.setsockopt(level, option, value)

    def getpeername(self) -> object:
        """Return the address of the other end."""
        name: object = self._sock.getpeername()
        return name

    def getsockname(self) -> object:
        """Return the address of this end."""
        name: object = self._sock.getsockname()
        return name
