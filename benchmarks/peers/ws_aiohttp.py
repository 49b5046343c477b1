"""aiohttp on uvloop: echoes, or sends a message on to all."""

from collections.abc import AsyncIterator
from typing import Protocol

from _peer import listening, need, port_argument, port_of, say_build, say_port


class Message(Protocol):
    """What is used of aiohttp's messages."""

    data: bytes


class Response(Protocol):
    """What is used of aiohttp's WebSockets."""

    async def prepare(self, request: object) -> object:
        """Answer the handshake."""

    async def send_bytes(self, data: bytes) -> None:
        """Send a message."""

    def __aiter__(self) -> AsyncIterator[Message]:
        """Iterate over the messages."""


def main() -> None:
    """Serve until SIGTERM."""
    web, uvloop = need("aiohttp.web"), need("uvloop")
    room: set[Response] = set()

    async def echo(request: object) -> object:
        ws: Response = web.WebSocketResponse(compress=True)
        await ws.prepare(request)
        async for message in ws:
            await ws.send_bytes(message.data)
        return ws

    async def broadcast(request: object) -> object:
        ws: Response = web.WebSocketResponse(compress=True)
        await ws.prepare(request)
        room.add(ws)
        try:
            async for message in ws:
                for each in room:
                    await each.send_bytes(message.data)
        finally:
            room.discard(ws)
        return ws

    app = web.Application()
    app.router.add_get("/echo", echo)
    app.router.add_get("/broadcast", broadcast)
    sock = listening(port_argument())
    say_build(need("aiohttp"), uvloop)
    say_port(port_of(sock))
    web.run_app(app, sock=sock, access_log=None, print=None, loop=uvloop.new_event_loop())


if __name__ == "__main__":
    main()
