"""A chat over any number of nodes, each with several workers, which tell each other what is said through Redis.

    python examples/mt/chat_nodes.py [PORT [REDIS_PORT]]        # then the same with another PORT, or on another machine

``/chat`` is a WebSocket: what one client sends, all clients of all nodes get. Nothing is kept, and a node that has lost
Redis tells whoever says something; it tries to come back every second. What is said meanwhile elsewhere, it misses:
publishing is for those who listen (https://redis.io/docs/latest/develop/pubsub/).
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from nimloop_core import Loop
from nimloop_http import HttpRequest, HttpResponse, HttpServer, OnRequest
from nimloop_mt import MultiThreadHttpServer
from nimloop_net import Connection, ConnectionClosedError, connect
from nimloop_ws import WebSocket, WsLimits, broadcast, upgrade

CHANNEL = b"nimloop.chat"
LIMITS = WsLimits(frame=4096, message=4096, buffer=256 * 1024)
MOST = 1 << 20  # bytes of one message from Redis
PAUSE = 1.0  # seconds between two attempts to reach it


def command(*words: bytes) -> bytes:
    """Return the words as Redis wants them: an array of strings, each after its length."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def take_array(data: bytearray) -> list[bytes] | None:
    """Take an array of strings and numbers off the front; None as long as it is incomplete."""
    place = 0

    def line() -> bytes | None:
        nonlocal place
        end = data.find(b"\r\n", place)
        if end < 0:
            return None
        found, place = bytes(data[place:end]), end + 2
        return found

    if (head := line()) is None:
        return None
    if head[:1] != b"*":
        raise ValueError(f"not an array from Redis: {head[:80]!r}")
    words = []
    for _ in range(int(head[1:])):
        if (head := line()) is None:
            return None
        if head[:1] == b"$":
            end = place + int(head[1:])
            if len(data) < end + 2:
                return None
            words.append(bytes(data[place:end]))
            place = end + 2
        else:
            words.append(head[1:])
    del data[:place]
    return words


class Channel:
    """A channel of Redis: two connections, because one that listens may say nothing else."""

    def __init__(self, loop: Loop, port: int, on_message: Callable[[bytes], object]) -> None:
        """Connect, and go on trying."""
        self._loop = loop
        self._port = port
        self._on_message = on_message
        self._data = bytearray()
        self._talker: Connection | None = None
        self.listening = False
        self._listen()
        self._talk()

    def publish(self, message: bytes) -> bool:
        """Tell everybody; False when that is not possible now."""
        if self._talker is None:
            return False
        try:
            return self._talker.send(command(b"PUBLISH", CHANNEL, message))
        except ConnectionClosedError:  # it is about to be told of
            return False

    def _listen(self) -> None:
        def lost(*_: object) -> None:
            self.listening = False
            self._data.clear()
            self._loop.call_later(PAUSE, self._listen)

        connect(
            self._loop,
            "127.0.0.1",
            self._port,
            on_connect=lambda conn: conn.send(command(b"SUBSCRIBE", CHANNEL)),
            on_data=self._on_data,
            on_error=lost,
            on_close=lost,
        )

    def _talk(self) -> None:
        def connected(conn: Connection) -> None:
            self._talker = conn

        def lost(*_: object) -> None:
            self._talker = None
            self._loop.call_later(PAUSE, self._talk)

        connect(self._loop, "127.0.0.1", self._port, on_connect=connected, on_error=lost, on_close=lost)

    def _on_data(self, _conn: Connection, data: bytes) -> None:
        self._data += data
        while (words := take_array(self._data)) is not None:
            if words[0] == b"subscribe":
                self.listening = True
            elif words[0] == b"message":
                self._on_message(words[2])
        if len(self._data) > MOST:
            raise ValueError(f"a message of more than {MOST} bytes")  # ends the connection


class Node:
    """A factory: what a worker has of its own, since each has its own people and its own way to Redis."""

    def __init__(self, redis_port: int) -> None:
        """Only note the port: this object travels to the workers."""
        self.redis_port = redis_port

    def __call__(self, server: HttpServer) -> OnRequest:
        """Return the handler of one worker."""
        people: dict[WebSocket, None] = {}
        channel = Channel(server.loop, self.redis_port, lambda message: broadcast(people, message.decode()))

        def on_message(ws: WebSocket, message: str | bytes) -> None:
            said = message.encode() if isinstance(message, str) else message
            if not channel.publish(said):
                ws.send("(not sent: this node has lost the others)")

        def on_request(req: HttpRequest, res: HttpResponse) -> None:
            if req.path != "/chat":
                res.send("the chat is a WebSocket at /chat\n")
            elif not channel.listening:
                res.status(503).header("Retry-After", "1").send("not connected to the others yet\n")
            else:
                ws = upgrade(
                    req, res, on_message=on_message, on_close=lambda ws, *_: people.pop(ws, None), limits=LIMITS
                )
                if ws is not None:
                    people[ws] = None

        return on_request


def main() -> None:
    """Serve until told to stop."""
    port, redis_port = (int(sys.argv[place]) if len(sys.argv) > place else default for place, default in PORTS)
    with MultiThreadHttpServer(factory=Node(redis_port), workers=2) as server:
        ((host, port),) = server.listen("127.0.0.1", port)
        server.run(lambda: print(f"ws://{host}:{port}/chat with {server.workers} {server.mode}", flush=True))


PORTS = ((1, 8000), (2, 6379))

if __name__ == "__main__":
    main()
