"""Behind a proxy: who the client really is, told by header fields that are believed only where they may be.

Anybody can send ``X-Forwarded-For``. A proxy appends the address that it saw to whatever came, so the list is true only
from the right, as far as each hop is a proxy of one's own: the client is the rightmost address that is not trusted.

And a proxy that writes one kind of field passes the other one on as the client has sent it. So one kind is chosen, and
the other is never looked at.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, final

from nimloop_http._framing import elements_of
from nimloop_http._grammar import HOST, TOKEN
from nimloop_http._proxyprotocol import ProxyHeader as ProxyHeader
from nimloop_http._proxyprotocol import read_proxy_header as read_proxy_header

if TYPE_CHECKING:
    from nimloop_http._headers import Headers

__all__ = ["Client", "ProxyHeader", "TrustedProxies", "read_proxy_header"]

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAX_HOPS: Final = 32  # nobody has more proxies of his own in a row; what is further left is not looked at

# RFC 7239 §4: forwarded-element = [ forwarded-pair ] *( ";" [ forwarded-pair ] ), a pair is token "=" value.
_PAIR: Final = re.compile(rf'[ \t]*({TOKEN.pattern})=(?:"((?:[^"\\]|\\.)*+)"|({TOKEN.pattern}))[ \t]*([;,]?)')
# RFC 7239 §6: nodename [ ":" node-port ]; an IPv6 address stands in brackets.
_NODE: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::(?:[0-9]{1,5}|_[0-9A-Za-z._\-]+))?")


class Client(NamedTuple):
    """Where a request came from, and how, at the outermost end that can be believed."""

    ip: str
    """The address of the client; ``""`` for a Unix socket."""
    scheme: str
    """``"http"`` or ``"https"``."""
    host: str
    """Host and port that the client asked for."""


@final
class TrustedProxies:
    """The proxies whose word counts. Give it to ``HttpServer(proxies=…)``.

    `networks` are addresses and networks such as ``"10.0.0.0/8"`` and ``"::1"``; ``"unix"`` stands for whoever comes
    through a Unix socket. `fields` says which ones the proxies write: ``"x-forwarded"`` (X-Forwarded-For, -Proto,
    -Host) or ``"forwarded"`` (RFC 7239). Raises ValueError for what is not a network.
    """

    __slots__ = ("_networks", "_unix", "fields")

    def __init__(
        self,
        networks: Iterable[str] = ("127.0.0.0/8", "::1", "unix"),
        *,
        fields: Literal["x-forwarded", "forwarded"] = "x-forwarded",
    ) -> None:
        if fields not in {"x-forwarded", "forwarded"}:
            raise ValueError(f'fields is "x-forwarded" or "forwarded", not {fields!r}')
        if isinstance(networks, str):
            raise ValueError("networks is a list of networks, not one text")  # noqa: TRY004 - a value like the others
        names = list(networks)
        self.fields: Final = fields
        self._unix: Final = "unix" in names
        self._networks: Final[list[_Network]] = [ipaddress.ip_network(name) for name in names if name != "unix"]

    def trusts(self, address: str) -> bool:
        """Tell whether an address is one of the proxies'; ``""`` is a Unix socket."""
        if not address:
            return self._unix
        ip = _ip(address)
        return ip is not None and any(ip in network for network in self._networks)

    def client(self, headers: Headers, peer: str, scheme: str, host: str) -> Client:
        """Return who the client is, given the address of the peer and what the connection itself says.

        An address that is malformed, hidden or unknown is believed by nobody: the last proxy that can be named stands
        for it; how, and for what, that proxy was asked counts even so.
        """
        if not self.trusts(peer):
            return Client(peer, scheme, host)
        hops = _forwarded(headers) if self.fields == "forwarded" else _x_forwarded(headers)
        for address, proto, wanted in reversed(hops[-_MAX_HOPS:]):
            scheme = proto if proto in {"http", "https"} else scheme
            host = wanted if wanted and HOST.fullmatch(wanted) else host
            ip = _ip(address)
            if ip is None:
                break
            peer = str(ip)
            if not self.trusts(peer):
                break
        return Client(peer, scheme, host)

    def __repr__(self) -> str:
        names = [str(network) for network in self._networks] + ["unix"] * self._unix
        return f"TrustedProxies({names!r}, fields={self.fields!r})"


_Hop = tuple[str, str, str]  # address, scheme and host, as far as they are told


def _x_forwarded(headers: Headers) -> list[_Hop]:
    addresses = _list(headers.get("x-forwarded-for", ""))
    schemes = _list(headers.get("x-forwarded-proto", "").lower())
    hosts = _list(headers.get("x-forwarded-host", ""))
    hops = [(_node(address), "", "") for address in addresses] or [("", "", "")]  # some write the scheme alone
    # Most proxies write one scheme and one host, whatever came; some append to a list as they do with the addresses.
    for index, (address, _, _) in enumerate(hops):
        scheme = schemes[index] if len(schemes) == len(hops) else schemes[-1] if schemes else ""
        host = hosts[index] if len(hosts) == len(hops) else hosts[-1] if hosts else ""
        hops[index] = (address, scheme, host)
    return hops


def _forwarded(headers: Headers) -> list[_Hop]:
    """Read the elements of RFC 7239; behind a malformed one nothing to its left can be told apart, so it hides that."""
    hops: list[_Hop] = []
    value = headers.get("forwarded", "")
    pairs: dict[str, str] = {}
    position = 0
    while position < len(value):
        match = _PAIR.match(value, position)
        if match is None or match[1].lower() in pairs:
            return []
        quoted, plain, separator = match[2], match[3], match[4]
        pairs[match[1].lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        position = match.end()
        if separator == ";":
            continue
        if not separator and position < len(value):
            return []
        hops.append((_node(pairs.get("for", "")), pairs.get("proto", "").lower(), pairs.get("host", "")))
        pairs = {}
    return hops


def _node(text: str) -> str:
    """Return the address in a node without its port; ``""`` for what is hidden or unknown."""
    match = _NODE.fullmatch(text)
    if match is not None:
        return match[1] or match[2]
    return text if text.count(":") > 1 else ""  # an IPv6 address without brackets, as X-Forwarded-For has it


def _list(value: str) -> list[str]:
    return elements_of(value) if value else []


@lru_cache(maxsize=1024)
def _ip(text: str) -> _Ip | None:
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip
