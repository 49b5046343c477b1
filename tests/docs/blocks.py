"""The code blocks of a page, and the checks that stand below them in comments, which a reader does not see.

A block with a title is a file of that name; all files of a page are in one folder. Below a program that serves stand
lines such as these, each of which is tried against it:

    <!-- check: GET /path -> 200 words of the answer -->
    <!-- check: POST /path {"the": "body"} -> 201 words -->
    <!-- check: tls GET / -> 200 words -->                    the same over TLS
    <!-- check: unix GET / -> 200 words -->                   the same over a Unix socket, as a proxy would
    <!-- check: stream /path -> 200 words -->                 an answer without end
    <!-- check: upload /path field=content -> 201 words -->   a form with a file
    <!-- check: ws /path message -> message -->
    <!-- check: tcp bytes -> bytes -->
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted(
    path
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("packages/*/README.md")]
    # Its examples run in tests/core, with what they print.
    if path != ROOT / "packages" / "nimloop-core" / "README.md"
)
FENCE: Final = re.compile(r"^```(\w+)?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CHECK: Final = re.compile(r"^<!-- check: (.*?) -->$", re.MULTILINE)


@dataclass
class Block:
    """One block of a page: its language, the name of its file or nothing, and what is to be tried."""

    page: Path
    number: int
    language: str
    title: str
    code: str
    checks: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Return a name for people."""
        return f"{self.page.relative_to(ROOT)}:{self.number}{':' + self.title if self.title else ''}"

    @property
    def complete(self) -> bool:
        """Tell whether this can be run, or is a part of something."""
        return self.language == "python" and bool(re.search(r"^(from|import) nimloop", self.code, re.MULTILINE))


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page; a check belongs to the last program in Python above it."""
    text = page.read_text("utf-8")
    found: list[tuple[int, Block | str]] = [(match.start(), match[1]) for match in CHECK.finditer(text)]
    for number, match in enumerate(FENCE.finditer(text)):
        title = re.search(r'title="([^"]*)"', match[2])
        found.append((match.start(), Block(page, number, match[1] or "", title[1] if title else "", match[3])))
    blocks: list[Block] = []
    for _, item in sorted(found, key=lambda pair: pair[0]):
        if isinstance(item, Block):
            blocks.append(item)
        else:
            next(block for block in reversed(blocks) if block.language == "python").checks.append(item)
    return blocks


BLOCKS: Final = [block for page in PAGES for block in blocks_of(page)]
