"""nimloop's forms: in memory, or taken apart as they come with the file on disk."""

from _peer import HOST, parser, say_build, say_compiled, say_port, skip

try:
    import nimloop_core
    import nimloop_http
    import nimloop_net
    from nimloop_core import Loop
    from nimloop_http import HttpRequest, HttpResponse, HttpServer, Limits
except ImportError as missing:
    skip(missing)


def on_headers(req: HttpRequest, res: HttpResponse) -> None:
    """Let files go to disk."""
    req.receive_form()


def on_request(req: HttpRequest, res: HttpResponse) -> None:
    """Tell the size of the file."""
    res.send(str(req.multipart()["file"].size))


def main() -> None:
    """Serve until SIGTERM."""
    arguments = parser()
    arguments.add_argument("--keep", choices=("memory", "disk"))
    given = arguments.parse_args()
    loop = Loop()
    hook = on_headers if given.keep == "disk" else None
    server = HttpServer(loop, on_request, on_headers=hook, limits=Limits(body=1 << 30))
    _, port = server.listen(HOST, given.port)[0][:2]
    say_build(nimloop_core, nimloop_net, nimloop_http)
    say_compiled()
    say_port(port)
    loop.run()


if __name__ == "__main__":
    main()
