"""What a type checker says to a user of nimloop-http. Never run: `hatch run typing:check` reads it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_type

from nimloop_core import Loop
from nimloop_http import (
    Body,
    BodyFile,
    BodySink,
    BodyStream,
    ByteRange,
    Client,
    CorsPolicy,
    End,
    Form,
    FormLimits,
    FormReader,
    Head,
    Headers,
    HttpParser,
    HttpRequest,
    HttpResponse,
    HttpServer,
    Limits,
    OnRequest,
    Part,
    ProxyHeader,
    RateLimiter,
    RequestBody,
    ResponseHead,
    ResponseStream,
    ServerStats,
    StaticFiles,
    Timeouts,
    Trailers,
    TrustedProxies,
    WsgiBridge,
    content_disposition,
    find_crlf,
    metrics_handler,
    parse_form,
    parse_range,
    parse_ranges,
    read_proxy_header,
    serve,
    serve_file,
    serve_static,
    stream_file,
)
from nimloop_http.errors import ProtocolError


def on_request(req: HttpRequest, res: HttpResponse) -> None:
    """A router of one's own is a match statement."""
    match req.method, req.path:
        case "GET", "/":
            res.send("hello")
        case "POST", "/items":
            assert_type(res.status(201).header("Location", "/items/7"), HttpResponse).send_json({"id": 7})
        case "GET", "/old":
            res.redirect("/new", 301)
        case "GET", "/events":
            events(res)
        case _:
            res.send_error(404)


def request(req: HttpRequest) -> None:
    """Everything that a request says has a type."""
    assert_type(req.path, str)
    assert_type(req.query, str)
    assert_type(req.params.get_all("q"), list[str])
    assert_type(req.params.get("q"), str | None)
    assert_type(req.headers, Headers)
    assert_type(req.headers["Host"], str)
    assert_type(req.headers.get("cookie", ""), str)
    assert_type(req.headers.get_all("cookie"), list[str])
    assert_type(req.body, bytes)
    assert_type(req.text, str)
    assert_type(req.json(), object)
    assert_type(req.content_length, int | None)
    assert_type(req.client, Client)
    assert_type(req.client_ip, str)
    assert_type(req.trailers, Headers | None)
    assert_type(req.wants_upgrade("websocket"), bool)

    req.method = "PUT"  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]


def events(res: HttpResponse) -> None:
    """A streamed answer."""
    stream = assert_type(res.stream("text/event-stream"), ResponseStream)
    assert_type(stream.write("data: 1\n\n"), bool)
    stream.on_drain = lambda: None
    stream.on_close = lambda: None
    stream.end([("Digest", "none")])
    res.on_done = lambda done: assert_type(done, HttpResponse)

    res.send(12)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


class Counter:
    """A place for a body is one by its methods."""

    def __init__(self) -> None:
        self.size: int = 0
        self.flow: RequestBody | None = None

    def begin(self, flow: RequestBody) -> None:
        """Begin."""
        self.flow = flow

    def write(self, data: bytes) -> None:
        """Take a piece."""
        self.size += len(data)

    def end(self) -> None:
        """Nothing more comes."""

    def abort(self, error: Exception) -> None:
        """The rest never comes."""


def on_headers(req: HttpRequest, res: HttpResponse) -> None:
    """Where a body goes is chosen before it comes."""
    sink: BodySink = Counter()
    match req.path:
        case "/count":
            req.limit_body(1 << 30)
            req.receive_into(sink)
        case "/file":
            assert_type(req.stream_to_file(), BodyFile | None)
        case "/form":
            assert_type(
                req.receive_form(limits=FormLimits(files=3), on_part=lambda part: part.filename), FormReader | None
            )
        case "/stream":
            assert_type(req.body_stream(lambda data: assert_type(data, bytes), on_end=res.send), BodyStream)
        case _:
            res.send_error(413)


def forms(req: HttpRequest) -> None:
    """Fields and files by name."""
    form = assert_type(req.form(), Form)
    part = assert_type(form["photo"], Part)
    assert_type(part.filename, str | None)
    assert_type(part.data, bytes)
    part.save("photo", on_done=lambda error: assert_type(error, OSError | None))
    assert_type(form.get("title"), Part | None)
    assert_type(form.get_text("title"), str)
    assert_type(parse_form("application/x-www-form-urlencoded", b"a=1"), Form)


def server(loop: Loop, on_request: OnRequest) -> None:
    """All settings are by keyword."""
    server = HttpServer(
        loop,
        on_request,
        on_headers=on_headers,
        limits=Limits(body=50 << 20),
        timeouts=Timeouts(head=10, idle=5.0),
        proxies=TrustedProxies(["10.0.0.0/8"]),
    )
    assert_type(server.listen("0.0.0.0", 8000), list[tuple[str, int]])
    assert_type(server.stats, ServerStats)
    assert_type(server.stats.statuses, dict[int, int])
    server.shutdown(10.0, on_done=lambda aborted: assert_type(aborted, int))
    assert_type(metrics_handler(server)(HttpRequest.__new__(HttpRequest), HttpResponse.__new__(HttpResponse)), None)
    serve(on_request, port=8000)
    serve(lambda req, res: res.send(req.path))

    HttpServer(loop, on_request, on_headers)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    Limits(body="1 MB")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def helpers(req: HttpRequest, res: HttpResponse) -> None:
    """Files and policies answer by themselves or say whether to go on."""
    StaticFiles("public", listing=True).serve(req, res)
    serve_file(req, res, "file.txt", attachment=True)
    serve_static(req, res, "/static/", "public")
    stream_file(req, res, "file.bin")
    assert_type(CorsPolicy("*").check(req, res), bool)
    limiter = RateLimiter(100, 60.0)
    assert_type(limiter.allow("key"), bool)
    assert_type(limiter.check(req, res), bool)
    assert_type(parse_range("bytes=0-1", 10), ByteRange | None)
    assert_type(parse_ranges("bytes=0-1,4-", 10), list[ByteRange])
    assert_type(content_disposition("a.txt"), str)
    assert_type(read_proxy_header(b"PROXY "), ProxyHeader | None)
    assert_type(find_crlf(bytearray(b"a\r\n"), 0), int)


def parsing(data: bytes) -> None:
    """The parser alone: a type per event."""
    parser = HttpParser(Limits(headers=50))
    try:
        for event in parser.feed(data):
            match event:
                case Head():
                    assert_type(event.method, str)
                    assert_type(event.content_length, int | None)
                case ResponseHead():
                    assert_type(event.status, int)
                case Body():
                    assert_type(event.data, bytes)
                case Trailers():
                    assert_type(event.headers, Headers)
                case End():
                    break
    except ProtocolError as error:
        assert_type(error.status, int)
    assert_type(parser.remaining_data(), bytes)
    assert_type(HttpParser.for_responses(), HttpParser).request_sent("GET")


def application(environ: dict[str, object], start_response: object) -> Iterable[bytes]:
    """What calls itself a WSGI application is often typed loosely."""
    del environ, start_response
    return [b""]


def wsgi(bridge: WsgiBridge) -> OnRequest:
    """A bridge's method is a handler."""
    return bridge.serve
