"""granian with one worker: ASGI, or its own RSGI."""

from typing import Protocol

from _granian import serve
from _peer import BODY, PATH, parser


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
    """Serve until SIGTERM."""
    arguments = parser()
    arguments.add_argument("--interface", choices=("asgi", "rsgi"), default="rsgi")
    options = arguments.parse_args()
    # The application does not speak the lifespan protocol.
    target, interface = ("_asgi:app", "asginl") if options.interface == "asgi" else ("hello_granian:rsgi", "rsgi")
    serve(target, interface, options.port, workers=1)


if __name__ == "__main__":
    main()
