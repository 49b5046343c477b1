"""What a head says about the message around it: how long the body is, and what becomes of the connection.

This is where requests are smuggled: two programs in a chain that disagree about where a message ends. So everything
that could be read in two ways is refused (RFC 9112 §6.3 and §11.2).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from nimloop_http._grammar import (
    ABSOLUTE_FORM,
    AUTHORITY_FORM,
    CONTENT_LENGTH,
    CONTROL_FIELDS,
    DIGITS,
    HOST,
    TOKEN,
)
from nimloop_http._head import Head as Head
from nimloop_http._head import ResponseHead
from nimloop_http._scan_py import CHUNKED, EXPECTS
from nimloop_http.errors import (
    BadRequestError,
    BodyTooLargeError,
    UnknownCodingError,
)
from nimloop_http.limits import Limits

# RFC 9110 §9.1, and PATCH from RFC 5789.
STANDARD_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
"""The methods that a server knows unless told otherwise: those of RFC 9110 §9, and PATCH (RFC 5789)."""


# RFC 9110 §6.5.1: fields that are neither taken from trailers nor sent there, because they frame, route or
# authenticate the message, or say how to read its content.
NOT_IN_TRAILERS: Final = frozenset(
    {
        "authorization", "cache-control", "connection", "content-encoding", "content-length", "content-range",
        "content-type", "cookie", "expect", "host", "keep-alive", "max-forwards", "proxy-authorization",
        "proxy-connection", "range", "set-cookie", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip


Fields = list[tuple[str, str]]


def control_fields(head: bytes) -> Fields:
    """Return the fields that decide about framing and connection, of a head that is well-formed."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in CONTROL_FIELDS.findall(head)]


def apply_control_fields(head: Head, fields: Fields, limits: Limits) -> None:
    """Read the fields that decide about framing and connection into `head`, checked against each other.

    Raises the `ProtocolError` that fits for everything that is missing, doubled, contradictory or unknown.
    """
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
                    head.upgrade = _joined(head.upgrade, value)
            case 10:
                options += _tokens(value.lower())
            case 14:
                lengths.append(value)
            case _:
                codings.append(value)
    _host(head, host)
    head.keep_alive = _persists(head.minor, options)
    if codings:
        _transfer_encoding(head.minor, codings, with_length=bool(lengths))
        head.flags |= CHUNKED
        head.has_body = True
    elif lengths:
        head.content_length = _content_length(lengths, limits)
        head.has_body = True


def apply_response_fields(head: ResponseHead, method: str, fields: Fields, limits: Limits) -> None:
    """Read the same fields into the head of a response to `method`, after the list of RFC 9112 §6.3.

    Where there is neither a coding nor a length, and a body may be, it lasts until the end of the connection: then
    `has_body` is true, `chunked` false and `content_length` None.
    """
    lengths: list[str] = []
    codings: list[str] = []
    options: list[str] = []
    for name, value in fields:
        match len(name):
            case 7:
                head.upgrade = _joined(head.upgrade, value)
            case 10:
                options += _tokens(value.lower())
            case 14:
                lengths.append(value)
            case 17:
                codings.append(value)
    status = head.status
    head.keep_alive = _persists(head.minor, options)
    head.switches = status == 101 or (method == "CONNECT" and 200 <= status < 300)
    if head.switches:
        return  # RFC 9110 §9.3.6: a length or a coding there is to be ignored
    bodyless = status < 200 or status == 204 or status == 304 or method == "HEAD"
    if codings:
        # RFC 9112 §6.1: a server must not send it there; whoever believes it finds a body where others find none.
        if status < 200 or status == 204:
            raise BadRequestError(f"Transfer-Encoding in a response of status {status}, which has no body")
        _transfer_encoding(head.minor, codings, with_length=bool(lengths))
        head.chunked = True
    elif lengths:
        head.content_length = _content_length(lengths, None if bodyless else limits)
    head.has_body = not bodyless
    if head.has_body and not head.chunked and head.content_length is None:
        head.keep_alive = False


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
    _checked_host(host)
    if not head.host:
        head.host = host


@lru_cache(maxsize=256)  # a server hears few names, and each of them with every request
def _checked_host(host: str) -> str:
    if HOST.fullmatch(host) is None:
        raise BadRequestError(f"the Host field is not a host with an optional port: {host[:60]!r}")
    return host


def _joined(protocols: str, more: str) -> str:
    more = more.rstrip(" \t")
    return f"{protocols}, {more}" if protocols else more


def _persists(minor: int, options: list[str]) -> bool:
    # RFC 9112 §9.3: close wins; without it HTTP/1.1 persists, HTTP/1.0 only when asked to.
    return "close" not in options and (minor == 1 or "keep-alive" in options)


def _expect(head: Head, value: str) -> None:
    if value.rstrip(" \t").lower() != "100-continue":
        head.unknown_expectation = value.rstrip(" \t") or "nothing"
    elif head.minor == 1:  # RFC 9110 §10.1.1: one from an HTTP/1.0 client must be ignored
        head.flags |= EXPECTS


def _transfer_encoding(minor: int, values: list[str], *, with_length: bool) -> None:
    """Check that the body is chunked, and nothing else."""
    if minor == 0:
        raise BadRequestError("HTTP/1.0 has no Transfer-Encoding")
    if with_length:
        raise BadRequestError("Transfer-Encoding and Content-Length contradict each other")
    # RFC 9110 §5.6.1 would have empty elements ignored; but not everybody does, and nobody needs them here.
    codings = [coding for value in values for coding in elements_of(value.lower())]
    if not all(map(TOKEN.fullmatch, codings)):
        raise BadRequestError(f"Transfer-Encoding is not a list of tokens: {', '.join(values)[:60]!r}")
    # RFC 9112 §6.1 and §6.3: chunked is applied once, last, or the end of a request cannot be known.
    if codings[-1] != "chunked" or codings.count("chunked") != 1:
        raise BadRequestError("the last transfer coding must be chunked, once")
    if len(codings) > 1:
        raise UnknownCodingError(f"unknown transfer coding: {codings[0][:60]!r}")


def _content_length(values: list[str], limits: Limits | None) -> int:
    """Return the one length that is told; without limits no body comes with it, and it may be any."""
    # A dictionary keeps the order, so that of several faults the first is told.
    numbers = dict.fromkeys(number for value in values for number in elements_of(value))
    for number in numbers:
        if CONTENT_LENGTH.fullmatch(number) is None:
            if DIGITS.fullmatch(number):
                raise BodyTooLargeError("the body is announced with more bytes than 63 bits can count")
            raise BadRequestError(f"Content-Length is not a number: {number[:60]!r}")
    if len(numbers) != 1:
        raise BadRequestError("the values of Content-Length differ")
    length = int(next(iter(numbers)))
    if limits is not None:
        check_length(length, limits.body)
    return length


def check_length(length: int, most: int) -> None:
    """Raise `BodyTooLargeError` for a length that is too much."""
    if length > most:
        raise BodyTooLargeError(f"the body is announced with {length} bytes; the limit is {most}")


def _tokens(value: str) -> list[str]:
    """Take a list of tokens apart; raises `BadRequestError` for an element that is not one."""
    elements = [element for element in elements_of(value) if element]
    for element in elements:
        if TOKEN.fullmatch(element) is None:
            raise BadRequestError(f"not a list of tokens: {value[:60]!r}")
    return elements


def elements_of(value: str) -> list[str]:
    """Take a list apart at its commas (RFC 9110 §5.6.1); where nothing stands between them, an element is empty."""
    return [element.strip(" \t") for element in value.split(",")]
