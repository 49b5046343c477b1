"""Validators and conditional requests: RFC 9110 §8.8 and §13."""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from typing import Final, NamedTuple

from nimloop_http._headers import Headers

# §8.8.3: entity-tag = [ weak ] opaque-tag. Tags may hold commas, so a list cannot simply be split at them.
_TAG: Final = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')

# §5.6.7: HTTP-date = IMF-fixdate / rfc850-date / asctime-date, with regard to case, and always in UTC.
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH: Final = f"(?P<month>{'|'.join(_MONTHS)})"
_DAY: Final = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_DAY_IN_FULL: Final = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_TIME: Final = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DATES: Final = (
    re.compile(f"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(f"{_DAY_IN_FULL}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),
    re.compile(f"{_DAY} {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)


# Fields that make another answer of a GET. A line end stands before each line of a head but the first.
_CONDITIONS: Final = re.compile(r"\r\n(?:if-|range:)", re.IGNORECASE | re.ASCII)


class Validators(NamedTuple):
    """What tells one state of a file from another."""

    etag: str
    last_modified: str
    modified: int
    """In whole seconds since the epoch: the resolution of Last-Modified."""


def validators_of(status: os.stat_result) -> Validators:
    """Derive them from a file's status.

    Time in nanoseconds and size change with nearly every change of the content, but builds that want to be repeatable
    give all files one time (SOURCE_DATE_EPOCH): so the inode too, which is another one when a file was replaced. The
    price is that copies on several machines differ, and a client that is sent from one to the other loads once more;
    a client that keeps the wrong content is worse.
    """
    # §8.8.2.1: not later than the response itself. And no date that HTTP could not express.
    modified = min(max(0, status.st_mtime_ns // 1_000_000_000), int(time.time()))
    etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"'
    return Validators(etag, _http_date(modified), modified)


@lru_cache(maxsize=1024)
def _http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def has_conditions(head: str) -> bool:
    """Tell whether a head has any field that this module or a range is about; quicker than to look for each of them."""
    return _CONDITIONS.search(head) is not None


def evaluate(headers: Headers, validators: Validators) -> int:
    """Evaluate the preconditions of a GET or HEAD in the order of §13.2.2.

    Returns 200 to go on, 304 when the client has it already, 412 when the client's precondition is false.
    """
    if_match = headers.get("if-match")
    if if_match is not None:
        if not _matches(if_match, validators.etag, weak=False):
            return 412
    else:
        since = _date(headers.get("if-unmodified-since"))
        if since is not None and validators.modified > since:
            return 412
    if_none_match = headers.get("if-none-match")
    if if_none_match is not None:
        return 304 if _matches(if_none_match, validators.etag, weak=True) else 200
    since = _date(headers.get("if-modified-since"))
    return 304 if since is not None and validators.modified <= since else 200


def range_applies(headers: Headers, validators: Validators) -> bool:
    """Tell whether Range is to be honoured: without If-Range, or when that still names this state (§13.1.5)."""
    condition = headers.get("if-range")
    if condition is None:
        return True
    condition = condition.strip()
    if condition.startswith('"'):
        return condition == validators.etag
    # A date has to match exactly; a weak tag ("W/") is no date and never matches.
    return _date(condition) == validators.modified


def _matches(field: str, etag: str, *, weak: bool) -> bool:
    if field.strip() == "*":
        return True
    return any(tag == etag and (weak or not prefix) for prefix, tag in _TAG.findall(field))


def _date(value: str | None) -> int | None:
    """Read an HTTP-date as seconds since the epoch; None when there is none or it is not one, which is ignored."""
    if value is None:
        return None
    match = next(filter(None, (form.fullmatch(value.strip(" \t")) for form in _DATES)), None)
    if match is None:
        return None
    month = _MONTHS.index(match["month"]) + 1
    year = int(match["year"])
    if len(match["year"]) == 2:
        # §5.6.7: what appears to be more than 50 years in the future is in the past.
        this_year = time.gmtime().tm_year
        year += this_year - this_year % 100
        if year > this_year + 50:
            year -= 100
    clock = int(match["hour"]), int(match["minute"]), int(match["second"])
    try:
        return int(datetime(year, month, int(match["day"]), *clock, tzinfo=UTC).timestamp())
    except ValueError:
        return None  # the 31st of February
