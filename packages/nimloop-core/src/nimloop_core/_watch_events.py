"""What happened to a file, and the seam between `FileWatcher` and the mechanisms that find it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Protocol, final

from nimloop_core._loop import Loop

Kind = Literal["created", "modified", "deleted", "renamed", "attributes", "overflow", "ended"]

CREATED: Final = "created"
"""Something new is at the path, or what was there has been replaced from outside."""
MODIFIED: Final = "modified"
"""What the file holds has changed."""
DELETED: Final = "deleted"
"""Nothing is at the path any more; of a folder: nor anywhere below it."""
RENAMED: Final = "renamed"
"""What was at `FileEvent.old_path`, with all that is below it, is at the path, instead of what may have been there."""
ATTRIBUTES: Final = "attributes"
"""Permissions, owner, times or the number of links have changed."""
OVERFLOW: Final = "overflow"
"""Changes at or below the path were lost: read it again. What comes later may repeat what was read then."""
ENDED: Final = "ended"
"""The watcher has closed itself, because what it watched is gone. The last event."""


@final
@dataclass(frozen=True, slots=True)
class FileEvent:
    """One change. Paths are absolute, begin as the watcher's own path does, and are never bytes."""

    kind: Kind
    """What has happened: one of the constants of `nimloop_core.filewatch`."""
    path: str
    """Where it is now."""
    old_path: str | None = None
    """Where it was before; for ``"renamed"`` only."""
    is_dir: bool = False
    """Whether it is a folder, or was one."""


class Host(Protocol):
    """What a mechanism may ask of the `FileWatcher` that it works for."""

    @property
    def loop(self) -> Loop:
        """The loop to wait on."""

    @property
    def path(self) -> str:
        """What to watch, absolute."""

    def emit(self, kind: Kind, path: str, old_path: str | None = None, *, is_dir: bool = False) -> None:
        """Queue an event."""

    def fail(self, error: Exception) -> None:
        """Report an error that nobody can be raised to."""

    def wake(self) -> None:
        """Have `Mechanism.advance` called until it returns 0; now, unless that is going on already."""


class Mechanism(Protocol):
    """What finds the changes."""

    def advance(self) -> int:
        """Do a small piece of the work at hand and return what it cost, about one per entry; 0: nothing to do."""

    def close(self) -> None:
        """Give everything back."""
