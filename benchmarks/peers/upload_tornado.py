"""tornado's form parser on uvloop: everything in memory."""

import asyncio

from _peer import listening, need, port_argument, port_of, say_build, say_port


def main() -> None:
    """Serve until SIGTERM."""
    web, httpserver, uvloop = need("tornado.web"), need("tornado.httpserver"), need("uvloop")

    class Upload(web.RequestHandler):  # type: ignore[name-defined,misc]
        def post(self) -> None:
            self.write(str(len(self.request.files["file"][0]["body"])))

    app = web.Application([("/", Upload)], log_function=lambda _: None)
    sock = listening(port_argument())

    async def serve() -> None:
        httpserver.HTTPServer(app, max_buffer_size=1 << 30).add_socket(sock)
        say_build(need("tornado"), uvloop)
        say_port(port_of(sock))
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
