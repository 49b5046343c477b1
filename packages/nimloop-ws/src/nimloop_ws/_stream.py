"""A message that is sent piece by piece, each piece a fragment (RFC 6455 §5.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, final

from nimloop_ws._frame_py import Buffer
from nimloop_ws._sending import send_frame
from nimloop_ws.deflate import Deflater
from nimloop_ws.errors import FragmentError
from nimloop_ws.frames import CONTINUATION, FIN, RSV1, TEXT

if TYPE_CHECKING:
    from nimloop_ws.websocket import WebSocket


@final
class MessageStream:
    """The rest of a message. Pings, pongs and a close may come in between, other messages may not."""

    __slots__ = ("_deflater", "_next", "_opcode", "_ws", "on_drain")

    def __init__(self, ws: WebSocket, opcode: int, deflater: Deflater | None) -> None:
        self._ws: WebSocket | None = ws
        self._opcode = opcode
        self._next = opcode if deflater is None else opcode | RSV1  # the first byte of the next frame
        self._deflater = deflater
        self.on_drain: Callable[[], object] | None = None
        """Called without arguments when the peer has caught up, after a `write` that returned False."""

    def write(self, data: str | Buffer) -> bool:
        """Send a fragment: str of a text message, bytes of a binary one.

        Returns like `WebSocket.send`. Raises TypeError for the other kind, `FragmentError` after `end` and after the
        WebSocket has gone.
        """
        return self._send(data, last=False)

    def end(self, data: str | Buffer | None = None) -> bool:
        """Send the last fragment, empty by default: the message is complete."""
        if data is None:
            data = "" if self._opcode == TEXT else b""
        return self._send(data, last=True)

    def _send(self, data: str | Buffer, *, last: bool) -> bool:
        ws = self._ws
        if ws is None:
            raise FragmentError("the message has ended, or the WebSocket has")
        if isinstance(data, str) is not (self._opcode == TEXT):
            raise TypeError(f"a fragment of this message must not be {type(data).__name__}")
        if not isinstance(data, str):
            data = bytes(data)
        if self._deflater is not None:
            data = self._deflater.compress(data.encode() if isinstance(data, str) else data, last=last)
        first = self._next | FIN if last else self._next
        self._next = CONTINUATION
        if last:
            self.forget()
            ws.stream_ended()
        return ws.is_open and send_frame(ws, first, data)

    def drained(self) -> None:
        """Called by the WebSocket: the peer has caught up."""
        if self.on_drain is not None:
            self.on_drain()

    def forget(self) -> None:
        """Called by the WebSocket: nobody is there any more."""
        self._ws = None

    def __repr__(self) -> str:
        kind = "text" if self._opcode == TEXT else "binary"
        return f"<MessageStream {kind} {'ended' if self._ws is None else 'open'}>"
