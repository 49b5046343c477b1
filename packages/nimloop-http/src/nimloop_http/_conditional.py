"""Validators and conditional requests: RFC 9110 §8.8 and §13."""

from __future__ import annotations

import os
import re
from email.utils import formatdate, parsedate_to_datetime
from typing import Final, NamedTuple

from nimloop_http._headers import Headers

# §8.8.3: entity-tag = [ weak ] opaque-tag. Tags may hold commas, so a list cannot simply be split at them.
_TAG: Final = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')


class Validators(NamedTuple):
    """What tells one state of a file from another."""

    etag: str
    last_modified: str
    modified: int
    """In whole seconds since the epoch: the resolution of Last-Modified."""


def validators_of(status: os.stat_result) -> Validators:
    """Derive them from a file's status: nanoseconds and size change with every honest change of the content."""
    modified = int(status.st_mtime_ns // 1_000_000_000)
    etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
    return Validators(etag, formatdate(modified, usegmt=True), modified)


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
    try:
        return int(parsedate_to_datetime(value).timestamp())
    except (TypeError, ValueError, OverflowError):
        return None
