"""The parser of frames and messages: the same events for any split, and every violation with its close code."""

from __future__ import annotations

import random
import sys
import tracemalloc
from collections.abc import Iterable
from itertools import pairwise

import pytest
import wsproto.frame_protocol as fp
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame as PeerFrame
from websockets.frames import Opcode

from nimloop_ws import CLIENT, SERVER, Close, Deflate, Event, Fragment, Ping, Pong, WsLimits, WsParser, encode_frame
from nimloop_ws._codec import apply_mask
from nimloop_ws._message import BinaryPieces
from nimloop_ws.deflate import Agreement, Deflater
from nimloop_ws.errors import (
    FrameError,
    FrameTooBigError,
    InvalidDataError,
    InvalidTextError,
    MessageTooBigError,
    ParserStateError,
    ProtocolError,
)

KEY = b"\x37\xfa\x21\x3d"
AGREEMENT = Agreement(Deflate(threshold=0), 15, 15, context_takeover=True, peer_context_takeover=True)


def plain(event: Event) -> object:
    """Return an event as something that compares."""
    match event:
        case Ping(payload):
            return "ping", payload
        case Pong(payload):
            return "pong", payload
        case Close(code, reason):
            return "close", code, reason
        case Fragment(data, last):
            return "fragment", data, last
    return event


def read(
    pieces: Iterable[bytes],
    role: bool = SERVER,  # noqa: FBT001
    limits: WsLimits | None = None,
    agreement: Agreement | None = None,
    *,
    fragments: bool = False,
) -> tuple[list[object], ProtocolError | None]:
    """Return the events of a stream that arrives in these pieces, and the error that ends it."""
    parser = WsParser(role, limits or WsLimits(), agreement=agreement, fragments=fragments)
    events: list[object] = []
    try:
        for piece in pieces:
            for event in parser.feed(piece):
                events.append(plain(event))  # noqa: PERF401 - those before an error count
    except ProtocolError as error:
        return events, error
    return events, None


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    """Cut data at these places."""
    places = [0, *sorted({place % (len(data) + 1) for place in at}), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def code_of(data: bytes, *, agreement: Agreement | None = None, limits: WsLimits | None = None) -> int | None:
    """Return the close code that a stream deserves, the same whole and byte by byte."""
    whole = read([data], agreement=agreement, limits=limits)[1]
    bytewise = read([data[i : i + 1] for i in range(len(data))], agreement=agreement, limits=limits)[1]
    assert type(whole) is type(bytewise)
    return None if whole is None else whole.code


def frame(first: int, payload: bytes, key: bytes | None = KEY) -> bytes:
    """Spell a frame by hand, whatever is wrong with it."""
    mask = 0 if key is None else 0x80
    size = len(payload)
    head = bytes((first, mask | size)) if size < 126 else bytes((first, mask | 126)) + size.to_bytes(2, "big")
    if key is None:
        return head + payload
    return head + key + bytes(byte ^ key[i & 3] for i, byte in enumerate(payload))


# Messages ------------------------------------------------------------------------------------------------------

STREAM = b"".join(
    [
        encode_frame(1, "hellö", mask=KEY),
        encode_frame(2, b"", mask=KEY),
        encode_frame(9, b"are you there", mask=KEY),
        encode_frame(1, "frag", mask=KEY, fin=False),
        encode_frame(10, b"", mask=KEY),
        encode_frame(0, "€"[0:1], mask=KEY, fin=False),
        frame(0x80, b"\xe2\x82\xac"),
        encode_frame(2, b"x" * 126, mask=KEY),
        encode_frame(2, b"y" * 65536, mask=KEY),
        encode_frame(8, b"\x03\xe8bye", mask=KEY),
        b"what follows does not count",
    ]
)
EVENTS = [
    "hellö",
    b"",
    ("ping", b"are you there"),
    ("pong", b""),
    "frag€€",
    b"x" * 126,
    b"y" * 65536,
    ("close", 1000, "bye"),
]


def test_events_of_a_stream() -> None:
    """Messages, control frames between fragments, all three lengths, and nothing behind the close frame."""
    assert read([STREAM]) == (EVENTS, None)


def test_every_single_split() -> None:
    """W1: two pieces, cut anywhere, the middle of the long payload left out: the same events."""
    for at in [*range(400), *range(len(STREAM) - 80, len(STREAM))]:
        assert read([STREAM[:at], STREAM[at:]]) == (EVENTS, None)


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_any_split(at: list[int]) -> None:
    """Any number of pieces: the same events."""
    assert read(cut(STREAM, at)) == (EVENTS, None)


def test_byte_by_byte() -> None:
    """One byte at a time: the same events."""
    assert read(STREAM[i : i + 1] for i in range(len(STREAM))) == (EVENTS, None)


messages = st.one_of(st.text(max_size=300), st.binary(max_size=300))


@given(st.data())
def test_any_fragmentation(data: st.DataObject) -> None:
    """A message is the same however it was cut into frames, compressed or not, and however these were cut."""
    message = data.draw(messages)
    raw = message.encode() if isinstance(message, str) else message
    parts = cut(raw, data.draw(st.lists(st.integers(0, 300), max_size=5)))
    deflater = Deflater(AGREEMENT) if data.draw(st.booleans()) else None
    stream = bytearray()
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        payload = part if deflater is None else deflater.compress(part, last=last)
        opcode = 0 if index else (1 if isinstance(message, str) else 2)
        rsv1 = deflater is not None and index == 0
        stream += encode_frame(opcode, payload, fin=last, rsv1=rsv1, mask=data.draw(st.binary(min_size=4, max_size=4)))
        if data.draw(st.booleans()):
            stream += encode_frame(9, b"between", mask=KEY)
    pieces = cut(bytes(stream), data.draw(st.lists(st.integers(0, 2000), max_size=8)))
    events, error = read(pieces, agreement=AGREEMENT)
    assert error is None
    assert [event for event in events if event != ("ping", b"between")] == [message]
    in_pieces, error = read(pieces, agreement=AGREEMENT, fragments=True)
    assert error is None
    found = [event for event in in_pieces if isinstance(event, tuple) and event[0] == "fragment"]
    assert [event[2] for event in found] == [False] * (len(found) - 1) + [True]
    joined = ("" if isinstance(message, str) else b"").join([event[1] for event in found])
    assert joined == message


def test_many_messages_keep_their_windows() -> None:
    """Compressed messages look back to those before, and plain ones in between change nothing."""
    deflater = Deflater(AGREEMENT)
    randomly = random.Random(1)
    sent: list[object] = []
    stream = bytearray()
    for _ in range(200):
        text = "".join(randomly.choices(["alpha ", "beta ", "gamma ", "ß "], k=randomly.randrange(40)))
        sent.append(text)
        if randomly.random() < 0.3:
            stream += encode_frame(1, text, mask=KEY)
        else:
            stream += encode_frame(1, deflater.compress(text.encode()), rsv1=True, mask=KEY)
    assert read([bytes(stream)], agreement=AGREEMENT) == (sent, None)
    assert read((bytes(stream[i : i + 7]) for i in range(0, len(stream), 7)), agreement=AGREEMENT) == (sent, None)


@pytest.mark.parametrize("role", [SERVER, CLIENT])
@given(st.lists(st.sampled_from([1, 2, 3, 5, 4095, 4096, 4097, 9001, 65536]), min_size=1, max_size=12))
def test_large_frames_in_pieces_of_all_sizes(role: bool, sizes: list[int]) -> None:  # noqa: FBT001
    """Large pieces are kept as they come, small ones are joined; the message does not depend on which came when."""
    mask = KEY if role else None
    first, second, text = random.Random(8).randbytes(70_001), random.Random(9).randbytes(9_000), "ä" * 9_000
    stream = encode_frame(2, first, fin=False, mask=mask) + encode_frame(9, b"between", mask=mask)
    stream += encode_frame(0, second, mask=mask) + encode_frame(1, text, mask=mask) + encode_frame(2, second, mask=mask)
    pieces: list[bytes] = []
    while stream:
        for size in sizes if len(pieces) < 60 else [20_000]:  # enough of small ones
            pieces.append(stream[:size])
            stream = stream[size:]
    assert read(pieces, role) == ([("ping", b"between"), first + second, text, second], None)


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="measures CPython's allocator")
@pytest.mark.parametrize("kind", [1, 2])
def test_an_announced_length_costs_nothing(kind: int) -> None:
    """W9: memory grows with what has come, not with what a header says."""
    parser = WsParser(SERVER, WsLimits(frame=1 << 30, message=1 << 30))
    header = bytes((0x80 | kind, 0xFF)) + (1 << 30).to_bytes(8, "big") + KEY
    tracemalloc.start()
    try:
        assert list(parser.feed(header)) == []
        assert tracemalloc.get_traced_memory()[0] < 4096
        for count in range(1, 9):
            assert list(parser.feed(apply_mask(b"x" * 65536, KEY, 0, 65536))) == []
            assert tracemalloc.get_traced_memory()[0] < 2 * count * 65536 + 65536
    finally:
        tracemalloc.stop()


def test_many_fragments_without_an_event_interrupt() -> None:
    """Whoever has other things to do is asked to come again; whoever iterates need not know."""
    fragments = encode_frame(2, b"", fin=False, mask=KEY) + encode_frame(0, b"x", fin=False, mask=KEY) * 5000
    parser = WsParser(SERVER)
    parser.push(fragments)
    interruptions = 0
    while parser.next_event() is None and parser.interrupted:
        assert not parser.drained
        interruptions += 1
    assert parser.drained
    assert interruptions == 4
    assert list(parser.feed(encode_frame(0, b"!", mask=KEY))) == [b"x" * 5000 + b"!"]
    assert not parser.interrupted
    assert list(WsParser(SERVER).feed(fragments + encode_frame(0, b"!", mask=KEY))) == [b"x" * 5000 + b"!"]


def test_events_wait_to_be_asked_for() -> None:
    """What is not asked for stays, and more may be added meanwhile."""
    parser = WsParser(SERVER)
    parser.push(encode_frame(1, "a", mask=KEY) + encode_frame(1, "b", mask=KEY))
    found = [parser.next_event()]
    parser.push(encode_frame(1, "c", mask=KEY)[:3])
    found += [parser.next_event(), parser.next_event()]
    assert not parser.idle
    parser.push(encode_frame(1, "c", mask=KEY)[3:])
    found.append(parser.next_event())
    assert found == ["a", "b", None, "c"]
    assert parser.idle


@pytest.mark.parametrize("size", [4096, 4097])
def test_a_large_piece_is_not_copied(size: int) -> None:
    """What is no small piece is kept as it came, and is the message when it remains the only one."""
    piece = bytes(size)
    pieces = BinaryPieces()
    pieces.add(piece)
    assert pieces.join() is piece


def test_reset_forgets_what_was_begun() -> None:
    """After a reset the stream begins anew."""
    parser = WsParser(SERVER)
    assert not list(parser.feed(encode_frame(1, "lost", mask=KEY, fin=False) + b"\x80"))
    parser.reset()
    assert list(parser.feed(encode_frame(1, "new", mask=KEY))) == ["new"]


# What is wrong -------------------------------------------------------------------------------------------------

WRONG = {
    "unmasked": frame(0x81, b"x", None),
    "rsv1 without extension": frame(0xC1, b"x"),
    "rsv2": frame(0xA1, b"x"),
    "rsv3": frame(0x91, b"x"),
    **{f"opcode {opcode}": frame(0x80 | opcode, b"") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "fragmented ping": frame(0x09, b""),
    "fragmented close": frame(0x08, b""),
    **{f"126 bytes for {opcode}": frame(0x80 | opcode, b"\x03\xe8" + b"x" * 124) for opcode in (8, 9, 10)},
    "continuation of nothing": frame(0x80, b""),
    "continuation after the end": frame(0x81, b"") + frame(0x80, b""),
    "message within a message": frame(0x01, b"a") + frame(0x81, b"b"),
    "message within a message, behind a ping": frame(0x01, b"a") + frame(0x89, b"") + frame(0x81, b"b"),
    "length in 2 bytes for 1": b"\x82\xfe\x00\x7d" + KEY + b"x" * 125,
    "length in 8 bytes for 2": b"\x82\xff" + (65535).to_bytes(8, "big") + KEY,
    "length with its first bit": b"\x82\xff\x80" + bytes(7) + KEY,
    "close of one byte": frame(0x88, b"\x03"),
    **{
        f"close with {code}": frame(0x88, code.to_bytes(2, "big"))
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
def test_violations_are_1002(data: bytes) -> None:
    """W3: each violation of the framing has the code 1002, however it arrives."""
    assert code_of(data) == 1002


def test_a_parser_that_has_failed_says_so_whenever_it_is_asked() -> None:
    """With nothing new pushed as well: None would mean that more bytes are needed."""
    parser = WsParser(SERVER)
    parser.push(frame(0x83, b""))
    with pytest.raises(FrameError):
        parser.next_event()
    for _ in range(2):
        with pytest.raises(ParserStateError):
            parser.next_event()


def test_masked_frames_of_a_server_are_1002() -> None:
    """A client insists on frames that are not masked."""
    events, error = read([frame(0x81, b"x")], CLIENT)
    assert not events
    assert isinstance(error, FrameError)
    assert read([frame(0x81, b"x", None)], CLIENT) == (["x"], None)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999])
def test_codes_that_may_be_sent(code: int) -> None:
    """The registered codes and those of applications come through."""
    assert read([frame(0x88, code.to_bytes(2, "big") + b"why")]) == ([("close", code, "why")], None)


def test_an_empty_close_has_1005() -> None:
    """A close frame without a code is told as 1005 (RFC 6455 §7.1.5)."""
    assert read([frame(0x88, b"")]) == ([("close", 1005, "")], None)


NOT_UTF8 = [
    b"\xff",
    b"\xc0\xaf",
    b"\xc1\x80",
    b"\xe0\x80\x80",
    b"\xed\xa0\x80",
    b"\xf0\x80\x80\x80",
    b"\xf4\x90\x80\x80",
    b"\xf5",
    b"\x80",
    b"\xe2\x82",
    b"\xe2\x28\xa1",
]


@pytest.mark.parametrize("data", NOT_UTF8)
def test_text_that_is_not_utf8_is_1007(data: bytes) -> None:
    """In one frame, in several, compressed, and in the reason of a close."""
    text = b"\xc3\xa4" + data
    assert code_of(frame(0x81, text)) == 1007
    assert (
        code_of(b"".join(frame(0x01 if i == 0 else 0, text[i : i + 1]) for i in range(len(text))) + frame(0x80, b""))
        == 1007
    )
    assert code_of(frame(0xC1, Deflater(AGREEMENT).compress(text)), agreement=AGREEMENT) == 1007
    assert code_of(frame(0x88, b"\x03\xe8" + data)) == 1007


def test_wrong_text_is_noticed_with_its_first_wrong_byte() -> None:
    """Long before the frame, or the message, is complete (Autobahn's cases 6.4)."""
    data = frame(0x01, b"\xce\xba") + frame(0x80, b"\xf4\x90\x80\x80 and more")
    for size in range(len(data)):
        _, error = read([data[:size]])
        # Two headers of 6 bytes, the first payload, and the two bytes that no text has.
        assert isinstance(error, InvalidTextError) == (size >= 6 + 2 + 6 + 2)


def test_a_character_may_be_cut_by_a_frame_but_not_by_the_end() -> None:
    """The rest of a character may come with the next frame; a message that ends within one is wrong."""
    assert read([frame(0x01, b"\xe2\x82") + frame(0x80, b"\xac")]) == (["€"], None)
    assert code_of(frame(0x01, b"\xe2\x82") + frame(0x80, b"")) == 1007


def test_nothing_more_after_an_error() -> None:
    """A parser that has failed says so."""
    parser = WsParser(SERVER)
    with pytest.raises(FrameError):
        list(parser.feed(frame(0x83, b"")))
    with pytest.raises(ParserStateError):
        list(parser.feed(frame(0x81, b"x")))


# Limits --------------------------------------------------------------------------------------------------------

SMALL = WsLimits(frame=1000, message=1500)


def test_a_frame_is_refused_by_its_header() -> None:
    """Before any of its payload has come."""
    assert read([frame(0x82, b"x" * 1000)], limits=SMALL) == ([b"x" * 1000], None)
    _, error = read([frame(0x82, b"x" * 1001)[:8]], limits=SMALL)
    assert isinstance(error, FrameTooBigError)
    assert error.code == 1009


def test_a_message_is_refused_by_the_header_of_the_frame_that_is_too_much() -> None:
    """The sizes of the fragments add up."""
    begun = frame(0x02, b"x" * 1000)
    assert read([begun + frame(0x80, b"y" * 500)], limits=SMALL) == ([b"x" * 1000 + b"y" * 500], None)
    _, error = read([begun + frame(0x80, b"y" * 501)[:8]], limits=SMALL)
    assert isinstance(error, MessageTooBigError)


def test_the_limits_of_one_message_say_nothing_about_the_next() -> None:
    """They begin anew."""
    assert read([frame(0x82, b"x" * 1000) * 10], limits=SMALL) == ([b"x" * 1000] * 10, None)


def test_a_bomb_is_1009_before_it_inflates() -> None:
    """A kilobyte that stands for a megabyte is inflated up to the limit, whole and in fragments."""
    bomb = Deflater(AGREEMENT).compress(bytes(1 << 20))
    limits = WsLimits(message=100_000)
    for data in (frame(0xC2, bomb), frame(0x42, bomb[:300]) + frame(0x80, bomb[300:])):
        _, error = read([data], agreement=AGREEMENT, limits=limits)
        assert isinstance(error, MessageTooBigError)
        assert code_of(data, agreement=AGREEMENT, limits=limits) == 1009
    fits = Deflater(AGREEMENT).compress(bytes(100_000))
    assert read([frame(0xC2, fits)], agreement=AGREEMENT, limits=limits) == ([bytes(100_000)], None)


def test_compressed_rubbish_is_1007() -> None:
    """What zlib cannot read is refused."""
    _, error = read([frame(0xC2, b"\xff" * 20)], agreement=AGREEMENT)
    assert isinstance(error, InvalidDataError)


def test_rsv1_is_for_the_first_frame_of_a_message_only() -> None:
    """W2, RFC 7692 §6.1: not on continuations, not on control frames."""
    assert code_of(frame(0x41, b"\x00") + frame(0xC0, b""), agreement=AGREEMENT) == 1002
    assert code_of(frame(0xC9, b""), agreement=AGREEMENT) == 1002


def test_small_pieces_do_not_add_up() -> None:
    """A frame announced as large, arriving byte by byte, costs about what has arrived."""
    parser = WsParser(SERVER, WsLimits())
    parser.push(b"\x82\xff" + (10 << 20).to_bytes(8, "big") + KEY)
    assert parser.next_event() is None
    for _ in range(50_000):
        parser.push(b"xy")
        assert parser.next_event() is None
    pieces = parser._pieces
    assert pieces is not None
    assert len(getattr(pieces, "_pieces")) <= 2  # noqa: B009 - of one of two classes


# Against others ------------------------------------------------------------------------------------------------


def theirs(data: bytes) -> tuple[list[object], bool]:
    """Return what wsproto makes of a client's frames, and whether it complains."""
    protocol = fp.FrameProtocol(client=False, extensions=[])
    events: list[object] = []
    message: list[object] = []
    try:
        protocol.receive_bytes(data)
        for event in protocol.received_frames():
            if event.opcode is fp.Opcode.CLOSE:
                assert isinstance(event.payload, tuple)
                code, reason = event.payload
                events.append(("close", int(code), reason or ""))
                return events, False
            if event.opcode is fp.Opcode.PING or event.opcode is fp.Opcode.PONG:
                events.append((event.opcode.name.lower(), event.payload))
                continue
            message.append(event.payload)
            if event.message_finished:
                if event.opcode is fp.Opcode.TEXT:
                    events.append("".join(str(piece) for piece in message))
                else:
                    events.append(b"".join(piece for piece in message if isinstance(piece, bytes | bytearray)))
                message = []
    except fp.ParseFailed:
        return events, True
    return events, False


frames = st.builds(
    frame,
    st.sampled_from([0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A, 0x88, 0x83, 0xC1, 0x09]),
    st.one_of(st.binary(max_size=130), st.text(max_size=40).map(str.encode), st.just(b"\x03\xe8ok")),
    st.binary(min_size=4, max_size=4),
)


@given(st.lists(frames, max_size=6))
def test_the_same_as_wsproto(stream: list[bytes]) -> None:
    """Random frames, right and wrong: the same messages, and a complaint about the same streams."""
    data = b"".join(stream)
    events, error = read([data])
    expected, complains = theirs(data)
    assert events == expected
    assert (error is not None) == complains


@given(st.lists(messages, max_size=8))
def test_what_websockets_writes(sent: list[str | bytes]) -> None:
    """Frames of another library are understood, and ours by it, byte for byte the same."""
    stream = bytearray()
    for message in sent:
        opcode, raw = (Opcode.TEXT, message.encode()) if isinstance(message, str) else (Opcode.BINARY, message)
        stream += PeerFrame(opcode, raw).serialize(mask=True)
        assert PeerFrame(opcode, raw).serialize(mask=False) == encode_frame(opcode, message)
    assert read([bytes(stream)]) == (sent, None)


def test_nothing_is_held_between_messages() -> None:
    """W9: an idle WebSocket does not keep what it has read last."""
    parser = WsParser(SERVER)
    data = frame(0x82, b"x" * 60_000)
    assert list(parser.feed(data)) == [b"x" * 60_000]
    assert parser._frames.data == b""
    assert parser._pieces is None
