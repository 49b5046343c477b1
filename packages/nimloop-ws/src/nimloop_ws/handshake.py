"""The opening handshake (RFC 6455 §4), both sides of it. No socket, no loop, no clock.

A server: `check_request` says what to answer, or raises `BadHandshakeError` with the status to refuse with. A client:
`ClientHandshake` makes the request and reads the answer.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from nimloop_http import Headers
from nimloop_ws import deflate as _deflate
from nimloop_ws._url import WsUrl, parse_url
from nimloop_ws.deflate import Agreement, Deflate
from nimloop_ws.errors import BadHandshakeError

__all__ = [
    "SAME_ORIGIN",
    "VERSION",
    "Accepted",
    "ExtraHeaders",
    "Origins",
    "Subprotocols",
    "build_handshake_request",
    "build_handshake_response",
    "check_request",
    "compute_accept_key",
    "new_key",
]

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # §1.3
VERSION: Final = "13"

SAME_ORIGIN: Final = "same-origin"
"""Lets pages in that come from the host and port that the WebSocket is opened on."""

Origins = str | Collection[str] | Callable[[str | None], bool] | None
"""Whose pages may open a WebSocket: `SAME_ORIGIN`, one origin, several, a function of the Origin field, or None: all.

Only browsers send an Origin; a client without one is let in, except by a function, which is asked with None.
"""

Subprotocols = Sequence[str] | Callable[[Sequence[str]], str | None]
"""The subprotocols that are spoken, the favourite first; or a function that picks one of those offered, or none."""

ExtraHeaders = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Accepted:
    """What both sides of a WebSocket have agreed on."""

    accept: str
    """For Sec-WebSocket-Accept."""
    subprotocol: str | None = None
    extensions: str = ""
    """For Sec-WebSocket-Extensions; empty: none."""
    agreement: Agreement | None = None
    """About compression."""

    def headers(self) -> list[tuple[str, str]]:
        """Return the fields of the answer, without Upgrade and Connection."""
        fields = [("Sec-WebSocket-Accept", self.accept)]
        if self.subprotocol is not None:
            fields.append(("Sec-WebSocket-Protocol", self.subprotocol))
        if self.extensions:
            fields.append(("Sec-WebSocket-Extensions", self.extensions))
        return fields


def compute_accept_key(key: str) -> str:
    """Return the Sec-WebSocket-Accept that answers a Sec-WebSocket-Key (§4.2.2)."""
    digest = hashlib.sha1(key.encode("latin-1") + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode("ascii")


def build_handshake_response(accepted: Accepted, headers: ExtraHeaders = ()) -> bytes:
    """Return a server's answer, for those who do without an HttpServer. Raises ValueError for an impossible field."""
    return _join("HTTP/1.1 101 Switching Protocols", [*_SWITCH, *accepted.headers(), *headers])


_SWITCH: Final = (("Upgrade", "websocket"), ("Connection", "Upgrade"))

# The server ----------------------------------------------------------------------------------------------------

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_KEY: Final = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==")  # base64 of 16 bytes

_UPGRADE_FIELDS: Final = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", VERSION))


def check_request(
    method: str,
    minor: int,
    headers: Headers,
    *,
    host: str = "",
    origins: Origins = None,
    subprotocols: Subprotocols = (),
    compression: Deflate | None = None,
) -> Accepted:
    """Return what to answer to a request that opens a WebSocket (§4.2).

    `minor` is HTTP's minor version, `host` what the request was for, which `SAME_ORIGIN` compares with. Raises
    `BadHandshakeError`: 405 for another method than GET, 426 for a request that is none for a WebSocket of version 13,
    400 for a malformed one, 403 for an origin that is not let in.
    """
    if method != "GET":
        raise BadHandshakeError(f"a WebSocket is opened by GET, not {method[:30]}", 405, (("Allow", "GET"),))
    if minor < 1:
        raise BadHandshakeError("a WebSocket needs HTTP/1.1")
    if "websocket" not in _list(headers.get("upgrade", "")) or "upgrade" not in _list(headers.get("connection", "")):
        raise BadHandshakeError("this is for WebSockets", 426, _UPGRADE_FIELDS)
    if headers.get("sec-websocket-version", "").strip() != VERSION:
        raise BadHandshakeError(f"the version of the WebSocket protocol is {VERSION}", 426, _UPGRADE_FIELDS)
    key = headers.get("sec-websocket-key", "").strip()
    if _KEY.fullmatch(key) is None:
        raise BadHandshakeError("Sec-WebSocket-Key must be 16 bytes in base64, once")
    _check_origin(headers.get("origin"), host, origins)
    offered = _offered_subprotocols(headers.get("sec-websocket-protocol"))
    chosen = subprotocols(offered) if callable(subprotocols) else _first_of(subprotocols, offered)
    extensions, agreement = "", None
    if compression is not None:
        answer = _deflate.accept_offer(headers.get("sec-websocket-extensions", ""), compression)
        if answer is not None:
            extensions, agreement = answer
    return Accepted(compute_accept_key(key), chosen, extensions, agreement)


def _first_of(spoken: Sequence[str], offered: Sequence[str]) -> str | None:
    return next((name for name in spoken if name in offered), None)


def _offered_subprotocols(header: str | None) -> list[str]:
    if header is None:
        return []
    offered = [name.strip(" \t") for name in header.split(",")]
    if len(set(offered)) != len(offered) or not all(map(_TOKEN.fullmatch, offered)):
        raise BadHandshakeError("Sec-WebSocket-Protocol must be a list of different tokens")
    return offered


def _check_origin(origin: str | None, host: str, origins: Origins) -> None:
    if origins is None:
        return
    if callable(origins):
        allowed = origins(origin)
    elif origin is None:
        return
    elif origins == SAME_ORIGIN:
        scheme, _, authority = origin.lower().partition("://")
        port = {"http": ":80", "https": ":443"}.get(scheme, "")
        allowed = bool(authority) and authority.removesuffix(port) == host.lower().removesuffix(port)
    else:
        allowed = origin == origins if isinstance(origins, str) else origin in origins
    if not allowed:
        raise BadHandshakeError("pages of that origin may not open a WebSocket here", 403)


def _list(value: str) -> list[str]:
    return [element.strip(" \t") for element in value.lower().split(",")]


# The client ----------------------------------------------------------------------------------------------------

_OWNED: Final = frozenset(
    {
        "connection", "content-length", "host", "sec-websocket-accept", "sec-websocket-extensions",
        "sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def build_handshake_request(
    url: WsUrl | str,
    key: str,
    *,
    subprotocols: Sequence[str] = (),
    origin: str | None = None,
    headers: ExtraHeaders = (),
    compression: Deflate | None = None,
) -> bytes:
    """Return the request of a client (§4.1). Raises ValueError for a field that cannot, or must not, be set."""
    if isinstance(url, str):
        url = parse_url(url)
    fields = [
        ("Host", url.authority),
        *_SWITCH,
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", VERSION),
    ]
    if subprotocols:
        if len(set(subprotocols)) != len(subprotocols) or not all(map(_TOKEN.fullmatch, subprotocols)):
            raise ValueError(f"subprotocols are different tokens, not {subprotocols!r}")
        fields.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
    if origin is not None:
        fields.append(("Origin", origin))
    if compression is not None:
        fields.append(("Sec-WebSocket-Extensions", _deflate.offer(compression)))
    for name, value in headers:
        if name.lower() in _OWNED:
            raise ValueError(f"{name} belongs to the handshake")
        fields.append((name, value))
    return _join(f"GET {url.target} HTTP/1.1", fields)


def new_key() -> str:
    """Return a Sec-WebSocket-Key: 16 random bytes in base64."""
    return binascii.b2a_base64(os.urandom(16), newline=False).decode("ascii")


def _join(first: str, fields: Iterable[tuple[str, str]]) -> bytes:
    lines = [first]
    for name, value in fields:
        if _TOKEN.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise ValueError(f"not a header field: {name!r}: {value!r}")
        lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
