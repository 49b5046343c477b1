"""nimloop's StaticFiles, as `python -m nimloop_http` uses it."""

from _peer import HOST, parser, say_build, say_compiled, say_port, skip

try:
    import nimloop_core
    import nimloop_http
    import nimloop_net
    from nimloop_core import Loop
    from nimloop_http import HttpServer, StaticFiles
except ImportError as missing:
    skip(missing)


def main() -> None:
    """Serve until SIGTERM."""
    arguments = parser()
    arguments.add_argument("--root")
    given = arguments.parse_args()
    loop = Loop()
    server = HttpServer(loop, StaticFiles(given.root).serve)
    _, port = server.listen(HOST, given.port)[0][:2]
    say_build(nimloop_core, nimloop_net, nimloop_http)
    say_compiled()
    say_port(port)
    loop.run()


if __name__ == "__main__":
    main()
