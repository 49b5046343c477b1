"""How a WebSocket reads: what came is handed out as messages, some per turn of the loop; then the others are served.

Functions about a `WebSocket`. A peer that has gone does not take with it what had arrived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nimloop_ws import _state as st
from nimloop_ws._ending import callback_failed, fail, guard, peer_closed
from nimloop_ws._events import Close, Event, Fragment, Ping, Pong
from nimloop_ws._flow import end_turn, release
from nimloop_ws._sending import send_frame
from nimloop_ws.errors import ProtocolError
from nimloop_ws.frames import FIN, PONG

if TYPE_CHECKING:
    from nimloop_ws.websocket import WebSocket

# What is done in one turn: this many bytes of messages, each event counting as so many at least.
_TURN_BYTES: Final = 1 << 20
_EVENT_BYTES: Final = 1024


def advance(ws: WebSocket) -> None:
    """Hand out what is there, as much as one turn allows."""
    parser = ws._parser
    left = _TURN_BYTES
    ws._advancing = True
    try:
        while not ws._held:
            try:
                event = parser.next_event()
            except ProtocolError as error:
                # Its traceback would tie the error and the frames of the parser, hence the WebSocket, into a cycle.
                fail(ws, error.with_traceback(None))
                return
            if event is None:
                if parser.interrupted:
                    end_turn(ws)
                return
            ws._silence = st.HEARD
            left -= _EVENT_BYTES
            try:
                if type(event) is str or type(event) is bytes:
                    left -= len(event)
                    if ws._idle is not None:
                        ws._idle.set_ns(ws._idle_ns)
                    on_message = ws.on_message
                    if on_message is not None and ws._state == st.OPEN:
                        on_message(ws, event)
                else:
                    _on_event(ws, event)
            except Exception as error:
                callback_failed(ws, error)
            if left < 0:
                end_turn(ws)
    finally:
        ws._advancing = False


def _on_event(ws: WebSocket, event: Event) -> None:
    """Do what a control frame, or a fragment, asks for."""
    if isinstance(event, Ping):
        if ws._state != st.OPEN:
            return
        if ws.connection.write_buffer_size > ws.connection.high_water:
            ws._pong_owed = event.payload  # RFC 6455 §5.5.3: of several pings, the last one may be answered
        else:
            send_frame(ws, FIN | PONG, event.payload)
    elif isinstance(event, Pong):
        if ws.on_pong is not None and ws._state == st.OPEN:
            ws.on_pong(ws, event.payload)
    elif isinstance(event, Fragment):
        if ws._idle is not None:
            ws._idle.set_ns(ws._idle_ns)
        if ws.on_fragment is not None and ws._state == st.OPEN:
            ws.on_fragment(ws, event.data, event.last)
    elif isinstance(event, Close):
        peer_closed(ws, event)


def peer_caught_up(ws: WebSocket) -> None:
    """The unsent bytes fell to the low-water mark: do what waited for that."""
    if ws._pong_owed is not None:
        payload, ws._pong_owed = ws._pong_owed, None
        if ws._state == st.OPEN:
            send_frame(ws, FIN | PONG, payload)
    if ws._held & st.BEHIND:
        release(ws, st.BEHIND)
    if ws._stream is not None:
        guard(ws, ws._stream.drained)
    if ws.on_drain is not None and ws._state == st.OPEN:
        try:
            ws.on_drain(ws)
        except Exception as error:
            callback_failed(ws, error)


def hand_out_rest(ws: WebSocket) -> None:
    """The connection is gone: hand out what came before, all turns of it, unless the program paused or aborted it."""
    if ws._state != st.OPEN or ws._held != st.TURN_OVER or ws._close_called:
        return
    ws._held = 0
    while ws._state == st.OPEN and not ws._parser.drained:
        advance(ws)
        if ws._held != st.TURN_OVER:
            return
        ws._held = 0
