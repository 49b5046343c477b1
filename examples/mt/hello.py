"""Says hello on all cores: in threads without a GIL, in processes with one.

    python examples/mt/hello.py [PORT]

SIGTERM or Ctrl+C finishes what is under way and stops; SIGHUP replaces the workers one by one.
"""

from __future__ import annotations

import os
import sys
import threading

from nimloop_http import HttpRequest, HttpResponse
from nimloop_mt import MultiThreadHttpServer


def on_request(_req: HttpRequest, res: HttpResponse) -> None:
    """Say who answers."""
    res.send(f"Hello from process {os.getpid()}, thread {threading.get_native_id()}\n")


def main() -> None:
    """Serve until told to stop."""
    with MultiThreadHttpServer(on_request, workers=2) as server:
        ((host, port),) = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
        server.run(lambda: print(f"http://{host}:{port}/ with {server.workers} {server.mode}", flush=True))


if __name__ == "__main__":
    main()
