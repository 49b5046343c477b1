"""picows on uvloop: echoes, or sends a message on to all."""

from _peer import need, listening, port_argument, port_of, say_build, say_port


def main() -> None:
    """Serve until SIGTERM."""
    picows, uvloop, asyncio = need("picows"), need("uvloop"), need("asyncio")
    room: set[object] = set()

    class Echo(picows.WSListener):  # type: ignore[misc, name-defined]
        def on_ws_connected(self, transport: object) -> None:
            self._transport = transport

        def on_ws_frame(self, transport, frame) -> None:  # type: ignore[no-untyped-def]
            if frame.msg_type == picows.WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code(), frame.get_close_message())
                transport.disconnect()
            else:
                transport.send(frame.msg_type, frame.get_payload_as_memoryview())

    class Room(Echo):
        def on_ws_connected(self, transport: object) -> None:
            room.add(transport)

        def on_ws_disconnected(self, transport: object) -> None:
            room.discard(transport)

        def on_ws_frame(self, transport, frame) -> None:  # type: ignore[no-untyped-def]
            payload = frame.get_payload_as_bytes()
            for each in room:
                each.send(frame.msg_type, payload)  # type: ignore[attr-defined]

    async def serve(sock: object) -> None:
        def listener(request) -> object:  # type: ignore[no-untyped-def]
            return Room() if request.path == b"/broadcast" else Echo()

        server = await picows.ws_create_server(listener, sock=sock)
        await server.serve_forever()

    sock = listening(port_argument())
    say_build(picows, uvloop)
    say_port(port_of(sock))
    asyncio.run(serve(sock), loop_factory=uvloop.new_event_loop) if False else uvloop.run(serve(sock))


if __name__ == "__main__":
    main()
