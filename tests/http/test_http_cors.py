"""CORS: what a browser would be told, case by case, through a server."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.http.serving import Answer, Site, request

from nimloop_http import CorsPolicy, HttpRequest, HttpResponse

pytest_plugins = ["tests.http.fixtures"]

OWN = "https://app.example"


def serve(site: Site, policy: CorsPolicy) -> None:
    """Answer whatever is left to answer."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        if policy.check(req, res):
            res.send("content")

    site.start(on_request)


def ask(site: Site, method: str, *fields: str) -> Answer:
    """Ask once."""
    (answer,) = site.ask(request(method, "/", *fields), method)
    return answer


def preflight(site: Site, method: str = "PUT", *fields: str, origin: str = OWN) -> Answer:
    """Ask for permission, as a browser does."""
    return ask(site, "OPTIONS", f"Origin: {origin}", f"Access-Control-Request-Method: {method}", *fields)


def granted(answer: Answer) -> dict[str, str]:
    """Return what the answer says about access."""
    prefix = "access-control-"
    return {name.removeprefix(prefix): value for name, value in answer.headers if name.startswith(prefix)}


def test_a_listed_origin(site: Site) -> None:
    """H14: it is named, so that no other may use the answer, and caches are told."""
    serve(site, CorsPolicy([OWN], expose=["X-Total", "ETag"]))
    answer = ask(site, "GET", f"Origin: {OWN}")
    assert answer.body == b"content"
    assert granted(answer) == {"allow-origin": OWN, "expose-headers": "X-Total, ETag"}
    assert answer.get("vary") == "Origin"


def test_another_origin(site: Site) -> None:
    """It gets what any form could get, and no permission to read it."""
    serve(site, CorsPolicy([OWN], credentials=True))
    answer = ask(site, "GET", "Origin: https://evil.example")
    assert (answer.status, answer.body) == (200, b"content")
    assert granted(answer) == {}
    assert answer.get("vary") == "Origin"


def test_no_origin(site: Site) -> None:
    """The answer says that it could have been another one."""
    serve(site, CorsPolicy([OWN]))
    answer = ask(site, "GET")
    assert (answer.status, granted(answer), answer.get("vary")) == (200, {}, "Origin")


def test_every_origin(site: Site) -> None:
    """One answer for all, which a cache may keep for all."""
    serve(site, CorsPolicy("*"))
    for origin in (OWN, "null"):
        answer = ask(site, "GET", f"Origin: {origin}")
        assert granted(answer) == {"allow-origin": "*"}
        assert answer.get("vary") is None


def test_credentials(site: Site) -> None:
    """They need the origin by name."""
    serve(site, CorsPolicy(OWN, credentials=True))
    assert granted(ask(site, "GET", f"Origin: {OWN}")) == {"allow-origin": OWN, "allow-credentials": "true"}
    assert granted(preflight(site)) == {
        "allow-origin": OWN,
        "allow-credentials": "true",
        "allow-methods": "GET, HEAD, POST",
        "max-age": "600",
    }


def test_a_preflight(site: Site) -> None:
    """It is answered before the handler, without a body."""
    serve(site, CorsPolicy([OWN], methods=["PUT", "DELETE"], headers=["Content-Type", "X-Token"], max_age=7200))
    answer = preflight(site, "PUT", "Access-Control-Request-Headers: x-token")
    assert (answer.status, answer.body) == (204, b"")
    assert granted(answer) == {
        "allow-origin": OWN,
        "allow-methods": "PUT, DELETE",
        "allow-headers": "Content-Type, X-Token",
        "max-age": "7200",
    }
    assert answer.get("vary") == "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"


def test_a_preflight_of_another_origin(site: Site) -> None:
    """It is told no, in a way that a person at the browser's console understands."""
    serve(site, CorsPolicy([OWN]))
    answer = preflight(site, origin="https://evil.example")
    assert (answer.status, granted(answer)) == (403, {})
    assert b"origin" in answer.body


def test_a_preflight_for_anything(site: Site) -> None:
    """What was asked is allowed by name, because "*" would not cover everything; what is no name is left out."""
    serve(site, CorsPolicy([lambda origin: True], methods="*", headers="*", credentials=True))
    answer = preflight(site, "PATCH", "Access-Control-Request-Headers: authorization, x-a ,, b@d, x-c")
    assert granted(answer)["allow-methods"] == "PATCH"
    assert granted(answer)["allow-headers"] == "authorization, x-a, x-c"
    many = ",".join(f"x-{number}" for number in range(1000))
    answer = preflight(site, "B@D", f"Access-Control-Request-Headers: {many}")
    assert "allow-methods" not in granted(answer)
    assert len(granted(answer)["allow-headers"].split(",")) == 64


def test_private_networks(site: Site) -> None:
    """Only when both sides speak of it."""
    field = "Access-Control-Request-Private-Network: true"
    serve(site, CorsPolicy([OWN], private_network=True))
    assert granted(preflight(site, "GET", field))["allow-private-network"] == "true"
    assert "allow-private-network" not in granted(preflight(site, "GET"))
    serve(site, CorsPolicy([OWN]))
    assert "allow-private-network" not in granted(preflight(site, "GET", field))


@pytest.mark.parametrize("fields", [(), (f"Origin: {OWN}",), ("Access-Control-Request-Method: PUT",)])
def test_options_that_is_no_preflight(fields: tuple[str, ...], site: Site) -> None:
    """The handler gets it."""
    serve(site, CorsPolicy([OWN]))
    assert ask(site, "OPTIONS", *fields).body == b"content"


def test_two_origins_are_none(site: Site) -> None:
    """No browser sends two fields, and a list of origins is none that is listed."""
    serve(site, CorsPolicy([OWN]))
    assert granted(ask(site, "GET", f"Origin: {OWN}", "Origin: https://evil.example")) == {}


@pytest.mark.parametrize(
    ("rule", "allowed", "refused"),
    [
        (
            "https://*.example.org",
            ["https://a.example.org", "https://a.b.example.org"],
            [
                "https://example.org",
                "http://a.example.org",
                "https://a.example.org:8443",
                "https://evilexample.org",
                "https://a.example.org.evil.example",
                "https://evil.example/.example.org",
                "https://evil.example#.example.org",
                "https://user@.example.org",
                "https://.example.org",
                "https://a.exampleXorg",
                "https://a.example.org\n",
            ],
        ),
        ("http://*.localhost:8000", ["http://app.localhost:8000"], ["http://app.localhost", "http://localhost:8000"]),
        (
            re.compile(r"https://[a-z]+\.example"),
            ["https://a.example"],
            ["https://a.example.evil", "xhttps://a.example", "https://a.example\n"],
        ),
        (lambda origin: origin.endswith(".test"), ["https://a.test"], ["https://a.example"]),
        ("null", ["null"], ["https://null", "NULL"]),
        ("http://[::1]:8000", ["http://[::1]:8000"], ["http://[::1]"]),
        ("chrome-extension://abcdef", ["chrome-extension://abcdef"], ["chrome-extension://abcde"]),
    ],
)
def test_rules(rule: str, allowed: list[str], refused: list[str]) -> None:
    """Each is for the whole origin and not for a part of it."""
    policy = CorsPolicy([rule])
    assert [origin for origin in allowed if not policy.allows(origin)] == []
    assert [origin for origin in refused if policy.allows(origin)] == []


@given(st.text(st.characters(codec="latin-1")))
def test_nothing_else_looks_like_a_subdomain(prefix: str) -> None:
    """Whatever stands before the name, the host that a browser would see is one beneath it."""
    policy = CorsPolicy("https://*.example.org")
    if policy.allows(f"https://{prefix}.example.org"):
        assert re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", prefix)


@pytest.mark.parametrize(
    ("origins", "settings"),
    [
        ("*", {"credentials": True}),
        (["*"], {}),
        ("example.org", {}),
        ("https://example.org/", {}),
        ("https://example.org/path", {}),
        ("https://*example.org", {}),
        ("https://*.*.example.org", {}),
        ("https://*", {}),
        ("*.example.org", {}),
        ("HTTPS://example.org", {}),
        (OWN, {"methods": ["G T"]}),
        (OWN, {"headers": ["a,b"]}),
        (OWN, {"expose": ["a\r\n"]}),
        (OWN, {"expose": "*", "credentials": True}),
        (OWN, {"max_age": -1}),
    ],
)
def test_policies_that_browsers_would_not_understand(origins: str, settings: dict[str, object]) -> None:
    """They are refused when they are made, not found out in a browser's console."""
    with pytest.raises(ValueError):
        CorsPolicy(origins, **settings)  # type: ignore[arg-type]
