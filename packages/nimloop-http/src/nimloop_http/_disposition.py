"""The Content-Disposition of a response: RFC 6266, with names beyond ASCII as RFC 8187 writes them."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

# RFC 8187 §3.2.1: attr-char, besides letters and digits. What is not among them is percent-encoded.
_ATTR_CHARS: Final = "!#$&+-.^_`|~"
# What no name of a file has: control characters, line ends, halves of surrogate pairs, and what would reorder it on the
# screen.
UNFIT: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Windows forbids these in names; "/" and "\\" were cut at before.
_UNSAFE: Final = re.compile('[<>:"|?*]')
# RFC 6266 Appendix D: leave out of the plain name what some clients decode ("%41") or unescape ("\\").
_NOT_PLAIN: Final = re.compile("[^ !#-\\[\\]-~]|%(?=[0-9A-Fa-f]{2})")


def content_disposition(filename: str, *, inline: bool = False) -> str:
    """Return the value of a Content-Disposition field that has the client save the response under this name.

    With `inline` it is shown where it can be, and the name is for the case that it is saved. Directories are cut off;
    characters that a name must not have, or that could make it look like another one, are replaced by ``_``.
    A name beyond ASCII is sent twice, the plain form first (RFC 6266 §4.3 and Appendix D).
    """
    kind = "inline" if inline else "attachment"
    name = filename.replace("\\", "/").rpartition("/")[2]
    name = _UNSAFE.sub("_", UNFIT.sub("_", name)).strip(" ").rstrip(".")
    if not name:
        return kind
    plain = _NOT_PLAIN.sub("_", name)
    if plain == name:
        return f'{kind}; filename="{plain}"'
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe=_ATTR_CHARS)}"
