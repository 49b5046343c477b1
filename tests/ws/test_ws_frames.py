"""Close codes, the payload of close frames, and frames that cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimloop_ws import Close, CloseCode, Fragment, Ping, Pong, WsFrameKind, encode_frame
from nimloop_ws.errors import CloseCodeError, FrameError, InvalidTextError
from nimloop_ws.frames import MaskSource, decode_close, encode_close, may_be_sent

# The registry "WebSocket Close Code Number" of RFC 6455 §11.7, as of RFC 8307.
NAMES = {
    "NORMAL": 1000, "GOING_AWAY": 1001, "PROTOCOL_ERROR": 1002, "UNSUPPORTED_DATA": 1003, "NO_STATUS": 1005,
    "ABNORMAL": 1006, "INVALID_DATA": 1007, "POLICY_VIOLATION": 1008, "MESSAGE_TOO_BIG": 1009,
    "EXTENSION_MISSING": 1010, "INTERNAL_ERROR": 1011, "SERVICE_RESTART": 1012, "TRY_AGAIN_LATER": 1013,
    "BAD_GATEWAY": 1014, "TLS_FAILED": 1015,
}  # fmt: skip
REGISTERED = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}


def test_codes_that_may_be_sent() -> None:
    """RFC 6455 §7.4.2: what is registered and not reserved, and what is the applications'."""
    for code in range(65536):
        assert may_be_sent(code) is (code in REGISTERED or 3000 <= code < 5000)


def test_codes_and_opcodes_are_those_of_the_registries() -> None:
    """By their names; RFC 6455 §11.8 has the opcodes."""
    assert {each.name: each.value for each in CloseCode} == NAMES
    opcodes = {"CONTINUATION": 0, "TEXT": 1, "BINARY": 2, "CLOSE": 8, "PING": 9, "PONG": 10}
    assert {each.name: each.value for each in WsFrameKind} == opcodes


@given(st.integers(0, 65535), st.text(max_size=130))
def test_close_frames(code: int, reason: str) -> None:
    """What is written is read again; what would not be read is not written."""
    try:
        payload = encode_close(code, reason)
    except CloseCodeError:
        assert not may_be_sent(code) or len(reason.encode()) > 123
    else:
        assert decode_close(payload) == (code, reason)


def test_a_reason_has_up_to_123_bytes() -> None:
    """A control frame has room for 125 (§5.5), and the code takes two: bytes of UTF-8, not characters."""
    assert len(encode_close(1000, "x" * 123)) == 125
    for reason in ("x" * 124, "ö" * 62):
        with pytest.raises(CloseCodeError, match="the reason has 124 bytes; a close frame holds 123"):
            encode_close(1000, reason)


def test_a_reason_needs_a_code() -> None:
    """There is no place for it otherwise (§5.5.1)."""
    assert encode_close(None) == b""
    assert decode_close(b"") == (1005, "")
    with pytest.raises(CloseCodeError, match="needs a code"):
        encode_close(None, "why")


@pytest.mark.parametrize(
    ("payload", "error"),
    [(b"\x03", FrameError), (b"\x03\xed", FrameError), (b"\x00\x00", FrameError), (b"\x03\xe8\xff", InvalidTextError)],
)
def test_close_frames_that_are_wrong(payload: bytes, error: type[Exception]) -> None:
    """Half a code, one that is not sent, a reason that is not UTF-8."""
    with pytest.raises(error):
        decode_close(payload)


def test_frames_that_cannot_be() -> None:
    """Control frames are whole, plain and short (§5.5); other opcodes do not exist."""
    for wrong in ({"fin": False}, {"rsv1": True}, {"payload": b"x" * 126}, {"payload": "ö" * 63}):
        with pytest.raises(ValueError, match="a control frame is whole, plain and has up to 125 bytes"):
            encode_frame(9, **wrong)
    for opcode in (3, 7, 11, 15, 16):
        with pytest.raises(ValueError, match="is not a valid WsFrameKind"):
            encode_frame(opcode)
    assert encode_frame(9, "ö" * 62) == b"\x89\x7c" + "ö".encode() * 62


def test_masking_keys_are_not_repeated() -> None:
    """§10.3: nobody can tell the next one from those before."""
    source = MaskSource()
    keys = [source.next() for _ in range(1000)]
    assert {len(key) for key in keys} == {4}
    assert len(set(keys)) > 990  # of 2^32: two alike are no surprise, ten are


def test_events_can_be_read() -> None:
    """In a log, or where a test fails."""
    events = (Ping(b"a"), Pong(b"b"), Close(1000, "bye"), Fragment("x", last=True))
    assert str(events) == "(Ping(b'a'), Pong(b'b'), Close(1000, 'bye'), Fragment('x', True))"
