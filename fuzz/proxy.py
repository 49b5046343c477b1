"""atheris' target for the PROXY protocol: `hatch run fuzz:proxy`.

A beginning of a connection is given byte by byte: once there is a header or an error, more bytes change neither, and
what follows the header is left alone. A third of the inputs is made into a header of version 2, with addresses,
extensions and a checksum, and has to be read as it was meant.
"""

from __future__ import annotations

import importlib
import ipaddress
import sys

atheris = importlib.import_module("atheris")  # not installed where types are checked

with atheris.instrument_imports(include=["nimloop_http"]):
    from nimloop_http import ProxyHeader, read_proxy_header
    from nimloop_http._proxyprotocol import crc32c
    from nimloop_http.errors import ProxyProtocolError

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LARGEST = 4096
"""Bytes of the largest header that is taken."""


def read(data: bytes) -> ProxyHeader | str | None:
    """Return the header, None while there is none, or the word "error"."""
    try:
        return read_proxy_header(data)
    except ProxyProtocolError:
        return "error"


def as_it_comes(data: bytes) -> ProxyHeader | str | None:
    """Read every beginning of the data; return what was decided first."""
    decided: ProxyHeader | str | None = None
    for size in range(1, len(data) + 1):
        now = read(data[:size])
        if decided is None:
            decided = now
            if isinstance(now, ProxyHeader):
                assert now.size == size  # neither later than it could be, nor before its end
        else:
            assert now == decided, (size, now, decided)
    if decided is None:
        assert len(data) < LARGEST
    if isinstance(decided, ProxyHeader):
        for address in (decided.source, decided.destination):
            if address is not None:
                ipaddress.ip_address(address[0])
                assert 0 <= address[1] <= 65535
    return decided


def made(given: bytes) -> tuple[bytes, tuple[str, int], bool]:
    """Write a header of version 2; return it, the client's address, and whether it says that there was TLS."""
    six, secure, summed = given[0] & 1, bool(given[0] & 2), bool(given[0] & 4)
    width = 16 if six else 4
    addresses = given[1:].ljust(2 * width + 4, b"\1")[: 2 * width + 4]
    unknown = given[2 * width + 5 :][:300]
    extensions = b"\xe0" + len(unknown).to_bytes(2, "big") + unknown  # PP2_TYPE_MIN_CUSTOM
    if given[0] & 8:
        extensions += b"\x20\0\5" + bytes([secure]) + b"\0\0\0\0"
    else:
        secure = False
    if summed:
        extensions += b"\x03\0\4\0\0\0\0"
    size = len(addresses) + len(extensions)
    header = SIGNATURE + bytes([0x21, 0x21 if six else 0x11]) + size.to_bytes(2, "big") + addresses + extensions
    if summed:
        header = header[:-4] + crc32c(header).to_bytes(4, "big")
    port = int.from_bytes(addresses[2 * width : 2 * width + 2], "big")
    return header, (str(ipaddress.ip_address(addresses[:width])), port), secure


def test_one_input(given: bytes) -> None:
    """Read one beginning of a connection."""
    if len(given) < 3:
        return
    if given[0] % 3:
        as_it_comes(given[1:])
        return
    header, source, secure = made(given[1:])
    told = as_it_comes(header + given[-2:])
    assert isinstance(told, ProxyHeader), told
    assert told.source is not None
    assert (ipaddress.ip_address(told.source[0]), told.source[1]) == (ipaddress.ip_address(source[0]), source[1])
    assert (told.secure, told.size) == (secure, len(header))
    if given[1] & 4 and len(given) > 4:  # under a checksum nothing can be changed unseen
        at = 16 + given[2] % (len(header) - 16)
        other = header[:at] + bytes([header[at] ^ (given[3] or 1)]) + header[at + 1 :]
        changed = read(other)
        assert changed == "error" or at >= len(header) - 7, (at, changed)


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
