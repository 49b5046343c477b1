"""The WSGI bridge: PEP 3333 paragraph by paragraph, in threads and in the loop, and applications that misbehave."""

from __future__ import annotations

import gzip
import io
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Protocol, final
from wsgiref.types import StartResponse, WSGIApplication
from wsgiref.validate import validator

import pytest
from tests.http.serving import Answer, Site, request
from tests.support.turning import PATIENCE

from nimloop_core.testing import FakeClock
from nimloop_http import HttpRequest, HttpResponse, Limits, Timeouts, WsgiBridge, _wsgicall
from nimloop_http.errors import ContentLengthError, InvalidHeaderError, WsgiError

pytest_plugins = ["tests.http.fixtures"]

Environ = dict[str, object]

LARGE = bytes(range(251)) * 20_000


class Host(Protocol):
    """How a test has its application served."""

    def __call__(self, app: WSGIApplication, *, script_name: str = "") -> Site:
        """Serve it, and return the site."""


class Wrap(Protocol):
    """What `wsgi.file_wrapper` is to an application."""

    def __call__(self, file: object, size: int = 8192, /) -> Iterable[bytes]:
        """Wrap a file."""


@pytest.fixture(params=[0, 2], ids=["loop", "threads"])
def host(request: pytest.FixtureRequest, site: Site) -> Iterator[Host]:
    """Serve an application in the loop's thread and in others."""
    made: list[WsgiBridge] = []

    def start(app: WSGIApplication, *, script_name: str = "") -> Site:
        made.append(WsgiBridge(app, threads=int(request.param), script_name=script_name))
        site.start(made[-1].serve)
        return site

    yield start
    for bridge in made:
        bridge.close()
    until_threads_have_ended()


def until_threads_have_ended() -> None:
    """Let the threads of the pools end."""
    for thread in threading.enumerate():
        if thread.name.startswith("wsgi-"):
            thread.join(PATIENCE)
            assert not thread.is_alive()


def ask(site: Site, data: bytes, method: str = "GET") -> Answer:
    """Ask once over a connection that stays open until the answer is there."""
    client = site.dial()
    client.send(data)
    (answer,) = client.answers(method)
    client.close()
    return answer


def hello(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Greet."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def test_hello(host: Host) -> None:
    """A list is sent at once, with its length."""
    answer = ask(host(hello), request())
    assert (answer.status, answer.body, answer.get("content-type")) == (200, b"hello", "text/plain")
    assert answer.get("content-length") == "5"


@pytest.mark.parametrize("shape", ["list", "generator", "write"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_the_validator_has_nothing_to_say(shape: str, method: str, host: Host) -> None:
    """Wsgiref checks what the environment is made of, and that `close` is called."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"]
        assert isinstance(body, object)
        said = body.read(1000) if method == "POST" else b"-"  # type: ignore[attr-defined]
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        if shape == "write":
            write(said)
            return []
        return [said] if shape == "list" else (bytes((byte,)) for byte in said)

    site = host(validator(app))
    body = b"what was sent" if method == "POST" else None
    answer = ask(site, request(method, "/a%20b?x=1", "Accept: */*", body=body), method)
    assert answer.status == 200
    assert answer.body == {"GET": b"-", "HEAD": b"", "POST": b"what was sent"}[method]


@pytest.mark.parametrize(
    ("method", "target", "path"),
    [("OPTIONS", "*", b""), ("OPTIONS", "http://a", b"/"), ("GET", "http://a?x", b"/"), ("GET", "//a", b"//a")],
)
def test_the_path_is_empty_or_begins_with_a_slash(host: Host, method: str, target: str, path: bytes) -> None:
    """RFC 3875 §4.1.5, whatever the form of the target; the validator insists on it."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(environ["PATH_INFO"]).encode()]

    answer = ask(host(validator(app)), request(method, target), method)
    assert (answer.status, answer.body) == (200, path)


def test_the_environment(host: Host) -> None:
    """Where everything has gone."""
    seen: Environ = {}

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        seen.update(environ)
        return hello(environ, start_response)

    site = host(app, script_name="/app")
    fields = ["X-One: 1", "X-One: 2", "Cookie: a=1", "Cookie: b=2", "X_One: spoofed", "Proxy: http://evil.example"]
    body = b"a=1"
    ask(site, request("POST", "/app/caf%C3%A9%2fb?q=%20&r", *fields, "Content-Type: text/x", body=body), "POST")
    local = site.server.addresses[0]
    assert isinstance(local, tuple)
    expected = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "/app",
        "PATH_INFO": "/caf\xc3\xa9/b",  # bytes as text, PEP 3333
        "QUERY_STRING": "q=%20&r",
        "REQUEST_URI": "/app/caf%C3%A9%2fb?q=%20&r",
        "CONTENT_TYPE": "text/x",
        "CONTENT_LENGTH": "3",
        "SERVER_NAME": local[0],
        "SERVER_PORT": str(local[1]),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "test",
        "HTTP_X_ONE": "1, 2",
        "HTTP_COOKIE": "a=1; b=2",
        "wsgi.url_scheme": "http",
        "wsgi.version": (1, 0),
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert "HTTP_PROXY" not in seen
    assert "HTTP_CONTENT_TYPE" not in seen
    assert not [name for name, value in seen.items() if "spoofed" in str(value)]


def test_a_chunked_body_has_an_end(host: Host) -> None:
    """And a length, because applications ask for it."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        body: IO[bytes] = environ["wsgi.input"]  # type: ignore[assignment]
        start_response("200 OK", [])
        return [str(environ["CONTENT_LENGTH"]).encode(), b" ", *body.readlines()]

    data = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nab\nc\r\n3\r\nd\ne\r\n0\r\n\r\n"
    assert ask(host(app), data, "POST").body == b"7 ab\ncd\ne"


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("threads", [0, 2])
def test_large_bodies_are_read_from_a_file(
    size: int,
    *,
    site: Site,
    threads: int,
    tmp_path: Path,
    descriptors: Callable[[], set[str]],
    monkeypatch: pytest.MonkeyPatch,
    chunked: bool,
) -> None:
    """And what is larger than allowed is refused before it comes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        body: IO[bytes] = environ["wsgi.input"]  # type: ignore[assignment]
        in_file = not isinstance(body, io.BytesIO)
        environ["wsgi.input"] = None
        start_response("200 OK", [])
        return [f"{in_file} {environ['CONTENT_LENGTH']} {body.read() == (LARGE * 2)[:size]}".encode()]

    with WsgiBridge(app, threads=threads, body=4_000_000) as bridge:
        site.start(bridge.serve, on_headers=bridge.on_headers)
        client = site.dial()
        content = (LARGE * 2)[:size]
        for _ in range(2):
            if chunked:
                chunk = b"%x\r\n%b\r\n" % (size, content) if size else b""
                client.send(request("POST", "/", "Transfer-Encoding: chunked") + chunk + b"0\r\n\r\n")
            else:
                client.send(request("POST", "/", body=content))
            assert client.answer("POST").body.decode() == f"{chunked or size > 1 << 20} {size} True"
        client.send(request("POST", "/", "Content-Length: 4000001"))
        assert client.answer("POST").status == 413
        site.until(lambda: not any(str(tmp_path) in each for each in descriptors()))
    assert list(tmp_path.iterdir()) == []
    until_threads_have_ended()


def test_without_a_limit_of_its_own_that_of_the_server_counts(site: Site) -> None:
    """`body` is for the application alone."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [str(environ["CONTENT_LENGTH"]).encode()]

    with WsgiBridge(app, threads=0) as bridge:
        site.start(bridge.serve, on_headers=bridge.on_headers, limits=Limits(body=10))
        client = site.dial()
        client.send(request("POST", "/", body=bytes(10)) + request("POST", "/", body=bytes(11)))
        assert [answer.status for answer in client.answers("POST", "POST")] == [200, 413]


@pytest.mark.parametrize(
    ("target", "status"), [("/app", 200), ("/app/", 200), ("/apple", 404), ("/", 404), ("/%61pp/x", 200)]
)
def test_a_mounted_application(target: str, status: int, host: Host) -> None:
    """It gets what is beneath its name, and nothing else."""
    assert ask(host(hello, script_name="/app"), request("GET", target)).status == status


@pytest.mark.parametrize("name", ["app", "/app/", "/", "//app", "/a b", "/caf\xe9"])
def test_names_that_cannot_be_mounted(name: str) -> None:
    """Said when the bridge is made."""
    with pytest.raises(ValueError):
        WsgiBridge(hello, script_name=name)
    with pytest.raises(ValueError):
        WsgiBridge(hello, threads=-1)


def test_over_a_unix_socket(tmp_path: Path, host: Host) -> None:
    """There the server is called what the client calls it."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [f"{environ['SERVER_NAME']} {environ['SERVER_PORT']} {environ['REMOTE_ADDR']!r}".encode()]

    site = host(app)
    bridge = site.server.on_request
    site.server.close()
    server = site.start(bridge)
    server.close()
    server.listen_unix(str(tmp_path / "s"))
    for name, said in (("example.org:8080", b"example.org 8080 ''"), ("example.org", b"example.org 80 ''")):
        data = f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode()
        assert ask(site, data).body == said


# Bodies ---------------------------------------------------------------------------------------------------------


def test_a_generator_is_sent_as_it_goes(host: Host) -> None:
    """Each block is on its way before the next one is asked for, and empty ones are nothing."""
    go_on = threading.Event()

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b""
        yield b"first "
        yield b""
        while environ["wsgi.multithread"] and not go_on.wait(PATIENCE):
            raise TimeoutError
        yield b"second"

    site = host(app)
    client = site.dial()
    client.send(request())
    site.until(lambda: client.poll() or b"first " in client.received)
    go_on.set()
    answer = client.answer()
    assert (answer.body, answer.get("transfer-encoding")) == (b"first second", "chunked")


@pytest.mark.parametrize("blocks", [1, 3])
def test_large_bodies(blocks: int, host: Host) -> None:
    """Whole or in blocks of any size, with a client that reads slowly."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        for _ in range(blocks):
            yield LARGE

    site = host(app)
    client = site.dial(receive_buffer=8192)
    client.send(request())
    assert client.answer().body == LARGE * blocks


def test_a_slow_reader_holds_up_the_application(host: Host) -> None:
    """It is not asked for more than the client may be behind; and it is closed when the client goes."""
    produced = 0
    closed = threading.Event()

    @final
    class Endless:
        def __iter__(self) -> Iterator[bytes]:
            return self

        def __next__(self) -> bytes:
            nonlocal produced
            produced += 1
            return bytes(10_000)

        def close(self) -> None:
            closed.set()

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return Endless()

    site = host(app)
    client = site.dial(receive_buffer=4096)
    client.send(request())
    seen = -1
    while seen != produced:  # until it stands still
        seen = produced
        for _ in range(30):
            site.loop.run_once(0.01)
    assert 0 < produced < 2000
    client.close()
    site.until(closed.is_set)


def test_the_old_way_to_write(host: Host) -> None:
    """`write` sends, and what is returned follows."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", [("Content-Length", str(len(LARGE) + 6))])
        write(b"")
        write(b"one")
        write(LARGE)
        return [b"two"]

    answer = ask(host(app), request())
    assert answer.body == b"one" + LARGE + b"two"
    assert answer.get("content-length") == str(len(LARGE) + 6)


def test_head(host: Host) -> None:
    """The length that the application says, or that is known, and no body; an endless one is not waited for."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/said":
                start_response("200 OK", [("Content-Length", "1234")])
                return []
            case "/known":
                start_response("200 OK", [])
                return [b"12345"]
            case _:
                start_response("200 OK", [])
                return iter(lambda: b"x", b"")

    site = host(app)
    assert ask(site, request("HEAD", "/said"), "HEAD").get("content-length") == "1234"
    assert ask(site, request("HEAD", "/known"), "HEAD").get("content-length") == "5"
    endless = ask(site, request("HEAD", "/endless"), "HEAD")
    assert (endless.status, endless.get("content-length"), endless.body) == (200, None, b"")


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_without_a_body(status: str, host: Host) -> None:
    """Whatever the application returns."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response(status, [("ETag", '"x"')])
        return [b"body"] if environ["PATH_INFO"] == "/" else iter((b"body",))

    site = host(app)
    for target in ("/", "/generator"):
        answer = ask(site, request("GET", target))
        assert (answer.status, answer.body, answer.get("etag")) == (int(status[:3]), b"", '"x"')


def test_fields(host: Host) -> None:
    """Several of one name stay several, Date is the server's, and the end of the connection may be asked for."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        fields = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Date", "never"), ("Connection", "close")]
        start_response("201 Created", fields)
        return [b"x"]

    answer = ask(host(app), request())
    assert answer.status == 201
    assert [value for name, value in answer.headers if name == "set-cookie"] == ["a=1", "b=2"]
    assert answer.get("date") != "never"
    assert answer.get("connection") == "close"


def test_connections_live_on_whether_the_application_says_so_or_not(host: Host) -> None:
    """Connection: keep-alive goes without saying; only `close` is passed on."""
    site = host(saying("200 OK", [("Connection", "keep-alive")]))
    client = site.dial()
    for _ in range(2):
        client.send(request())
        answer = client.answer()
        assert (answer.body, answer.get("connection")) == (b"x", None)


def test_pipelined_requests_keep_their_order(host: Host) -> None:
    """Whichever thread is the first to be done."""
    second_done = threading.Event()

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/first" and environ["wsgi.multithread"]:
            second_done.wait(PATIENCE)
        start_response("200 OK", [])
        yield str(environ["PATH_INFO"]).encode()
        second_done.set()

    site = host(app)
    client = site.dial()
    client.send(request("GET", "/first") + request("GET", "/second"))
    assert [answer.body for answer in client.answers("GET", "GET")] == [b"/first", b"/second"]


# Files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_a_file(size: int, tmp_path: Path, host: Host, descriptors: Callable[[], set[str]]) -> None:
    """From where it stands, to where the length says, and closed afterwards."""
    content = (LARGE * 2)[:size]
    (tmp_path / "file").write_bytes(b"skipped" + content)

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        file = (tmp_path / "file").open("rb")
        file.read(7)
        headers = [("Content-Length", "5")] if environ["PATH_INFO"] == "/five" else []
        start_response("200 OK", headers)
        wrap: Wrap = environ["wsgi.file_wrapper"]  # type: ignore[assignment]
        return wrap(file)

    site = host(app)
    before = descriptors()
    assert ask(site, request()).body == content
    assert ask(site, request("HEAD"), "HEAD").body == b""
    if size >= 5:
        assert ask(site, request("GET", "/five")).body == content[:5]
    site.until(lambda: descriptors() == before)


@final
class Bare:
    """Just as much of a file as PEP 3333 asks for: it cannot be closed."""

    def __init__(self, content: bytes) -> None:
        self.read = io.BytesIO(content).read


def test_things_that_are_no_plain_file(tmp_path: Path, host: Host) -> None:
    """They are read like anything else; most of all one whose descriptor has other bytes."""
    content = LARGE[:100_000]
    with gzip.open(tmp_path / "file.gz", "wb") as file:
        file.write(content)

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        wrap: Wrap = environ["wsgi.file_wrapper"]  # type: ignore[assignment]
        match environ["PATH_INFO"]:
            case "/gzip":
                return wrap(gzip.open(tmp_path / "file.gz"), 1000)
            case "/memory":
                return wrap(io.BytesIO(content))
            case "/bare":
                return wrap(Bare(content))
            case _:
                reading, writing = os.pipe()
                os.write(writing, b"piped")
                os.close(writing)
                return wrap(os.fdopen(reading, "rb"))

    site = host(app)
    assert ask(site, request("GET", "/gzip")).body == content
    assert ask(site, request("GET", "/memory")).body == content
    assert ask(site, request("GET", "/bare")).body == content
    assert ask(site, request("GET", "/pipe")).body == b"piped"


def test_a_file_that_is_shorter_than_promised(tmp_path: Path, host: Host, descriptors: Callable[[], set[str]]) -> None:
    """What there is is sent, and then the connection is cut: the client must not take it for the whole."""
    (tmp_path / "file").write_bytes(b"short")

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "6")])
        wrap: Wrap = environ["wsgi.file_wrapper"]  # type: ignore[assignment]
        return wrap((tmp_path / "file").open("rb"))

    site = host(app)
    before = descriptors()
    client = site.dial()
    client.send(request())
    with pytest.raises(ConnectionResetError):
        client.read_all()
    take_errors(site, ContentLengthError)
    client.close()
    site.until(lambda: descriptors() == before)


# Errors and misbehaviour ----------------------------------------------------------------------------------------


def take_errors(site: Site, *kinds: type[Exception]) -> None:
    """What was reported is exactly this."""
    site.until(lambda: len(site.errors) >= len(kinds))
    assert [type(error) for error in site.errors] == list(kinds)
    site.errors.clear()


def saying(status: str, fields: list[tuple[str, str]], result: object = (b"x",), times: int = 1) -> WSGIApplication:
    """Make an application that says this much and returns that."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        for _ in range(times):
            start_response(status, fields)
        return result  # type: ignore[return-value]

    return app


def raising(error: BaseException, *before: bytes) -> WSGIApplication:
    """Make an application that fails after some blocks."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("X-A", "b")])
        yield from before
        raise error

    return app


def writes_too_much(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Write beyond what was promised."""
    start_response("200 OK", [("Content-Length", "1")])(b"12345")
    return []


# What it does, and what is reported. Made anew for each test, because an iterator can be used only once.
MISBEHAVIOUR: dict[str, tuple[Callable[[], WSGIApplication], type[Exception]]] = {
    "never starts": (lambda: saying("200 OK", [], times=0), WsgiError),
    "never starts, iterator": (lambda: saying("200 OK", [], iter((b"",)), times=0), WsgiError),
    "never starts, empty iterator": (lambda: saying("200 OK", [], iter(()), times=0), WsgiError),
    "starts twice": (lambda: saying("200 OK", [], times=2), WsgiError),
    "list of text": (lambda: saying("200 OK", [], ["text"]), TypeError),
    "iterator of text": (lambda: saying("200 OK", [], iter(("text",))), TypeError),
    "text": (lambda: saying("200 OK", [], "text"), TypeError),
    "nothing": (lambda: saying("200 OK", [], None), TypeError),
    "interim status": (lambda: saying("100 Continue", []), WsgiError),
    "status without a number": (lambda: saying("OK", []), WsgiError),
    "status with a line end": (lambda: saying("200 OK\r\nX-A: b", []), WsgiError),
    "framing of its own": (lambda: saying("200 OK", [("Transfer-Encoding", "chunked")]), WsgiError),
    "length that is none": (lambda: saying("200 OK", [("Content-Length", "+1")]), WsgiError),
    "empty list for a length": (lambda: saying("200 OK", [("Content-Length", "5")], []), ContentLengthError),
    "empty iterator for a length": (lambda: saying("200 OK", [("Content-Length", "5")], iter(())), ContentLengthError),
    "field with a line end": (lambda: saying("200 OK", [("X-A", "b\r\nSet-Cookie: c")]), InvalidHeaderError),
    "field with a blank": (lambda: saying("200 OK", [("X A", "b")]), InvalidHeaderError),
    "writes too much": (lambda: writes_too_much, ContentLengthError),
    "fails": (lambda: raising(ZeroDivisionError()), ZeroDivisionError),
    "fails after nothing": (lambda: raising(ZeroDivisionError(), b"", b""), ZeroDivisionError),
}


@pytest.mark.parametrize("what", MISBEHAVIOUR)
def test_an_application_that_breaks_the_rules_before_anything_was_sent(what: str, host: Host) -> None:
    """It is answered with 500 and reported, and the connection goes on."""
    make, error = MISBEHAVIOUR[what]
    site = host(make())
    client = site.dial()
    client.send(request())
    answer = client.answer()
    assert (answer.status, answer.get("x-a"), answer.get("connection")) == (500, None, None)
    take_errors(site, error)
    site.server.on_request = lambda req, res: res.send("well")
    client.send(request())
    assert client.answer().body == b"well"


def test_an_application_that_wants_to_end_it_all(site: Site) -> None:
    """In a thread of its own it ends nothing but its request."""
    with WsgiBridge(raising(SystemExit(1)), threads=1) as bridge:
        site.start(bridge.serve)
        client = site.dial()
        for _ in range(2):
            client.send(request())
            assert client.answer().status == 500
    take_errors(site, WsgiError, WsgiError)
    until_threads_have_ended()


def test_an_application_in_the_loop_that_wants_to_end_it_all(site: Site) -> None:
    """It does: the program has asked for that. Its client is told before."""
    with WsgiBridge(raising(SystemExit(3)), threads=0) as bridge:
        site.start(bridge.serve)
        client = site.dial()
        client.send(request())
        with pytest.raises(SystemExit):
            client.answer()
        assert client.answer().status == 500
    take_errors(site, WsgiError)


def test_an_application_that_fails_in_the_middle(host: Host) -> None:
    """The client must not take what it got for the whole."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "10")] if environ["PATH_INFO"] == "/short" else [])
        yield b"x"
        if environ["PATH_INFO"] != "/short":
            raise ZeroDivisionError

    site = host(app)
    for target, error in (("/", ZeroDivisionError), ("/short", ContentLengthError)):
        client = site.dial()
        client.send(request("GET", target))
        with pytest.raises(ConnectionResetError):
            client.read_all()
        take_errors(site, error)


def test_more_than_the_length_is_cut_off(host: Host) -> None:
    """PEP 3333: no more than the Content-Length is sent, and nobody asks for the rest."""
    asked = iter((b"123", b"456789", b"never"))

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/nothing":
            start_response("200 OK", [("Content-Length", "0")])
            return iter((b"something",))
        start_response("200 OK", [("Content-Length", "5")])
        if environ["PATH_INFO"] == "/list":
            return [b"123", b"456789"]
        return asked

    site = host(app)
    client = site.dial()
    for target in ("/list", "/"):
        client.send(request("GET", target))
        assert client.answer().body == b"12345"
    assert list(asked) == [b"never"]
    client.send(request("GET", "/nothing"))
    answer = client.answer()
    assert (answer.body, answer.get("content-length")) == (b"", "0")


def test_another_answer_instead(host: Host) -> None:
    """With exc_info, the head may be replaced until it was sent; afterwards the error comes back."""
    caught = []

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("X-A", "b"), ("Content-Length", "5")])
        if environ["PATH_INFO"] == "/late":
            yield b"x"
        try:
            _ = 1 // 0
        except ZeroDivisionError:
            try:
                start_response("503 Busy", [("Content-Type", "text/plain")], sys.exc_info())
            except ZeroDivisionError as error:
                caught.append(error)
                raise
        yield b"sorry"

    site = host(app)
    answer = ask(site, request())
    assert (answer.status, answer.body, answer.get("x-a"), answer.get("content-length")) == (503, b"sorry", None, None)
    client = site.dial()
    client.send(request("GET", "/late"))
    with pytest.raises(ConnectionResetError):
        client.read_all()
    take_errors(site, ZeroDivisionError)
    assert len(caught) == 1


@pytest.mark.parametrize("ending", ["well", "error", "enough", "head", "file"])
def test_close_is_always_called(ending: str, host: Host) -> None:
    """PEP 3333: whether the request ended well or not; a failing `close` is reported and does no other harm."""
    closed = []

    @final
    class Result:
        def __iter__(self) -> Iterator[bytes]:
            yield b"x"
            if ending == "error":
                raise ZeroDivisionError

        def read(self, size: int) -> bytes:
            return b""

        def close(self) -> None:
            closed.append(ending)
            raise BlockingIOError

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "1")] if ending == "enough" else [])
        if ending == "file":
            wrap: Wrap = environ["wsgi.file_wrapper"]  # type: ignore[assignment]
            return wrap(Result())
        return Result()

    site = host(app)
    client = site.dial()
    client.send(request("HEAD" if ending == "head" else "GET"))
    site.until(lambda: client.poll() or closed)
    take_errors(site, *([ZeroDivisionError] if ending == "error" else []), BlockingIOError)
    assert closed == [ending]


def test_endless_nothing(host: Host) -> None:
    """An application that yields only empty blocks keeps nobody else waiting, and ends with its client."""
    closed = threading.Event()

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        if environ["PATH_INFO"] == "/":
            return [b"hello"]

        def nothing() -> Iterator[bytes]:
            try:
                while True:
                    yield b""
            finally:
                closed.set()

        return nothing()

    site = host(app)
    client = site.dial()
    client.send(request("GET", "/endless"))
    site.settle()
    assert ask(site, request()).body == b"hello"
    client.abort()
    site.until(closed.is_set)


@pytest.mark.parametrize("threads", [0, 1])
@pytest.mark.parametrize("block", [b"", b"late"])
def test_an_endless_application_is_stopped_at_the_deadline(block: bytes, threads: int) -> None:
    """It has said nothing in time, so its client was told 503: what it says then has no end that anybody waits for."""
    began = threading.Event()
    let_go = threading.Event()
    closed = threading.Event()

    def app(_environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                began.set()
                yield block if let_go.is_set() else b""
        finally:
            closed.set()

    with WsgiBridge(app, threads=threads) as bridge, Site(clock=FakeClock(start=1000.0)) as site:
        site.start(bridge.serve, timeouts=Timeouts(answer=3.0))
        client = site.dial()
        client.send(request())
        site.until(began.is_set)
        site.pass_time(4.0, step=0.5)
        let_go.set()
        assert client.answer().status == 503
        site.until(closed.is_set)
        assert [type(error) for error in site.errors] == [TimeoutError]
        site.errors.clear()
    until_threads_have_ended()


# Threads --------------------------------------------------------------------------------------------------------


def test_a_blocking_application_does_not_stop_the_loop(site: Site) -> None:
    """While one waits, others are served; when all threads wait, further requests do; and beyond those it is 503."""
    let_go = threading.Event()
    running = threading.Semaphore(0)

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/block":
            running.release()
            assert let_go.wait(PATIENCE)
        return hello(environ, start_response)

    with WsgiBridge(app, threads=2, waiting=3) as bridge:
        site.start(bridge.serve)
        blocked = [site.dial() for _ in range(2)]
        blocked[0].send(request("GET", "/block"))
        assert ask(site, request()).body == b"hello"
        blocked[1].send(request("GET", "/block"))
        site.until(lambda: running.acquire(blocking=False))
        site.until(lambda: running.acquire(blocking=False))
        waiting = [site.dial() for _ in range(3)]
        for client in waiting:
            client.send(request())
        site.settle(20)
        refused = ask(site, request())
        assert (refused.status, refused.get("retry-after")) == (503, "1")
        assert not any(client.poll() or client.received for client in waiting)
        let_go.set()
        for client in [*blocked, *waiting]:
            assert client.answer().body == b"hello"
    until_threads_have_ended()


def test_a_request_whose_client_has_gone_is_not_begun(site: Site) -> None:
    """It waited for a thread for nothing."""
    let_go = threading.Event()
    ran = []

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        ran.append(environ["PATH_INFO"])
        assert let_go.wait(PATIENCE)
        return hello(environ, start_response)

    with WsgiBridge(app, threads=1) as bridge:
        site.start(bridge.serve)
        first, second = site.dial(), site.dial()
        first.send(request("GET", "/first"))
        site.until(lambda: ran)
        second.send(request("GET", "/second"))
        site.settle()
        second.abort()
        site.settle(20)
        let_go.set()
        assert first.answer().body == b"hello"
    until_threads_have_ended()
    assert ran == ["/first"]


def test_an_application_that_never_returns() -> None:
    """Its client is answered when the deadline is over, and so is who waits for the thread; the loop serves on.

    The thread is lost for as long as that lasts: nothing can end it from outside. What it says too late is not heard.
    """
    let_go = threading.Event()
    running = threading.Event()

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/never":
            running.set()
            assert let_go.wait(PATIENCE)
        return hello(environ, start_response)

    with WsgiBridge(app, threads=1) as bridge, Site(clock=FakeClock(start=1000.0)) as site:

        def handle(req: HttpRequest, res: HttpResponse) -> None:
            if req.path == "/other":
                res.send("other")
            else:
                bridge.serve(req, res)

        site.start(handle, timeouts=Timeouts(answer=3.0))
        stuck, waiting = site.dial(), site.dial()
        stuck.send(request("GET", "/never"))
        site.until(running.is_set)
        waiting.send(request())
        assert ask(site, request("GET", "/other")).body == b"other"
        site.pass_time(2.0, step=0.1)
        assert not stuck.poll()
        assert not stuck.received
        site.pass_time(2.0, step=0.1)
        assert [stuck.answer().status, waiting.answer().status] == [503, 503]
        assert all(isinstance(error, TimeoutError) for error in site.errors)
        assert len(site.errors) == 2
        site.errors.clear()
        let_go.set()
        stuck.send(request())
        assert stuck.answer().body == b"hello"
    until_threads_have_ended()


@pytest.mark.parametrize("target", ["/", "/file"])
def test_the_loop_ends_before_the_application(target: str) -> None:
    """A thread that has something to say, and nobody to say it to, ends; files are closed."""
    began = threading.Event()
    let_go = threading.Event()
    closed = threading.Event()

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        began.set()
        assert let_go.wait(PATIENCE)
        start_response("200 OK", [])
        if environ["PATH_INFO"] == "/file":
            wrap: Wrap = environ["wsgi.file_wrapper"]  # type: ignore[assignment]
            return wrap(Path(__file__).open("rb"))

        def body() -> Iterator[bytes]:
            try:
                while True:
                    yield LARGE
            finally:
                closed.set()

        return body()

    with WsgiBridge(app, threads=1) as bridge:
        with Site() as site:
            site.start(bridge.serve)
            client = site.dial()
            client.send(request("GET", target))
            site.until(began.is_set)
        let_go.set()
    until_threads_have_ended()
    assert closed.is_set() == (target == "/")


def endless_app(closed: threading.Event) -> WSGIApplication:
    """Make an application that never ends of its own accord, and says when it was closed."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                yield LARGE
        finally:
            closed.set()

    return app


@pytest.mark.interpreted
def test_the_loop_is_closed_while_the_application_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody tells its thread, which looks from time to time."""
    monkeypatch.setattr(_wsgicall, "_LOOK_SECONDS", 0.01)
    closed = threading.Event()

    with WsgiBridge(endless_app(closed), threads=1) as bridge, Site() as site:
        site.start(bridge.serve)
        client = site.dial(receive_buffer=4096)
        client.send(request())
        site.until(lambda: site.server.stats.bytes_sent)
        site.loop.close()
        assert closed.wait(PATIENCE)
    until_threads_have_ended()


@pytest.mark.parametrize("what", ["list", "file", "generator", "error", "write"])
def test_what_is_said_when_the_client_has_gone(what: str, site: Site, descriptors: Callable[[], set[str]]) -> None:
    """Nobody hears it; files are closed, and mistakes are reported all the same."""
    before = descriptors()
    running = threading.Event()
    let_go = threading.Event()

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        running.set()
        assert let_go.wait(PATIENCE)
        write = start_response("200 OK", [])
        match what:
            case "file":
                wrap: Wrap = environ["wsgi.file_wrapper"]  # type: ignore[assignment]
                return wrap(Path(__file__).open("rb"))
            case "generator":
                return iter((b"one", b"two"))
            case "error":
                raise ZeroDivisionError
            case "write":
                write(b"never")
                raise AssertionError("nobody is there to write for")
        return [b"all"]

    with WsgiBridge(app, threads=1) as bridge:
        server = site.start(bridge.serve)
        client = site.dial()
        client.send(request())
        site.until(running.is_set)
        client.abort()
        site.until(lambda: server.stats.connections == 0)
        let_go.set()
    until_threads_have_ended()
    site.settle()
    take_errors(site, *([ZeroDivisionError] if what == "error" else []))
    server.close()
    assert len(descriptors()) <= len(before)


def test_an_application_that_ends_after_its_client(site: Site) -> None:
    """Its last word was out already: there is nothing to say any more, and nothing to report."""
    first_is_out = threading.Event()
    let_go = threading.Event()

    def app(_environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        yield b"first"
        first_is_out.set()
        assert let_go.wait(PATIENCE)

    with WsgiBridge(app, threads=1) as bridge:
        server = site.start(bridge.serve)
        client = site.dial()
        client.send(request())
        site.until(lambda: first_is_out.is_set() and (client.poll() or b"first" in client.received))
        client.abort()
        site.until(lambda: server.stats.connections == 0)
        let_go.set()
    until_threads_have_ended()
    site.settle()


def test_nobody_waits_for_a_client_that_reads_nothing() -> None:
    """The time-out for writing cuts it off, and the application hears of it."""
    closed = threading.Event()

    with WsgiBridge(endless_app(closed), threads=1) as bridge, Site(clock=FakeClock(start=1000.0)) as site:
        site.start(bridge.serve)
        client = site.dial(receive_buffer=4096)
        client.send(request())
        deadline = time.monotonic() + PATIENCE
        while not closed.is_set():
            assert time.monotonic() < deadline
            site.pass_time(1.0, step=0.1)
    until_threads_have_ended()
