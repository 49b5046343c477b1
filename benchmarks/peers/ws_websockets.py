"""websockets on uvloop: echoes, or sends a message on to all."""

from _peer import listening, need, port_argument, port_of, say_build, say_port


def main() -> None:
    """Serve until SIGTERM."""
    server, uvloop = need("websockets.asyncio.server"), need("uvloop")
    deflate = need("websockets.extensions.permessage_deflate")
    room: set[object] = set()

    async def handle(ws):  # type: ignore[no-untyped-def]
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

    async def serve(sock: object) -> None:
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
