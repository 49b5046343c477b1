"""The same on asyncio's own loop or on uvloop, with protocols, which are the fastest way there."""

import asyncio
from pathlib import Path
from typing import BinaryIO

from _peer import HOST, listening, need, parser, port_of, say_build, say_port


class Echo(asyncio.Protocol):
    """Sends back what it gets, no faster than the peer takes it."""

    _transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (uvloop's is no subclass of asyncio's, so nothing to check it against)."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """One write."""
        self._transport.write(data)

    def pause_writing(self) -> None:
        """The peer does not take it."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It does again."""
        self._transport.resume_reading()


class EchoDatagrams(asyncio.DatagramProtocol):
    """Sends every datagram back."""

    _transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """One write."""
        self._transport.sendto(data, addr)


class SendFile(asyncio.Protocol):
    """Sends a file for every byte."""

    _transport: asyncio.Transport

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._due = 0
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Have it sent by a task, as there is no other way."""
        self._due += len(data)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        while self._due:
            self._due -= 1
            try:
                await asyncio.get_running_loop().sendfile(self._transport, self._file)
            except NotImplementedError:  # uvloop
                self._file.seek(0)
                self._transport.write(self._file.read())
            except ConnectionError:
                return


async def serve(port: int, path: Path | None, *, udp: bool) -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    if udp:
        transport, _ = await loop.create_datagram_endpoint(EchoDatagrams, local_addr=(HOST, port))
        say_port(transport.get_extra_info("sockname")[1])
        await asyncio.Event().wait()
    sock = listening(port)
    if path is None:
        server = await loop.create_server(Echo, sock=sock)
    else:
        file = path.open("rb")
        server = await loop.create_server(lambda: SendFile(file), sock=sock)
    say_port(port_of(sock))
    await server.serve_forever()


def main() -> None:
    """Serve on the loop that is asked for."""
    arguments = parser()
    arguments.add_argument("--loop", choices=("asyncio", "uvloop"), required=True)
    arguments.add_argument("--udp", action="store_true")
    arguments.add_argument("--file", type=Path)
    given = arguments.parse_args()
    library = asyncio if given.loop == "asyncio" else need(given.loop)
    say_build(library)
    with asyncio.Runner(loop_factory=library.new_event_loop) as runner:
        runner.run(serve(given.port, given.file, udp=given.udp))


if __name__ == "__main__":
    main()
