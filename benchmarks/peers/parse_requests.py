"""Reading requests with one parser, measured in this process.

Each message comes in one piece, as it does from a socket, and is read to its end; method, target, whether the
connection goes on, and the size of the body are wanted of it. "Message" wants no field: nimloop then takes none apart,
and httptools is given no callback for them, so that it could not tell one later. "With fields" wants all of them, as
text. "Head alone" is the scan of a head, without the parser's states around it. Each field can be asked for after it:
it is to be compared with httptools "with fields".
"""

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from _peer import need, parser, say_build, say_compiled, say_result, skip

_SECONDS: Final = 0.5
_QUICK_SECONDS: Final = 0.02
_BATCH: Final = 200


# What is wanted of a message: method, target, whether the connection goes on, bytes of the body, number of fields.
Reading = tuple[str, str, bool, int, int]
Read = Callable[[bytes, bool], Reading]

_HOST: Final = b"Host: 127.0.0.1:8000\r\n"
_BROWSER: Final = (
    b"GET /articles/2024/05/a-page-with-a-name.html?utm_source=newsletter&page=2 HTTP/1.1\r\n"
    b"Host: www.example.com\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:125.0) Gecko/20100101 Firefox/125.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    b"Accept-Language: de-CH,de;q=0.8,en-US;q=0.5,en;q=0.3\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Referer: https://www.example.com/articles/\r\n"
    b"Connection: keep-alive\r\n"
    b"Upgrade-Insecure-Requests: 1\r\n"
    b"Sec-Fetch-Dest: document\r\n"
    b"Sec-Fetch-Mode: navigate\r\n"
    b"Sec-Fetch-Site: same-origin\r\n"
    b"Sec-Fetch-User: ?1\r\n"
)
_CHUNKS: Final = b"".join(b"1000\r\n" + b"x" * 4096 + b"\r\n" for _ in range(16)) + b"0\r\n\r\n"
MESSAGES: Final = {
    "small": b"GET /hello HTTP/1.1\r\n" + _HOST + b"User-Agent: bench/1.0\r\n\r\n",
    "browser": _BROWSER + b"\r\n",
    "cookies": _BROWSER + b"Cookie: " + b"; ".join(b"name%d=%s" % (n, b"v" * 60) for n in range(30)) + b"\r\n\r\n",
    "length": b"POST /items HTTP/1.1\r\n" + _HOST + b"Content-Type: a/b\r\nContent-Length: 1024\r\n\r\n" + b"x" * 1024,
    "chunked": b"PUT /files/1 HTTP/1.1\r\n" + _HOST + b"Transfer-Encoding: chunked\r\n\r\n" + _CHUNKS,
}
WANTED: Final = {
    "small": ("GET", "/hello", True, 0, 2),
    "browser": ("GET", _BROWSER.split()[1].decode(), True, 0, 12),
    "cookies": ("GET", _BROWSER.split()[1].decode(), True, 0, 13),
    "length": ("POST", "/items", True, 1024, 3),
    "chunked": ("PUT", "/files/1", True, 65536, 2),
}


def of_nimloop() -> tuple[Read, Callable[[bytes], Callable[[], object]]]:
    """This project's parser, as its server uses it."""
    try:
        import nimloop_http  # noqa: PLC0415 - after the environment was set
        from nimloop_http import Body, End, Head, HttpParser, Limits, _scanner  # noqa: PLC0415
    except ImportError as missing:
        skip(missing)
    say_build(nimloop_http)
    say_compiled()
    print(f"build scanner: {_scanner.IMPLEMENTATION}", flush=True)
    reader = HttpParser(Limits(), methods=None, empty_ends=False, expectations=False)
    push, next_event, scan = reader.push, reader.next_event, _scanner.scan_request
    bounds = (8192, 8192, 100)

    def read(data: bytes, fields: bool) -> Reading:  # noqa: FBT001
        push(data)
        head = next_event()
        assert isinstance(head, Head)
        size = 0
        if head.has_body:
            while not isinstance(event := next_event(), End):
                assert isinstance(event, Body)
                size += len(event.data)
        return (head.method, head.target, head.keep_alive, size, len(head.headers.fields()) if fields else 0)

    return read, lambda data: partial(scan, data, 0, bounds)


class _Collector:
    """Takes down what httptools calls out."""

    def __init__(self) -> None:
        self.fields: list[tuple[str, str]] = []
        self.url = b""
        self.size = 0
        self.begun = False
        self.complete = False

    def on_url(self, url: bytes) -> None:
        """Keep the target."""
        self.url = url

    def on_headers_complete(self) -> None:
        """Note that a server could begin to answer."""
        self.begun = True

    def on_body(self, body: bytes) -> None:
        """Count the body."""
        self.size += len(body)

    def on_message_complete(self) -> None:
        """Note the end."""
        self.complete = True


class _CollectorOfFields(_Collector):
    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field."""
        self.fields.append((name.decode("latin-1"), value.decode("latin-1")))


def of_httptools() -> Read:
    """httptools, told as little as the task needs: no callback for fields where none are wanted."""
    httptools = need("httptools")
    say_build(httptools)
    collectors = (_Collector(), _CollectorOfFields())
    parsers = [httptools.HttpRequestParser(collector) for collector in collectors]

    def read(data: bytes, fields: bool) -> Reading:  # noqa: FBT001
        collector, reader = collectors[fields], parsers[fields]
        collector.size = 0
        collector.fields = []
        reader.feed_data(data)
        assert collector.complete
        return (
            reader.get_method().decode(),
            collector.url.decode("latin-1"),
            reader.should_keep_alive(),
            collector.size,
            len(collector.fields),
        )

    return read


def of_h11() -> tuple[Read, Callable[[], None]]:
    """h11; it wants an answer before the next request, so each request gets a connection made beforehand."""
    h11 = need("h11")
    say_build(h11)
    ready: list[Any] = []  # type: ignore[explicit-any]  # it has no stubs

    def prepare() -> None:
        ready[:] = [h11.Connection(h11.SERVER) for _ in range(_BATCH)]

    def read(data: bytes, fields: bool) -> Reading:  # noqa: FBT001
        connection = ready.pop()
        connection.receive_data(data)
        head = connection.next_event()
        size = 0
        while type(event := connection.next_event()) is not h11.EndOfMessage:
            size += len(event.data)
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers] if fields else []
        alive = connection.their_state is not h11.MUST_CLOSE
        return (head.method.decode(), head.target.decode("latin-1"), alive, size, len(pairs))

    return read, prepare


def cost(work: Callable[[], object], seconds: float, prepare: Callable[[], object] = lambda: None) -> float:
    """CPU time of one call in nanoseconds, without that of preparing a batch of them."""
    spent = calls = 0
    while spent < seconds * 1e9:
        prepare()
        begin = time.process_time_ns()
        for _ in range(_BATCH):
            work()
        spent += time.process_time_ns() - begin
        calls += _BATCH
    return spent / calls


def main() -> None:
    """Measure the parser that is asked for."""
    arguments = parser()
    arguments.add_argument("--loop", required=True)
    arguments.add_argument("--message", choices=sorted(MESSAGES), required=True)
    arguments.add_argument("--quick", action="store_true")
    given = arguments.parse_args()
    scan: Callable[[bytes], Callable[[], object]] | None = None
    prepare: Callable[[], None] = lambda: None  # noqa: E731
    if given.loop.startswith("nimloop"):
        if given.loop == "nimloop-python":
            os.environ["NIMLOOP_EXTENSION"] = "off"
        read, scan = of_nimloop()
    elif given.loop == "httptools":
        read = of_httptools()
    else:
        read, prepare = of_h11()
    data, wanted = MESSAGES[given.message], WANTED[given.message]
    for fields in (False, True):
        prepare()
        found = read(data, fields)
        if found != (*wanted[:4], wanted[4] if fields else 0):
            raise SystemExit(f"{given.loop} has read something else: {found}")
    seconds = _QUICK_SECONDS if given.quick else _SECONDS
    empty = cost(lambda: None, seconds)
    figures = {
        "message_ns": cost(lambda: read(data, False), seconds, prepare) - empty,
        "fields_ns": cost(lambda: read(data, True), seconds, prepare) - empty,
    }
    if scan is not None:
        figures["head_ns"] = cost(scan(data), seconds) - empty
    say_result(figures)


if __name__ == "__main__":
    main()
