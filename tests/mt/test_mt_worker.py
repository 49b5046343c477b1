"""What a worker does beyond answering: its processor, WebSockets, and connections that nobody has accepted yet."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.mt import handlers
from tests.mt.conftest import Provoked
from tests.mt.serving import PATIENCE, Mode, ask, members, read_all, roll, seen, serving, until

from nimloop_core import Loop
from nimloop_http import HttpServer
from nimloop_mt import ModeError, MultiThreadHttpServer
from nimloop_mt._channel import Channel
from nimloop_mt._settings import Settings
from nimloop_mt._supervisor import Supervisor
from nimloop_mt._worker import _Worker, run_worker

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="descriptors that are inherited"),
]
both = pytest.mark.parametrize("mode", ["processes", "threads"])
QUESTION = b"GET /%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def descriptors() -> int:
    """Count those of this process; 0 where nobody tells."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


@pytest.mark.skipif(sys.platform != "linux", reason="sched_setaffinity(2)")
@both
def test_each_worker_is_tied_to_a_processor(mode: Mode) -> None:
    """One each, of those that there are; the supervisor keeps all."""
    mine = os.sched_getaffinity(0)
    with serving(MultiThreadHttpServer(handlers.answer, workers=2, mode=mode, pin_cpus=True)) as port:
        found: set[str] = set()
        while len(found) < min(2, len(mine)):
            found.add(ask(port, "/cpus")[2])
        assert {f"[{cpu}]" for cpu in sorted(mine)[:2]} == found
    assert os.sched_getaffinity(0) == mine


def test_tying_needs_a_system_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, not forgotten."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ModeError, match="sched_setaffinity"):
        MultiThreadHttpServer(handlers.answer, pin_cpus=True)


@both
def test_websockets_are_upgraded_in_a_worker(mode: Mode) -> None:
    """They echo, are told to go when the worker is replaced (1001), and come back to the next one."""
    pytest.importorskip("nimloop_ws")
    client = pytest.importorskip("websockets.sync.client")
    server = MultiThreadHttpServer(handlers.answer, workers=2, mode=mode)
    with serving(server) as port, ExitStack() as stack:
        sockets = [
            stack.enter_context(client.connect(f"ws://127.0.0.1:{port}/ws", open_timeout=PATIENCE, proxy=None))
            for _ in range(8)
        ]
        for number, each in enumerate(sockets):
            each.send(f"message {number}")
            assert each.recv(PATIENCE) == f"message {number}"
        roll(server)
        for each in sockets:
            with pytest.raises(Exception, match="1001"):
                each.recv(PATIENCE)
        with client.connect(f"ws://127.0.0.1:{port}/ws", open_timeout=PATIENCE, proxy=None) as each:
            each.send("once more")
            assert each.recv(PATIENCE) == "once more"


@both
@pytest.mark.parametrize("handover", [False, True])
def test_connections_that_wait_when_the_server_stops_are_answered(mode: Mode, *, handover: bool) -> None:
    """Those that are complete, but that nobody has accepted: they are not reset with the listening socket."""
    with (
        MultiThreadHttpServer(handlers.answer, workers=2, mode=mode, handover=handover) as server,
        ExitStack() as stack,
    ):
        ((_, port),) = server.listen("127.0.0.1", 0)
        server.start()
        for pid in server.pids:
            os.kill(pid, signal.SIGSTOP)  # so that nobody accepts; threads are told to stop in the same breath
        waiting = [stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE)) for _ in range(400)]
        for number, each in enumerate(waiting):
            each.sendall(QUESTION % number)
        server.shutdown(PATIENCE)
        until(lambda: not server.ready)
        for pid in server.pids:
            os.kill(pid, signal.SIGCONT)
        for number, each in enumerate(waiting):
            assert f"answer to /{number}".encode() in read_all(each)
        report = server.join(PATIENCE)
        assert report is not None
        assert (report.aborted, report.killed) == (0, 0)


def test_others_serve_the_place_of_a_worker_that_hangs(provoked: Provoked) -> None:
    """Its queue does not wait for the watchdog: every new connection is answered long before that acts."""
    server = MultiThreadHttpServer(handlers.answer, workers=2, mode="processes", watchdog=PATIENCE * 10)
    with serving(server) as port:
        assert len(seen(port, 2)) == 2
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as stuck:
            stuck.sendall(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
            until(lambda: any(member.hangs for member in members(server)))
            assert [ask(port)[0] for _ in range(100)] == [200] * 100
            assert server.ready
            provoked("signal SIGKILL")
            victim = next(member.pid for member in members(server) if member.hangs)
            os.kill(victim, signal.SIGKILL)
            until(lambda: victim not in server.pids and server.ready)
        assert len(seen(port, 2)) == 2


def test_others_serve_the_place_of_a_worker_that_has_died(provoked: Provoked) -> None:
    """No connection waits for the replacement to begin, and none is refused."""
    provoked("exit status 3")
    server = MultiThreadHttpServer(handlers.answer, workers=2, mode="processes")
    with serving(server) as port:
        before = seen(port, 2)
        pids = server.pids
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as last:
            last.sendall(b"GET /exit HTTP/1.1\r\nHost: a\r\n\r\n")
            assert last.recv(100) == b""
        until(lambda: server.pids != pids)
        answers = [ask(port) for _ in range(20)]
        assert {status for status, _, _ in answers} == {200}
        until(lambda: server.ready)
        assert seen(port, 2) - before


def test_a_connection_that_is_reset_on_its_way_to_a_worker_is_closed() -> None:
    """Nothing is said of it, no descriptor stays, and the next one that is handed over is served."""
    theirs, mine = socket.socketpair()
    with (
        Loop() as loop,
        HttpServer(loop, lambda req, res: res.send(req.path)) as server,
        socket.create_server(("127.0.0.1", 0)) as listening,
    ):
        worker = _Worker(loop, theirs, server)
        supervisor = Channel(loop, mine, lambda message: None, lambda: None)
        gone, stays = (socket.create_connection(listening.getsockname(), PATIENCE) for _ in range(2))
        accepted = [listening.accept()[0] for _ in range(2)]
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # socket(7): close resets
        gone.close()
        before = descriptors()
        for sock in accepted:
            with sock:
                assert supervisor.send({"do": "serve"}, sock.fileno())
        with stays:
            stays.sendall(QUESTION % 1)
            while server.stats.responses < 1:
                loop.run_once(PATIENCE)
            loop.run_once(0)
            assert b"HTTP/1.1 200 OK" in read_all(stays)
        while server.stats.connections:
            loop.run_once(PATIENCE)
        assert descriptors() == max(before - 3, 0)  # both that were accepted, and the client
        supervisor.close()
        worker.channel.close()


@both
def test_a_message_that_says_nothing_is_passed_over(mode: Mode) -> None:
    """One that a worker does not know, and a connection that was lost on its way, for want of a descriptor."""
    server = MultiThreadHttpServer(handlers.answer, workers=1, mode=mode)
    with serving(server) as port:
        sent: list[bool] = []

        def send(supervisor: Supervisor) -> None:
            (member,) = supervisor.members
            sent.extend(member.channel.send({"do": what}) for what in ("dance", "serve"))
            member.ask()
            sent.append(member.asked is not None)

        server._tell(send)
        until(lambda: len(sent) == 3 and members(server)[0].asked is None)
        assert sent == [True, True, True]
        assert ask(port)[0] == 200


def settings(on_request: str = "tests.mt.handlers:answer") -> Settings:
    """The settings of a plain server."""
    return MultiThreadHttpServer(on_request, workers=1, mode="threads")._settings


def test_a_socket_that_cannot_be_served_is_told() -> None:
    """By the worker, through its channel; everything that it was given is closed."""
    near, far = socket.socketpair()
    datagrams = socket.socket(type=socket.SOCK_DGRAM)
    with far:
        run_worker(settings(), [datagrams], near, None)
        (line, rest) = far.recv(1000).split(b"\n")
        assert rest == b""
        said = json.loads(line)
        assert said["is"] == "failed"
        assert said["why"]
        assert far.recv(1000) == b""
    assert datagrams.fileno() == near.fileno() == -1


def test_a_worker_that_cannot_begin_when_nobody_is_there_any_more() -> None:
    """It just ends."""
    near, far = socket.socketpair()
    far.close()
    run_worker(settings("nowhere:x"), [], near, None)
    assert near.fileno() == -1
