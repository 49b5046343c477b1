"""atheris' target for multipart/form-data: `hatch run fuzz:forms`.

Half of the inputs are a body as it is: whole, in pieces and byte by byte it must give the same form or the same error,
none but those that are promised, and within the limits. The other half chooses fields and files, out of which a body is
made as browsers make it: the form must have them again.
"""

from __future__ import annotations

import importlib
import sys

atheris = importlib.import_module("atheris")  # not installed where types are checked

with atheris.instrument_imports(include=["nimloop_http", "multipart"]):
    from nimloop_http import FormLimits, FormReader
    from nimloop_http.errors import FormError, LimitError, PartHeaderTooLongError, TooManyPartHeadersError

LIMITS = [
    FormLimits(),
    FormLimits(parts=2, files=1, field=8, fields=12, file=16, headers=2, header_bytes=64, memory=8),
]
BOUNDARIES = ["b", "----x1", "a'()+_,-./:=?"]

Told = list[tuple[str, str | None, str, bytes]] | str


def read(pieces: list[bytes], boundary: str, limits: FormLimits) -> Told:
    """Say what the form has, or which error there is."""
    reader = FormReader(f'multipart/form-data; boundary="{boundary}"', limits=limits, in_memory=True)
    try:
        for piece in pieces:
            reader.write(piece)
        reader.end()
    except (PartHeaderTooLongError, TooManyPartHeadersError):
        return "FormError"  # a header that is malformed as well is refused for what the multipart package sees first
    except (FormError, LimitError) as error:
        return type(error).__name__
    parts = reader.form.parts
    assert len(parts) <= limits.parts
    assert sum(part.is_file for part in parts) <= limits.files
    assert sum(part.size for part in parts if not part.is_file) <= limits.fields
    for part in parts:
        assert part.size == len(part.data) <= (limits.file if part.is_file else limits.field)
        assert len(part.headers.fields()) <= limits.headers
        assert not set(part.filename or "") & set("/\\\0\r\n")
    told: Told = [(part.name, part.filename, part.content_type, part.data) for part in parts]
    reader.close()
    return told


def is_cut_the_same(data: bytes, boundary: str, limits: FormLimits, cut: int) -> Told:
    """Read a body in three ways, and return what all of them say."""
    one, two = sorted((cut % (len(data) + 1), cut * 7 % (len(data) + 1)))
    told = read([data], boundary, limits)
    for pieces in ([data[:one], data[one:two], data[two:]], [data[i : i + 1] for i in range(len(data))]):
        other = read(pieces, boundary, limits)
        assert other == told, (other, told)
    return told


def quoted(name: str) -> str:
    """Write a name as browsers do (HTML Standard, "multipart/form-data encoding algorithm")."""
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")


def chosen(source: bytes, boundary: str) -> tuple[list[tuple[str, str | None, bytes]], bytes]:
    """Return fields and files, and the body that a browser makes of them."""
    fields: list[tuple[str, str | None, bytes]] = []
    body = b""
    for piece in source.split(b"\xff")[:20]:
        if not piece or b"\r\n--" + boundary.encode() in b"\r\n" + piece:
            continue
        name = f"f{piece[0]}"
        filename = f"n{piece[0]}.bin" if piece[0] & 1 else None
        more = f'; filename="{quoted(filename)}"\r\nContent-Type: image/png' if filename else ""
        fields.append((name, filename, piece))
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{quoted(name)}"{more}\r\n\r\n'.encode()
        body += piece + b"\r\n"
    return fields, body + f"--{boundary}--\r\n".encode()


def test_one_input(given: bytes) -> None:
    """Read one form in several ways."""
    if len(given) < 3:
        return
    boundary = BOUNDARIES[given[0] % 3]
    limits = LIMITS[given[0] >> 2 & 1]
    if given[0] & 128:
        fields, body = chosen(given[2:], boundary)
        told = is_cut_the_same(body, boundary, LIMITS[0], given[1])
        assert isinstance(told, list), told
        assert [(name, filename, data) for name, filename, _, data in told] == fields
        is_cut_the_same(body, boundary, LIMITS[1], given[1])
    else:
        is_cut_the_same(given[2:], boundary, limits, given[1])


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
