"""The states of a parser and the legal moves between them. Nothing is read here.

`diagram` draws them for the README; a test compares that with the README, and the moves with what the parser does.
"""

from __future__ import annotations

from typing import Final

HEAD: Final = 0
FIXED: Final = 1
CHUNK_LINE: Final = 2
CHUNK_DATA: Final = 3
CHUNK_END: Final = 4
TRAILERS: Final = 5
UNTIL_END: Final = 6
MESSAGE_END: Final = 7
LAST_END: Final = 8
PAUSED: Final = 9
SWITCHED: Final = 10
OVER: Final = 11
FAILED: Final = 12

NAMES: Final = (
    "HEAD",
    "FIXED",
    "CHUNK_LINE",
    "CHUNK_DATA",
    "CHUNK_END",
    "TRAILERS",
    "UNTIL_END",
    "MESSAGE_END",
    "LAST_END",
    "PAUSED",
    "SWITCHED",
    "OVER",
    "FAILED",
)

WORDS: Final = (
    "reads a head",
    "reads a body with a Content-Length",
    "reads a chunk's size and extensions",
    "reads a chunk",
    "reads the CRLF behind a chunk",
    "reads trailer fields and the empty line",
    "reads the body of a response that lasts until the peer ends the connection",
    "gives `End`",
    "gives `End`, and there is no further message",
    "gives nothing until `resume()`, which goes back to where it was",
    "keeps what comes for another protocol, until `remaining_data()`",
    "takes no byte: the connection belongs to somebody else, or has ended",
    "takes no byte: framing is lost",
)
"""What the parser does in each state."""

MOVES: Final[dict[int, dict[int, str]]] = {
    HEAD: {
        HEAD: "an interim response, or no body where no End is wanted for that",
        FIXED: "Content-Length",
        CHUNK_LINE: "Transfer-Encoding: chunked",
        UNTIL_END: "a response with neither",
        MESSAGE_END: "no body",
        SWITCHED: "a response of 101, or of 2xx to CONNECT",
    },
    FIXED: {MESSAGE_END: "all of it was read"},
    CHUNK_LINE: {CHUNK_DATA: "a size", TRAILERS: "a size of zero"},
    CHUNK_DATA: {CHUNK_END: "all of it was read"},
    CHUNK_END: {CHUNK_LINE: "it is there"},
    TRAILERS: {MESSAGE_END: "the empty line"},
    UNTIL_END: {LAST_END: "`end()`"},
    MESSAGE_END: {HEAD: "always"},
    LAST_END: {OVER: "always"},
    PAUSED: {},
    SWITCHED: {},
    OVER: {},
    FAILED: {},
}
"""state → next state → what leads there. From all states but the last two there are more: see `ANYWHERE`."""

ANYWHERE: Final[dict[int, str]] = {
    PAUSED: "`pause()`",
    OVER: "`remaining_data()`",
    FAILED: "a `ProtocolError`, or `end()` within a message",
}
"""Next state → what leads there from every state but OVER and FAILED. `reset()` leads from everywhere to HEAD."""


def diagram() -> str:
    """Draw the states and the moves as text."""
    lines = []
    for state, moves in MOVES.items():
        lines.append(f"{NAMES[state]:<11}  {WORDS[state]}")
        lines += [f"{'':<11}    {why} -> {NAMES[target]}" for target, why in moves.items()]
    lines.append("(any but OVER and FAILED)")
    lines += [f"{'':<11}    {why} -> {NAMES[target]}" for target, why in ANYWHERE.items()]
    lines += ["(any)", f"{'':<11}    `reset()` -> HEAD"]
    return "\n".join(lines)
