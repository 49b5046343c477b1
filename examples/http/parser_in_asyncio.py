"""An HTTP server on asyncio that takes nothing of nimloop but its parser.

    python examples/http/parser_in_asyncio.py [PORT]

It answers every request with what it was: method, target, and how many bytes came with it. What to copy is in
`Server.data_received`: push, then take events until there are none.
"""

from __future__ import annotations

import asyncio
import sys

from nimloop_http import Body, Head, HttpParser, Limits
from nimloop_http.errors import ProtocolError

LIMITS = Limits(body=1 << 20)
WORDS = {200: "OK", 413: "Content Too Large", 501: "Not Implemented"}


class Server(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.parser = HttpParser(LIMITS)
        self.transport: asyncio.Transport
        self.head: Head | None = None
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what answers are written to."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Give the parser what came, and do what it makes of that."""
        try:
            for event in self.parser.feed(data):
                if isinstance(event, Head):
                    self.head = event
                    self.received = 0
                    if event.expect_continue:
                        self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                elif isinstance(event, Body):
                    self.received += len(event.data)
                elif self.head is not None:  # End (and Trailers, which are of no interest here)
                    self.answer(self.head)
                    self.head = None
                if self.transport.is_closing():
                    return  # the last request: what comes behind it is not handled
        except ProtocolError as error:  # framing is lost: say why, and close
            self.respond(error.status, f"{error}\n", "close")

    def pause_writing(self) -> None:
        """The client does not read its answers: take no more requests, from the network or from the parser."""
        self.transport.pause_reading()
        self.parser.pause()

    def resume_writing(self) -> None:
        """It does again: first what the parser has kept, then the network."""
        self.parser.resume()
        self.data_received(b"")
        self.transport.resume_reading()

    def eof_received(self) -> None:
        """A request that is not complete now never will be; asyncio closes when this returns None."""

    def answer(self, head: Head) -> None:
        """Say what was asked for."""
        text = f"{head.method} {head.target} for {head.host} with {self.received} bytes\n"
        self.respond(200, "" if head.method == "HEAD" else text, "keep-alive" if head.keep_alive else "close")

    def respond(self, status: int, text: str, connection: str) -> None:
        """Send a whole response."""
        body = text.encode()
        line = f"HTTP/1.1 {status} {WORDS.get(status, 'Bad Request')}\r\n"
        fields = f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: {connection}\r\n"
        self.transport.write(f"{line}{fields}\r\n".encode() + body)
        if connection == "close":
            self.transport.close()


async def main(port: int) -> None:
    """Serve until Ctrl+C."""
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", port)
    async with server:
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8000))
    except KeyboardInterrupt:
        pass
