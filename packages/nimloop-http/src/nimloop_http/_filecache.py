"""Small files that were sent lately, so that sending them again needs neither to open nor to read them.

What is kept is trusted for a second. Within it, each time, one look at the name has to show the same file as before:
device, inode, size, time of change of content and of anything else. So a file that was replaced or changed is seen at
once. Not a folder on the way that was replaced by a symbolic link to where the same file is now: that takes the second.

Facts: a kernel's clock for files moves in steps of up to 10 ms, so a file changed twice in one step looks as if it had
been changed once → what was changed a moment ago is not kept.
"""

from __future__ import annotations

import os
import re
import time
from typing import Final, final

from nimloop_http._conditional import has_conditions
from nimloop_http._framing import Head
from nimloop_http.response import HttpResponse

_ENTRIES: Final = 1024
_TOTAL_BYTES: Final = 8 << 20
_TRUSTED_SECONDS: Final = 1.0
_SETTLED_NS: Final = 100_000_000

_ACCEPT_ENCODING: Final = re.compile(r"\r\naccept-encoding:([^\r]*)", re.IGNORECASE | re.ASCII)


@final
class _Kept:
    """A file as it is to be sent."""

    __slots__ = ("body", "identity", "lines", "path", "type_line", "until")

    def __init__(self, path: str, identity: tuple[int, ...], lines: str, type_line: str, body: bytes) -> None:
        self.path: Final = path
        self.identity: Final = identity
        self.lines: Final = lines
        self.type_line: Final = type_line
        self.body: Final = body
        self.until: Final = time.monotonic() + _TRUSTED_SECONDS


@final
class FileCache:
    """The files of one folder, by what a request asks for."""

    __slots__ = ("_kept", "_size")

    def __init__(self) -> None:
        self._kept: Final[dict[str, _Kept]] = {}
        self._size = 0

    def send(self, head: Head, res: HttpResponse) -> bool:
        """Answer a GET from memory; False when that is not possible."""
        key = _key(head)
        kept = self._kept.get(key)
        if kept is None or has_conditions(head.text):
            return False
        try:
            if time.monotonic() < kept.until and _identity(os.lstat(kept.path)) == kept.identity:
                res.add_lines(kept.lines, kept.type_line)
                res.send(kept.body)
                return True
        except (OSError, ValueError):
            pass
        del self._kept[key]
        self._size -= len(kept.body)
        return False

    def keep(self, head: Head, path: str, status: os.stat_result, answer: tuple[str, str, bytes]) -> None:
        """Keep what was just sent, field lines, Content-Type line and body, if it may be kept."""
        identity = _identity(status)
        try:
            if time.time_ns() - status.st_ctime_ns < _SETTLED_NS or _identity(os.lstat(path)) != identity:
                return  # changed a moment ago, or reached by a symbolic link
        except OSError:
            return
        lines, type_line, body = answer
        if len(self._kept) >= _ENTRIES or self._size + len(body) > _TOTAL_BYTES:
            self._kept.clear()
            self._size = 0
        key = _key(head)
        if key not in self._kept:
            self._kept[key] = _Kept(path, identity, lines, type_line, body)
            self._size += len(body)


def _key(head: Head) -> str:
    accepted = _ACCEPT_ENCODING.search(head.text)
    return head.target if accepted is None else f"{head.target}\n{accepted[1]}"


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
