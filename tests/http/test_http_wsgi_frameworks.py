"""Frameworks through the WSGI bridge: they greet, read forms and files, stream and fail. Each is optional."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from wsgiref.types import WSGIApplication

import httpx
import pytest
from tests.http.serving import in_thread

from nimloop_http import WsgiBridge

FILE = bytes(range(256)) * 500
THIS = Path(__file__)


def opened() -> BinaryIO:
    """Open this file; to close it is the framework's business."""
    return THIS.open("rb")


def flask_app() -> WSGIApplication:
    """Make the application with Flask."""
    flask = pytest.importorskip("flask")
    app = flask.Flask(__name__, root_path=str(THIS.parent))
    app.add_url_rule("/", "hello", view_func=lambda: "hello")
    app.add_url_rule("/stream", "stream", view_func=lambda: flask.Response(f"{number}\n" for number in range(1000)))
    app.add_url_rule("/file", "file", view_func=lambda: flask.send_file(__file__))
    app.add_url_rule(
        "/upload",
        "upload",
        view_func=lambda: f"{flask.request.form['title']} {len(flask.request.files['file'].read())}",
        methods=["POST"],
    )
    made: WSGIApplication = app
    return made


def bottle_app() -> WSGIApplication:
    """Make the application with Bottle."""
    bottle = pytest.importorskip("bottle")
    app = bottle.Bottle()
    app.route("/", callback=lambda: "hello")
    app.route("/stream", callback=lambda: (f"{number}\n" for number in range(1000)))
    app.route("/file", callback=lambda: bottle.static_file(THIS.name, root=str(THIS.parent)))
    app.route(
        "/upload",
        method="POST",
        callback=lambda: f"{bottle.request.forms.title} {len(bottle.request.files.file.file.read())}",
    )
    made: WSGIApplication = app
    return made


def falcon_app() -> WSGIApplication:
    """Make the application with Falcon, whose resources are objects."""
    falcon = pytest.importorskip("falcon")

    class Hello:
        def on_get(self, _req: object, resp: object) -> None:
            resp.text = "hello"  # type: ignore[attr-defined]

        on_head = on_get

    class Stream:
        def on_get(self, _req: object, resp: object) -> None:
            resp.stream = (f"{number}\n".encode() for number in range(1000))  # type: ignore[attr-defined]

    class File:
        def on_get(self, _req: object, resp: object) -> None:
            resp.stream = opened()  # type: ignore[attr-defined]

    class Upload:
        def on_post(self, req: object, resp: object) -> None:
            found = {part.name: part.stream.read() for part in req.get_media()}  # type: ignore[attr-defined]
            resp.text = f"{found['title'].decode()} {len(found['file'])}"  # type: ignore[attr-defined]

    app = falcon.App()
    for path, resource in (("/", Hello()), ("/stream", Stream()), ("/file", File()), ("/upload", Upload())):
        app.add_route(path, resource)
    made: WSGIApplication = app
    return made


def django_app() -> WSGIApplication:
    """Make the application with Django, whose settings belong to the process."""
    settings = pytest.importorskip("django.conf").settings
    http = pytest.importorskip("django.http")
    path = pytest.importorskip("django.urls").path

    def upload(request: object) -> object:
        title = request.POST["title"]  # type: ignore[attr-defined]
        return http.HttpResponse(f"{title} {len(request.FILES['file'].read())}")  # type: ignore[attr-defined]

    class Urls:
        urlpatterns = (
            path("", lambda _request: http.HttpResponse("hello")),
            path("stream", lambda _request: http.StreamingHttpResponse(f"{number}\n" for number in range(1000))),
            path("file", lambda _request: http.FileResponse(opened())),
            path("upload", upload),
        )

    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"], ROOT_URLCONF=Urls, SECRET_KEY="secret", MIDDLEWARE=[], LOGGING_CONFIG=None
        )
        pytest.importorskip("django").setup()
    made: WSGIApplication = pytest.importorskip("django.core.handlers.wsgi").WSGIHandler()
    return made


APPS = {"flask": flask_app, "bottle": bottle_app, "falcon": falcon_app, "django": django_app}


@pytest.fixture(params=APPS)
def client(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """Serve the application of each framework in threads, and connect to it."""
    with (
        WsgiBridge(APPS[str(request.param)](), threads=4) as bridge,
        in_thread(bridge.serve) as (host, port),
        httpx.Client(base_url=f"http://{host}:{port}", timeout=20) as client,
    ):
        yield client
    gc.collect()  # Bottle leaves its temporary files to it, and without a GIL that comes when it comes


def test_a_framework_at_work(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    """One connection, one thing after the other."""
    for _ in range(3):
        assert client.get("/").text == "hello"
    assert client.get("/stream").text.splitlines() == [str(number) for number in range(1000)]
    assert client.get("/file").content == THIS.read_bytes()
    head = client.head("/")
    assert (head.status_code, head.content) == (200, b"")
    sent = client.post("/upload", data={"title": "a title"}, files={"file": ("noise.bin", FILE)})
    assert sent.text == f"a title {len(FILE)}"
    assert client.get("/nothing/here").status_code == 404
    assert {record.name for record in caplog.records if record.levelname == "WARNING"} <= {"django.request"}
    caplog.clear()
