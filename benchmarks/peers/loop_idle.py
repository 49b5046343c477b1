"""Memory of idle connections on one loop, measured in this process; the clients are another one's.

Twice over: resident memory first, then the Python heap, because tracing the one adds to the other. What a library
allocates in C shows in resident memory only.
"""

import asyncio
import gc
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from _peer import HOST, many_connections, need, resident, say_build, say_compiled, say_result, skip

try:
    import nimloop_core
    import nimloop_net
    from nimloop_core import Loop
    from nimloop_net import Connection, TcpServer
except ImportError as missing:
    skip(missing)

_PATIENCE: Final = 60.0
# Opens as many connections as it is told, and closes them at the next word; ends with its standard input.
_CLIENTS: Final = """
import resource, socket, sys
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
for line in sys.stdin:
    port, count = map(int, line.split())
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    print("open", flush=True)
    sys.stdin.readline()
    for sock in held:
        sock.close()
    print("closed", flush=True)
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """A server on a loop: how many connections it has, and a way to let it work for a moment."""

    port: int
    connections: Callable[[], int]
    turn: Callable[[], object]
    close: Callable[[], object]


def of_nimloop() -> Subject:
    """A server of nimloop, with the callbacks that an echo server has."""
    loop = Loop()

    def on_data(conn: Connection, data: bytes) -> None:
        conn.send(data)

    server = TcpServer(loop, on_data=on_data, on_drain=Connection.resume_reading)
    port = server.listen(HOST, 0)[0][1]

    def close() -> None:
        server.close()
        loop.close()

    return Subject(port, lambda: len(server.connections), lambda: loop.run_once(0.01), close)


class _Counted(asyncio.Protocol):
    """What an echo server is there."""

    alive = 0
    _transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        _Counted.alive += 1
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """One write."""
        self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """One less."""
        _Counted.alive -= 1


def of_asyncio(loop: asyncio.AbstractEventLoop) -> Subject:
    """A server of asyncio or uvloop."""
    server = loop.run_until_complete(loop.create_server(_Counted, HOST, 0, backlog=1024))
    port: int = server.sockets[0].getsockname()[1]

    def close() -> None:
        server.close()
        loop.close()

    return Subject(port, lambda: _Counted.alive, lambda: loop.run_until_complete(asyncio.sleep(0.01)), close)


class Clients:
    """The other process."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CLIENTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def become(self, count: int) -> float:
        """Return the CPU seconds that this process has spent on getting there."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{self._subject.port} {count}\n" if count else "close\n")
        self._process.stdin.flush()
        before = time.process_time()
        deadline = time.monotonic() + _PATIENCE
        while self._subject.connections() != count:
            if time.monotonic() > deadline:
                raise SystemExit(f"{self._subject.connections()} connections in place of {count}")
            self._subject.turn()
        spent = time.process_time() - before
        assert self._process.stdout is not None
        self._process.stdout.readline()
        for _ in range(3):
            self._subject.turn()
        gc.collect()
        return spent

    def end(self) -> None:
        """Close its input, which ends it."""
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()


def measure(subject: Subject, count: int) -> dict[str, float]:
    """Tell what each of so many connections costs."""
    clients = Clients(subject)
    clients.become(min(count, 50))  # what is made once and for all
    clients.become(0)
    before = resident()
    accept = clients.become(count)
    figures = {"resident_bytes": (resident() - before) / count, "accept_us": accept / count * 1e6}
    figures["close_us"] = clients.become(0) / count * 1e6
    tracemalloc.start()
    gc.collect()
    traced = tracemalloc.get_traced_memory()[0]
    clients.become(count)
    figures["heap_bytes"] = (tracemalloc.get_traced_memory()[0] - traced) / count
    tracemalloc.stop()
    clients.become(0)
    clients.end()
    subject.close()
    return figures


def main() -> None:
    """Measure the loop that is asked for."""
    given = many_connections()
    if given.loop == "nimloop":
        say_build(nimloop_core, nimloop_net)
        say_compiled()
        subject = of_nimloop()
    else:
        library = asyncio if given.loop == "asyncio" else need(given.loop)
        say_build(library)
        subject = of_asyncio(library.new_event_loop())
    say_result(measure(subject, given.connections))


if __name__ == "__main__":
    main()
