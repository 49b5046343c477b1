"""The states of a parser and the legal moves between them. Nothing is read here.

`diagram` draws them for the README; a test compares that with the README, and the moves with what the parser does.
"""

from __future__ import annotations

from typing import Final

HEAD: Final = 0
FIXED: Final = 1
CHUNKS: Final = 2
TRAILERS: Final = 3
UNTIL_END: Final = 4
MESSAGE_END: Final = 5
LAST_END: Final = 6
PAUSED: Final = 7
SWITCHED: Final = 8
OVER: Final = 9
FAILED: Final = 10

NAMES: Final = (
    "HEAD",
    "FIXED",
    "CHUNKS",
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
    "reads chunks: sizes, extensions, data and the CRLF behind",
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
        CHUNKS: "Transfer-Encoding: chunked",
        UNTIL_END: "a response with neither",
        MESSAGE_END: "no body",
        SWITCHED: "a response of 101, or of 2xx to CONNECT",
    },
    FIXED: {MESSAGE_END: "all of it was read"},
    CHUNKS: {HEAD: "a size of zero and the empty line", TRAILERS: "a size of zero and something else"},
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
