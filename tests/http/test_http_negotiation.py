"""Content codings: the table of RFC 9110 §12.5.3, and whatever clients write there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimloop_http._negotiation import codings_wanted

OFFERED = ("br", "zstd", "gzip")


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("gzip, deflate, br, zstd", ["br", "zstd", "gzip"]),
        ("gzip", ["gzip"]),
        ("GZip", ["gzip"]),
        ("x-gzip", ["gzip"]),
        ("gzip;q=1.0, br;q=0.5", ["gzip", "br"]),
        ("gzip ; q=0.3 ,br; Q=0.2", ["gzip", "br"]),
        ("br;q=0, gzip", ["gzip"]),
        ("br;q=0.000", []),
        ("br;q=0.001", ["br"]),
        ("*", ["br", "zstd", "gzip"]),
        ("*;q=0.5, gzip", ["gzip", "br", "zstd"]),
        ("gzip, *;q=0", ["gzip"]),
        ("identity", []),
        ("gzip;q=0.5, identity", []),
        ("gzip;q=0.5, identity;q=0.5", ["gzip"]),
        ("identity;q=0, gzip", ["gzip"]),
        ("", []),
        (" , ,gzip,, ", ["gzip"]),
        ("gzip;q=2", []),
        ("gzip;q=-1", []),
        ("gzip;q=0.1234", []),
        ("gzip;q=nan", []),
        ("gzip;level=9", []),
        ("gzip br", []),
        ("deflate, compress, exi, pack200-gzip", []),
    ],
)
def test_who_gets_what(accept: str, wanted: list[str]) -> None:
    """Weights decide, then our own order; an element that is malformed counts for nothing."""
    assert codings_wanted(accept, OFFERED) == wanted


@given(st.text(st.characters(codec="latin-1")) | st.from_regex(r"(?:(?:br|gzip|\*|identity);q=[01]\.?[0-9]*,? ?){0,4}"))
def test_whatever_comes(accept: str) -> None:
    """Nothing makes it fail, and nothing is sent that was not offered, or twice."""
    wanted = codings_wanted(accept, OFFERED)
    assert set(wanted) <= set(OFFERED)
    assert len(set(wanted)) == len(wanted)
