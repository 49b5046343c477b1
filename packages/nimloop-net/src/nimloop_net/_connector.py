"""A connection that is being made: from a host or a path to a `Connection`, in bounded time.

What happens to a connector, from top to bottom; any step may be the last, by success, failure, time or `cancel`:

==========  =======================================================================================================
WAITING     for the loop's next turn, so that nobody is called back from inside `connect`
RESOLVING   the host is a name, and looked up in another thread
CONNECTING  one address after the other is tried, a new one when the last has failed or the delay is over (RFC 8305)
SECURING    the first that answered stays, the others are closed; TLS shakes hands
OVER        one of `on_connect` and `on_error` was called, or none will be
==========  =======================================================================================================
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, final

from nimloop_core import Loop, Timer
from nimloop_net._attempt import Attempt
from nimloop_net._channel import address_of
from nimloop_net._connection import Connection, OnClose, OnData, OnDrain, OnEof
from nimloop_net._ending import guard
from nimloop_net._happy_eyeballs import ATTEMPT_DELAY, FIRST_FAMILY_COUNT, interleave
from nimloop_net._literals import SockAddress, check_name, parse_literal
from nimloop_net._resolve import Found, NameSource, Share
from nimloop_net._tlsinfo import check_host_name
from nimloop_net.errors import (
    AddressError,
    ConnectError,
    ConnectRefusedError,
    ConnectTimeoutError,
    HostNotFoundError,
    NetError,
)

if TYPE_CHECKING:
    from ssl import SSLContext

WAITING: Final = "waiting"
RESOLVING: Final = "resolving"
CONNECTING: Final = "connecting"
SECURING: Final = "securing"
OVER: Final = "over"

OnConnect = Callable[[Connection], object]
"""Called with the connection once it is there, after the TLS handshake where there is one."""

OnConnectError = Callable[[Exception], object]
"""Called with the reason why there will be no connection."""

_Candidate = tuple[int, SockAddress | str]


@final
class Connector:
    """A connection that is being made. Made by `connect` and `connect_unix`."""

    __slots__ = (
        "_attempts",
        "_candidates",
        "_connection",
        "_errors",
        "_goal",
        "_on_connect",
        "_on_error",
        "_port",
        "_server_hostname",
        "_share",
        "_slots",
        "_stagger",
        "_state",
        "_timeout",
        "_timer",
        "_tls",
        "attempt_delay",
        "attempt_timeout",
        "first_count",
        "local",
        "loop",
    )

    def __init__(
        self,
        loop: Loop,
        goal: str,
        *,
        on_connect: OnConnect,
        on_error: OnConnectError | None,
        slots: tuple[OnData | None, OnClose | None, OnDrain | None, OnEof | None],
        tls: SSLContext | None,
        server_hostname: str | None,
        timeout: float,
    ) -> None:
        if not callable(on_connect):
            raise TypeError(f"on_connect must be callable, not {on_connect!r}")
        if tls is None and server_hostname is not None:
            raise ValueError("a server_hostname is for TLS: give a context, too")
        if tls is not None:
            check_host_name(tls, server_hostname)
        self.loop: Final = loop
        self.attempt_timeout: float | None = None
        self.attempt_delay: float = ATTEMPT_DELAY
        self.first_count: int = FIRST_FAMILY_COUNT
        self.local: SockAddress | None = None
        self._goal: Final = goal
        self._on_connect: OnConnect | None = on_connect
        self._on_error = on_error
        self._slots = slots
        self._tls: Final = tls
        self._server_hostname: Final = server_hostname
        self._timeout: Final = timeout
        self._state = WAITING
        self._port = 0
        self._share: Share | None = None
        self._candidates: list[_Candidate] = []
        self._attempts: list[Attempt] = []
        self._errors: list[OSError] = []
        self._connection: Connection | None = None
        self._stagger: Timer | None = None
        self._timer: Timer = loop.call_later(timeout, self._expired)

    @property
    def state(self) -> str:
        """How far it is: ``"waiting"``, ``"resolving"``, ``"connecting"``, ``"securing"`` or ``"over"``."""
        return self._state

    def cancel(self) -> None:
        """Give up: nobody is called back any more, nothing stays open. Harmless when repeated, and when it is over."""
        self._on_connect = self._on_error = None
        self._end()

    def _end(self) -> None:
        """Let go of everything."""
        self._state = OVER
        self._timer.cancel()
        if self._share is not None:
            self._share.cancel()
            self._share = None
        self._close_attempts()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.on_close = None
            connection.abort()

    def _close_attempts(self) -> None:
        self._stop_stagger()
        self._candidates = []
        for attempt in self._attempts:
            attempt.close()
        self._attempts = []

    def _stop_stagger(self) -> None:
        if self._stagger is not None:
            self._stagger.cancel()
            self._stagger = None

    def _fail(self, error: Exception) -> None:
        on_error, self._on_connect, self._on_error = self._on_error, None, None
        self._end()
        if on_error is not None:
            on_error(error)
        else:
            self.loop.exception_handler(error, self)

    def _expired(self) -> None:
        doing = {RESOLVING: "the name is still being looked up", SECURING: "TLS was not agreed on"}
        reasons = [*[str(error.strerror) for error in self._errors], doing.get(self._state, "no answer")]
        text = f"cannot connect to {self._goal} within {self._timeout} seconds: {'; '.join(reasons)}"
        self._fail(ConnectTimeoutError(errno.ETIMEDOUT, text, self._errors))

    # From a name to addresses ---------------------------------------------------------------------------------

    def find(self, host: str, port: int, resolver: NameSource) -> None:
        """Find out the addresses of the host, then try them."""
        if self._state == OVER:
            return
        self._port = port
        try:
            literal = parse_literal(host, port)
            if literal is None:
                self._state = RESOLVING
                self._share = resolver.look_up(self.loop, check_name(host), self._on_found)
                return
        except AddressError as error:
            self._fail(error)
        else:
            self.try_each([literal])

    def _on_found(self, found: Found, error: NetError | None) -> None:
        self._share = None
        try:
            addresses = [address for each in found if (address := parse_literal(each, self._port)) is not None]
        except AddressError as refusal:  # by a source of the user's own
            addresses, error = [], refusal
        if addresses and error is None:
            self.try_each(interleave(addresses, self.first_count))
        else:
            self._fail(error or HostNotFoundError(socket.EAI_NONAME, f"{self._goal} has no address"))

    # From addresses to a socket -------------------------------------------------------------------------------

    def try_each(self, candidates: Sequence[_Candidate]) -> None:
        """Connect to one of these, in this order."""
        if self._state == OVER:
            return
        self._state = CONNECTING
        local = self.local
        if local is not None:  # which has the shape of its family
            candidates = [each for each in candidates if len(each[1]) == len(local)]
            if not candidates:
                self._fail(AddressError(f"{self._goal} has no address of the family of {local[0]}"))
                return
        self._candidates = [*reversed(candidates)]
        self._try_next()

    def _try_next(self) -> None:
        self._stop_stagger()
        while self._candidates:
            attempt = Attempt(self, *self._candidates.pop())
            self._attempts.append(attempt)
            try:
                attempt.start()
            except OSError as error:
                self._note(attempt, error)
                continue
            if self._candidates:
                self._stagger = self.loop.call_later(self.attempt_delay, self._try_next)
            return
        if not self._attempts:
            self._fail(self._summary())

    def _note(self, attempt: Attempt, error: OSError) -> None:
        attempt.close()
        self._attempts.remove(attempt)
        self._errors.append(attempt.describe(error))

    def on_failed(self, attempt: Attempt, error: OSError) -> None:
        """Called by an attempt: try the next one without waiting for the delay (RFC 8305 §5)."""
        self._note(attempt, error)
        self._try_next()

    def _summary(self) -> ConnectError:
        """Return what to report when every address has failed."""
        errors = self._errors
        kind = ConnectError
        if all(isinstance(error, ConnectionRefusedError) for error in errors):
            kind = ConnectRefusedError
        elif all(isinstance(error, TimeoutError) for error in errors):
            kind = ConnectTimeoutError
        reasons = "; ".join([str(error.strerror) for error in errors])
        return kind(errors[0].errno, f"cannot connect to {self._goal}: {reasons}", errors)

    def on_connected(self, attempt: Attempt, sock: socket.socket, address: SockAddress | str) -> None:
        """Called by the first attempt that has got through, which hands its socket over."""
        self._attempts.remove(attempt)
        self._close_attempts()
        try:
            connection = Connection(self.loop, sock, address_of(address))
        except OSError as error:  # the kernel's limit of watches, for one
            sock.close()
            self._errors = [attempt.describe(error)]
            self._fail(self._summary())
            return
        self._connection = connection
        if self._tls is None:
            self._deliver(connection)
        else:
            self._state = SECURING
            connection.on_close = self._on_insecure
            try:
                connection.start_tls(
                    self._tls, server_hostname=self._server_hostname, timeout=self._timeout, on_secure=self._deliver
                )
            except Exception as error:  # a context that is for servers, for one
                self._fail(error)
                return
        connection.start()

    # From a socket to a connection ----------------------------------------------------------------------------

    def _deliver(self, connection: Connection) -> None:
        on_connect, self._on_connect, self._on_error = self._on_connect, None, None
        self._connection = None
        self._end()
        connection.on_data, connection.on_close, connection.on_drain, connection.on_eof = self._slots
        assert on_connect is not None  # whoever gives up has no connection that could come here
        guard(connection, on_connect)

    def _on_insecure(self, _connection: Connection, error: Exception | None) -> None:
        self._connection = None
        self._fail(ConnectError(None, f"{self._goal} was closed in the TLS handshake") if error is None else error)

    def __repr__(self) -> str:
        return f"<Connector {self._state} goal={self._goal!r}>"
