"""Paths: whatever a URL says, what is opened lies beneath the folder, and nothing that is opened stays open."""

from __future__ import annotations

import errno
import os
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.privileges import unprivileged

from nimloop_http import _paths
from nimloop_http._paths import open_beneath, resolve_beneath, special_on_windows, split_path
from nimloop_http.errors import ForbiddenPathError

SECRET = b"secret"

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="links and permissions of POSIX")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a folder to serve, with links of every kind in it and secrets around it; returns the folder."""
    root = tmp_path / "pub"
    (root / "folder" / "inner").mkdir(parents=True)
    (root / "file.txt").write_bytes(b"file")
    (root / "folder" / "inner" / "deep.txt").write_bytes(b"deep")
    (tmp_path / "secret.txt").write_bytes(SECRET)
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "secret.txt").write_bytes(SECRET)
    links = {
        "to-file": "file.txt",
        "to-folder": "folder",
        "to-folder-slash": "folder/",
        "to-itself": ".",
        "absolute": str(root / "folder"),
        "folder/up-and-in": "../file.txt",
        "folder/out-and-in": "../../pub/file.txt",
        "chain": "to-file",
        "chained-folder": "to-folder/inner",
        "escape-file": "../secret.txt",
        "escape-folder": "..",
        "escape-sibling": "../public",
        "escape-absolute": str(tmp_path / "secret.txt"),
        "escape-chain": "escape-folder/secret.txt",
        "escape-to-root": "/",
        "dangling": "nothing",
        "dangling-outside": "../nothing",
        "loop": "loop",
        "loop-1": "loop-2",
        "loop-2": "loop-1",
        "through-file": "file.txt/x",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    return root


def read(root: Path | str, *segments: str) -> bytes:
    """Open beneath a folder and read; of a folder, the names in it."""
    descriptor = open_beneath(str(root), list(segments))
    try:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            return " ".join(sorted(os.listdir(descriptor))).encode()  # noqa: PTH208 - by descriptor
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


# From a path to segments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "segments"),
    [
        ("", []),
        ("/", []),
        ("///", []),
        ("/././/", []),
        ("%2e", []),
        ("a/b", ["a", "b"]),
        ("/a//b/", ["a", "b"]),
        ("a/./%2E/b", ["a", "b"]),
        ("sp%20ace", ["sp ace"]),
        ("+", ["+"]),
        ("100%", ["100%"]),
        ("%zz%4", ["%zz%4"]),
        ("%252e%252e/x", ["%2e%2e", "x"]),
        ("%252f", ["%2f"]),
        ("%c3%a9", ["é"]),
        ("caf%e9", ["caf\udce9"]),
        ("%c0%ae%c0%ae/x", ["\udcc0\udcae\udcc0\udcae", "x"]),
        ("...", ["..."]),
        ("a..", ["a.."]),
        ("..a", ["..a"]),
        (".. ", [".. "]),
        ("%20..", [" .."]),
        ("~root", ["~root"]),
        ("$HOME", ["$HOME"]),
        ("..;/x", ["..;", "x"]),
        ("new%0Aline", ["new\nline"]),
        ("http:%5c", ["http:\\"]),
        ("..%5c..", ["..\\.."]),
    ],
)
@posix_only
def test_segments_are_decoded_once(raw: str, segments: list[str]) -> None:
    """Percent-encoding is undone in each segment by itself, one time; what is no encoding stays."""
    assert split_path(raw) == segments


@pytest.mark.parametrize(
    "raw",
    [
        "..",
        "/../x",
        "a/..",
        "a/../b",
        "%2e%2e",
        "%2E.",
        ".%2e",
        "%2e%2e%2f",
        "..%2f",
        "a%2fb",
        "%2f",
        "%2Fetc%2Fpasswd",
        "%00",
        "a%00.txt",
    ],
)
def test_what_could_lead_out_is_forbidden(raw: str) -> None:
    """Two dots, an encoded slash and NUL are refused, even where they would lead back in."""
    with pytest.raises(ForbiddenPathError):
        split_path(raw)


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1).filter(
            lambda name: name not in {".", ".."}
        )
    )
)
def test_quoted_names_come_back(names: list[str]) -> None:
    """Every name that a file can have can be asked for."""
    assert split_path("/".join(quote(name, safe="") for name in names)) == names


@pytest.mark.parametrize(
    "raw", ["C:", "file::$DATA", "a%5cb", "..%5c", "NUL.", "trailing%20", "a*", "what?", "a%22", "%3c", "%3E", "a|b"]
)
def test_what_is_special_on_windows(raw: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There, more characters have a meaning, and trailing dots and blanks vanish."""
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ForbiddenPathError):
        split_path(raw)


@pytest.mark.parametrize(
    "device", ["con", "PRN", "Aux", "nul", "COM1", "com0", "lpt9", "COM\xb9", "LPT\xb3", "CONIN$", "conout$"]
)
@pytest.mark.parametrize("tail", ["", ".", ".txt", ".tar.gz", " .txt", "  ", ":", ". ."])
def test_devices_of_windows(device: str, tail: str) -> None:
    """They are in every folder, under any extension."""
    assert special_on_windows(device + tail)


@pytest.mark.parametrize(
    "name",
    [
        "console",
        "con-1",
        "nul1",
        "com",
        "com10",
        "lptx",
        "xcon",
        "my.con",
        "a.nul",
        "auxiliary.txt",
        "a b",
        "~",
        "~a",
        "COM\xbc",
    ],
)
def test_names_that_are_none_of_windows_devices(name: str) -> None:
    """Only the whole name before the first dot makes a device."""
    assert not special_on_windows(name)


@pytest.mark.parametrize("name", ["GITIGN~1", "git~1.txt", "PROGRA~12", "a\x01b", "a:b", "x.", "x ", "x..", "a\\b"])
def test_other_names_for_a_file_on_windows(name: str) -> None:
    """Short names, streams, and ends that vanish would get past what is decided by the name."""
    assert special_on_windows(name)


def test_what_is_no_utf_8_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """There, names are text, so bytes that are none name nothing."""
    monkeypatch.setattr(os, "fsdecode", lambda name: bytes(name).decode("utf-8", "surrogatepass"))
    assert split_path("%c3%a9") == ["é"]
    with pytest.raises(ForbiddenPathError):
        split_path("caf%e9")


# From segments to an open file ----------------------------------------------------------------------------------


@posix_only
@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("file.txt", b"file"),
        ("folder/inner/deep.txt", b"deep"),
        ("folder/inner", b"deep.txt"),
        ("to-file", b"file"),
        ("to-folder", b"inner out-and-in up-and-in"),
        ("to-folder-slash/inner/deep.txt", b"deep"),
        ("to-itself/file.txt", b"file"),
        ("to-itself/to-itself/to-file", b"file"),
        ("absolute/inner/deep.txt", b"deep"),
        ("folder/up-and-in", b"file"),
        ("folder/out-and-in", b"file"),
        ("to-folder/up-and-in", b"file"),
        ("chain", b"file"),
        ("chained-folder/deep.txt", b"deep"),
    ],
)
def test_what_lies_inside_is_opened(tree: Path, path: str, content: bytes) -> None:
    """Files, folders, and links as long as they end inside."""
    assert read(tree, *path.split("/")) == content
    assert read(tree, *resolve_beneath(str(tree), path.split("/"))) == content


@posix_only
def test_the_folder_itself(tree: Path) -> None:
    """No segments, or a link back to it, open the folder."""
    assert b"file.txt" in read(tree)
    assert read(tree, "to-itself") == read(tree)
    assert resolve_beneath(str(tree), ["to-itself"]) == []


@posix_only
@pytest.mark.parametrize(
    "path",
    [
        "escape-file",
        "escape-folder",
        "escape-folder/secret.txt",
        "escape-folder/pub/../secret.txt",
        "escape-sibling",
        "escape-sibling/secret.txt",
        "escape-absolute",
        "escape-chain",
        "escape-to-root/etc/passwd",
        "to-folder/../escape-file",
        "to-itself/escape-file",
    ],
)
def test_what_lies_outside_is_forbidden(tree: Path, path: str) -> None:
    """No link leads out, neither to a sibling whose name begins alike."""
    with pytest.raises(ForbiddenPathError):
        read(tree, *path.split("/"))


@posix_only
@pytest.mark.parametrize(
    "path",
    [
        "nothing",
        "nothing/deeper",
        "dangling",
        "dangling/deeper",
        "dangling-outside",
        "loop",
        "loop/deeper",
        "loop-1",
        "through-file",
        "file.txt/deeper",
        "to-file/deeper",
        "x" * 256,
        "/".join(["to-itself"] * 500) + "/nothing",
    ],
)
def test_what_is_not_there_says_so(tree: Path, path: str) -> None:
    """The system's error comes through, and no link makes it wander for ever."""
    with pytest.raises(OSError):
        read(tree, *path.split("/"))


@posix_only
def test_a_root_that_is_a_link(tree: Path) -> None:
    """The folder may be reached through a link itself."""
    link = tree.parent / "link"
    link.symlink_to(tree)
    assert read(link, "file.txt") == b"file"
    assert read(link, "to-folder", "inner", "deep.txt") == b"deep"
    assert read(link) == read(tree)
    with pytest.raises(ForbiddenPathError):
        read(link, "escape-file")


@posix_only
def test_the_whole_system_as_root(tree: Path) -> None:
    """Nothing lies outside of ``/``, so links lead anywhere."""
    segments = str(tree.resolve()).strip("/").split("/")
    assert read("/", *segments, "file.txt") == b"file"
    assert read("/", *segments, "escape-file") == SECRET


@posix_only
def test_a_pipe_does_not_block(tree: Path) -> None:
    """Opening a named pipe does not wait for its writer, not even through a link."""
    os.mkfifo(tree / "pipe")
    (tree / "to-pipe").symlink_to("pipe")
    for name in ("pipe", "to-pipe"):
        descriptor = open_beneath(str(tree), [name])
        assert stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)


@posix_only
def test_a_terminal_does_not_become_ours() -> None:
    """Opening a terminal, if one lies there, does not make it the one that sends Ctrl+C."""
    assert _paths.OPEN_FILE & os.O_NOCTTY


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Make a folder that everybody can enter, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name).resolve()
        for path in (Path(name), *Path(name).rglob("*")):
            path.chmod(0o755)


@posix_only
def test_permissions(open_folder: Path) -> None:
    """What may not be read is not opened; a folder on the way need not be readable, only passable."""
    passable = 0o711 if os.geteuid() == 0 else 0o100
    for name, mode in (("closed", 0), ("passable", passable)):
        folder = open_folder / name
        folder.mkdir()
        (folder / "file").write_bytes(b"x")
        (folder / "private").write_bytes(SECRET)
        (folder / "private").chmod(0)
        folder.chmod(mode)
    (open_folder / "link").symlink_to("passable/file")
    with unprivileged(open_folder):
        for path in (["closed"], ["closed", "file"], ["closed", "nothing"], ["passable", "private"]):
            with pytest.raises(PermissionError):
                read(open_folder, *path)
        if hasattr(os, "O_PATH"):
            assert read(open_folder, "passable", "file") == b"x"
            assert read(open_folder, "link") == b"x"


# Races ----------------------------------------------------------------------------------------------------------


@posix_only
@pytest.mark.parametrize("swapped", ["file.txt", "folder", "inner", "deep.txt"])
@pytest.mark.parametrize("target", ["secret.txt", "public", ".", "nothing"])
def test_a_link_put_in_its_place(tree: Path, swapped: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is replaced by a link to the outside right before it is opened, the secret is not read."""
    place = {"file.txt": "file.txt", "folder": "folder", "inner": "folder/inner", "deep.txt": "folder/inner/deep.txt"}
    (tree.parent / "deep.txt").write_bytes(SECRET)
    real = os.open

    def swap_and_open(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        victim = tree / place[swapped]
        if Path(path).name == swapped and not victim.is_symlink():
            victim.rename(tree / "moved")
            victim.symlink_to(tree.parent / target)
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swap_and_open)
    with pytest.raises((OSError, ForbiddenPathError)):
        read(tree, *(["file.txt"] if swapped == "file.txt" else ["folder", "inner", "deep.txt"]))
    assert (tree / "moved").exists(), "the swap took place"


@posix_only
@pytest.mark.parametrize("swapped", ["folder", "folder/inner", "folder/inner/deep.txt"])
def test_a_link_put_in_after_it_was_resolved(tree: Path, swapped: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result of following links is opened as strictly as anything else."""
    (tree.parent / "deep.txt").write_bytes(SECRET)
    (tree.parent / "inner").mkdir()
    (tree.parent / "inner" / "deep.txt").write_bytes(SECRET)
    real = resolve_beneath

    def resolve_and_swap(root: str, segments: list[str]) -> list[str]:
        found = real(root, segments)
        (tree / swapped).rename(tree / "moved")
        (tree / swapped).symlink_to(tree.parent / ("deep.txt" if swapped.endswith("txt") else "."))
        return found

    monkeypatch.setattr(_paths, "resolve_beneath", resolve_and_swap)
    with pytest.raises(OSError):
        read(tree, "chained-folder", "deep.txt")


@posix_only
def test_a_folder_moved_out_meanwhile(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open folder is walked on in, wherever it is moved; what came into its old place is not looked at."""
    real = os.open

    def move_and_open(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == "inner":
            (tree / "folder").rename(tree / "moved")
            (tree / "folder").symlink_to("..")
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", move_and_open)
    assert read(tree, "folder", "inner", "deep.txt") == b"deep"


@posix_only
def test_somebody_swaps_all_the_time(tree: Path) -> None:
    """A file and a link to the secret take turns, as fast as they can; only the file is ever read."""
    here = tree / "turn"
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (tree / "new-link").symlink_to("../secret.txt")
            (tree / "new-link").replace(here)
            (tree / "new-file").write_bytes(b"file")
            (tree / "new-file").replace(here)

    here.write_bytes(b"file")
    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    try:
        for _ in range(500):
            try:
                seen.add(read(tree, "turn"))
            except (OSError, ForbiddenPathError):
                continue
    finally:
        stop.set()
        thread.join()
    assert seen <= {b"file"}


# Other systems, and failures in between -------------------------------------------------------------------------


@posix_only
def test_where_nothing_opens_relative_to_a_folder(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows links are followed first and what comes out is opened by its name."""
    monkeypatch.setattr(sys, "platform", "win32")
    assert read(tree, "to-folder", "inner", "deep.txt") == b"deep"
    with pytest.raises(ForbiddenPathError):
        read(tree, "escape-folder", "secret.txt")
    with pytest.raises(FileNotFoundError):
        read(tree, "nothing")


@posix_only
@pytest.mark.parametrize("at", [1, 2, 3])
def test_no_descriptor_is_left(
    tree: Path, at: int, monkeypatch: pytest.MonkeyPatch, descriptors: Callable[[], set[str]]
) -> None:
    """Whichever open on the way fails, the ones before it are closed."""
    before = descriptors()
    real = os.open
    calls = 0

    def fail(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        nonlocal calls
        calls += 1
        if calls == at:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(path, flags, mode, dir_fd=dir_fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(OSError) as caught:
            read(tree, "folder", "inner", "deep.txt")
    assert caught.value.errno == errno.EMFILE
    assert descriptors() == before


# Any tree, any path ---------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "..a", "b..", "%2e%2e", "a b", "é", "\\", "..\\", "~", "-", "\udcff", "c"])
TARGETS = st.lists(NAMES | st.sampled_from(["..", ".", "secret"]), min_size=1, max_size=4).map("/".join)
PIECES = st.one_of(
    NAMES.map(lambda name: quote(os.fsencode(name), safe="")),
    st.sampled_from(
        ["/", "/", "/", "..", ".", "%2e", "%2E%2e", "%2f", "%5c", "%00", "%c0%ae", "%252e", "secret", "//"]
    ),
)


@posix_only
@settings(max_examples=150)
@given(
    files=st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=6),
    links=st.lists(st.tuples(st.lists(NAMES, min_size=1, max_size=2), TARGETS, st.booleans()), max_size=6),
    paths=st.lists(st.lists(PIECES, max_size=9).map("".join), min_size=5, max_size=30),
)
def test_whatever_the_path_it_lies_beneath(
    files: list[list[str]], links: list[tuple[list[str], str, bool]], paths: list[str]
) -> None:
    """Of a tree of files and links, with secrets around it, only what is in it is ever opened."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name).resolve()
        root = top / "a"
        root.mkdir()
        for folder in (top, top / "b", top / "ab"):
            folder.mkdir(exist_ok=True)
            (folder / "secret").write_bytes(SECRET)
        for file in files:
            make(root.joinpath(*file), None)
        for link, target, absolute in links:
            make(root.joinpath(*link), f"{top}/{target}" if absolute else target)
        inside = {identity(path.lstat()) for path in (root, *root.rglob("*"))}
        for path in paths:
            try:
                descriptor = open_beneath(str(root), split_path(path))
            except (ForbiddenPathError, OSError):
                continue
            try:
                assert identity(os.fstat(descriptor)) in inside, path
            finally:
                os.close(descriptor)


def make(path: Path, target: str | None) -> None:
    """Make a file, or a link to `target`, where the tree and the file system have a place for it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or path.exists():
            return
        if target is None:
            path.write_bytes(b"inside")
        else:
            path.symlink_to(target)
    except OSError:
        pass


def identity(status: os.stat_result) -> tuple[int, int]:
    """Tell one file from another."""
    return status.st_dev, status.st_ino
