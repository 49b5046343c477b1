"""aiohttp's static route on uvloop."""

import asyncio

from _peer import listening, need, parser, port_of, say_build, say_port


def main() -> None:
    """Serve until SIGTERM."""
    arguments = parser()
    arguments.add_argument("--root")
    given = arguments.parse_args()
    web, uvloop = need("aiohttp.web"), need("uvloop")
    app = web.Application()
    app.router.add_static("/", given.root)
    sock = listening(given.port)

    async def serve() -> None:
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.SockSite(runner, sock).start()
        say_build(need("aiohttp"), uvloop)
        say_port(port_of(sock))
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
