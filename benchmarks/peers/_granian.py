"""How granian is set up, whatever it serves."""

from pathlib import Path

from _peer import HOST, free_port, need, say_build, say_port


def serve(target: str, interface: str, port: int, workers: int) -> None:
    """Serve until SIGTERM; the work is done in child processes. "asginl" is ASGI without the lifespan protocol."""
    granian, constants, uvloop = need("granian"), need("granian.constants"), need("uvloop")
    port = free_port(port)
    server = granian.Granian(
        target,
        address=HOST,
        port=port,
        interface=constants.Interfaces(interface),
        workers=workers,
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
