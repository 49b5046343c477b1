"""uvicorn with uvloop and httptools, its fastest choice, and a plain ASGI application."""

from _asgi import app
from _peer import listening, need, port_argument, port_of, say_build, say_port


def main() -> None:
    """Serve until SIGTERM."""
    uvicorn, uvloop, httptools = need("uvicorn"), need("uvloop"), need("httptools")
    sock = listening(port_argument())
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", ws="none", lifespan="off", access_log=False, log_level="warning"
    )
    say_build(uvicorn, uvloop, httptools)
    say_port(port_of(sock))
    uvicorn.Server(config).run(sockets=[sock])


if __name__ == "__main__":
    main()
