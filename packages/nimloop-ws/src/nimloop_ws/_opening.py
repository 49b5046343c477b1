"""A WebSocket on its way, seen from the client; settled once, by success, failure, time or the program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from nimloop_core import Loop, Timer
from nimloop_net import Connection
from nimloop_ws._response import ResponseReader
from nimloop_ws.errors import BadResponseError, HandshakeError, HandshakeTimeoutError
from nimloop_ws.handshake import Accepted

OnFailure = Callable[[Exception], object]
"""Called once, with the reason why there will be no WebSocket."""


@final
class Opening:
    """What `connect` returns: the WebSocket while it is on its way."""

    __slots__ = ("_connection", "_loop", "_on_accepted", "_on_failure", "_reader", "_request", "_timer", "undial")

    def __init__(
        self,
        loop: Loop,
        timeout: float,
        *,
        request: bytes,
        reader: ResponseReader,
        on_accepted: Callable[[Connection, Accepted, bytes], object],
        on_failure: OnFailure | None,
    ) -> None:
        self._loop: Final = loop
        self._request: Final = request
        self._reader: Final = reader
        self._on_accepted: Final = on_accepted
        self._on_failure: Final = on_failure
        self._connection: Connection | None = None
        self._timer: Timer | None = loop.call_later(timeout, self._on_timeout)
        self.undial: Callable[[], object] | None = None
        """Ends the attempt to connect; for the one who makes it."""

    @property
    def active(self) -> bool:
        """Whether it is neither open, nor has failed, nor was cancelled."""
        return self._timer is not None

    def cancel(self) -> None:
        """Give up: nothing is called any more. Harmless when repeated, and once it is settled."""
        if self._settle():
            self._abandon()

    def connected(self, connection: Connection) -> None:
        """Ask for the WebSocket on a connection that has been made."""
        if not self.active:
            connection.abort()
            return
        self.undial = None
        self._connection = connection
        connection.on_data = self._on_data
        connection.on_eof = self._on_eof
        connection.on_close = self._on_close
        connection.send(self._request)

    def failed(self, error: Exception) -> None:
        """Report that there will be no WebSocket."""
        if not self._settle():
            return
        self._abandon()
        if self._on_failure is not None:
            try:
                self._on_failure(error)
            except Exception as raised:
                self._loop.exception_handler(raised, self)

    def _settle(self) -> bool:
        """Take note that it is over; tell whether it was not before."""
        if self._timer is None:
            return False
        self._timer.cancel()
        self._timer = None
        return True

    def _abandon(self) -> None:
        if self._connection is not None:
            self._connection.on_close = None
            self._connection.abort()
            self._connection = None
        elif self.undial is not None:
            self.undial()

    def _on_data(self, connection: Connection, data: bytes) -> None:
        if not self.active:
            return
        try:
            answer = self._reader.feed(data)
        except HandshakeError as error:
            self.failed(error.with_traceback(None))
            return
        if answer is not None:
            self._settle()
            self._connection = None
            self._on_accepted(connection, *answer)

    def _on_eof(self, _connection: Connection) -> None:
        self.failed(self._reader.end())

    def _on_close(self, _connection: Connection, error: Exception | None) -> None:
        why = BadResponseError("the connection ended before the server had answered")
        self.failed(error if error is not None else why)

    def _on_timeout(self) -> None:
        self.failed(HandshakeTimeoutError("the WebSocket did not open in time"))

    def __repr__(self) -> str:
        return f"<Opening {'active' if self.active else 'settled'}>"
