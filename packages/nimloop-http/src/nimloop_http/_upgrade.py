"""Leaving HTTP: who may ask for it, and the answer that does it (RFC 9110 §7.8)."""

from __future__ import annotations

from collections.abc import Iterable

from nimloop_http._encode import NO_LENGTH, STATUS_LINES, check_value, field_lines
from nimloop_http._encoder import encode
from nimloop_http._framing import Head, elements_of


def offers(head: Head, protocol: str) -> bool:
    """Tell whether a request offers to change to `protocol`, in both fields that it takes.

    Upgrade is a hop-by-hop field: without the connection option of that name, somebody has passed it on by mistake.
    """
    if not head.upgrade or protocol.lower() not in elements_of(head.upgrade.lower()):
        return False
    return "upgrade" in elements_of(head.headers.get("connection", "").lower())


def encode_switch(protocol: str, date: str, lines: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return the 101 that ends HTTP on a connection; `lines` are fields that were set before.

    Raises `InvalidHeaderError`.
    """
    lines += f"Connection: Upgrade\r\nUpgrade: {check_value(protocol)}\r\n{field_lines(headers)}"
    return encode(STATUS_LINES[101], date, NO_LENGTH, lines)
