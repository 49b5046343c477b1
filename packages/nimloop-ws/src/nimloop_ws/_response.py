"""The client's half of the handshake: from the server's first bytes to a WebSocket, or the reason why there is none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, final

from nimloop_http import Headers
from nimloop_ws.deflate import Deflate, accept_answer
from nimloop_ws.errors import BadResponseError, HandshakeRefusedError
from nimloop_ws.handshake import Accepted, compute_accept_key

_MAX_HEAD: Final = 16384
_MAX_BODY: Final = 65536  # of a refusal; more is nothing that a program would look at

_FIELD: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+\r\n"
_HEAD: Final = re.compile(
    rb"HTTP/1\.1 ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*+))?\r\n((?:" + _FIELD + rb")*+)\r\n"
)
_LENGTH: Final = re.compile(r"[0-9]{1,9}")


@final
class ResponseReader:
    """Reads the answer to an opening handshake."""

    __slots__ = ("_buffer", "_compression", "_key", "_refusal", "_refusal_left", "_subprotocols")

    def __init__(self, key: str, *, subprotocols: Sequence[str] = (), compression: Deflate | None = None) -> None:
        self._key: Final = key
        self._subprotocols: Final = subprotocols
        self._compression: Final = compression
        self._buffer = bytearray()
        self._refusal: tuple[int, str, Headers] | None = None
        self._refusal_left = 0

    def feed(self, data: bytes) -> tuple[Accepted, bytes] | None:
        """Add bytes; return what was agreed on, and the bytes behind the head, once it is complete.

        Raises `BadResponseError`, and `HandshakeRefusedError` once the body of the refusal is complete too.
        """
        self._buffer += data
        if self._refusal is None:
            answer = self._read_head()
            if answer is not None or self._refusal is None:
                return answer
        if len(self._buffer) >= self._refusal_left:
            raise self._refused()
        return None

    def end(self) -> Exception:
        """Return what it means that the connection has ended."""
        if self._refusal is not None:
            return self._refused()
        return BadResponseError("the server ended the connection before it had answered")

    def _refused(self) -> HandshakeRefusedError:
        assert self._refusal is not None
        status, reason, headers = self._refusal
        fields = {name: headers[name] for name in headers}
        return HandshakeRefusedError(status, reason, fields, bytes(self._buffer[: self._refusal_left]))

    def _read_head(self) -> tuple[Accepted, bytes] | None:
        while True:
            head = self._take_head()
            if head is None:
                return None
            status, _, headers = head
            if status == 101:
                return self._check(headers), bytes(self._buffer)
            if status >= 200:  # RFC 9110 §15.2: others may come before the answer
                break
        self._refusal = head
        length = headers.get("content-length", "")
        if _LENGTH.fullmatch(length):
            self._refusal_left = min(int(length), _MAX_BODY)
        elif "transfer-encoding" not in headers and status not in {204, 304}:
            self._refusal_left = _MAX_BODY  # until the connection ends
        return None

    def _take_head(self) -> tuple[int, str, Headers] | None:
        """Take status, reason and fields out of the buffer, once all of them are there."""
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(buffer) > _MAX_HEAD:
                raise BadResponseError(f"the head of the server's answer has more than {_MAX_HEAD} bytes")
            if not b"HTTP/1.1 ".startswith(buffer[:9]):
                raise BadResponseError(f"this is not a server of HTTP/1.1: {bytes(buffer[:40])!r}")
            return None
        head = _HEAD.fullmatch(buffer[: end + 4])
        if head is None or end > _MAX_HEAD:
            raise BadResponseError(f"the head of the server's answer is malformed: {bytes(buffer[:60])!r}")
        del buffer[: end + 4]
        headers = Headers.from_head("\r\n" + head.group(3).decode("latin-1"))
        return int(head.group(1)), (head.group(2) or b"").decode("latin-1"), headers

    def _check(self, headers: Headers) -> Accepted:
        """RFC 6455 §4.1: what the client must check."""
        if headers.get("upgrade", "").lower() != "websocket":
            raise BadResponseError("the server changes to something else than a WebSocket")
        if "upgrade" not in [option.strip() for option in headers.get("connection", "").lower().split(",")]:
            raise BadResponseError("the server's answer lacks the connection option Upgrade")
        if headers.get("sec-websocket-accept", "") != compute_accept_key(self._key):
            raise BadResponseError("the server's Sec-WebSocket-Accept does not answer our key")
        subprotocol = headers.get("sec-websocket-protocol")
        if subprotocol is not None and subprotocol not in self._subprotocols:
            raise BadResponseError(f"the server chose a subprotocol that was not offered: {subprotocol[:60]!r}")
        extensions = headers.get("sec-websocket-extensions", "")
        return Accepted(self._key, subprotocol, extensions, accept_answer(extensions, self._compression))
