"""The numbers of a server, and how they are spelt."""

from __future__ import annotations

import logging
import re

import pytest
from tests.http.serving import Site, request
from tests.net.certificates import server_context

from nimloop_http import HttpRequest, HttpResponse, ServerStats, metrics_handler

pytest_plugins = ("tests.http.fixtures",)


def test_everything_is_counted(site: Site) -> None:
    """Answers by status, refusals, streams, lost clients, bytes, connections."""
    kept: list[HttpResponse] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        match req.path:
            case "/stream":
                stream = res.stream()
                stream.write("x")
                stream.end()
            case "/kept":
                kept.append(res)
            case "/up":
                res.upgrade("echo")
            case _:
                res.send("hello")

    server = site.start(on_request)
    client = site.dial()
    client.send(request() + request("GET", "/stream") + request("BREW", "/"))
    client.answers("GET", "GET", "GET")
    received = len(client.received)
    stats = server.stats
    assert stats == ServerStats(
        connections=1, accepted=1, rejected=0, responses=3, statuses={200: 2, 501: 1}, lost=0, bytes_sent=received
    )
    client.received.clear()
    client.send(b"\0")
    received += len(client.read_all())
    client.close()
    other = site.dial()
    other.send(request("GET", "/kept"))
    site.until(lambda: kept)
    other.abort()
    site.until(lambda: kept[0].closed)
    third = site.dial()
    third.send(request("GET", "/up", "Connection: upgrade", "Upgrade: echo"))
    site.until(lambda: third.poll() or third.received)
    received += len(third.received)
    assert server.stats == ServerStats(
        connections=1,
        accepted=3,
        rejected=0,
        responses=5,
        statuses={101: 1, 200: 2, 400: 1, 501: 1},
        lost=1,
        bytes_sent=received,
    )
    third.close()
    site.until(lambda: server.stats.connections == 0)
    assert server.stats.bytes_sent >= received - len(third.received)


def test_a_failed_handshake_is_a_rejected_connection(site: Site) -> None:
    """It never came to a request."""
    server = site.start(lambda _req, res: res.send(), tls=server_context())
    client = site.dial()
    client.send(b"\x16\x03\x01\x00\x05hello")
    site.until(client.poll)
    site.until(lambda: server.stats.rejected == 1)


def test_prometheus_can_read_it(site: Site) -> None:
    """Each metric with its type, in the order of the format; labels for the statuses."""
    handle = metrics_handler(site.start(lambda _req, res: res.send()))
    site.server.on_request = lambda req, res: handle(req, res) if req.path == "/metrics" else res.send()
    client = site.dial()
    client.send(request() * 3)
    client.answers(*["GET"] * 3)
    client.received.clear()
    client.send(request("GET", "/metrics"))
    answer = client.answer()
    assert answer.get("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    text = answer.body.decode()
    assert 'nimloop_http_responses_total{status="200"} 3\n' in text
    assert "nimloop_http_connections 1\n" in text
    name = r"nimloop_http_[a-z_]+"
    block = rf"# HELP ({name}) [^\n]+\n# TYPE \1 (?:counter|gauge)\n(?:\1(?:\{{status=\"\d+\"\}})? \d+\n)*"
    assert re.fullmatch(f"(?:{block})+".replace("\\1", "[a-z_]+"), text)


def test_a_lost_client_is_in_the_access_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """As 499 when it got nothing; as what it got when that had begun."""
    caplog.set_level(logging.INFO, "nimloop.http.access")
    kept: list[HttpResponse] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        kept.append(res)
        res.on_done = lambda _res: None  # nothing that the application sets takes the log away
        if req.path == "/stream":
            res.stream().write("abc")

    site.start(on_request, access_log=True)
    for path in ("/", "/stream"):
        client = site.dial()
        client.send(request("GET", path))
        site.until(lambda: kept)
        site.settle()
        client.abort()
        site.until(lambda: kept[0].closed)
        kept.clear()
    lines = [record.getMessage().rpartition(" ")[0] for record in caplog.records]
    assert lines == ['127.0.0.1 "GET / HTTP/1.1" 499 0', '127.0.0.1 "GET /stream HTTP/1.1" 200 3']
