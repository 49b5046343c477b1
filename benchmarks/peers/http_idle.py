"""HTTP connections on one server, measured in this process; the clients are another one's.

Twice over: resident memory and CPU time first, then the Python heap, because tracing it adds to both. What a library
allocates in C shows in resident memory only. The floor is a process of its own, so it has no heap of Python.
"""

import asyncio
import contextlib
import gc
import select
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from _asgi import app
from _peer import BODY, HOST, PATH, many_connections, need, resident, say_build, say_compiled, say_result, skip

sys.path.append(str(Path(__file__).parent.parent))
from _harness import c_program
from _process import Skipped, cpu_of

try:
    import nimloop_core
    import nimloop_http
    import nimloop_net
    from nimloop_core import Loop
    from nimloop_http import HttpRequest, HttpResponse, HttpServer
except ImportError as missing:
    skip(missing)

_PATIENCE: Final = 120.0
# Requests that CPU time is taken over: enough to be counted in ticks of 10 ms.
_REQUESTS: Final = 40_000
_TURN: Final = 0.01
# Each line is a port and how many connections there shall be, or how often each of them shall ask.
_CLIENTS: Final = """
import resource, socket, sys
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
request, body = sys.argv[1].encode(), sys.argv[2].encode()
held = []
for line in sys.stdin:
    word, port, count = line.split()
    if word == "open":
        held = [socket.create_connection(("127.0.0.1", int(port))) for _ in range(int(count))]
        count = 1
    elif word == "close":
        for sock in held:
            sock.close()
        count = 0
    for _ in range(int(count)):
        for sock in held:
            sock.send(request)
        for sock in held:
            answer = b""
            while not answer.endswith(body):
                data = sock.recv(65536)
                if not data:
                    sys.exit(f"a wrong answer: {answer}")
                answer += data
    print("done", flush=True)
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """A server: its port, what it uses, and a way to let it work for a moment."""

    port: int
    turn: Callable[[], object]
    resident: Callable[[], int]
    cpu: Callable[[], float]


def own(port: int, turn: Callable[[], object]) -> Subject:
    """A server in this process."""
    return Subject(port, turn, resident, time.process_time)


@contextlib.contextmanager
def of_floor() -> Iterator[Subject]:
    """The floor in C."""
    with tempfile.TemporaryDirectory(prefix="nimloop-bench-") as directory:
        try:
            command = c_program("floor/floor.c")(Path(directory))
        except Skipped as why:
            skip(why)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as floor:
            assert floor.stdout is not None
            port = int(floor.stdout.readline().split()[1])
            pid = floor.pid
            yield Subject(port, lambda: time.sleep(_TURN), lambda: resident(pid), lambda: cpu_of([pid])[pid].total)
            floor.terminate()


@contextlib.contextmanager
def of_nimloop() -> Iterator[Subject]:
    """A Python handler, as in `hello_nimloop.py`."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        if req.path == PATH:
            res.send(BODY)
        else:
            res.status(404).send("Not Found")

    say_build(nimloop_core, nimloop_net, nimloop_http)
    say_compiled()
    with Loop() as loop, HttpServer(loop, on_request) as server:

        def turn() -> None:
            loop.call_later(_TURN, loop.stop)
            loop.run()

        yield own(server.listen(HOST, 0)[0][1], turn)


@contextlib.contextmanager
def of_asyncio(name: str) -> Iterator[Subject]:
    """A server of asyncio, on uvloop."""
    uvloop, library = need("uvloop"), need(name)
    say_build(library, uvloop)
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    start = {"uvicorn": start_uvicorn, "aiohttp": start_aiohttp, "tornado": start_tornado}[name]
    port = loop.run_until_complete(start(loop))
    yield own(port, lambda: loop.run_until_complete(asyncio.sleep(_TURN)))


async def start_uvicorn(loop: asyncio.AbstractEventLoop) -> int:
    """What `uvicorn.Server` does, without its signals."""
    uvicorn, state = need("uvicorn"), need("uvicorn.server").ServerState()
    config = uvicorn.Config(app, http="httptools", ws="none", lifespan="off", access_log=False, log_level="warning")
    config.timeout_keep_alive = _PATIENCE
    config.load()

    def protocol() -> asyncio.Protocol:
        made: asyncio.Protocol = config.http_protocol_class(config=config, server_state=state, app_state={}, _loop=loop)
        return made

    server = await loop.create_server(protocol, HOST, 0, backlog=1024)
    port: int = server.sockets[0].getsockname()[1]
    return port


async def start_aiohttp(_: asyncio.AbstractEventLoop) -> int:
    """An application with one route."""
    web = need("aiohttp.web")

    async def hello(_: object) -> object:
        return web.Response(text=BODY)

    site = web.Application()
    site.router.add_get(PATH, hello)
    runner = web.AppRunner(site, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, backlog=1024).start()
    port: int = runner.addresses[0][1]
    return port


async def start_tornado(_: asyncio.AbstractEventLoop) -> int:
    """An application with one route."""
    web, httpserver, netutil = need("tornado.web"), need("tornado.httpserver"), need("tornado.netutil")

    class Hello(web.RequestHandler):  # type: ignore[name-defined,misc]
        def get(self) -> None:
            self.write(BODY)

    (sock,) = netutil.bind_sockets(0, HOST, backlog=1024)
    httpserver.HTTPServer(web.Application([(PATH, Hello)], log_function=lambda _: None)).add_socket(sock)
    port: int = sock.getsockname()[1]
    return port


class Clients:
    """The other process."""

    def __init__(self, subject: Subject) -> None:
        request = f"GET {PATH} HTTP/1.1\r\nHost: {HOST}:{subject.port}\r\n\r\n"
        self._subject = subject
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CLIENTS, request, BODY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def do(self, word: str, count: int = 0) -> float:
        """Have the clients do something; return the CPU seconds that the server has spent on it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        before = self._subject.cpu()
        self._process.stdin.write(f"{word} {self._subject.port} {count}\n")
        self._process.stdin.flush()
        deadline = time.monotonic() + _PATIENCE
        while not select.select([self._process.stdout], [], [], 0)[0]:
            if time.monotonic() > deadline:
                raise SystemExit(f"not within {_PATIENCE:.0f} s: {word} {count}")
            self._subject.turn()
        if self._process.stdout.readline() != "done\n":
            raise SystemExit("the clients have ended early")
        spent = self._subject.cpu() - before
        for _ in range(20):
            self._subject.turn()
        gc.collect()
        return spent

    def end(self) -> None:
        """Close its input, which ends it."""
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()


def measure(subject: Subject, count: int, requests: int) -> dict[str, float]:
    """Tell what so many connections cost, each of them and each request."""
    clients = Clients(subject)
    clients.do("open", min(count, 50))  # what is made once and for all
    clients.do("ask", 20)
    clients.do("close")
    before = subject.resident()
    clients.do("open", count)
    figures = {"resident_bytes": (subject.resident() - before) / count}
    times = max(1, requests // count)
    figures["request_us"] = clients.do("ask", times) / (times * count) * 1e6
    clients.do("close")
    if subject.cpu is time.process_time:
        tracemalloc.start()
        gc.collect()
        traced = tracemalloc.get_traced_memory()[0]
        clients.do("open", count)
        figures["heap_bytes"] = (tracemalloc.get_traced_memory()[0] - traced) / count
        tracemalloc.stop()
        clients.do("close")
    clients.end()
    return figures


def main() -> None:
    """Measure the server that is asked for."""
    given = many_connections()
    servers = {"floor": of_floor, "nimloop": of_nimloop}
    with servers[given.loop]() if given.loop in servers else of_asyncio(given.loop) as subject:
        say_result(measure(subject, given.connections, _REQUESTS // 8 if given.quick else _REQUESTS))


if __name__ == "__main__":
    main()
