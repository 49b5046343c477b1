"""tornado's web application on uvloop, by way of asyncio."""

import asyncio

from _peer import BODY, PATH, listening, need, port_argument, port_of, say_build, say_port


def main() -> None:
    """Serve until SIGTERM."""
    web, httpserver, uvloop = need("tornado.web"), need("tornado.httpserver"), need("uvloop")

    class Hello(web.RequestHandler):  # type: ignore[name-defined,misc]
        def get(self) -> None:
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.write(BODY)

    # Without a log function of its own tornado formats a line for every answer, shown or not.
    app = web.Application([(PATH, Hello)], log_function=lambda _: None)
    sock = listening(port_argument())

    async def serve() -> None:
        httpserver.HTTPServer(app).add_socket(sock)
        say_build(need("tornado"), uvloop)
        say_port(port_of(sock))
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
