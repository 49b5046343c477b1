"""socketify: uWebSockets, a server in C++, through cffi."""

from typing import Protocol, Self

from _peer import BODY, HOST, PATH, free_port, need, port_argument, say_build, say_port


class Response(Protocol):
    """What is used of `socketify.AppResponse`."""

    def write_header(self, name: str, value: str) -> Self:
        """Add a field."""

    def write_status(self, status: int) -> Self:
        """Set the status."""

    def end(self, body: str) -> Self:
        """Send the body, and with it the rest."""


def main() -> None:
    """Serve until SIGTERM."""
    socketify = need("socketify")
    port = free_port(port_argument())

    def hello(res: Response, _req: object) -> None:
        res.write_header("Content-Type", "text/plain; charset=utf-8")
        res.end(BODY)

    def missing(res: Response, _req: object) -> None:
        res.write_status(404).end("Not Found")

    app = socketify.App()
    app.get(PATH, hello)
    app.any("/*", missing)
    app.listen(socketify.AppListenOptions(port=port, host=HOST), lambda _config: None)
    say_build(socketify)
    say_port(port)
    app.run()


if __name__ == "__main__":
    main()
