"""A bare protocol on uvloop with httptools and a canned answer: no server, what its parts can do at best."""

import asyncio
from typing import Final

from _peer import BODY, listening, need, port_argument, port_of, say_build, say_port

uvloop = need("uvloop")
httptools = need("httptools")

_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY.encode(),
)


class Canned(asyncio.Protocol):
    """Counts the requests in what came and answers them all at once."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._due = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (uvloop's is no subclass of asyncio's, so nothing to check it against)."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Parse, then one write."""
        self._parser.feed_data(data)
        if self._due and self._transport is not None:
            self._transport.write(_ANSWER if self._due == 1 else _ANSWER * self._due)
            self._due = 0

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._due += 1


async def serve(port: int) -> None:
    """Serve until SIGTERM."""
    sock = listening(port)
    server = await asyncio.get_running_loop().create_server(Canned, sock=sock)
    say_build(uvloop, httptools)
    say_port(port_of(sock))
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(port_argument()))
