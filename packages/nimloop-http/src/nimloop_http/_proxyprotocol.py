"""The PROXY protocol, versions 1 and 2: what a proxy says about the connection it passes on, before the first byte.

Source of every rule: the specification that comes with HAProxy, "The PROXY protocol, versions 1 & 2". It knows no
socket: bytes in, `ProxyHeader` out.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import Final

from nimloop_http.errors import ProxyProtocolError

_V1_BYTES: Final = 107  # §2.1: the longest line, with its CRLF
_V2_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V2_HEAD: Final = 16
# §2.2: a receiver may refuse what is longer than it wants to keep. Addresses and a few extensions fit into 536 bytes;
# certificates' names and unique ids do not always.
_V2_BYTES: Final = 4096

_PORT: Final = r"(0|[1-9][0-9]{0,4})"
_V1: Final = re.compile(rf"PROXY (TCP4|TCP6) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) {_PORT} {_PORT}")

# §2.2: family and transport → how many bytes the addresses have, and where the source port is.
_ADDRESSES: Final = {
    0x11: (12, socket.AF_INET, 4),
    0x12: (12, socket.AF_INET, 4),
    0x21: (36, socket.AF_INET6, 16),
    0x22: (36, socket.AF_INET6, 16),
    0x31: (216, None, 108),
    0x32: (216, None, 108),
}
_TYPE_CRC32C: Final = 0x03
_TYPE_SSL: Final = 0x20
_CLIENT_SSL: Final = 0x01


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What the proxy said."""

    source: tuple[str, int] | None
    """The client's address; None where the proxy speaks for itself (LOCAL), or does not know (UNKNOWN)."""
    destination: tuple[str, int] | None
    """The address that the client had connected to, or None."""
    secure: bool
    """Whether the client came over TLS, as far as the proxy has said so."""
    size: int
    """Bytes of the header; what follows is the connection's own."""


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """Read the header at the beginning of a connection; None when more bytes are needed.

    Raises `ProxyProtocolError` as soon as it cannot become one.
    """
    if data[:1] == b"P":
        return _read_v1(data)
    if not _V2_SIGNATURE.startswith(data[:12]):
        raise ProxyProtocolError("the connection does not begin with a PROXY header")
    return _read_v2(data)


def _read_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, _V1_BYTES)
    if end < 0:
        if len(data) >= _V1_BYTES or b"\n" in data or not (data.startswith(b"PROXY ") or b"PROXY ".startswith(data)):
            raise ProxyProtocolError("not a PROXY line, or a longer one than there can be")
        return None
    line = data[:end].decode("latin-1")
    if "\n" in line:
        raise ProxyProtocolError("a line feed within a PROXY line")
    if line == "PROXY UNKNOWN" or line.startswith("PROXY UNKNOWN "):
        return ProxyHeader(None, None, secure=False, size=end + 2)
    match = _V1.fullmatch(line)
    if match is None:
        raise ProxyProtocolError(f"not a PROXY line: {line!r}")
    family = socket.AF_INET if match[1] == "TCP4" else socket.AF_INET6
    addresses = [_canonical(family, text) for text in match.group(2, 3)]
    ports = [int(text) for text in match.group(4, 5)]
    if None in addresses or max(ports) > 65535:
        raise ProxyProtocolError(f"not an address and port: {line!r}")
    return ProxyHeader((str(addresses[0]), ports[0]), (str(addresses[1]), ports[1]), secure=False, size=end + 2)


def _read_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_HEAD:
        return None
    version, command = data[12] >> 4, data[12] & 15
    if version != 2 or command > 1:
        raise ProxyProtocolError(f"not version 2 of the PROXY protocol: {data[12]:#04x}")
    length = int.from_bytes(data[14:16], "big")
    size = _V2_HEAD + length
    if size > _V2_BYTES:
        raise ProxyProtocolError(f"a PROXY header of {size} bytes; the limit is {_V2_BYTES}")
    if len(data) < size:
        return None
    if command == 0:  # §2.2: LOCAL, the proxy's own connection; what follows is to be skipped
        return ProxyHeader(None, None, secure=False, size=size)
    known = _ADDRESSES.get(data[13])
    if known is None:
        if data[13]:  # 0x00 is UNSPEC
            raise ProxyProtocolError(f"unknown family or transport in a PROXY header: {data[13]:#04x}")
        return ProxyHeader(None, None, secure=False, size=size)
    width, family, part = known
    if length < width:
        raise ProxyProtocolError(f"a PROXY header with {length} bytes where the addresses need {width}")
    secure = _read_extensions(data[:size], _V2_HEAD + width)
    if family is None:  # Unix sockets have no address that would say anything here
        return ProxyHeader(None, None, secure=secure, size=size)
    raw = data[_V2_HEAD : _V2_HEAD + width]
    hosts = [socket.inet_ntop(family, raw[start : start + part]) for start in (0, part)]
    ports = [int.from_bytes(raw[start : start + 2], "big") for start in (2 * part, 2 * part + 2)]
    return ProxyHeader((hosts[0], ports[0]), (hosts[1], ports[1]), secure=secure, size=size)


def _read_extensions(header: bytes, start: int) -> bool:
    """Check the type-length-value vectors (§2.2.x); tell whether they say that the client came over TLS."""
    secure = False
    while start < len(header):
        if start + 3 > len(header):
            raise ProxyProtocolError("an extension of a PROXY header is cut off")
        kind = header[start]
        length = int.from_bytes(header[start + 1 : start + 3], "big")
        value = header[start + 3 : start + 3 + length]
        if len(value) != length:
            raise ProxyProtocolError("an extension of a PROXY header is longer than the header")
        if kind == _TYPE_CRC32C:
            zeroed = header[: start + 3] + bytes(length) + header[start + 3 + length :]
            if length != 4 or crc32c(zeroed) != int.from_bytes(value, "big"):
                raise ProxyProtocolError("the checksum of a PROXY header does not match")
        elif kind == _TYPE_SSL:
            if length < 5:
                raise ProxyProtocolError("the TLS extension of a PROXY header is too short")
            secure = value[0] & _CLIENT_SSL != 0
        start += 3 + length
    return secure


def _canonical(family: socket.AddressFamily, text: str) -> str | None:
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, text))
    except OSError:
        return None


def _crc_table() -> tuple[int, ...]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)  # noqa: PLW2901 - that is the algorithm
        table.append(number)
    return tuple(table)


_CRC_TABLE: Final = _crc_table()


def crc32c(data: bytes) -> int:
    """Return the checksum of RFC 9260, appendix A (Castagnoli)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
