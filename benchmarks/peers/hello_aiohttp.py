"""aiohttp's server on uvloop."""

from _peer import BODY, PATH, listening, need, port_argument, port_of, say_build, say_port


def main() -> None:
    """Serve until SIGTERM."""
    web, uvloop = need("aiohttp.web"), need("uvloop")

    async def hello(_: object) -> object:
        return web.Response(text=BODY)

    app = web.Application()
    app.router.add_get(PATH, hello)
    sock = listening(port_argument())
    say_build(need("aiohttp"), uvloop)
    say_port(port_of(sock))
    web.run_app(app, sock=sock, access_log=None, print=None, loop=uvloop.new_event_loop())


if __name__ == "__main__":
    main()
