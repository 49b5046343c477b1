"""nimloop, as its users write it: a Python handler that looks at the path."""

from _peer import BODY, HOST, PATH, need, port_argument, say_build, say_compiled, say_port, skip

try:
    import nimloop_core
    import nimloop_http
    import nimloop_net
    from nimloop_core import Loop
    from nimloop_http import HttpRequest, HttpResponse, HttpServer
except ImportError as missing:
    skip(missing)


def on_request(req: HttpRequest, res: HttpResponse) -> None:
    """Answer the one path there is."""
    if req.path == PATH:
        res.send(BODY)
    else:
        res.status(404).send("Not Found")


def main() -> None:
    """Serve until SIGTERM."""
    port = port_argument()
    loop = Loop()
    server = HttpServer(loop, on_request)
    _, port = server.listen(HOST, port)[0][:2]
    say_build(nimloop_core, nimloop_net, nimloop_http)
    say_compiled()
    print(f"build scanner: {need('nimloop_http.build').IMPLEMENTATION}")
    say_port(port)
    loop.run()


if __name__ == "__main__":
    main()
