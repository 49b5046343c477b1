"""FileWatcher: the same promises over every mechanism that this system has, or has a stand-in for."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.watching import Watching, listing, perform, prepare, shake, watching

from nimloop_core import BackendUnavailableError, DelayError, Loop, LoopClosedError, _watch_snapshot
from nimloop_core import filewatch as fw
from nimloop_core.filewatch import FileEvent, FileWatcher

MECHANISMS = ["inotify", "kqueue", "polling"]


@pytest.fixture(params=MECHANISMS)
def mechanism(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name each mechanism."""
    name = str(request.param)
    prepare(name, monkeypatch)
    return name


@pytest.fixture
def watched(mechanism: str, root: Path) -> Iterator[Watching]:
    """Have a watcher on each mechanism."""
    with watching(mechanism, root) as found:
        yield found


# One change, one event ----------------------------------------------------------------------------------------


def test_a_new_file_and_a_new_folder_are_created(watched: Watching, root: Path) -> None:
    """By name, absolute, and it is told which is which."""
    watched.watch()
    (root / "file").touch()
    (root / "folder").mkdir()
    watched.settle()
    created = [each for each in watched.events if each.kind == fw.CREATED]
    assert {(each.path, each.is_dir) for each in created} == {
        (os.fspath(root / "file"), False),
        (os.fspath(root / "folder"), True),
    }


def test_writing_is_modified(watched: Watching, root: Path) -> None:
    """Whatever it adds or takes away."""
    (root / "file").write_text("one")
    watched.watch()
    (root / "file").write_text("two and three")
    watched.expect(fw.MODIFIED, "file")
    assert {each.kind for each in watched.events} == {fw.MODIFIED}


def test_what_is_removed_is_deleted(watched: Watching, root: Path) -> None:
    """Once each, files and folders."""
    (root / "file").touch()
    (root / "folder").mkdir()
    watched.watch()
    (root / "file").unlink()
    (root / "folder").rmdir()
    watched.settle()
    assert sorted(watched.seen) == [(fw.DELETED, "file", None), (fw.DELETED, "folder", None)]
    assert {each.is_dir for each in watched.events} == {False, True}


@pytest.mark.parametrize("is_dir", [False, True], ids=["file", "folder"])
def test_a_rename_is_one_event(watched: Watching, root: Path, is_dir: bool) -> None:  # noqa: FBT001
    """With both names."""
    (root / "old").mkdir() if is_dir else (root / "old").write_text("text")
    watched.watch()
    (root / "old").rename(root / "new")
    watched.expect(fw.RENAMED, "new", "old")
    assert [each.is_dir for each in watched.events] == [is_dir]
    watched.settle()
    assert watched.seen == [(fw.RENAMED, "new", "old")]


def test_a_rename_onto_a_file_replaces_it(watched: Watching, root: Path) -> None:
    """And what was there before is not said to be deleted."""
    (root / "old").write_text("old")
    (root / "new").write_text("new one")
    watched.watch()
    (root / "old").rename(root / "new")
    watched.settle()
    assert watched.seen == [(fw.RENAMED, "new", "old")]


def test_permissions_are_attributes(watched: Watching, root: Path) -> None:
    """Of a file, a folder, and the watched folder itself."""
    (root / "file").touch()
    (root / "folder").mkdir()
    watched.watch()
    for path in (root / "file", root / "folder", root):
        path.chmod(0o700)
    for name in ("file", "folder", "."):
        watched.expect(fw.ATTRIBUTES, name)
    assert {each.kind for each in watched.events} == {fw.ATTRIBUTES}


def test_a_move_out_is_deleted_and_a_move_in_is_created(watched: Watching, root: Path, tmp_path: Path) -> None:
    """A half-known move is not a rename."""
    (root / "leaves").write_text("1")
    (tmp_path / "comes").write_text("2")
    watched.watch()
    (root / "leaves").rename(tmp_path / "left")
    watched.expect(fw.DELETED, "leaves")
    (tmp_path / "comes").rename(root / "came")
    watched.expect(fw.CREATED, "came")
    assert len(watched.events) == 2


def test_what_was_there_before_is_not_told(watched: Watching, root: Path) -> None:
    """The owner lists it, after the watcher was made."""
    (root / "folder").mkdir()
    (root / "folder" / "file").touch()
    watched.watch(recursive=True)
    watched.settle()
    assert watched.events == []


def test_without_recursive_sub_folders_are_seen_from_outside(watched: Watching, root: Path) -> None:
    """Only their own coming and going."""
    (root / "folder").mkdir()
    watched.watch()
    (root / "folder" / "file").write_text("text")
    (root / "new").mkdir()
    (root / "new" / "file").touch()
    watched.expect(fw.CREATED, "new")
    assert not [name for _, name, _ in watched.seen if "/" in name]


def test_repeated_changes_may_be_one_event(watched: Watching, root: Path) -> None:
    """How many, is a matter of when the loop has its turn."""
    (root / "a").touch()
    (root / "b").touch()
    watched.watch()
    for _ in range(50):
        for name in "ab":
            with (root / name).open("a") as file:
                file.write("more")
    for name in "ab":
        watched.expect(fw.MODIFIED, name)
    assert set(watched.seen) == {(fw.MODIFIED, "a", None), (fw.MODIFIED, "b", None)}
    assert len(watched.seen) < 20


def test_names_need_not_be_text(watched: Watching, root: Path) -> None:
    """They come as the file system functions of Python take them."""
    watched.watch()
    name = os.fsdecode(b"\xff\xfe")
    (root / name).touch()
    watched.expect(fw.CREATED, name)


# Trees --------------------------------------------------------------------------------------------------------


@pytest.mark.interpreted
def test_folders_that_cannot_be_opened_are_read_by_their_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, which has no descriptors of folders."""
    monkeypatch.setattr(_watch_snapshot, "_OPENS_FOLDERS", False)
    (root / "a" / "b").mkdir(parents=True)
    with watching("polling", root) as watched:
        watched.watch(recursive=True)
        (root / "a" / "b" / "file").touch()
        watched.expect(fw.CREATED, "a/b/file")


def test_what_is_in_a_new_folder_is_reported(watched: Watching, root: Path) -> None:
    """Also what came before anybody could watch the folder."""
    watched.watch(recursive=True)
    (root / "a" / "b" / "c").mkdir(parents=True)
    for folder in ("a", "a/b", "a/b/c"):
        (root / folder / "file").touch()
    watched.settle()
    created = [name for kind, name, _ in watched.seen if kind == fw.CREATED]
    assert sorted(created) == ["a", "a/b", "a/b/c", "a/b/c/file", "a/b/file", "a/file"]
    (root / "a" / "b" / "c" / "later").touch()
    watched.expect(fw.CREATED, "a/b/c/later")


def test_a_move_between_watched_folders_is_one_event(watched: Watching, root: Path) -> None:
    """In a tree, both ends are known."""
    (root / "a").mkdir()
    (root / "b").mkdir()
    (root / "a" / "file").write_text("text")
    watched.watch(recursive=True)
    (root / "a" / "file").rename(root / "b" / "file")
    watched.settle()
    assert watched.seen == [(fw.RENAMED, "b/file", "a/file")]


def test_a_renamed_folder_keeps_its_contents(watched: Watching, root: Path) -> None:
    """One event, and correct paths afterwards, at any depth."""
    (root / "old" / "deep").mkdir(parents=True)
    (root / "old" / "deep" / "file").write_text("text")
    watched.watch(recursive=True)
    watched.settle()
    (root / "old").rename(root / "new")
    watched.settle()
    assert watched.seen == [(fw.RENAMED, "new", "old")]
    (root / "new" / "deep" / "file").write_text("other text")
    watched.expect(fw.MODIFIED, "new/deep/file")
    (root / "new" / "deep" / "more").touch()
    watched.expect(fw.CREATED, "new/deep/more")


def test_a_tree_that_moves_in_is_reported_and_watched(watched: Watching, root: Path, tmp_path: Path) -> None:
    """And one that has moved out is forgotten."""
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "file").touch()
    watched.watch(recursive=True)
    (tmp_path / "tree").rename(root / "tree")
    watched.expect(fw.CREATED, "tree/sub/file")
    watched.settle()
    (root / "tree").rename(tmp_path / "tree")
    watched.expect(fw.DELETED, "tree")
    watched.settle()
    count = len(watched.events)
    (tmp_path / "tree" / "sub" / "other").touch()
    watched.settle()
    assert len(watched.events) == count


def test_links_are_entries_and_not_followed(watched: Watching, root: Path, tmp_path: Path) -> None:
    """Not even one to the watched folder itself: there is no loop."""
    (tmp_path / "outside").mkdir()
    watched.watch(recursive=True)
    (root / "loop").symlink_to(root)
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "nowhere").symlink_to(tmp_path / "nothing")
    watched.settle()
    (tmp_path / "outside" / "file").touch()
    (root / "file").touch()
    watched.settle()
    assert not [name for _, name, _ in watched.seen if "/" in name]
    assert not any(each.is_dir for each in watched.events)


def test_the_watched_folder_may_be_named_by_a_link(watched: Watching, root: Path, tmp_path: Path) -> None:
    """Paths begin as the owner has said it."""
    link = tmp_path / "link"
    link.symlink_to(root)
    watched.root = link
    assert watched.watch(link, recursive=True).path == os.fspath(link)
    (root / "file").touch()
    watched.expect(fw.CREATED, "file")


def test_a_folder_that_may_not_be_read_is_seen_from_outside(watched: Watching, root: Path) -> None:
    """It is no reason to watch nothing at all."""
    (root / "closed" / "inner").mkdir(parents=True)
    (root / "closed").chmod(0)
    try:
        watched.watch(recursive=True)
        (root / "file").touch()
        watched.expect(fw.CREATED, "file")
    finally:
        (root / "closed").chmod(0o700)


# One file -----------------------------------------------------------------------------------------------------


def test_one_file_is_watched_by_itself(watched: Watching, root: Path) -> None:
    """Its neighbours are nobody's business."""
    (root / "file").write_text("one")
    watched.watch(root / "file")
    (root / "other").write_text("text")
    (root / "file").write_text("another")
    watched.expect(fw.MODIFIED, "file")
    (root / "file").chmod(0o600)
    watched.expect(fw.ATTRIBUTES, "file")
    (root / "file").unlink()
    watched.expect(fw.DELETED, "file")
    (root / "file").touch()
    watched.expect(fw.CREATED, "file")
    assert {name for _, name, _ in watched.seen} == {"file"}


def test_a_file_replaced_by_rename_is_modified(watched: Watching, root: Path) -> None:
    """Editors save like that, and the watcher goes on with the new one."""
    (root / "file").write_text("one")
    watched.watch(root / "file")
    for text in ("first version", "second"):
        watched.events.clear()
        (root / "file.tmp").write_text(text)
        (root / "file.tmp").replace(root / "file")
        watched.expect(fw.MODIFIED, "file")
        assert {name for _, name, _ in watched.seen} == {"file"}


def test_a_file_ends_with_its_folder(watched: Watching, root: Path) -> None:
    """Deleted, ended, closed."""
    (root / "file").touch()
    watcher = watched.watch(root / "file")
    shutil.rmtree(root)
    watched.expect(fw.ENDED, "file")
    assert watched.seen == [(fw.DELETED, "file", None), (fw.ENDED, "file", None)]
    assert watcher.closed


def test_a_file_that_was_deleted_before_is_not_deleted_again(watched: Watching, root: Path) -> None:
    """When its folder goes after it."""
    (root / "file").touch()
    watched.watch(root / "file")
    (root / "file").unlink()
    watched.expect(fw.DELETED, "file")
    root.rename(root.with_name("moved"))
    watched.expect(fw.ENDED, "file")
    assert watched.seen == [(fw.DELETED, "file", None), (fw.ENDED, "file", None)]


def test_a_link_that_leads_nowhere_is_watched_as_a_file(watched: Watching, root: Path) -> None:
    """What is named is there, whatever it points to."""
    (root / "link").symlink_to(root / "nothing")
    watched.watch(root / "link")
    (root / "link").unlink()
    watched.expect(fw.DELETED, "link")


# The end ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recursive", [False, True], ids=["flat", "tree"])
@pytest.mark.parametrize("moved", [False, True], ids=["deleted", "moved"])
def test_the_end_of_the_watched_folder_is_the_end(
    watched: Watching,
    root: Path,
    moved: bool,  # noqa: FBT001
    recursive: bool,  # noqa: FBT001
) -> None:
    """Two events, and the watcher has closed itself when the last one comes."""
    (root / "sub").mkdir()
    watcher = watched.watch(recursive=recursive)
    if moved:
        root.rename(root.with_name("moved"))
    else:
        shutil.rmtree(root)
    watched.expect(fw.ENDED, ".")
    assert watched.seen[-2:] == [(fw.DELETED, ".", None), (fw.ENDED, ".", None)]
    assert all(each.is_dir for each in watched.events[-2:])
    assert watcher.closed
    assert "closed" in repr(watcher)
    watcher.close()


def test_close_from_inside_the_callback_is_the_last_of_it(watched: Watching, root: Path) -> None:
    """Although the batch holds more; and closing is harmless when repeated."""
    seen: list[str] = []

    def on_change(event: FileEvent) -> None:
        seen.append(event.path)
        watcher.close()
        watcher.close()

    watcher = FileWatcher(watched.loop, root, on_change, mechanism=watched.mechanism)
    assert "active" in repr(watcher)
    for number in range(20):
        (root / str(number)).touch()
    watched.until(lambda: bool(seen))
    for _ in range(5):
        watched.loop.run_once(1 if watched.clock else 0)
    assert len(seen) == 1
    assert watcher.closed


def test_with_closes(watched: Watching, root: Path) -> None:
    """At the end of the block."""
    with FileWatcher(watched.loop, root, watched.on_change, mechanism=watched.mechanism) as watcher:
        assert not watcher.closed
    assert watcher.closed


def test_close_after_the_loop_gives_everything_back(
    mechanism: str, root: Path, descriptors: Callable[[], set[str]]
) -> None:
    """In whichever order: nothing stays open."""
    before = descriptors()
    with watching(mechanism, root) as watched:
        watched.watch(recursive=True)
        (root / "a").mkdir()
        watched.loop.close()
        watched.close()
    assert descriptors() == before


def test_close_while_work_is_queued(watched: Watching, root: Path) -> None:
    """What was left of a storm is dropped."""
    seen: list[FileEvent] = []
    watcher = FileWatcher(watched.loop, root, seen.append, mechanism=watched.mechanism)
    for number in range(600):
        (root / str(number)).touch()
    watched.until(lambda: bool(seen))
    assert len(seen) < 600
    count = len(seen)
    watcher.close()
    watched.loop.run_once(0)
    assert len(seen) == count


# Callbacks ----------------------------------------------------------------------------------------------------


def test_an_exception_does_not_stop_the_events(watched: Watching, root: Path) -> None:
    """It goes to the handler of the loop, with the watcher as its owner."""
    told: list[tuple[Exception, object]] = []
    watched.loop.exception_handler = lambda error, owner: told.append((error, owner))

    def on_change(event: FileEvent) -> None:
        watched.on_change(event)
        if event.kind == fw.CREATED:
            raise ValueError(event.path)

    watcher = watched.watch()
    watcher.on_change = on_change
    (root / "a").touch()
    (root / "b").touch()
    watched.expect(fw.CREATED, "a")
    watched.expect(fw.CREATED, "b")
    assert [(type(error), owner) for error, owner in told] == [(ValueError, watcher)] * 2


def test_an_interrupt_does_not_lose_events(watched: Watching, root: Path) -> None:
    """Ctrl+C ends the run of the loop; the rest of the batch comes in the next one."""
    watcher = watched.watch()
    interrupted: list[bool] = []

    def on_change(event: FileEvent) -> None:
        watched.on_change(event)
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt

    watcher.on_change = on_change
    for name in "abc":
        (root / name).touch()
    with pytest.raises(KeyboardInterrupt):
        watched.until(lambda: False)
    for name in "abc":
        watched.expect(fw.CREATED, name)


def test_a_storm_does_not_starve_the_loop(watched: Watching, root: Path) -> None:
    """Others have their turn after a few hundred events."""
    watched.watch(recursive=True)
    counts: list[int] = []
    for number in range(20):
        (root / str(number)).mkdir()
        for other in range(100):
            (root / str(number) / str(other)).touch()

    def note() -> None:
        counts.append(len(watched.events))
        watched.loop.call_soon(note)

    watched.loop.call_soon(note)
    expected = listing(root)  # once: the loop turns many times
    watched.until(lambda: len(watched.events) >= len(expected) and watched.picture == expected)
    steps = [after - before for before, after in pairwise(counts)]
    assert max(steps) <= 2 * fw._QUOTA


# What is refused ----------------------------------------------------------------------------------------------


def test_what_does_not_exist_cannot_be_watched(watched: Watching, root: Path) -> None:
    """The kernel's own exception, and nothing is left open."""
    with pytest.raises(FileNotFoundError):
        FileWatcher(watched.loop, root / "nothing", print, mechanism=watched.mechanism)
    with pytest.raises(FileNotFoundError):
        FileWatcher(watched.loop, root / "nothing" / "more", print, mechanism=watched.mechanism)


def test_a_closed_loop_watches_nothing(mechanism: str, root: Path) -> None:
    """And nothing is left open."""
    loop = Loop()
    loop.close()
    with pytest.raises(LoopClosedError):
        FileWatcher(loop, root, print, mechanism=mechanism)


def test_mistakes_are_named(loop: Loop, root: Path) -> None:
    """An unknown mechanism, a callback that cannot be called, an interval that is none."""
    with pytest.raises(BackendUnavailableError, match="polling"):
        FileWatcher(loop, root, print, mechanism="clairvoyance")
    with pytest.raises(TypeError, match="callable"):
        FileWatcher(loop, root, cast("Callable[[FileEvent], object]", "print"))
    with pytest.raises(DelayError):
        FileWatcher(loop, root, print, mechanism="polling", interval=0)


def test_the_best_mechanism_is_the_default(root: Path) -> None:
    """Whatever this system has, it can always poll."""
    with Loop() as loop, FileWatcher(loop, root, print) as watcher:
        assert watcher.mechanism == fw.available()[0]
    assert fw.available()[-1] == "polling"


# Anything at all ----------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["touch", "write", "mkdir", "remove", "chmod", "link", "out", "in"]), PATHS, PATHS),
        st.tuples(st.just("rename"), PATHS, PATHS),
        st.tuples(st.just("run"), PATHS, PATHS),
    ),
    max_size=30,
)


@pytest.mark.parametrize("name", MECHANISMS)
def test_the_events_lead_to_the_truth(name: str) -> None:
    """Whatever was done, and whenever the loop had its turn: the picture made of the events is the tree."""

    @given(OPERATIONS)
    def check(operations: list[tuple[str, str, str]]) -> None:
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            prepare(name, patch)
            root, outside = Path(folder, "root"), Path(folder, "outside")
            root.mkdir()
            outside.mkdir()
            half = len(operations) // 2
            for operation, path, other in operations[:half]:
                perform(operation, root, outside, path, other)
            with watching(name, root) as watched:
                watched.watch(recursive=True)
                for operation, path, other in operations[half:]:
                    if operation == "run":
                        watched.loop.run_once(1 if name == "polling" else 0)
                    else:
                        perform(operation, root, outside, path, other)
                watched.settle()

    check()


@pytest.mark.parametrize("seed", range(4))
def test_the_events_lead_to_the_truth_while_it_changes(watched: Watching, tmp_path: Path, seed: int) -> None:
    """Another thread moves everything about while the loop runs."""
    kinds = ["touch", "write", "mkdir", "mkdir", "remove", "rename", "rename", "out", "in"]
    shake(watched, tmp_path / "outside", seed, kinds, 30)
