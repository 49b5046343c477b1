"""The head of a response: what may stand in it, and that nothing in it can break it apart."""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimloop_http import _encode
from nimloop_http._encode import STATUS_LINES, DateLine, check_name, check_status, check_value, is_bodyless
from nimloop_http.errors import InvalidHeaderError


@pytest.mark.parametrize("code", [200, 204, 299, 304, 404, 500, 599])
def test_final_status_codes_pass(code: int) -> None:
    """A final status is returned as it is, known or not."""
    assert check_status(code) == code


@pytest.mark.parametrize("code", [-1, 0, 99, 100, 101, 199, 600, 1000])
def test_other_status_codes_are_refused(code: int) -> None:
    """An interim status is not an answer, and the others are none at all."""
    with pytest.raises(ValueError, match="between 200 and 599"):
        check_status(code)


def test_every_status_has_a_line() -> None:
    """The reason may be empty, but the space before it is there."""
    assert STATUS_LINES[200] == "HTTP/1.1 200 OK\r\n"
    assert STATUS_LINES[404] == "HTTP/1.1 404 Not Found\r\n"
    assert STATUS_LINES[299] == "HTTP/1.1 299 \r\n"
    assert len(STATUS_LINES) == 600


def test_reasons_are_those_of_the_standard() -> None:
    """RFC 9110 §15, and not those of the Python that it runs on."""
    reasons = {
        413: "Content Too Large",
        414: "URI Too Long",
        416: "Range Not Satisfiable",
        422: "Unprocessable Content",
    }
    for code, reason in reasons.items():
        assert STATUS_LINES[code] == f"HTTP/1.1 {code} {reason}\r\n"


def test_statuses_without_a_body() -> None:
    """They are the interim ones, 204 and 304."""
    assert {code for code in range(100, 600) if is_bodyless(code)} == {*range(100, 200), 204, 304}


@pytest.mark.parametrize("name", ["X-Thing", "x", "ETag", "!#$%&'*+-.^_`|~09azAZ", "Set-Cookie"])
def test_tokens_are_names(name: str) -> None:
    """A token is the name of a field, and compares in lower case."""
    assert check_name(name) == name.lower()


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "a:",
        "a\r",
        "a\n",
        "a\r\nb",
        "a\0",
        "ä",
        "a\x7f",
        "(a)",
        "a/b",
        " a",
        "a ",
        "ſ",
        "a\n\n",
        "\u212a",
    ],
)
def test_what_is_no_token_is_no_name(name: str) -> None:
    """Anything else could end the line, or be read as two fields."""
    with pytest.raises(InvalidHeaderError, match="not the name"):
        check_name(name)


@pytest.mark.parametrize("name", ["Connection", "content-length", "DATE", "Keep-Alive", "Transfer-Encoding"])
def test_framing_belongs_to_the_server(name: str) -> None:
    """A field that frames the message cannot be set, and the error says what to do instead."""
    with pytest.raises(InvalidHeaderError, match="set by the server"):
        check_name(name)


@pytest.mark.parametrize(
    ("value", "kept"), [("", ""), ("a", "a"), (" a\t", "a"), ("a b\tc", "a b\tc"), ("\xe4\xff", "\xe4\xff"), (" ", "")]
)
def test_printable_text_is_a_value(value: str, kept: str) -> None:
    """Visible characters, white space between them and ISO 8859-1 pass; white space around is no part of the value."""
    assert check_value(value) == kept


@pytest.mark.parametrize(
    "value", ["\r", "\n", "a\r\nSet-Cookie: b", "\0", "a\0", "\x7f", "\x1b", "\x0b", "Ω", "a\n", "\u2028", "\ud800"]
)
def test_control_characters_are_no_value(value: str) -> None:
    """What would split the response, or is not one byte, is refused."""
    with pytest.raises(InvalidHeaderError, match="not the value"):
        check_value(value)


def test_a_refused_field_is_both_misuse_and_a_bad_value() -> None:
    """The error can be caught as ValueError, which is what it is."""
    assert issubclass(InvalidHeaderError, ValueError)


@given(name=st.text(max_size=12), value=st.text(max_size=30))
def test_what_passes_is_one_field_for_a_strict_reader(name: str, value: str) -> None:
    """Whatever is accepted comes out of another parser as exactly one field with that name and value."""
    try:
        lower = check_name(name)
        kept = check_value(value)
    except InvalidHeaderError:
        return
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(f"HTTP/1.1 204 No Content\r\n{name}: {kept}\r\n\r\n".encode("latin-1"))
    event = reader.next_event()
    assert isinstance(event, h11.Response)
    assert list(event.headers) == [(lower.encode(), kept.encode("latin-1"))]


def test_the_date_is_the_clocks_made_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Date field is made anew only when the second has changed, whose end the loop's clock tells."""
    now = 784_111_777.25
    made: list[float] = []

    def formatdate(second: float, *, usegmt: bool) -> str:
        made.append(second)
        return email.utils.formatdate(second, usegmt=usegmt)

    monkeypatch.setattr(_encode, "time", lambda: now)
    monkeypatch.setattr(_encode, "formatdate", formatdate)
    line = DateLine().line
    assert line(5_000_000_000) == "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    now += 0.75
    assert line(5_749_999_999) == "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    assert made == [784_111_777]
    assert line(5_750_000_000) == "Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"
    now -= 10
    assert line(6_749_999_999) == "Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"  # set back: true again within a second
    assert line(6_750_000_000) == "Date: Sun, 06 Nov 1994 08:49:28 GMT\r\n"
    assert made == [784_111_777, 784_111_778, 784_111_768]


def test_the_date_is_the_date() -> None:
    """Without anybody meddling, it is now."""
    text = DateLine().line(0).removeprefix("Date: ").removesuffix("\r\n")
    assert abs(parsedate_to_datetime(text) - datetime.now(UTC)) < timedelta(seconds=5)
