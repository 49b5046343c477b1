"""aiohttp's `Request.post` on uvloop, which puts files into temporary files."""

from _peer import listening, need, port_argument, port_of, say_build, say_port


def main() -> None:
    """Serve until SIGTERM."""
    web, uvloop = need("aiohttp.web"), need("uvloop")

    async def upload(request: object) -> object:
        form = await request.post()  # type: ignore[attr-defined]
        file = form["file"].file
        return web.Response(text=str(file.seek(0, 2)))

    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/", upload)
    sock = listening(port_argument())
    say_build(need("aiohttp"), uvloop)
    say_port(port_of(sock))
    web.run_app(app, sock=sock, access_log=None, print=None, loop=uvloop.new_event_loop())


if __name__ == "__main__":
    main()
