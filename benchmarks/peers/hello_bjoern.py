"""bjoern, a WSGI server in C on libev (building it needs libev's headers)."""

from _peer import HOST, need, port_argument, port_of, say_build, say_port
from _wsgi import app


def main() -> None:
    """Serve until SIGTERM."""
    bjoern = need("bjoern")
    sock = bjoern.listen(app, HOST, port_argument())
    say_build(need("_bjoern"), bjoern)
    say_port(port_of(sock))
    bjoern.run()


if __name__ == "__main__":
    main()
