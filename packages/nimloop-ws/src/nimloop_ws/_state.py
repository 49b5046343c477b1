"""The states of a WebSocket and the legal moves between them. No input or output happens here.

========  ============  ===================  ===================================================================
state     we may send   messages delivered   in words
========  ============  ===================  ===================================================================
OPEN      yes           yes                  both directions are open
CLOSING   no            no, thrown away      our close frame is queued or sent; waiting for the peer's
ENDING    no            no                   both close frames are on their way, or the peer broke the protocol:
                                             what is queued leaves, then the connection ends
CLOSED    no            no                   the connection is gone, `on_close` was called
========  ============  ===================  ===================================================================
"""

from __future__ import annotations

from typing import Final

OPEN: Final = 0
CLOSING: Final = 1
ENDING: Final = 2
CLOSED: Final = 3

NAMES: Final = ("open", "closing", "ending", "closed")

CLOSE_SENT: Final = 0
"""We have begun the closing handshake."""
CLOSE_DONE: Final = 1
"""The peer's close frame has come, and ours is queued; or it has failed, and was told so."""
GONE: Final = 2
"""The connection has ended."""

MOVES: Final[dict[int, dict[int, int]]] = {
    OPEN: {CLOSE_SENT: CLOSING, CLOSE_DONE: ENDING, GONE: CLOSED},
    CLOSING: {CLOSE_DONE: ENDING, GONE: CLOSED},
    ENDING: {GONE: CLOSED},
    CLOSED: {},
}
"""state → event → next state. An event that is not listed changes nothing."""

# Why nothing is read, or handed out, in bits: each reason has one owner.
BY_PROGRAM: Final = 1
"""`pause_reading` was called."""
BEHIND: Final = 2
"""On a server: the peer does not take what it was sent."""
TURN_OVER: Final = 4
"""Enough was handed out in this turn of the loop; or the WebSocket has not started."""

# What was heard of the peer.
HEARD: Final = 0
"""A frame."""
QUIET: Final = 1
"""Nothing since the timer looked last."""
PINGED: Final = 2
"""Nothing, and it was sent a ping."""
