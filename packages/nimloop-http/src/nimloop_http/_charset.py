"""From bytes to text in a character set that a client has named."""

from __future__ import annotations

import codecs
from typing import Final

# Python's own encodings (library reference, codecs): no client means them, and some take quadratic time.
_NOT_CHARSETS: Final = frozenset({"idna", "punycode", "raw_unicode_escape", "undefined", "unicode_escape"})


def decode(data: bytes, charset: str) -> str:
    """Return the text in this character set, in UTF-8 if there is no such thing; U+FFFD for what does not fit."""
    try:
        codec = codecs.lookup(charset).name
        if codec.replace("-", "_") not in _NOT_CHARSETS:
            return data.decode(codec, "replace")
    except (LookupError, ValueError):  # unknown; not even a name; or a codec of something else than text, such as hex
        pass
    return data.decode("utf-8", "replace")
