"""tornado's StaticFileHandler on uvloop."""

import asyncio

from _peer import listening, need, parser, port_of, say_build, say_port


def main() -> None:
    """Serve until SIGTERM."""
    arguments = parser()
    arguments.add_argument("--root")
    given = arguments.parse_args()
    web, httpserver, uvloop = need("tornado.web"), need("tornado.httpserver"), need("uvloop")
    app = web.Application([("/(.*)", web.StaticFileHandler, {"path": given.root})], log_function=lambda _: None)
    sock = listening(given.port)

    async def serve() -> None:
        httpserver.HTTPServer(app).add_socket(sock)
        say_build(need("tornado"), uvloop)
        say_port(port_of(sock))
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
