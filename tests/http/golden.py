"""The golden cases in `cases`, read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tests.http.parsing import taken

from nimloop_http import STANDARD_METHODS, HttpParser, Limits

CASES = Path(__file__).with_name("cases")


class Case(NamedTuple):
    """One request of one section of a case file, or one response to the requests that were sent."""

    name: str
    data: bytes
    limits: Limits
    methods: frozenset[str] | None
    sent: list[str] | None
    ends: bool
    result: list[str]

    def parsed(self, pieces: list[bytes], *, late: bool = False) -> list[str]:
        """Parse the data in these pieces."""
        if self.sent is None:
            parser = HttpParser(self.limits, methods=self.methods)
        else:
            parser = HttpParser.for_responses(self.limits)
            for method in self.sent:
                parser.request_sent(method)
        return taken(parser, pieces, late=late, ends=self.ends)


def unescaped(text: str) -> bytes:
    """Undo the escapes of the case files."""

    def byte(match: re.Match[bytes]) -> bytes:
        code = match.group(1)
        return bytes([int(code[1:], 16)]) if code[:1] == b"x" else b"\r\n\t\0 \\"[b"rnt0s\\".index(code) :][:1]

    return re.sub(rb"\\(x[0-9A-F]{2}|[rnt0s\\])", byte, text.encode())


def wire(lines: list[str]) -> bytes:
    """Put the line ends in that the lines of a case file stand for."""
    data = b""
    for line in lines:
        kept = line.removesuffix("\\")
        backslashes = len(line) - len(line.rstrip("\\"))
        data += unescaped(kept) if backslashes % 2 else unescaped(line) + b"\r\n"
    return data


def read_cases(path: Path) -> Iterator[Case]:
    """Take a case file apart."""
    for section in path.read_text().split("\n## ")[1:]:
        title = section.partition("\n")[0]
        blocks = {name: text.splitlines() for name, text in re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)}
        assert {"result"} < blocks.keys() <= {"request", "response", "sent", "result", "each", "limits"}, title
        assert ("request" in blocks) != ("response" in blocks), title
        limits, methods = Limits(), STANDARD_METHODS
        any_method = False
        for line in blocks.get("limits", []):
            name, _, value = line.partition(" ")
            if name == "methods":
                any_method = True
            else:
                limits = replace(limits, **{name: int(value)})
        sent = None if "request" in blocks else blocks.get("sent", ["GET"])
        for number, each in enumerate(blocks.get("each", [""])):
            lines = [line.replace("{each}", each) for line in blocks.get("request", blocks.get("response", []))]
            ends = lines[-1:] == ["(end)"]
            data = wire(lines[:-1] if ends else lines)
            name = f"{path.stem}: {title}" + f" [{number}: {each}]" * ("each" in blocks)
            yield Case(name, data, limits, None if any_method else methods, sent, ends, blocks["result"])


ALL_CASES = [case for path in sorted(CASES.glob("*.md")) if path.name != "README.md" for case in read_cases(path)]


def agrees(found: list[str], expected: list[str]) -> bool:
    """Compare with a case's result, which may leave out the fields and some words of an error's message."""
    if not any(line.startswith("  field ") for line in expected):
        found = [line for line in found if not line.startswith("  field ")]
    if not (found and expected and expected[-1].startswith("error ")):
        return found == expected
    wanted_kind, _, words = expected[-1].partition(": ")
    kind, _, message = found[-1].partition(": ")
    return found[:-1] == expected[:-1] and kind == wanted_kind and words in message
