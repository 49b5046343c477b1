"""granian with one worker: ASGI, or its own RSGI."""

from pathlib import Path
from typing import Protocol

from _peer import BODY, HOST, PATH, free_port, need, parser, say_build, say_port


class _Scope(Protocol):
    path: str


class _Transport(Protocol):
    def response_str(self, status: int, headers: list[tuple[str, str]], body: str) -> None: ...


async def rsgi(scope: _Scope, transport: _Transport) -> None:
    """Answer one request the RSGI way."""
    found = scope.path == PATH
    headers = [("content-type", "text/plain; charset=utf-8")]
    transport.response_str(200 if found else 404, headers, BODY if found else "Not Found")


def main() -> None:
    """Serve until SIGTERM; the work is done in a child process."""
    arguments = parser()
    arguments.add_argument("--interface", choices=("asgi", "rsgi"), default="rsgi")
    options = arguments.parse_args()
    granian, constants, uvloop = need("granian"), need("granian.constants"), need("uvloop")
    # "asginl" is ASGI without the lifespan protocol, which the application does not speak.
    interface = constants.Interfaces("asginl" if options.interface == "asgi" else "rsgi")
    port = free_port(options.port)
    server = granian.Granian(
        "_asgi:app" if options.interface == "asgi" else "hello_granian:rsgi",
        address=HOST,
        port=port,
        interface=interface,
        workers=1,
        # Offering less (no upgrade to HTTP/2 or WebSocket) can only help granian here.
        http=constants.HTTPModes.http1,
        websockets=False,
        loop=constants.Loops.uvloop,
        log_access=False,
        log_level="warning",
        working_dir=Path(__file__).parent,
    )
    say_build(granian, uvloop)
    say_port(port)
    server.serve()


if __name__ == "__main__":
    main()
