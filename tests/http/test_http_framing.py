"""What a head says about the message: the rules one by one, each against all that it may meet."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimloop_http import STANDARD_METHODS, Head, Limits
from nimloop_http._framing import apply_control_fields, check_target
from nimloop_http.errors import (
    BadRequestError,
    BodyTooLargeError,
    ProtocolError,
    UnknownCodingError,
)

LIMITS = Limits()


def head_with(*fields: tuple[str, str], minor: int = 1, limits: Limits = LIMITS) -> Head:
    """Apply fields to a head that has a Host."""
    head = Head(b"", "POST", "/", minor)
    apply_control_fields(head, [("Host", "a"), *fields], limits)
    return head


def status_of(*fields: tuple[str, str], minor: int = 1) -> int:
    """Tell the status that the fields are refused with, or 0."""
    try:
        head_with(*fields, minor=minor)
    except ProtocolError as error:
        return error.status
    return 0


def test_a_head_without_control_fields() -> None:
    """HTTP/1.0 may have none at all; everything is as the class says."""
    head = Head(b"GET / HTTP/1.0\r\nX: y\r\n\r\n", "GET", "/", 0)
    apply_control_fields(head, [], LIMITS)
    assert (head.method, head.target, head.minor) == ("GET", "/", 0)
    assert (head.host, head.upgrade) == ("", "")
    assert head.content_length is None
    assert (head.chunked, head.has_body, head.keep_alive, head.expect_continue) == (False, False, False, False)
    assert head.raw == b"GET / HTTP/1.0\r\nX: y\r\n\r\n"
    assert repr(head) == "<Head GET / HTTP/1.0>"


def test_the_fields_of_a_head_are_taken_apart_once() -> None:
    """And only when somebody asks."""
    head = Head(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/", 1)
    assert head.headers is head.headers
    assert head.headers.fields() == [("Host", "a")]


def test_a_body_is_there_or_not() -> None:
    """An empty one with a length is there."""
    assert head_with().has_body is False
    assert head_with(("Content-Length", "0")).has_body is True
    assert head_with(("Content-Length", "7")).has_body is True
    assert head_with(("Transfer-Encoding", "chunked")).has_body is True


# Values that are good alone, and what each makes of the body; then every pair of them, in either order.
LENGTHS = {"5": 5, "5, 5": 5, "05": 5, "0": 0, "6": 6}
BAD_LENGTHS = ["", "x", "+5", "5,", "5, 6", "-1", "5 5"]


@pytest.mark.parametrize(("one", "two"), list(itertools.product(LENGTHS, repeat=2)))
def test_two_lengths_agree_or_are_refused(one: str, two: str) -> None:
    """They must be written alike: who knows what another program makes of 05."""
    alike = set(one.replace(" ", "").split(",")) == set(two.replace(" ", "").split(","))
    fields = (("Content-Length", one), ("content-length", two))
    if alike:
        assert head_with(*fields).content_length == LENGTHS[one]
    else:
        assert status_of(*fields) == 400


@pytest.mark.parametrize(("good", "bad"), list(itertools.product(LENGTHS, BAD_LENGTHS)))
def test_a_bad_length_is_not_saved_by_a_good_one(good: str, bad: str) -> None:
    """Before it or after it, or by itself."""
    assert status_of(("Content-Length", good), ("Content-Length", bad)) == 400
    assert status_of(("Content-Length", bad), ("Content-Length", good)) == 400
    assert status_of(("Content-Length", bad)) == 400


def test_a_length_at_the_limit() -> None:
    """One byte more is refused at once, and so is what no number holds."""
    limits = Limits(body=10)
    assert head_with(("Content-Length", "10"), limits=limits).content_length == 10
    for value in ("11", "9" * 19, "9" * 20, "9" * 5000, "0" * 20):
        with pytest.raises(BodyTooLargeError):
            head_with(("Content-Length", value), limits=limits)
    assert (
        head_with(("Content-Length", str((1 << 63) - 1)), limits=Limits(body=1 << 63)).content_length == (1 << 63) - 1
    )


def test_of_several_faults_in_lengths_the_first_is_told() -> None:
    """In every process: an order that depends on hashes would be different in each."""
    faults = [f"x{number}" for number in range(20)]
    for first in faults:
        with pytest.raises(BadRequestError, match=f"'{first}'"):
            head_with(("Content-Length", ", ".join([first, *faults])))


GOOD_CODINGS = ["chunked", "CHUNKED", " chunked ", "chunked\t"]
BAD_CODINGS = {
    "": 400,
    ",": 400,
    "chunked,": 400,
    ",chunked": 400,
    "identity": 400,
    "xchunked": 400,
    "chunked, chunked": 400,
    "chunked, gzip": 400,
    "chunked;q=1": 400,
    "gzip, chunked": 501,
    "gzip, br, chunked": 501,
}


@pytest.mark.parametrize("coding", GOOD_CODINGS)
def test_chunked_is_chunked(coding: str) -> None:
    """With HTTP/1.1, alone, and without a length."""
    assert head_with(("Transfer-Encoding", coding)).chunked
    assert status_of(("Transfer-Encoding", coding), minor=0) == 400
    for length in (*LENGTHS, *BAD_LENGTHS):
        assert status_of(("Transfer-Encoding", coding), ("Content-Length", length)) == 400
        assert status_of(("Content-Length", length), ("Transfer-Encoding", coding)) == 400


@pytest.mark.parametrize("coding", BAD_CODINGS)
def test_everything_else_is_not(coding: str) -> None:
    """Nor does a second field help; with a length or with HTTP/1.0 it is the same."""
    assert status_of(("Transfer-Encoding", coding)) == BAD_CODINGS[coding]
    assert status_of(("Transfer-Encoding", coding), minor=0) == 400
    assert status_of(("Transfer-Encoding", coding), ("Content-Length", "5")) == 400
    assert status_of(("Transfer-Encoding", "chunked"), ("Transfer-Encoding", coding)) == 400


def test_codings_of_several_fields_are_one_list() -> None:
    """RFC 9110 §5.3."""
    with pytest.raises(UnknownCodingError, match="'gzip'"):
        head_with(("Transfer-Encoding", "gzip"), ("Transfer-Encoding", "chunked"))
    with pytest.raises(BadRequestError):
        head_with(("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "gzip"))


@given(
    options=st.lists(st.sampled_from(["close", "keep-alive", "Close", "KEEP-ALIVE", "upgrade", "te", ""]), max_size=4),
    minor=st.sampled_from([0, 1]),
    split=st.booleans(),
)
def test_connection_is_a_list_of_tokens(options: list[str], minor: int, *, split: bool) -> None:
    """One field or several; close wins, then keep-alive, then the version's own rule (RFC 9112 §9.3)."""
    values = options if split else [" ,\t".join(options)] * bool(options)
    head = head_with(*(("Connection", value) for value in values), minor=minor)
    names = [option.lower() for option in options]
    assert head.keep_alive == ("close" not in names and (minor == 1 or "keep-alive" in names))


@pytest.mark.parametrize("value", ["a b", "close;", '"close"', "close, a/b", "\xa0close"])
def test_connection_that_is_no_list_of_tokens(value: str) -> None:
    """It might be read as close by one and as something else by another."""
    assert status_of(("Connection", value)) == 400


def test_expectations() -> None:
    """There is one; and HTTP/1.0 knows none (RFC 9110 §10.1.1)."""
    assert head_with(("Expect", "100-Continue \t")).expect_continue
    assert not head_with(("Expect", "100-continue"), minor=0).expect_continue
    for value in ("", "100", "200-ok", "100-continue, 100-continue"):
        assert head_with(("Expect", value)).unknown_expectation
        assert head_with(("Expect", "100-continue"), ("Expect", value)).unknown_expectation


def test_upgrade_is_told_as_it_was_sent() -> None:
    """All fields of that name, and none of HTTP/1.0 (RFC 9110 §7.8)."""
    assert head_with(("Upgrade", "websocket ")).upgrade == "websocket"
    assert head_with(("Upgrade", ""), ("Upgrade", "a, b/1\t"), ("upgrade", "c")).upgrade == "a, b/1, c"
    assert head_with(("Upgrade", "websocket"), minor=0).upgrade == ""


def test_a_host_is_needed_once() -> None:
    """By HTTP/1.1; nobody may send two."""
    for minor in (0, 1):
        for fields in ([("Host", "a"), ("Host", "a")], [("Host", ""), ("Host", "")]):
            with pytest.raises(BadRequestError):
                apply_control_fields(Head(b"", "GET", "/", minor), fields, LIMITS)
    with pytest.raises(BadRequestError):
        apply_control_fields(Head(b"", "GET", "/", 1), [], LIMITS)


def test_a_bad_host_is_refused_every_time() -> None:
    """Hosts that were good are remembered; those that were not are not good the second time."""
    for _ in range(3):
        head = Head(b"", "GET", "/", 1)
        apply_control_fields(head, [("Host", "example.com \t")], LIMITS)
        assert head.host == "example.com"
        with pytest.raises(BadRequestError):
            apply_control_fields(Head(b"", "GET", "/", 1), [("Host", "exa mple.com")], LIMITS)


FORMS = {
    "/": "origin",
    "//a/b": "origin",
    "/*": "origin",
    "*": "asterisk",
    "http://a": "absolute",
    "https://a:1/b?c": "absolute",
    "HTTP://[::1]/": "absolute",
    "a:1": "authority",
    "[::1]:443": "authority",
    "a:0": "authority",
    "a:65535": "authority",
    "a:65536": "none",
    "a": "none",
    "**": "none",
    ":1": "none",
    "http://": "none",
    "http://:1/": "none",
    "http:/a": "none",
    "ws://a/": "none",
    "?": "none",
}


@pytest.mark.parametrize(("target", "method"), list(itertools.product(FORMS, [*sorted(STANDARD_METHODS), "PURGE"])))
def test_each_method_has_its_forms_of_target(target: str, method: str) -> None:
    """RFC 9112 §3.2: authority for CONNECT and only there, the asterisk for OPTIONS."""
    allowed = {"authority"} if method == "CONNECT" else {"origin", "absolute"}
    if method == "OPTIONS":
        allowed.add("asterisk")
    head = Head(b"", method, target, 1)
    if FORMS[target] in allowed:
        check_target(method, target, head)
        assert bool(head.host) == (FORMS[target] == "absolute")
    else:
        with pytest.raises(BadRequestError, match=method):
            check_target(method, target, head)


def test_the_authority_of_the_target_counts() -> None:
    """RFC 9112 §3.2.2: but Host must be there, and be good."""
    head = Head(b"", "GET", "http://one:1/", 1)
    check_target("GET", head.target, head)
    apply_control_fields(head, [("Host", "two")], LIMITS)
    assert head.host == "one:1"
    head = Head(b"", "GET", "http://one:1/", 1)
    check_target("GET", head.target, head)
    with pytest.raises(BadRequestError):
        apply_control_fields(head, [("Host", "t/wo")], LIMITS)


@pytest.mark.parametrize("name", ["Connection", "Content-Length", "Transfer-Encoding", "Expect", "Upgrade", "Host"])
@pytest.mark.parametrize("filling", [" ", "\t", " \t", ",", " ,", ", ", "a ", "5 ", "a,", "5,"])
def test_no_value_takes_longer_than_it_is_long(name: str, filling: str) -> None:
    """A pass for each of a hundred thousand bytes would not be over before the time-out."""
    value = f"5{filling * 100_000}5"
    head = Head(b"", "POST", "/", 1)
    fields = [(name, value)] if name == "Host" else [("Host", "a"), (name, value)]
    try:
        apply_control_fields(head, fields, LIMITS)
    except ProtocolError:
        return
    assert name in {"Connection", "Content-Length", "Expect", "Host", "Upgrade"}
