"""Clients for the soak test: plain, slow and broken ones, none of them of nimloop's making.

Each is a function that does one thing once, over connections of its own. It counts what was answered, and raises when
an answer is wrong or missing; whether that is a loss is for the caller to decide, who knows which workers were killed.
"""

from __future__ import annotations

import hashlib
import http.client
import random
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

TIMEOUT = 30.0


class WrongError(Exception):
    """An answer came, and it was not the right one: whoever was killed, that must not be."""


@dataclass
class Tally:
    """What has happened, counted by all threads together."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    counts: Counter[str] = field(default_factory=Counter[str])
    workers: Counter[str] = field(default_factory=Counter[str])

    def add(self, what: str, count: int = 1) -> None:
        """Count."""
        with self.lock:
            self.counts[what] += count

    def answered_by(self, worker: str) -> None:
        """Remember who is there."""
        with self.lock:
            self.workers[worker] += 1


@dataclass
class Client:
    """Where to connect to, what was served there, and the last worker that answered."""

    address: tuple[str, int]
    tally: Tally
    file: bytes
    random: random.Random
    tls: ssl.SSLContext | None = None
    tls_of_threads: ssl.SSLContext | None = None
    """For a client that reads and writes in two threads: no TLS 1.3, see `make_contexts` of `run.py`."""
    worker: str = ""

    @contextmanager
    def ordinary(self) -> Iterator[http.client.HTTPConnection]:
        """A connection; the worker behind it is not known yet."""
        self.worker = ""
        connection: http.client.HTTPConnection
        if self.tls is None:
            connection = http.client.HTTPConnection(*self.address, timeout=TIMEOUT)
        else:
            connection = http.client.HTTPSConnection(*self.address, timeout=TIMEOUT, context=self.tls)
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def raw(self, *, shakes_hands: bool = True) -> Iterator[socket.socket]:
        """A bare socket, behind a handshake where there has to be one."""
        self.worker = ""
        with socket.create_connection(self.address, TIMEOUT) as sock:
            if self.tls is None or not shakes_hands:
                yield sock
                return
            with self.tls.wrap_socket(sock, server_hostname=self.address[0]) as secure:
                yield secure

    def answer(self, connection: http.client.HTTPConnection, expected: bytes, status: int = 200) -> None:
        """Read an answer and look at it."""
        response = connection.getresponse()
        self.worker = response.headers["X-Worker"] or self.worker
        body = response.read()
        if response.status != status or body != expected:
            raise WrongError(f"{response.status} with {len(body)} bytes, expected {status} with {len(expected)}")
        self.tally.add("requests")
        self.tally.answered_by(self.worker)


def pages(client: Client) -> None:
    """Requests one after the other over one connection, some answered late, some for a range of a file."""
    with client.ordinary() as connection:
        for _ in range(client.random.randrange(1, 60)):
            match client.random.randrange(5):
                case 0:
                    connection.request("GET", "/later")
                    client.answer(connection, b"later")
                case 1:
                    connection.request("GET", "/files/file.bin")
                    client.answer(connection, client.file)
                case 2:
                    start = client.random.randrange(len(client.file) - 1000)
                    connection.request("GET", "/files/file.bin", headers={"Range": f"bytes={start}-{start + 999}"})
                    client.answer(connection, client.file[start : start + 1000], 206)
                case _:
                    connection.request("GET", "/")
                    client.answer(connection, b"hello")


def pipelined(client: Client) -> None:
    """Requests in one go, up to the answer that says ``Connection: close``: what is behind that was not handled."""
    count = client.random.randrange(2, 30)
    with client.raw() as sock, sock.makefile("rb") as answers:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: soak\r\n\r\n" * count)
        for _ in range(count):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = answers.readline()
                if not line:
                    raise ConnectionResetError("the answers end early")
                if line.lower().startswith(b"x-worker:"):
                    client.worker = line.split()[1].decode()
                head += line.lower()
            if not head.startswith(b"http/1.1 200") or answers.read(5) != b"hello":
                raise WrongError(head.decode("latin-1"))
            client.tally.add("requests")
            if b"connection: close" in head:
                break


def uploads(client: Client) -> None:
    """Bodies of all kinds; the answer is their hash."""
    data = client.random.randbytes(client.random.choice([0, 10, 5_000, 300_000, 3_000_000]))
    expected = hashlib.sha256(data).hexdigest().encode()
    with client.ordinary() as connection:
        connection.request("POST", "/digest", data)
        client.answer(connection, expected)
        pieces = (data[at : at + 10_000] for at in range(0, len(data), 10_000))
        connection.request("POST", "/digest", pieces, encode_chunked=True)
        client.answer(connection, expected)
        form = (
            b'--soak\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + data + b"\r\n--soak--\r\n"
        )
        connection.request("POST", "/form", form, {"Content-Type": "multipart/form-data; boundary=soak"})
        client.answer(connection, expected)


def websockets(client: Client) -> None:
    """Messages of all sizes, text and binary, compressed, and the closing handshake."""
    client.worker = ""
    host, port = client.address
    scheme = "ws" if client.tls is None else "wss"
    with connect(
        f"{scheme}://{host}:{port}/ws", ssl=client.tls_of_threads, open_timeout=TIMEOUT, max_size=None, proxy=None
    ) as websocket:
        assert websocket.response is not None
        client.worker = websocket.response.headers["X-Worker"]
        client.tally.add("requests")
        for _ in range(client.random.randrange(1, 40)):
            data = client.random.randbytes(client.random.choice([0, 1, 125, 126, 5_000, 65_536, 400_000]))
            message: str | bytes = data.hex() if client.random.randrange(2) else data
            try:
                websocket.send(message)
                received = websocket.recv(TIMEOUT)
            except ConnectionClosed as error:
                if error.rcvd is None or error.rcvd.code != 1001:
                    raise
                client.tally.add("WebSockets told that the worker goes away")
                return
            if received != message:
                raise WrongError("a message has changed on its way")
            client.tally.add("messages")


# Slow and broken ones: what the server does to them is its affair, as long as it does something -------------------


def slow_reader(client: Client) -> None:
    """Takes its time over a large download, and gets all of it."""
    with client.raw() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        sock.sendall(b"GET /download?pieces=60 HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n")
        received = 0
        while data := sock.recv(65_536):
            received += len(data)
            time.sleep(0.01)
        if received < 60 * 16_384:
            raise ConnectionResetError(f"{received} bytes")
    client.tally.add("slow clients")


def slow_sender(client: Client) -> None:
    """Sends a head octet by octet: answered with 408, or cut off, when its time is over."""
    with client.raw() as sock:
        began = time.monotonic()
        try:
            for octet in b"GET / HTTP/1.1\r\nHost: soak\r\nX-Slow: " + b"x" * 1000:
                sock.sendall(bytes([octet]))
                time.sleep(0.05)
        except OSError:
            pass
        if time.monotonic() - began > 15:
            raise WrongError("a head has two seconds, and had fifteen")
    client.tally.add("slow clients")


def silent(client: Client) -> None:
    """Says nothing at all until it is cut off."""
    with client.raw(shakes_hands=client.random.randrange(2) == 0) as sock:
        try:
            sock.recv(1000)
        except ConnectionResetError:
            pass  # out of a handshake there is no other way
    client.tally.add("slow clients")


def noise(client: Client) -> None:
    """Sends what is no HTTP, or nearly HTTP; waits for the end."""
    good = b"POST /digest HTTP/1.1\r\nHost: soak\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    data = bytearray(good if client.random.randrange(2) else client.random.randbytes(300))
    for _ in range(client.random.randrange(1, 5)):
        data[client.random.randrange(len(data))] = client.random.randrange(256)
    with client.raw(shakes_hands=client.random.randrange(2) == 0) as sock:
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65_536):
                pass
        except OSError:
            pass
    client.tally.add("broken clients")


def vanishing(client: Client) -> None:
    """Goes away with RST in the middle: of a head, a body, an answer, or a WebSocket."""
    upgrade = (
        b"GET /ws HTTP/1.1\r\nHost: soak\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    form = b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n--b\r\n"
    begun = [
        b"GET / HT",
        b"POST /digest HTTP/1.1\r\nHost: soak\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 70_000,
        b"POST /form HTTP/1.1\r\nHost: soak\r\n" + form + b'Content-Disposition: form-data; name="file"; filename="f"'
        b"\r\n\r\n" + b"x" * 200_000,
        b"GET /download?pieces=500 HTTP/1.1\r\nHost: soak\r\n\r\n",
        b"GET /files/file.bin HTTP/1.1\r\nHost: soak\r\n\r\n" * 20,
        upgrade,
        upgrade + b"\x81\xfe\xff\xff1234" + b"x" * 100,
        upgrade + client.random.randbytes(50),
    ]
    with client.raw() as sock:
        try:
            sock.sendall(client.random.choice(begun))
            sock.settimeout(client.random.choice([0, TIMEOUT]))
            sock.recv(client.random.choice([1, 65_536]))
        except OSError:
            pass
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.tally.add("broken clients")


KINDS: list[tuple[Callable[[Client], None], int]] = [
    (pages, 4),
    (pipelined, 1),
    (uploads, 2),
    (websockets, 3),
    (slow_reader, 2),
    (slow_sender, 2),
    (silent, 2),
    (noise, 2),
    (vanishing, 3),
]
"""What there is, and how many threads do it over and over."""
