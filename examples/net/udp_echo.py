r"""UDP echo: a server that sends every datagram back, and a client that measures how long that takes.

    python examples/net/udp_echo.py serve --port 7007          # all addresses of this machine; Ctrl+C ends it
    python examples/net/udp_echo.py ping localhost --port 7007 --count 3
    echo hello | nc -u -w1 127.0.0.1 7007

Datagrams get lost, and nobody says so: the client waits a second for each. But when nobody listens, the other machine
does say so, and `on_error` tells.
"""

import argparse
import signal

from nimloop_core import Loop, Timer
from nimloop_net import DatagramError, UdpSocket, resolve

PATIENCE = 1.0

Address = tuple[str, int] | tuple[str, int, int, int]


def serve(loop: Loop, host: str | None, port: int) -> None:
    """Send back what comes, to whom it came from."""

    def on_datagram(sock: UdpSocket, data: bytes, address: Address) -> None:
        sock.send_to(data, address)  # where there is no room, the datagram is lost, as any may be

    with UdpSocket.bind(loop, host, port, on_datagram=on_datagram) as sock:
        print(f"echo on port {sock.local[1]}", flush=True)
        loop.run()


class Pinger:
    """Sends a datagram, waits for it to come back, and sends the next."""

    def __init__(self, loop: Loop, address: str, port: int, count: int) -> None:
        self._loop = loop
        self._count = count
        self._number = 0
        self._sent_at = 0.0
        self._patience: Timer | None = None
        # Connected: the system lets nobody else's datagrams in, and tells when nobody listens there.
        self._sock = UdpSocket.connect(loop, address, port, on_datagram=self._on_datagram, on_error=self._on_error)
        self._send()

    def _send(self) -> None:
        if self._number == self._count:
            self._sock.close()
            self._loop.stop()
            return
        self._number += 1
        self._sent_at = self._loop.time()
        self._patience = self._loop.call_later(PATIENCE, self._on_loss)
        self._sock.send(b"%d" % self._number)

    def _next(self, what: str) -> None:
        print(f"{self._number}: {what}", flush=True)
        if self._patience is not None:
            self._patience.cancel()
        self._send()

    def _on_datagram(self, sock: UdpSocket, data: bytes, address: Address) -> None:
        if data == b"%d" % self._number:  # else a late one
            self._next(f"back after {(self._loop.time() - self._sent_at) * 1e3:.3f} ms")

    def _on_error(self, sock: UdpSocket, error: DatagramError) -> None:
        self._next(str(error))

    def _on_loss(self) -> None:
        self._next("lost")


def ping(loop: Loop, host: str, port: int, count: int) -> None:
    """Look the host up, then send it some datagrams, one after the other."""

    def on_error(error: Exception) -> None:
        print(error)
        loop.stop()

    resolve(loop, host, lambda addresses: Pinger(loop, addresses[0], port, count), on_error=on_error)
    loop.run()


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("serve", "ping"))
    parser.add_argument("host", nargs="?", help="by default all addresses of this machine, or localhost")
    parser.add_argument("--port", type=int, default=7007)
    parser.add_argument("--count", type=int, default=3)
    given = parser.parse_args()
    with Loop() as loop:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, loop.stop)
        if given.what == "serve":
            serve(loop, given.host, given.port)
        else:
            ping(loop, given.host or "localhost", given.port, given.count)


if __name__ == "__main__":
    main()
