"""Content-Disposition: names come through as they are, and nothing else does."""

from __future__ import annotations

import re
from email.message import EmailMessage
from email.policy import HTTP
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimloop_http import content_disposition


@pytest.mark.parametrize(
    ("filename", "value"),
    [
        ("report.pdf", 'attachment; filename="report.pdf"'),
        ("annual report.tar.gz", 'attachment; filename="annual report.tar.gz"'),
        ("/srv/files/report.pdf", 'attachment; filename="report.pdf"'),
        ("C:\\files\\report.pdf", 'attachment; filename="report.pdf"'),
        ("../../etc/passwd", 'attachment; filename="passwd"'),
        ('a"b.txt', 'attachment; filename="a_b.txt"'),
        ("a\r\nSet-Cookie: x.txt", 'attachment; filename="a__Set-Cookie_ x.txt"'),
        ("a\x00b", 'attachment; filename="a_b"'),
        ("50%41.txt", "attachment; filename=\"50_41.txt\"; filename*=UTF-8''50%2541.txt"),
        ("50%.txt", 'attachment; filename="50%.txt"'),
        ("na\u00efve.txt", "attachment; filename=\"na_ve.txt\"; filename*=UTF-8''na%C3%AFve.txt"),
        ("\u20ac rates.txt", "attachment; filename=\"_ rates.txt\"; filename*=UTF-8''%E2%82%AC%20rates.txt"),
        ("a\u202egpj.exe", 'attachment; filename="a_gpj.exe"'),
        ("half \udc80.txt", 'attachment; filename="half _.txt"'),
        ("trailing. ", 'attachment; filename="trailing"'),
        ("", "attachment"),
        ("folder/", "attachment"),
        ("..", "attachment"),
    ],
)
def test_names(filename: str, value: str) -> None:
    """The extension stays, directories and dangers go."""
    assert content_disposition(filename) == value


def test_inline() -> None:
    """To be shown, with a name for the case that it is saved."""
    assert content_disposition("a.pdf", inline=True) == 'inline; filename="a.pdf"'


@given(st.text())
def test_any_name_gives_one_field_that_others_can_read(filename: str) -> None:
    """Printable ASCII; the standard library reads the plain name, and the other form decodes to what was meant."""
    value = content_disposition(filename)
    assert re.fullmatch(r"[ -~]+", value)
    message = EmailMessage(policy=HTTP)
    message["Content-Disposition"] = value
    plain = re.search(r'filename="([^"\\]*)"', value)
    if plain is None:
        assert value == "attachment"
        return
    assert "/" not in plain[1]
    extended = re.search(r"filename\*=UTF-8''([A-Za-z0-9!#$&+.^_`|~%-]+)$", value)
    name = unquote(extended[1], errors="strict") if extended else plain[1]
    assert len(name) == len(plain[1])
    assert message.get_filename() == plain[1]
    assert not set(name) & set('/\\<>:"|?*')
    assert not name.endswith((".", " "))
