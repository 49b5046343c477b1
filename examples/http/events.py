"""Server-sent events, and a body that is counted while it comes.

python examples/http/events.py [PORT]
curl -N http://127.0.0.1:8000/clock
curl -T large.iso http://127.0.0.1:8000/count
"""

import sys
import time

from nimloop_http import HttpRequest, HttpResponse, HttpServer, Limits, serve

PAGE = """<!doctype html><title>Clock</title><h1 id=time>…</h1>
<script>
new EventSource("/clock").onmessage = event => { document.getElementById("time").textContent = event.data }
</script>
"""


def clock(res: HttpResponse) -> None:
    """Tell the time every half second, until the client has enough of it."""
    stream = res.header("Cache-Control", "no-store").stream("text/event-stream")

    def tick() -> None:
        stream.write(f"data: {time.strftime('%H:%M:%S')}\n\n")

    tick()
    timer = res.connection.loop.call_every(0.5, tick)
    stream.on_close = timer.cancel


def on_headers(req: HttpRequest, res: HttpResponse) -> None:
    """Take an upload piece by piece; nothing of it is kept, so it may be as large as it likes."""
    if req.method == "PUT" and req.path == "/count":
        req.limit_body(1 << 50)
        body = req.body_stream(lambda _piece: None, lambda: res.send(f"{body.received} bytes\n"))


def on_request(req: HttpRequest, res: HttpResponse) -> None:
    """Everything else."""
    if req.path == "/clock":
        clock(res)
    elif req.path == "/":
        res.header("Content-Type", "text/html; charset=utf-8").send(PAGE)
    else:
        res.send_error(404)


def say(server: HttpServer) -> None:
    """Tell where it is."""
    print("http://{}:{}/".format(*server.addresses[0]), flush=True)


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    serve(on_request, port=port, on_headers=on_headers, limits=Limits(body=0), on_listening=say)
