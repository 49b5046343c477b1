"""``ws://`` and ``wss://`` URLs (RFC 6455 §3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from nimloop_ws.errors import InvalidUrlError


@dataclass(frozen=True, slots=True)
class WsUrl:
    """Where a WebSocket is to be opened."""

    secure: bool
    host: str
    """As a name or address to connect to; IPv6 without brackets."""
    port: int
    target: str
    """Path and query, for the request line."""

    @property
    def authority(self) -> str:
        """Host and port for the Host field; a scheme's own port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f]")
_KEPT: Final = "/%:@!$&'()*+,;=~"  # RFC 3986 §3.3


def parse_url(url: str) -> WsUrl:
    """Take a URL apart. Raises `InvalidUrlError` for anything but an absolute ws or wss one without a fragment."""
    if _FORBIDDEN.search(url):
        raise InvalidUrlError(f"a URL holds no blanks and no control characters: {url!r}")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname or ""
        if not host.isascii():
            host = host.encode("idna").decode("ascii")
    except ValueError as error:
        raise InvalidUrlError(f"not a URL: {url!r}: {error}") from None
    if parts.scheme not in {"ws", "wss"}:
        raise InvalidUrlError(f"the scheme is ws or wss: {url!r}")
    if not host:
        raise InvalidUrlError(f"there is no host in {url!r}")
    if "#" in url:
        raise InvalidUrlError(f"a WebSocket URL has no fragment: {url!r}")
    if "@" in parts.netloc:
        raise InvalidUrlError("a WebSocket URL holds no user or password; set an Authorization field instead")
    secure = parts.scheme == "wss"
    # What was quoted stays so, and what a request line cannot hold is quoted.
    target = quote(parts.path or "/", safe=_KEPT)
    if parts.query:
        target += "?" + quote(parts.query, safe=_KEPT + "?")
    return WsUrl(secure, host, (443 if secure else 80) if port is None else port, target)
