"""What a request tells about itself, worked out when it is asked for."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.http.serving import Client, Site, request

from nimloop_core import Loop
from nimloop_http import Head, HttpParser, HttpRequest, HttpResponse, Params
from nimloop_http._incoming import RequestBody
from nimloop_http._source import Source
from nimloop_net import Connection

pytest_plugins = ("tests.http.fixtures",)


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    """Give a connection that nobody uses."""
    here, there = socket.socketpair()
    here.setblocking(False)
    with there, Loop() as loop:
        connection = Connection(loop, here, ("192.0.2.7", 4711))
        yield connection
        connection.close()
        loop.run_once(0)


def head_of(data: bytes) -> Head:
    """Parse the head of a request."""
    head = HttpParser(methods=None).feed(data).__next__()
    assert isinstance(head, Head)
    return head


def made(
    connection: Connection, target: str = "/", *fields: str, method: str = "GET", body: bytes | None = None
) -> HttpRequest:
    """Make a request as the session does it."""
    head = head_of(request(method, target, *fields))
    if body is None:
        return HttpRequest(head, Source(connection))
    flow = RequestBody(None, None, head, len(body))  # type: ignore[arg-type]
    flow.take(body)
    flow.finish()
    return HttpRequest(head, Source(connection), flow)


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("/", ("/", "", "/", "/")),
        ("/a/b", ("/a/b", "", "/a/b", "/a/b")),
        ("/a%20b?c%20d", ("/a b", "c%20d", "/a%20b", "/a%20b?c%20d")),
        ("/%252e", ("/%2e", "", "/%252e", "/%252e")),
        ("/%C3%A4", ("/ä", "", "/%C3%A4", "/%C3%A4")),
        ("/%ff", ("/\ufffd", "", "/%ff", "/%ff")),
        ("/%zz%", ("/%zz%", "", "/%zz%", "/%zz%")),
        ("/?", ("/", "", "/", "/?")),
        ("/?a?b", ("/", "a?b", "/", "/?a?b")),
        ("//evil/x?y", ("//evil/x", "y", "//evil/x", "//evil/x?y")),
        ("http://h", ("/", "", "/", "/")),
        ("http://h/", ("/", "", "/", "/")),
        ("http://h?q=/1", ("/", "q=/1", "/", "/?q=/1")),
        ("HTTP://h:80/p%41/?q://z", ("/pA/", "q://z", "/p%41/", "/p%41/?q://z")),
    ],
)
def test_the_target_is_taken_apart_once(connection: Connection, target: str, parts: tuple[str, str, str, str]) -> None:
    """Path and query come from every form of target, in whatever order they are asked for."""
    path, query, raw_path, url = parts
    one, other = made(connection, target), made(connection, target)
    assert one.target == target
    assert (one.path, one.path, one.query) == (path, path, query)
    assert (other.query, other.path) == (query, path)
    assert (one.raw_path, one.url) == (raw_path, url)


def test_asterisk_and_authority_have_no_path(connection: Connection) -> None:
    """OPTIONS * is about the server itself, CONNECT about another one."""
    options = made(connection, "*", method="OPTIONS")
    assert (options.path, options.url, options.query, options.raw_path) == ("*", "*", "", "*")
    connect = made(connection, "example.org:443", method="CONNECT")
    assert (connect.path, connect.url, connect.query, connect.raw_path) == ("", "", "", "")
    assert connect.path == ""
    assert connect.target == "example.org:443"


def test_a_request_tells_what_its_head_says(connection: Connection) -> None:
    """Method, version, host, fields, keep-alive and length are there."""
    req = made(connection, "/x", "X-Two: 1", "x-two: 2", "Content-Type: Text/HTML; charset=x", "Content-Length: 3")
    assert (req.method, req.http_version, req.host, req.keep_alive) == ("GET", "1.1", "test", True)
    assert (req.content_length, req.content_type) == (3, "text/html")
    assert req.headers["X-TWO"] == "1, 2"
    assert req.headers is req.headers
    assert (req.body, req.trailers, req.context, req.client_ip) == (b"", None, None, "192.0.2.7")
    assert repr(req) == "<HttpRequest GET /x>"
    old = HttpRequest(head_of(b"GET / HTTP/1.0\r\n\r\n"), Source(connection))
    assert (old.http_version, old.keep_alive, old.host) == ("1.0", False, "")
    assert (old.content_length, old.content_type) == (None, "")


def test_params_are_the_query_decoded(connection: Connection) -> None:
    """Plus is a space, percent-encoding is undone, and the first of several values counts."""
    params = made(connection, "/?a=1&b=x+y%26&a=2&empty=&flag&%C3%A4=%C3%B6").params
    assert dict(params) == {"a": "1", "b": "x y&", "empty": "", "flag": "", "ä": "ö"}
    assert params.get_all("a") == ["1", "2"]
    assert params.get_all("none") == []
    assert (len(params), list(params)[:2], "b" in params, "c" in params) == (5, ["a", "b"], True, False)
    with pytest.raises(KeyError):
        params["c"]
    assert repr(Params([("a", "1")])) == "Params({'a': ['1']})"


def test_params_are_made_once(connection: Connection) -> None:
    """The same object comes back."""
    req = made(connection, "/?a=1")
    assert req.params is req.params


@given(pairs=st.lists(st.tuples(st.text(min_size=1, max_size=8), st.text(max_size=8)), max_size=6))
def test_params_round_trip(connection: Connection, pairs: list[tuple[str, str]]) -> None:
    """What the standard library encodes is decoded again."""
    pairs = [
        (name.encode("utf-8", "replace").decode(), value.encode("utf-8", "replace").decode()) for name, value in pairs
    ]
    query = urlencode(pairs)
    params = made(connection, f"/?{query}").params
    for name, _ in pairs:
        assert params.get_all(name) == [value for key, value in pairs if key == name]
    assert [(name, value) for name in params for value in params.get_all(name)] == sorted(
        parse_qsl(query, keep_blank_values=True), key=lambda pair: list(params).index(pair[0])
    )


@given(path=st.text(max_size=20))
def test_paths_round_trip(connection: Connection, path: str) -> None:
    """What was percent-encoded comes out as it was."""
    path = "/" + path.encode("utf-8", "replace").decode()
    assert made(connection, quote(path)).path == path


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("", "ä".encode(), "ä"),
        ("text/plain", b"\xff", "\ufffd"),
        ("text/plain; charset=utf-8", "ä".encode(), "ä"),
        ('text/plain; x=y; CharSet="ISO-8859-1"', b"\xe4", "ä"),
        ("text/plain;charset=utf-16", "ä".encode("utf-16"), "ä"),
        ("text/plain; charset=no-such-thing", "ä".encode(), "ä"),
        ("text/plain; charset=", "ä".encode(), "ä"),
        ("text/plain; charset", "ä".encode(), "ä"),
        ("text/plain; charset=hex", b"6161", "6161"),
        ("text/plain; charset=idna", b"xn--a.b", "xn--a.b"),
        ("text/plain; charset=punycode", b"a-b", "a-b"),
        ("text/plain; charset=unicode_escape", b"\\q", "\\q"),
        ("text/plain; charset=raw-unicode-escape", b"\\u0041", "\\u0041"),
        ("text/plain; charset=undefined", b"a", "a"),
        ("text/plain; charset=\xe4", b"a", "a"),
    ],
)
def test_text_follows_the_charset_where_it_names_one(
    connection: Connection, content_type: str, body: bytes, text: str
) -> None:
    """A character set is honoured; what is none, or is one of Python's own codecs, means UTF-8 and never an error."""
    fields = [f"Content-Type: {content_type}"] if content_type else []
    assert made(connection, "/", *fields, body=body).text == text


def test_json_is_read_from_the_body(connection: Connection) -> None:
    """JSON comes out as objects."""
    assert made(connection, body=b'{"a": [1, null]}').json() == {"a": [1, None]}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"1 2", b"[" * 200_000, b'{"a":' * 100_000, b"9" * 5000],
    ids=lambda body: repr(body[:5]),
)
def test_what_is_not_json(connection: Connection, site: Site, body: bytes) -> None:
    """Is a ValueError, also where it is nested too deeply for any reader; and 400 if nobody catches that."""
    with pytest.raises(ValueError, match="the body is not JSON: "):
        made(connection, body=body).json()
    site.start(lambda req, res: res.send_json(req.json()))
    (answer,) = site.ask(request("POST", "/", f"Content-Length: {len(body)}") + body)
    assert (answer.status, answer.body[:39]) == (400, b"400 Bad Request: the body is not JSON: ")


def ask_each_way(client: Client) -> None:
    """Send one body in three framings over one connection."""
    client.send(request("POST", "/", body=b"hello"))
    for chunks in ((b"hello",), (b"he", b"l", b"lo")):
        coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nX-Sum: 7\r\n\r\n"
        client.send(request("POST", "/", "Transfer-Encoding: chunked") + coded)


def test_the_body_is_the_same_however_it_came(site: Site) -> None:
    """Fixed or chunked, in one piece or byte by byte: `body` is there, complete, and trailers with it (H2)."""
    seen: list[tuple[bytes, str | None]] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        assert type(req.body) is bytes
        seen.append((req.body, req.trailers["x-sum"] if req.trailers is not None else None))
        res.send()

    site.start(on_request)
    client = site.dial()
    ask_each_way(client)
    client.answers("POST", "POST", "POST")
    expected = [(b"hello", None), (b"hello", "7"), (b"hello", "7")]
    assert seen == expected
    slow = site.dial()
    data = request("POST", "/", body=b"hello")
    data += request("POST", "/", "Transfer-Encoding: chunked") + b"2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 7\r\n\r\n"
    for position in range(len(data)):
        slow.send(data[position : position + 1])
        site.settle(2)
    slow.answers("POST", "POST")
    assert seen[3:] == expected[:2]


def test_the_client_is_known_by_its_address(site: Site, tmp_path: Path) -> None:
    """Over TCP there is an address, over a Unix socket there is none."""
    seen: list[str] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        seen.append(req.client_ip)
        assert req.connection is res.connection
        req.context = res
        res.send(f"{req.context is res}")

    server = site.start(on_request)
    site.dial().send(request())
    site.until(lambda: seen)
    path = str(tmp_path / "socket")
    server.listen_unix(path)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        sock.setblocking(False)
        client = Client(site, sock)
        client.send(request())
        assert client.answer().body == b"True"
    assert seen == ["127.0.0.1", ""]


def test_a_body_as_a_view_and_a_head_by_its_size(connection: Connection) -> None:
    """Nothing is copied for the one, and the other counts from the method to the empty line."""
    req = made(connection, "/", method="POST", body=b"abc")
    assert req.body_view.obj is req.body
    assert req.body_view.tobytes() == b"abc"
    assert req.header_bytes == len(request("POST", "/"))


def test_a_limit_for_a_body_that_there_is_not(connection: Connection) -> None:
    """Is nothing, but has to be one all the same."""
    req = made(connection)
    req.limit_body(0)
    assert req.body == b""
    with pytest.raises(ValueError, match="not negative"):
        req.limit_body(-1)
