"""The body of a response, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, final

from nimloop_http._encode import trailer_lines
from nimloop_http.errors import ContentLengthError, ResponseSentError, StaleResponseError

if TYPE_CHECKING:
    from nimloop_http._session import HttpSession
    from nimloop_http.response import HttpResponse


@final
class ResponseStream:
    """The body of a response, piece by piece. Made by `HttpResponse.stream`."""

    __slots__ = (
        "_behind",
        "_chunked",
        "_held",
        "_left",
        "_mute",
        "_needless",
        "_response",
        "_session",
        "on_close",
        "on_drain",
    )

    def __init__(
        self, response: HttpResponse, session: HttpSession, *, chunked: bool, length: int | None, mute: bool
    ) -> None:
        self._response = response
        self._session: Final = session
        self._chunked = chunked
        self._left = length
        self._mute = mute  # HEAD: the handler does its work, the client gets none of it
        self._needless = False  # mute, and so long that the answer was ended without waiting for the handler
        self._behind = False  # on_drain is owed
        self._held = 0  # bytes written before it was this response's turn, or for nobody
        self.on_drain: Callable[[], object] | None = None
        """Called when the client has caught up after a `write` that returned False."""
        self.on_close: Callable[[], object] | None = None
        """Called when nobody waits for the rest: the client has gone before `end`, or has sent HEAD and it is long."""

    @property
    def closed(self) -> bool:
        """Whether nothing can be written any more: `end` was called or the client has gone."""
        return self._response.closed or self._response.done

    def write(self, data: str | bytes | bytearray | memoryview) -> bool:
        """Send a piece: text as UTF-8, or bytes. Returns False when the client is behind: wait for `on_drain`.

        Raises `StaleResponseError` when the client has gone, `ResponseSentError` after `end`, `ContentLengthError`
        beyond the promised length.
        """
        if self._needless:
            return False
        self._need_open()
        piece = data.encode() if isinstance(data, str) else bytes(memoryview(data))
        if self._left is not None:
            if len(piece) > self._left:
                self._session.break_off()
                raise ContentLengthError(f"{len(piece) - self._left} bytes more than the promised length")
            self._left -= len(piece)
        if not piece:
            return True  # an empty chunk would be the last one
        if self._mute:
            return self._leave_out(len(piece))
        self._response.bytes_sent += len(piece)
        if self._chunked:
            piece = b"%x\r\n%b\r\n" % (len(piece), piece)
        if not self._session.write(self._response, piece):
            self._behind = True
            if self._response.held is not None:
                self._held += len(piece)
                if self._held > self._response.connection.max_buffer:
                    self._session.break_off()  # as the connection does it with one that does not wait for on_drain
        return not self._behind

    def _leave_out(self, size: int) -> bool:
        """Nobody gets this piece. A handler that writes as long as there is room must not do so for ever."""
        self._held += size
        connection = self._response.connection
        if not self._behind and self._held > connection.high_water:
            self._behind = True
            connection.loop.call_soon(self._cut_short)
        return not self._behind

    def _cut_short(self) -> None:
        if not self.closed:
            self._needless = True
            self._response.cut_short()

    def end(self, trailers: Iterable[tuple[str, str]] = ()) -> None:
        """Complete the response.

        `trailers` are fields that were not known at the beginning, such as a checksum. They are sent where the body is
        chunked, and left out where it is not, because only chunks have a place for them (RFC 9110 §6.5). Raises
        `ContentLengthError` when less than the promised length was written, and `InvalidHeaderError`.
        """
        if self._needless:
            return
        self._need_open()
        lines = trailer_lines(trailers) if trailers else ""
        if self._left and not self._mute:
            self._session.break_off()
            raise ContentLengthError(f"{self._left} bytes less than the promised length")
        if self._chunked:
            self._session.write(self._response, f"0\r\n{lines}\r\n".encode("latin-1"))
        self.forget()
        self._response.end_stream()

    def drained(self) -> None:
        """Called by the response: the client has caught up."""
        if self._behind:
            self._behind = False
            if self.on_drain is not None:
                self.on_drain()

    def forget(self) -> None:
        """There is nothing more to call back for."""
        self.on_drain = self.on_close = None  # these often lead back here: a cycle

    def _need_open(self) -> None:
        if self._response.done:
            raise ResponseSentError("the stream was ended already")
        if self._response.closed:
            raise StaleResponseError("the client has gone; set on_close to be told")
