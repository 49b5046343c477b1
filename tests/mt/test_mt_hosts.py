"""What workers run in: threads that hang, processes whose supervisor dies, and PID 1 with its foreign children."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.mt import handlers
from tests.mt.conftest import Provoked
from tests.mt.running import Program
from tests.mt.serving import PATIENCE, ask, members, seen, serving, until

from nimloop_mt import MultiThreadHttpServer
from nimloop_mt._hosts import describe_exit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="proc(5)")


def children(pid: int) -> list[int]:
    """Return the processes that a process has started, those included that nobody has waited for."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def runs(pid: int) -> bool:
    """Whether a process is more than an entry in a table."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_thread_that_hangs_is_given_up(provoked: Provoked, descriptors: Callable[[], set[str]]) -> None:
    """It cannot be killed: another one takes its place; once its handler returns it ends, and leaves nothing behind."""
    handlers.waiting.clear()
    handlers.released.clear()
    threads = threading.active_count()
    before = descriptors()
    with serving(MultiThreadHttpServer(handlers.answer, workers=2, mode="threads", watchdog=1.0)) as port:
        first = seen(port, 2)
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            client.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
            until(handlers.waiting.is_set)  # what it accepts before that waits with it
            provoked("has not answered for 1 s")
            until(lambda: seen(port, 2) - first)
            assert [ask(port)[0] for _ in range(20)] == [200] * 20
            handlers.released.set()
            assert b"late" in b"".join(iter(lambda: client.recv(1000), b""))
    until(lambda: threading.active_count() == threads and descriptors() == before)


@pytest.mark.parametrize("how", [(), ("--fork",)])
def test_workers_end_when_the_supervisor_is_killed(how: tuple[str, ...]) -> None:
    """Without a word from it: their channel has ended. Nobody is left on the port."""
    with Program("tests.mt.handlers:answer", "--mode", "processes", "--workers", "2", "--grace", "1", *how) as program:
        port = program.port
        workers = children(program.pid)
        assert len(workers) == 2
        assert ask(port)[0] == 200
        program.send(signal.SIGKILL)
        until(lambda: not any(runs(pid) for pid in workers))
        with pytest.raises(ConnectionRefusedError):
            ask(port)


def can_unshare() -> bool:
    """Whether a process can be the first of a namespace here."""
    program = shutil.which("unshare")
    if program is None:
        return False
    command = [program, "--pid", "--fork", "--mount-proc", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="needs unshare(1) and the right to use it")
@pytest.mark.parametrize("how", [(), ("--fork",)])
def test_as_pid_1_it_minds_its_own_children_only(how: tuple[str, ...]) -> None:
    """It inherits orphans, and leaves them alone; workers are replaced, and SIGTERM ends it, all the same."""
    wrap = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    arguments = ("--mode", "processes", "--workers", "2", "--grace", "1", *how)
    with Program("tests.mt.handlers:answer", *arguments, wrap=wrap) as program:
        port = program.port
        (first,) = children(program.pid)
        workers = children(first)
        assert ask(port, "/orphan")[2] == "done"
        until(lambda: len(children(first)) == 3)
        (orphan,) = set(children(first)) - set(workers)
        until(lambda: not runs(orphan))
        os.kill(workers[0], signal.SIGKILL)
        until(lambda: len([pid for pid in children(first) if runs(pid)]) == 2 and workers[0] not in children(first))
        assert len(seen(port, 2)) == 2
        assert orphan in children(first)
        os.kill(first, signal.SIGTERM)
        status, _, errors = program.finish()
        assert status == 0
        assert "signal SIGKILL" in errors


def test_an_end_is_described() -> None:
    """As subprocess has it, with the name of the signal if it has one."""
    assert [describe_exit(code) for code in (0, 3, -9, -99)] == [
        "exit status 0",
        "exit status 3",
        "signal SIGKILL",
        "signal 99",
    ]


def test_members_of_threads_have_no_process() -> None:
    """`pids` is about processes."""
    server = MultiThreadHttpServer(handlers.answer, workers=2, mode="threads")
    with serving(server):
        assert server.pids == []
        assert len(members(server)) == 2
