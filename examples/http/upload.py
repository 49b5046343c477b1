"""A page to upload files to a folder, which shows how far everybody is.

python examples/http/upload.py FOLDER [PORT]
"""

from __future__ import annotations

import json
import sys
from itertools import count
from pathlib import Path

from nimloop_core import Timer
from nimloop_http import (
    FormReader,
    HttpRequest,
    HttpResponse,
    HttpServer,
    Part,
    ResponseStream,
    StaticFiles,
    Timeouts,
    serve,
    serve_file,
)

PAGE = Path(__file__).parent / "upload.html"
LARGEST = 2 << 30


class Uploads:
    """What is under way, and who watches."""

    def __init__(self, folder: str) -> None:
        """Take the folder, which has to be there."""
        self.folder = Path(folder)
        self.files = StaticFiles(folder, prefix="/files", listing=True)
        self.numbers = count(1)
        self.under_way: dict[int, dict[str, object]] = {}

    def on_headers(self, req: HttpRequest, res: HttpResponse) -> None:
        """Before a byte of the body is kept: decide how much it may be, and where it goes."""
        if (req.method, req.path) == ("POST", "/upload"):
            number = next(self.numbers)
            req.limit_body(LARGEST)

            def on_progress(reader: FormReader) -> None:
                names = [part.filename for part in reader.form.parts if part.is_file]
                self.under_way[number] = {"names": names, "received": reader.received, "total": req.content_length}

            # In the folder itself, so that saving copies within one file system.
            req.receive_form(directory=self.folder, on_progress=on_progress)
            res.at_end(lambda: self.under_way.pop(number, None))

    def on_request(self, req: HttpRequest, res: HttpResponse) -> None:
        """Answer what is complete."""
        match req.method, req.path:
            case "GET" | "HEAD", "/":
                serve_file(req, res, PAGE)
            case "GET", "/events":
                self.watch(res.header("Cache-Control", "no-store").stream("text/event-stream"), req)
            case "POST", "/upload":
                self.keep([part for part in req.form().get_all("file") if part.is_file], res)
            case _:
                self.files.serve(req, res)

    def keep(self, parts: list[Part], res: HttpResponse) -> None:
        """Save the files, one after the other, while the loop goes on."""
        names: list[str] = []

        def go_on(error: OSError | None = None) -> None:
            if res.closed:
                return
            if error is not None:
                res.send_error(500, error.strerror or "the file could not be saved")
            elif len(names) == len(parts):
                res.status(201).send_json(names)
            else:
                part = parts[len(names)]
                path = self.free_path(part.filename or "")
                names.append(path.name)
                part.save(path, mode=0o644, on_done=go_on)

        go_on()

    def free_path(self, filename: str) -> Path:
        """Find a name that is not taken; the client's is a wish, without directories but otherwise anything."""
        wish = Path(filename.lstrip(".")[-100:] or "file")
        path = self.folder / wish
        for number in count(2):
            if not path.exists():
                break
            path = self.folder / f"{wish.stem} {number}{wish.suffix}"
        path.touch()  # now it is
        return path

    def watch(self, stream: ResponseStream, req: HttpRequest) -> None:
        """Tell a page all it needs, a few times a second, if it keeps up."""
        room = True

        def tell() -> None:
            nonlocal room
            if room:
                room = stream.write(f"data: {json.dumps(list(self.under_way.values()))}\n\n")

        def drained() -> None:
            nonlocal room
            room = True

        timer: Timer = req.connection.loop.call_every(0.25, tell)
        stream.on_drain = drained
        stream.on_close = timer.cancel


def announce(server: HttpServer) -> None:
    """Say where it is."""
    print("http://{}:{}/".format(*server.addresses[0]), flush=True)


if __name__ == "__main__":
    uploads = Uploads(sys.argv[1])
    serve(
        uploads.on_request,
        port=int(sys.argv[2]) if len(sys.argv) > 2 else 8000,
        on_headers=uploads.on_headers,
        timeouts=Timeouts(body=3600.0, grace=1.0),
        on_listening=announce,
    )
