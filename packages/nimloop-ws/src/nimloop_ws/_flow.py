"""Flow control of a WebSocket: while there is a reason to hold it, nothing is handed out and nothing more is read.

The reasons are bits of `_held`, each with one owner (`nimloop_ws._state`). Functions about a `WebSocket`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nimloop_ws import _state as st

if TYPE_CHECKING:
    from nimloop_ws.websocket import WebSocket

_PAUSE: Final = "nimloop-ws"  # the connection's name for all the reasons


def hold(ws: WebSocket, reason: int) -> None:
    """Hand out nothing from here on."""
    ws._held |= reason
    ws.connection.pause_reading(_PAUSE)


def release(ws: WebSocket, reason: int) -> None:
    """Go on, if that was the only reason: with what has arrived first, in a turn of its own."""
    ws._held &= ~reason
    if ws._held:
        return
    if ws._advancing or ws._parser.drained:
        ws.connection.resume_reading(_PAUSE)
    else:
        end_turn(ws)


def end_turn(ws: WebSocket) -> None:
    """Leave the loop to the others until its next iteration."""
    hold(ws, st.TURN_OVER)
    ws.connection.loop.call_soon(ws._on_turn)


def begin_turn(ws: WebSocket) -> bool:
    """Read again; False when there is another reason not to."""
    ws._held &= ~st.TURN_OVER
    if ws._held:
        return False
    ws.connection.resume_reading(_PAUSE)
    return True
