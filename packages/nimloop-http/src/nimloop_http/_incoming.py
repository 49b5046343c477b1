"""The body of a request while it arrives: where it goes, how large it may become, and whether more is wanted now.

Three things may become of a body:

- Nobody says anything: it is kept in memory, and ``on_request`` follows when it is complete.
- ``on_headers`` chooses a sink (`HttpRequest.receive_into`, `HttpRequest.stream_to_file`): each piece goes there as it
  comes, and ``on_request`` follows when the sink has got, and is done with, the last one.
- ``on_headers`` takes it as a stream (`HttpRequest.body_stream`): the owner of the stream gives the answer, and
  ``on_request`` is not called.

Where an answer is given before the body is complete and nobody wants the rest, a small rest is read and thrown away
so that the connection can go on; a large one ends it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, final

from nimloop_http._files import write_all
from nimloop_http._framing import check_length
from nimloop_http._sinks import FileSink, Nowhere
from nimloop_http._spool import BodyFile, new_body_file
from nimloop_http.errors import BodyNotReadyError, BodyTooLargeError

if TYPE_CHECKING:
    from nimloop_core import Loop
    from nimloop_http._framing import Head
    from nimloop_http._headers import Headers
    from nimloop_http._session import HttpSession
    from nimloop_http._workers import WorkerPool
    from nimloop_http.request import HttpRequest
    from nimloop_http.response import HttpResponse

# The rest of a body that nobody wants is read up to here: about what is under way anyway when a refusal is sent,
# and cheaper than a new connection.
SKIP_BYTES: Final = 256 * 1024

_NOWHERE: Final = Nowhere()


class BodySink(Protocol):
    """Where the body of a request goes, piece by piece, instead of into memory.

    Given to `HttpRequest.receive_into` in ``on_headers``. `begin` is called there and then; `write` once per piece,
    which is never empty; and at last either `end` or `abort`, once. All of them run in the loop and must not block.

    A sink that is behind, for instance because a thread writes its file, calls ``flow.pause()``: nothing more is
    delivered, the client is held back, and no deadline of the client's runs, until ``flow.resume()``. A pause that
    lasts beyond `end` delays ``on_request`` in the same way: until the sink has finished with what it got. What fails
    in a thread is told by ``flow.fail(error)``, from the loop's thread.

    A sink that raises ends the request: a `ProtocolError`, for instance a `LimitError` of its own, is answered with
    its status, and everything else goes to the loop's exception handler and is answered with 500.
    """

    def begin(self, flow: RequestBody) -> None:
        """Take note of the flow that is going to be written here.

        Who keeps it lets go of it in `end` and `abort`: it leads back to the sink, and such a cycle waits for the
        garbage collector.
        """

    def write(self, data: bytes) -> object:
        """Take a piece of the body, chunked coding undone; the result is ignored."""

    def end(self) -> object:
        """The body is complete: ``flow.received`` bytes, and ``flow.trailers``."""

    def abort(self, error: Exception) -> object:
        """The rest will never come: give up what was got so far, and release everything."""


@final
class RequestBody:
    """The flow of one body into memory or into a sink."""

    __slots__ = (
        "_data",
        "_file",
        "_session",
        "complete",
        "content_length",
        "continue_due",
        "ended",
        "limit",
        "paused",
        "paused_at_ns",
        "received",
        "request",
        "response",
        "sink",
        "taken",
        "trailers",
    )

    def __init__(self, session: HttpSession, response: HttpResponse, head: Head, limit: int) -> None:
        self._session: HttpSession | None = session
        self._data: bytes | bytearray = b""
        self._file: BodyFile | None = None  # that a body in memory was written to
        self.content_length: Final[int | None] = head.content_length
        """The announced size in bytes; None for a chunked body."""
        self.request: HttpRequest | None = None
        self.response: Final = response
        self.limit: int = limit
        """Bytes that it may have; more are answered with 413."""
        self.received: int = 0
        """Bytes that have come so far."""
        self.sink: BodySink | None = None
        self.taken: bool = False  # as a stream, whose owner answers
        self.trailers: Headers | None = None
        """The trailer fields of a chunked body, once it is complete; or None."""
        self.continue_due: bool = head.expect_continue  # the client waits for 100 before it sends
        self.paused: bool = False
        """Whether nothing is delivered at present."""
        self.paused_at_ns: int = 0
        self.ended: bool = False  # the last byte has come
        self.complete: bool = False
        """Whether all of it is here, and where it belongs."""

    # For sinks ------------------------------------------------------------------------------------------------

    @property
    def loop(self) -> Loop:
        """The loop that everything runs in."""
        return self._live().connection.loop

    @property
    def workers(self) -> WorkerPool:
        """The threads of the server for what would block the loop, such as writing files."""
        return self._live().workers

    def pause(self) -> None:
        """Deliver nothing until `resume`. Harmless when repeated."""
        if not self.paused and self._session is not None:
            self.paused = True
            self.paused_at_ns = self._session.connection.loop.clock()

    def resume(self) -> None:
        """Go on, from the loop's thread. Harmless when repeated, and when the client has gone meanwhile."""
        if self.paused:
            self.paused = False
            if self._session is not None:
                self._session.body_resumed(self)

    def at_end(self, callback: Callable[[], object]) -> None:
        """Call back when the request is over: answered, or lost with its client. Temporary files end there."""
        self.response.at_end(callback)

    def fail(self, error: Exception) -> None:
        """End the request as if the sink had raised `error`. Harmless once the body is complete or aborted."""
        if self._session is not None:
            self._session.body_failed(self, error)

    def _need_choice(self) -> None:
        if self.sink is not None or self.received or self.ended:
            raise BodyNotReadyError("the body is under way already: choose where it goes in on_headers, once")

    def _live(self) -> HttpSession:
        if self._session is None:
            raise BodyNotReadyError("the body is complete or lost already")
        return self._session

    # For the session ------------------------------------------------------------------------------------------

    def choose(self, sink: BodySink) -> None:
        """Send what comes to a sink. Raises `BodyNotReadyError` when that has begun, or was chosen, before."""
        self._need_choice()
        self.sink = sink
        sink.begin(self)

    @property
    def skipping(self) -> bool:
        """Whether the rest is thrown away."""
        return self.sink is _NOWHERE

    def skip(self) -> None:
        """Throw the rest away, if it is not too much."""
        self._data = b""
        self.paused = False
        self.limit = self.received + SKIP_BYTES
        self.sink = _NOWHERE

    def check_announced(self) -> None:
        """Raise `BodyTooLargeError` when more is announced than may come."""
        if self.content_length is not None:
            check_length(self.content_length, self.limit)

    def take(self, data: bytes) -> None:
        """Take a piece. Raises `BodyTooLargeError`, and what the sink raises."""
        self.received += len(data)
        if self.received > self.limit:
            raise BodyTooLargeError(f"the body has more than {self.limit} bytes")
        if self.sink is not None:
            self.sink.write(data)
        elif not self._data:
            self._data = data
        else:
            # Joined at once: kept apart, pieces of a few bytes each would take twenty times their size.
            if type(self._data) is bytes:
                self._data = bytearray(self._data)
            self._data += data

    def is_too_much_to_skip(self) -> bool:
        """Tell whether the connection has to end with an answer that is given now.

        A client that waits for 100 Continue may send the body after another answer or leave it out, and there is no
        telling which (RFC 9110 §10.1.1).
        """
        if self.continue_due:
            return True
        if self.sink is not None and not self.skipping:
            return False
        left = (self.content_length or 0) - self.received  # nobody knows how much of a chunked one is left
        return left > SKIP_BYTES

    def read(self) -> bytes:
        """Return all of it. Raises `BodyNotReadyError` before it is complete, and when it went to a sink."""
        if not self.complete:
            raise BodyNotReadyError("the body has not arrived yet: on_request is called when it has")
        if self.sink is not None:
            if isinstance(self.sink, FileSink):
                return self.sink.file.read()
            raise BodyNotReadyError("the body is not kept: it went to a sink")
        data = self._data
        if type(data) is not bytes:
            data = self._data = bytes(data)
        return data

    def to_file(self, directory: str | os.PathLike[str] | None) -> BodyFile:
        """Return the file that it is in, or goes to."""
        if isinstance(self.sink, FileSink):
            return self.sink.file
        if self._file is None:
            if not self.complete:
                self._need_choice()
                sink = FileSink(directory)
                self.choose(sink)
                return sink.file
            data = self.read()
            file, fd = new_body_file(directory)
            try:
                self.at_end(file.remove)
                write_all(fd, data)
            except BaseException:
                file.remove()
                raise
            finally:
                os.close(fd)
            file.size = len(data)
            self._file = file
        return self._file

    def finish(self) -> None:
        """Everything has come: let go of those who waited for it."""
        self.complete = True
        self._session = self.request = None

    def drop_sink(self, error: Exception) -> None:
        """Tell the sink that nothing more comes, and forget it."""
        sink, self.sink = self.sink, None
        self._data = b""
        self.paused = False
        if sink is None or self._session is None:
            return
        try:
            sink.abort(error)
        except Exception as failure:
            self._session.connection.loop.exception_handler(failure, sink)

    def abandon(self, error: Exception) -> None:
        """The rest will never come: tell the sink."""
        self.drop_sink(error)
        self._session = self.request = None
