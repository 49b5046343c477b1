"""A stream connection: edge-triggered reads, an outbox, water marks, and an end that loses nothing.

Reading. An event is worth up to `READ_QUOTA` bytes; what a faster peer has sent beyond that waits for the next
iteration, so that it cannot keep timers and other connections waiting. A read shorter than the buffer proves that
the socket is empty (epoll(7)), unless the event carried HUP: then one reads on to the end.

Writing. `send` never makes a system call: it queues. The queue leaves in one call when the work of the event is done,
or, for a `send` from elsewhere (a timer, another connection's callback), before the loop waits next. So a failing
socket never surprises the caller in the middle of its work.

Ending. See `nimloop_net._state`. `on_close` comes once, from the loop, never from inside `close`. Whatever ends a
connection with an error resets it too, so that the peer cannot take what it got for the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol, final

from nimloop_core import ERROR, HUP, READ, WRITE, Loop, Timer
from nimloop_core.abc import EventCallback, HasFileno
from nimloop_net import _state as st
from nimloop_net._channel import Address, Channel, Watch, address_of
from nimloop_net._ending import (
    deliver_rest,
    end,
    expect_progress,
    failed,
    finish,
    guard,
    move,
    pending_error,
    report,
    reset_on_close,
)
from nimloop_net._io import Receive, receiver, sender
from nimloop_net._outbox import Outbox
from nimloop_net._patience import Idle, Stall
from nimloop_net._sendfile import open_range
from nimloop_net._tlsinfo import TlsInfo
from nimloop_net.errors import ConnectionClosedError, WriteBufferFullError

if TYPE_CHECKING:
    from ssl import SSLContext

READ_QUOTA: Final = 256 * 1024
HIGH_WATER: Final = 64 * 1024
LOW_WATER: Final = 16 * 1024
MAX_BUFFER: Final = 64 << 20
LINGER: Final = 5.0
STALL: Final = 30.0
HANDSHAKE: Final = 10.0

_READABLE: Final = READ | HUP | ERROR
_TO_THE_END: Final = HUP | ERROR  # after these, a short read does not prove that the socket is empty


class Owner(Protocol):
    """Who made a connection and has to hear of its end."""

    def forget(self, connection: Connection) -> None:
        """Called once, before `on_close`."""


@final
class Connection:
    """One TCP or Unix stream connection, or a pair of pipes. Made by `TcpServer`, `connect` and `open_stream`.

    The callbacks get the connection first and may be replaced at any time; a protocol takes a connection over by
    doing so. One that raises is reported to the loop's exception handler and the connection is aborted.
    """

    __slots__ = (
        "_above",
        "_buffer",
        "_busy",
        "_edge",
        "_error",
        "_fd",
        "_idle",
        "_local",
        "_outbox",
        "_owner",
        "_paused",
        "_pausers",
        "_peer",
        "_receive",
        "_scheduled",
        "_sock",
        "_started",
        "_state",
        "_timer",
        "_tls",
        "_unread",
        "_watcher",
        "bytes_sent",
        "context",
        "high_water",
        "linger",
        "loop",
        "low_water",
        "max_buffer",
        "on_close",
        "on_data",
        "on_drain",
        "on_eof",
        "on_shutdown",
        "stall",
    )

    def __init__(
        self,
        loop: Loop,
        sock: Channel,
        peer: Address | None = None,
        owner: Owner | None = None,
        *,
        watch: Callable[[EventCallback], Watch] | None = None,
        on_data: OnData | None = None,
        on_close: OnClose | None = None,
        on_drain: OnDrain | None = None,
        on_eof: OnEof | None = None,
    ) -> None:
        """Take over a connected, non-blocking socket; no event comes before `start`.

        `watch` is for a channel that is no socket: it registers what is to be told of events.
        """
        self.loop: Final[Loop] = loop
        """The loop that it belongs to, and the only thread that may use it."""
        self.context: object = None
        """For the program."""
        self.on_data: OnData | None = on_data
        """Called with bytes from the peer, as they come."""
        self.on_close: OnClose | None = on_close
        """Called once when it is gone, never from inside `close`; the error is None when it ended well."""
        self.on_drain: OnDrain | None = on_drain
        """Called when the unsent bytes fall to `low_water`, after a `send` that returned False."""
        self.on_eof: OnEof | None = on_eof
        """Called when the peer will send no more; without it, what is queued is sent and the connection closed."""
        self.on_shutdown: OnShutdown | None = None
        """Called when its server stops; without it, the same as `close_after_drain`."""
        self.high_water: int = HIGH_WATER
        """Unsent bytes above which `send` returns False."""
        self.low_water: int = LOW_WATER
        """Unsent bytes at which `on_drain` is called."""
        self.max_buffer: int = MAX_BUFFER
        """Unsent bytes in memory, beyond which the connection ends with `WriteBufferFullError`."""
        self.linger: float = LINGER
        """Seconds that `close_after_drain` leaves the peer to end its side, once everything was sent."""
        self.stall: float = STALL
        """Seconds that a closing connection waits for a peer that takes nothing of what is queued."""
        self._sock: Channel = sock
        self._fd = sock.fileno()
        self._receive: Receive = receiver(sock)
        self._buffer: Final = loop.read_buffer
        self._owner = owner
        self._peer = peer
        self._local: Address | None = None
        self._outbox: Final = Outbox(sender(sock))
        self._state = st.OPEN
        self._busy = False  # a flush is going to follow: at the end of this event, or before the loop waits
        self._above = False  # send has returned False and on_drain is owed
        self._paused = False
        self._pausers: tuple[str, ...] = ()
        self._unread = False  # the socket may hold bytes that no event will announce
        self._error: Exception | None = None  # what ended it, until `on_close` is called
        self._scheduled = False  # `_on_soon` waits in the loop's queue; one at a time, or the quotas would add up
        self.bytes_sent: int = 0
        """Bytes that were handed to the kernel so far."""
        self._timer: Timer | Stall | None = None
        self._idle: Idle | None = None
        self._tls: TlsInfo | None = None
        self._started = False
        # Registered for both directions once and for all where the backend reports changes; where it reports
        # levels, the interest follows the need.
        self._watcher: Watch = (
            loop.register(self._fd, 0, self._on_events, edge=True) if watch is None else watch(self._on_events)
        )
        self._edge: Final = self._watcher.edge

    def start(self) -> None:
        """Begin to receive events."""
        if self._state != st.CLOSED:
            self._started = True
            try:
                self._watcher.modify(READ | WRITE if self._edge else self._interest())
            except OSError as error:  # the kernel's limit of watches, for one (epoll_ctl(2): ENOSPC)
                end(self, error)

    # What it is -----------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """One of the names in the table of `nimloop_net._state`: ``"open"`` … ``"closed"``."""
        return st.NAMES[self._state]

    @property
    def closed(self) -> bool:
        """Whether the descriptor is closed; `on_close` may still be on its way."""
        return self._state == st.CLOSED

    @property
    def writable(self) -> bool:
        """Whether `send` is possible: our side has not been ended."""
        return self._state in st.CAN_SEND

    @property
    def peer(self) -> Address:
        """The address of the other end."""
        if self._peer is None:
            try:
                self._peer = address_of(self._sock.getpeername())
            except OSError:
                return ""  # it has gone already, which reading will find, or we have closed the socket
        return self._peer

    @property
    def local(self) -> Address:
        """The address of this end."""
        if self._local is None:
            try:
                self._local = address_of(self._sock.getsockname())
            except OSError:
                return ""  # we have closed the socket
        return self._local

    @property
    def write_buffer_size(self) -> int:
        """Bytes that were accepted and not yet handed to the kernel, ranges of files included."""
        return self._outbox.size

    @property
    def reading(self) -> bool:
        """Whether data is wanted: not paused."""
        return not self._paused

    @property
    def tls(self) -> TlsInfo | None:
        """What TLS has agreed on; None for a connection in plain text."""
        return self._tls

    @property
    def idle_timeout(self) -> float | None:
        """Seconds without a byte in either direction that end the connection with `IdleTimeoutError`.

        None, the default, waits for ever. Setting it starts the time. Nothing is lost by it that was sent: the end is
        a reset only when something is still queued.
        """
        return None if self._idle is None else self._idle.seconds

    @idle_timeout.setter
    def idle_timeout(self, seconds: float | None) -> None:
        idle = Idle(self, seconds) if seconds is not None and self._state != st.CLOSED else None
        if self._idle is not None:
            self._idle.cancel()
        self._idle = idle

    def start_tls(
        self,
        context: SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        timeout: float = HANDSHAKE,
        received: bytes = b"",
        on_secure: OnSecure | None = None,
    ) -> None:
        """Speak TLS from here on, through the same methods and callbacks; ``on_secure(conn)`` follows the handshake.

        What was queued before leaves in plain text first; what is sent meanwhile waits. A handshake that fails, or
        takes longer than `timeout` seconds, ends the connection: `on_close` gets `ssl.SSLError`,
        `HandshakeTimeoutError` or `TruncatedError`. A client gives the name that the server's certificate has to be
        for. `received` is what was read of the handshake already; anything else that came in plain text behind the
        word that asked for TLS must not be trusted afterwards (RFC 3207 §6).

        Raises `ConnectionClosedError` unless both sides are open; ValueError for a second TLS inside the first, for
        what is no socket, for a file that is being sent, and for a missing host name.
        """
        from nimloop_net import _tls

        _tls.start(
            self,
            context,
            server_side=server_side,
            server_hostname=server_hostname,
            timeout=timeout,
            received=received,
            on_secure=on_secure,
        )

    # Sending --------------------------------------------------------------------------------------------------

    def send(self, data: bytes | bytearray | memoryview) -> bool:
        """Queue bytes; changeable ones are copied. Returns False above the high-water mark: wait for `on_drain`.

        Raises `ConnectionClosedError` once this side was ended. More than `max_buffer` unsent bytes abort the
        connection with `WriteBufferFullError`: the caller did not listen.
        """
        if self._state > st.PEER_DONE:
            raise ConnectionClosedError(f"cannot send on a connection that is {self.state}")
        if type(data) is not bytes:
            data = bytes(memoryview(data))  # bytes(5) would be five zeros
        if not data:
            return not self._above
        size = self._outbox.add(data)
        if self._busy and size <= self.high_water and size <= self.max_buffer:
            return not self._above
        return self._queued(size)

    def sendv(self, pieces: Iterable[bytes | bytearray | memoryview]) -> bool:
        """Queue several pieces as if they were one, without joining what is large; see `send`, also for what it raises.

        All or nothing: a piece that is not bytes-like raises TypeError before any is queued.
        """
        if self._state > st.PEER_DONE:
            raise ConnectionClosedError(f"cannot send on a connection that is {self.state}")
        ready = [piece if type(piece) is bytes else bytes(memoryview(piece)) for piece in pieces]
        outbox = self._outbox
        before = outbox.size
        for piece in ready:
            if piece:
                outbox.add(piece)
        return not self._above if outbox.size == before else self._queued(outbox.size)

    def send_file(self, file: int | HasFileno, offset: int = 0, count: int | None = None) -> bool:
        """Queue `count` bytes of an open file from `offset` on, by default all that follow.

        A descriptor is taken over and closed in any case; a file object stays the caller's and may be closed at once.
        The bytes go from the page cache to the socket where the system can do that; through TLS, they are read and
        encrypted piece by piece. A file that ends early aborts the connection with `FileTruncatedError`. Returns and
        raises like `send`, and ValueError for a negative offset or count.
        """
        piece = open_range(file, offset, count)
        if self._state > st.PEER_DONE:
            piece.close()
            raise ConnectionClosedError(f"cannot send on a connection that is {self.state}")
        if piece.count == 0:
            piece.close()
            return not self._above
        return self._queued(self._outbox.add_file(piece))

    def _queued(self, size: int) -> bool:
        if not self._busy:
            self._busy = True
            self._soon()
        if size > self.high_water or size > self.max_buffer:
            self._above = True
            memory = self._outbox.memory
            if memory > self.max_buffer:
                end(self, WriteBufferFullError(f"{memory} unsent bytes exceed the limit of {self.max_buffer}"))
        return not self._above

    def _soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._on_soon)

    def _on_soon(self) -> None:
        """Do what no event will announce: read on where the quota ended it, send what was queued meanwhile."""
        self._scheduled = False
        self._on_events(READ | HUP if self._unread else 0)

    def _flush(self) -> None:
        """Send what can be sent, and do what depends on how much is left."""
        outbox = self._outbox
        before = outbox.size
        try:
            room = outbox.write_to(self._sock, self._fd)
        except OSError as error:
            if isinstance(error, (BrokenPipeError, ConnectionResetError)):
                deliver_rest(self)
            end(self, error)
            return
        left = outbox.size
        self.bytes_sent += before - left
        if not self._edge:
            self._update_interest()
        if left:
            if room:
                self._queued(left)  # the quota ended it: go on in the next iteration
            if self._state >= st.DRAINING:
                expect_progress(self)
        elif self._state >= st.ENDING:
            move(self, st.DRAINED)
            return
        if self._above and left <= self.low_water:
            self._above = False
            if self.on_drain is not None and self._state in st.CAN_SEND:
                guard(self, self.on_drain)

    # Receiving ------------------------------------------------------------------------------------------------

    def pause_reading(self, reason: str = "") -> None:
        """Deliver no data until `resume_reading`; the kernel's buffer fills and slows the peer down.

        Each `reason` is somebody's own: data comes again when all who have paused have resumed. Pausing twice for one
        reason is pausing once.
        """
        if reason not in self._pausers:
            self._pausers = (*self._pausers, reason)
            self._paused = True
            self._update_interest()

    def resume_reading(self, reason: str = "") -> None:
        """Take back a `pause_reading` for the same reason; after the last, what has arrived meanwhile is delivered."""
        if reason in self._pausers:
            self._pausers = tuple([each for each in self._pausers if each != reason])
            if not self._pausers:
                self._paused = False
                self._update_interest()
                if self._unread:
                    self._soon()

    def _on_events(self, events: int) -> None:
        """Serve one event; everything that it queues leaves at its end."""
        self._busy = True
        if events & _READABLE and not (self._unread and self._scheduled):
            try:
                self._read(events)
            except BaseException:  # a KeyboardInterrupt in on_data; the loop may run again
                self._soon()
                raise
        self._busy = False
        if self._outbox.size:
            self._flush()
        elif self._state >= st.ENDING:
            move(self, st.DRAINED)
        if self._idle is not None:
            self._idle.note(events)

    def _read(self, events: int) -> None:
        buffer = self._buffer
        quota = READ_QUOTA
        while True:
            if (self._state != st.OPEN or self._paused) and not self._may_read(events):
                return
            try:
                data = self._receive(self._sock, self._fd, buffer)
            except OSError as error:
                end(self, error)
                return
            if not data:
                self._unread = False
                if data is not None:
                    self._on_peer_eof()
                return
            count = len(data)
            self._unread = count == len(buffer) or events & _TO_THE_END != 0
            on_data = self.on_data
            if on_data is not None and (self._state == st.OPEN or self._state in st.DELIVERS):
                try:
                    on_data(self, data)
                except Exception as error:
                    failed(self, error)
                    return
            if not self._unread:
                return
            quota -= count
            if quota <= 0:
                self._soon()
                return

    def _may_read(self, events: int) -> bool:
        """Tell whether there is anything to read, or anybody to read for."""
        if self._paused and self._state in st.DELIVERS:
            self._unread = True
            return False
        if self._state == st.CLOSED or self._state == st.PEER_DONE or self._state == st.FLUSHING:
            if events & ERROR and self._state != st.CLOSED:
                end(self, pending_error(self))
            return False
        return True

    def _on_peer_eof(self) -> None:
        move(self, st.EOF)
        if self._state == st.PEER_DONE:
            if self.on_eof is not None:
                guard(self, self.on_eof)
            else:
                finish(self, st.FINISH)

    # Ending ---------------------------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """End our side: FIN follows the last queued byte. Data is still delivered until the peer ends its side."""
        finish(self, st.END)

    def close_after_drain(self, linger: float | None = None) -> None:
        """Send everything queued, then close; deliver nothing more meanwhile.

        Then `linger` seconds (by default ``conn.linger``) are left to the peer to end its side too, while what it
        still sends is thrown away; closing without that could make the kernel reset the connection and destroy what
        the peer has not read. 0 closes at once: right when the peer is known to send nothing more. A peer that
        takes nothing of what is queued for ``conn.stall`` seconds is cut off with `StalledError`. Raises ValueError
        for a negative time.
        """
        if linger is not None and not linger >= 0:
            raise ValueError(f"a peer has zero seconds or more to end its side, not {linger}")
        if linger:
            self.linger = linger
        finish(self, st.FINISH_NOW if linger == 0 else st.FINISH)

    def close(self) -> None:
        """Close now. What is not yet in the kernel is lost; what is there is delivered. Harmless when repeated."""
        end(self, None)

    def abort(self) -> None:
        """Reset the connection: the peer gets an error, and nothing more of what was sent. Harmless when repeated."""
        if self._state != st.CLOSED:
            reset_on_close(self)
            end(self, None)

    def _on_end(self) -> None:
        report(self)

    def end_with_server(self) -> None:
        """Called by the server that is asked to stop."""
        if self.on_shutdown is not None:
            guard(self, self.on_shutdown)
        else:
            self.close_after_drain()

    # Small things ---------------------------------------------------------------------------------------------

    def _interest(self) -> int:
        wants_data = (not self._paused and self._state in st.DELIVERS) or self._state in st.DISCARDS
        return (READ if wants_data else 0) | (WRITE if self._outbox.size else 0)

    def _update_interest(self) -> None:
        if not self._edge and self._state != st.CLOSED:
            try:
                self._watcher.modify(self._interest())
            except OSError as error:  # no memory, for one (epoll_ctl(2))
                end(self, error)

    def __repr__(self) -> str:
        return f"<Connection {self.state} local={self.local!r} peer={self.peer!r} unsent={self._outbox.size}>"


OnData = Callable[[Connection, bytes], object]
"""Called with each piece of what the peer sends; never an empty one."""

OnClose = Callable[[Connection, Exception | None], object]
"""Called once when a connection is gone, with the reason; None when it ended well."""

OnDrain = Callable[[Connection], object]
"""Called when what is unsent has fallen to the low mark, after a `send` that returned False."""

OnEof = Callable[[Connection], object]
"""Called when the peer will send no more."""

OnSecure = Callable[[Connection], object]
"""Called when the TLS handshake is complete."""

OnAccept = Callable[[Connection], object]
"""Called with each new connection of a server, before the TLS handshake where there is one."""

OnShutdown = Callable[[Connection], object]
"""Called when the server of a connection stops, to say goodbye."""
