"""Reads the heads of messages, and tells early what cannot become one.

A request's head that is complete is one call of the scanner. What that does not take is looked at here: it is not
complete yet, or malformed, and then the peer is to learn why. However slowly bytes come, none is searched twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from nimloop_http._bodies import BodyReader
from nimloop_http._diagnose import begins_a_response, diagnose, diagnose_response
from nimloop_http._events import Event
from nimloop_http._framing import (
    apply_control_fields,
    apply_response_fields,
    check_length,
    check_target,
    control_fields,
)
from nimloop_http._grammar import BARE_LINE_END, RESPONSE_HEAD, TOKEN_BYTES
from nimloop_http._head import Head, ResponseHead
from nimloop_http._parser_state import CHUNKS, FIXED, HEAD, MESSAGE_END, SWITCHED, UNTIL_END
from nimloop_http._scan_py import CAREFUL, CHUNKED
from nimloop_http._scanner import scan_request
from nimloop_http.errors import (
    BadRequestError,
    MisdirectedError,
    ProtocolError,
    UnknownExpectationError,
    UnknownMethodError,
)
from nimloop_http.limits import Limits


class HeadReader(BodyReader):
    """Reads that state in which a head is awaited, of a request or of a response."""

    __slots__ = (
        "_after_head",
        "_blank_line",
        "_bounds",
        "_expectations",
        "_line",
        "_most_bytes",
        "_most_line",
        "_requests",
        "_scan",
        "_secure",
        "is_head",
        "methods",
    )

    def __init__(
        self,
        limits: Limits,
        *,
        methods: frozenset[str] | None,
        empty_ends: bool,
        expectations: bool,
        secure: bool,
    ) -> None:
        super().__init__(limits)
        self.methods: Final = methods
        self._expectations: Final = expectations
        self._secure: Final = secure
        self._after_head: Final = MESSAGE_END if empty_ends else HEAD
        self._most_line: Final = limits.request_line
        self._most_bytes: Final = limits.header_bytes
        # Of any length for mypyc, so that it is not taken apart and made anew for each request.
        self._bounds: Final[tuple[int, ...]] = (limits.request_line, limits.header_bytes, limits.headers)
        self._scan: Final = scan_request
        self._line = -1  # length of the first line of an incomplete head, once that is known
        self._blank_line = False  # the one empty line before a request was skipped
        self.is_head: bool = False  # of a request that is not plain, or not complete: no answer to it has a body
        self._requests: list[str] | None = None  # methods of the requests whose answers are awaited

    def _read_request(self) -> Event | None:
        data = self._data
        start = self._position
        if self._searched > start:  # it was not complete before, and scanning it again and again would cost much
            return self._read_late_request()
        scan = self._scan(data, start, self._bounds)
        if scan is None:
            return self._read_late_request()
        raw, method, target, flags, length, offsets = scan
        self._position = start + len(raw)
        if self.methods is not None and method not in self.methods:
            raise UnknownMethodError(f"the method {method[:30]!r} is not implemented")
        head = Head(raw, method, target, flags, length, offsets)
        self._blank_line = False
        if flags & CAREFUL:
            self._look_closely(head)
        if not head.has_body:
            self._state = self._after_head
        elif head.flags & CHUNKED:
            self._size = 0
            self._left = -1
            self._state = CHUNKS
        else:
            self._left = length = head.content_length or 0
            check_length(length, self._most_body)
            self._state = FIXED if length else MESSAGE_END
        return head

    def _look_closely(self, head: Head) -> None:
        """The head is well-formed, and says something in an uncommon way, or something that it must not say."""
        self.is_head = head.method == "HEAD"
        if head.target[0] != "/" or head.method == "CONNECT":
            check_target(head.method, head.target, head)
            if not self._secure and head.target[:6].lower() == "https:":
                # RFC 9110 §7.4: an origin server must refuse it; an attacker in between could have read it.
                raise MisdirectedError("a resource of https is not served over a connection that is not secured")
        apply_control_fields(head, control_fields(head.raw), self.limits)
        if head.unknown_expectation and self._expectations:
            raise UnknownExpectationError(f"unknown expectation: {head.unknown_expectation[:60]!r}")

    def _read_late_request(self) -> Event | None:
        """Read a head that is not complete, or was not before, or is malformed."""
        data = self._data
        start = self._position
        if data[start] == 0x0D and not self._blank_line:
            # RFC 9112 §2.2: ignore one empty line before a request; old clients send it after a body.
            if start + 1 == len(data):
                return None
            if data[start + 1] == 0x0A:
                self._blank_line = True
                self._position = start + 2
                return None if start + 2 == len(data) else self._read_request()
        before = self._searched
        if before < start + 5:
            self.is_head = data[start : start + 5] == b"HEAD "
        end = self._find_head_end()
        if end < 0:
            if data[start] in TOKEN_BYTES:
                self._check_beginning(before, diagnose)
                return None
            end = len(data)
        elif before > start:
            self._searched = start
            return self._read_request()  # complete now; if that is not good either, it leads here once more
        self._position = self._searched = end
        raise diagnose(bytes(data[start:end]), self.limits) or BadRequestError("malformed request")

    def _find_head_end(self) -> int:
        """Return the place behind the empty line, or −1; no byte is searched twice."""
        start = self._position
        searched = self._searched - 3
        found = self._data.find(b"\r\n\r\n", searched if searched > start else start)
        return found + 4 if found >= 0 else -1

    def _check_beginning(self, before: int, diagnose: Callable[[bytes, Limits], ProtocolError | None]) -> None:
        """Raise early what is wrong with an incomplete head; each byte is searched once, however slowly they come.

        A first line that is complete is looked at by itself: what speaks another protocol, or HTTP/0.9, may never send
        an empty line.
        """
        data = self._data
        start = self._position
        searched = max(start, before - 1)
        error: ProtocolError | None = None
        if before <= start:
            self._line = -1
        if self._line < 0:
            line_end = data.find(b"\r\n", searched)
            if line_end >= 0:
                self._line = line_end - start
                error = diagnose(bytes(data[start : line_end + 2]), self.limits)
        self._searched = len(data)
        size = len(data) - start
        if error is None and (
            BARE_LINE_END.search(data, searched) is not None
            or (size if self._line < 0 else self._line) > self._most_line
            or (self._line >= 0 and size - self._line - 2 > self._most_bytes)
        ):
            error = diagnose(bytes(data[start:]), self.limits)
        if error is not None:
            raise error

    def _read_response(self) -> Event | None:
        data = self._data
        start = self._position
        before = self._searched
        end = self._find_head_end()
        if end < 0:
            if not begins_a_response(data[start : start + 5]):
                raise diagnose_response(bytes(data[start:]), self.limits) or BadRequestError("malformed response")
            self._check_beginning(before, diagnose_response)
            return None
        raw = bytes(data[start:end])
        match = RESPONSE_HEAD.fullmatch(raw)
        error = diagnose_response(raw, self.limits)
        if match is None or error is not None:
            raise error or BadRequestError("malformed response")
        self._position = self._searched = end
        minor, status, reason = match.groups()
        head = ResponseHead(raw, int(minor), int(status), (reason or b"").decode("latin-1"))
        apply_response_fields(head, self._requests[0] if self._requests else "GET", control_fields(raw), self.limits)
        if head.interim:
            return head
        if self._requests:
            del self._requests[0]
        self._size = 0
        if head.switches:
            self._state = SWITCHED
        elif not head.has_body:
            self._state = MESSAGE_END
        elif head.chunked:
            self._left = -1
            self._state = CHUNKS
        elif head.content_length is None:
            self._state = UNTIL_END
        else:
            self._left = head.content_length
            self._state = FIXED if self._left else MESSAGE_END
        return head
