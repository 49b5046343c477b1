"""From the path of a URL to an open file that lies beneath a folder, whatever the path says.

Facts: a check of a name and a later open of it can see two different things; ``..`` and symbolic links lead out of
a folder; percent-encoding hides both. Consequences: the path is decoded once, each segment by itself; the file is
opened segment by segment, each relative to the one before and without following symbolic links; what is looked at
and sent is the descriptor and no longer the name. A symbolic link is followed only by resolving it first and then
opening the result in the same strict way, beneath the same folder.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from typing import Final
from urllib.parse import unquote_to_bytes

from nimloop_http.errors import ForbiddenPathError

# Non-blocking, because opening a named pipe would otherwise wait for its writer; and a terminal must not become ours.
OPEN_FILE: Final[int] = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
_NO_FOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
_FOLDER: Final[int] = OPEN_FILE | getattr(os, "O_DIRECTORY", 0)
# open(2): O_PATH needs no permission to read. A folder on the way only has to be passable, as for any other program.
_ON_THE_WAY: Final[int] = _FOLDER | getattr(os, "O_PATH", 0)
# Opening a symbolic link with O_NOFOLLOW says ELOOP; together with O_DIRECTORY it says ENOTDIR.
_LINK: Final = frozenset({errno.ELOOP, errno.ENOTDIR, getattr(errno, "EMLINK", errno.ELOOP)})

# Microsoft, "Naming Files, Paths, and Namespaces". What leads elsewhere than a name: another separator, a stream of a
# file (":"), wildcards; a dot or blank at the end, which is dropped, so that "x.py." is x.py; and the short form of a
# long name ("GITIGN~1"), which would get past the rule about dotfiles.
_NO_NAME_ON_WINDOWS: Final = re.compile(r'[\x00-\x1f\\/:*?"<>|]|~[0-9]|[. ]\Z')
# Devices, which are in every folder, also with an extension and with superscript digits.
_DEVICE: Final = re.compile(
    r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9\xb9\xb2\xb3]) *(?:\..*)?", re.IGNORECASE | re.DOTALL
)


def special_on_windows(segment: str) -> bool:
    """Tell whether Windows would take a segment for something else than a name in its folder."""
    return _NO_NAME_ON_WINDOWS.search(segment) is not None or _DEVICE.fullmatch(segment) is not None


def split_path(raw_path: str) -> list[str]:
    """Take the path of a URL apart and decode its segments, once; empty ones and ``.`` are left out.

    Raises `ForbiddenPathError` for what could lead out of a folder or confuse the system: ``..``, an encoded slash,
    NUL, and on Windows everything that is special there.
    """
    segments: list[str] = []
    for part in raw_path.split("/"):
        try:
            segment = os.fsdecode(unquote_to_bytes(part)) if "%" in part else part
        except UnicodeDecodeError:  # on Windows; elsewhere every byte may stand in a name
            raise ForbiddenPathError(f"the path is not UTF-8: {part!r}") from None
        if segment in {"", "."}:
            continue
        if segment == ".." or "/" in segment or "\0" in segment:
            raise ForbiddenPathError(f"the path must not contain {segment!r}")
        if sys.platform == "win32" and special_on_windows(segment):
            raise ForbiddenPathError(f"the path must not contain {segment!r}")
        segments.append(segment)
    return segments


def names_folder(raw_path: str) -> bool:
    """Tell whether a path ends in a slash, or in a dot behind one, which means the same (RFC 3986 §5.2.4)."""
    return unquote_to_bytes(raw_path.rpartition("/")[2]) in {b"", b"."}


def open_beneath(root: str, segments: list[str]) -> int:
    """Open what `segments` name beneath the folder `root`, for reading; files and folders alike.

    Returns a descriptor that the caller has to close. Raises `ForbiddenPathError` for a symbolic link that leads out
    of the folder, and OSError as the system says it.
    """
    if sys.platform == "win32":
        return os.open(os.path.join(root, *resolve_beneath(root, segments)), OPEN_FILE)
    else:  # noqa: RET505 - for mypy, which skips the branch of another platform and not what follows one
        try:
            return _walk(root, segments)
        except OSError as error:
            if error.errno not in _LINK:
                raise
        return _walk(root, resolve_beneath(root, segments))


def _walk(root: str, segments: list[str]) -> int:
    if not segments:
        return os.open(root, _FOLDER)
    descriptor: int | None = None
    try:
        path = root + "/" + segments[0]  # the root itself may be reached through links
        for segment in segments[1:]:
            inner = os.open(path, _ON_THE_WAY | _NO_FOLLOW, dir_fd=descriptor)
            if descriptor is not None:
                os.close(descriptor)
            descriptor = inner
            path = segment
        return os.open(path, OPEN_FILE | _NO_FOLLOW, dir_fd=descriptor)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def resolve_beneath(root: str, segments: list[str]) -> list[str]:
    """Follow symbolic links; return the segments of the result, which lies beneath the root.

    Raises `ForbiddenPathError` where it does not, and OSError where there is nothing.
    """
    base = os.path.realpath(root)
    path = os.path.realpath(os.path.join(base, *segments), strict=True)
    if path == base:
        return []
    inside = path.removeprefix(base.rstrip(os.sep) + os.sep)
    if inside == path:
        raise ForbiddenPathError("the path leads out of the folder")
    return inside.split(os.sep)
