"""Literals told from names, names that can be none, and the way back."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimloop_net import AddressError
from nimloop_net._literals import check_name, literal_of, parse_literal

INTERFACES = socket.if_nameindex()


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> None:
    """What the standard library writes is read, and written again."""
    parsed = parse_literal(str(address), port)
    assert parsed is not None
    family, sock_address = parsed
    assert family == (socket.AF_INET if address.version == 4 else socket.AF_INET6)
    assert sock_address[:2] == (str(address), port)
    assert len(sock_address) == (2 if address.version == 4 else 4)
    assert ipaddress.ip_address(literal_of(sock_address)) == address


@given(st.text(max_size=30))
def test_never_anything_else_than_an_address_error(text: str) -> None:
    """Whatever comes, it is a literal, a name, or refused."""
    try:
        literal = parse_literal(text, 1)
        name = check_name(text) if literal is None else ""
    except AddressError:
        return
    assert name.isascii()
    assert literal is not None or 0 < len(name) <= 254


@pytest.mark.parametrize("name", ["localhost", "127.1", "1.2.3", "256.1.1.1", "example.org", "0x7f.1", "a_b.example"])
def test_names(name: str) -> None:
    """What is no full literal is a name; the old ways to write an address are the system's affair."""
    assert parse_literal(name, 0) is None
    assert check_name(name) == name


@pytest.mark.parametrize("port", [-1, 65536, 10**9])
def test_ports(port: int) -> None:
    """A port has 16 bits."""
    with pytest.raises(AddressError, match=str(port)):
        parse_literal("127.0.0.1", port)


def test_zones() -> None:
    """An interface is named or numbered behind a percent sign (RFC 4007 §11)."""
    index, name = INTERFACES[0]
    assert parse_literal(f"fe80::1%{name}", 5) == (socket.AF_INET6, ("fe80::1", 5, 0, index))
    assert parse_literal(f"fe80::1%{index}", 5) == (socket.AF_INET6, ("fe80::1", 5, 0, index))
    assert literal_of(("fe80::1", 5, 0, index)) == f"fe80::1%{index}"
    for zone in ("", "nowhere", "x" * 100, "a\0b", "١"):
        with pytest.raises(AddressError):
            parse_literal(f"fe80::1%{zone}", 5)


@pytest.mark.parametrize("host", ["[::1]", "::1::2", ":", "host:80", "::1%lo%lo", "1.2.3.4:80"])
def test_what_is_no_ipv6_address(host: str) -> None:
    """Nothing with a colon in it is a name."""
    with pytest.raises(AddressError):
        parse_literal(host, 0)


@pytest.mark.parametrize(
    "host",
    ["", ".", "a..b", ".a", "x" * 64, ".".join(["x" * 63] * 4) + ".yy", "a b", "a\0", "a/b", "user@host", "1.2.3.4%lo"],
)
def test_what_is_no_name(host: str) -> None:
    """Neither empty labels nor long ones (RFC 1035 §2.3.4), nor what an URL has around a name."""
    with pytest.raises(AddressError):
        check_name(host)


def test_longest_name() -> None:
    """253 bytes, with and without the dot of the root."""
    name = ".".join(["x" * 63, "x" * 63, "x" * 63, "x" * 61])
    assert len(name) == 253
    assert check_name(name) == name
    assert check_name(f"{name}.") == f"{name}."


def test_names_that_are_not_ascii() -> None:
    """They get their ASCII form where both editions of IDNA give the same one, and are refused where they differ."""
    assert check_name("bücher.example") == "xn--bcher-kva.example"
    assert check_name("日本。jp") == "xn--wgv71a.jp"
    for host in ("straße.example", "βόλος.example", "a\u200db.example"):
        with pytest.raises(AddressError, match="IDNA 2008"):
            check_name(host)
    for host in ("ü..example", "ü" * 100, "ü" * 100_000, "\ud800.example"):
        with pytest.raises(AddressError):
            check_name(host)
