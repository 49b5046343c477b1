"""The states of a connection and the legal moves between them. No input or output happens here.

Each direction ends on its own: the peer ends by sending FIN, we end by sending FIN once the outbox is empty.

==========  ==============  =================  ========================================================
state       we may send     data is delivered  in words
==========  ==============  =================  ========================================================
OPEN        yes             yes                both directions are open
PEER_DONE   yes             –                  the peer will send no more; we still may
ENDING      no              yes                `shutdown` was called: FIN follows the last queued byte
ENDED       no              yes                our FIN is out; the peer may go on
DRAINING    no              no, thrown away    `close_after_drain` was called: the outbox has to empty first
FLUSHING    no              –                  the same, and nothing more is expected from the peer
LINGERING   no              no, thrown away    our FIN is out; waiting a while for the peer's
CLOSED      no              –                  the descriptor is closed
==========  ==============  =================  ========================================================

Why linger: closing a socket that holds unread bytes, or that receives bytes afterwards, makes the kernel send RST,
and RST can destroy what the peer has not read yet (RFC 9112 §9.6 tells the story for HTTP).
"""

from __future__ import annotations

from typing import Final

OPEN: Final = 0
PEER_DONE: Final = 1
ENDING: Final = 2
ENDED: Final = 3
DRAINING: Final = 4
FLUSHING: Final = 5
LINGERING: Final = 6
CLOSED: Final = 7

NAMES: Final = ("open", "peer-done", "ending", "ended", "draining", "flushing", "lingering", "closed")

EOF: Final = 0
"""The peer's FIN was read."""
END: Final = 1
"""`shutdown`: end our side after what is queued."""
FINISH: Final = 2
"""`close_after_drain`: deliver what is queued, then close with patience."""
FINISH_NOW: Final = 3
"""`close_after_drain(linger=0)`: deliver what is queued, then close at once."""
DRAINED: Final = 4
"""The outbox became empty."""
GONE: Final = 5
"""`close`, `abort`, an error, a deadline."""

MOVES: Final[dict[int, dict[int, int]]] = {
    OPEN: {EOF: PEER_DONE, END: ENDING, FINISH: DRAINING, FINISH_NOW: FLUSHING, GONE: CLOSED},
    PEER_DONE: {END: FLUSHING, FINISH: FLUSHING, FINISH_NOW: FLUSHING, GONE: CLOSED},
    ENDING: {EOF: FLUSHING, FINISH: DRAINING, FINISH_NOW: FLUSHING, DRAINED: ENDED, GONE: CLOSED},
    ENDED: {EOF: CLOSED, FINISH: LINGERING, FINISH_NOW: CLOSED, GONE: CLOSED},
    DRAINING: {EOF: FLUSHING, FINISH_NOW: FLUSHING, DRAINED: LINGERING, GONE: CLOSED},
    FLUSHING: {DRAINED: CLOSED, GONE: CLOSED},
    LINGERING: {EOF: CLOSED, FINISH_NOW: CLOSED, GONE: CLOSED},
    CLOSED: {},
}
"""state → event → next state. An event that is not listed changes nothing."""

CAN_SEND: Final = frozenset({OPEN, PEER_DONE})
DELIVERS: Final = frozenset({OPEN, ENDING, ENDED})
DISCARDS: Final = frozenset({DRAINING, LINGERING})
SENDS_FIN: Final = frozenset({ENDED, LINGERING})
"""Entering one of these sends our FIN."""
