"""What a head says about the message around it: how long the body is, and what becomes of the connection.

This is where requests are smuggled: two programs in a chain that disagree about where a message ends. So everything
that could be read in two ways is refused (RFC 9112 §6.3 and §11.2).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, final

from nimloop_http._grammar import (
    ABSOLUTE_FORM,
    AUTHORITY_FORM,
    CONTENT_LENGTH,
    DIGITS,
    HOST,
    TOKEN,
)
from nimloop_http._headers import Headers
from nimloop_http.errors import (
    BadRequestError,
    BodyTooLargeError,
    UnknownCodingError,
)
from nimloop_http.limits import Limits

# RFC 9110 §9.1, and PATCH from RFC 5789.
STANDARD_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})


# RFC 9110 §6.5.1: fields that are neither taken from trailers nor sent there, because they frame, route or
# authenticate the message, or say how to read its content.
NOT_IN_TRAILERS: Final = frozenset(
    {
        "authorization", "cache-control", "connection", "content-encoding", "content-length", "content-range",
        "content-type", "cookie", "expect", "host", "keep-alive", "max-forwards", "proxy-authorization",
        "proxy-connection", "range", "set-cookie", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip


@final
class Head:
    """The head of a request, checked. Header fields are taken apart when they are asked for."""

    __slots__ = (
        "_headers",
        "chunked",
        "content_length",
        "expect_continue",
        "has_body",
        "host",
        "keep_alive",
        "method",
        "minor",
        "raw",
        "target",
        "unknown_expectation",
        "upgrade",
    )

    def __init__(self, raw: bytes, method: str, target: str, minor: int) -> None:
        self.raw: Final = raw
        """All of it as it came."""
        self.method: Final = method
        self.target: Final = target
        self.minor: Final = minor
        """The minor version: 0 or 1."""
        self.host = ""
        """The authority that the request is for: from an absolute target, or else from Host."""
        self.content_length: int | None = None
        """Bytes of the body, or None when it is chunked or there is none."""
        self.chunked = False
        self.has_body = False
        """Whether a body follows the head, an empty one included."""
        self.keep_alive = minor == 1
        """Whether the client lets the connection be used again."""
        self.expect_continue = False
        """Whether the client waits for 100 Continue before it sends the body."""
        self.unknown_expectation = ""
        """What else the client expects of the server, which nobody can give: answer 417."""
        self.upgrade = ""
        """The protocols that the client would rather speak, as it listed them."""
        self._headers: Headers | None = None

    @property
    def text(self) -> str:
        """All of it, each byte as one character (ISO 8859-1)."""
        return self.raw.decode("latin-1")

    @property
    def headers(self) -> Headers:
        """The header fields: a case-insensitive multimap."""
        if self._headers is None:
            self._headers = Headers.from_head(self.text)
        return self._headers

    def __repr__(self) -> str:
        return f"<Head {self.method} {self.target} HTTP/1.{self.minor}>"


def apply_control_fields(head: Head, fields: list[tuple[str, str]], limits: Limits) -> None:
    """Read the fields that decide about framing and connection into `head`, checked against each other.

    Raises the `ProtocolError` that fits for everything that is missing, doubled, contradictory or unknown.
    """
    if len(fields) == 1 and len(fields[0][0]) == 4:
        _host(head, fields[0][1].rstrip(" \t"))  # only Host, as from most programs that are no browsers
        return
    host: str | None = None
    lengths: list[str] = []
    codings: list[str] = []
    options: list[str] = []
    for name, value in fields:
        match len(name):
            case 4:
                if host is not None:
                    raise BadRequestError("there is more than one Host field")
                host = value.rstrip(" \t")
            case 6:
                _expect(head, value)
            case 7:
                if head.minor == 1:  # RFC 9110 §7.8: one from an HTTP/1.0 client must be ignored
                    protocols = value.rstrip(" \t")
                    head.upgrade = f"{head.upgrade}, {protocols}" if head.upgrade else protocols
            case 10:
                options += _tokens(value.lower())
            case 14:
                lengths.append(value)
            case _:
                codings.append(value)
    _host(head, host)
    if options:
        _connection(head, options)
    if codings:
        _transfer_encoding(head, codings, with_length=bool(lengths))
    elif lengths:
        _content_length(head, lengths, limits)


def check_target(method: str, target: str, head: Head) -> None:
    """Check that a target has a form that the method allows (RFC 9112 §3.2)."""
    if method == "CONNECT":
        authority = AUTHORITY_FORM.fullmatch(target)
        # RFC 9110 §9.3.6: an empty or invalid port must be refused.
        if authority is not None and int(authority.group(1)) <= 65535:
            return
    elif target.startswith("/"):
        return  # the origin form
    elif target == "*":
        if method == "OPTIONS":
            return
    else:
        absolute = ABSOLUTE_FORM.fullmatch(target)
        if absolute is not None:
            # §3.2.2: the authority of the target counts, whatever Host says.
            head.host = absolute.group(1)
            return
    raise BadRequestError(f"the request target does not suit the method {method}: {target[:60]!r}")


def _host(head: Head, host: str | None) -> None:
    if host is None:
        if head.minor == 1:
            raise BadRequestError("an HTTP/1.1 request needs a Host field")
        return
    if not head.host:
        head.host = _checked_host(host)
    else:
        _checked_host(host)


@lru_cache(maxsize=256)  # a server hears few names, and each of them with every request
def _checked_host(host: str) -> str:
    if HOST.fullmatch(host) is None:
        raise BadRequestError(f"the Host field is not a host with an optional port: {host[:60]!r}")
    return host


def _connection(head: Head, options: list[str]) -> None:
    # RFC 9112 §9.3: close wins; without it HTTP/1.1 persists, HTTP/1.0 only when asked to.
    if "close" in options:
        head.keep_alive = False
    elif "keep-alive" in options:
        head.keep_alive = True


def _expect(head: Head, value: str) -> None:
    if value.rstrip(" \t").lower() != "100-continue":
        head.unknown_expectation = value.rstrip(" \t") or "nothing"
        return
    # RFC 9110 §10.1.1: one from an HTTP/1.0 client must be ignored.
    head.expect_continue = head.minor == 1


def _transfer_encoding(head: Head, values: list[str], *, with_length: bool) -> None:
    if head.minor == 0:
        raise BadRequestError("HTTP/1.0 has no Transfer-Encoding")
    if with_length:
        raise BadRequestError("Transfer-Encoding and Content-Length contradict each other")
    # RFC 9110 §5.6.1 would have empty elements ignored; but not everybody does, and nobody needs them here.
    codings = [coding for value in values for coding in _elements(value.lower())]
    if not all(map(TOKEN.fullmatch, codings)):
        raise BadRequestError(f"Transfer-Encoding is not a list of tokens: {', '.join(values)[:60]!r}")
    # RFC 9112 §6.1 and §6.3: chunked is applied once, last, or the end of the request cannot be known.
    if codings[-1] != "chunked" or codings.count("chunked") != 1:
        raise BadRequestError("the last transfer coding of a request must be chunked, once")
    if len(codings) > 1:
        raise UnknownCodingError(f"unknown transfer coding: {codings[0][:60]!r}")
    head.chunked = head.has_body = True


def _content_length(head: Head, values: list[str], limits: Limits) -> None:
    # A dictionary keeps the order, so that of several faults the first is told.
    numbers = dict.fromkeys(number for value in values for number in _elements(value))
    for number in numbers:
        if CONTENT_LENGTH.fullmatch(number) is None:
            if DIGITS.fullmatch(number):
                raise BodyTooLargeError(f"the body is announced with more than {limits.body} bytes")
            raise BadRequestError(f"Content-Length is not a number: {number[:60]!r}")
    if len(numbers) != 1:
        raise BadRequestError("the values of Content-Length differ")
    length = int(next(iter(numbers)))
    if length > limits.body:
        raise BodyTooLargeError(f"the body is announced with {length} bytes; the limit is {limits.body}")
    head.content_length = length
    head.has_body = True


def _tokens(value: str) -> list[str]:
    """Take a list of tokens apart; raises `BadRequestError` for an element that is not one."""
    elements = [element for element in _elements(value) if element]
    for element in elements:
        if TOKEN.fullmatch(element) is None:
            raise BadRequestError(f"not a list of tokens: {value[:60]!r}")
    return elements


def _elements(value: str) -> list[str]:
    """Take a list apart at its commas (RFC 9110 §5.6.1); where nothing stands between them, an element is empty."""
    return [element.strip(" \t") for element in value.split(",")]
