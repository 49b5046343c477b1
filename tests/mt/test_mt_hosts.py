"""What workers run in: threads that hang, processes whose supervisor dies, and PID 1 with its foreign children."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
from tests.mt import handlers
from tests.mt.conftest import Provoked
from tests.mt.running import Program
from tests.mt.serving import PATIENCE, Mode, ask, members, read_all, seen, serving, until

from nimloop_mt import MultiThreadHttpServer, WorkerStartError
from nimloop_mt._guard import Guard
from nimloop_mt._hosts import Spawned, describe_exit
from nimloop_mt._supervisor import Supervisor

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
    with serving(MultiThreadHttpServer(handlers.answer, workers=2, mode="threads", watchdog=3.0)) as port:
        first = seen(port, 2)
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            client.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
            until(handlers.waiting.is_set)  # what it accepts before that waits with it
            provoked("has not answered for 3 s")
            until(lambda: seen(port, 2) - first)
            assert [ask(port)[0] for _ in range(20)] == [200] * 20
            handlers.released.set()
            assert b"late" in read_all(client)
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


@pytest.mark.parametrize("how", [(), ("--fork",)])
@pytest.mark.parametrize("path", ["/hang", "/spin"])
def test_a_worker_that_hangs_ends_when_the_supervisor_is_killed(path: str, how: tuple[str, ...]) -> None:
    """Although its loop does not run: it sleeps, or is busy, for longer than this test waits."""
    arguments = ("--mode", "processes", "--workers", "1", "--grace", "0.1", *how)
    with (
        Program("tests.mt.handlers:answer", *arguments) as program,
        socket.create_connection(("127.0.0.1", program.port), PATIENCE) as client,
    ):
        (worker,) = children(program.pid)
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        program.errors_until(f"{path} is under way")
        program.send(signal.SIGKILL)
        until(lambda: not runs(worker))
        assert read_all(client) == b""


@pytest.mark.parametrize("how", [(), ("--fork",)])
def test_a_worker_that_has_not_begun_ends_when_the_supervisor_is_killed(tmp_path: Path, how: tuple[str, ...]) -> None:
    """The module of its handler is still being imported."""
    text = "import os, time\nos.write(2, b'importing\\n')\ntime.sleep(60)\n"
    (tmp_path / "endless.py").write_text(text)
    with Program("endless:answer", "--mode", "processes", "--workers", "1", *how, cwd=tmp_path) as program:
        program.errors_until("importing")
        (worker,) = children(program.pid)
        program.send(signal.SIGKILL)
        until(lambda: not runs(worker))


def test_a_guard_looks_again_where_poll_returns_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a Mac's does when there are messages. Only the end of the channel ends the process."""
    answers: list[list[object]] = [[], [], [(0, select.POLLHUP)]]
    paused: list[float] = []
    ended = threading.Event()

    class Poll:
        """One that nobody has to wait for."""

        def register(self, _sock: socket.socket, events: int) -> None:
            """Be asked for the end, and for nothing else."""
            assert events == select.POLLHUP

        def poll(self) -> list[object]:
            """Return what there is."""
            return answers.pop(0)

    monkeypatch.setattr("nimloop_mt._guard.select.poll", Poll)
    monkeypatch.setattr("nimloop_mt._guard.time.sleep", paused.append)
    monkeypatch.setattr("nimloop_mt._guard.os._exit", lambda _status: ended.set())
    near, far = socket.socketpair()
    with near, far:
        guard = Guard(near)
        assert ended.wait(PATIENCE)
        guard._control.close()
    assert answers == []
    assert paused == [1.0, 1.0, 2.0]


@pytest.mark.parametrize("how", [(), ("--fork",)])
def test_a_worker_that_drains_is_left_the_grace_that_it_was_given(tmp_path: Path, how: tuple[str, ...]) -> None:
    """Also when the supervisor dies meanwhile: what is under way is answered."""
    text = (
        "import os, time\n"
        "def answer(req, res):\n"
        "    os.write(2, b'under way\\n')\n"
        "    while not os.path.exists('go'):\n"
        "        time.sleep(0.01)\n"
        "    res.send('late')\n"
    )
    (tmp_path / "slow.py").write_text(text)
    arguments = ("--mode", "processes", "--workers", "1", *how)
    with (
        Program("slow:answer", *arguments, cwd=tmp_path) as program,
        socket.create_connection(("127.0.0.1", program.port), PATIENCE) as client,
    ):
        (worker,) = children(program.pid)
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        program.errors_until("under way")
        program.send(signal.SIGKILL)
        until(lambda: not runs(program.pid))
        (tmp_path / "go").touch()
        assert b"late" in read_all(client)
        until(lambda: not runs(worker))


IGNORING_CHILDREN = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
"""
INTERRUPTED_COPIES = """
import os, runpy, signal, sys
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGINT))
sys.argv[:] = sys.argv[3:]
runpy.run_module("nimloop_mt", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("how", [(), ("--fork",)])
def test_where_nobody_is_told_of_the_end_of_children(how: tuple[str, ...]) -> None:
    """Whoever has started us may have had SIGCHLD ignored, which is inherited: waitpid(2) finds no child then."""
    wrap = (sys.executable, "-c", IGNORING_CHILDREN)
    arguments = ("--mode", "processes", "--workers", "2", "--grace", "1", *how)
    with Program("tests.mt.handlers:answer", *arguments, wrap=wrap) as program:
        first = seen(program.port, 2)
        os.kill(children(program.pid)[0], signal.SIGKILL)
        until(lambda: seen(program.port, 2) - first)
        program.send(signal.SIGTERM)
        assert program.finish()[0] == 0


def test_a_signal_for_a_copy_that_has_not_begun_is_not_taken_for_ours() -> None:
    """Copy and original have the same wake-up descriptor for a moment."""
    with Program(
        "tests.mt.handlers:answer", "--fork", "--workers", "2", wrap=(sys.executable, "-c", INTERRUPTED_COPIES)
    ) as program:
        assert len(seen(program.port, 2)) == 2
        program.send(signal.SIGTERM)
        assert program.finish()[0] == 0


@pytest.mark.parametrize("how", [(), ("--fork",)])
def test_programs_of_the_handler_do_not_inherit_our_sockets(how: tuple[str, ...]) -> None:
    """Else one that runs on would keep the port."""
    with Program("tests.mt.handlers:answer", "--mode", "processes", "--workers", "1", *how) as program:
        assert "socket:" not in ask(program.port, "/descriptors")[2]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(("mode", "how"), [("processes", "spawn"), ("processes", "fork"), ("threads", "spawn")])
def test_a_stop_just_when_the_next_worker_of_a_roll_is_ready(mode: Mode, how: Literal["spawn", "fork"]) -> None:
    """It has accepted, and what it says of that is not read yet: its connections are answered, and all ends."""
    clients: list[socket.socket] = []
    with MultiThreadHttpServer(handlers.answer, workers=2, mode=mode, start_method=how) as server, ExitStack() as stack:
        ((_, port),) = server.listen("127.0.0.1", 0)
        server.start()

        def stop_while_rolling(supervisor: Supervisor) -> None:
            supervisor.roll()
            assert select.select([supervisor.members[-1].channel.fileno()], [], [], PATIENCE)[0]
            for _ in range(50):
                clients.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE)))
                clients[-1].sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            supervisor.stop(PATIENCE)

        server._tell(stop_while_rolling)
        report = server.join(PATIENCE)
        assert report is not None
        assert (report.aborted, report.killed) == (0, 0)
        assert len(clients) == 50
        for client in clients:
            assert b"answer to /" in read_all(client)


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


LONG = bytes(1 << 20)  # more than a pipe takes


def test_a_process_that_ends_before_it_is_told_anything(
    monkeypatch: pytest.MonkeyPatch, descriptors: Callable[[], set[str]]
) -> None:
    """It is noticed like any other end, and nothing is left behind."""
    before = descriptors()
    program = shutil.which("true")
    assert program is not None
    monkeypatch.setattr(sys, "executable", program)
    near, far = socket.socketpair()
    with near, far:
        host = Spawned(LONG, [], near, None)
        until(host.ended)
        assert host.ended() == "exit status 0"
    until(lambda: descriptors() == before)


def test_a_process_that_does_not_read_what_it_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, descriptors: Callable[[], set[str]]
) -> None:
    """The supervisor does not wait for it, and kills it once it has taken too long to begin."""
    before = descriptors()
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o700)
    server = MultiThreadHttpServer(
        factory=partial(handlers.make_with, LONG), workers=1, mode="processes", start_timeout=0.5
    )
    monkeypatch.setattr(sys, "executable", str(program))
    server.listen("127.0.0.1", 0)
    with server, pytest.raises(WorkerStartError, match="was starting for too long"):
        server.start()
    until(lambda: descriptors() == before)


def test_settings_of_any_size_are_told() -> None:
    """A factory may be a bound one, with data."""
    with serving(MultiThreadHttpServer(factory=partial(handlers.make_with, LONG), workers=2, mode="processes")) as port:
        assert ask(port)[2] == str(len(LONG))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_copy_that_has_ended_is_sent_no_signal(provoked: Provoked) -> None:
    """Its number may be somebody else's by then; how it ended is told as often as one asks."""
    provoked("has ended: enough")
    server = MultiThreadHttpServer(handlers.answer, workers=1, mode="processes", start_method="fork")
    with serving(server) as port:
        assert ask(port)[0] == 200
        (member,) = members(server)
        host = member.host
        assert host is not None
        server._tell(lambda _supervisor: member.kill("enough"))
        until(lambda: member not in members(server) and server.ready)
        host.interrupt()
        assert host.kill()
        assert [host.ended(), host.ended()] == ["signal SIGKILL"] * 2


def test_where_the_kernel_does_not_tell_of_the_end(monkeypatch: pytest.MonkeyPatch, provoked: Provoked) -> None:
    """pidfd_open(2) may be forbidden in a container: then it is looked at from time to time."""

    def forbidden(_pid: int) -> int:
        raise PermissionError

    provoked("signal SIGKILL")
    monkeypatch.setattr(os, "pidfd_open", forbidden)
    server = MultiThreadHttpServer(handlers.answer, workers=1, mode="processes")
    with serving(server) as port:
        (victim,) = server.pids
        os.kill(victim, signal.SIGKILL)
        until(lambda: server.ready and victim not in server.pids)
        assert ask(port)[0] == 200
