"""Behind proxies: who is believed, and what; header fields and the PROXY protocol."""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.http.serving import Client, Site, request
from tests.net.certificates import client_context, server_context

from nimloop_http import Headers, HttpRequest, HttpResponse, Timeouts, TrustedProxies
from nimloop_http._proxyprotocol import crc32c
from nimloop_http.errors import ProxyProtocolError
from nimloop_http.proxy import Client as Asked
from nimloop_http.proxy import read_proxy_header

pytest_plugins = ("tests.http.fixtures",)

OURS = TrustedProxies(["10.0.0.0/8", "::1", "fd00::/8", "unix"])
STANDARD = TrustedProxies(["10.0.0.0/8"], fields="forwarded")


def ask(proxies: TrustedProxies, peer: str, *fields: tuple[str, str]) -> tuple[str, str, str]:
    """Ask who the client is."""
    return proxies.client(Headers(fields), peer, "http", "inner")


# Header fields -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "value", "client"),
    [
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),  # not a proxy of ours: nothing it says counts
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.7", "198.51.100.7"),  # what is further left anybody may have sent
        ("10.0.0.1", "6.6.6.6, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),  # all of them ours: the outermost
        ("10.0.0.1", "198.51.100.7, unknown", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7, 10.0.0.2, nonsense", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7,,10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7:4711", "198.51.100.7"),
        ("10.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("10.0.0.1", "[2001:DB8::7]:4711", "2001:db8::7"),
        ("10.0.0.1", "::ffff:198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7, ::ffff:10.0.0.9", "198.51.100.7"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("::1", "198.51.100.7, fd00::5", "198.51.100.7"),
        ("", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.999", "10.0.0.1"),
        ("10.0.0.1", "127.1", "10.0.0.1"),
    ],
)
def test_h12_the_client_is_the_rightmost_that_is_not_trusted(peer: str, value: str, client: str) -> None:
    """The list is true from the right, as far as each hop is one of ours."""
    fields = [("X-Forwarded-For", value)] if value else []
    assert ask(OURS, peer, *fields)[0] == client
    standard = TrustedProxies(["10.0.0.0/8", "::1", "fd00::/8", "unix"], fields="forwarded")
    elements = [element.strip() for element in value.split(",")] if value else []
    spelt = ", ".join(
        f'for="[{element}]"' if element.count(":") > 1 and "[" not in element else f'for="{element}"'
        for element in elements
    )
    assert ask(standard, peer, *[("Forwarded", spelt)] if spelt else [])[0] == client


def test_h12_several_fields_are_one_list() -> None:
    """RFC 9110 §5.3: in their order."""
    fields = [("X-Forwarded-For", "6.6.6.6"), ("x-forwarded-for", "198.51.100.7, 10.0.0.2")]
    assert ask(OURS, "10.0.0.1", *fields)[0] == "198.51.100.7"


def test_h12_only_the_chosen_kind_is_looked_at() -> None:
    """The other one is passed on as the client has sent it."""
    both = [("X-Forwarded-For", "198.51.100.7"), ("Forwarded", "for=203.0.113.9;proto=https")]
    assert ask(OURS, "10.0.0.1", *both) == ("198.51.100.7", "http", "inner")
    assert ask(STANDARD, "10.0.0.1", *both) == ("203.0.113.9", "https", "inner")


@pytest.mark.parametrize(
    ("proto", "host", "expected"),
    [
        ("https", "example.org", ("https", "example.org")),
        ("HTTPS", "example.org:8443", ("https", "example.org:8443")),
        ("gopher", "exa mple", ("http", "inner")),
        ("", "", ("http", "inner")),
        ("https, http", "a, b", ("https", "a")),  # as many as addresses: each belongs to its own
        ("http, http, https", "a, b, c", ("https", "c")),
    ],
)
def test_h12_scheme_and_host_come_with_the_client(proto: str, host: str, expected: tuple[str, str]) -> None:
    """As the proxy that saw the client has told them; what is malformed does not count."""
    fields = [("X-Forwarded-For", "198.51.100.7, 10.0.0.2"), ("X-Forwarded-Proto", proto), ("X-Forwarded-Host", host)]
    assert ask(OURS, "10.0.0.1", *[field for field in fields if field[1]])[1:] == expected


@pytest.mark.parametrize("addresses", [None, "unknown", "6.6.6.6, unknown"])
def test_h12_scheme_and_host_without_an_address(addresses: str | None) -> None:
    """What the proxy says of them counts even where it does not say who the client is."""
    fields = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "example.org")]
    if addresses is not None:
        fields.append(("X-Forwarded-For", addresses))
    assert ask(OURS, "10.0.0.1", *fields) == ("10.0.0.1", "https", "example.org")
    assert ask(OURS, "6.6.6.6", *fields) == ("6.6.6.6", "http", "inner")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('for=198.51.100.7;proto=https;host="example.org:8443";by=_x', ("198.51.100.7", "https", "example.org:8443")),
        ('For="[2001:db8::7]:4711" ; Proto=HTTPS', ("2001:db8::7", "https", "inner")),
        ('for="198.51.100.7:_port"', ("198.51.100.7", "http", "inner")),
        ("for=198.51.100.7;host=a, for=10.0.0.2;host=b;proto=https", ("198.51.100.7", "https", "a")),
        ('for="198\\.51.100.7"', ("198.51.100.7", "http", "inner")),
        ("for=unknown;proto=https", ("10.0.0.1", "https", "inner")),
        ("for=_hidden;proto=https", ("10.0.0.1", "https", "inner")),
        ("proto=https", ("10.0.0.1", "https", "inner")),
        ("for=1.2.3.4;for=198.51.100.7", ("10.0.0.1", "http", "inner")),
        ('for="198.51.100.7', ("10.0.0.1", "http", "inner")),
        ("for=198.51.100.7 proto=https", ("10.0.0.1", "http", "inner")),
        ("for = 198.51.100.7", ("10.0.0.1", "http", "inner")),
        ("for=2001:db8::7", ("10.0.0.1", "http", "inner")),  # §6: has to be quoted
    ],
)
def test_h12_the_field_of_rfc_7239(value: str, expected: tuple[str, str, str]) -> None:
    """Its elements, parameters and quoted strings; what is malformed hides everything."""
    assert ask(STANDARD, "10.0.0.1", ("Forwarded", value)) == expected


@given(left=st.lists(st.ip_addresses(), max_size=40), ours=st.lists(st.ip_addresses(network="10.0.0.0/8"), max_size=20))
def test_h12_whatever_a_client_sends_it_cannot_become_another(
    left: list[ipaddress.IPv4Address], ours: list[ipaddress.IPv4Address]
) -> None:
    """The proxies append the address that they see: in front of it there may be anything."""
    value = ", ".join(map(str, [*left, "198.51.100.7", *ours]))
    assert ask(OURS, "10.0.0.1", ("X-Forwarded-For", value))[0] == "198.51.100.7"


@pytest.mark.parametrize("filling", ["for=a;", 'for="', ",", '"\\', "for=10.0.0.1, ", "=", " "])
def test_h12_no_field_takes_longer_than_it_is_long(filling: str) -> None:
    """A pass for each of its bytes would not be over before the time-out."""
    for field in ("Forwarded", "X-Forwarded-For"):
        for proxies in (OURS, STANDARD):
            ask(proxies, "10.0.0.1", (field, filling * 50_000))


def test_a_network_has_to_be_one() -> None:
    """Also: one text is not a list."""
    for bad in (["10.0.0.0/33"], ["localhost"], ["10.0.0.1/8"], "10.0.0.0/8"):
        with pytest.raises(ValueError, match=r"network|not appear|bits"):
            TrustedProxies(bad)
    with pytest.raises(ValueError, match="x-forwarded"):
        TrustedProxies([], fields="x-real-ip")  # type: ignore[arg-type]
    assert repr(TrustedProxies(["unix", "::1"])) == "TrustedProxies(['::1/128', 'unix'], fields='x-forwarded')"


def tell(req: HttpRequest, res: HttpResponse) -> None:
    """Answer with who asks."""
    res.send(f"{req.client_ip} {req.scheme} {req.host}")


def test_h12_a_request_tells_who_its_client_is(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """And so does the access log. Without trusted proxies the fields mean nothing."""
    caplog.set_level(logging.INFO, "nimloop.http.access")
    fields = ["X-Forwarded-For: 198.51.100.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: example.org"]
    site.start(tell, access_log=True)
    client = site.dial()
    client.send(request("GET", "/", *fields))
    assert client.answer().body == b"127.0.0.1 http test"
    site.start(tell, proxies=TrustedProxies(), access_log=True)
    client = site.dial()
    client.send(request("GET", "/", *fields))
    assert client.answer().body == b"198.51.100.7 https example.org"
    client.send(b"\0")
    client.read_all()
    assert [record.getMessage().split()[0] for record in caplog.records] == ["127.0.0.1", "198.51.100.7", "127.0.0.1"]


# The PROXY protocol --------------------------------------------------------------------------------------------------

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(family: int, body: bytes, *, command: int = 0x21) -> bytes:
    """Spell a header of version 2."""
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2, "big") + body


def tcp4(extra: bytes = b"") -> bytes:
    """Spell the header of version 2 for a client with IPv4."""
    addresses = socket.inet_aton("198.51.100.7") + socket.inet_aton("203.0.113.1")
    return v2(0x11, addresses + (4711).to_bytes(2, "big") + (443).to_bytes(2, "big") + extra)


def tcp6() -> bytes:
    """Spell the header of version 2 for a client with IPv6."""
    addresses = b"".join(socket.inet_pton(socket.AF_INET6, text) for text in ("2001:db8::7", "2001:db8::1"))
    return v2(0x21, addresses + (4711).to_bytes(2, "big") + (443).to_bytes(2, "big"))


def extension(kind: int, value: bytes) -> bytes:
    """Spell a type, length and value."""
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


def with_checksum() -> bytes:
    """Spell a header with a checksum that matches."""
    more = extension(4, bytes(9))
    zeroed = tcp4(extension(3, bytes(4)) + more)
    return tcp4(extension(3, crc32c(zeroed).to_bytes(4, "big")) + more)


GOOD = {
    "v1 tcp4": (b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 443\r\n", ("198.51.100.7", 4711), False),
    "v1 tcp6": (b"PROXY TCP6 2001:db8::7 2001:DB8::1 4711 443\r\n", ("2001:db8::7", 4711), False),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", None, False),
    "v1 unknown with more": (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None, False),
    "v1 port 0": (b"PROXY TCP4 198.51.100.7 203.0.113.1 0 65535\r\n", ("198.51.100.7", 0), False),
    "v2 tcp4": (tcp4(), ("198.51.100.7", 4711), False),
    "v2 tcp6": (tcp6(), ("2001:db8::7", 4711), False),
    "v2 udp6": (v2(0x22, tcp6()[16:]), ("2001:db8::7", 4711), False),
    "v2 local": (v2(0, b"", command=0x20), None, False),
    "v2 local with more": (v2(0x11, bytes(50), command=0x20), None, False),
    "v2 unspec": (v2(0, b"abc"), None, False),
    "v2 unix": (v2(0x31, bytes(216)), None, False),
    "v2 with extensions": (tcp4(extension(1, b"h2") + extension(4, b"")), ("198.51.100.7", 4711), False),
    "v2 with a long extension": (
        tcp4(extension(4, bytes(400)) + extension(0x20, b"\x01\0\0\0\0")),
        ("198.51.100.7", 4711),
        True,
    ),
    "v2 with tls": (tcp4(extension(0x20, b"\x01\0\0\0\0")), ("198.51.100.7", 4711), True),
    "v2 without tls": (tcp4(extension(0x20, b"\0\0\0\0\0")), ("198.51.100.7", 4711), False),
    "v2 with a checksum": (with_checksum(), ("198.51.100.7", 4711), False),
}


@pytest.mark.parametrize("name", GOOD)
def test_h12_a_proxy_header_is_read_however_it_was_cut(name: str) -> None:
    """Nothing is said before it is complete, and nothing behind it is taken."""
    data, source, secure = GOOD[name]
    for count in range(1, len(data)):
        assert read_proxy_header(data[:count]) is None
    for rest in (b"", b"GET / HTTP/1.1\r\n", b"\0\r\n"):
        found = read_proxy_header(data + rest)
        assert found is not None
        assert (found.source, found.secure, found.size) == (source, secure, len(data))


@pytest.mark.parametrize("name", ["v1 tcp4", "v1 tcp6", "v2 tcp4", "v2 tcp6"])
def test_a_proxy_header_says_where_the_client_had_connected_to(name: str) -> None:
    """The second address, with the second port."""
    found = read_proxy_header(GOOD[name][0])
    assert found is not None
    assert found.destination == ("203.0.113.1" if "tcp4" in name else "2001:db8::1", 443)


BAD = {
    "http": b"GET / HTTP/1.1\r\n",
    "http post": b"POST / HTTP/1.1\r\n",
    "tls": b"\x16\x03\x01",
    "empty line": b"\r\n\r\nGET",
    "lower case": b"proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
    "two spaces": b"PROXY TCP4  198.51.100.7 203.0.113.1 4711 443\r\n",
    "tab": b"PROXY TCP4\t198.51.100.7 203.0.113.1 4711 443\r\n",
    "space at the end": b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 443 \r\n",
    "line feed alone": b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 443\n",
    "line feed inside": b"PROXY UNKNOWN x\ny\r\n",
    "wrong family": b"PROXY TCP4 2001:db8::7 2001:db8::1 4711 443\r\n",
    "udp": b"PROXY UDP4 198.51.100.7 203.0.113.1 4711 443\r\n",
    "short address": b"PROXY TCP4 127.1 203.0.113.1 4711 443\r\n",
    "leading zero": b"PROXY TCP4 198.51.100.7 203.0.113.1 04711 443\r\n",
    "sign": b"PROXY TCP4 198.51.100.7 203.0.113.1 +1 443\r\n",
    "port too high": b"PROXY TCP4 198.51.100.7 203.0.113.1 65536 443\r\n",
    "port missing": b"PROXY TCP4 198.51.100.7 203.0.113.1 4711\r\n",
    "nothing": b"PROXY\r\n",
    "unknown word": b"PROXY UNKNOWNS\r\n",
    "too long": b"PROXY UNKNOWN " + b"x" * 100,
    "version 1 in version 2": v2(0x11, bytes(12), command=0x11),
    "version 3": v2(0x11, bytes(12), command=0x31),
    "command": v2(0x11, bytes(12), command=0x22),
    "family": v2(0x41, bytes(12)),
    "transport": v2(0x13, bytes(12)),
    "addresses cut": v2(0x11, bytes(11)),
    "addresses of ipv6 cut": v2(0x21, bytes(12)),
    "too large": SIGNATURE + b"\x21\x11\xff\xff",
    "extension cut": tcp4(b"\x01\0"),
    "extension too long": tcp4(b"\x01\0\x05abcd"),
    "checksum": tcp4(extension(3, b"abcd")),
    "checksum too short": tcp4(extension(3, b"abc")),
    "tls too short": tcp4(extension(0x20, b"\x01")),
}


@pytest.mark.parametrize("name", BAD)
def test_h12_a_bad_proxy_header_is_refused(name: str) -> None:
    """Whole or byte by byte: nothing is guessed."""
    with pytest.raises(ProxyProtocolError):
        read_proxy_header(BAD[name])
    for count in range(1, len(BAD[name])):
        try:
            assert read_proxy_header(BAD[name][:count]) is None
        except ProxyProtocolError:
            break


@given(data=st.binary(max_size=300), good=st.sampled_from(sorted(GOOD)))
def test_h12_any_bytes_are_a_header_or_an_error(data: bytes, good: str) -> None:
    """No other exception, and no size beyond what is there."""
    for each in (data, SIGNATURE + data, GOOD[good][0][:20] + data, b"PROXY TCP4 " + data):
        try:
            found = read_proxy_header(each)
        except ProxyProtocolError:
            continue
        assert found is None or found.size <= len(each)


def test_the_checksum_is_the_one_of_the_rfc() -> None:
    """The usual check value, and RFC 3720 §B.4."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA


@pytest.mark.parametrize("name", ["v1 tcp4", "v2 tcp4", "v2 with tls", "v1 unknown", "v2 local"])
@pytest.mark.parametrize("cut", [0, 1, 13, 30])
def test_h12_the_server_believes_a_proxy_header(site: Site, name: str, cut: int) -> None:
    """It counts for every request of the connection, and what follows it is the first one."""
    site.start(tell, proxies=TrustedProxies(), proxy_protocol=True)
    client = site.dial()
    data, source, secure = GOOD[name]
    whole = data + request()
    if cut:
        client.send(whole[:cut])
        site.settle()
    client.send(whole[cut:])
    ip = source[0] if source is not None else "127.0.0.1"
    expected = f"{ip} {'https' if secure else 'http'} test".encode()
    assert client.answer().body == expected
    client.send(request())
    assert client.answer().body == expected


def refused(site: Site, client: Client) -> None:
    """Wait for the reset."""
    site.until(client.poll)
    assert client.reset or not client.received
    assert not client.received


@pytest.mark.parametrize("data", [request(), b"PROXY TCP4 x\r\n", b"\x16\x03\x01\x02\x00"])
def test_h12_without_a_valid_header_nobody_is_served(site: Site, data: bytes) -> None:
    """There is nothing that could be answered to a proxy."""
    site.start(tell, proxies=TrustedProxies(), proxy_protocol=True)
    client = site.dial()
    client.send(data)
    refused(site, client)


def test_h12_only_proxies_may_send_a_proxy_header(site: Site) -> None:
    """Anybody else is cut off, whatever it says; and without any proxies the setting makes no sense."""
    site.start(tell, proxies=TrustedProxies(["192.0.2.0/24"]), proxy_protocol=True)
    client = site.dial()
    refused(site, client)
    with pytest.raises(ValueError, match="proxies"):
        site.start(tell, proxy_protocol=True)


def test_h12_a_proxy_header_has_a_deadline(timed_site: Site) -> None:
    """One that does not come in time is not waited for."""
    timed_site.start(tell, proxies=TrustedProxies(), proxy_protocol=True, timeouts=Timeouts(head=3.0))
    client = timed_site.dial()
    client.send(b"PROXY TCP4 ")
    timed_site.settle()
    timed_site.pass_time(2.9, 0.01)
    assert not client.poll()
    timed_site.pass_time(0.2, 0.01)
    refused(timed_site, client)


# TLS -----------------------------------------------------------------------------------------------------------------


def talk(site: Site, data: bytes, *, before: bytes = b"", apart: bool = False) -> tuple[bytes, str | None]:
    """Send bytes over TLS, and return what came back with the protocol that was agreed on.

    What is sent before them comes with the beginning of TLS, or apart from it.
    """
    context = client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    client = site.dial()
    if before:
        client.send(before)
    if apart:
        site.settle()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    got = b""
    sent = False

    def step() -> bool:
        nonlocal got, sent
        client.poll()
        incoming.write(bytes(client.received))
        client.received.clear()
        try:
            if not sent:
                tls.do_handshake()
                tls.write(data)
                sent = True
            while True:
                piece = tls.read(65536)
                if not piece:
                    return True
                got += piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            return True
        if outgoing.pending:
            client.sock.send(outgoing.read())
        return False

    site.until(step)
    return got, tls.selected_alpn_protocol()


def test_https(site: Site) -> None:
    """The same answers over TLS; ALPN says http/1.1, the request says https."""
    site.start(tell, tls=server_context())
    got, protocol = talk(site, request() + request("GET", "/", "Connection: close"))
    assert protocol == "http/1.1"
    assert got.count(b"HTTP/1.1 200 OK") == 2
    assert got.endswith(b"127.0.0.1 https test")


def test_a_resource_of_https_needs_a_secured_connection(site: Site) -> None:
    """RFC 9110 §7.4: 421 over a plain connection, unless a trusted proxy may have secured it; over TLS it is served."""
    asked = b"GET https://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n"
    site.start(lambda _, res: res.send("here"))
    (answer,) = site.ask(asked)
    assert (answer.status, answer.get("connection")) == (421, "close")
    (answer,) = site.ask(asked.replace(b"https:", b"HTTPS:"))
    assert answer.status == 421
    (answer,) = site.ask(asked.replace(b"https:", b"http:"))
    assert answer.body == b"here"
    site.start(lambda _, res: res.send("there"), proxies=TrustedProxies(["127.0.0.1"]))
    (answer,) = site.ask(asked)
    assert answer.body == b"there"
    site.start(tell, tls=server_context())
    got, _ = talk(site, asked + request("GET", "/", "Connection: close"))
    assert got.count(b"HTTP/1.1 200 OK") == 2


def test_https_behind_a_proxy_header(site: Site) -> None:
    """The header comes first, in plain text, and TLS behind it."""
    site.start(tell, tls=server_context(), proxies=TrustedProxies(), proxy_protocol=True)
    for name in ("v1 tcp4", "v2 tcp4"):
        for apart in (False, True):
            got, _ = talk(site, request("GET", "/", "Connection: close"), before=GOOD[name][0], apart=apart)
            assert got.endswith(b"198.51.100.7 https test")


def test_plain_http_on_a_port_for_https_is_told_so(site: Site) -> None:
    """400 in plain text, which the client can read."""
    site.start(tell, tls=server_context())
    client = site.dial()
    client.send(request())
    answer = client.answer()
    assert (answer.status, answer.get("connection")) == (400, "close")
    assert b"HTTPS" in answer.body
    assert answer.get("date")  # RFC 9110 §6.6.1: in all of 4xx
    client.read_all()


def test_tls_on_a_plain_port_is_a_bad_request(site: Site) -> None:
    """A client's hello is no request: 400, at once, and the connection ends."""
    site.start(tell)
    client = site.dial()
    outgoing = ssl.MemoryBIO()
    tls = client_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    client.send(outgoing.read())
    assert client.read_all().startswith(b"HTTP/1.1 400 ")


def test_h11_a_handshake_has_a_deadline(timed_site: Site) -> None:
    """Also one that has not even begun."""
    timed_site.start(tell, tls=server_context(), timeouts=Timeouts(head=3.0, handshake=4.0))
    silent, slow = timed_site.dial(), timed_site.dial()
    slow.send(b"\x16\x03\x01")
    timed_site.settle()
    timed_site.pass_time(2.9, 0.01)
    assert not silent.poll()
    timed_site.pass_time(0.2, 0.01)
    assert silent.poll()
    assert not slow.poll()
    timed_site.pass_time(1.0, 0.01)
    timed_site.until(slow.poll)


def test_shutdown_does_not_wait_for_a_preface(site: Site) -> None:
    """Nothing was asked for yet."""
    done: list[int] = []
    server = site.start(tell, tls=server_context())
    client = site.dial()
    site.until(lambda: server._tcp.connections)
    server.shutdown(5.0, done.append)
    assert client.read_all() == b""
    client.close()
    site.until(lambda: done)
    assert done == [0]


# Sockets of others ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_number", [False, True])
def test_inherited_and_accepted_sockets_are_served(site: Site, *, as_number: bool) -> None:
    """One that listens already, and one that somebody else has accepted, given as objects or as descriptors."""
    server = site.start(tell)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as plain:
        copy = listener.dup()
        server.adopt(copy.detach() if as_number else copy)
        plain.connect(listener.getsockname())
        plain.setblocking(False)
        client = Client(site, plain)
        client.send(request())
        assert client.answer().status == 200
    here, there = socket.socketpair()
    with there:
        server.inject(here.detach() if as_number else here)
        there.setblocking(False)
        client = Client(site, there)
        client.send(request())
        assert client.answer().body == b" http test"


def test_no_more_connections_than_allowed(site: Site) -> None:
    """The next one waits until one is gone."""
    site.start(tell, max_connections=1)
    first, second = site.dial(), site.dial()
    first.send(request())
    first.answer()
    second.send(request())
    site.settle(10)
    assert not second.poll()
    assert not second.received
    first.close()
    assert second.answer().status == 200


def test_a_client_is_a_tuple() -> None:
    """With names."""
    assert Asked("192.0.2.1", "http", "x")._asdict() == {"ip": "192.0.2.1", "scheme": "http", "host": "x"}
