"""FileWatcher on kqueue, as far as a stand-in for the kernel's queue can tell, and on listings that go wrong."""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, cast

import pytest
from tests.core import vnode_standin
from tests.core.watching import Watching, listing, prepare, watching

from nimloop_core import Loop
from nimloop_core import filewatch as fw
from nimloop_core._watch_snapshot import Tree

assert sys.platform != "win32"  # for type checkers, to whom Windows has no such names


class Function(Protocol):
    """A function of `os`."""

    def __call__(self, path: object, *arguments: object, **options: object) -> object:
        """Do it."""


@pytest.fixture
def queued(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watching]:
    """Have a watcher on a queue."""
    prepare("kqueue", monkeypatch)
    with watching("kqueue", root) as found:
        yield found


@pytest.fixture
def polled(root: Path) -> Iterator[Watching]:
    """Have a watcher that polls, on virtual time."""
    with watching("polling", root) as found:
        yield found


def refuse(patch: pytest.MonkeyPatch, function: str, name: str, number: int) -> None:
    """Let a function of `os` fail for paths that end like this."""
    real = cast("Function", getattr(os, function))

    def refusing(path: object, *arguments: object, **options: object) -> object:
        if isinstance(path, str) and path.endswith(name):
            raise OSError(number, os.strerror(number), path)
        return real(path, *arguments, **options)

    patch.setattr(os, function, refusing)


# Queues -------------------------------------------------------------------------------------------------------


def test_each_entry_has_one_descriptor(queued: Watching, root: Path, descriptors: Callable[[], set[str]]) -> None:
    """For as long as it is there; links and pipes have none."""
    (root / "folder").mkdir()
    (root / "folder" / "file").touch()
    (root / "link").symlink_to(root)
    os.mkfifo(root / "pipe")

    def opened() -> set[str]:
        return {each.split()[1] for each in descriptors() if os.fspath(root) in each}

    queued.watch(recursive=True)
    assert opened() == {os.fspath(root / name) for name in (".", "folder", "folder/file")}
    (root / "new").touch()
    (root / "folder").rename(root / "renamed")
    queued.settle()
    assert opened() == {os.fspath(root / name) for name in (".", "new", "renamed", "renamed/file")}
    queued.close()
    assert opened() == set()


def test_writing_is_seen_when_the_clock_stands_still(queued: Watching, root: Path) -> None:
    """The kernel has said so: that time and size are as before does not matter."""
    (root / "file").write_text("one")
    queued.watch()
    status = (root / "file").stat()
    (root / "file").write_text("two")
    os.utime(root / "file", ns=(status.st_atime_ns, status.st_mtime_ns))
    queued.expect(fw.MODIFIED, "file")


def test_a_write_between_the_look_and_the_queue_is_seen(
    queued: Watching, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is opened is looked at once more."""
    (root / "file").write_text("one")
    control = vnode_standin.Queue.control

    def late(self: vnode_standin.Queue, changes: list[object] | None, *rest: float) -> list[vnode_standin.Kevent]:
        if changes:
            (root / "file").write_text("something longer")
            (root / "new").touch()
        return control(self, changes, int(rest[0]), rest[1])

    with monkeypatch.context() as patch:
        patch.setattr(vnode_standin.Queue, "control", late)
        queued.watch()
    queued.expect(fw.MODIFIED, "file")
    queued.expect(fw.CREATED, "new")


def test_no_more_descriptors_is_an_error(
    queued: Watching, root: Path, monkeypatch: pytest.MonkeyPatch, descriptors: Callable[[], set[str]]
) -> None:
    """At the beginning, for the owner; and nothing is left open."""
    (root / "one-too-many").touch()
    before = descriptors()
    refuse(monkeypatch, "open", "one-too-many", errno.EMFILE)
    with pytest.raises(OSError, match="one-too-many"):
        queued.watch()
    assert descriptors() == before


def test_a_queue_that_refuses_leaves_nothing_open(
    queued: Watching, monkeypatch: pytest.MonkeyPatch, descriptors: Callable[[], set[str]]
) -> None:
    """Not every file system can report its vnodes."""
    before = descriptors()

    def control(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(vnode_standin.Queue, "control", control)
    with pytest.raises(OSError, match="not supported"):
        queued.watch()
    assert descriptors() == before


def test_no_more_descriptors_later_is_told_once(queued: Watching, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the exception handler, and as an event; the others go on."""
    told: list[Exception] = []
    queued.loop.exception_handler = lambda error, owner: told.append(error)
    queued.watch()
    refuse(monkeypatch, "open", "one-too-many", errno.EMFILE)
    (root / "one-too-many").touch()
    queued.expect(fw.OVERFLOW, "one-too-many")
    (root / "other").touch()
    queued.settle()
    assert [type(each) for each in told] == [OSError]
    assert (fw.CREATED, "one-too-many", None) in queued.seen


def test_what_is_gone_before_it_is_opened_is_no_error(
    queued: Watching, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder says so next."""
    (root / "passing").touch()
    refuse(monkeypatch, "open", "passing", errno.ENOENT)
    queued.watch()
    (root / "passing").unlink()
    queued.expect(fw.DELETED, "passing")


def test_a_look_that_fails_is_an_overflow(queued: Watching, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The news has been fetched, and nobody knows what it was about."""
    told: list[Exception] = []
    queued.loop.exception_handler = lambda error, owner: told.append(error)
    queued.watch()
    queued.settle()
    with monkeypatch.context() as patch:
        refuse(patch, "open", "root", errno.EIO)
        (root / "file").touch()
        queued.expect(fw.OVERFLOW, ".")
    assert len(told) == 1
    (root / "other").touch()
    queued.settle()
    assert queued.picture == listing(root)


def test_an_event_of_nobody_is_passed_over(queued: Watching, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queues forget closed descriptors; one that did not would do no harm."""
    queued.watch()
    control = vnode_standin.Queue.control

    def more(self: vnode_standin.Queue, changes: list[object] | None, *rest: float) -> list[vnode_standin.Kevent]:
        found = control(self, changes, int(rest[0]), rest[1])
        return [vnode_standin.Kevent(99_999), *found] if found else []

    monkeypatch.setattr(vnode_standin.Queue, "control", more)
    (root / "file").touch()
    queued.expect(fw.CREATED, "file")


def test_the_module_select_is_the_default(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it has queues."""
    if not vnode_standin.AVAILABLE:
        pytest.skip("nothing to make a queue of")
    api = vnode_standin.StandIn()
    monkeypatch.setattr(select, "kqueue", api.kqueue, raising=False)
    monkeypatch.setattr(select, "kevent", api.kevent, raising=False)
    assert "kqueue" in fw.available()
    with watching("kqueue", root) as watched:
        watched.watch()
        (root / "file").touch()
        watched.expect(fw.CREATED, "file")


# Listings -----------------------------------------------------------------------------------------------------


def test_a_look_that_fails_is_repeated(polled: Watching, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is deleted because a disk could not be read; the next look finds what this one has not."""
    told: list[Exception] = []
    polled.loop.exception_handler = lambda error, owner: told.append(error)
    (root / "folder").mkdir()
    (root / "folder" / "file").touch()
    polled.watch(recursive=True)
    (root / "new").touch()
    with monkeypatch.context() as patch:
        refuse(patch, "open", "folder", errno.EIO)
        polled.until(lambda: bool(told))
    assert polled.events == []
    polled.expect(fw.CREATED, "new")
    assert len(polled.events) == 1


def test_a_folder_that_may_not_be_read_keeps_its_entries(
    polled: Watching, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as anybody knows, they are still there."""
    (root / "folder").mkdir()
    (root / "folder" / "file").touch()
    polled.watch(recursive=True)
    refuse(monkeypatch, "open", "folder", errno.EACCES)
    (root / "new").touch()
    polled.expect(fw.CREATED, "new")
    assert len(polled.events) == 1


@pytest.mark.parametrize("function", ["open", "lstat"])
def test_what_goes_during_a_look_is_gone(
    polled: Watching, root: Path, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed by the folder above, and not there any more."""
    (root / "folder").mkdir()
    (root / "folder" / "file").touch()
    polled.watch(recursive=True)
    refuse(monkeypatch, function, "folder" if function == "open" else "file", errno.ENOENT)
    polled.expect(fw.DELETED, "folder/file")
    assert len(polled.events) == 1


def test_a_folder_that_goes_while_it_is_looked_at_is_the_end(
    polled: Watching, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There when it was asked for, gone when it was listed."""
    polled.watch()
    refuse(monkeypatch, "open", "root", errno.ENOENT)
    polled.expect(fw.ENDED, ".")


def test_a_folder_replaced_by_another_is_the_end(polled: Watching, root: Path) -> None:
    """The one that was watched is not there any more, although its path is."""
    polled.watch()
    root.rename(root.with_name("moved"))
    root.mkdir()
    polled.expect(fw.ENDED, ".")


@pytest.mark.parametrize("mechanism", ["kqueue", "polling"])
def test_a_folder_listed_while_another_has_its_path(
    mechanism: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parent is moved away and back while it is opened; of that the folder itself learns nothing."""
    prepare(mechanism, monkeypatch)
    (root / "a" / "x").mkdir(parents=True)
    (root / "b" / "x" / "other").mkdir(parents=True)
    real = os.open
    swaps = iter([True])

    def swapping(path: str | Path, *rest: int) -> int:
        if not os.fspath(path).endswith("a/x") or not next(swaps, False):
            return real(path, *rest)
        (root / "a").rename(root / "c")
        (root / "b").rename(root / "a")
        fd = real(path, *rest)
        (root / "a").rename(root / "b")
        (root / "c").rename(root / "a")
        return fd

    with watching(mechanism, root) as watched:
        watched.watch(recursive=True)
        watched.settle()
        monkeypatch.setattr(os, "open", swapping)
        (root / "a" / "x" / "new").touch()
        watched.expect(fw.CREATED, "a/x/new")
        watched.settle()
    assert next(swaps, None) is None


def test_entangled_renames_lead_to_the_truth(polled: Watching, root: Path) -> None:
    """Folders out of each other, into new ones, and files in the place of folders, between two looks."""
    for name in ("a/b/c", "d/e", "f"):
        (root / name).mkdir(parents=True)
        (root / name / "file").write_text(name)
    polled.watch(recursive=True)
    (root / "a" / "b").rename(root / "g")
    (root / "new" / "x").mkdir(parents=True)
    (root / "a").rename(root / "new" / "x" / "a")
    (root / "g" / "c").rename(root / "new" / "c")
    (root / "d" / "e" / "file").rename(root / "a")
    (root / "f" / "file").rename(root / "file")
    (root / "f").rmdir()
    (root / "d").rename(root / "f")
    polled.settle()
    assert (fw.RENAMED, "g", "a/b") in polled.seen
    assert (fw.RENAMED, "file", "f/file") in polled.seen


def test_a_folder_replaced_by_what_was_in_it(polled: Watching, root: Path) -> None:
    """It cannot be renamed onto its own folder: it is told as something new."""
    (root / "a" / "b" / "c").mkdir(parents=True)
    (root / "a" / "b" / "file").write_text("text")
    polled.watch(recursive=True)
    (root / "a").rename(root / "x")
    (root / "x" / "b").rename(root / "a")
    (root / "x").rmdir()
    polled.settle()
    assert (fw.CREATED, "a/file", None) in polled.seen


def test_a_slow_look_is_not_overtaken(polled: Watching, root: Path) -> None:
    """The timer passes it by; the events come once."""
    polled.watch(recursive=True)
    for number in range(1_000):
        (root / str(number)).mkdir()
    for _ in range(20):
        polled.loop.run_once(0)
        assert polled.clock is not None
        polled.clock.advance(2)
    polled.settle()
    assert len(polled.events) == 1_000


def test_only_what_is_there_can_be_found(loop: Loop, root: Path) -> None:
    """Paths of a tree lead to what is known of them."""
    (root / "a").mkdir()
    with fw.FileWatcher(loop, root, print, mechanism="polling") as watcher:
        tree = Tree(watcher, recursive=True)
    assert tree.find(os.fspath(root)) is tree.root
    assert tree.find(os.fspath(root / "a")) is tree.root.children["a"]
    assert tree.find(os.fspath(root / "b" / "c")) is None


def test_a_folder_with_the_inode_number_of_a_file_is_new(loop: Loop, root: Path) -> None:
    """Numbers are used again at once, and of such a folder only the parent is known to have changed."""
    (root / "a").touch()
    seen: list[fw.FileEvent] = []
    with fw.FileWatcher(loop, root, seen.append, mechanism="polling") as watcher:
        tree = Tree(watcher, recursive=True)
        (root / "a").unlink()
        (root / "a" / "b").mkdir(parents=True)
        status = (root / "a").stat()
        tree.root.children["a"].identity = (status.st_dev, status.st_ino)
        for _ in tree.refresh({os.fspath(root)}):
            pass
        watcher.wake()
    assert [(each.kind, each.path) for each in seen] == [
        (fw.DELETED, os.fspath(root / "a")),
        (fw.CREATED, os.fspath(root / "a")),
        (fw.CREATED, os.fspath(root / "a" / "b")),
    ]
