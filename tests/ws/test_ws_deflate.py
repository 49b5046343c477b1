"""permessage-deflate: what is negotiated, and what becomes of messages."""

from __future__ import annotations

import random
import types
import zlib
from collections.abc import Callable
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Frame, Opcode
from websockets.headers import build_extension, parse_extension

from nimloop_ws.deflate import (
    Agreement,
    Deflate,
    Deflater,
    Inflater,
    accept_answer,
    accept_offer,
    compress_once,
    offer,
    parse_extensions,
)
from nimloop_ws.errors import BadResponseError, InvalidDataError, MessageTooBigError

FULL = Deflate(window_bits=15, peer_window_bits=15)
LIMIT = 1 << 24


def answer(header: str, deflate: Deflate = FULL) -> str | None:
    """Return what a server says to an offer."""
    found = accept_offer(header, deflate)
    return None if found is None else found[0]


# Negotiation, server ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", None),
        ("permessage-deflate", "permessage-deflate"),
        ("Permessage-Deflate", "permessage-deflate"),
        ("x-webkit-deflate-frame", None),
        ("foo, permessage-deflate", "permessage-deflate"),
        ('foo; a=1; b="x, y; z" , permessage-deflate', "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits", "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits=10", "permessage-deflate; client_max_window_bits=10"),
        ("permessage-deflate; server_max_window_bits=10", "permessage-deflate; server_max_window_bits=10"),
        ('permessage-deflate; server_max_window_bits="9"', "permessage-deflate; server_max_window_bits=9"),
        ("permessage-deflate; server_max_window_bits=8", "permessage-deflate; server_max_window_bits=8"),
        ("permessage-deflate; server_no_context_takeover", "permessage-deflate; server_no_context_takeover"),
        ("permessage-deflate; client_no_context_takeover", "permessage-deflate; client_no_context_takeover"),
        # The second offer is acceptable, the first is not.
        ("permessage-deflate; server_max_window_bits=7, permessage-deflate", "permessage-deflate"),
        ("permessage-deflate; unknown", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits=010", None),
        ("permessage-deflate; server_max_window_bits=10; server_max_window_bits=10", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; client_max_window_bits=99", None),
        ("permessage-deflate; =", None),
        (";;;", None),
    ],
)
def test_answers_of_a_server(header: str, expected: str | None) -> None:
    """The first acceptable offer is taken, in its own terms."""
    assert answer(header) == expected


def test_a_server_that_wants_less() -> None:
    """It may limit itself unasked, and a client that says it can be limited (RFC 7692 §7.1.2)."""
    lean = Deflate(window_bits=11, peer_window_bits=10, context_takeover=False, peer_context_takeover=False)
    terms = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=11"
    assert answer("permessage-deflate", lean) == terms
    assert answer("permessage-deflate; client_max_window_bits", lean) == terms + "; client_max_window_bits=10"
    found = accept_offer("permessage-deflate", lean)
    assert found is not None
    assert found[1] == Agreement(lean, 11, 15, context_takeover=False, peer_context_takeover=False)


# Negotiation, client ---------------------------------------------------------------------------------------------


def test_offers() -> None:
    """An offer names what this side wants, and no more."""
    assert offer(FULL) == "permessage-deflate; client_max_window_bits"
    assert offer(Deflate()) == (
        "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12, "
        "permessage-deflate; client_max_window_bits=12"
    )
    lean = Deflate(window_bits=15, peer_window_bits=9, context_takeover=False, peer_context_takeover=False)
    assert offer(lean) == (
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
        "server_max_window_bits=9; client_max_window_bits, "
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"
    )


def test_answers_to_a_client() -> None:
    """What the server agreed to, seen from here."""
    assert accept_answer("", FULL) is None
    assert accept_answer("permessage-deflate", FULL) == Agreement(FULL, 15, 15, True, True)
    assert accept_answer(
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
        "server_max_window_bits=10; client_max_window_bits=9",
        FULL,
    ) == Agreement(FULL, 9, 10, False, False)


@pytest.mark.parametrize("answered", ["", "; server_max_window_bits=13"])
def test_a_server_that_cannot_have_a_smaller_window(answered: str) -> None:
    """It takes the alternative, or ignores what it was asked for, as gorilla/websocket does."""
    mine = Deflate(peer_window_bits=9)
    agreed = accept_answer(f"permessage-deflate; server_no_context_takeover{answered}", mine)
    assert agreed == Agreement(mine, 12, 13 if answered else 15, True, False)
    theirs = Deflater(Agreement(FULL, agreed.peer_window_bits, 15, False, False))
    far = random.Random(7).randbytes(1 << 12) + bytes(2000)
    assert Inflater(agreed).inflate(theirs.compress(far * 2), LIMIT, last=True) == far * 2


def test_what_was_agreed_on_stays() -> None:
    """Nobody changes it afterwards: windows are made when they are first needed, and counted on from then."""
    agreed = accept_answer("permessage-deflate", FULL)
    assert agreed is not None
    with pytest.raises(FrozenInstanceError):
        agreed.window_bits = 9  # type: ignore[misc]


@pytest.mark.parametrize(
    "header",
    [
        "foo",
        "permessage-deflate; foo",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_max_window_bits=20",
        "permessage-deflate, permessage-deflate",
    ],
)
def test_wrong_answers(header: str) -> None:
    """What was not offered, or does not exist, fails the handshake."""
    with pytest.raises(BadResponseError):
        accept_answer(header, FULL)


def test_answers_that_want_more_than_was_offered() -> None:
    """A server has to stay within the offer."""
    with pytest.raises(BadResponseError):
        accept_answer("permessage-deflate", Deflate(peer_context_takeover=False, peer_window_bits=15))
    with pytest.raises(BadResponseError):
        accept_answer("permessage-deflate", None)


def test_elements_of_the_field() -> None:
    """Quoted values, blanks and empty elements, as RFC 6455 §9.1 and RFC 9110 §5.6.1 have them."""
    text = ' \ta;b=1 ; c="x\\"y" ,, d'
    assert list(parse_extensions(text)) == [("a", [("b", "1"), ("c", 'x"y')]), ("d", [])]
    assert [name for name, _ in parse_extensions("a, b c, d")] == ["a"]


bits = st.sampled_from([None, 9, 10, 12, 15])
settings = st.builds(
    lambda window, peer_window, takeover, peer_takeover: Deflate(
        window_bits=window, peer_window_bits=peer_window, context_takeover=takeover, peer_context_takeover=peer_takeover
    ),
    st.integers(8, 15),
    st.integers(8, 15),
    st.booleans(),
    st.booleans(),
)


@given(settings, st.booleans(), st.booleans(), bits, bits)
def test_agreement_with_websockets(
    mine: Deflate,
    their_server_no: bool,  # noqa: FBT001 - drawn
    their_client_no: bool,  # noqa: FBT001
    their_server_bits: int | None,
    their_client_bits: int | None,
) -> None:
    """Both ways round, the two libraries agree on the same terms, or on none, and understand each other's messages."""
    their_client = ClientPerMessageDeflateFactory(
        server_no_context_takeover=their_server_no,
        client_no_context_takeover=their_client_no,
        server_max_window_bits=their_server_bits,
        client_max_window_bits=True if their_client_bits is None else their_client_bits,
    )
    header = build_extension([(their_client.name, their_client.get_request_params())])
    found = accept_offer(header, mine)
    if found is not None and "window_bits=8" not in found[0]:  # websockets' zlib has no such window
        ((_, params),) = parse_extension(found[0])
        exchange(found[1], their_client.process_response_params(params, []))
    their_server = ServerPerMessageDeflateFactory(
        server_no_context_takeover=their_server_no,
        client_no_context_takeover=their_client_no,
        server_max_window_bits=their_server_bits,
        client_max_window_bits=their_client_bits,
    )
    if 8 in {mine.window_bits, mine.peer_window_bits}:
        return
    (_, params), *_ = parse_extension(offer(mine))
    response, theirs = their_server.process_request_params(params, [])
    agreement = accept_answer(build_extension([(their_server.name, response)]), mine)
    assert agreement is not None
    exchange(agreement, theirs)


def exchange(agreement: Agreement, theirs: PerMessageDeflate) -> None:
    """Let messages pass in both directions; each looks back to the one before."""
    assert agreement.context_takeover == (not theirs.remote_no_context_takeover)
    assert agreement.peer_context_takeover == (not theirs.local_no_context_takeover)
    deflater, inflater = Deflater(agreement), Inflater(agreement)
    for text in (b"hello hello hello " * 400, b"hello again, hello " * 300, b"", b"\x00" * 40000):
        encoded = theirs.encode(Frame(Opcode.BINARY, text))
        assert inflater.inflate(bytes(encoded.data), LIMIT, last=True) == text
        decoded = theirs.decode(Frame(Opcode.BINARY, deflater.compress(text), rsv1=True))
        assert decoded.data == text


# Messages --------------------------------------------------------------------------------------------------------


def agreement(deflate: Deflate = FULL) -> Agreement:
    """Both directions on the same terms."""
    return Agreement(
        deflate,
        deflate.window_bits,
        deflate.window_bits,
        context_takeover=deflate.context_takeover,
        peer_context_takeover=deflate.context_takeover,
    )


@given(st.lists(st.lists(st.binary(max_size=500), min_size=1, max_size=4), max_size=6), settings)
def test_round_trip(sent: list[list[bytes]], deflate: Deflate) -> None:
    """Messages in fragments come out as they went in, whatever was agreed on."""
    terms = agreement(deflate)
    deflater, inflater = Deflater(terms), Inflater(terms)
    for fragments in sent:
        found = b""
        for index, fragment in enumerate(fragments):
            last = index == len(fragments) - 1
            found += inflater.inflate(deflater.compress(fragment, last=last), LIMIT, last=last)
        assert found == b"".join(fragments)


@pytest.mark.parametrize("window", range(8, 16))
def test_a_compressor_stays_within_its_window(window: int) -> None:
    """An inflater with exactly that window understands it."""
    data = bytes(range(256)) * 300 + b"".join(bytes([i % 251]) * 3 for i in range(40000))
    out = Deflater(agreement(Deflate(window_bits=window))).compress(data)
    decompressor = zlib.decompressobj(-max(9, window))
    assert decompressor.decompress(out + b"\x00\x00\xff\xff") == data
    if window == 8:
        small = zlib.decompressobj(-8)
        assert small.decompress(out + b"\x00\x00\xff\xff") == data


def test_rfc_7692_examples() -> None:
    """The octets of §7.2.3: one block, context taken over, a block without compression, a last block, two blocks."""
    inflater = Inflater(agreement())
    blocks = "f248cdc9c90700 f200110000 000500faff48656c6c6f00 f348cdc9c9070000 f24805000000ffffcac9c90700"
    for octets in blocks.split():
        assert inflater.inflate(bytes.fromhex(octets), LIMIT, last=True) == b"Hello", octets
    assert inflater.inflate(b"\x00", LIMIT, last=True) == b""


def test_a_limit_is_kept_to_the_byte() -> None:
    """Up to the limit a message is inflated, beyond it is refused; zlib is asked for one byte more."""
    asked: list[int] = []

    class Watching:
        def __init__(self, wbits: int) -> None:
            self.inner = zlib.decompressobj(wbits)
            self.eof = False
            self.unused_data = b""

        def decompress(self, data: bytes, max_length: int) -> bytes:
            asked.append(max_length)
            return self.inner.decompress(data, max_length)

    module = types.ModuleType("watching")
    vars(module).update(decompressobj=Watching, compressobj=zlib.compressobj, error=zlib.error)
    terms = agreement(Deflate(window_bits=15, zlib=module))
    bomb = Deflater(agreement()).compress(bytes(1 << 24))
    assert len(bomb) < 20_000
    with pytest.raises(MessageTooBigError):
        Inflater(terms).inflate(bomb, 5000, last=True)
    assert asked == [5001]
    assert Inflater(terms).inflate(Deflater(agreement()).compress(bytes(5000)), 5000, last=True) == bytes(5000)


def test_streams_within_a_message_are_counted() -> None:
    """RFC 7692 §7.2.3.4 allows them; what is nothing but them costs far more than it says. Bytes are what counts."""
    compressor = zlib.compressobj(wbits=-15)
    large = compressor.compress(random.Random(1).randbytes(100)) + compressor.flush()
    message = large * 300 + b"\x00"
    assert len(Inflater(agreement()).inflate(message, LIMIT, last=True)) == 30_000
    for step in (1, 7, 100_000):
        inflater = Inflater(agreement())
        data = b"\x03\x00" * 16
        for _ in range(3):
            for at in range(0, len(data), step):
                assert inflater.inflate(data[at : at + step], LIMIT, last=False) == b""
            inflater.inflate(b"\x00", LIMIT, last=True)
        with pytest.raises(InvalidDataError, match="too often"):
            inflater.inflate(b"\x03\x00" * 17, LIMIT, last=False)


def test_rubbish_is_refused() -> None:
    """What is no deflated data, and what refers to more than there was."""
    with pytest.raises(InvalidDataError):
        Inflater(agreement()).inflate(b"\xff\xff\xff", LIMIT, last=True)
    deflater = Deflater(agreement())
    deflater.compress(b"abcdefgh" * 9)
    second = deflater.compress(b"abcdefgh" * 9)
    with pytest.raises(InvalidDataError):
        Inflater(agreement()).inflate(second, LIMIT, last=True)


def test_another_module_in_place_of_zlib() -> None:
    """Its own error counts as well."""

    class OtherError(Exception):
        pass

    class Broken:
        eof = False
        unused_data = b""

        def decompress(self, data: bytes, max_length: int) -> bytes:
            raise OtherError("no")

    module = types.ModuleType("other")
    vars(module).update(decompressobj=lambda _wbits: Broken(), error=OtherError)
    with pytest.raises(InvalidDataError):
        Inflater(agreement(Deflate(zlib=module))).inflate(b"x", LIMIT, last=True)


def test_what_another_module_does_not_call_its_error() -> None:
    """It is nothing that the peer has done, and passes through."""

    class Exhausted:
        eof = False
        unused_data = b""

        def decompress(self, data: bytes, max_length: int) -> bytes:
            raise MemoryError

    module = types.ModuleType("other")
    vars(module).update(decompressobj=lambda _wbits: Exhausted(), error=zlib.error)
    with pytest.raises(MemoryError):
        Inflater(agreement(Deflate(zlib=module))).inflate(b"x", LIMIT, last=True)


def test_a_message_that_did_not_pass_through_here() -> None:
    """After a broadcast the compressor begins anew, and the peer's inflater goes on understanding it."""
    deflater, inflater = Deflater(agreement()), Inflater(agreement())
    assert inflater.inflate(deflater.compress(b"one two three" * 9), LIMIT, last=True) == b"one two three" * 9
    shared = compress_once(FULL, 15, b"to everybody" * 9)
    assert inflater.inflate(shared, LIMIT, last=True) == b"to everybody" * 9
    deflater.forget()
    assert inflater.inflate(deflater.compress(b"one two three" * 9), LIMIT, last=True) == b"one two three" * 9


def test_the_defaults_cost_what_is_told_of_them() -> None:
    """16 KiB each for the window and for what is not written yet (zconf.h), and 4 KiB to inflate with."""
    deflate = Deflate()
    assert 1 << (deflate.window_bits + 2) == 16 << 10
    assert 1 << (deflate.memory_level + 9) == 16 << 10
    assert 1 << deflate.peer_window_bits == 4 << 10
    assert deflate.threshold == 256  # bytes, below which little is gained


def test_settings_are_checked() -> None:
    """When they are made."""
    wrong: list[Callable[[], Deflate]] = [
        lambda: Deflate(window_bits=7),
        lambda: Deflate(window_bits=16),
        lambda: Deflate(peer_window_bits=0),
        lambda: Deflate(level=10),
        lambda: Deflate(memory_level=0),
        lambda: Deflate(threshold=-1),
    ]
    for make in wrong:
        with pytest.raises(ValueError, match="whole number"):
            make()
