"""How a WebSocket ends: following the table of `_state`, with a close frame where it is still of use, once.

Functions about a `WebSocket`, apart from it because each is called from many places and none for every message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nimloop_ws import _state as st
from nimloop_ws._events import Close
from nimloop_ws._flow import release
from nimloop_ws._sending import send_frame
from nimloop_ws.errors import ConnectionLostError, ProtocolError
from nimloop_ws.frames import CLOSE, FIN, MAX_CLOSE_REASON, CloseCode, encode_close

if TYPE_CHECKING:
    from nimloop_ws.websocket import WebSocket


def begin_close(ws: WebSocket, payload: bytes) -> None:
    """Send a close frame, behind what was sent before, and wait for the peer's; nothing happens unless it is open."""
    if ws._state != st.OPEN:
        return
    send_frame(ws, FIN | CLOSE, payload)
    move(ws, st.CLOSE_SENT)
    _set_timer(ws, ws.timeouts.close, lambda: _not_answered(ws))
    ws._held &= st.TURN_OVER
    release(ws, 0)  # whatever held it up: the peer's close frame has to be found


def _not_answered(ws: WebSocket) -> None:
    ws._error = ws._error or ConnectionLostError("the peer did not answer the close frame in time")
    ws.connection.abort()


def peer_closed(ws: WebSocket, close: Close) -> None:
    """Answer the peer's close frame, unless it is the answer to ours, and end the connection."""
    ws._close_code = close.code
    ws._close_reason = close.reason
    if ws._state == st.OPEN:
        # RFC 6455 §5.5.1: answer with the same code.
        send_frame(ws, FIN | CLOSE, encode_close(None if close.code == CloseCode.NO_STATUS else close.code))
    _end(ws)


def fail(ws: WebSocket, error: ProtocolError) -> None:
    """Tell the peer what it has done wrong, and end the connection (RFC 6455 §7.1.7)."""
    ws._error = error
    if ws._state == st.OPEN:
        ws._close_code = error.code
        ws._close_reason = str(error)[:MAX_CLOSE_REASON]
        send_frame(ws, FIN | CLOSE, encode_close(error.code, ws._close_reason))
    _end(ws, failed=True)


def callback_failed(ws: WebSocket, error: Exception) -> None:
    """Report what a callback has raised, and close with 1011."""
    ws.connection.loop.exception_handler(error, ws)
    ws._error = error
    begin_close(ws, encode_close(CloseCode.INTERNAL_ERROR))


def _end(ws: WebSocket, *, failed: bool = False) -> None:
    """Let what is queued leave, then end the connection; of two sides it is the server that does so (§7.1.1)."""
    move(ws, st.CLOSE_DONE)
    connection = ws.connection
    connection.stall = ws.timeouts.close
    if failed or not ws.is_client:
        _cancel_timer(ws)
        connection.close_after_drain()
    else:
        _set_timer(ws, ws.timeouts.close, connection.close)


def move(ws: WebSocket, event: int) -> None:
    """Follow the table. An end that has begun is no matter of idleness."""
    ws._state = st.MOVES[ws._state].get(event, ws._state)
    if ws._idle is not None:
        ws._idle.cancel()
        ws._idle = None


def gone(ws: WebSocket, error: Exception | None) -> None:
    """The connection is gone: tell the program."""
    _cancel_timer(ws)
    if ws._error is None and ws._state < st.ENDING and not ws._close_called:
        ws._error = ConnectionLostError("the connection ended without a close frame")
        ws._error.__cause__ = error
    move(ws, st.GONE)
    ws._close_code = ws._close_code or CloseCode.ABNORMAL
    on_error, on_close, why = ws.on_error, ws.on_close, ws._error
    stream, ws._stream = ws._stream, None
    ws.on_message = ws.on_fragment = ws.on_pong = ws.on_drain = ws.on_error = ws.on_close = None
    if stream is not None:
        stream.forget()
    if ws._on_gone is not None:
        ws._on_gone(ws)
    if on_error is not None and why is not None:
        guard(ws, lambda: on_error(ws, why))
    if on_close is not None:
        guard(ws, lambda: on_close(ws, ws._close_code, ws._close_reason))


def guard(ws: WebSocket, callback: Callable[[], object]) -> None:
    """Call back; what it raises is reported."""
    try:
        callback()
    except Exception as error:
        ws.connection.loop.exception_handler(error, ws)


def _set_timer(ws: WebSocket, seconds: float, callback: Callable[[], object]) -> None:
    _cancel_timer(ws)
    ws._timer = ws.connection.loop.call_later(seconds, callback)


def _cancel_timer(ws: WebSocket) -> None:
    if ws._timer is not None:
        ws._timer.cancel()
        ws._timer = None
