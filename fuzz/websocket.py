"""atheris' target for the parser of WebSocket frames: `hatch run fuzz:websocket`.

The first bytes of an input choose the role, the limits, compression and cuts. The rest is parsed whole, in pieces, byte
by byte, and with each twin of the codec: the same events, or the same error, whose code is one that may be sent, and no
other exception. Handed out piece by piece, the pieces add up to the messages. An input is also masked, where a server
reads it, so that frames of a client need no luck.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

atheris = importlib.import_module("atheris")  # not installed where types are checked

with atheris.instrument_imports(include=["nimloop_ws"]):
    from nimloop_ws import CLIENT, SERVER, Close, Deflate, Fragment, Ping, Pong, WsLimits, WsParser, _frame_py
    from nimloop_ws import parser as parser_module
    from nimloop_ws.deflate import Agreement
    from nimloop_ws.errors import ProtocolError
    from nimloop_ws.frames import may_be_sent

try:
    from nimloop_ws import _frame_c
except ImportError:
    TWINS: list[ModuleType] = [_frame_py]
else:
    TWINS = [_frame_py, _frame_c]

LIMITS = [WsLimits(), WsLimits(frame=300, message=500), WsLimits(frame=20, message=10)]
AGREEMENTS = [
    None,
    Agreement(Deflate(), 15, 15, context_takeover=True, peer_context_takeover=True),
    Agreement(Deflate(), 9, 9, context_takeover=False, peer_context_takeover=False),
]
KEY = b"\x00\x7f\xa5\x11"


def masked(data: bytes) -> bytes:
    """Cut an input into frames of a client: each begins with its first byte, and the length of its payload."""
    out = bytearray()
    while len(data) >= 2:
        size = data[1] & 127
        payload = data[2 : 2 + size]
        out += _frame_py.encode_frame(data[0], payload, KEY)
        data = data[2 + size :]
    return bytes(out)


def parse(
    pieces: list[bytes],
    role: bool,  # noqa: FBT001 - SERVER or CLIENT
    limits: WsLimits,
    agreement: Agreement | None,
    *,
    fragments: bool,
) -> list[tuple[object, ...]]:
    """Write down what comes out, the fragments of a message joined."""
    parser = WsParser(role, limits, agreement=agreement, fragments=fragments)
    found: list[tuple[object, ...]] = []
    parts: list[str | bytes] = []
    try:
        for piece in pieces:
            for event in parser.feed(piece):
                match event:
                    case Fragment():
                        parts.append(event.data)
                        if event.last:
                            found.append(("message", type(event.data)().join(parts)))  # type: ignore[arg-type]
                            parts = []
                    case Ping() | Pong():
                        found.append((type(event), event.payload))
                    case Close():
                        found.append((Close, event.code, event.reason))
                    case _:
                        assert len(event) <= limits.message
                        found.append(("message", event))
        found.append(("waits", parser.idle, parser.drained))
    except ProtocolError as error:
        # What is wrong with a compressed message as such is noticed before what it says is looked at, piece by piece.
        inflating = agreement is not None and error.code in {1007, 1009}
        found.append(("wrong inside", 1007) if inflating else (type(error), str(error), error.code))
    return found


def test_one_input(given: bytes) -> None:
    """Parse one input in several ways."""
    if len(given) < 4:
        return
    role = SERVER if given[0] & 1 else CLIENT
    limits, agreement = LIMITS[(given[0] >> 1) % 3], AGREEMENTS[(given[0] >> 4) % 3]
    data = masked(given[3:]) if role and given[0] & 8 else given[3:]
    one, two = sorted((given[1] * 4 % (len(data) + 1), given[2] * 3 % (len(data) + 1)))
    ways = [[data], [data[:one], data[one:two], data[two:]], [data[i : i + 1] for i in range(len(data))]]
    results = []
    for twin in TWINS:
        for name in ("apply_mask", "gather", "read_frame"):
            vars(parser_module)[name] = getattr(twin, name)
        for fragments in (False, True):
            results += [parse(pieces, role, limits, agreement, fragments=fragments) for pieces in ways]
    assert all(result == results[0] for result in results), results
    code = results[0][-1][-1]
    assert isinstance(code, bool) or (isinstance(code, int) and may_be_sent(code)), code


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
