"""Servers with several workers, over real sockets: M-1 to M-4, and rows M1 to M4 of the defect tables."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import pytest
from tests.mt import handlers
from tests.mt.conftest import Provoked
from tests.mt.serving import PATIENCE, Mode, ask, members, read_all, roll, seen, serving, until

from nimloop_core import BackendUnavailableError
from nimloop_http import HttpRequest, HttpResponse, Limits
from nimloop_mt import ModeError, MultiThreadHttpServer, ServerStartedError, WorkerStartError, _sockets

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="descriptors that are inherited"),
]
both = pytest.mark.parametrize("mode", ["processes", "threads"])


@both
def test_m1_starts_without_blocking_and_takes_the_settings_of_a_server(mode: Mode) -> None:
    """M1: two workers answer on one port, with limits of ours, and `start` has returned."""
    server = MultiThreadHttpServer(handlers.answer, workers=2, mode=mode, limits=Limits(request_line=100))
    with serving(server) as port:
        assert server.ready
        assert server.addresses == [("127.0.0.1", port)]
        assert len(seen(port, 2)) == 2
        assert ask(port, "/" + "x" * 200)[0] == 414


def test_m2_a_port_that_is_taken_is_told_to_the_caller() -> None:
    """M2: also when the other one would share it."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = MultiThreadHttpServer(handlers.answer, workers=2, mode="processes")
        with server, pytest.raises(OSError, match="in use"):
            server.listen("127.0.0.1", other.getsockname()[1])


@both
@pytest.mark.parametrize(
    ("what", "why"),
    [("nowhere:x", "no module 'nowhere'"), ("tests.mt.handlers:NOTHING", "cannot be called")],
)
def test_m2_a_handler_that_cannot_be_loaded_is_told_by_start(
    mode: Mode, what: str, why: str, descriptors: Callable[[], set[str]]
) -> None:
    """M2: with the reason; nothing is left running, once the threads that were given up have seen that."""
    before = descriptors()
    with MultiThreadHttpServer(what, workers=2, mode=mode) as server:
        server.listen("127.0.0.1", 0)
        with pytest.raises(WorkerStartError, match=why):
            server.start()
        assert server.pids == []
        with pytest.raises(ServerStartedError):
            server.start()
    until(lambda: descriptors() == before)


@both
def test_a_factory_that_fails_says_why(mode: Mode, descriptors: Callable[[], set[str]]) -> None:
    """The exception's name, its words and its place."""
    before = descriptors()
    with MultiThreadHttpServer(factory=handlers.broken, workers=1, mode=mode) as server:
        server.listen("127.0.0.1", 0)
        with pytest.raises(WorkerStartError, match=r"RuntimeError: no luck \(.*handlers\.py, line \d+\)"):
            server.start()
    until(lambda: descriptors() == before)


@both
def test_m3_drains_what_is_under_way(mode: Mode) -> None:
    """M3: a request whose head is half there when the server is told to stop is answered, and says it was the last."""
    with MultiThreadHttpServer(handlers.answer, workers=2, mode=mode) as server:
        ((_, port),) = server.listen("127.0.0.1", 0)
        server.start()
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"200 OK" in client.recv(65536)
            client.sendall(b"GET /last HTTP/1.1\r\n")
            server.shutdown(PATIENCE)
            until(lambda: not server.ready)
            client.sendall(b"Host: a\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(65536), b""))
            assert b"answer to /last" in answer
            assert b"connection: close" in answer.lower()
        report = server.join(PATIENCE)
        assert report is not None
        assert (report.aborted, report.killed, report.restarts) == (0, 0, 0)


@both
def test_m4_statistics_are_added_up(mode: Mode) -> None:
    """M4: over all workers, also those that have ended."""
    server = MultiThreadHttpServer(handlers.answer, workers=2, mode=mode)
    with serving(server) as port:
        asked = 0
        found: set[str] = set()
        while len(found) < 2:
            found.add(ask(port)[1])
            asked += 1
        until(lambda: server.stats.responses == asked)
        assert server.stats.statuses == {200: asked}
        assert sum(each.responses for each in server.stats_by_worker) == asked
        server.roll()
        until(lambda: server.ready and not found & seen(port, 2))
    assert server.stats.responses > asked


def test_a_killed_worker_is_replaced(provoked: Provoked) -> None:
    """The other one serves on meanwhile; the place is filled again."""
    provoked("signal SIGKILL")
    server = MultiThreadHttpServer("tests.mt.handlers:answer", workers=2, mode="processes")
    with serving(server) as port:
        first = set(server.pids)
        victim = min(first)
        os.kill(victim, signal.SIGKILL)
        until(lambda: server.ready and victim not in server.pids and len(server.pids) == 2)
        assert len(seen(port, 2)) == 2
        server.shutdown(0.2)
        report = server.join(PATIENCE)
        assert report is not None
        assert report.restarts == 1


def test_a_worker_that_hangs_is_killed_by_the_watchdog(provoked: Provoked) -> None:
    """Its own connection fails; others are answered meanwhile and after."""
    provoked("has not answered for 3 s")
    server = MultiThreadHttpServer(handlers.answer, workers=2, mode="processes", watchdog=3.0)
    with serving(server) as port:
        before = set(server.pids)
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            client.sendall(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
            try:
                assert client.recv(100) == b""
            except ConnectionResetError:
                pass
        until(lambda: server.ready and len(before & set(server.pids)) == 1)
        assert ask(port)[0] == 200


@both
def test_a_roll_loses_no_request(mode: Mode) -> None:
    """Clients that keep their connections, and clients that do not, ask all the time while all workers are replaced."""
    server = MultiThreadHttpServer(handlers.answer, workers=2, mode=mode)
    with serving(server) as port:
        stop = threading.Event()
        failures: list[object] = []

        def keep() -> None:
            client = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            while not stop.is_set():
                try:
                    client.request("GET", "/")  # connects again after an answer that said close
                    answer = client.getresponse()
                    if answer.status != 200 or not answer.read():
                        failures.append(answer.status)
                except OSError as error:
                    failures.append(error)
                    break
            client.close()

        def come_and_go() -> None:
            while not stop.is_set():
                try:
                    ask(port)
                except OSError as error:
                    failures.append(error)

        clients = [threading.Thread(target=each) for each in (keep, keep, come_and_go)]
        for client in clients:
            client.start()
        for _ in range(2):
            roll(server)
        stop.set()
        for client in clients:
            client.join(PATIENCE)
        assert failures == []


def test_max_requests_recycles() -> None:
    """A worker that has answered enough is replaced, without a pause."""
    server = MultiThreadHttpServer(handlers.answer, workers=1, mode="processes", max_requests=3)
    with serving(server) as port:
        (first,) = server.pids
        until(lambda: ask(port)[0] == 200 and not ask(port)[1].startswith(f"{first}."))
        assert server.stats.statuses.keys() == {200}


def test_max_memory_recycles() -> None:
    """So does one that uses too much: this limit is below what any interpreter needs."""
    server = MultiThreadHttpServer(handlers.answer, workers=1, mode="processes", max_memory=1 << 20)
    with serving(server):
        first = server.pids[0]
        until(lambda: first not in server.pids)


@both
def test_handover(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    """M-3: one place accepts, and the workers get connections in turn, as where SO_REUSEPORT does not balance."""
    monkeypatch.setattr("nimloop_mt._member._SLOW", PATIENCE)  # nobody is passed over on a busy machine
    server = MultiThreadHttpServer(handlers.answer, workers=2, mode=mode, handover=True)
    with serving(server) as port:
        answers = [ask(port)[1] for _ in range(20)]
        assert sorted(answers.count(each) for each in set(answers)) == [10, 10]


@both
@pytest.mark.parametrize("hands_over", [True, False])
def test_m3_where_the_kernel_does_not_spread_connections(
    mode: Mode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, hands_over: bool
) -> None:
    """M-3: it is said what happens instead, and every connection is served."""
    monkeypatch.setattr("nimloop_mt.server.BALANCES", False)
    monkeypatch.setattr("nimloop_mt.server.HANDS_OVER", hands_over)
    caplog.set_level(logging.INFO, "nimloop.mt")
    server = MultiThreadHttpServer(handlers.answer, workers=2, mode=mode)
    assert ("hands them over" if hands_over else "accept from one") in caplog.text
    with serving(server) as port:
        assert [ask(port)[0] for _ in range(20)] == [200] * 20
    if not hands_over:
        with pytest.raises(ModeError, match="SCM_RIGHTS"):
            MultiThreadHttpServer(handlers.answer, handover=True)


def test_connections_spread_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many connections, each of two workers gets its half within a fifth."""
    monkeypatch.setattr("nimloop_mt._member._SLOW", PATIENCE)
    server = MultiThreadHttpServer(handlers.answer, workers=2, mode="processes")
    with serving(server) as port:
        answers = [ask(port)[1] for _ in range(600)]
        assert all(240 <= answers.count(each) <= 360 for each in set(answers))


@both
def test_unix_socket(mode: Mode, tmp_path: Path) -> None:
    """One listener, from which all accept; the path goes with the server."""
    path = str(tmp_path / "s")
    with MultiThreadHttpServer(handlers.answer, workers=2, mode=mode) as server:
        server.listen_unix(path)
        server.start()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(path)
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert b"answer to /" in b"".join(iter(lambda: client.recv(65536), b""))
        server.shutdown(0.2)
        server.join(PATIENCE)
    assert not Path(path).exists()


@both
def test_tls(mode: Mode, tmp_path: Path) -> None:
    """Each worker reads the certificate by itself."""
    pytest.importorskip("trustme")
    from tests.net.certificates import certificate, client_context  # noqa: PLC0415 - not everywhere

    made = certificate()
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(each.bytes() for each in made.cert_chain_pems))
    key.write_bytes(made.private_key_pem.bytes())
    server = MultiThreadHttpServer(handlers.answer, workers=2, mode=mode, tls=(str(chain), str(key)))
    with serving(server) as port:
        client = HTTPSConnection("localhost", port, timeout=PATIENCE, context=client_context())
        client.request("GET", "/secret")
        assert client.getresponse().read() == b"answer to /secret"
        client.close()


def test_factory_and_wsgi() -> None:
    """A factory gets its worker's server; a WSGI application is known by its parameters."""
    with serving(MultiThreadHttpServer(factory="tests.mt.handlers:make", workers=1, mode="processes")) as port:
        assert ask(port)[2] == "True True"
    with serving(MultiThreadHttpServer("tests.mt.handlers:application", workers=1, mode="processes")) as port:
        assert ask(port)[2] == "from WSGI"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_fork(provoked: Provoked) -> None:
    """A copy of this process needs no name for its handler; a new one cannot be told of a function inside another."""
    provoked("signal SIGKILL")

    def inner(req: HttpRequest, res: HttpResponse) -> None:
        handlers.answer(req, res)

    with pytest.raises(WorkerStartError, match="fork"):
        MultiThreadHttpServer(inner, workers=1, mode="processes")
    server = MultiThreadHttpServer(inner, workers=2, mode="processes", start_method="fork")
    with serving(server) as port:
        found = seen(port, 2)
        os.kill(min(server.pids), signal.SIGKILL)
        until(lambda: server.ready and len(found | seen(port, 2)) == 3)


def test_a_hundred_restarts_leave_nothing(descriptors: Callable[[], set[str]]) -> None:
    """No descriptor and no process is left over when workers are replaced over and over."""
    server = MultiThreadHttpServer(handlers.answer, workers=2, mode="threads")
    with serving(server) as port:
        until(lambda: server.ready)
        open_before = len(descriptors())
        for _ in range(50):
            roll(server)
        assert ask(port)[0] == 200
        until(lambda: len(members(server)) == 2 and len(descriptors()) <= open_before)


def test_health() -> None:
    """The supervisor answers on a port of its own."""
    server = MultiThreadHttpServer(handlers.answer, workers=1, mode="processes")
    ((_, health),) = server.listen_health("127.0.0.1", 0)
    with serving(server) as port:
        assert ask(health, "/live")[0] == 200
        assert ask(health, "/ready")[0] == 200
        ask(port)
        until(lambda: 'responses_total{status="200"} 1' in ask(health, "/metrics")[2])
        assert ask(health, "/other")[0] == 404


def test_wrong_settings() -> None:
    """Are refused at once, with the rule."""
    with pytest.raises(ValueError, match="either"):
        MultiThreadHttpServer()
    with pytest.raises(ValueError, match="positive"):
        MultiThreadHttpServer(handlers.answer, workers=-1)
    with pytest.raises(ValueError, match="give proxies"):
        MultiThreadHttpServer(handlers.answer, proxy_protocol=True)
    with pytest.raises(ValueError, match="one of auto, threads, processes, not 'process'"):
        MultiThreadHttpServer(handlers.answer, mode="process")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one of spawn, fork, not 'forkserver'"):
        MultiThreadHttpServer(handlers.answer, start_method="forkserver")  # type: ignore[arg-type]
    with pytest.raises(ModeError, match="share"):
        MultiThreadHttpServer(handlers.answer, mode="threads", max_memory=1)
    with pytest.raises(ValueError, match="max_requests has to be more than 0"):
        MultiThreadHttpServer(handlers.answer, max_requests=0)
    with pytest.raises(ValueError, match="watchdog has to be more than 0, and finite"):
        MultiThreadHttpServer(handlers.answer, watchdog=float("nan"))


def test_repr_tells_where_it_listens() -> None:
    """From the first call of `listen` to the end."""
    handlers.waiting.clear()
    handlers.released.clear()
    with MultiThreadHttpServer(handlers.answer, workers=2, mode="threads") as server:
        assert repr(server) == "<MultiThreadHttpServer not listening threads=2>"
        _, port = server.listen("127.0.0.1", 0)[0]
        server.start()
        assert repr(server) == f"<MultiThreadHttpServer listening on 127.0.0.1:{port} threads=2>"
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            client.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
            until(handlers.waiting.is_set)
            server.shutdown(PATIENCE)
            until(lambda: repr(server) == "<MultiThreadHttpServer stopping threads=2>")
            handlers.released.set()
            assert b"late" in read_all(client)
        assert server.join(PATIENCE) is not None
        assert repr(server) == "<MultiThreadHttpServer closed threads=2>"


def test_join_before_and_close_after_the_start(descriptors: Callable[[], set[str]]) -> None:
    """There is nothing to wait for, and nothing left behind; a server that runs is ended by `close`."""
    before = descriptors()
    server = MultiThreadHttpServer(handlers.answer, workers=2, mode="threads")
    ((_, port),) = server.listen("127.0.0.1", 0)
    assert server.join() is None
    server.start()
    assert ask(port)[0] == 200
    server.close()
    assert server.join() is not None
    server.close()
    until(lambda: descriptors() == before)  # a thread takes its time to end
    with pytest.raises(ConnectionRefusedError):
        ask(port)


def test_a_backend_that_is_not_here_is_told() -> None:
    """By the caller's own exception; the server has ended."""
    server = MultiThreadHttpServer(handlers.answer, workers=1, mode="threads", backend="abacus")
    server.listen("127.0.0.1", 0)
    with pytest.raises(BackendUnavailableError, match="abacus"):
        server.run()
    assert server.addresses == []
    with pytest.raises(ServerStartedError):
        server.start()


def test_a_handler_that_a_new_process_cannot_read_is_told_by_start() -> None:
    """With what went wrong there."""
    with MultiThreadHttpServer(handlers.Unreadable(), workers=1, mode="processes") as server:
        server.listen("127.0.0.1", 0)
        with pytest.raises(WorkerStartError, match="ValueError: not for you"):
            server.start()


def test_a_factory_that_wants_to_end_it_all_ends_its_worker() -> None:
    """And says so."""
    with MultiThreadHttpServer(factory=handlers.ending, workers=1, mode="processes") as server:
        server.listen("127.0.0.1", 0)
        with pytest.raises(WorkerStartError, match="SystemExit: no more"):
            server.start()


def test_a_port_that_is_lost_meanwhile_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else has taken it between the first place and the second."""
    opened: list[socket.socket] = []

    def listen(*arguments: object, **settings: object) -> list[socket.socket]:
        if len(opened) == 2:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        opened.append(socket.create_server(("127.0.0.1", 0)))
        return opened[-1:]

    monkeypatch.setattr(_sockets, "listen_tcp", listen)
    sockets = _sockets.Sockets(2, balances=True)
    with pytest.raises(OSError, match="in use"):
        sockets.listen("127.0.0.1", 0, backlog=1)
    assert [sock.fileno() for sock in opened] == [-1, -1]
    assert sockets.everything() == []
