"""The limits of the parser, to the byte."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.http.generated import cuts
from tests.http.parsing import bytewise, chunked, get, parsed, parsed_strictly
from tests.http.parsing import scanner as scanner

from nimloop_http import HttpParser, Limits
from nimloop_http.errors import (
    ChunkLineTooLongError,
    HeadersTooLargeError,
    ProtocolError,
    RequestLineTooLongError,
    TrailersTooLargeError,
)


@pytest.mark.parametrize(
    ("beginning", "endless", "limit", "error"),
    [
        (b"", b"a", 100, RequestLineTooLongError),
        (b"", b"a b ", 100, RequestLineTooLongError),
        (get(), b"a", 100, RequestLineTooLongError),
        (chunked("0\r\nX: y\r\n\r\n"), b"a", 100, RequestLineTooLongError),
        (b"GET / HTTP/1.1\r\n", b"a", 200, HeadersTooLargeError),
        (b"GET / HTTP/1.1\r\n", b"a:\r\n", 200, HeadersTooLargeError),
        (chunked(""), b"0", 50, ChunkLineTooLongError),
        (chunked("0\r\n"), b"a", 300, TrailersTooLargeError),
        (chunked("0\r\n"), b"a: b\r\n", 300, TrailersTooLargeError),
    ],
)
def test_what_has_no_end_is_refused_at_the_limit(
    beginning: bytes, endless: bytes, limit: int, error: type[ProtocolError]
) -> None:
    """No more is kept than may be good yet: the limit and a line end."""
    parser = HttpParser(Limits(request_line=100, header_bytes=200, trailer_bytes=300, chunk_line=50))
    parsed_strictly(parser, bytewise(beginning))
    sent = bytewise(endless * (limit + 2))
    parsed_strictly(parser, sent[: limit - 2])
    with pytest.raises(error):
        parsed_strictly(parser, sent[limit - 2 : limit + 2])


LIMIT_ERRORS = {
    "": "",
    "request_line": "414 RequestLineTooLongError",
    "header_bytes": "431 HeadersTooLargeError",
    "headers": "431 TooManyHeadersError",
    "body": "413 BodyTooLargeError",
    "trailer_bytes": "431 TrailersTooLargeError",
    "chunk_line": "400 ChunkLineTooLongError",
}


@given(over=st.sampled_from(sorted(LIMIT_ERRORS)), data=st.data())
def test_each_limit_is_exact(over: str, data: st.DataObject) -> None:
    """A message of just the size of every limit is good; with one of them smaller by one, that one is told."""
    some = st.integers(1, 40).map(lambda count: "a" * count)
    line = f"GET /{data.draw(some)} HTTP/1.1"
    fields = f"Host: a\r\nTransfer-Encoding: chunked\r\nX:{data.draw(some)}\r\n"
    body = data.draw(some)
    chunk_line = f"{len(body):x};a={data.draw(some)}"
    last_line = f"0;{'a' * (len(chunk_line) - 2)}"
    trailers = f"X:{data.draw(some)}\r\n"
    sent = f"{line}\r\n{fields}\r\n{chunk_line}\r\n{body}\r\n{last_line}\r\n{trailers}\r\n".encode()
    limits = Limits(
        request_line=len(line),
        header_bytes=len(fields),
        headers=3,
        body=len(body),
        chunk_line=len(chunk_line),
        trailer_bytes=len(trailers),
    )
    pieces = data.draw(cuts(sent))
    assert parsed(pieces, limits)[-1] == "end"
    if over:
        limits = replace(limits, **{over: getattr(limits, over) - 1})
        assert parsed(pieces, limits)[-1].startswith(f"error {LIMIT_ERRORS[over]}")
