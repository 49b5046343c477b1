"""Conditional requests: every combination of the fields against the steps of RFC 9110 §13.2.2, and the dates."""

from __future__ import annotations

import os
import time
from calendar import timegm
from collections.abc import Iterator
from email.utils import formatdate
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nimloop_http import Headers
from nimloop_http._conditional import Validators, evaluate, range_applies, validators_of

MODIFIED = 784_111_777  # Sun, 06 Nov 1994 08:49:37 GMT, the date of the RFC
ETAG = '"2ee-a,b"'  # with a comma, which a list must not be split at
CURRENT = Validators(ETAG, formatdate(MODIFIED, usegmt=True), MODIFIED)
BEFORE = formatdate(MODIFIED - 1, usegmt=True)
AFTER = formatdate(MODIFIED + 1, usegmt=True)

# The field, whether it matches by strong comparison, and by weak.
TAGS: list[tuple[str | None, bool, bool]] = [
    (None, False, False),
    (ETAG, True, True),
    (f"W/{ETAG}", False, True),
    ('"other"', False, False),
    ("*", True, True),
    (" * ", True, True),
    (f'"x", {ETAG}', True, True),
    (f'"x" ,, W/{ETAG},"y"', False, True),
    (f'W/"x",{ETAG} , "y"', True, True),
    ('"2ee-a", "b"', False, False),
    ('"*"', False, False),
    ('"x", "2ee-a,c"', False, False),
    ("2ee-a,b", False, False),
    ("", False, False),
]
# The field, and the time it stands for.
DATES: list[tuple[str | None, int | None]] = [
    (None, None),
    (BEFORE, MODIFIED - 1),
    (CURRENT.last_modified, MODIFIED),
    (AFTER, MODIFIED + 1),
    ("yesterday", None),
]
GARBAGE = [
    "",
    " ",
    "0",
    "784111777",
    "1994-11-06T08:49:37Z",
    "Sun, 06 Nov 1994 08:49:37",
    "Sun, 06 Nov 1994 08:49:37 UTC",
    "Sun, 06 Nov 1994 08:49:37 +0100",
    "Sun, 06 Nov 1994 08:49:37 GMT; length=5",
    "Sun, 6 Nov 1994 08:49:37 GMT",
    "Sun, 06 nov 1994 08:49:37 GMT",
    "sun, 06 Nov 1994 08:49:37 GMT",
    "Sun, 31 Feb 1994 08:49:37 GMT",
    "Sun, 06 Nov 1994 25:49:37 GMT",
    "Sun, 06 Nov 0000 08:49:37 GMT",
    "Sun, 06 Nov 94 08:49:37 GMT",
    "Sunday, 06-Nov-1994 08:49:37 GMT",
    "Sun Nov 6 08:49:37 1994",
    "Sun Nov    08:49:37 1994",
    "06 Nov 1994 08:49:37 GMT",
    "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
    "Sun, \u0660\u0666 Nov 1994 08:49:37 GMT",
    CURRENT.etag,
]


@pytest.fixture(params=["UTC", "America/New_York", "Asia/Kolkata", "XXX-14"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Live elsewhere for the time of a test."""
    if not hasattr(time, "tzset"):
        pytest.skip("the time zone of a process cannot be changed here")
    monkeypatch.setenv("TZ", str(request.param))
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def headers(**values: str | None) -> Headers:
    """Make header fields of what is not None."""
    return Headers((name.replace("_", "-"), value) for name, value in values.items() if value is not None)


def expected(
    if_match: tuple[str | None, bool, bool],
    unmodified_since: tuple[str | None, int | None],
    if_none_match: tuple[str | None, bool, bool],
    modified_since: tuple[str | None, int | None],
) -> int:
    """Go through RFC 9110 §13.2.2 step by step."""
    # 1. and 2.
    if if_match[0] is not None:
        if not if_match[1]:
            return 412
    elif unmodified_since[1] is not None and not unmodified_since[1] >= MODIFIED:
        return 412
    # 3. and 4.
    if if_none_match[0] is not None:
        if if_none_match[2]:
            return 304
    elif modified_since[1] is not None and not modified_since[1] < MODIFIED:
        return 304
    return 200


def test_every_combination() -> None:
    """Each field has its place, and some silence others."""
    for combination in product(TAGS, DATES, TAGS, DATES):
        if_match, unmodified_since, if_none_match, modified_since = combination
        fields = headers(
            If_Match=if_match[0],
            If_Unmodified_Since=unmodified_since[0],
            If_None_Match=if_none_match[0],
            If_Modified_Since=modified_since[0],
        )
        assert evaluate(fields, CURRENT) == expected(*combination), fields


def test_a_list_may_come_in_several_fields() -> None:
    """Two fields of one name are one list (RFC 9110 §5.3)."""
    assert evaluate(Headers([("If-None-Match", '"x"'), ("If-None-Match", ETAG)]), CURRENT) == 304
    assert evaluate(Headers([("If-Match", '"x"'), ("if-match", ETAG)]), CURRENT) == 200


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize(
    "date",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun Nov 06 08:49:37 1994",
        " Sun, 06 Nov 1994 08:49:37 GMT\t",
    ],
)
def test_all_three_forms_of_a_date(date: str) -> None:
    """They mean the same, wherever the server stands (RFC 9110 §5.6.7)."""
    assert evaluate(headers(If_Modified_Since=date), CURRENT) == 304
    assert evaluate(headers(If_Modified_Since=date), CURRENT._replace(modified=MODIFIED + 1)) == 200
    assert evaluate(headers(If_Unmodified_Since=date), CURRENT) == 200
    assert evaluate(headers(If_Unmodified_Since=date), CURRENT._replace(modified=MODIFIED + 1)) == 412
    assert range_applies(headers(If_Range=date), CURRENT)


@pytest.mark.parametrize("date", GARBAGE)
def test_what_is_no_date_is_ignored(date: str) -> None:
    """A condition that cannot be read is none; only If-Range then takes the safe way, the whole file."""
    assert evaluate(headers(If_Modified_Since=date), CURRENT) == 200
    assert evaluate(headers(If_Unmodified_Since=date), CURRENT) == 200
    assert range_applies(headers(If_Range=date), CURRENT) == (date == CURRENT.etag)


def test_two_digits_of_a_year() -> None:
    """They never mean more than fifty years ahead."""
    this_year = time.gmtime().tm_year
    for year in range(this_year - 48, this_year + 50):
        date = f"Sunday, 01-Jan-{year % 100:02} 00:00:00 GMT"
        exactly = timegm((year, 1, 1, 0, 0, 0))
        assert range_applies(headers(If_Range=date), CURRENT._replace(modified=exactly)), year


@pytest.mark.usefixtures("zone")
@given(seconds=st.integers(0, 253_402_300_799))
@example(seconds=951_782_400)  # the leap day of 2000
def test_our_own_dates_come_back(seconds: int) -> None:
    """What Last-Modified says is read as the same second."""
    current = Validators(ETAG, formatdate(seconds, usegmt=True), seconds)
    assert evaluate(headers(If_Modified_Since=current.last_modified), current) == 304
    assert evaluate(headers(If_Modified_Since=current.last_modified), current._replace(modified=seconds + 1)) == 200
    assert range_applies(headers(If_Range=current.last_modified), current)
    assert not range_applies(headers(If_Range=current.last_modified), current._replace(modified=seconds + 1))


@given(st.text(st.characters(codec="latin-1")), st.text(st.characters(codec="latin-1")))
def test_nothing_makes_it_fail(one: str, other: str) -> None:
    """Whatever the fields hold, there is an answer."""
    for name in ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range"):
        fields = Headers([(name, one), (name, other)])
        assert evaluate(fields, CURRENT) in {200, 304, 412}
        assert range_applies(fields, CURRENT) in {True, False}


@pytest.mark.parametrize(
    ("condition", "applies"),
    [
        (None, True),
        (ETAG, True),
        (f" {ETAG} ", True),
        (f"W/{ETAG}", False),
        ('"other"', False),
        ("*", False),
        (f'{ETAG}, "x"', False),
        (CURRENT.last_modified, True),
        (BEFORE, False),
        (AFTER, False),
        ("", False),
    ],
)
def test_if_range(condition: str | None, *, applies: bool) -> None:
    """Only the exact strong tag, or the exact date, lets a range through (RFC 9110 §13.1.5)."""
    assert range_applies(headers(If_Range=condition), CURRENT) is applies


def status(*, modified_ns: int, size: int = 750, inode: int = 7) -> os.stat_result:
    """Make up the status of a file."""
    seconds = modified_ns // 10**9
    return os.stat_result((0o100644, inode, 1, 1, 0, 0, size, seconds, seconds, seconds), {"st_mtime_ns": modified_ns})


@pytest.mark.usefixtures("zone")
def test_validators() -> None:
    """H15: the tag knows nanoseconds, size and inode; the date is cut to whole seconds, in UTC."""
    found = validators_of(status(modified_ns=MODIFIED * 10**9 + 999_999_999))
    assert found.modified == MODIFIED
    assert found.last_modified == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert found.etag.startswith('"')
    assert found.etag.endswith('"')
    assert evaluate(headers(If_Modified_Since=found.last_modified), found) == 304
    assert evaluate(headers(If_None_Match=found.etag), found) == 304
    assert evaluate(headers(If_Match=found.etag), found) == 200
    assert found == validators_of(status(modified_ns=MODIFIED * 10**9 + 999_999_999))
    other = validators_of(status(modified_ns=MODIFIED * 10**9 + 999_999_998))
    longer = validators_of(status(modified_ns=MODIFIED * 10**9 + 999_999_999, size=751))
    replaced = validators_of(status(modified_ns=MODIFIED * 10**9 + 999_999_999, inode=8))
    assert len({found.etag, other.etag, longer.etag, replaced.etag}) == 4


@pytest.mark.parametrize("year", [2200, 12_000])
def test_a_file_from_the_future(year: int) -> None:
    """Its date is now, because Last-Modified must not come after Date (RFC 9110 §8.8.2.1); its tag is its own."""
    future_ns = (year - 1970) * 31_556_952 * 10**9
    before = int(time.time())
    found = validators_of(status(modified_ns=future_ns))
    assert before <= found.modified <= time.time()
    assert found.last_modified == formatdate(found.modified, usegmt=True)
    assert found.etag != validators_of(status(modified_ns=future_ns + 1)).etag


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**63 - 1))
def test_any_time_can_be_served(modified_ns: int, size: int) -> None:
    """What a file system says, however strange, gives a tag and a date that can be sent and understood."""
    found = validators_of(status(modified_ns=modified_ns, size=size))
    assert evaluate(headers(If_None_Match=found.etag), found) == 304
    assert evaluate(headers(If_Match=found.etag), found) == 200
    assert evaluate(headers(If_Modified_Since=found.last_modified), found) == 304
