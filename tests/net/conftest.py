"""What the tests of nimloop-net share: loops on every backend, and sockets in pairs.

Test modules are collected by path and cannot import one another, so everything here is a fixture.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import final

import pytest
from tests.core import stand_ins

from nimloop_core import Backend, Loop, WatcherTable
from nimloop_net import Connection, TcpServer

PATIENCE = 20.0  # seconds before a test gives up; nothing ever waits for it


@final
class WatchedBackend:
    """A real backend that counts its waits, and can be told to refuse descriptors."""

    def __init__(self, real: Backend) -> None:
        self._real = real
        self.name = real.name
        self.edge = real.edge
        self.wake_fd = real.wake_fd
        self.polls = 0
        self.refusal: OSError | None = None
        self.willing = 0

    def add(self, fd: int, events: int, *, edge: bool) -> None:
        """Pass on, unless told to refuse."""
        if self.refusal is not None:
            if self.willing == 0:
                raise self.refusal
            self.willing -= 1
        self._real.add(fd, events, edge=edge)

    def modify(self, fd: int, events: int, *, edge: bool) -> None:
        """Pass on."""
        self._real.modify(fd, events, edge=edge)

    def remove(self, fd: int) -> None:
        """Pass on."""
        self._real.remove(fd)

    def wake(self) -> None:
        """Pass on."""
        self._real.wake()

    def poll(self, timeout_ns: int, table: WatcherTable) -> int:
        """Count and pass on."""
        self.polls += 1
        return self._real.poll(timeout_ns, table)

    def fileno(self) -> int:
        """Pass on."""
        return self._real.fileno()

    def close(self) -> None:
        """Pass on."""
        self._real.close()


@pytest.fixture
def errors() -> Iterator[list[Exception]]:
    """Collect what the loop's exception handler is told; what the test does not take out fails it."""
    told: list[Exception] = []
    yield told
    assert told == []


@pytest.fixture(params=stand_ins.NAMES)
def backend(request: pytest.FixtureRequest) -> Iterator[WatchedBackend]:
    """Wait with each mechanism, those of other systems over their stand-ins."""
    name = str(request.param)
    if not stand_ins.exists(name):
        pytest.skip(f"no {name} on this system")
    violations: list[str] = []
    yield WatchedBackend(stand_ins.create(name, violations))
    assert violations == []


@pytest.fixture
def loop(backend: WatchedBackend, errors: list[Exception]) -> Iterator[Loop]:
    """Run on each backend; callbacks' exceptions go to `errors`."""
    with Loop(backend) as loop:
        loop.exception_handler = lambda error, _owner: errors.append(error)
        yield loop


@pytest.fixture
def polls(backend: WatchedBackend) -> Callable[[], int]:
    """Tell how often the loop has waited."""
    return lambda: backend.polls


@pytest.fixture
def refuse(backend: WatchedBackend) -> Callable[[OSError, int], None]:
    """Make the backend refuse new descriptors with this error, after so many."""

    def set_refusal(error: OSError, after: int) -> None:
        backend.refusal = error
        backend.willing = after

    return set_refusal


@pytest.fixture
def until(loop: Loop) -> Callable[[Callable[[], object]], None]:
    """Run the loop until something holds."""

    def run(holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, "waited in vain"
            loop.run_once(0.001)  # no longer, because a socket outside the loop may be what is waited for

    return run


@pytest.fixture
def rest(loop: Loop) -> Callable[[float], None]:
    """Run the loop for some seconds."""

    def run(seconds: float) -> None:
        loop.call_later(seconds, loop.stop)
        loop.run()

    return run


@pytest.fixture
def tcp_pair() -> Iterator[Callable[[], tuple[socket.socket, socket.socket]]]:
    """Connect pairs of non-blocking TCP sockets; what the test has not closed is closed after it."""
    made: list[socket.socket] = []

    def make() -> tuple[socket.socket, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            there = socket.create_connection(listener.getsockname())
            here, _ = listener.accept()
        for end in (here, there):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.append(end)
        return here, there

    yield make
    for end in made:
        end.close()


@pytest.fixture
def unix_pair() -> Iterator[Callable[[], tuple[socket.socket, socket.socket]]]:
    """Connect pairs of non-blocking Unix sockets; what the test has not closed is closed after it."""
    made: list[socket.socket] = []

    def make() -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair()
        for end in pair:
            end.setblocking(False)
            made.append(end)
        return pair

    yield make
    for end in made:
        end.close()


@pytest.fixture
def attach(loop: Loop) -> Iterator[Callable[[socket.socket], Connection]]:
    """Make and start connections over sockets; those still open are aborted after the test."""
    made: list[Connection] = []

    def make(sock: socket.socket) -> Connection:
        connection = Connection(loop, sock)
        made.append(connection)
        connection.start()
        return connection

    yield make
    for connection in made:
        connection.abort()
    if not loop.closed:
        loop.run_once(0)


@pytest.fixture
def connected(
    tcp_pair: Callable[[], tuple[socket.socket, socket.socket]], attach: Callable[[socket.socket], Connection]
) -> Callable[[], tuple[Connection, socket.socket]]:
    """Make connections whose other end is a bare socket."""

    def make() -> tuple[Connection, socket.socket]:
        here, there = tcp_pair()
        return attach(here), there

    return make


@pytest.fixture
def both(
    tcp_pair: Callable[[], tuple[socket.socket, socket.socket]], attach: Callable[[socket.socket], Connection]
) -> Callable[[], tuple[Connection, Connection]]:
    """Make connections whose other end is on the loop too."""

    def make() -> tuple[Connection, Connection]:
        here, there = tcp_pair()
        return attach(here), attach(there)

    return make


@pytest.fixture
def read_all(until: Callable[[Callable[[], object]], None]) -> Callable[[socket.socket], bytes]:
    """Read a bare socket to its end while the loop runs; raises what the socket raises."""

    def read(sock: socket.socket) -> bytes:
        data = bytearray()

        def ended() -> bool:
            try:
                while chunk := sock.recv(1 << 18):
                    data.extend(chunk)
            except BlockingIOError:
                return False
            return True

        until(ended)
        return bytes(data)

    return read


@pytest.fixture
def server(loop: Loop) -> Iterator[TcpServer]:
    """Give a server without callbacks; it is closed after the test."""
    with TcpServer(loop) as server:
        yield server
    if not loop.closed:
        loop.run_once(0)


@pytest.fixture
def dial() -> Iterator[Callable[[object], socket.socket]]:
    """Connect non-blocking sockets to the address that a server has told; they are closed after the test."""
    made: list[socket.socket] = []

    def make(address: object) -> socket.socket:
        if isinstance(address, str):
            sock = socket.socket(socket.AF_UNIX)
            made.append(sock)
            sock.connect(address)
        else:
            assert isinstance(address, tuple)
            sock = socket.create_connection(address)
            made.append(sock)
        sock.setblocking(False)
        return sock

    yield make
    for sock in made:
        sock.close()
