"""websockets on uvloop: echoes, or sends a message on to all."""

import socket
from collections.abc import AsyncIterator
from typing import Protocol

from _peer import listening, need, port_argument, port_of, say_build, say_port


class Request(Protocol):
    """What is used of websockets' requests."""

    path: str


class Connection(Protocol):
    """What is used of websockets' connections."""

    request: Request

    async def send(self, message: str | bytes) -> None:
        """Send a message."""

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Iterate over the messages."""


def main() -> None:
    """Serve until SIGTERM."""
    server, uvloop = need("websockets.asyncio.server"), need("uvloop")
    deflate = need("websockets.extensions.permessage_deflate")
    room: set[Connection] = set()

    async def handle(ws: Connection) -> None:
        if ws.request.path == "/broadcast":
            room.add(ws)
            try:
                async for message in ws:
                    server.broadcast(room, message)
            finally:
                room.discard(ws)
        else:
            async for message in ws:
                await ws.send(message)

    async def serve(sock: socket.socket) -> None:
        extension = deflate.ServerPerMessageDeflateFactory(
            server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5}
        )
        async with server.serve(handle, sock=sock, compression=None, extensions=[extension]) as serving:
            await serving.serve_forever()

    sock = listening(port_argument())
    say_build(need("websockets"), uvloop)
    say_port(port_of(sock))
    uvloop.run(serve(sock))


if __name__ == "__main__":
    main()
