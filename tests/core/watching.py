"""What the tests of file watchers share: a watcher that is waited for, and a picture made of nothing but its events."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast, final

import pytest
from tests.core import vnode_standin

from nimloop_core import Loop
from nimloop_core import filewatch as fw
from nimloop_core.filewatch import FileEvent, FileWatcher
from nimloop_core.testing import FakeBackend, FakeClock

if TYPE_CHECKING:
    from nimloop_core._watch_events import Host, Mechanism
    from nimloop_core._watch_kqueue import VnodeApi

# Nothing here takes that long; a test that waits for an event that never comes ends with the list of those that did.
LIMIT: Final = 20.0


def listing(root: Path) -> dict[str, bool]:
    """Return every path below a folder and whether it is a folder."""
    found: dict[str, bool] = {}
    for folder, folders, files in os.walk(root):
        found.update({f"{folder}/{name}": False for name in files})
        found.update({f"{folder}/{name}": not Path(folder, name).is_symlink() for name in folders})
    return found


@final
class Watching:
    """One mechanism on one loop, and what has been reported."""

    def __init__(self, loop: Loop, mechanism: str, root: Path, clock: FakeClock | None = None) -> None:
        self.loop = loop
        self.clock = clock
        self.mechanism = mechanism
        self.root = root
        self.events: list[FileEvent] = []
        self.picture: dict[str, bool] = {}
        self.watchers: list[FileWatcher] = []

    def watch(self, path: Path | None = None, *, recursive: bool = False) -> FileWatcher:
        """Watch a path, the root as a rule."""
        path = path or self.root
        watcher = FileWatcher(self.loop, path, self.on_change, recursive=recursive, mechanism=self.mechanism)
        self.watchers.append(watcher)
        self.picture = listing(path)
        return watcher

    def on_change(self, event: FileEvent) -> None:
        """Note the event and change the picture as it says."""
        assert not self.watchers[-1].closed or event.kind == fw.ENDED
        assert event.path.startswith("/")
        assert (event.old_path is not None) == (event.kind == fw.RENAMED)
        self.events.append(event)
        if event.kind == fw.CREATED:
            self._drop(event.path)
            self.picture[event.path] = event.is_dir
        elif event.kind == fw.DELETED:
            self._drop(event.path)
        elif event.old_path is not None:
            self._drop(event.path)
            for path in [each for each in self.picture if _is_in(each, event.old_path)]:
                self.picture[event.path + path[len(event.old_path) :]] = self.picture.pop(path)
            self.picture[event.path] = event.is_dir
        elif event.kind == fw.OVERFLOW:
            self._drop(event.path)
            self.picture.update(listing(Path(event.path)))
            if event.path != os.fspath(self.root) and os.path.lexists(event.path):
                self.picture[event.path] = Path(event.path).is_dir()

    def _drop(self, path: str) -> None:
        for each in [each for each in self.picture if _is_in(each, path)]:
            del self.picture[each]

    def until(self, condition: Callable[[], bool]) -> None:
        """Run the loop until the condition holds."""
        limit = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < limit, self.seen
            self.turn()

    def turn(self) -> None:
        """Run one iteration, and let some time pass."""
        self.loop.run_once(0.05)
        if self.clock is not None:
            self.clock.advance(0.05)  # also when the loop had no reason to wait

    def expect(self, kind: str, name: str, old_name: str | None = None) -> None:
        """Run the loop until this event has come, by names below the root."""
        self.until(lambda: (kind, name, old_name) in self.seen)

    def settle(self) -> None:
        """Run the loop until the last of everything so far has been told, and the picture is the truth."""
        mark = self.root / f"mark{len(self.events)}"
        mark.touch()
        self.until(lambda: self.picture.get(os.fspath(mark)) is False)
        mark.unlink()
        self.until(lambda: os.fspath(mark) not in self.picture)
        self.events = [each for each in self.events if each.path != os.fspath(mark)]
        self.until(lambda: self.picture == listing(self.root))

    @property
    def seen(self) -> list[tuple[str, str, str | None]]:
        """What was reported: kind and names below the root."""
        return [
            (each.kind, self._short(each.path), self._short(each.old_path) if each.old_path else None)
            for each in self.events
        ]

    def _short(self, path: str) -> str:
        return os.path.relpath(path, self.root)

    def close(self) -> None:
        """Close the watchers."""
        for watcher in self.watchers:
            watcher.close()


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def use_standin(patch: pytest.MonkeyPatch) -> None:
    """Have ``mechanism="kqueue"`` where the kernel has no queue."""

    def make(host: Host, *, recursive: bool, interval: float) -> Mechanism:
        from nimloop_core._watch_kqueue import KqueueWatch  # noqa: PLC0415 (as FileWatcher does)

        return KqueueWatch(host, recursive=recursive, api=cast("VnodeApi", vnode_standin.StandIn()))

    patch.setitem(fw._MECHANISMS, "kqueue", (lambda: True, make))


def prepare(mechanism: str, patch: pytest.MonkeyPatch) -> None:
    """Skip what this system has not, and put the stand-in in."""
    if mechanism == "kqueue" and "kqueue" not in fw.available():
        if not vnode_standin.AVAILABLE:
            pytest.skip("no queue, and nothing to make one of")
        use_standin(patch)
    if mechanism not in fw.available():
        pytest.skip(f"no {mechanism} on this system")


@contextmanager
def watching(mechanism: str, root: Path) -> Iterator[Watching]:
    """Open a loop for a mechanism: polling has no kernel to wait for, and lives on virtual time."""
    clock = FakeClock(7) if mechanism == "polling" else None
    with Loop(FakeBackend(clock), clock=clock) if clock else Loop() as loop, ExitStack() as stack:
        found = Watching(loop, mechanism, root, clock)
        stack.callback(found.close)
        yield found


def perform(operation: str, root: Path, outside: Path, path: str, other: str) -> None:
    """Do something to the tree, if it can be done."""
    target = root / path
    try:
        if operation == "touch":
            target.touch()
        elif operation == "write":
            with target.open("a") as file:
                file.write("text")
        elif operation == "mkdir":
            target.mkdir(parents=True)
        elif operation == "remove":
            shutil.rmtree(target) if target.is_dir() and not target.is_symlink() else target.unlink()
        elif operation == "chmod":
            target.chmod(0o750)
        elif operation == "link":
            target.symlink_to(root)
        elif operation == "rename":
            target.rename(root / other)
        elif operation == "out":
            target.rename(outside / path.replace("/", "_"))
        elif operation == "in":
            (outside / other.replace("/", "_")).rename(target)
    except OSError:
        pass  # not possible as things are


def shake(watched: Watching, outside: Path, seed: int, kinds: list[str], bursts: int) -> None:
    """Let another thread move everything about in a watched tree while the loop runs, and compare after each burst.

    Later changes heal what was missed earlier: many short bursts find more than one long one.
    """
    outside.mkdir()
    watched.watch(recursive=True)
    dice = random.Random(seed)

    def path() -> str:
        return "/".join(dice.choices("abc", k=dice.randint(1, 3)))

    def work() -> None:
        for _ in range(50):
            perform(dice.choice(kinds), watched.root, outside, path(), path())

    for _ in range(bursts):
        worker = threading.Thread(target=work)
        worker.start()
        try:
            while worker.is_alive():
                watched.turn()
        finally:
            worker.join()
        watched.settle()
