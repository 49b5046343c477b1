"""Whether the peer is still there: a ping when it has been quiet, a deadline for any sign of life.

Functions about a `WebSocket`, for its timer. Any frame is a sign of life, and so is a frame on its way, if some of it
has come, or if the peer takes what it was sent; bytes that trickle are none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nimloop_ws import _state as st
from nimloop_ws._sending import send_frame
from nimloop_ws.errors import PongTimeoutError
from nimloop_ws.frames import FIN, PING

if TYPE_CHECKING:
    from nimloop_ws.websocket import WebSocket

_PROGRESS: Final = 16384  # bytes that count as a sign of life while a pong is waited for


def look_for_life(ws: WebSocket) -> None:
    """Ask a peer that has been quiet for a sign of life; give up one that gave none."""
    timeouts = ws.timeouts
    assert ws._timer is not None
    assert timeouts.ping is not None
    if ws._held & st.BY_PROGRAM:
        ws._silence = st.HEARD  # nobody would see its pong
    elif ws._silence == st.PINGED:
        if ws._progress < _PROGRESS and ws.connection.bytes_sent - ws._sent_before < _PROGRESS:
            ws._error = PongTimeoutError(f"no sign of life from the peer for {timeouts.pong} seconds")
            ws.connection.abort()
            return
        _expect_pong(ws)
        return
    elif ws._silence == st.QUIET:
        send_frame(ws, FIN | PING, b"")
        _expect_pong(ws)
        return
    ws._silence = st.QUIET
    ws._timer.reschedule(timeouts.ping)


def _expect_pong(ws: WebSocket) -> None:
    ws._silence = st.PINGED
    ws._progress = 0
    ws._sent_before = ws.connection.bytes_sent
    assert ws._timer is not None
    ws._timer.reschedule(ws.timeouts.pong)
