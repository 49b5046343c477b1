"""permessage-deflate (RFC 7692): what two sides agree on, and how a message is deflated and inflated.

Each direction has a window of up to 32 KiB that lives as long as the connection ("context take-over") or only as long
as a message. Memory per connection, by zlib's own formula (zconf.h):

==========  ==================================================  ================================
direction   bytes                                               with the settings of `Deflate()`
==========  ==================================================  ================================
sending     2^(window_bits + 2) + 2^(memory_level + 9)          16 KiB + 16 KiB
receiving   2^window_bits, and 7 KiB                            4 KiB + 7 KiB, or 32 KiB + 7 KiB
                                                                when the client cannot limit it
==========  ==================================================  ================================

None of it exists before the first compressed message; without context take-over none of it exists between messages.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Final, Protocol, cast, final

from nimloop_ws.errors import BadResponseError, InvalidDataError, MessageTooBigError

__all__ = [
    "EXTENSION",
    "Agreement",
    "Compressor",
    "Decompressor",
    "Deflate",
    "Deflater",
    "Inflater",
    "Zlib",
    "accept_answer",
    "accept_offer",
    "compress_once",
    "new_compressor",
    "offer",
    "parse_extensions",
]

EXTENSION: Final = "permessage-deflate"
_TAIL: Final = b"\x00\x00\xff\xff"  # RFC 7692 §7.2.1: not sent, because every message would end with it
_MAX_BITS: Final = 15

# A stream that ends within a message costs a new decompressor and a copy of what follows. Whoever marks blocks as the
# last ones does so where the program flushes; a peer that does nothing else could keep us busy with two bytes each.
_MANY_ENDS: Final = 16  # in a message, and one more for each
_LEAST_STREAM: Final = 64  # bytes
_STEP: Final = 65536  # bytes that are looked at together, and so may be copied


class Compressor(Protocol):
    """What is used of `zlib.compressobj`."""

    def compress(self, data: bytes | bytearray | memoryview, /) -> bytes:
        """Take data in; return what has become of it so far."""

    def flush(self, mode: int = ..., /) -> bytes:
        """Return the rest."""


class Decompressor(Protocol):
    """What is used of `zlib.decompressobj`."""

    @property
    def eof(self) -> bool:
        """Whether a last block was seen."""

    @property
    def unused_data(self) -> bytes:
        """What came behind it."""

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes:
        """Return what the data says, up to a length."""


class Zlib(Protocol):
    """What is used of the module `zlib`; `isal.isal_zlib` and `zlib_ng.zlib_ng` have it too."""

    error: type[Exception]

    def compressobj(
        self, level: int = ..., method: int = ..., wbits: int = ..., mem_level: int = ..., strategy: int = ..., /
    ) -> Compressor:
        """Return a new compressor."""

    def decompressobj(self, wbits: int = ..., /) -> Decompressor:
        """Return a new decompressor."""


_ZLIB: Final = cast("Zlib", zlib)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deflate:
    """What this side wants of permessage-deflate, and how it compresses. ``Deflate()`` is lean rather than thorough."""

    window_bits: int = 12
    """Of our own compressor: it looks back 2^window_bits bytes; 8 to 15."""
    peer_window_bits: int = 12
    """The most that the peer may use, 8 to 15; a client that cannot limit its window is accepted with 15."""
    context_takeover: bool = True
    """Whether our window outlives a message. Compresses better; costs memory between messages."""
    peer_context_takeover: bool = True
    """Whether the peer's window may outlive a message."""
    level: int = -1
    """1 (quick) to 9 (thorough); -1 is zlib's choice, 6. The README has figures."""
    memory_level: int = 5
    """1 to 9: zlib's memory for what it has not written yet, 2^(memory_level + 9) bytes."""
    threshold: int = 256
    """Messages below this many bytes are not compressed, unless that is asked for."""
    zlib: ModuleType | None = None
    """A module to use in place of the standard library's zlib, such as ``isal.isal_zlib`` or ``zlib_ng.zlib_ng``."""

    def __post_init__(self) -> None:
        for name, least, most in (
            ("window_bits", 8, _MAX_BITS),
            ("peer_window_bits", 8, _MAX_BITS),
            ("level", -1, 9),
            ("memory_level", 1, 9),
            ("threshold", 0, 1 << 62),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or not least <= value <= most:
                raise ValueError(f"Deflate.{name} is a whole number from {least} to {most}, not {value!r}")


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both sides agreed on, seen from this one."""

    deflate: Deflate
    window_bits: int
    """Of our compressor."""
    peer_window_bits: int
    context_takeover: bool
    """Whether our window outlives a message."""
    peer_context_takeover: bool


# The two sides -------------------------------------------------------------------------------------------------


def accept_offer(header: str, deflate: Deflate) -> tuple[str, Agreement] | None:
    """Return the answer to the first acceptable offer in a Sec-WebSocket-Extensions field, for a server.

    None when there is none. An offer with an unknown, doubled or senseless parameter is passed over (§5.1, §7.1).
    """
    for name, parameters in parse_extensions(header):
        if name == EXTENSION and (answer := _answer(parameters, deflate)) is not None:
            return answer
    return None


def _answer(parameters: list[tuple[str, str | None]] | None, deflate: Deflate) -> tuple[str, Agreement] | None:
    offer = _check(parameters)
    if offer is None:
        return None
    # §7.1.1.1: asked not to, a server must not; and it may say so on its own.
    takeover = deflate.context_takeover and "server_no_context_takeover" not in offer
    # §7.1.1.2: the client may forgo its own, or be told to.
    peer_takeover = deflate.peer_context_takeover and "client_no_context_takeover" not in offer
    bits = min(deflate.window_bits, offer.get("server_max_window_bits", _MAX_BITS))
    # §7.1.2.2: only a client that knows the parameter can be told to limit its window.
    limit = offer.get("client_max_window_bits")
    peer_bits = _MAX_BITS if limit is None else min(deflate.peer_window_bits, limit or _MAX_BITS)
    answer = EXTENSION
    if not takeover:
        answer += "; server_no_context_takeover"
    if not peer_takeover:
        answer += "; client_no_context_takeover"
    if bits < _MAX_BITS or "server_max_window_bits" in offer:  # §7.1.2.1: asked for, it has to be there
        answer += f"; server_max_window_bits={bits}"
    if peer_bits < _MAX_BITS:
        answer += f"; client_max_window_bits={peer_bits}"
    return answer, Agreement(deflate, bits, peer_bits, takeover, peer_takeover)


def offer(deflate: Deflate) -> str:
    """Return the offer of a client, for Sec-WebSocket-Extensions.

    A smaller window of the server is asked for, and not insisted on (§5.1: alternatives, the preferred one first): many
    servers cannot change theirs, and some agree as if they had not been asked.
    """
    text = EXTENSION
    if not deflate.peer_context_takeover:
        text += "; server_no_context_takeover"
    if not deflate.context_takeover:
        text += "; client_no_context_takeover"
    # The server may limit our window, which we are glad to do, and we say how far we would go anyway.
    window = f"={deflate.window_bits}" if deflate.window_bits < _MAX_BITS else ""
    modest = f"{text}; client_max_window_bits{window}"
    if deflate.peer_window_bits == _MAX_BITS:
        return modest
    return f"{text}; server_max_window_bits={deflate.peer_window_bits}; client_max_window_bits{window}, {modest}"


def accept_answer(header: str, deflate: Deflate | None) -> Agreement | None:
    """Return what a server's Sec-WebSocket-Extensions makes of our offer, for a client; None when it declines.

    Raises `BadResponseError` for what was not offered (§5.1, §7.1: the connection must be failed).
    """
    agreed: Agreement | None = None
    for name, parameters in parse_extensions(header):
        if name != EXTENSION or deflate is None or agreed is not None:
            raise BadResponseError(f"the server agreed to an extension that was not offered: {header[:100]!r}")
        answer = _check(parameters)
        if answer is None or answer.get("client_max_window_bits") == 0:
            raise BadResponseError(f"the server agreed to something that is not in RFC 7692: {header[:100]!r}")
        peer_takeover = "server_no_context_takeover" not in answer
        if peer_takeover and not deflate.peer_context_takeover:
            raise BadResponseError(f"the server wants more than was offered: {header[:100]!r}")
        agreed = Agreement(
            deflate,
            min(deflate.window_bits, answer.get("client_max_window_bits", _MAX_BITS)),
            answer.get("server_max_window_bits", _MAX_BITS),
            deflate.context_takeover and "client_no_context_takeover" not in answer,
            peer_takeover,
        )
    return agreed


_WORD: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER: Final = re.compile(rf'[ \t]*;[ \t]*({_WORD})(?:[ \t]*=[ \t]*(?:({_WORD})|"((?:[^"\\]|\\.)*)"))?', re.DOTALL)
_NAME: Final = re.compile(rf"[ \t]*({_WORD})")
_COMMA: Final = re.compile(r"[ \t]*(?:,[ \t]*)+|[ \t]*$")


def parse_extensions(header: str) -> Iterator[tuple[str, list[tuple[str, str | None]] | None]]:
    """Yield each extension with its parameters (RFC 6455 §9.1); from the first thing that is none on, nothing."""
    at = 0
    while at < len(header):
        name = _NAME.match(header, at)
        if name is None:
            return
        at = name.end()
        parameters: list[tuple[str, str | None]] = []
        while (parameter := _PARAMETER.match(header, at)) is not None:
            quoted = parameter.group(3)
            value = parameter.group(2) if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
            parameters.append((parameter.group(1).lower(), value))
            at = parameter.end()
        comma = _COMMA.match(header, at)
        if comma is None:
            return
        at = comma.end()
        yield name.group(1).lower(), parameters


_BITS: Final = re.compile(r"[89]|1[0-5]")  # §7.1.2: a decimal without leading zeros


def _check(parameters: list[tuple[str, str | None]] | None) -> dict[str, int] | None:
    """Return the parameters, window bits as numbers (0: not given); None when they are not those of RFC 7692 §7.1."""
    found: dict[str, int] = {}
    for name, value in parameters or ():
        if name in found:
            return None
        if name in {"server_no_context_takeover", "client_no_context_takeover"}:
            if value is not None:
                return None
            found[name] = 1
        elif name in {"server_max_window_bits", "client_max_window_bits"}:
            if value is None and name == "client_max_window_bits":
                found[name] = 0
            elif value is not None and _BITS.fullmatch(value):
                found[name] = int(value)
            else:
                return None
        else:
            return None
    return found


# The messages --------------------------------------------------------------------------------------------------


def new_compressor(deflate: Deflate, window_bits: int) -> Compressor:
    """Return a compressor that looks back no further than the window."""
    module = _ZLIB if deflate.zlib is None else cast("Zlib", deflate.zlib)
    # zlib has no raw window of 2^8 bytes to compress with; run-length encoding looks back one byte only.
    strategy = zlib.Z_RLE if window_bits == 8 else zlib.Z_DEFAULT_STRATEGY
    return module.compressobj(deflate.level, zlib.DEFLATED, -max(9, window_bits), deflate.memory_level, strategy)


def compress_once(deflate: Deflate, window_bits: int, data: bytes | bytearray | memoryview) -> bytes:
    """Return a message deflated without regard to what came before: any inflater with that window understands it."""
    compressor = new_compressor(deflate, window_bits)
    return _finish(compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))


def _finish(data: bytes) -> bytes:
    # §7.2.1: an empty block at the end is left out. An empty message is one byte (§7.2.3.6).
    return data[:-4] if data.endswith(_TAIL) else data


@final
class Deflater:
    """Compresses the messages of one direction."""

    __slots__ = ("_agreement", "_compressor")

    def __init__(self, agreement: Agreement) -> None:
        self._agreement: Final = agreement
        self._compressor: Compressor | None = None

    def compress(self, data: bytes | bytearray | memoryview, *, last: bool = True) -> bytes:
        """Return a message, or a fragment of one, deflated."""
        compressor = self._compressor
        if compressor is None:
            agreement = self._agreement
            compressor = self._compressor = new_compressor(agreement.deflate, agreement.window_bits)
        out = compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)
        if not last:
            return out
        if not self._agreement.context_takeover:
            self._compressor = None
        return _finish(out)

    def forget(self) -> None:
        """Look back no further: the peer is about to get a message that did not pass through here."""
        self._compressor = None


@final
class Inflater:
    """Inflates the messages of one direction, never further than it is told."""

    __slots__ = ("_agreement", "_decompressor", "_ends", "_taken")

    def __init__(self, agreement: Agreement) -> None:
        self._agreement: Final = agreement
        self._decompressor: Decompressor | None = None
        self._taken = 0  # compressed bytes of the message so far
        self._ends = 0  # streams that have ended in them

    def inflate(self, data: bytes, limit: int, *, last: bool) -> bytes:
        """Return what a piece of a message says; `last` ends the message.

        Raises `MessageTooBigError` when that is more than `limit` bytes, after inflating one byte more than that, and
        `InvalidDataError` when it is not deflated data.
        """
        pieces: list[bytes] = []
        for at in range(0, len(data), _STEP):
            limit = self._inflate(data[at : at + _STEP], limit, pieces)
        if last:
            self._inflate(_TAIL, limit, pieces)
            self._taken = self._ends = 0
            if not self._agreement.peer_context_takeover:
                self._decompressor = None
        return b"".join(pieces)

    def _inflate(self, data: bytes, limit: int, pieces: list[bytes]) -> int:
        """Add what the data says to the pieces; return what is left of the limit."""
        while True:
            decompressor = self._decompressor
            if decompressor is None:
                decompressor = self._decompressor = self._new()
            try:
                piece = decompressor.decompress(data, limit + 1)  # 0 would mean: without limit
            except Exception as error:
                if not isinstance(error, self._module().error):
                    raise
                raise InvalidDataError(f"a compressed message cannot be inflated: {error}") from None
            pieces.append(piece)
            limit -= len(piece)
            if limit < 0:
                raise MessageTooBigError("the message is inflated to more bytes than are allowed")
            self._taken += len(data)
            if not decompressor.eof:
                return limit
            # §7.2.3.4: a block may be marked as the last one, and the stream goes on behind it, as a new one.
            data = decompressor.unused_data
            self._decompressor = None
            self._taken -= len(data)
            self._ends += 1
            if self._ends > _MANY_ENDS + self._taken // _LEAST_STREAM:
                raise InvalidDataError("a compressed message ends and begins anew too often")
            if not data:
                return limit

    def _module(self) -> Zlib:
        module = self._agreement.deflate.zlib
        return _ZLIB if module is None else cast("Zlib", module)

    def _new(self) -> Decompressor:
        return self._module().decompressobj(-max(9, self._agreement.peer_window_bits))
