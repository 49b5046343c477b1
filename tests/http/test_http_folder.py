"""Pages of folders are made beside the loop: nobody waits for them, and whatever happens is cleaned up."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.http.serving import OnRequest, Site
from tests.support.turning import PATIENCE

from nimloop_http import HttpRequest, HttpResponse, StaticFiles
from nimloop_http._workers import WorkerPool

pytest_plugins = ("tests.http.fixtures",)


LIST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
OTHER = b"GET /other HTTP/1.1\r\nHost: test\r\n\r\n"


class Disk:
    """A disk that is slow to list a folder: it waits to be let go."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.let_go = threading.Event()
        self.error: OSError | None = None
        self._scandir = os.scandir

    def scandir(self, folder: int | str) -> Iterator[os.DirEntry[str]]:
        """Wait, then list or fail; only an open folder, which is how the server asks."""
        if not isinstance(folder, int):
            return self._scandir(folder)
        self.asked.set()
        assert self.let_go.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        return self._scandir(folder)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """Make listing slow."""
    disk = Disk()
    monkeypatch.setattr(os, "scandir", disk.scandir)
    monkeypatch.setattr(os, "supports_fd", {*os.supports_fd, disk.scandir})
    yield disk
    disk.let_go.set()


@pytest.fixture
def handler(tmp_path: Path) -> OnRequest:
    """Serve a folder, and something else beside it."""
    (tmp_path / "file").write_bytes(b"x")
    files = StaticFiles(tmp_path, listing=True)

    def handle(req: HttpRequest, res: HttpResponse) -> None:
        if req.path == "/other":
            res.send("other")
        else:
            files.serve(req, res)

    return handle


def test_others_are_served_meanwhile(site: Site, disk: Disk, handler: OnRequest) -> None:
    """While a disk is slow to list a folder, the loop answers other clients."""
    site.start(handler)
    patient, other = site.dial(), site.dial()
    patient.send(LIST)
    site.until(disk.asked.is_set)
    other.send(OTHER)
    assert other.answer().body == b"other"
    assert not patient.received
    disk.let_go.set()
    answer = patient.answer()
    assert answer.status == 200
    assert b'href="./file"' in answer.body


def test_the_order_under_pipelining(site: Site, disk: Disk, handler: OnRequest) -> None:
    """What was asked later on the same connection comes later."""
    site.start(handler)
    client = site.dial()
    client.send(LIST + OTHER)
    site.until(disk.asked.is_set)
    disk.let_go.set()
    page, other = client.answers("GET", "GET")
    assert b'href="./file"' in page.body
    assert other.body == b"other"


def test_a_client_that_does_not_wait(site: Site, disk: Disk, handler: OnRequest) -> None:
    """A page that nobody wants any more is dropped, and the folder closed."""
    server = site.start(handler)
    client = site.dial()
    client.send(LIST)
    site.until(disk.asked.is_set)
    client.abort()
    site.until(lambda: server.stats.lost == 1)
    disk.let_go.set()
    after = site.dial()
    after.send(LIST)
    assert after.answer().status == 200


def test_a_folder_that_cannot_be_read(site: Site, disk: Disk, handler: OnRequest) -> None:
    """It is reported, and the client gets 500."""
    site.start(handler)
    disk.error = OSError("the disk is gone")
    disk.let_go.set()
    client = site.dial()
    client.send(LIST)
    answer = client.answer()
    assert answer.status == 500
    assert answer.get("content-security-policy") is None
    assert site.errors == [disk.error]
    site.errors.clear()


def test_too_many_pages(site: Site, disk: Disk, handler: OnRequest) -> None:
    """Bounded: who would have to wait behind too many others is told so at once."""
    server = site.start(handler)
    server._workers = WorkerPool("few-files", 1, 1)
    first, second, third = site.dial(), site.dial(), site.dial()
    first.send(LIST)
    site.until(disk.asked.is_set)
    second.send(LIST)
    site.settle()
    third.send(LIST)
    assert third.answer().status == 503
    disk.let_go.set()
    assert first.answer().status == second.answer().status == 200


def test_a_server_that_is_closed_meanwhile(site: Site, disk: Disk, handler: OnRequest) -> None:
    """Nobody is told, and nothing is left open."""
    server = site.start(handler)
    client = site.dial()
    client.send(LIST)
    site.until(disk.asked.is_set)
    server.close()
    disk.let_go.set()
    site.settle()
    for thread in threading.enumerate():
        if thread.name.startswith("nimloop-files"):
            thread.join(PATIENCE)
    site.settle()
