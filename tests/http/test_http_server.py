"""The server: where it listens, how it stops, what it logs, and `serve`, which does everything."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.http.serving import Client, Site, parse, request
from tests.support.turning import PATIENCE

from nimloop_core import Loop
from nimloop_http import HttpRequest, HttpResponse, HttpServer, Limits, ResponseStream, Timeouts, serve
from nimloop_http.server import access
from nimloop_net import AddressError

pytest_plugins = ("tests.http.fixtures",)


def echo(req: HttpRequest, res: HttpResponse) -> None:
    """Answer with the target."""
    res.send(req.target)


# Listening -----------------------------------------------------------------------------------------------------------


def test_it_listens_on_several_addresses(site: Site, tmp_path: Path) -> None:
    """Free ports and Unix paths, all served alike; `addresses` tells them."""
    path = str(tmp_path / "http")
    server = site.start(echo)
    second = server.listen("127.0.0.1", 0)
    server.listen_unix(path, 0o600)
    assert server.addresses[1:] == [*second, path]
    assert Path(path).stat().st_mode & 0o777 == 0o600
    for address in server.addresses:
        with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as sock:
            sock.connect(address)
            sock.setblocking(False)
            client = Client(site, sock)
            client.send(request("GET", "/x"))
            assert client.answer().body == b"/x"
    server.close()
    assert server.addresses == []
    assert not Path(path).exists()


def test_a_port_that_is_taken_is_an_error(site: Site, tmp_path: Path) -> None:
    """So is a path that is something else."""
    server = site.start(echo)
    ((_, port),) = server.listen("127.0.0.1", 0)
    with pytest.raises(OSError):
        server.listen("127.0.0.1", port)
    (tmp_path / "file").touch()
    with pytest.raises(AddressError):
        server.listen_unix(str(tmp_path / "file"))


def test_a_port_can_be_shared(site: Site) -> None:
    """With `reuse_port`, two servers listen on the same."""
    with HttpServer(site.loop, echo) as one, HttpServer(site.loop, echo) as other:
        ((_, port),) = one.listen("127.0.0.1", 0, reuse_port=True)
        assert other.listen("127.0.0.1", port, reuse_port=True) == [("127.0.0.1", port)]


def test_the_handler_can_be_replaced(site: Site) -> None:
    """From then on, also on connections that are open."""
    server = site.start(echo)
    client = site.dial()
    client.send(request("GET", "/"))
    client.answer()
    server.on_request = lambda _req, res: res.send("new")
    client.send(request("GET", "/"))
    assert client.answer().body == b"new"


@pytest.mark.parametrize(
    ("methods", "passes"),
    [(None, {"GET", "CONNECT", "BREW"}), (frozenset({"GET"}), {"GET"}), (frozenset({"BREW"}), {"BREW"})],
)
def test_methods_that_are_not_wanted_get_501(site: Site, methods: frozenset[str] | None, passes: set[str]) -> None:
    """Those that are reach the handler, known or not."""
    site.start(lambda _req, res: res.status(202).send(), methods=methods)
    for method in ("GET", "CONNECT", "BREW"):
        target = "x:1" if method == "CONNECT" else "/"
        data = request(method, target, "Connection: close")
        client = site.dial()
        client.send(data)
        status = int(client.read_all().split()[1])
        assert status == (202 if method in passes else 501)


def test_who_looks_at_the_heads_may_change_at_any_time(site: Site) -> None:
    """From the next request on, also of connections that are open."""
    server = site.start(echo)
    client = site.dial()
    statuses = []
    for on_headers in (None, lambda _req, res: res.send_error(403), None):
        server.on_headers = on_headers
        assert server.on_headers is on_headers
        client.send(request())
        statuses.append(client.answer().status)
    assert statuses == [200, 403, 200]


def test_tunnels_are_not_offered_unasked(site: Site) -> None:
    """CONNECT is a standard method, but what would follow its answer is no HTTP."""
    with HttpServer(site.loop, echo) as server:
        assert server.methods is not None
        assert "CONNECT" not in server.methods
        assert {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"} == server.methods


# Stopping ------------------------------------------------------------------------------------------------------------


def refused(address: object) -> bool:
    """Tell whether nobody listens any more."""
    assert isinstance(address, tuple)
    with socket.socket() as sock:
        return sock.connect_ex(address) != 0


def test_h13_shutdown_answers_what_is_under_way(site: Site) -> None:
    """Idle connections end at once; late answers, streams and bodies that are arriving are finished first."""
    kept: dict[str, HttpResponse] = {}
    done: list[int] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        kept[req.path] = res
        if req.path == "/idle" or req.body:
            res.send("x")

    server = site.start(on_request)
    (address,) = server.addresses
    silent, idle, late, streaming, sending = (site.dial() for _ in range(5))
    idle.send(request("GET", "/idle"))
    idle.answer()
    late.send(request("GET", "/a") + request("GET", "/b"))
    streaming.send(request("GET", "/stream"))
    sending.send(request("POST", "/post", "Content-Length: 4") + b"ab")
    site.until(lambda: len(kept) == 4)
    site.settle()
    stream = kept["/stream"].stream()
    stream.write("be")
    server.shutdown(5.0, done.append)
    server.shutdown(5.0)  # changes nothing
    assert server.addresses == []
    assert refused(address)
    assert silent.read_all() == idle.read_all() == b""
    late.send(request("GET", "/c"))
    sending.send(b"cd" + request("GET", "/d"))
    (answer,) = parse(sending.read_all(), ["POST"], ended=True)
    assert (answer.body, answer.get("connection")) == (b"x", "close")
    stream.write("gun")
    stream.end()
    (answer,) = parse(streaming.read_all(), ["GET"], ended=True)
    assert (answer.body, answer.get("connection")) == (b"begun", None)  # the head was out before
    assert done == []
    kept["/b"].send("b")
    kept["/a"].send("a")
    answers = parse(late.read_all(), ["GET", "GET"], ended=True)
    assert [(answer.body, answer.get("connection")) for answer in answers] == [(b"a", None), (b"b", "close")]
    for client in (silent, idle, late, streaming, sending):
        client.close()
    site.until(lambda: done)
    assert done == [0]
    assert set(kept) == {"/idle", "/a", "/b", "/stream", "/post"}


@pytest.mark.parametrize("sent", [0, 5])
def test_h13_a_client_that_has_just_connected_gets_its_answer(timed_site: Site, sent: int) -> None:
    """Its request may be on the way already. One is answered, and no more; nobody is waited for long."""
    asked: list[str] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        asked.append(req.path)
        res.send("just in time")

    done: list[int] = []
    server = timed_site.start(on_request)
    client, silent = timed_site.dial(), timed_site.dial()
    client.send(request()[:sent] or b"")
    timed_site.settle()
    server.shutdown(10.0, done.append)
    timed_site.settle()
    client.send(request()[sent:] + request("GET", "/next"))
    answer = parse(client.read_all(), ["GET"], ended=True)[0]
    assert (answer.body, answer.get("connection")) == (b"just in time", "close")
    assert asked == ["/"]
    client.close()
    timed_site.pass_time(0.6, 0.01)
    assert silent.poll()
    silent.close()
    timed_site.until(lambda: done)
    assert done == [0]


def test_h13_a_request_that_is_in_the_kernel_already_is_answered(site: Site) -> None:
    """An idle connection is looked at once more: the client has sent it before anybody could tell it not to."""
    done: list[int] = []
    server = site.start(lambda _req, res: res.send("just in time"))
    client, idle = site.dial(), site.dial()
    for each in (client, idle):
        each.send(request())
        each.answer()
    client.sock.send(request("GET", "/last"))
    server.shutdown(10.0, done.append)
    answer = parse(client.read_all(), ["GET"], ended=True)[0]
    assert (answer.body, answer.get("connection")) == (b"just in time", "close")
    assert idle.read_all() == b""
    client.close()
    idle.close()
    site.until(lambda: done)
    assert done == [0]


@pytest.mark.parametrize("rest", [False, True])
def test_h13_a_request_half_of_which_is_in_the_kernel_has_a_moment(timed_site: Site, *, rest: bool) -> None:
    """An idle connection is looked at once more: what has begun to come is answered, or refused soon."""
    server = timed_site.start(lambda _req, res: res.send("just in time"))
    client = timed_site.dial()
    client.send(request())
    client.answer()
    client.sock.send(request("GET", "/last")[:10])
    server.shutdown(10.0)
    timed_site.settle()
    assert not client.poll()
    if rest:
        client.send(request("GET", "/last")[10:])
    timed_site.pass_time(0.6, 0.01)
    (answer,) = parse(client.read_all(), ["GET"], ended=True)
    assert (answer.status, answer.get("connection")) == (200 if rest else 408, "close")


def test_h13_what_is_busy_after_the_grace_is_cut(timed_site: Site) -> None:
    """And counted; each of its responses is told."""
    told: list[str] = []
    done: list[int] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        res.on_close = lambda: told.append(req.path)

    server = timed_site.start(on_request, timeouts=Timeouts(grace=3.0))
    busy, other, idle = (timed_site.dial() for _ in range(3))
    busy.send(request("GET", "/1") + request("GET", "/2"))
    other.send(request("GET", "/3"))
    timed_site.settle()
    server.shutdown(on_done=done.append)
    timed_site.pass_time(0.6, 0.01)
    assert idle.read_all() == b""
    idle.close()
    timed_site.pass_time(2.3, 0.1)
    assert (told, done) == ([], [])
    timed_site.pass_time(0.2, 0.1)
    assert (sorted(told), done) == (["/1", "/2", "/3"], [2])
    for client in (busy, other):
        with pytest.raises(ConnectionResetError):
            client.read_all()


def test_shutdown_from_a_handler_lets_it_answer(site: Site) -> None:
    """Before or after its own answer; what was pipelined behind it is not handled."""
    for before in (True, False):
        done: list[int] = []
        seen: list[str] = []

        def on_request(
            req: HttpRequest,
            res: HttpResponse,
            before: bool = before,  # noqa: FBT001
            done: list[int] = done,
            seen: list[str] = seen,
        ) -> None:
            seen.append(req.path)
            if before:
                site.server.shutdown(5.0, done.append)
            res.send("bye")
            if not before:
                site.server.shutdown(5.0, done.append)

        site.start(on_request)
        client = site.dial()
        client.send(request("GET", "/1") + request("GET", "/2"))
        (answer,) = parse(client.read_all(), ["GET"], ended=True)
        assert answer.body == b"bye"
        assert answer.get("connection") == ("close" if before else None)
        client.close()
        site.until(lambda done=done: done)  # type: ignore[misc]
        assert (done, seen) == ([0], ["/1"])


def test_shutdown_answers_what_waits_in_the_backlog(site: Site) -> None:
    """Each of those that nobody has accepted yet gets its answer, which is the last of its connection."""
    done: list[int] = []
    server = site.start(echo)
    (address,) = server.addresses
    waiting = [site.dial() for _ in range(20)]  # the loop does not run meanwhile
    for number, client in enumerate(waiting):
        client.send(request("GET", f"/{number}"))
    server.shutdown(5.0, done.append)
    assert refused(address)
    assert repr(server) == "<HttpServer stopping>"
    for number, client in enumerate(waiting):
        (answer,) = parse(client.read_all(), ["GET"], ended=True)
        assert (answer.body, answer.get("connection")) == (f"/{number}".encode(), "close")
        client.close()
    site.until(lambda: done)
    assert done == [0]


def test_repr_tells_where_it_listens(site: Site, tmp_path: Path) -> None:
    """Every address as it stands in a URL, and whether there is any."""
    server = HttpServer(site.loop, echo)
    assert repr(server) == "<HttpServer not listening>"
    _, port = server.listen("127.0.0.1", 0)[0]
    assert repr(server) == f"<HttpServer listening on 127.0.0.1:{port}>"
    path = str(tmp_path / "socket")
    server.listen_unix(path)
    assert repr(server) == f"<HttpServer listening on 127.0.0.1:{port}, '{path}'>"
    server.close()
    assert repr(server) == "<HttpServer closed>"
    if socket.has_ipv6:
        with HttpServer(site.loop, echo) as server:
            _, port = server.listen("::1", 0)[0]
            assert repr(server) == f"<HttpServer listening on [::1]:{port}>"


def test_retire_answers_what_is_on_its_way(site: Site) -> None:
    """On idle connections and on those that nobody has accepted yet; each ends with it, and nobody else gets in."""
    server = site.start(echo)
    (address,) = server.addresses
    idle = site.dial()
    idle.send(request("GET", "/1"))
    assert idle.answer().get("connection") is None
    waiting = [site.dial() for _ in range(100)]  # the loop does not run meanwhile: all of them are in the backlog
    server.retire()
    assert server.stopping
    assert server.addresses == []
    assert refused(address)
    site.settle()
    assert server.stats.connections == 101
    for number, client in enumerate([idle, *waiting]):
        client.send(request("GET", f"/{number}"))
        (answer,) = parse(client.read_all(), ["GET"], ended=True)
        assert (answer.body, answer.get("connection")) == (f"/{number}".encode(), "close")
    done: list[int] = []
    server.shutdown(5.0, done.append)
    site.until(lambda: done)
    assert done == [0]


@pytest.mark.parametrize("grace", [-1.0, float("nan")])
def test_shutdown_within_no_time(grace: float, site: Site) -> None:
    """A grace that is no time is refused before anything ends: also who comes later is served on."""
    server = site.start(echo)
    addresses = server.addresses
    with pytest.raises(ValueError, match="delay"):
        server.shutdown(grace)
    assert (server.stopping, server.addresses) == (False, addresses)
    client = site.dial()
    for path in ("/1", "/2"):
        client.send(request("GET", path))
        assert client.answer().get("connection") is None
    client.close()


def test_shutdown_without_connections_is_done_at_once(site: Site) -> None:
    """And may be repeated."""
    done: list[int] = []
    server = site.start(echo)
    server.shutdown(5.0, done.append)
    server.shutdown(5.0, done.append)
    site.until(lambda: len(done) == 2)
    assert done == [0, 0]


def test_close_cuts_everything_now(site: Site) -> None:
    """Clients see a reset, responses are told, and the server listens no more."""
    told: list[str] = []

    def on_request(_req: HttpRequest, res: HttpResponse) -> None:
        res.on_close = lambda: told.append("response")

    server = site.start(on_request)
    (address,) = server.addresses
    busy, idle = site.dial(), site.dial()
    busy.send(request())
    site.settle()
    server.close()
    server.close()
    assert refused(address)
    site.settle()
    assert told == ["response"]
    for client in (busy, idle):
        with pytest.raises(ConnectionResetError):
            client.read_all()


# The access log ------------------------------------------------------------------------------------------------------


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """Collect the access log, with times masked, and the sizes of error texts, whose words are not promised."""
    with caplog.at_level(logging.INFO, access.name):
        yield lambda: [
            re.sub(r"(?<= 400 )\d+ |\d+\.\dms$", "…", record.getMessage())
            for record in caplog.records
            if record.name == "nimloop.http.access" and record.levelno == logging.INFO
        ]


def test_each_answer_is_a_line(site: Site, lines: Callable[[], list[str]]) -> None:
    """Client, request line, status, bytes of the body and time; whole, streamed, failed or refused."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        match req.path:
            case "/stream":
                stream = res.stream()
                stream.write("four")
                stream.end()
            case "/fail":
                raise ZeroDivisionError
            case _:
                res.send("hello")

    site.start(on_request, access_log=True)
    site.ask(
        request("GET", "/a?b=c")
        + request("HEAD", "/")
        + request("GET", "/stream")
        + request("GET", "/fail")
        + request("GET", '/"-"')
        + request("POST", "/", "Transfer-Encoding: chunked")
        + b"zz\r\n",
        *["GET", "HEAD", "GET", "GET", "GET", "POST"],
    )
    site.ask(b"GET / HTTP/1.0\r\n\r\n")
    site.ask(b"\0")
    assert isinstance(site.errors.pop(), ZeroDivisionError)
    assert lines() == [
        '127.0.0.1 "GET /a?b=c HTTP/1.1" 200 5 …',
        '127.0.0.1 "HEAD / HTTP/1.1" 200 0 …',
        '127.0.0.1 "GET /stream HTTP/1.1" 200 4 …',
        '127.0.0.1 "GET /fail HTTP/1.1" 500 26 …',
        '127.0.0.1 "GET /%22-%22 HTTP/1.1" 200 5 …',
        '127.0.0.1 "POST / HTTP/1.1" 400 ……',
        '127.0.0.1 "GET / HTTP/1.0" 200 5 …',
        '127.0.0.1 "-" 400 ……',
    ]


def test_the_time_is_the_handler_s(timed_site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """From the complete request to the complete answer."""
    caplog.set_level(logging.INFO, access.name)
    timed_site.start(lambda _req, res: timed_site.loop.call_later(0.25, res.send), access_log=True)
    client = timed_site.dial()
    client.send(request())
    timed_site.settle()
    timed_site.pass_time(0.3)
    client.answer()
    (record,) = caplog.records
    assert record.getMessage() == '127.0.0.1 "GET / HTTP/1.1" 200 0 250.0ms'


def test_a_unix_client_has_no_address(site: Site, tmp_path: Path, lines: Callable[[], list[str]]) -> None:
    """The log says unix instead."""
    path = str(tmp_path / "http")
    site.start(echo, access_log=True).listen_unix(path)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        sock.setblocking(False)
        client = Client(site, sock)
        client.send(request())
        client.answer()
    assert lines() == ['unix "GET / HTTP/1.1" 200 1 …']


def test_without_being_asked_it_logs_nothing(site: Site, lines: Callable[[], list[str]]) -> None:
    """A library is quiet, and a broken request is nothing that anybody here could mend."""
    site.start(echo)
    site.ask(request())
    site.ask(b"\0")
    assert lines() == []


# serve ---------------------------------------------------------------------------------------------------------------


def test_serve_listens_serves_and_ends(tmp_path: Path) -> None:
    """It runs until a signal, here one that the handler sends, and puts the old signal handlers back."""
    path = str(tmp_path / "http")
    old = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    seen: list[object] = []
    with socket.socket(socket.AF_UNIX) as sock:

        def on_listening(server: HttpServer) -> None:
            seen.extend(server.addresses)
            sock.connect(path)
            sock.sendall(request("GET", "/", "Connection: close"))

        def on_request(_req: HttpRequest, res: HttpResponse) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            res.send("last words")

        assert serve(on_request, uds=path, on_listening=on_listening, backend="poll", access_log=True) == 0
        assert seen == [path]
        assert parse(sock.recv(65536), ["GET"])[0].body == b"last words"
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == old
    assert not Path(path).exists()


def test_serve_needs_nobody_to_tell(tmp_path: Path) -> None:
    """`on_listening` is optional: whoever connects is served."""
    path = str(tmp_path / "http")

    def ask() -> None:
        deadline = time.monotonic() + PATIENCE
        with socket.socket(socket.AF_UNIX) as sock:
            while sock.connect_ex(path) != 0:
                assert time.monotonic() < deadline
            sock.sendall(request("GET", "/", "Connection: close"))
            assert sock.recv(65536).endswith(b"bye")

    def on_request(_req: HttpRequest, res: HttpResponse) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        res.send("bye")

    client = threading.Thread(target=ask)
    client.start()
    assert serve(on_request, uds=path) == 0
    client.join()


def test_serve_counts_what_it_had_to_cut() -> None:
    """After the grace, whose length is one of the time-outs, it ends all the same."""
    with socket.socket() as sock:

        def on_listening(server: HttpServer) -> None:
            sock.connect(server.addresses[0])
            sock.sendall(request())

        cut = serve(
            lambda _req, _res: os.kill(os.getpid(), signal.SIGINT),
            port=0,
            on_listening=on_listening,
            timeouts=Timeouts(grace=0.05),
            limits=Limits(body=0),
        )
        assert cut == 1


def test_a_second_signal_ends_at_once() -> None:
    """Nobody has to wait for a grace of minutes."""
    started = time.monotonic()
    with socket.socket() as sock:

        def on_listening(server: HttpServer) -> None:
            sock.connect(server.addresses[0])
            sock.sendall(request())

        def on_request(_req: HttpRequest, res: HttpResponse) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            loop = res.connection.loop
            loop.call_later(0.05, lambda: os.kill(os.getpid(), signal.SIGTERM))

        assert serve(on_request, port=0, on_listening=on_listening, timeouts=Timeouts(grace=600.0)) == 1
    assert time.monotonic() - started < PATIENCE


def test_serve_says_when_it_cannot_listen() -> None:
    """With the exception of the system."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError):
        serve(echo, port=taken.getsockname()[1])


PROGRAM = """
    from nimloop_http import serve

    kept = []

    def on_request(req, res):
        if req.path == "/keep":
            kept.append(res)
            print("kept", flush=True)
        else:
            res.send("hello")

    print("end", serve(on_request, port=0, on_listening=lambda server: print(server.addresses[0][1], flush=True)))
"""


@pytest.fixture
def program() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a server as a process of its own; gives it, and its port."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-X", "dev", "-c", textwrap.dedent(PROGRAM)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_ends_cleanly_on_a_signal(program: tuple[subprocess.Popen[str], int], number: signal.Signals) -> None:
    """Exit status 0, no traceback, no warning, and an idle client sees the end."""
    process, port = program
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.sendall(request())
        assert sock.recv(65536).endswith(b"hello")
        process.send_signal(number)
        assert sock.recv(65536) == b""
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, "end 0\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_ends_at_once_on_a_second_signal(
    program: tuple[subprocess.Popen[str], int], number: signal.Signals
) -> None:
    """A request that is never answered holds it back only until then."""
    process, port = program
    assert process.stdout is not None
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as busy:
        busy.sendall(request("GET", "/keep"))
        assert process.stdout.readline() == "kept\n"
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as idle:
            idle.sendall(request())
            assert idle.recv(65536).endswith(b"hello")
            process.send_signal(number)
            assert idle.recv(65536) == b""  # so the first signal was seen
        process.send_signal(number)
        with pytest.raises(ConnectionResetError):
            busy.recv(1)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, "end 1\n", "")


def test_a_server_needs_no_with(tmp_path: Path) -> None:
    """`close` alone does it, also on a loop that never ran."""
    with Loop() as loop:
        server = HttpServer(loop, echo)
        server.listen_unix(str(tmp_path / "http"))
        server.close()
    assert list(tmp_path.iterdir()) == []


def test_streams_live_until_shutdown_ends_them(site: Site) -> None:
    """A stream that its handler ends when the server stops leaves nothing to cut."""
    streams: list[ResponseStream] = []
    done: list[int] = []
    server = site.start(lambda _req, res: streams.append(res.stream()))
    client = site.dial()
    client.send(request())
    site.until(lambda: streams)
    server.shutdown(5.0, done.append)
    site.settle()
    streams[0].end()
    client.read_all()
    client.close()
    site.until(lambda: done)
    assert done == [0]
