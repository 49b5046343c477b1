"""A TCP proxy that spreads connections over servers.

    python examples/net/proxy.py PORT HOST:PORT [HOST:PORT …]

Each connection goes to the server with the fewest, and to the next one when that does not answer. Neither side can make
the other's data pile up here: whoever reads slowly slows down the one who sends. The end of either direction is passed
on as what it was, so that a client may end its request and still get the answer.
"""

from __future__ import annotations

import signal
import sys

from nimloop_core import Loop
from nimloop_net import Connection, TcpServer, connect

CONNECT_TIMEOUT = 3.0
IDLE = 300.0
WAITING = "for a server"  # a reason to pause, one of several that do not know of each other
SLOW = "for the other side"


class Balancer:
    """A server whose connections go to other servers."""

    def __init__(self, loop: Loop, upstreams: list[tuple[str, int]]) -> None:
        self._loop = loop
        self._load = dict.fromkeys(upstreams, 0)
        self.server = TcpServer(loop, on_accept=self._accept, max_connections=10_000)

    def _accept(self, client: Connection) -> None:
        client.pause_reading(WAITING)
        self._try(client, sorted(self._load, key=self._load.__getitem__))

    def _try(self, client: Connection, upstreams: list[tuple[str, int]]) -> None:
        if client.closed:
            return
        if not upstreams:
            client.abort()
            return
        address, *others = upstreams

        def failed(error: Exception) -> None:
            self._load[address] -= 1
            print(f"{address[0]}:{address[1]}: {error}", file=sys.stderr, flush=True)
            self._try(client, others)

        self._load[address] += 1
        connector = connect(
            self._loop,
            *address,
            on_connect=lambda upstream: self._join(client, upstream, address),
            on_error=failed,
            timeout=CONNECT_TIMEOUT,
        )

        def gave_up(_client: Connection, _error: Exception | None) -> None:
            connector.cancel()
            self._load[address] -= 1

        client.on_close = gave_up

    def _join(self, client: Connection, upstream: Connection, address: tuple[str, int]) -> None:
        def upstream_closed(_upstream: Connection, error: Exception | None) -> None:
            self._load[address] -= 1
            end(client, error)

        link(client, upstream)
        link(upstream, client)
        client.on_close = lambda _client, error: end(upstream, error)
        upstream.on_close = upstream_closed
        client.idle_timeout = upstream.idle_timeout = IDLE
        client.resume_reading(WAITING)


def link(source: Connection, target: Connection) -> None:
    """Send to one connection what comes from another, no faster than it is taken."""

    def forward(_source: Connection, data: bytes) -> None:
        if target.writable and not target.send(data):
            source.pause_reading(SLOW)

    source.on_data = forward
    source.on_eof = lambda _source: target.shutdown()
    target.on_drain = lambda _target: source.resume_reading(SLOW)


def end(other: Connection, error: Exception | None) -> None:
    """Do to one side what has happened to the other."""
    if error is None:
        other.close_after_drain()
    else:
        other.abort()


def address_of(text: str) -> tuple[str, int]:
    """Read HOST:PORT, where an IPv6 address is in brackets."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def main() -> None:
    """Serve until Ctrl+C."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    with Loop() as loop:
        server = Balancer(loop, [address_of(each) for each in sys.argv[2:]]).server
        host, port = server.listen("127.0.0.1", int(sys.argv[1]))[0]
        print(f"proxy on {host} {port}", flush=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: server.shutdown(2.0, lambda _aborted: loop.stop()))
        loop.run()


if __name__ == "__main__":
    main()
