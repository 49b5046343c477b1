"""Putting a response together in C and in Python: the same bytes, or the same error."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.twins import implementation

from nimloop_http import _encode_py

Encode = Callable[[str, str, int, str, bytes], bytes]

TWINS: dict[str, Encode] = {"Python": _encode_py.encode}
try:
    from nimloop_http import _encode_c
except ImportError:
    pass
else:
    TWINS["C"] = _encode_c.encode

LATIN = st.text(st.characters(max_codepoint=0xFF), max_size=80)


@pytest.mark.parametrize("encode", TWINS.values(), ids=TWINS)
def test_a_response(encode: Encode) -> None:
    """Status line, date, length, the other lines, an empty line, the body."""
    assert encode("HTTP/1.1 200 OK\r\n", "Date: now\r\n", 2, "A: \xe9\r\n", b"hi") == (
        b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 2\r\nA: \xe9\r\n\r\nhi"
    )
    assert encode("HTTP/1.1 204 No Content\r\n", "", -1, "", b"") == b"HTTP/1.1 204 No Content\r\n\r\n"


@given(status=LATIN, date=LATIN, length=st.integers(-1, 2**63 - 1), lines=LATIN, body=st.binary(max_size=200))
def test_the_twins_agree(status: str, date: str, length: int, lines: str, body: bytes) -> None:
    """Whatever the text and the length."""
    assert len({encode(status, date, length, lines, body) for encode in TWINS.values()}) == 1


@pytest.mark.parametrize("encode", TWINS.values(), ids=TWINS)
@pytest.mark.parametrize("position", [0, 1, 3])
def test_what_does_not_fit_a_byte_is_refused(encode: Encode, position: int) -> None:
    """Header values were checked long before; nothing must be cut silently all the same."""
    texts = ["a", "b", "", "c"]
    texts[position] = "\u20ac"
    with pytest.raises(UnicodeEncodeError):
        encode(texts[0], texts[1], 0, texts[3], b"")


def test_wrong_arguments_are_type_errors() -> None:
    """The C has no checks by a signature; it must not crash."""
    if "C" not in TWINS:
        pytest.skip("not built")
    encode = TWINS["C"]
    wrong: list[tuple[object, ...]] = [(), ("", "", 0), ("", "", "", ""), (b"", "", 0, ""), ("", "", 0, "", "text")]
    for arguments in wrong:
        with pytest.raises(TypeError):
            encode(*arguments)  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        encode("", "", 1 << 64, "", b"")


@pytest.mark.parametrize("wanted", ["off", "auto"])
def test_the_environment_chooses_the_twin(wanted: str) -> None:
    """``NIMLOOP_EXTENSION=off`` means the Python, also where the C is built."""
    output = implementation("nimloop_http._encoder", wanted)
    assert output == ("Python" if wanted == "off" or "C" not in TWINS else "C")


def test_the_python_is_taken_where_the_c_is_not_built() -> None:
    """Without being asked to."""
    assert (
        implementation("nimloop_http._encoder", "auto", "import sys; sys.modules['nimloop_http._encode_c'] = None; ")
        == "Python"
    )
