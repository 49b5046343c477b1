"""aiohttp on uvloop: echoes, or sends a message on to all."""

from _peer import listening, need, port_argument, port_of, say_build, say_port


def main() -> None:
    """Serve until SIGTERM."""
    web, uvloop = need("aiohttp.web"), need("uvloop")
    room: set[object] = set()

    async def echo(request):  # type: ignore[no-untyped-def]
        ws = web.WebSocketResponse(autoping=True, compress=True)
        await ws.prepare(request)
        async for message in ws:
            await ws.send_bytes(message.data)
        return ws

    async def broadcast(request):  # type: ignore[no-untyped-def]
        ws = web.WebSocketResponse(autoping=True, compress=True)
        await ws.prepare(request)
        room.add(ws)
        try:
            async for message in ws:
                for each in room:
                    await each.send_bytes(message.data)  # type: ignore[attr-defined]
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
