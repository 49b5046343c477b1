"""Files sent from memory: as fresh as files that are opened, and never more than their folder has."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.http.serving import Answer, Client, Site, request
from tests.support.turning import PATIENCE

from nimloop_http import StaticFiles, _filecache, static
from nimloop_http._paths import open_beneath


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which files are opened."""
    names: list[str] = []

    def note(root: str, segments: list[str]) -> int:
        names.append("/".join(segments))
        return open_beneath(root, segments)

    monkeypatch.setattr(static, "open_beneath", note)
    return names


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """Serve a folder to one connection."""
    (tmp_path / "pub").mkdir()
    with Site() as site:
        site.start(StaticFiles(tmp_path / "pub", cache_control="max-age=1").serve)
        yield site.dial()


def write(path: Path, content: bytes) -> None:
    """Write a file, and wait until that is a while ago."""
    path.write_bytes(content)
    settle(path)


def settle(path: Path) -> None:
    """Wait until the last change of a file is no longer new."""
    deadline = time.monotonic() + PATIENCE
    while time.time_ns() - path.stat().st_ctime_ns < 110_000_000:
        assert time.monotonic() < deadline


def ask(client: Client, target: str = "/a.txt", *fields: str, method: str = "GET") -> Answer:
    """Ask once."""
    client.send(request(method, target, *fields))
    return client.answer(method)


def test_the_second_time_it_is_not_opened(tmp_path: Path, client: Client, opened: list[str]) -> None:
    """And the answer is the same one."""
    write(tmp_path / "pub" / "a.txt", b"content")
    answers = [ask(client, "/a.txt", "Accept: */*") for _ in range(3)]
    assert opened == ["a.txt"]
    for answer in answers:
        assert (answer.status, answer.body, answer.get("cache-control")) == (200, b"content", "max-age=1")
        fields = [field for field in answer.headers if field[0] != "date"]
        assert fields == [field for field in answers[0].headers if field[0] != "date"]


def test_a_change_is_seen_at_once(tmp_path: Path, client: Client) -> None:
    """Written over, replaced, touched, gone, a link instead: the next answer knows."""
    path = tmp_path / "pub" / "a.txt"
    write(path, b"first")
    assert [ask(client).body for _ in range(2)] == [b"first"] * 2
    write(path, b"later")
    assert [ask(client).body for _ in range(2)] == [b"later"] * 2
    (tmp_path / "new").write_bytes(b"third")
    os.utime(tmp_path / "new", ns=(path.stat().st_mtime_ns,) * 2)
    (tmp_path / "new").replace(path)
    settle(path)
    tags = [ask(client).get("etag") for _ in range(2)]
    assert ask(client).body == b"third"
    os.utime(path)
    assert ask(client).get("etag") not in tags
    path.unlink()
    assert ask(client).status == 404
    (tmp_path / "secret").write_bytes(b"SECRET")
    path.symlink_to(tmp_path / "secret")
    assert ask(client).status == 403


def test_a_change_just_now_is_not_kept(tmp_path: Path, client: Client, opened: list[str]) -> None:
    """Another one in the same moment could not be told from it."""
    path = tmp_path / "pub" / "a.txt"
    for content in (b"one", b"two", b"six"):
        path.write_bytes(content)
        assert ask(client).body == content
    assert len(opened) == 3


def test_a_folder_on_the_way_is_looked_at_every_second(
    tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link in its place that leads out is refused then, even if it leads to the same file."""
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    folder = tmp_path / "pub" / "folder"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"content")
    monkeypatch.undo()
    settle(folder / "a.txt")
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert ask(client, "/folder/a.txt").status == 200
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    now += 1.01
    assert ask(client, "/folder/a.txt").status == 403


def test_other_requests_are_answered_as_ever(tmp_path: Path, client: Client) -> None:
    """Conditions, ranges, HEAD, codings, and methods that are not allowed."""
    write(tmp_path / "pub" / "a.txt", b"content")
    (tmp_path / "pub" / "a.txt.gz").write_bytes(b"zipped")
    settle(tmp_path / "pub" / "a.txt.gz")
    tag = ask(client).get("etag")
    for _ in range(2):
        assert ask(client).body == b"content"
        assert ask(client, "/a.txt", f"If-None-Match: {tag}").status == 304
        assert ask(client, "/a.txt", 'if-match: "x"').status == 412
        assert ask(client, "/a.txt", "RANGE: bytes=0-2").body == b"con"
        zipped = ask(client, "/a.txt", "Accept-Encoding: gzip")
        assert (zipped.body, zipped.get("content-encoding")) == (b"zipped", "gzip")
        assert ask(client, "/a.txt", "Accept-Encoding: br").body == b"content"
        head = ask(client, method="HEAD")
        assert (head.body, head.get("content-length")) == (b"", "7")
        assert ask(client, method="POST").status == 405


def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    """In number and in bytes; what is thrown out is opened again."""
    path = tmp_path / "a.txt"
    write(path, bytes(30_000))
    with Site() as site:
        files = StaticFiles(tmp_path)
        site.start(files.serve)
        client = site.dial()
        for number in range(1100):
            client.send(request("GET", f"/a.txt?{number}"))
            client.answer()
            assert len(files._cache._kept) <= _filecache._ENTRIES
            assert files._cache._size == 30_000 * len(files._cache._kept) <= _filecache._TOTAL_BYTES
        assert len(files._cache._kept) > 100
