"""FileWatcher on inotify: records as the kernel makes them, records as it hardly ever does, and its limits."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.watching import Watching, listing, shake, watching

from nimloop_core import READ, Loop, _inotify, _watch_inotify
from nimloop_core import filewatch as fw
from nimloop_core._inotify import OVERFLOW_RECORD, Inotify, Record, parse
from nimloop_core.testing import FakeBackend, FakeClock

pytestmark = pytest.mark.skipif(not _inotify.available(), reason="no inotify on this system")

ROOT_WD = 1  # the kernel counts from there


def pack(record: Record, *, padding: int = 1) -> bytes:
    """Make what the kernel would have made."""
    name = os.fsencode(record.name) + bytes(padding) if record.name else b""
    return struct.pack("=iIII", record.wd, record.mask, record.cookie, len(name)) + name


@pytest.fixture
def watched(root: Path) -> Iterator[Watching]:
    """Have real files, a real queue and a real loop."""
    with watching("inotify", root) as found:
        yield found


class Slow:
    """A real queue on a loop that reads it when it is told to, on virtual time."""

    def __init__(self, root: Path) -> None:
        self.clock = FakeClock(7)
        self.backend = FakeBackend(self.clock)
        self.watching = Watching(Loop(self.backend, clock=self.clock), "inotify", root)

    def watch_tree(self) -> None:
        """Watch everything below the root, and let no record be left from before the first look."""
        self.watching.watch(recursive=True)
        (self.watching.root / "mark").touch()
        self.read()

    def read(self, rounds: int = 20) -> None:
        """Let the loop read the queue and finish what it has to do, in no time."""
        (fd,) = self.backend.interest
        self.backend.put(fd, READ)
        for _ in range(rounds):
            self.watching.loop.run_once(0)

    def wait(self, seconds: float) -> None:
        """Let time pass, and timers run."""
        self.clock.advance(seconds)
        for _ in range(5):
            self.watching.loop.run_once(0)


@pytest.fixture
def slow(root: Path) -> Iterator[Slow]:
    """Decide when the queue is read."""
    found = Slow(root)
    with found.watching.loop:
        yield found
        found.watching.close()


def feed(patch: pytest.MonkeyPatch, *batches: list[Record]) -> None:
    """Have these records read instead of those of the kernel, one batch per read."""
    left = list(batches)

    def read(_: Inotify, buffer: memoryview) -> int:
        data = b"".join(pack(record) for record in left.pop(0)) if left else b""
        buffer[: len(data)] = data
        return len(data)

    patch.setattr(Inotify, "read", read)


# Records ------------------------------------------------------------------------------------------------------

NUMBERS = st.integers(0, 2**32 - 1)
FILE_NAMES = st.binary(min_size=1, max_size=255).filter(lambda name: b"\0" not in name).map(os.fsdecode)
RECORDS = st.builds(Record, st.integers(-1, 2**31 - 1), NUMBERS, NUMBERS, st.one_of(st.just(""), FILE_NAMES))


@given(st.lists(RECORDS), st.integers(1, 16))
def test_records_are_read_as_they_were_written(records: list[Record], padding: int) -> None:
    """Names of any length and padding, or none."""
    assert parse(b"".join(pack(record, padding=padding) for record in records)) == records


@given(st.lists(RECORDS, min_size=1), st.data())
def test_a_record_that_is_cut_is_an_overflow(records: list[Record], data: st.DataObject) -> None:
    """What is before it counts."""
    whole = b"".join(pack(record) for record in records)
    cut = whole[: data.draw(st.integers(1, len(whole) - 1))]
    found = parse(cut)
    kept = found[:-1] if found[-1] == OVERFLOW_RECORD and OVERFLOW_RECORD not in records else found
    assert kept == records[: len(kept)]
    assert sum(len(pack(record)) for record in kept) <= len(cut)


@given(st.binary())
def test_anything_can_be_parsed(data: bytes) -> None:
    """Without an exception, and without reading past the end."""
    assert len(parse(memoryview(data))) <= len(data) // 16 + 1


def test_a_name_ends_where_the_record_does() -> None:
    """Whether there is a NUL or not."""
    assert parse(struct.pack("=iIII", 1, 2, 3, 4) + b"name") == [Record(1, 2, 3, "name")]


# Moves --------------------------------------------------------------------------------------------------------


def test_halves_in_two_reads_are_one_rename(slow: Slow, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the second one comes within the deadline."""
    slow.watching.watch()
    feed(
        monkeypatch,
        [Record(ROOT_WD, _inotify.IN_MOVED_FROM, 5, "a"), Record(ROOT_WD, _inotify.IN_MODIFY, 0, "other")],
        [Record(ROOT_WD, _inotify.IN_MOVED_TO, 5, "b")],
    )
    slow.read()
    assert slow.watching.seen == [(fw.MODIFIED, "other", None)]
    slow.read()
    assert slow.watching.seen[1:] == [(fw.RENAMED, "b", "a")]
    slow.wait(1)
    assert len(slow.watching.events) == 2


def test_a_half_that_stays_alone_is_deleted(slow: Slow, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the deadline; when the other one comes after all, it is created."""
    slow.watching.watch()
    feed(
        monkeypatch,
        [Record(ROOT_WD, _inotify.IN_MOVED_FROM, 5, "a")],
        [],
        [Record(ROOT_WD, _inotify.IN_MOVED_TO, 5, "b")],
    )
    slow.read()
    slow.wait(_watch_inotify._MOVE_DEADLINE / 2)
    assert slow.watching.events == []
    slow.wait(_watch_inotify._MOVE_DEADLINE / 2 + 0.001)
    assert slow.watching.seen == [(fw.DELETED, "a", None)]
    slow.read()
    assert slow.watching.seen[1:] == [(fw.CREATED, "b", None)]


def test_a_late_loop_reads_before_it_gives_up(slow: Slow, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second half has been waiting in the queue all the time."""
    slow.watching.watch()
    feed(
        monkeypatch,
        [Record(ROOT_WD, _inotify.IN_MOVED_FROM, 5, "a")],
        [Record(ROOT_WD, _inotify.IN_MOVED_TO, 5, "b")],
    )
    slow.read()
    slow.wait(1)
    assert slow.watching.seen == [(fw.RENAMED, "b", "a")]


def test_another_name_ends_the_wait(slow: Slow, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is locked between the halves: the deletion comes before what came after it."""
    slow.watching.watch()
    feed(
        monkeypatch,
        [Record(ROOT_WD, _inotify.IN_MOVED_FROM, 5, "a"), Record(ROOT_WD, _inotify.IN_CREATE, 0, "a")],
    )
    slow.read()
    assert slow.watching.seen == [(fw.DELETED, "a", None), (fw.CREATED, "a", None)]
    slow.wait(1)
    assert len(slow.watching.events) == 2


def test_a_move_into_a_forgotten_folder_is_deleted(slow: Slow, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of its arrival names a watch that has ended."""
    slow.watching.watch()
    feed(
        monkeypatch,
        [Record(ROOT_WD, _inotify.IN_MOVED_FROM, 5, "a"), Record(99, _inotify.IN_MOVED_TO, 5, "b")],
    )
    slow.read()
    assert slow.watching.seen == [(fw.DELETED, "a", None)]


def test_closing_cancels_the_wait(slow: Slow, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No timer is left behind, and none calls."""
    watcher = slow.watching.watch()
    feed(monkeypatch, [Record(ROOT_WD, _inotify.IN_MOVED_FROM, 5, "a")])
    slow.read()
    watcher.close()
    slow.wait(1)
    assert slow.watching.events == []


def test_an_end_does_not_wait_for_halves(slow: Slow, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told before it."""
    slow.watching.watch()
    feed(
        monkeypatch,
        [Record(ROOT_WD, _inotify.IN_MOVED_FROM, 5, "a"), Record(ROOT_WD, _inotify.IN_UNMOUNT, 0, "")],
    )
    slow.read()
    assert slow.watching.seen == [(fw.DELETED, "a", None), (fw.DELETED, ".", None), (fw.ENDED, ".", None)]


@pytest.mark.parametrize("recursive", [False, True], ids=["flat", "tree"])
@pytest.mark.parametrize("is_dir", [False, True], ids=["files", "folders"])
def test_an_exchange_leaves_both(watched: Watching, root: Path, is_dir: bool, recursive: bool) -> None:  # noqa: FBT001
    """renameat2(2) with RENAME_EXCHANGE looks like a move there and one back."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        pytest.skip("no renameat2 in this C library")
    for name in "ab":
        (root / name).mkdir() if is_dir else (root / name).touch()
        if is_dir:
            (root / name / f"in-{name}").touch()
    watched.watch(recursive=recursive)
    if not recursive:
        watched.picture = {os.fspath(root / "a"): is_dir, os.fspath(root / "b"): is_dir}
    at_cwd = -100
    first, second = (os.fsencode(root / name) for name in "ab")
    assert libc.renameat2(at_cwd, first, at_cwd, second, 2) == 0
    watched.until(lambda: len(watched.events) > 2)
    if recursive or not is_dir:
        watched.settle()
    assert os.fspath(root / "a") in watched.picture
    assert os.fspath(root / "b") in watched.picture


def test_there_and_back_is_no_exchange(slow: Slow, root: Path) -> None:
    """When nothing is left at the other name."""
    (root / "a").touch()
    slow.watching.watch()
    (root / "a").rename(root / "b")
    (root / "b").rename(root / "a")
    slow.read()
    assert slow.watching.seen == [(fw.RENAMED, "b", "a"), (fw.RENAMED, "a", "b")]


@pytest.mark.parametrize("is_dir", [False, True], ids=["file", "folder"])
def test_there_and_back_into_a_folder_that_has_moved(slow: Slow, root: Path, is_dir: bool) -> None:  # noqa: FBT001
    """What is at its old path is not what could have been exchanged: everything is listed again."""
    (root / "a").mkdir() if is_dir else (root / "a").touch()
    (root / "b").mkdir()
    slow.watch_tree()
    (root / "a").rename(root / "b" / "a")
    (root / "b" / "a").rename(root / "a")
    (root / "b").rename(root / "c")
    (root / "b").mkdir()
    (root / "b" / "a").touch()
    slow.read()
    slow.wait(1)
    assert slow.watching.picture == listing(root)


def test_a_deadline_in_the_middle_of_a_storm(slow: Slow, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is queued already comes first, and the queue is not read meanwhile."""
    slow.watching.watch()
    storm = [Record(ROOT_WD, _inotify.IN_MODIFY, 0, str(number)) for number in range(700)]
    feed(monkeypatch, [Record(ROOT_WD, _inotify.IN_MOVED_FROM, 5, "a"), *storm[:650]], storm[650:])
    slow.read(rounds=1)
    slow.clock.advance(1)
    slow.read()
    assert len(slow.watching.events) == 701
    assert slow.watching.seen[-1] == (fw.DELETED, "a", None)


def test_a_change_of_the_folder_is_none_of_a_file(slow: Slow, root: Path) -> None:
    """Nor is that of a sub-folder told twice, by the one above and by itself."""
    (root / "folder").mkdir()
    (root / "folder" / "file").touch()
    slow.watching.watch(root / "folder" / "file")
    (root / "folder").chmod(0o700)
    slow.read()
    assert slow.watching.events == []
    slow.watching.close()
    slow.watching.watch(recursive=True)
    (root / "folder").chmod(0o750)
    slow.read()
    assert slow.watching.seen == [(fw.ATTRIBUTES, "folder", None)]


def test_a_folder_that_was_forgotten_is_not_listed(slow: Slow, root: Path) -> None:
    """Although it was going to be."""
    watcher = slow.watching.watch(recursive=True)
    folders = cast("_watch_inotify.InotifyWatch", watcher._mechanism)._folders
    (root / "folder").mkdir()
    folders.enter(folders.root, "folder")
    folders.forget(folders.root.folders["folder"])
    assert folders.advance() == 1
    assert not folders.busy
    assert slow.watching.events == []


# Overflow -----------------------------------------------------------------------------------------------------


def queue_limit() -> int:
    """Return how many records the kernel keeps."""
    return int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


@pytest.mark.parametrize("recursive", [False, True], ids=["flat", "tree"])
def test_more_than_the_queue_holds_is_an_overflow(
    slow: Slow,
    root: Path,
    recursive: bool,  # noqa: FBT001
) -> None:
    """Nothing is kept quiet: one event says that others are missing, and what comes later is reported again."""
    if queue_limit() > 50_000:
        pytest.skip("that queue takes long to fill")
    (root / "old").mkdir()
    slow.watching.watch(recursive=recursive)
    for _ in range(queue_limit() // 2 + 1):
        os.close(os.open(root / "file", os.O_CREAT | os.O_WRONLY))
        (root / "file").unlink()
    (root / "old").rename(root / "renamed")
    (root / "new").mkdir()
    for _ in range(200):
        slow.read()
    assert [each for each in slow.watching.seen if each[0] == fw.OVERFLOW] == [(fw.OVERFLOW, ".", None)]
    slow.watching.events.clear()
    (root / "after").touch()
    if recursive:
        (root / "renamed" / "inside").touch()
        (root / "new" / "inside").touch()
    slow.read()
    names = ["after", "new/inside", "renamed/inside"] if recursive else ["after"]
    assert sorted(name for kind, name, _ in slow.watching.seen if kind == fw.CREATED) == names
    if recursive:
        assert slow.watching.picture == listing(root)


def test_an_overflow_of_one_file_looks_whether_it_is_there(
    slow: Slow, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the next event is right about what was there before."""
    (root / "file").touch()
    slow.watching.watch(root / "file")
    (root / "file").unlink()
    feed(monkeypatch, [OVERFLOW_RECORD], [Record(ROOT_WD, _inotify.IN_CREATE, 0, "file")])
    slow.read()
    slow.read()
    assert slow.watching.seen == [(fw.OVERFLOW, "file", None), (fw.CREATED, "file", None)]


def test_an_overflow_forgets_halves_and_folders_that_left(
    slow: Slow, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has moved out unheard is not watched any more."""
    (root / "leaves" / "sub").mkdir(parents=True)
    slow.watching.watch(recursive=True)
    (root / "leaves").rename(tmp_path / "left")
    with monkeypatch.context() as patch:
        feed(
            patch,
            [
                Record(ROOT_WD, _inotify.IN_MOVED_FROM, 5, "x"),
                Record(ROOT_WD, _inotify.IN_MOVED_FROM, 6, "y"),
                Record(-1, _inotify.IN_Q_OVERFLOW, 6, ""),
            ],
        )
        slow.read()
    assert slow.watching.seen == [(fw.OVERFLOW, ".", None)]
    (tmp_path / "left" / "sub" / "file").touch()
    (root / "file").touch()
    slow.read()
    slow.wait(1)
    assert slow.watching.picture == listing(root)
    assert not [name for _, name, _ in slow.watching.seen if "sub" in name]


def test_a_malformed_record_is_an_overflow(slow: Slow, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It should not happen; if it does, it is not kept quiet either."""
    slow.watching.watch()

    def read(_: Inotify, buffer: memoryview) -> int:
        buffer[:16] = struct.pack("=iIII", ROOT_WD, _inotify.IN_CREATE, 0, 1 << 31)
        return 16

    with monkeypatch.context() as patch:
        patch.setattr(Inotify, "read", read)
        slow.read(rounds=2)
    assert slow.watching.seen == [(fw.OVERFLOW, ".", None)]


def test_an_unmounted_sub_folder_is_an_overflow(slow: Slow, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the mount has covered is there again, and has to be read."""
    (root / "mount").mkdir()
    slow.watching.watch(recursive=True)
    feed(
        monkeypatch,
        [Record(ROOT_WD + 1, _inotify.IN_UNMOUNT, 0, ""), Record(ROOT_WD + 1, _inotify.IN_IGNORED, 0, "")],
    )
    slow.read()
    assert slow.watching.seen == [(fw.OVERFLOW, ".", None)]


# Limits -------------------------------------------------------------------------------------------------------


def refuse(patch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """Let the kernel have no more watches for folders of this name."""
    add = Inotify.add

    def refusing(self: Inotify, path: str, mask: int) -> int:
        if Path(path).resolve().name == name:
            raise OSError(number, os.strerror(number), path)
        return add(self, path, mask)

    patch.setattr(Inotify, "add", refusing)


def test_no_more_watches_is_an_error(
    watched: Watching, root: Path, monkeypatch: pytest.MonkeyPatch, descriptors: Callable[[], set[str]]
) -> None:
    """At the beginning, for the owner; and nothing is left open."""
    (root / "one-too-many").mkdir()
    refuse(monkeypatch, "one-too-many", errno.ENOSPC)
    before = descriptors()
    with pytest.raises(OSError, match="one-too-many") as caught:
        watched.watch(recursive=True)
    assert caught.value.errno == errno.ENOSPC
    assert descriptors() == before


def test_no_more_watches_later_is_told_twice(watched: Watching, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the exception handler, and as an event that says where something is missing."""
    told: list[tuple[Exception, object]] = []
    watched.loop.exception_handler = lambda error, owner: told.append((error, owner))
    watcher = watched.watch(recursive=True)
    refuse(monkeypatch, "one-too-many", errno.ENOSPC)
    (root / "one-too-many").mkdir()
    watched.expect(fw.OVERFLOW, "one-too-many")
    (error, owner) = told[0]
    assert isinstance(error, OSError)
    assert error.errno == errno.ENOSPC
    assert owner is watcher
    (root / "other").mkdir()
    (root / "other" / "file").touch()
    watched.expect(fw.CREATED, "other/file")
    assert len(told) == 1


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "max_user_watches"), (errno.EMFILE, "max_user_inst")])
def test_an_error_names_the_limit(number: int, words: str, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """ENOSPC alone makes people look at their disks."""
    real_library = ctypes.CDLL(None)

    class Failing:
        """Answer −1."""

        def __call__(self, *_: object) -> int:
            ctypes.set_errno(number)
            return -1

    class Library:
        """Look like the C library."""

        def __init__(self, _name: object, *, use_errno: bool = False) -> None:
            self.inotify_add_watch = Failing()
            self.inotify_rm_watch = Failing()
            self.inotify_init1 = Failing() if number == errno.EMFILE else real_library.inotify_init1

    with Loop() as loop:
        monkeypatch.setattr(ctypes, "CDLL", Library)
        with pytest.raises(OSError, match=words) as caught:
            fw.FileWatcher(loop, root, print, mechanism="inotify")
        assert caught.value.errno == number
        assert caught.value.filename == (os.fspath(root) if number == errno.ENOSPC else None)


def test_a_system_that_is_not_posix_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no C library to ask."""
    monkeypatch.setattr("nimloop_core._inotify.os", type("os", (), {"name": "nt"}))
    assert not _inotify.available()


# Races --------------------------------------------------------------------------------------------------------


def after_listing(patch: pytest.MonkeyPatch, times: int, action: Callable[[], object]) -> None:
    """Do something right after a folder was listed for the n-th time from now, before it is looked at again."""
    scandir = os.scandir
    left = [times]

    class Listing:
        """Hold the whole list, made before the action."""

        def __init__(self, path: int) -> None:
            with scandir(path) as entries:
                self.entries = list(entries)
                for entry in self.entries:
                    entry.is_dir(follow_symlinks=False)
            left[0] -= 1
            if left[0] == 0:
                action()

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            return iter(self.entries)

        def __exit__(self, *_: object) -> None:
            pass

    patch.setattr(os, "scandir", cast("Callable[[int], object]", Listing))


def swap(root: Path) -> None:
    """Put another folder of the same name where one was."""
    (root / "new").rename(root / "moved")
    (root / "new").mkdir()
    (root / "new" / "second").touch()


def replace_by_other(root: Path) -> None:
    """Move a folder that is watched already onto an empty one."""
    (root / "full").rename(root / "new" / "empty")


def replace_by_stranger(root: Path) -> None:
    """Move a folder that nobody has heard of onto an empty one."""
    (root.parent / "outside").rename(root / "new" / "empty")


def replace_file(root: Path) -> None:
    """Move one file in, and another one onto that."""
    (root.parent / "file").rename(root / "new" / "first")
    (root / "other").rename(root / "new" / "first")


def delete(root: Path) -> None:
    """Take it away again."""
    (root / "new" / "first").unlink()
    (root / "new" / "empty").rmdir()
    (root / "new").rmdir()


def leave(root: Path) -> None:
    """Move it where nobody looks."""
    (root / "new").rename(root.parent / "gone")


def shuffle(root: Path) -> None:
    """Rename it twice."""
    (root / "new").rename(root / "once")
    (root / "once").rename(root / "twice")


def move_in(root: Path) -> None:
    """Move a watched folder into it."""
    (root / "full").rename(root / "new" / "full")


ACTIONS = [swap, replace_by_other, replace_by_stranger, replace_file, delete, leave, shuffle, move_in]


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("action", ACTIONS, ids=[action.__name__ for action in ACTIONS])
def test_a_race_with_the_listing(
    slow: Slow, root: Path, action: Callable[[Path], None], times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happens while a new folder is listed, or the one in it, is told as it is in the end."""
    race(slow, root, action, monkeypatch, times=times)


@pytest.mark.parametrize("action", ACTIONS, ids=[action.__name__ for action in ACTIONS])
def test_a_race_before_the_listing(
    slow: Slow, root: Path, action: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it is in the queue before the first record is looked at."""
    race(slow, root, action, monkeypatch, times=0)


@pytest.mark.parametrize("action", ACTIONS, ids=[action.__name__ for action in ACTIONS])
def test_a_race_without_proc(
    slow: Slow, root: Path, action: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an open folder has no path of its own, the one it was opened by has to do."""
    add = Inotify.add

    def without(self: Inotify, path: str, mask: int) -> int:
        if path.startswith("/proc/"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return add(self, path, mask)

    monkeypatch.setattr(Inotify, "add", without)
    race(slow, root, action, monkeypatch, times=1)


def test_another_folder_at_the_path_is_not_watched(slow: Slow, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc, and with the worst of luck: opened, and another one in its place before it is watched."""
    add = Inotify.add

    def without(self: Inotify, path: str, mask: int) -> int:
        if path.startswith("/proc/"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if path.endswith("/new") and not (root / "moved").exists():
            swap(root)
        return add(self, path, mask)

    slow.watching.watch(recursive=True)
    (root / "new").mkdir()
    monkeypatch.setattr(Inotify, "add", without)
    slow.read()
    slow.read()
    slow.wait(1)
    assert slow.watching.picture == listing(root)


def test_a_folder_whose_parent_has_moved_waits_for_that(slow: Slow, root: Path) -> None:
    """The record of the parent comes later than that of the folder."""
    (root / "parent" / "other").mkdir(parents=True)
    slow.watch_tree()
    (root / "parent" / "new").mkdir()
    (root / "parent" / "new" / "file").touch()
    (root / "parent" / "passing").mkdir()
    (root / "parent").rename(root / "moved")
    (root / "moved" / "passing").rmdir()
    slow.read()
    assert slow.watching.picture == listing(root)
    assert (fw.RENAMED, "moved", "parent") in slow.watching.seen
    (root / "moved" / "new" / "late").touch()
    slow.read()
    assert (fw.CREATED, "moved/new/late", None) in slow.watching.seen


def test_a_folder_is_not_looked_for_in_another_parent(slow: Slow, root: Path) -> None:
    """Which has taken the path of the right one, and has one of the same name."""
    (root / "parent").mkdir()
    slow.watch_tree()
    (root / "parent" / "new").mkdir()
    (root / "parent" / "new" / "one").touch()
    (root / "parent").rename(root / "moved")
    (root / "parent" / "new").mkdir(parents=True)
    (root / "parent" / "new" / "two").touch()
    slow.read()
    assert slow.watching.picture == listing(root)
    (root / "moved" / "new" / "late").touch()
    slow.read()
    assert slow.watching.picture == listing(root)


def test_a_folder_replaced_by_one_that_was_never_looked_at(slow: Slow, root: Path) -> None:
    """It came and went before anybody looked; the one it was moved onto had just been listed, and is gone."""
    (root / "from").mkdir()
    slow.watch_tree()
    (root / "to" / "same").mkdir(parents=True)
    slow.read()
    (root / "from" / "new").mkdir()
    (root / "from" / "new").rename(root / "to" / "same")
    slow.read()
    (root / "to" / "same" / "late").touch()
    slow.read()
    assert slow.watching.picture == listing(root)


def test_a_folder_never_is_in_itself(slow: Slow, root: Path) -> None:
    """Into another one, out again, and then that one into it: found in the last place, told of the first."""
    (root / "first" / "kept").mkdir(parents=True)
    slow.watch_tree()
    (root / "second").mkdir()
    (root / "second").rename(root / "first" / "second")
    (root / "first" / "second").rename(root / "second")
    (root / "first").rename(root / "second" / "first")
    slow.read()
    slow.wait(1)
    assert slow.watching.picture == listing(root)
    (root / "second" / "first" / "kept" / "late").touch()
    slow.read()
    assert slow.watching.picture == listing(root)


def test_a_half_from_a_folder_that_is_gone_is_nothing(slow: Slow, root: Path, tmp_path: Path) -> None:
    """Its path belongs to another one by then."""
    (root / "folder").mkdir()
    (root / "folder" / "file").touch()
    slow.watch_tree()
    (root / "folder" / "file").rename(tmp_path / "file")
    (root / "folder").rename(tmp_path / "folder")
    (root / "folder").mkdir()
    (root / "folder" / "file").touch()
    slow.read()
    slow.wait(1)
    assert slow.watching.picture == listing(root)


def test_names_are_kept_no_longer_than_needed(slow: Slow, root: Path) -> None:
    """A file that came and went before the listing is passed over; behind an empty queue there are none of those."""
    watcher = slow.watching.watch(recursive=True)
    folders = cast("_watch_inotify.InotifyWatch", watcher._mechanism)._folders
    with pytest.MonkeyPatch.context() as patch:
        feed(
            patch,
            [
                Record(ROOT_WD, _inotify.IN_MODIFY, 0, "ghost"),
                Record(ROOT_WD, _inotify.IN_ATTRIB, 0, "ghost"),
                Record(ROOT_WD, _inotify.IN_DELETE, 0, "ghost"),
            ],
        )
        assert folders.root.seen == set()
        slow.read()
    assert slow.watching.events == []
    assert folders.root.seen is None


def test_a_renamed_folder_that_cannot_be_looked_at_is_new(
    slow: Slow, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the reason: it may be another one."""
    (root / "folder" / "old").mkdir(parents=True)
    slow.watching.watch(recursive=True)
    (root / "folder" / "old").rename(root / "folder" / "new")
    (root / "mark").touch()
    with monkeypatch.context() as patch:
        refuse(patch, "new", errno.ENOSPC)
        told: list[Exception] = []
        slow.watching.loop.exception_handler = lambda error, owner: told.append(error)
        slow.read()
    assert slow.watching.seen[:2] == [(fw.DELETED, "folder/old", None), (fw.CREATED, "folder/new", None)]
    assert (fw.OVERFLOW, "folder/new", None) in slow.watching.seen
    assert len(told) == 1


def race(
    slow: Slow, root: Path, action: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch, *, times: int
) -> None:
    """Make a folder, do something to it at a bad moment, and compare."""
    for folder in (root / "full" / "sub", root.parent / "outside" / "sub"):
        folder.mkdir(parents=True)
        (folder / "inside").touch()
    (root / "other").touch()
    (root.parent / "file").touch()
    slow.watching.watch(recursive=True)
    (root / "new" / "empty").mkdir(parents=True)
    (root / "new" / "first").touch()
    with monkeypatch.context() as patch:
        if times:
            after_listing(patch, times, lambda: action(root))
        else:
            action(root)
        slow.read()
    slow.read()
    slow.wait(1)
    assert slow.watching.picture == listing(root)
    for folder in [root, *(Path(path) for path, is_dir in listing(root).items() if is_dir)]:
        (folder / "late").touch()
    slow.read()
    assert slow.watching.picture == listing(root), "not everything is watched"


def test_a_bind_mount_of_the_root_is_no_loop(slow: Slow, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder whose inode is the root's is an entry, and not gone into."""
    (root / "mount").mkdir()
    add = Inotify.add

    def mounted(self: Inotify, path: str, mask: int) -> int:
        return add(self, os.fspath(root) if Path(path).resolve().name == "mount" else path, mask)

    monkeypatch.setattr(Inotify, "add", mounted)
    slow.watching.watch(recursive=True)
    (root / "file").touch()
    slow.read()
    assert slow.watching.seen == [(fw.CREATED, "file", None), (fw.ATTRIBUTES, "file", None)][: len(slow.watching.seen)]
    assert slow.watching.seen


@pytest.mark.parametrize("seed", range(3))
def test_small_reads_in_the_middle_of_it_all(
    watched: Watching, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every few records a new read, while another thread moves everything about."""
    monkeypatch.setattr(_watch_inotify, "_READ_BYTES", 300)
    kinds = ["touch", "mkdir", "mkdir", "remove", "rename", "rename", "rename", "out", "in"]
    shake(watched, tmp_path / "outside", seed, kinds, 20)
