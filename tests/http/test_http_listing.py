"""The listing of a folder: every name arrives, as text and as a link, and none gets out of its place."""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from html.parser import HTMLParser
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nimloop_http._listing import CONTENT_SECURITY_POLICY, Entry, render_html, render_json

NOON = 1_767_268_800.0  # 2026-01-01 12:00 UTC
VOID = {"meta", "link"}
NASTY = [
    "a&b<c>.txt",
    "100%.txt",
    "%2e%2e",
    "a?b#c",
    "sp ace",
    " both ends ",
    '"quote"',
    "it's",
    "javascript:x",
    r"\\host\x",
    "</a><script>alert(1)</script>",
    "<!--",
    "&lt;",
    "new\nline",
    "a;b=c",
    "...",
    "caf\udce9",
    "日本語",
]


class Page(HTMLParser):
    """What a page holds: its elements in order, and the links, cells and headings with their text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.links: list[tuple[str, str, str]] = []  # class, href, text
        self._open: list[str] = []
        self.feed(page.decode("utf-8"))
        self.close()
        assert not self._open, "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element, and a link apart."""
        found = dict(attrs)
        assert len(found) == len(attrs), "no attribute is given twice"
        self.elements.append((tag, tuple(found)))
        self.attributes.append((tag, found))
        self.texts.setdefault(tag, []).append("")
        if tag not in VOID:
            self._open.append(tag)
        if tag == "a":
            self.links.append((found.get("class") or "", found["href"] or "", ""))

    def handle_endtag(self, tag: str) -> None:
        """Check that what is closed is what was opened last."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Add text to every element that is open."""
        for tag in self._open:
            self.texts[tag][-1] += data
        if "a" in self._open:
            kind, href, text = self.links[-1]
            self.links[-1] = kind, href, text + data

    def entries(self) -> list[tuple[str, str, str]]:
        """Return the links to what is in the folder."""
        return [link for link in self.links if link[0] in {"file", "folder"}]

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements of a kind."""
        return [found for name, found in self.attributes if name == tag]


def a_file(name: str = "file", size: int = 0, modified: float = NOON) -> Entry:
    """Return a file."""
    return Entry(name, is_dir=False, size=size, modified=modified)


def a_folder(name: str = "folder", modified: float = NOON) -> Entry:
    """Return a folder, with the size that Linux gives one."""
    return Entry(name, is_dir=True, size=4096, modified=modified)


def order(entries: Sequence[Entry], sort: str = "name", *, descending: bool = False) -> list[str]:
    """Return the names in the order of the page."""
    page = Page(render_html("/", entries, sort=sort, descending=descending))
    return [text for _, _, text in page.entries()]


def follow(href: str, path: str = "/") -> str:
    """Return where a link on the page of `path` leads, as a URL."""
    return urljoin("http://host:8000" + path, href)


names = (
    (st.binary(min_size=1, max_size=40).map(os.fsdecode) | st.text("<>&\"'/\\:?#%;.= \n\tax\udcff", min_size=1))
    .map(lambda name: name.replace("/", "").replace("\0", ""))
    .filter(lambda name: name not in {"", ".", ".."})
)
any_text = st.text(st.characters(codec=None, exclude_categories=())).map(lambda text: text.replace("/", ""))


# Names


@given(found=st.lists(names, unique=True), folders=st.booleans())
@example(found=NASTY, folders=False)
@example(found=NASTY, folders=True)
def test_links_lead_to_the_bytes_of_the_names(*, found: list[str], folders: bool) -> None:
    """Each link, resolved as a browser does it, is the folder's URL with the very bytes of one name after it."""
    entries = [Entry(name, folders, 0, NOON) for name in found]
    expected = {b"/a b/" + os.fsencode(name) + b"/" * folders for name in found}
    hrefs = [href for _, href, _ in Page(render_html("/a b/", entries)).entries()]
    assert hrefs == [entry["href"] for entry in json.loads(render_json("/a b/", entries))["entries"]]
    assert {unquote_to_bytes(urlsplit(follow(href, "/a%20b/")).path) for href in hrefs} == expected
    for href in hrefs:
        assert re.fullmatch(r"\./(?:[A-Za-z0-9._~-]|%[0-9A-F]{2})+/?", href)
        assert follow(href).startswith("http://host:8000/")


@given(any_text, any_text)
@example("<title><script>", '"><script>')
def test_names_are_never_markup(folder: str, name: str) -> None:
    """Whatever the names, the page has the elements and attributes that it has for harmless ones."""
    page = Page(render_html(f"/{folder or 'x'}/", [a_file(name)]))
    assert page.elements == Page(render_html("/x/", [a_file("x")])).elements


@given(any_text)
@example("caf\udce9")
@example("\ud83d half a pair")
def test_names_are_shown_as_they_are_but_for_what_cannot_be_shown(name: str) -> None:
    """The text is the name, with U+FFFD in the place of each character that has no picture of its own."""
    [(_, _, text)] = Page(render_html("/", [a_file(name)])).entries()
    assert len(text) == len(name)
    for shown, meant in zip(text, name, strict=True):
        assert shown == meant or (shown == "\ufffd" and not meant.isprintable())


@pytest.mark.parametrize("character", ["\n", "\r", "\x1b", "\x7f", "\x85", "\u2028", "\u202e", "\u2066", "\udcff"])
def test_control_characters_are_replaced(character: str) -> None:
    """Control characters, overrides of the direction, and stray bytes do not reach the page."""
    assert order([a_file(f"a{character}b")]) == ["a\ufffdb"]


# The page


def test_page_is_a_complete_document() -> None:
    """A doctype, a language, a charset, a viewport and a title are there."""
    rendered = render_html("/a & b/", [a_file()])
    assert rendered.startswith(b"<!DOCTYPE html>\n<html lang=")
    page = Page(rendered)
    assert page.named("meta")[0] == {"charset": "utf-8"}
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.named("meta")
    assert page.texts["title"] == ["Index of /a & b/"]
    assert page.texts["h1"] == ["a & b"]


def test_page_loads_nothing() -> None:
    """There is no script, and what is not a link to follow is a data URL."""
    rendered = render_html("/a/", [a_file(), a_folder()])
    page = Page(rendered)
    assert not {"script", "img", "base", "form"} & {tag for tag, _ in page.elements}
    assert [icon["href"] for icon in page.named("link") if not (icon["href"] or "").startswith("data:")] == []
    [style] = page.texts["style"]
    assert set(re.findall(r"url\(.{,6}", style)) == {'url("data:'}
    assert "@import" not in style


@pytest.mark.parametrize("entries", [[], [a_file()]])
def test_policy_admits_the_style_sheet_and_nothing_else(entries: list[Entry]) -> None:
    """The hash in the policy is the one of the style sheet, and no element has a style or a handler of its own."""
    page = Page(render_html("/", entries))
    digest = b64encode(sha256(page.texts["style"][0].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}';" in CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'; ")
    assert CONTENT_SECURITY_POLICY.isascii()
    for _, attributes in page.elements:
        assert not [name for name in attributes if name == "style" or name.startswith("on")]


@pytest.mark.parametrize(
    ("path", "crumbs"),
    [
        ("/", {}),
        ("/a/", {"Index": "/"}),
        ("/a/b & c/d/", {"Index": "/", "a": "/a/", "b & c": "/a/b & c/"}),
        ("/caf\udce9/x/", {"Index": "/", "caf\ufffd": "/caf\udce9/"}),
    ],
)
def test_breadcrumbs_lead_up(path: str, crumbs: dict[str, str]) -> None:
    """Each folder above has a link that leads there, the root too, and the root itself has none."""
    page = Page(render_html(path, [a_file()]))
    links = [(href, text) for kind, href, text in page.links if not kind and not href.startswith("?")]
    assert {text: follow(href, path) for href, text in links} == {
        text: "http://host:8000" + target for text, target in crumbs.items()
    }


def test_breadcrumbs_count_steps_without_a_name() -> None:
    """Two slashes in a row are a step up (RFC 3986 §5.2.4, where urljoin differs), but there is nothing to show."""
    page = Page(render_html("/a//b/", [a_file()]))
    assert [link for link in page.links if link[2] in {"Index", "a", ""}] == [
        ("", "../../../", "Index"),
        ("", "../../", "a"),
    ]


@pytest.mark.parametrize("entries", [[], [a_file()]])
@pytest.mark.parametrize(("path", "hrefs"), [("/", []), ("/a/", ["../"]), ("/a/b/", ["../"])])
def test_parent_is_linked_below_the_root(path: str, hrefs: list[str], entries: list[Entry]) -> None:
    """A folder links to its parent, empty or not, and the root does not."""
    assert [href for kind, href, _ in Page(render_html(path, entries)).links if kind == "up"] == hrefs


def test_empty_folder_says_so() -> None:
    """Without entries there is a sentence in the place of the table."""
    page = Page(render_html("/a/", []))
    assert page.texts["p"] == ["This folder is empty."]
    assert "table" not in page.texts
    assert page.texts["footer"] == ["0 folders, 0 files · 0 B"]


def test_footer_counts_and_adds_up() -> None:
    """Folders and files are counted apart, and the total is that of the files."""
    page = Page(render_html("/", [a_folder(), a_file("a", 1000), a_file("b", 536)]))
    assert page.texts["footer"] == ["1 folder, 2 files · 1.5 KiB"]
    assert page.named("span") == [{"title": "1,536 bytes"}]


# Order


def test_names_are_in_natural_order() -> None:
    """Numbers count as numbers, case does not matter, and folders come first."""
    entries = [a_file(name) for name in ("b10", "B9", "a", "C", "b09", "b1x", "10", "9")] + [
        a_folder("z"),
        a_folder("Y"),
    ]
    expected = ["Y/", "z/", "9", "10", "a", "b1x", "B9", "b09", "b10", "C"]
    assert order(entries) == expected
    assert order(entries, descending=True) == expected[1::-1] + expected[:1:-1]


def test_long_numbers_are_ordered() -> None:
    """A number of more digits than int() takes is still a number."""
    longest = "9" * 5000
    assert order([a_file("1" + longest), a_file(longest), a_file("0" + longest)]) == [
        "0" + longest,
        longest,
        "1" + longest,
    ]


@given(st.lists(names, unique=True))
def test_order_does_not_depend_on_the_folder(found: list[str]) -> None:
    """The same names have the same order, whatever order the system lists them in."""
    entries = [a_file(name) for name in found]
    assert render_json("/", entries) == render_json("/", entries[::-1])


def test_sizes_and_dates_are_in_order() -> None:
    """The order is that of size or date, with folders first, and names decide between equals."""
    entries = [
        a_file("b", 5, NOON),
        a_file("c", 1, NOON + 2),
        a_file("a", 5, NOON + 1),
        a_folder("y", NOON + 1),
        a_folder("x", NOON),
        a_folder("w", NOON + 1),
    ]
    assert order(entries, "size") == ["w/", "x/", "y/", "c", "a", "b"]
    assert order(entries, "size", descending=True) == ["w/", "x/", "y/", "a", "b", "c"]
    assert order(entries, "date") == ["x/", "w/", "y/", "b", "a", "c"]
    assert order(entries, "date", descending=True) == ["w/", "y/", "x/", "c", "a", "b"]


@pytest.mark.parametrize("sort", ["", "NAME", "colour", "<script>"])
def test_unknown_order_is_by_name(sort: str) -> None:
    """What the query says is not trusted: the page is the one by name."""
    entries = [a_file("b", 1), a_file("a", 2)]
    assert render_html("/", entries, sort=sort) == render_html("/", entries)


@pytest.mark.parametrize(
    ("sort", "descending", "hrefs"),
    [
        ("name", False, ["?sort=name&order=desc", "?sort=size&order=desc", "?sort=date&order=desc"]),
        ("name", True, ["?sort=name&order=asc", "?sort=size&order=desc", "?sort=date&order=desc"]),
        ("size", True, ["?sort=name&order=asc", "?sort=size&order=asc", "?sort=date&order=desc"]),
        ("date", False, ["?sort=name&order=asc", "?sort=size&order=desc", "?sort=date&order=desc"]),
    ],
)
def test_headings_sort(sort: str, *, descending: bool, hrefs: list[str]) -> None:
    """The heading of the column in use turns it round, the others choose theirs; one says the order it is in."""
    page = Page(render_html("/a/", [a_file()], sort=sort, descending=descending))
    assert [href for _, href, _ in page.links if href.startswith("?")] == hrefs
    columns = [found for found in page.named("th") if found["scope"] == "col"]
    state = "descending" if descending else "ascending"
    assert [found.get("aria-sort") for found in columns] == [
        state if sort == key else None for key in ("name", "size", "date")
    ]
    assert follow(hrefs[0], "/a/").startswith("http://host:8000/a/?")


# Sizes and dates


@pytest.mark.parametrize(
    ("size", "text", "title"),
    [
        (0, "0 B", "0 bytes"),
        (1, "1 B", "1 byte"),
        (1023, "1023 B", "1,023 bytes"),
        (1024, "1.0 KiB", "1,024 bytes"),
        (10_188, "9.9 KiB", "10,188 bytes"),
        (10_189, "10 KiB", "10,189 bytes"),
        (1_048_063, "1023 KiB", "1,048,063 bytes"),
        (1_048_064, "1.0 MiB", "1,048,064 bytes"),
        (5 << 30, "5.0 GiB", "5,368,709,120 bytes"),
        (3 << 70, "3072 EiB", f"{3 << 70:,} bytes"),
    ],
)
def test_sizes_are_short_and_the_exact_ones_at_hand(size: int, text: str, title: str) -> None:
    """A size has a unit and few digits, and all of them in the title."""
    page = Page(render_html("/", [a_file("a", size)]))
    assert page.texts["td"][0] == text
    assert page.named("td")[0] == {"title": title}


def test_folders_have_no_size() -> None:
    """What the system says of a folder's size is of no use to a reader."""
    assert Page(render_html("/", [a_folder()])).texts["td"] == ["", "2026-01-01 12:00"]


@pytest.mark.parametrize(
    ("modified", "text", "stamp"),
    [
        (NOON + 61.9, "2026-01-01 12:01", "2026-01-01T12:01:01Z"),
        (0.0, "1970-01-01 00:00", "1970-01-01T00:00:00Z"),
        (-1.0, "1969-12-31 23:59", "1969-12-31T23:59:59Z"),
    ],
)
def test_dates_are_in_utc(modified: float, text: str, stamp: str) -> None:
    """A date is shown to the minute and given to programs to the second."""
    page = Page(render_html("/", [a_file(modified=modified)]))
    assert page.texts["time"] == [text]
    assert page.named("time") == [{"datetime": stamp}]


@pytest.mark.parametrize("modified", [1e300, -1e300, 1e13, float("inf"), float("nan")])
def test_impossible_dates_are_left_out(modified: float) -> None:
    """A date beyond the calendar costs that date and not the page."""
    entries = [a_file(modified=modified)]
    assert "time" not in Page(render_html("/", entries)).texts
    assert json.loads(render_json("/", entries))["entries"][0]["modified"] is None


# JSON


def test_json_says_what_the_page_says() -> None:
    """Programs get the names, the links, and exact sizes and dates, in the order of the names."""
    entries = [a_file("ü.txt", 7, NOON), a_folder("sub:folder")]
    assert json.loads(render_json("/é/", entries)) == {
        "path": "/é/",
        "entries": [
            {
                "name": "sub:folder",
                "href": "./sub%3Afolder/",
                "is_dir": True,
                "size": None,
                "modified": "2026-01-01T12:00:00Z",
            },
            {
                "name": "ü.txt",
                "href": "./%C3%BC.txt",
                "is_dir": False,
                "size": 7,
                "modified": "2026-01-01T12:00:00Z",
            },
        ],
    }


@given(any_text, any_text)
def test_json_is_utf_8(path: str, name: str) -> None:
    """Stray surrogates, which many readers of JSON refuse, become U+FFFD, and nothing else changes."""
    document = json.loads(render_json(f"/{path}/", [a_file(name)]).decode("utf-8"))
    for shown, meant in ((document["path"], f"/{path}/"), (document["entries"][0]["name"], name)):
        assert shown == re.sub("[\ud800-\udfff]", "\ufffd", meant)


def test_json_of_an_empty_folder() -> None:
    """An empty folder is an empty list."""
    assert render_json("/", []) == b'{"path":"/","entries":[]}'


# Scale


def test_large_folders_are_rendered_whole() -> None:
    """Ten thousand entries are all there, and each costs a row and no more."""
    entries = [a_file(f"photo {number}.jpeg", number * 1000, NOON + number) for number in range(10_000)]
    few, many = len(render_html("/", entries[:1000])), len(render_html("/", entries))
    assert order(entries) == [entry.name for entry in entries]
    assert many < 10.5 * few
