"""picows on uvloop: echoes, or sends a message on to all."""

import socket
from typing import Protocol

from _peer import listening, need, port_argument, port_of, say_build, say_port


class Frame(Protocol):
    """What is used of picows' frames."""

    msg_type: object

    def get_payload_as_bytes(self) -> bytes:
        """Return the payload, copied."""

    def get_payload_as_memoryview(self) -> memoryview:
        """Return the payload, valid during the callback."""


class Transport(Protocol):
    """What is used of picows' transports."""

    def send(self, kind: object, payload: bytes | memoryview) -> None:
        """Send a message."""

    def disconnect(self) -> None:
        """End the connection."""


class Request(Protocol):
    """What is used of picows' requests."""

    path: bytes


def main() -> None:
    """Serve until SIGTERM."""
    picows, uvloop = need("picows"), need("uvloop")
    room: set[Transport] = set()
    close = picows.WSMsgType.CLOSE

    class Echo(picows.WSListener):  # type: ignore[misc, name-defined]
        def on_ws_frame(self, transport: Transport, frame: Frame) -> None:
            if frame.msg_type == close:
                transport.disconnect()
            else:
                transport.send(frame.msg_type, frame.get_payload_as_memoryview())

    class Room(Echo):
        def on_ws_connected(self, transport: Transport) -> None:
            room.add(transport)

        def on_ws_disconnected(self, transport: Transport) -> None:
            room.discard(transport)

        def on_ws_frame(self, transport: Transport, frame: Frame) -> None:
            if frame.msg_type == close:
                transport.disconnect()
                return
            payload = frame.get_payload_as_bytes()
            for each in room:
                each.send(frame.msg_type, payload)

    async def serve(sock: socket.socket) -> None:
        def listener(request: Request) -> object:
            return Room() if request.path == b"/broadcast" else Echo()

        server = await picows.ws_create_server(listener, sock=sock)
        await server.serve_forever()

    sock = listening(port_argument())
    say_build(picows, uvloop)
    say_port(port_of(sock))
    uvloop.run(serve(sock))


if __name__ == "__main__":
    main()
