"""Reloading: one child at a time, replaced when the source changes, and nobody left behind."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nimloop_core import FileEvent, FileWatcher, Loop
from nimloop_core.testing import FakeClock
from nimloop_http import _sources
from nimloop_http._application import as_handler
from nimloop_http._arguments import parser, server_arguments
from nimloop_http._reload import Reloader, open_sockets
from nimloop_http._sources import SourceWatcher

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

ENDLESS = [sys.executable, "-c", "import signal; signal.pause()"]


@pytest.fixture
def said() -> list[str]:
    """Collect what is said."""
    return []


@pytest.fixture
def loop() -> Iterator[Loop]:
    """Run on real time; a stop is heard by the next `run` only."""
    with Loop() as loop:
        yield loop


def test_a_change_replaces_the_child(loop: Loop, said: list[str]) -> None:
    """The next one is started when it has ended, and not before; what is none of an end is nothing."""
    reloader = Reloader(loop, ENDLESS, [], said.append)
    loop.add_signal_handler(signal.SIGCHLD, reloader.on_child)
    reloader.on_child()  # there is none yet
    reloader.on_change()
    first = reloader._child
    assert first is not None
    reloader.on_child()  # it runs
    assert reloader._child is first
    reloader.on_change()
    while reloader._child is first or reloader._child is None:
        loop.run_once(20)
    assert first.returncode == -signal.SIGTERM
    second = reloader._child
    reloader.close()
    assert second.returncode == -signal.SIGKILL
    assert said == []


def test_after_a_stop_nothing_is_started(loop: Loop, said: list[str]) -> None:
    """Whether there was a child or not; the loop ends when there is none any more."""
    reloader = Reloader(loop, ENDLESS, [], said.append)
    loop.add_signal_handler(signal.SIGCHLD, reloader.on_child)
    loop.call_soon(reloader.stop)
    loop.run()
    reloader.on_change()
    assert reloader._child is None
    reloader.close()
    other = Reloader(loop, ENDLESS, [], said.append)
    loop.add_signal_handler(signal.SIGCHLD, other.on_child)
    other.start()
    loop.call_soon(other.stop)
    loop.run()
    assert other._child is None
    other.close()


def test_a_child_that_ends_by_itself_is_waited_for(loop: Loop, said: list[str]) -> None:
    """Until something changes."""
    reloader = Reloader(loop, [sys.executable, "-c", "raise SystemExit(3)"], [], said.append)
    loop.add_signal_handler(signal.SIGCHLD, reloader.on_child)
    reloader.start()
    while reloader._child is not None:
        loop.run_once(20)
    assert said == ["ended with status 3; waiting for a change"]
    reloader.close()


def test_sockets_that_cannot_all_be_opened_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may stand for several addresses."""
    opened: list[socket.socket] = []
    create = socket.create_server

    def create_server(address: tuple[str, int], *, family: int, backlog: int) -> socket.socket:
        if opened:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        opened.append(create(address, family=family, backlog=backlog))
        return opened[0]

    local = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: [local, local])
    monkeypatch.setattr(socket, "create_server", create_server)
    with pytest.raises(OSError, match="in use"):
        open_sockets("two", 0)
    assert opened[0].fileno() == -1


def test_a_child_is_told_what_the_parent_was() -> None:
    """All that is about serving, and nothing that is about listening or reloading."""
    given = ["app:x", "--reload", "--port", "1", "--tls-cert", "c", "--tls-key", "k", "--no-access-log", "--grace", "2"]
    parent = parser().parse_args(given)
    child = parser().parse_args(server_arguments(parent))
    for name in ("what", "grace", "access_log", "log_level", "tls_cert", "tls_key", "backend", "uds"):
        assert getattr(child, name) == getattr(parent, name)
    assert not child.reload
    assert child.port != parent.port


def test_what_tells_nothing_of_its_parameters_is_a_handler() -> None:
    """Some callables in C do not."""
    found: object = as_handler(dict)
    assert found is dict


# Sources --------------------------------------------------------------------------------------------------------


def test_the_source_is_python_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others do not matter, several changes are one, and where the system cannot watch any more it is polled."""
    mechanisms: list[str | None] = []

    def watcher(
        loop: Loop,
        path: str,
        on_change: Callable[[FileEvent], object],
        *,
        recursive: bool,
        mechanism: str | None = None,
    ) -> FileWatcher:
        mechanisms.append(mechanism)
        if mechanism is None:
            raise OSError(errno.ENOSPC, "no watches left")
        return FileWatcher(loop, path, on_change, recursive=recursive, mechanism=mechanism)

    monkeypatch.setattr(_sources, "FileWatcher", watcher)
    changes: list[str] = []
    clock = FakeClock(7)
    with Loop(clock=clock) as loop:

        def pass_seconds(seconds: int) -> None:
            for _ in range(seconds * 10):
                clock.advance(0.1)
                loop.run_once(0)

        watch = SourceWatcher(loop, lambda: changes.append("change"), str(tmp_path))
        (tmp_path / "notes.txt").write_text("text")
        pass_seconds(5)
        assert changes == []
        watch.close()
        watch = SourceWatcher(loop, lambda: changes.append("change"), str(tmp_path))
        for name in ("one.py", "two.py"):
            (tmp_path / name).write_text("x = 1")
        pass_seconds(5)
        assert changes == ["change"]
        watch.close()
    assert mechanisms == [None, "polling"] * 2
