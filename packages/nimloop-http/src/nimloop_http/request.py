"""A request. Everything that a handler may not look at is worked out only when it does."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, final
from urllib.parse import parse_qsl, unquote

from nimloop_http._bodystream import BodyStream, OnBodyData, OnBodyEnd, OnBodyError
from nimloop_http._charset import decode
from nimloop_http._framing import Head
from nimloop_http._headers import Headers
from nimloop_http._source import Source
from nimloop_http._upgrade import offers
from nimloop_http.errors import JsonError, NotAFormError
from nimloop_http.proxy import Client
from nimloop_net import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from nimloop_http._form import Form, Part
    from nimloop_http._incoming import BodySink, RequestBody
    from nimloop_http._spool import BodyFile
    from nimloop_http.forms import FormLimits, FormReader

__all__ = ["HttpRequest", "Params"]


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
    """What the client asked for. Given to ``on_headers(req, res)`` first, and to ``on_request`` with its body."""

    __slots__ = ("_body", "_client", "_form", "_params", "_path", "_source", "context", "head")

    def __init__(self, head: Head, source: Source, body: RequestBody | None = None) -> None:
        self.head: Final = head
        self._body = body
        self._form: Form | None = None
        self._source: Final = source
        self._client: Client | None = None
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
    def connection(self) -> Connection:
        """The connection that it came on."""
        return self._source.connection

    @property
    def client(self) -> Client:
        """Who asks, how, and for which host: as the connection says, or the proxies that are trusted."""
        if self._client is None:
            self._client = self._source.client(self.head)
        return self._client

    @property
    def scheme(self) -> str:
        """``"https"`` where the client came over TLS, else ``"http"``."""
        return self.client.scheme

    @property
    def host(self) -> str:
        """Host and port the request is for, as the client named them."""
        return self.head.host if self._source.proxies is None else self.client.host

    @property
    def content_length(self) -> int | None:
        """The announced length of the body in bytes; None when it was chunked or there is none."""
        return self.head.content_length

    @property
    def content_type(self) -> str:
        """The media type of the body without its parameters, in lower case; ``""`` when not told."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def body(self) -> bytes:
        """The body, chunked coding undone; empty when there is none. The same wherever it was kept.

        Raises `BodyNotReadyError` in ``on_headers``, and where it went to a sink or was taken as a stream; OSError when
        it cannot be read from its file.
        """
        return b"" if self._body is None else self._body.read()

    @property
    def body_view(self) -> memoryview:
        """The same as a view, for those who take it apart without copying."""
        return memoryview(self.body)

    @property
    def trailers(self) -> Headers | None:
        """The trailer fields of a chunked body, or None."""
        return None if self._body is None else self._body.trailers

    @property
    def header_bytes(self) -> int:
        """The size of the head, from the method to the empty line, in bytes."""
        return len(self.head.raw)

    @property
    def keep_alive(self) -> bool:
        """Whether the client lets the connection be used again."""
        return self.head.keep_alive

    @property
    def client_ip(self) -> str:
        """The address of the client; ``""`` for a Unix socket. Behind a proxy, see `TrustedProxies`."""
        return self._source.ip() if self._source.proxies is None else self.client.ip

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

    # Where the body goes: in on_headers ------------------------------------------------------------------------

    def limit_body(self, limit: int) -> None:
        """Let the body of this request have up to `limit` bytes instead of ``Limits.body``; 413 beyond.

        Raises ValueError for a negative number. Without a body nothing happens.
        """
        if limit < 0:
            raise ValueError(f"a limit is not negative: {limit}")
        if self._body is not None:
            self._body.limit = limit

    def receive_into(self, sink: BodySink) -> None:
        """Have each piece of the body go to a sink as it comes; ``on_request`` follows when it has everything.

        See `BodySink` for what a sink is. A request without a body calls nothing. Raises `BodyNotReadyError` anywhere
        but in ``on_headers``, and the second time.
        """
        if self._body is not None:
            self._body.choose(sink)

    @property
    def sink(self) -> BodySink | None:
        """The sink that was chosen, or None."""
        return None if self._body is None else self._body.sink

    def stream_to_file(self, directory: str | os.PathLike[str] | None = None) -> BodyFile | None:
        """Have the body in a private temporary file, which is removed with the request; None without a body.

        In ``on_headers`` that is where it goes as it comes, and it takes no memory. Later, a body that is in memory is
        written now. A second call returns the same file. `directory` is the system's for temporary files by default.
        Raises OSError, and `BodyNotReadyError` for a body that went elsewhere.
        """
        return None if self._body is None else self._body.to_file(directory)

    def receive_form(
        self,
        *,
        limits: FormLimits | None = None,
        directory: str | os.PathLike[str] | None = None,
        on_part: Callable[[Part], object] | None = None,
        on_progress: Callable[[FormReader], object] | None = None,
    ) -> FormReader | None:
        """Have multipart/form-data taken apart as it comes, files on disk, for `form` to find; in ``on_headers``.

        Returns the reader, or None for the other kind of form, which stays in memory, and without a body. See
        `FormReader` for the settings. Raises `NotAFormError` (415) for anything else, `FormError` (400) for one without
        a boundary, and `BodyNotReadyError` anywhere but in ``on_headers``. Remember `limit_body`.
        """
        from nimloop_http.forms import DEFAULT_FORM_LIMITS, URLENCODED, FormReader

        if self._body is None or self.content_type == URLENCODED:
            return None
        reader = FormReader(
            self.headers.get("content-type", ""),
            limits=limits or DEFAULT_FORM_LIMITS,
            directory=directory,
            on_part=on_part,
            on_progress=on_progress,
        )
        self.receive_into(reader)
        return reader

    def form(self, *, limits: FormLimits | None = None) -> Form:
        """Return the form that the body is: multipart/form-data or application/x-www-form-urlencoded.

        Wherever it was kept: in memory, or by `receive_form`, which has limits of its own. It lives as long as the
        request. Raises `NotAFormError` (415), `FormError` (400) or a `LimitError` (413, 431), each of which answers the
        request if nobody catches it; and `BodyNotReadyError` in ``on_headers``.
        """
        from nimloop_http.forms import DEFAULT_FORM_LIMITS, FormReader, parse_form

        if self._form is None:
            sink = self.sink
            if isinstance(sink, FormReader) and self._body is not None and self._body.complete:
                self._form = sink.form
            else:
                kind = self.headers.get("content-type", "")
                self._form = parse_form(
                    kind, self.body, limits=limits or DEFAULT_FORM_LIMITS, loop=self.connection.loop
                )
        return self._form

    def multipart(self, *, limits: FormLimits | None = None) -> Form:
        """Return the same as `form`, and raise `NotAFormError` (415) for anything but multipart/form-data."""
        if self.content_type != "multipart/form-data":
            raise NotAFormError(f"the body is {self.content_type or 'of no type'}, not multipart/form-data")
        return self.form(limits=limits)

    def body_stream(
        self, on_data: OnBodyData, on_end: OnBodyEnd | None = None, on_error: OnBodyError | None = None
    ) -> BodyStream:
        """Take the body piece by piece: in ``on_headers`` as it comes, later from where it is.

        In ``on_headers`` that makes the caller the one who answers: ``on_request`` is not called. The stream can be
        paused. Nothing is called before the loop runs on. Raises `BodyNotReadyError` for a body that went elsewhere.
        """
        stream = BodyStream(self.connection.loop, on_data, on_end, on_error)
        body = self._body
        if body is None or body.complete:
            stream.begin_with(body, self.body)
        else:
            body.choose(stream)
            body.taken = True
        return stream

    # What it holds ---------------------------------------------------------------------------------------------

    def json(self) -> object:
        """Return the body read as JSON. Raises `JsonError`, which answers 400 if nobody catches it, when it is not."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise JsonError(f"the body is not JSON: {error}") from None

    def __repr__(self) -> str:
        return f"<HttpRequest {self.head.method} {self.head.target}>"
