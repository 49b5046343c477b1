"""The heads of messages, checked. What a program may not ask for is taken apart only when it does."""

from __future__ import annotations

from typing import Final, final

from nimloop_http._headers import Headers
from nimloop_http._mypyc import mypyc_attr
from nimloop_http._scan_py import CHUNKED, EXPECTS, KEEP_ALIVE


# One per request, and nothing leads back to it: it is not the collector's business, and its memory serves the next one.
# None of its attributes runs code of others when it is let go, which is what makes that safe.
@mypyc_attr(acyclic=True, free_list_len=1)
@final
class Head:
    """The head of a request. `flags`, `length` and `offsets` are what the scanner has found."""

    __slots__ = (
        "_headers",
        "_host",
        "content_length",
        "flags",
        "has_body",
        "keep_alive",
        "method",
        "minor",
        "offsets",
        "raw",
        "target",
        "unknown_expectation",
        "upgrade",
    )

    def __init__(  # noqa: PLR0917 - made by the parser only, and in the cheapest way
        self, raw: bytes, method: str, target: str, flags: int, length: int = -1, offsets: bytes | None = None
    ) -> None:
        self.raw: Final = raw
        """All of it as it came, with the empty line."""
        self.method: Final[str] = method
        """As it was sent: methods are told apart by case."""
        self.target: Final[str] = target
        """As it was sent: a path and perhaps a query, or one of the other forms of RFC 9112 §3.2."""
        self.flags: int = flags
        self.offsets: Final[bytes | None] = offsets
        """Where the fields are in `raw`, or None: for each, four unsigned 32-bit numbers of this machine, which are the
        beginning and end of its name, and those of its value."""
        self.minor: Final = flags & 1
        """The minor version: 0 or 1."""
        self.keep_alive: bool = flags & KEEP_ALIVE != 0
        """Whether the client lets the connection be used again."""
        self.content_length: int | None = None
        """Bytes of the body, or None when it is chunked or there is none."""
        if length >= 0:
            self.content_length = length
            self.has_body: bool = True
            """Whether a body follows the head, an empty one included."""
        else:
            self.has_body = flags & CHUNKED != 0
        self.upgrade: str = ""
        """The protocols that the client would rather speak, as it listed them."""
        self.unknown_expectation: str = ""
        """What else than 100 Continue the client expects, which nobody can give it: to be answered with 417."""
        self._host: str | None = None
        self._headers: Headers | None = None

    @property
    def host(self) -> str:
        """The authority that the request is for: from an absolute target, or else from Host."""
        host = self._host
        if host is None:
            host = self._host = self.headers.get("host", "")
        return host

    @host.setter
    def host(self, host: str) -> None:
        self._host = host

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return self.flags & CHUNKED != 0

    @property
    def expect_continue(self) -> bool:
        """Whether the client waits for 100 Continue before it sends the body."""
        return self.flags & EXPECTS != 0

    @property
    def headers(self) -> Headers:
        """The header fields: a case-insensitive multimap."""
        if self._headers is None:
            self._headers = Headers.from_head(self.raw, self.offsets)
        return self._headers

    @property
    def text(self) -> str:
        """All of it, as text in which each character stands for one byte."""
        return self.raw.decode("latin-1")

    def __repr__(self) -> str:
        return f"<Head {self.method} {self.target} HTTP/1.{self.minor}>"


@final
class ResponseHead:
    """The head of a response."""

    __slots__ = (
        "_headers",
        "chunked",
        "content_length",
        "has_body",
        "keep_alive",
        "minor",
        "raw",
        "reason",
        "status",
        "switches",
        "upgrade",
    )

    def __init__(self, raw: bytes, minor: int, status: int, reason: str) -> None:
        self.raw: Final = raw
        """All of it as it came, with the empty line."""
        self.minor: Final = minor
        """The minor version: 0 or 1."""
        self.status: Final[int] = status
        """The status code, from 100 to 999; one that is not known means the same as x00 (RFC 9110 §15)."""
        self.reason: Final[str] = reason
        """Words for people, perhaps none: text in which each character stands for one byte."""
        self.content_length: int | None = None
        """The announced length in bytes, or None; of an answer to HEAD and of 304, that of the body left out."""
        self.chunked: bool = False
        """Whether the body comes in chunks."""
        self.has_body: bool = False
        """Whether a body follows the head, an empty one included."""
        self.keep_alive: bool = minor == 1
        """Whether the connection can be used again after this message."""
        self.upgrade: str = ""
        """The protocols that the server names: what 101 switches to, what 426 wants."""
        self.switches: bool = False
        """Whether everything behind the head is another protocol: after 101, and after 2xx to CONNECT."""
        self._headers: Headers | None = None

    @property
    def interim(self) -> bool:
        """Whether it is a 1xx before the answer itself; no `End` follows it."""
        return 100 <= self.status < 200 and not self.switches

    @property
    def headers(self) -> Headers:
        """The header fields: a case-insensitive multimap."""
        if self._headers is None:
            self._headers = Headers.from_head(self.raw)
        return self._headers

    def __repr__(self) -> str:
        return f"<ResponseHead HTTP/1.{self.minor} {self.status} {self.reason}>"
