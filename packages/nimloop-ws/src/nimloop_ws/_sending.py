"""How a WebSocket sends: a message, compressed or not, becomes a frame, and the frame bytes of its connection.

Functions about a `WebSocket`. Every message passes through `send_frame`; on a server, those of a broadcast only through
`send_encoded`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nimloop_net import ConnectionClosedError
from nimloop_ws import _state as st
from nimloop_ws._codec import encode_frame
from nimloop_ws._flow import hold
from nimloop_ws._frame_py import Buffer
from nimloop_ws.errors import FragmentError, WebSocketClosedError
from nimloop_ws.frames import BINARY, CLOSE, FIN, MAX_CONTROL_PAYLOAD, RSV1, TEXT

if TYPE_CHECKING:
    from nimloop_ws.websocket import WebSocket

_JOIN_BYTES: Final = 65536  # a larger payload is queued beside its header instead of being copied behind it

_WHOLE_TEXT: Final = FIN | TEXT
_WHOLE_BINARY: Final = FIN | BINARY


def send_message(ws: WebSocket, message: str | Buffer, *, compress: bool | None) -> bool:
    """Send a whole message; see `WebSocket.send`."""
    if ws._state != st.OPEN or ws._stream is not None:
        check_can_send(ws)
        return False
    if isinstance(message, str):
        first = _WHOLE_TEXT
    else:
        first = _WHOLE_BINARY
        if type(message) is not bytes:
            message = bytes(memoryview(message))  # which refuses what is no buffer
    if ws._deflater is not None and compress is not False:
        payload = _deflated(ws, message, compress=compress)
        if payload is not None:
            return send_frame(ws, first | RSV1, payload)
    return send_frame(ws, first, message)


def _deflated(ws: WebSocket, message: str | bytes, *, compress: bool | None) -> bytes | None:
    """Return the message compressed, or None if it should not be."""
    assert ws._deflater is not None
    assert ws.agreement is not None
    if compress is None and len(message) < ws.agreement.deflate.threshold:
        return None
    data = message.encode() if isinstance(message, str) else message
    return ws._deflater.compress(data)


def send_control(ws: WebSocket, opcode: int, payload: bytes) -> bool:
    """Send a ping or a pong; see `WebSocket.ping`."""
    if len(payload) > MAX_CONTROL_PAYLOAD:
        raise ValueError(f"a control frame has at most {MAX_CONTROL_PAYLOAD} bytes, not {len(payload)}")
    if ws._state != st.OPEN:
        check_can_send(ws)
        return False
    return send_frame(ws, FIN | opcode, payload)


def check_can_send(ws: WebSocket) -> None:
    """Raise what `WebSocket.send` raises, if it does; no error for a peer that is going, or gone unnoticed."""
    if ws._state == st.CLOSED or ws._close_called:
        raise WebSocketClosedError(f"cannot send on a WebSocket that is {ws.state}")
    if ws._stream is not None:
        raise FragmentError("a message is being streamed: end it before another one is sent")


def send_frame(ws: WebSocket, first: int, payload: str | bytes) -> bool:
    """Send a frame that begins with the byte `first`, whatever the state."""
    masks = ws._masks
    if ws._idle is not None and first & 15 < CLOSE:
        ws._idle.set_ns(ws._idle_ns)
    if masks is not None:
        return send_encoded(ws, encode_frame(first, payload, masks.next()))
    if type(payload) is bytes and len(payload) > _JOIN_BYTES:
        send_encoded(ws, b"%c\x7f%b" % (first, len(payload).to_bytes(8, "big")))
        return send_encoded(ws, payload)
    return send_encoded(ws, encode_frame(first, payload, None))


def send_encoded(ws: WebSocket, data: bytes) -> bool:
    """Send bytes as they are: a frame, or a part of one."""
    if len(data) > _JOIN_BYTES:
        # A message may be larger than the limit, which is for those who never stop sending.
        waiting = ws.connection.write_buffer_size
        if waiting <= ws._buffer_limit:
            ws.connection.max_buffer = max(ws._buffer_limit, waiting + len(data))
    try:
        if ws.connection.send(data):
            return True
    except ConnectionClosedError:
        return False  # `on_close` follows
    if ws._masks is None and ws._state == st.OPEN:
        hold(ws, st.BEHIND)
    return False
