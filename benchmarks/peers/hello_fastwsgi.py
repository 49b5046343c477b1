"""fastwsgi, a WSGI server in C on libuv and llhttp."""

from _peer import HOST, free_port, need, port_argument, say_build, say_port
from _wsgi import app


def main() -> None:
    """Serve until SIGTERM."""
    fastwsgi = need("fastwsgi")
    fastwsgi.server.tcp_nodelay = 1
    port = free_port(port_argument())
    say_build(fastwsgi, need("_fastwsgi"))
    say_port(port)
    fastwsgi.run(wsgi_app=app, host=HOST, port=port, loglevel=1)


if __name__ == "__main__":
    main()
