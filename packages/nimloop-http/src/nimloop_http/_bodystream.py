"""The body of a request as a stream of callbacks, with back-pressure. Made by `HttpRequest.body_stream`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, final

from nimloop_core import Loop

if TYPE_CHECKING:
    from nimloop_http._headers import Headers
    from nimloop_http._incoming import RequestBody

OnBodyData = Callable[[bytes], object]
"""Called with each piece of a body, as it comes; never an empty one."""

OnBodyEnd = Callable[[], object]
"""Called once, when the body is complete."""

OnBodyError = Callable[[Exception], object]
"""Called once, with the reason why the body will never be complete."""


@final
class BodyStream:
    """Delivers the body of a request piece by piece; the callbacks may be replaced at any time.

    - ``on_data(piece)``: Bytes of the body, chunked coding undone, as they come; never empty.
    - ``on_end()``: The body is complete.
    - ``on_error(error)``: It never will be: the client has gone or broke the protocol, a limit or a deadline was
      exceeded.

    Either `on_end` or `on_error` comes, once, and nothing after it. One that raises ends the request with 500.
    """

    __slots__ = (
        "_ended",
        "_flow",
        "_loop",
        "_paused",
        "_received",
        "_rest",
        "_trailers",
        "on_data",
        "on_end",
        "on_error",
    )

    def __init__(self, loop: Loop, on_data: OnBodyData, on_end: OnBodyEnd | None, on_error: OnBodyError | None) -> None:
        self.on_data: OnBodyData | None = on_data
        self.on_end = on_end
        self.on_error = on_error
        self._loop = loop
        self._flow: RequestBody | None = None
        self._rest: bytes | None = None  # of a body that was here before
        self._paused = False
        self._ended = False
        self._received = 0
        self._trailers: Headers | None = None

    @property
    def received(self) -> int:
        """Bytes that have come so far."""
        return self._received if self._flow is None else self._flow.received

    @property
    def trailers(self) -> Headers | None:
        """The trailer fields, once the body is complete; or None."""
        return self._trailers if self._flow is None else self._flow.trailers

    @property
    def ended(self) -> bool:
        """Whether nothing more comes: `on_end` or `on_error` was called."""
        return self._ended

    def pause(self) -> None:
        """Deliver nothing until `resume`; what the client sends meanwhile waits in the kernel, and then slows it down.

        The client's deadline does not run meanwhile.
        """
        self._paused = True
        if self._flow is not None:
            self._flow.pause()

    def resume(self) -> None:
        """Go on. Harmless when it was not paused, and after the end."""
        if self._paused:
            self._paused = False
            if self._rest is not None:
                self._loop.call_soon(self._replay)
            elif self._flow is not None:
                self._flow.resume()

    # Called by the server -------------------------------------------------------------------------------------

    def begin(self, flow: RequestBody) -> None:
        """The body is about to come."""
        self._flow = flow

    def begin_with(self, flow: RequestBody | None, data: bytes) -> None:
        """The body is here already: deliver it in the same way, from the loop."""
        self._flow = flow
        self._rest = data
        self._loop.call_soon(self._replay)

    def write(self, data: bytes) -> None:
        """Deliver a piece."""
        if self.on_data is not None:
            self.on_data(data)

    def end(self) -> None:
        """Deliver the end."""
        self._ended = True
        on_end = self.on_end
        self._forget()
        if on_end is not None:
            on_end()

    def abort(self, error: Exception) -> None:
        """Deliver the failure, not in the middle of what the application is doing just now."""
        self._ended = True
        on_error = self.on_error
        self._forget()
        if on_error is None:
            return
        if self._loop.closed:
            on_error(error)
        else:
            self._loop.call_soon(lambda: on_error(error))

    def _replay(self) -> None:
        if self._paused or self._rest is None:
            return
        if self._rest:
            data, self._rest = self._rest, b""
            self.write(data)
            if not self._paused:
                self._loop.call_soon(self._replay)
            return
        self._rest = None
        self.end()

    def _forget(self) -> None:
        """Let go of what leads back here: a cycle."""
        self.on_data = self.on_end = self.on_error = None
        flow, self._flow = self._flow, None
        if flow is not None:
            self._received = flow.received
            self._trailers = flow.trailers
