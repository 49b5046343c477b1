"""A folder as a page for people and as JSON for programs.

A name in a folder is whatever bytes somebody wrote there. It appears in two places, each with dangers of its own:

* as text it may hold markup, control characters, or half a surrogate pair, for which UTF-8 has no bytes
  → it is escaped, and what cannot be shown is shown as U+FFFD;
* as a link it may look like a scheme, a host, a query or a fragment
  → every byte that is not unreserved (RFC 3986 §2.3) is percent-encoded, behind "./" (§4.2), so that the link means
  the very bytes of the name.

Links are relative, also those that lead up: the page works behind a proxy that serves it under a prefix.
"""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from html import escape
from operator import attrgetter
from time import sleep
from typing import Final
from urllib.parse import quote

# What ?sort= may say: the heading, and whether the first click asks for the largest or newest first.
_COLUMNS: Final = {"name": ("Name", False), "size": ("Size", True), "date": ("Modified <small>UTC</small>", True)}

_SURROGATES: Final = re.compile("[\ud800-\udfff]")
# Besides: control characters, line ends, and what reorders the text around it, so that gpj.exe would end in exe.jpg.
_UNSHOWABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_DIGITS: Final = re.compile("[0-9]+")
# Entries that are worked on in one go, a fraction of a millisecond.
_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Entry:
    """What a listing tells of a file or folder: `size` in bytes, `modified` in seconds since the epoch.

    `name` may hold surrogate escapes, as from `os.fsdecode`. The size of a folder is not shown.
    """

    name: str
    is_dir: bool
    size: int
    modified: float


def render_html(path: str, entries: Sequence[Entry], *, sort: str = "name", descending: bool = False) -> bytes:
    """Return an HTML page in UTF-8, to be sent with `CONTENT_SECURITY_POLICY`.

    `path` is the decoded path of the folder, and begins and ends with "/". `sort` is "name", "size" or "date"; as it
    comes from the query, anything else means "name". The page links to itself with `?sort=size&order=desc` and the
    like. Folders come first in any order.
    """
    if sort not in _COLUMNS:
        sort = "name"
    segments = path.split("/")[1:-1]
    heading = next((_shown(segment) for segment in reversed(segments) if segment), "Index")
    parent = '<a class="up" href="../">Parent folder</a>' if segments else ""
    if entries:
        lines = ['<table aria-label="Files and folders">', "<thead>", "<tr>"]
        lines += (_column(key, active=key == sort, descending=descending) for key in _COLUMNS)
        lines += ("</tr>", "</thead>", "<tbody>")
        if parent:
            lines.append(f'<tr><th scope="row">{parent}</th><td></td><td></td></tr>')
        lines += map(_row, _unhurried(_sorted(entries, sort, descending=descending)))
        lines += ("</tbody>", "</table>")
    else:
        lines = [parent, '<p class="empty">This folder is empty.</p>']
    content = "\n".join(lines)
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Index of {_shown(path)}</title>
<link rel="icon" href="{_FAVICON}">
<style>{_STYLE}</style>
</head>
<body>
<header>
{_breadcrumbs(segments)}
<h1>{heading}</h1>
</header>
<main>
{content}
</main>
<footer>{_summary(entries)}</footer>
</body>
</html>
""".encode()


def render_json(path: str, entries: Sequence[Entry]) -> bytes:
    """Return the folder as JSON in UTF-8: `path` and `entries`, folders first, each by name.

    An entry has `name`, `href` (the relative link, exact even where the name has U+FFFD for what is not UTF-8),
    `is_dir`, `size` in bytes (null for a folder) and `modified` (RFC 3339 in UTC, null beyond the calendar).
    """
    head = json.dumps({"path": _SURROGATES.sub("\ufffd", path)}, ensure_ascii=False, separators=(",", ":"))
    listed = map(_object, _unhurried(_sorted(entries, "name", descending=False)))
    return f'{head[:-1]},"entries":[{",".join(listed)}]}}'.encode()


def _object(entry: Entry) -> str:
    document = {
        "name": _SURROGATES.sub("\ufffd", entry.name),
        "href": _href(entry),
        "is_dir": entry.is_dir,
        "size": None if entry.is_dir else entry.size,
        "modified": _timestamp(entry.modified),
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _unhurried(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Let the other threads have the interpreter every few entries: the one of the loop may be waiting for it."""
    for count, entry in enumerate(entries):
        if count % _AT_ONCE == 0:
            sleep(0)
        yield entry


def _shown(text: str) -> str:
    return escape(_UNSHOWABLE.sub("\ufffd", text))


def _href(entry: Entry) -> str:
    try:
        octets = os.fsencode(entry.name)
    except UnicodeEncodeError:  # half a pair that no fsdecode made: a link that leads nowhere beats no page
        octets = entry.name.encode("utf-8", "surrogatepass")
    return f"./{quote(octets, safe='')}{'/' if entry.is_dir else ''}"


def _sorted(entries: Iterable[Entry], sort: str, *, descending: bool) -> list[Entry]:
    # Sorting is stable, also in reverse. By one text at a time, because sorting keeps the interpreter to itself, and
    # texts are compared faster than anything made of them. The name decides between 1, 01 and 001.
    reverse = descending and sort == "name"
    ordered = sorted(entries, key=_name, reverse=reverse)
    keys = {entry.name: _natural(entry.name) for entry in _unhurried(ordered)}
    ordered.sort(key=lambda entry: keys[entry.name], reverse=reverse)
    if sort == "size":
        ordered.sort(key=lambda entry: 0 if entry.is_dir else entry.size, reverse=descending)
    elif sort == "date":
        ordered.sort(key=lambda entry: entry.modified, reverse=descending)
    return [entry for entry in ordered if entry.is_dir] + [entry for entry in ordered if not entry.is_dir]


_name: Final = attrgetter("name")


def _natural(name: str) -> str:
    """Return what orders 2.txt before 10.txt, and a before B."""
    return _DIGITS.sub(_number, name.casefold())


def _number(digits: re.Match[str]) -> str:
    """Return a number so that the longer one is larger, and all of them come before text: no name has a NUL."""
    text = digits[0].lstrip("0")
    return f"\0{chr(len(text))}{text}"


def _timestamp(modified: float) -> str | None:
    try:
        return datetime.fromtimestamp(modified, UTC).isoformat(timespec="seconds")[:19] + "Z"
    except (ValueError, OverflowError, OSError):  # a file system may say anything, also the year 12 000
        return None


def _size(size: int) -> str:
    """Return a size in two or three digits, which is what one can compare at a glance."""
    if size < 1024:
        return f"{size} B"
    value, unit = size / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB", "PiB", "EiB"):
        if value < 1023.5:  # else it is rounded to 1024, the next unit's 1.0
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _breadcrumbs(segments: Sequence[str]) -> str:
    if not segments:
        return ""
    items = ['<nav aria-label="Breadcrumb">', "<ol>", f'<li><a href="{"../" * len(segments)}">Index</a></li>']
    for up, segment in zip(range(len(segments) - 1, 0, -1), segments, strict=False):
        if segment:  # in /a//b/ there is a step without a name, to be counted and not shown
            items.append(f'<li><a href="{"../" * up}">{_shown(segment)}</a></li>')
    return "\n".join([*items, "</ol>", "</nav>"])


def _column(key: str, *, active: bool, descending: bool) -> str:
    heading, descending_first = _COLUMNS[key]
    state = (' aria-sort="descending"' if descending else ' aria-sort="ascending"') if active else ""
    order = "desc" if (not descending if active else descending_first) else "asc"
    return f'<th scope="col"{state}><a href="?sort={key}&amp;order={order}">{heading}</a></th>'


def _row(entry: Entry) -> str:
    # The slash tells folders apart without the picture, for screen readers and text browsers.
    kind, slash = ("folder", "/") if entry.is_dir else ("file", "")
    link = f'<a class="{kind}" href="{_href(entry)}">{_shown(entry.name)}{slash}</a>'
    size = "<td></td>" if entry.is_dir else f'<td title="{_count(entry.size, "byte")}">{_size(entry.size)}</td>'
    stamp = _timestamp(entry.modified)
    date = f'<time datetime="{stamp}">{stamp[:10]} {stamp[11:16]}</time>' if stamp else ""
    return f'<tr><th scope="row">{link}</th>{size}<td>{date}</td></tr>'


def _summary(entries: Sequence[Entry]) -> str:
    files = [entry.size for entry in entries if not entry.is_dir]
    total = sum(files)
    counts = f"{_count(len(entries) - len(files), 'folder')}, {_count(len(files), 'file')}"
    return f'{counts} · <span title="{_count(total, "byte")}">{_size(total)}</span>'


def _picture(*paths: str, attributes: str) -> str:
    lines = "".join(f"<path d='{path}'/>" for path in paths)
    image = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 20 20' {attributes}>{lines}</svg>"
    return "data:image/svg+xml," + quote(image, safe=" =:/")


_FOLDER: Final = (
    "M2 5.5A1.5 1.5 0 0 1 3.5 4h4l2 2.5h7A1.5 1.5 0 0 1 18 8v7a1.5 1.5 0 0 1-1.5 1.5h-13A1.5 1.5 0 0 1 2 15z"
)
_FAVICON: Final = _picture(_FOLDER, attributes="fill='#3b6fd8'")
_OUTLINE: Final = "fill='none' stroke='#000' stroke-width='1.4' stroke-linecap='round' stroke-linejoin='round'"
_FILE: Final = _picture(
    "M11.5 2.5h-6a1 1 0 0 0-1 1v13a1 1 0 0 0 1 1h9a1 1 0 0 0 1-1v-10z", "M11.5 2.5v4h4", attributes=_OUTLINE
)
_UP: Final = _picture("M10 16V4.5", "M5 9.5l5-5 5 5", attributes=_OUTLINE)

# Masks, not images: a picture takes the colour of the scheme. In the style sheet, so that no row repeats it.
_STYLE: Final = (
    f'.folder {{ --picture: url("{_picture(_FOLDER, attributes="")}"); --icon: var(--accent) }}\n'
    f'.file {{ --picture: url("{_FILE}") }} .up {{ --picture: url("{_UP}") }}'
    """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --line: #e6e8ec; --hover: #f3f6fc; --text: #1c2128;
  --quiet: #626b78; --accent: #2c5fc9; --icon: #98a1ae }
@media (prefers-color-scheme: dark) { :root { --page: #14171c; --card: #1b1f26; --line: #2a3039; --hover: #232934;
  --text: #e4e7ec; --quiet: #98a2b0; --accent: #84adff; --icon: #717c8b } }
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 3.5rem } /* no focus beneath the headings */
body { max-width: 60rem; margin: 0 auto; padding: 3.5rem 2rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
a { color: inherit; text-decoration: none; border-radius: .375rem }
a:focus-visible { outline: 2px solid var(--accent); outline-offset: -2px }
header { padding: 0 1.25rem 1.5rem }
h1 { margin: 0; font-size: 1.75rem; font-weight: 650; line-height: 1.25; letter-spacing: -.015em }
h1, li, tbody a { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate }
ol { display: flex; flex-wrap: wrap; margin: 0 0 .25rem; padding: 0; list-style: none; color: var(--quiet) }
ol, td { font-size: .9375rem }
li::after { content: "/"; margin: 0 .5em; opacity: .6 }
li a { display: inline-block; padding: .125rem 0 }
li a:hover { color: var(--accent); text-decoration: underline; text-underline-offset: .2em }
main { background: var(--card); border: 1px solid var(--line); border-radius: .875rem; overflow: clip;
  box-shadow: 0 1px 3px rgb(0 0 0 / 4%) }
table { width: 100%; border-spacing: 0; font-variant-numeric: tabular-nums }
th, td { padding: 0; text-align: right; vertical-align: baseline; font-weight: inherit; white-space: nowrap }
th:first-child { text-align: left }
td { padding: 0 1.25rem; color: var(--quiet) }
thead { position: sticky; top: 0; z-index: 1; background: var(--card) }
thead th { border-bottom: 1px solid var(--line) }
thead a { display: block; padding: .75rem 1.25rem; color: var(--quiet); font-size: .8125rem; font-weight: 500 }
thead a:hover, [aria-sort] a { color: var(--text) }
[aria-sort] a::after { content: " \\2191" }
[aria-sort=descending] a::after { content: " \\2193" }
small { font: inherit; font-weight: 400 }
tbody th { width: 99% }
tbody tr + tr > *, .up + .empty { border-top: 1px solid var(--line) }
tbody tr:hover { background: var(--hover) }
main a[class] { position: relative; display: block; padding: .625rem 1.25rem .625rem 3.25rem }
main a[class]:hover { color: var(--accent) }
main a[class]::before { content: ""; position: absolute; left: 1.25rem; top: .75rem; width: 1.25rem; height: 1.25rem;
  background: var(--icon); -webkit-mask: var(--picture) center / contain; mask: var(--picture) center / contain }
.up, .empty, footer { color: var(--quiet) }
.empty { margin: 0; padding: 4rem 1.25rem; text-align: center }
footer { padding: 1.25rem; font-size: .875rem }
@media (max-width: 36rem) { /* size and date go below the name, and the whole row is the link */
  body { padding: 1.75rem .75rem }
  header { padding: 0 1rem 1.125rem }
  h1 { font-size: 1.5rem }
  table, thead, tbody { display: block }
  tr { position: relative; display: flex; flex-wrap: wrap }
  thead tr { border-bottom: 1px solid var(--line) }
  tbody tr + tr { border-top: 1px solid var(--line) }
  thead th:first-child { flex: 1 }
  thead a { padding: .75rem 1rem }
  tbody tr { padding: 0 1rem .625rem 3rem }
  tbody th { width: 100% }
  thead th, tbody tr + tr > * { border: 0 }
  td { padding: 0; font-size: .8125rem }
  td:empty { display: none }
  td:not(:empty) + td::before { content: "\\b7"; margin: 0 .5em }
  main a[class] { padding: .625rem 1rem .625rem 3rem }
  main a[class]::before { left: 1rem }
  tbody a[class] { position: static; padding: .625rem 0 .125rem }
  tbody a::after { content: ""; position: absolute; inset: 0; border-radius: .375rem }
  tbody a:focus-visible { outline: 0 }
  tbody a:focus-visible::after { outline: 2px solid var(--accent); outline-offset: -2px }
  footer { padding: 1rem }
}
@media (forced-colors: active) { main a[class]::before { background: LinkText } }
"""
)

_DIGEST: Final = b64encode(sha256(_STYLE.encode()).digest()).decode("ascii")
# CSP Level 3: nothing but this very style sheet and the pictures in it. What default-src does not cover comes last.
CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; img-src data:; base-uri 'none'; form-action 'none'"
)
