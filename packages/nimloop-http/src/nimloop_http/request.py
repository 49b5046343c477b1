"""A request, complete with its body. Everything that a handler may not look at is worked out only when it does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, final
from urllib.parse import parse_qsl, unquote

from nimloop_http._charset import decode
from nimloop_http._framing import Head
from nimloop_http._headers import Headers
from nimloop_http._upgrade import offers
from nimloop_net import Connection


@final
class Params(Mapping[str, str]):
    """The parsed query: names and values, decoded. ``params[name]`` is the first value of a name."""

    __slots__ = ("_values",)

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> str:
        return self._values[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get_all(self, name: str) -> list[str]:
        """Return all values of a name, in order; empty when there is none."""
        return list(self._values.get(name, ()))

    def __repr__(self) -> str:
        return f"Params({self._values!r})"


@final
class HttpRequest:
    """What the client asked for. Given to ``on_request(req, res)`` once the body has arrived."""

    __slots__ = ("_params", "_path", "body", "connection", "context", "head", "trailers")

    def __init__(self, head: Head, body: bytes, connection: Connection, trailers: Headers | None = None) -> None:
        self.head: Final = head
        self.body: Final = body
        """The body, chunked coding undone; empty when there is none."""
        self.trailers: Final = trailers
        """The trailer fields of a chunked body, or None."""
        self.connection: Final = connection
        self.context: object = None
        """For the application: whatever its layers have to tell each other about this request."""
        self._path: str | None = None
        self._params: Params | None = None

    @property
    def method(self) -> str:
        """``"GET"``, ``"POST"`` and so on."""
        return self.head.method

    @property
    def target(self) -> str:
        """The request target exactly as it was sent."""
        return self.head.target

    @property
    def http_version(self) -> str:
        """``"1.1"`` or ``"1.0"``."""
        return f"1.{self.head.minor}"

    @property
    def path(self) -> str:
        """The path, with percent-encoding undone once and read as UTF-8; ``"*"`` or ``""`` where there is none."""
        path = self._path
        if path is None:
            target = self.head.target
            path = target if target[0] == "/" else self.url
            if "?" in path:
                path = path[: path.index("?")]
            if "%" in path:
                path = unquote(path)
            self._path = path
        return path

    @property
    def query(self) -> str:
        """What follows the first ``?``, as it was sent."""
        return self.url.partition("?")[2]

    @property
    def raw_path(self) -> str:
        """The path as it was sent, without the query."""
        return self.url.partition("?")[0]

    @property
    def url(self) -> str:
        """Path and query as they were sent; of an absolute target, the part after the authority; of CONNECT nothing."""
        target = self.head.target
        if target.startswith("/") or target == "*":
            return target
        if self.head.method == "CONNECT":
            return ""
        rest = target.partition("://")[2]
        cut = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
        return rest[cut:] if rest[cut:].startswith("/") else "/" + rest[cut:]

    @property
    def params(self) -> Params:
        """The query, parsed: ``a=1&b=2``, with ``+`` for a space and percent-encoding undone."""
        if self._params is None:
            self._params = Params(parse_qsl(self.query, keep_blank_values=True))
        return self._params

    @property
    def headers(self) -> Headers:
        """The header fields: a case-insensitive multimap."""
        return self.head.headers

    @property
    def host(self) -> str:
        """Host and port the request is for, as the client named them."""
        return self.head.host

    @property
    def content_length(self) -> int | None:
        """The announced length of the body in bytes; None when it was chunked or there is none."""
        return self.head.content_length

    @property
    def content_type(self) -> str:
        """The media type of the body without its parameters, in lower case; ``""`` when not told."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def keep_alive(self) -> bool:
        """Whether the client lets the connection be used again."""
        return self.head.keep_alive

    @property
    def client_ip(self) -> str:
        """The address of the peer; ``""`` for a Unix socket."""
        peer = self.connection.peer
        return peer[0] if isinstance(peer, tuple) else ""

    @property
    def text(self) -> str:
        """The body as text, in the character set that Content-Type names, else UTF-8; U+FFFD for what does not fit."""
        for parameter in self.headers.get("content-type", "").split(";")[1:]:
            name, _, value = parameter.strip().partition("=")
            if name.lower() == "charset":
                return decode(self.body, value.strip('"'))
        return self.body.decode("utf-8", "replace")

    def wants_upgrade(self, protocol: str) -> bool:
        """Tell whether the client offers to change to `protocol`: see `HttpResponse.upgrade`."""
        return offers(self.head, protocol)

    def json(self) -> object:
        """Return the body read as JSON. Raises ValueError when it is not."""
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<HttpRequest {self.head.method} {self.head.target}>"
