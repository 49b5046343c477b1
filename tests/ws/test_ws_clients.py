"""Other people's WebSockets on the other end: Python's websockets, aiohttp and picows, npm's ws, and Chromium.

Each sends text, binary, large and compressed messages, sees the close codes, and is refused. What is not installed is
skipped; npm's ws is looked for where NODE_PATH points.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets
from tests.support.turning import PATIENCE
from tests.ws.serving import Site, in_thread
from websockets.asyncio.server import serve as serve_websockets

from nimloop_core import Loop
from nimloop_http import HttpRequest, HttpResponse, HttpServer
from nimloop_ws import Deflate, WebSocket, WsServer, connect, upgrade
from nimloop_ws.errors import HandshakeRefusedError

MESSAGES: list[str | bytes] = ["hellö", b"\x00\xff", "", b"", "x" * 300_000, bytes(range(256)) * 5000]
COMPRESSED = Deflate(threshold=0)


def act(ws: WebSocket, message: str | bytes) -> None:
    """Echo, or close with the code that is asked for."""
    if isinstance(message, str) and message.startswith("close "):
        ws.close(int(message[6:]), "as you wish")
    else:
        ws.send(message)


def gate(req: HttpRequest, res: HttpResponse) -> None:
    """Refuse one path."""
    if req.path == "/refused":
        res.status(403).header("X-Why", "mood").send("no")


def make(loop: Loop) -> WsServer:
    """Serve what the clients below expect."""
    return WsServer(loop, on_message=act, on_handshake=gate, compression=COMPRESSED, subprotocols=("chat",))


# Clients of others, our server -----------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["deflate", None])
def test_websockets(compression: str | None) -> None:
    """The reference of Python."""

    async def talk(url: str) -> None:
        settings: dict[str, Any] = {"compression": compression, "max_size": None, "proxy": None}  # type: ignore[explicit-any]
        async with websockets.connect(url, subprotocols=[websockets.Subprotocol("chat")], **settings) as ws:
            assert ws.subprotocol == "chat"
            assert bool(ws.protocol.extensions) is bool(compression)
            for message in MESSAGES:
                await ws.send(message)
                assert await ws.recv() == message
            await ws.send(["frag", "ments"])
            assert await ws.recv() == "fragments"
            await (await ws.ping(b"x"))
        assert ws.close_code == 1000
        async with websockets.connect(url, **settings) as ws:
            await ws.send("close 4321")
            with pytest.raises(websockets.ConnectionClosed):
                await ws.recv()
            assert (ws.close_code, ws.close_reason) == (4321, "as you wish")
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with websockets.connect(url + "refused", proxy=None):
                pass
        assert refused.value.response.status_code == 403
        assert refused.value.response.headers["X-Why"] == "mood"

    with in_thread(make) as (host, port):
        asyncio.run(asyncio.wait_for(talk(f"ws://{host}:{port}/"), PATIENCE))


def test_aiohttp() -> None:
    """With and without compression."""
    aiohttp = pytest.importorskip("aiohttp")

    async def talk(url: str) -> None:
        async with aiohttp.ClientSession() as session:
            for compress in (0, 15):
                async with session.ws_connect(url, compress=compress, max_msg_size=0, protocols=("chat",)) as ws:
                    assert ws.protocol == "chat"
                    assert bool(ws.compress) is bool(compress)
                    for message in MESSAGES:
                        await (ws.send_str(message) if isinstance(message, str) else ws.send_bytes(message))
                        answer = await ws.receive()
                        assert answer.data == message
                    await ws.send_str("close 3999")
                    answer = await ws.receive()
                    assert answer.type is aiohttp.WSMsgType.CLOSE
                    assert (answer.data, answer.extra) == (3999, "as you wish")
                async with session.ws_connect(url) as ws:
                    await ws.close(code=3000)
                    assert ws.close_code == 3000
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(url + "refused")
            assert refused.value.status == 403

    with in_thread(make) as (host, port):
        asyncio.run(asyncio.wait_for(talk(f"ws://{host}:{port}/"), PATIENCE))


def test_picows() -> None:
    """Callbacks on the other end too; it has no compression."""
    picows = pytest.importorskip("picows")

    async def talk(url: str) -> None:
        answers: asyncio.Queue[object] = asyncio.Queue()

        class Listener(picows.WSListener):  # type: ignore[misc, name-defined]
            def on_ws_frame(self, transport: Any, frame: Any) -> None:  # type: ignore[explicit-any]
                if frame.msg_type == picows.WSMsgType.CLOSE:
                    answers.put_nowait((int(frame.get_close_code()), frame.get_close_message()))
                    transport.send_close(4100)
                    transport.disconnect()
                elif frame.msg_type == picows.WSMsgType.TEXT:
                    answers.put_nowait(frame.get_payload_as_utf8_text())
                else:
                    answers.put_nowait(frame.get_payload_as_bytes())

        transport, _ = await picows.ws_connect(Listener, url)
        for message in MESSAGES:
            if isinstance(message, str):
                transport.send(picows.WSMsgType.TEXT, message.encode())
            else:
                transport.send(picows.WSMsgType.BINARY, message)
            assert await answers.get() == message
        transport.send(picows.WSMsgType.TEXT, b"close 4100")
        assert await answers.get() == (4100, b"as you wish")
        await transport.wait_disconnected()
        with pytest.raises(Exception, match="403"):
            await picows.ws_connect(Listener, url + "refused")

    with in_thread(make) as (host, port):
        asyncio.run(asyncio.wait_for(talk(f"ws://{host}:{port}/"), PATIENCE))


NODE = r"""
const WebSocket = require('ws');
const [url] = process.argv.slice(2);
const messages = ['hellö', Buffer.from([0, 255]), '', Buffer.alloc(0), 'x'.repeat(300000), Buffer.alloc(1000000, 'ab')];
function talk(perMessageDeflate, done) {
  const ws = new WebSocket(url, ['chat'], { perMessageDeflate });
  let at = -1;
  const next = () => { at++; ws.send(at < messages.length ? messages[at] : 'close 4242'); };
  ws.on('open', () => {
    if (ws.protocol !== 'chat' || !ws.extensions === !!perMessageDeflate) throw new Error('terms: ' + ws.extensions);
    next();
  });
  ws.on('message', (data, binary) => {
    const sent = messages[at];
    if (binary === (typeof sent === 'string')) throw new Error('kind ' + at);
    if (Buffer.compare(data, Buffer.from(sent))) throw new Error('message ' + at);
    if (at !== 1) { next(); return; }
    ws.once('pong', (payload) => { if (payload.toString() !== 'pp') throw new Error('pong'); next(); });
    ws.ping('pp');
  });
  ws.on('close', (code, reason) => {
    if (code !== 4242 || reason.toString() !== 'as you wish') throw new Error('close ' + code);
    done();
  });
}
talk(false, () => talk({ threshold: 0 }, () => talk({ threshold: 0, serverNoContextTakeover: true }, () => {
  const refused = new WebSocket(url + 'refused');
  refused.on('error', () => {});
  refused.on('unexpected-response', (request, response) => {
    if (response.statusCode !== 403 || response.headers['x-why'] !== 'mood') throw new Error('status');
    console.log('done');
    process.exit(0);
  });
})));
"""


def need_node() -> None:
    """Skip without node or its module ws."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    if subprocess.run(["node", "-e", "require('ws')"], capture_output=True, check=False).returncode:
        pytest.skip("npm's ws is not installed where NODE_PATH points")


def test_npm_ws(tmp_path: Path) -> None:
    """The client most servers meet, with compression in two settings."""
    need_node()
    (tmp_path / "talk.js").write_text(NODE)
    with in_thread(make) as (host, port):
        ran = subprocess.run(
            ["node", str(tmp_path / "talk.js"), f"ws://{host}:{port}/"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert (ran.returncode, ran.stdout) == (0, "done\n"), ran.stderr


PAGE = r"""<!doctype html><title>WebSocket</title><script>
const report = (text) => fetch('/report', { method: 'POST', body: text });
const url = 'ws://' + location.host + '/ws';
const big = 'ß'.repeat(200000);
const bytes = new Uint8Array(1000000).map((_, i) => i * 7);
const said = {};
const ws = new WebSocket(url, ['chat']);
ws.binaryType = 'arraybuffer';
const messages = ['hellö', '', big, bytes, new Uint8Array(0)];
let at = 0;
ws.onopen = () => { said.protocol = ws.protocol; said.extensions = ws.extensions; ws.send(messages[0]); };
ws.onmessage = (event) => {
  const sent = messages[at], got = event.data;
  const same = typeof sent === 'string' ? sent === got
    : got.byteLength === sent.length && new Uint8Array(got).every((byte, i) => byte === sent[i]);
  if (!same) { report('message ' + at + ' came back different'); return; }
  at++;
  ws.send(at < messages.length ? messages[at] : 'close 4567');
};
ws.onclose = (event) => {
  said.close = [event.code, event.reason, event.wasClean];
  const refused = new WebSocket('ws://' + location.host + '/refused');
  refused.onclose = (event) => { said.refused = event.code; report(JSON.stringify(said)); };
};
</script>"""


def chromium() -> str:
    """Return the browser's command; skip without one."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (found := shutil.which(name)) is not None:
            return found
    pytest.skip("no Chromium")


@contextmanager
def browsing(url: str, tmp_path: Path) -> Iterator[None]:
    """Open a page in a browser without a window."""
    command = [chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions"]
    command += ["--no-proxy-server", "--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}", url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            yield
        finally:
            browser.terminate()
            browser.wait(PATIENCE)


def test_chromium(tmp_path: Path) -> None:
    """A page of ours talks to its own server: compression is on, because browsers offer it."""
    chromium()
    reports: list[str] = []
    loop = Loop()

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        match req.path:
            case "/":
                res.header("Content-Type", "text/html; charset=utf-8").send(PAGE)
            case "/ws":
                upgrade(req, res, on_message=act, subprotocols=("chat",), compression=COMPRESSED)
            case "/report":
                reports.append(req.text)
                res.send("thanks")
                loop.stop()
            case _:
                res.status(403).send("no")

    server = HttpServer(loop, on_request)
    host, port = server.listen("127.0.0.1", 0)[0]
    loop.call_later(60.0, loop.stop)
    with browsing(f"http://{host}:{port}/", tmp_path):
        loop.run()
    server.close()
    loop.close()
    assert reports, "the page has not reported"
    said = json.loads(reports[0])
    assert said["protocol"] == "chat"
    assert said["extensions"].startswith("permessage-deflate")
    assert said["close"] == [4567, "as you wish", True]
    assert said["refused"] == 1006


# Servers of others, our client -----------------------------------------------------------------------------------


def converse(site: Site, url: str, compression: Deflate | None) -> None:
    """Let our client talk to an echo, and close with a code."""
    got: list[str | bytes] = []
    closed: list[tuple[int, str]] = []
    failures: list[Exception] = []

    def on_message(ws: WebSocket, message: str | bytes) -> None:
        got.append(message)
        if len(got) < len(MESSAGES):
            ws.send(MESSAGES[len(got)])
        else:
            ws.close(4000, "enough")

    connect(
        site.loop,
        url,
        on_open=lambda ws: ws.send(MESSAGES[0]),
        on_message=on_message,
        on_close=lambda _ws, code, reason: closed.append((code, reason)),
        on_failure=failures.append,
        compression=compression,
    )
    site.until(lambda: closed or failures)
    assert failures == []
    assert got == MESSAGES
    assert closed[0][0] in {4000, 1000}, "aiohttp answers every code with 1000"


def refused(site: Site, url: str) -> HandshakeRefusedError:
    """Return how our client is refused."""
    failures: list[Exception] = []
    connect(site.loop, url, on_failure=failures.append)
    site.until(lambda: failures)
    assert isinstance(failures[0], HandshakeRefusedError)
    return failures[0]


@contextmanager
def running(main: Callable[[asyncio.Future[int], asyncio.Event], object]) -> Iterator[int]:
    """Run an asyncio server in a thread; gives its port."""
    loop = asyncio.new_event_loop()
    port: asyncio.Future[int] = loop.create_future()
    end = asyncio.Event()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(main(port, end))  # type: ignore[arg-type]

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(asyncio.wait_for(asyncio.shield(port), PATIENCE), loop).result(PATIENCE)
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(PATIENCE)
        loop.close()


def test_a_server_of_websockets(site: Site) -> None:
    """Compressed and not, and refused by a function of the server."""

    async def main(port: asyncio.Future[int], end: asyncio.Event) -> None:
        async def echo(ws: websockets.ServerConnection) -> None:
            with contextlib.suppress(websockets.ConnectionClosedError):  # that is how it calls any code but 1000
                async for message in ws:
                    await ws.send(message)

        def gate(connection: websockets.ServerConnection, request: websockets.Request) -> websockets.Response | None:
            return connection.respond(418, "teapot\n") if request.path == "/refused" else None

        async with serve_websockets(echo, "127.0.0.1", 0, max_size=None, process_request=gate) as server:
            port.set_result(server.sockets[0].getsockname()[1])
            await end.wait()

    with running(main) as port:
        for compression in (
            None,
            COMPRESSED,
            Deflate(threshold=0, context_takeover=False, peer_context_takeover=False),
        ):
            converse(site, f"ws://127.0.0.1:{port}/", compression)
        error = refused(site, f"ws://127.0.0.1:{port}/refused")
        assert (error.status, error.body) == (418, b"teapot\n")


def test_a_server_of_aiohttp(site: Site) -> None:
    """Compressed and not."""
    web = pytest.importorskip("aiohttp.web")

    async def main(port: asyncio.Future[int], end: asyncio.Event) -> None:
        async def echo(request: object) -> object:
            ws = web.WebSocketResponse(max_msg_size=0)
            await ws.prepare(request)
            async for message in ws:
                await (ws.send_str(message.data) if isinstance(message.data, str) else ws.send_bytes(message.data))
            return ws

        app = web.Application()
        app.router.add_get("/", echo)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port.set_result(runner.addresses[0][1])
        await end.wait()
        await runner.cleanup()

    with running(main) as port:
        for compression in (None, COMPRESSED):
            converse(site, f"ws://127.0.0.1:{port}/", compression)
        assert refused(site, f"ws://127.0.0.1:{port}/refused").status == 404


NODE_SERVER = r"""
const { WebSocketServer } = require('ws');
const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: { threshold: 0 }, maxPayload: 0 });
server.on('listening', () => console.log(server.address().port));
server.on('connection', (ws) => ws.on('message', (data, binary) => ws.send(data, { binary })));
"""


def test_a_server_of_npm_ws(site: Site, tmp_path: Path) -> None:
    """Compressed and not."""
    need_node()
    (tmp_path / "serve.js").write_text(NODE_SERVER)
    with subprocess.Popen(["node", str(tmp_path / "serve.js")], stdout=subprocess.PIPE, text=True) as node:
        try:
            assert node.stdout is not None
            port = int(node.stdout.readline())
            for compression in (None, COMPRESSED):
                converse(site, f"ws://127.0.0.1:{port}/", compression)
        finally:
            node.terminate()


def test_node_is_found() -> None:
    """Where NODE_PATH is set, the module has to be there, so that nothing is skipped by mistake."""
    if os.environ.get("NODE_PATH"):
        need_node()
