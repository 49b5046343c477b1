"""What the client would rather have: RFC 9110 §12.5."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

# §12.4.2: weight = OWS ";" OWS "q=" qvalue
_QVALUE: Final = r"[01](?:\.[0-9]{0,3})?"
_MEDIA_RANGE: Final = re.compile(rf"([^ \t;,]+)(?:[^,]*?;[ \t]*q=({_QVALUE}))?[^,]*", re.IGNORECASE | re.ASCII)
# §12.5.3: Accept-Encoding = #( codings [ weight ] )
_CODING: Final = re.compile(rf"[ \t]*([^ \t;,]+)[ \t]*(?:;[ \t]*q=({_QVALUE}))?[ \t]*", re.IGNORECASE | re.ASCII)


def prefers_json(accept: str) -> bool:
    """Tell whether JSON is asked for by name, and no less than HTML is (§12.5.1)."""
    weights = {name.lower(): float(weight or 1) for name, weight in _MEDIA_RANGE.findall(accept)}
    json = weights.get("application/json", 0)
    return json > 0 and json >= weights.get("text/html", 0)


def codings_wanted(accept_encoding: str, offered: Sequence[str]) -> list[str]:
    """Return those of the offered content codings that the client takes, the best first.

    Among equals the order of the offer decides. What the client would rather have without any coding is left out; no
    field at all means that (§12.5.3 leaves it to the server, and such clients seldom decode anything).
    """
    weights: dict[str, float] = {}
    for item in accept_encoding.split(","):
        match = _CODING.fullmatch(item)
        if match is not None:
            coding = match[1].lower()
            weights["gzip" if coding == "x-gzip" else coding] = float(match[2] or 1)  # §8.4.1.3
    others = weights.get("*", 0.0)
    least = weights.get("identity", 0.0)
    wanted = [(weights.get(coding, others), coding) for coding in offered]
    wanted = [each for each in wanted if each[0] > 0 and each[0] >= least]
    wanted.sort(key=lambda each: -each[0])
    return [coding for _, coding in wanted]
