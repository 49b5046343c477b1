"""What WebSockets cost in memory: nothing when they are gone, little when they are idle."""

from __future__ import annotations

import gc
import socket
import sys
import tracemalloc

import pytest
from tests.ws.serving import MASK, Peer, Site, echo, handshake

from nimloop_ws import Deflate, WsServer, encode_frame

OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


def cycle(site: Site, *fields: str) -> None:
    """Open, echo, close; the site does not remember it."""
    with socket.create_connection(site.address) as sock:
        sock.setblocking(False)
        peer = Peer(site, sock)
        peer.send(handshake("/", *fields))
        peer.frame(2, b"hello")
        peer.until(lambda: peer.events)
        peer.close()
        assert peer.wait_end()


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="measures CPython's allocator")
@pytest.mark.parametrize("compression", [None, Deflate(threshold=1 << 20)])
def test_cycles_leave_nothing(site: Site, compression: Deflate | None) -> None:
    """W12: objects and memory after 200 more cycles are what they were after 100, also without the collector."""
    site.add(WsServer(site.loop, on_message=echo, compression=compression))
    fields = [OFFER] if compression else []
    for _ in range(100):
        cycle(site, *fields)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(200):
            cycle(site, *fields)
        site.settle()
        grown = tracemalloc.get_traced_memory()[0] - before
        garbage = gc.collect()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert grown < 100_000, "bytes"
    assert garbage < 200, "objects in reference cycles"


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="measures CPython's allocator")
def test_an_idle_one_is_small(site: Site) -> None:
    """W9: a few KiB, whatever it has read before."""
    site.add(WsServer(site.loop, on_message=lambda _ws, _message: None))
    large = encode_frame(2, b"x" * 200_000, mask=MASK)

    def idle() -> Peer:
        peer = site.open()
        peer.send(large)
        peer.ping_pong()
        return peer

    peers = [idle() for _ in range(20)]
    gc.collect()
    tracemalloc.start()
    try:
        peers += [idle() for _ in range(200)]
        gc.collect()
        traced = tracemalloc.take_snapshot().filter_traces(
            [tracemalloc.Filter(inclusive=True, filename_pattern="*nimloop_*")]
        )
        ours = sum(trace.size for trace in traced.traces)
    finally:
        tracemalloc.stop()
    # The clients' parsers are of this package, too.
    assert ours / 200 < 6000
    assert len(peers) == 220
