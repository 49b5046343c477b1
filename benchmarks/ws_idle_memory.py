"""Idle WebSockets: the memory that a server spends on each, without compression and with it.

    python benchmarks/ws_idle_memory.py                        5 000 connections, each setting
    python benchmarks/ws_idle_memory.py --connections 1000

Every connection has exchanged one message, so that what is made at the first one is there. The clients are another
process. Memory is looked at after each fifth of the connections; what is told is the slope from the first fifth to the
last, because what is paid once (pools, tables, the arenas of the allocator) would count at either end. *Heap* is what
tracemalloc finds, zlib's windows included; *resident* is what the kernel says, in a run without tracemalloc, whose own
records would count.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import socket
import subprocess
import sys
import tracemalloc
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Final

from nimloop_core import Loop
from nimloop_ws import Deflate, WebSocket, WsServer, encode_frame
from nimloop_ws.build import IMPLEMENTATION

_STEPS: Final = 5
_SPARE: Final = 64  # descriptors for everything else
_MESSAGE: Final = b'{"id": 1, "name": "item", "price": 2.95}' * 20
_MASK: Final = b"\x12\x34\x56\x78"
_REQUEST: Final = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
_OFFER: Final = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
SETTINGS: Final[dict[str, Deflate | None]] = {
    "no compression": None,
    "no context take-over": Deflate(context_takeover=False, peer_context_takeover=False),
    "Deflate()": Deflate(),
}


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def serve(setting: str, connections: int, *, traced: bool) -> None:
    """Serve so many, from a process of its own; print what they have cost after each fifth."""
    compression = SETTINGS[setting]
    loop = Loop()
    opened: list[WebSocket] = []
    found: list[int] = []

    def on_message(ws: WebSocket, message: str | bytes) -> None:
        ws.send(message)
        opened.append(ws)
        if len(opened) % (connections // _STEPS) == 0:
            look()  # the client waits for its answer before it opens the next one

    def look() -> None:
        gc.collect()
        found.append(tracemalloc.get_traced_memory()[0] if traced else resident())
        if len(found) == _STEPS:
            loop.call_soon(loop.stop)  # when the last answer has left

    server = WsServer(loop, on_message=on_message, compression=compression)
    _, port = server.listen("127.0.0.1", 0)[0]
    if traced:
        tracemalloc.start()
    parent_is_gone, parent = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(parent)
        visit(port, connections, compressed=compression is not None)
        os.read(parent_is_gone, 1)
        os._exit(0)
    loop.run()
    print(json.dumps(found))
    os.close(parent)
    os.waitpid(child, 0)
    server.close()
    loop.close()


def visit(port: int, connections: int, *, compressed: bool) -> None:
    """Be all the clients: open, exchange a message, say nothing more."""
    tracemalloc.stop()
    payload = _MESSAGE
    if compressed:
        compressor = zlib.compressobj(wbits=-12)
        payload = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    frame = encode_frame(2, payload, rsv1=compressed, mask=_MASK)
    request = _REQUEST + (_OFFER if compressed else b"") + b"\r\n"
    for _ in range(connections):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(request + frame)
        answer = b""
        while b"\r\n\r\n" not in answer or answer.endswith(b"\r\n\r\n"):
            answer += sock.recv(65536)
        if answer.partition(b"\r\n\r\n")[2][0] != (0xC2 if compressed else 0x82):
            raise SystemExit(f"not what was asked for: {answer!r}")
        sock.detach()  # it stays open until this process ends


def slope(setting: str, connections: int, *, traced: bool) -> list[int]:
    """Return the bytes for each connection, of each step after the first."""
    command = [sys.executable, __file__, "--serve", setting, "--connections", str(connections)]
    command += ["--traced"] if traced else []
    told = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    found: list[int] = json.loads(told)
    step = connections // _STEPS
    return [round((later - earlier) / step) for earlier, later in pairwise(found)]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--traced", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    connections = min(given.connections, hard - _SPARE) // _STEPS * _STEPS
    if given.serve:
        serve(given.serve, connections, traced=given.traced)
        return 0
    print(f"{connections} idle WebSockets, {IMPLEMENTATION}, bytes for each; then for each of the steps")
    for setting in SETTINGS:
        for name, traced in (("heap", True), ("resident", False)):
            steps = slope(setting, connections, traced=traced)
            print(f"{setting:22} {name:9} {sum(steps) / len(steps):8.0f}   {' '.join(map(str, steps))}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
