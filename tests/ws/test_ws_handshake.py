"""The opening handshake without a socket: what a server accepts and refuses, what a client asks for and believes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ws.serving import ACCEPT, KEY

from nimloop_http import Headers
from nimloop_ws import SAME_ORIGIN, Accepted, Deflate, parse_url
from nimloop_ws._response import ResponseReader
from nimloop_ws.errors import BadHandshakeError, BadResponseError, HandshakeRefusedError, InvalidUrlError
from nimloop_ws.handshake import (
    Origins,
    build_handshake_request,
    build_handshake_response,
    check_request,
    compute_accept_key,
    new_key,
)

GOOD = {
    "Host": "example.org",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def check(
    changes: dict[str, str | None] | None = None, method: str = "GET", minor: int = 1, **settings: object
) -> Accepted:
    """Check a good request with some changes; None takes a field out."""
    fields = {**GOOD, **(changes or {})}
    headers = Headers((name, value) for name, value in fields.items() if value is not None)
    return check_request(method, minor, headers, **settings)  # type: ignore[arg-type]


def test_the_accept_key_of_the_rfc() -> None:
    """RFC 6455 §1.3."""
    assert compute_accept_key(KEY) == ACCEPT


def test_a_good_request() -> None:
    """It is accepted, whatever the case of its tokens."""
    assert check().headers() == [("Sec-WebSocket-Accept", ACCEPT)]
    assert check({"Upgrade": "foo, WebSocket", "Connection": "UPGRADE"}).accept == ACCEPT


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Upgrade": None}, 426),
        ({"Upgrade": "h2c"}, 426),
        ({"Connection": None}, 426),
        ({"Connection": "close"}, 426),
        ({"Sec-WebSocket-Version": None}, 426),
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Version": "013"}, 426),
        ({"Sec-WebSocket-Key": None}, 400),
        ({"Sec-WebSocket-Key": ""}, 400),
        ({"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ"}, 400),
        ({"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZR=="}, 400),
        ({"Sec-WebSocket-Key": "!" * 24}, 400),
        ({"Sec-WebSocket-Key": f"{KEY}, {KEY}"}, 400),
        ({"Sec-WebSocket-Protocol": ""}, 400),
        ({"Sec-WebSocket-Protocol": "a, a"}, 400),
        ({"Sec-WebSocket-Protocol": "a b"}, 400),
    ],
    ids=str,
)
def test_bad_requests(changes: dict[str, str | None], status: int) -> None:
    """W8: each is refused with its status; 426 says what would do."""
    with pytest.raises(BadHandshakeError) as caught:
        check(changes)
    assert caught.value.status == status
    if status == 426:
        assert dict(caught.value.headers) == {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}


def test_methods_and_versions() -> None:
    """W8: GET and HTTP/1.1 only."""
    with pytest.raises(BadHandshakeError) as caught:
        check(method="POST")
    assert (caught.value.status, caught.value.headers) == (405, (("Allow", "GET"),))
    with pytest.raises(BadHandshakeError) as caught:
        check(minor=0)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("origin", "origins", "allowed"),
    [
        (None, SAME_ORIGIN, True),
        ("http://example.org", SAME_ORIGIN, True),
        ("https://EXAMPLE.org", SAME_ORIGIN, True),
        ("http://example.org:80", SAME_ORIGIN, True),
        ("http://example.org:8080", SAME_ORIGIN, False),
        ("http://evil.example", SAME_ORIGIN, False),
        ("http://example.org.evil.example", SAME_ORIGIN, False),
        ("null", SAME_ORIGIN, False),
        ("", SAME_ORIGIN, False),
        ("http://other", None, True),
        ("http://other", "http://other", True),
        ("http://other", ["http://one", "http://other"], True),
        ("http://third", ["http://one", "http://other"], False),
        (None, ["http://one"], True),
        ("http://x", lambda origin: origin == "http://x", True),
        (None, lambda origin: origin is not None, False),
    ],
)
def test_origins(origin: str | None, origins: Origins, *, allowed: bool) -> None:
    """W8: whose pages are let in."""
    if allowed:
        check({"Origin": origin}, host="example.org", origins=origins)
    else:
        with pytest.raises(BadHandshakeError) as caught:
            check({"Origin": origin}, host="example.org", origins=origins)
        assert caught.value.status == 403


def test_subprotocols() -> None:
    """W8: the server's favourite among those offered, or what its function says."""
    offered: dict[str, str | None] = {"Sec-WebSocket-Protocol": "chat, superchat"}
    assert check(offered, subprotocols=("superchat", "chat")).subprotocol == "superchat"
    assert check(offered, subprotocols=("other",)).subprotocol is None
    assert check(subprotocols=("chat",)).subprotocol is None
    assert check(offered, subprotocols=lambda names: names[0]).headers()[1] == ("Sec-WebSocket-Protocol", "chat")


def test_compression_is_answered() -> None:
    """Where both sides want it."""
    offered: dict[str, str | None] = {"Sec-WebSocket-Extensions": "permessage-deflate"}
    assert check(offered).agreement is None
    accepted = check(offered, compression=Deflate(window_bits=15))
    assert accepted.extensions == "permessage-deflate"
    assert accepted.agreement is not None


def test_a_response_for_those_without_a_server() -> None:
    """`build_handshake_response` spells the whole answer, and refuses what would break it apart."""
    response = build_handshake_response(Accepted(ACCEPT, "chat"), [("X-Extra", "1")])
    assert response == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + ACCEPT.encode() + b"\r\nSec-WebSocket-Protocol: chat\r\nX-Extra: 1\r\n\r\n"
    )
    with pytest.raises(ValueError):
        build_handshake_response(Accepted(ACCEPT), [("X", "a\r\nb")])


# The client ----------------------------------------------------------------------------------------------------


def test_a_request() -> None:
    """What RFC 6455 §4.1 wants, in one piece."""
    request = build_handshake_request(
        "ws://example.org:8080/chat?x=1",
        KEY,
        subprotocols=("a", "b"),
        origin="http://o",
        headers=[("Authorization", "Bearer t")],
        compression=Deflate(window_bits=15, peer_window_bits=15),
    )
    assert request.decode() == (
        "GET /chat?x=1 HTTP/1.1\r\nHost: example.org:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: a, b\r\nOrigin: http://o\r\n"
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nAuthorization: Bearer t\r\n\r\n"
    )
    assert new_key() != new_key()
    for name, value in (("Upgrade", "x"), ("Bad name", "x"), ("X", "a\nb")):
        with pytest.raises(ValueError):
            build_handshake_request("ws://h/", KEY, headers=[(name, value)])
    for wrong in (("a", "a"), ("a b",)):
        with pytest.raises(ValueError):
            build_handshake_request("ws://h/", KEY, subprotocols=wrong)


@pytest.mark.parametrize(
    ("url", "authority", "target", "secure"),
    [
        ("ws://example.org", "example.org", "/", False),
        ("WS://Example.org:80/x", "example.org", "/x", False),
        ("wss://example.org:443/?", "example.org", "/", True),
        ("wss://example.org:8443/a%20b?q=%C3%BC", "example.org:8443", "/a%20b?q=%C3%BC", True),
        ("ws://[::1]:9001/ü?ö=1", "[::1]:9001", "/%C3%BC?%C3%B6=1", False),
        ("ws://bücher.example/", "xn--bcher-kva.example", "/", False),
    ],
)
def test_urls(url: str, authority: str, target: str, *, secure: bool) -> None:
    """Host, port and target, as they go into the request."""
    found = parse_url(url)
    assert (found.authority, found.target, found.secure) == (authority, target, secure)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://x/",
        "ws:///x",
        "ws://",
        "ws://h/#f",
        "ws://h/#",
        "ws://u:p@h/",
        "ws://h:x/",
        "ws://h:99999/",
        "ws://h/ a",
        "ws://h\r\n/",
        "/x",
    ],
)
def test_wrong_urls(url: str) -> None:
    """They raise an error that is a ValueError too."""
    with pytest.raises(InvalidUrlError):
        parse_url(url)


ANSWER = build_handshake_response(Accepted(ACCEPT))


def answer(data: bytes, pieces: int = 0, subprotocols: tuple[str, ...] = ()) -> tuple[Accepted, bytes] | None:
    """Read a server's answer, whole or in pieces."""
    reader = ResponseReader(KEY, subprotocols=subprotocols, compression=Deflate(peer_window_bits=15))
    found = None
    for start in range(0, len(data), pieces or len(data)):
        found = reader.feed(data[start : start + (pieces or len(data))])
    return found


def test_a_good_answer() -> None:
    """Accepted, with the frames that came behind it, in any pieces."""
    found = answer(ANSWER + b"\x81\x00")
    assert found is not None
    assert found[1] == b"\x81\x00"
    assert answer(ANSWER, 1) is not None
    assert answer(ANSWER[:-1]) is None
    early = answer(b"HTTP/1.1 103 Early Hints\r\n\r\n" + ANSWER, 7)
    assert early is not None
    chosen = answer(build_handshake_response(Accepted(ACCEPT, "b")), subprotocols=("a", "b"))
    assert chosen is not None
    assert chosen[0].subprotocol == "b"


@pytest.mark.parametrize(
    "data",
    [
        ANSWER.replace(b"HTTP/1.1", b"HTTP/1.0"),
        ANSWER.replace(b"Upgrade: websocket\r\n", b""),
        ANSWER.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        ANSWER.replace(b"Connection: Upgrade\r\n", b""),
        ANSWER.replace(ACCEPT.encode(), b"AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ANSWER.replace(b"Sec-WebSocket-Accept", b"X"),
        ANSWER.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: unasked\r\n\r\n"),
        ANSWER.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: unasked\r\n\r\n"),
        ANSWER.replace(b"\r\n\r\n", b"\r\n folded\r\n\r\n"),
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.1 101 x\r\n" + b"X: " + b"y" * 20_000,
        b"\x81\x05hello",
    ],
)
def test_bad_answers(data: bytes) -> None:
    """W8 from the other side: what does not answer the request is refused, however it comes."""
    for pieces in (0, 1, 100):
        with pytest.raises(BadResponseError):
            answer(data, pieces)


def test_refusals() -> None:
    """They carry the server's answer: status, fields and body."""
    with pytest.raises(HandshakeRefusedError) as caught:
        answer(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\nWWW-Authenticate: Basic\r\n\r\nno!!extra", 3)
    error = caught.value
    assert (error.status, error.headers["www-authenticate"], error.body) == (401, "Basic", b"no!!")
    assert str(error) == "the server refused the WebSocket: 401 Unauthorized"
    for head in (b"HTTP/1.1 404\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 204 No\r\n\r\n"):
        with pytest.raises(HandshakeRefusedError):
            answer(head)
    reader = ResponseReader(KEY)
    assert reader.feed(b"HTTP/1.1 500 Oops\r\n\r\nuntil the end") is None
    error = reader.end()  # type: ignore[assignment]
    assert isinstance(error, HandshakeRefusedError)
    assert error.body == b"until the end"
    assert isinstance(ResponseReader(KEY).end(), BadResponseError)


@given(st.binary(min_size=1, max_size=200))
def test_rubbish_never_does_anything_else(data: bytes) -> None:
    """Random bytes are refused, or not yet an answer."""
    try:
        assert answer(data) is None
    except (BadResponseError, HandshakeRefusedError):
        pass
