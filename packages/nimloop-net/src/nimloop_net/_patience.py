"""How long a connection waits for its peer: deadlines that look for progress before they end anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from nimloop_core import READ, Deadline
from nimloop_net import _ending
from nimloop_net.errors import IdleTimeoutError, StalledError

if TYPE_CHECKING:
    from nimloop_net._connection import Connection


@final
class Idle:
    """Ends a connection through which nothing has moved, in either direction, for so many seconds."""

    __slots__ = ("_connection", "_deadline", "_sent_before", "seconds")

    def __init__(self, connection: Connection, seconds: float) -> None:
        self._connection = connection
        self._deadline = Deadline(connection.loop, self._expired)
        self._sent_before = connection.bytes_sent
        self._deadline.set(seconds)
        self.seconds = seconds

    def note(self, events: int) -> None:
        """Start over if the event brought something, or if something has left since the last one."""
        sent = self._connection.bytes_sent
        if events & READ or sent != self._sent_before:
            self._sent_before = sent
            self._deadline.set(self.seconds)

    def cancel(self) -> None:
        """Wait no longer."""
        self._deadline.cancel()

    def _expired(self) -> None:
        connection = self._connection
        error = IdleTimeoutError(f"nothing has come or gone for {self.seconds} seconds")
        _ending.end(connection, error, reset=connection.write_buffer_size != 0)


@final
class Stall:
    """Ends a closing connection whose peer takes nothing of what is queued for `conn.stall` seconds."""

    __slots__ = ("_connection", "_deadline", "_sent_before")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._deadline = Deadline(connection.loop, self._expired)
        self._sent_before = -1
        self.note()

    def note(self) -> None:
        """Start over if the peer has taken something."""
        sent = self._connection.bytes_sent
        if sent != self._sent_before:
            self._sent_before = sent
            self._deadline.set(self._connection.stall)

    def cancel(self) -> None:
        """Wait no longer."""
        self._deadline.cancel()

    def _expired(self) -> None:
        connection = self._connection
        _ending.end(connection, StalledError(f"the peer took nothing for {connection.stall} seconds"))
