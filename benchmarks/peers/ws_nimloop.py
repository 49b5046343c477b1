"""nimloop-ws: echoes, or sends a message on to all."""

from _peer import HOST, port_argument, say_build, say_compiled, say_port, skip

try:
    import nimloop_core
    import nimloop_net
    import nimloop_ws
    from nimloop_core import Loop
    from nimloop_ws import Deflate, WebSocket, WsServer, broadcast
    from nimloop_ws.build import IMPLEMENTATION
except ImportError as missing:
    skip(missing)


def main() -> None:
    """Serve until SIGTERM."""
    room: dict[WebSocket, None] = {}
    loop = Loop()

    def on_open(ws: WebSocket) -> None:
        assert ws.request is not None
        if ws.request.target == "/broadcast":
            room[ws] = None
            ws.on_message = lambda _ws, message: broadcast(room, message)
            ws.on_close = lambda ws, _code, _reason: room.pop(ws)

    def echo(ws: WebSocket, message: str | bytes) -> None:
        ws.send(message)

    server = WsServer(loop, on_open=on_open, on_message=echo, compression=Deflate(threshold=0))
    _, port = server.listen(HOST, port_argument())[0]
    say_build(nimloop_core, nimloop_net, nimloop_ws)
    say_compiled()
    print(f"build ws: {IMPLEMENTATION}")
    say_port(port)
    loop.run()


if __name__ == "__main__":
    main()
