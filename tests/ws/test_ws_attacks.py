"""Peers that mean harm: each costs a bounded amount, is told why where that is of use, and disturbs nobody else."""

from __future__ import annotations

import socket
import struct

import pytest
from tests.ws.serving import ACCEPT, MASK, Site, handshake

from nimloop_net import Connection, TcpServer
from nimloop_ws import WebSocket, WsLimits, WsTimeouts, connect, encode_frame

OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets


def still_serves(site: Site) -> None:
    """Make sure that somebody else is answered."""
    other = site.open()
    other.say("anybody?")
    assert other.next() == "anybody?"


# The handshake -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        [f"X-Long: {'x' * 70_000}"],
        [f"X-{i}: y" for i in range(2_000)],
        [f"Sec-WebSocket-Protocol: {'a, ' * 30_000}b"],
    ],
)
def test_a_huge_head(site: Site, fields: list[str]) -> None:
    """431, whatever makes it so long, and the end."""
    site.serve()
    peer = site.dial()
    try:
        peer.send(handshake("/", *fields))
    except ConnectionError:
        pass  # it had the answer before it was done
    assert peer.wait_end() or peer.reset
    assert peer.status in {431, 0}, "0: the reset overtook the answer"
    still_serves(site)


def test_a_head_that_fits_but_means_nothing(site: Site) -> None:
    """Thousands of offers and quotes without an end are read in no time, and none is taken."""
    site.serve()
    offers = "permessage-deflate; client_max_window_bits=99, " * 80 + 'x; y="' + "\\a" * 500
    peer = site.open("/", f"Sec-WebSocket-Extensions: {offers}")
    assert "sec-websocket-extensions" not in peer.headers
    peer.say("x")
    assert peer.next() == "x"


def test_a_handshake_that_trickles(timed: Site) -> None:
    """A byte now and then does not put the deadline off."""
    timed.serve(handshake_timeout=5.0)
    peer = timed.dial()
    request = handshake()
    for i in range(60):
        try:
            peer.sock.send(request[i : i + 1])
        except OSError:
            break
        timed.pass_time(0.1)
        peer.poll()
    assert peer.ended
    assert peer.status == 408


def test_hints_without_end(site: Site) -> None:
    """A server that sends thousands of interim answers gets no further with our client, and breaks nothing."""
    failures: list[Exception] = []
    opened: list[WebSocket] = []
    hints = b"HTTP/1.1 100 Continue\r\n\r\n" * 5_000
    answer = f"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"

    def on_accept(connection: Connection) -> None:
        connection.on_data = lambda conn, _data: conn.send(hints + answer.encode())

    with TcpServer(site.loop, on_accept=on_accept) as server:
        (address,) = server.listen("127.0.0.1", 0)
        connect(site.loop, f"ws://{address[0]}:{address[1]}/", on_open=opened.append, on_failure=failures.append)
        site.until(lambda: failures)
    assert "Sec-WebSocket-Accept" in str(failures[0]), "read to the end: the key is not that of the request"
    assert not opened


# Floods --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"x"])
def test_a_flood_of_fragments_does_not_keep_the_loop(site: Site, payload: bytes) -> None:
    """Tiny fragments make no event that could be counted, and are counted all the same: others are served between."""
    websockets = site.serve()
    attacker, other = site.open(), site.open()
    count = 60_000 // (6 + len(payload))
    attacker.send(encode_frame(2, b"", fin=False, mask=MASK) + encode_frame(0, payload, fin=False, mask=MASK) * count)
    other.say("me too")
    assert other.next() == "me too"
    assert not websockets[0]._parser.drained, "most of the flood waits"
    attacker.frame(0, b"!")
    assert attacker.next() == payload * count + b"!"


def test_fragments_that_add_up(site: Site) -> None:
    """1009 with the header of the one that is too much, after any number of them."""
    site.serve(limits=WsLimits(message=5_000))
    peer = site.open()
    peer.frame(1, "x", fin=False)
    for _ in range(499):
        peer.frame(0, b"0123456789", fin=False)
    peer.ping_pong()
    peer.send(encode_frame(0, b"0123456789", fin=False, mask=MASK)[:6])
    assert peer.next_close()[0] == 1009
    assert peer.wait_end()


def test_a_flood_behind_our_close(timed: Site) -> None:
    """A peer that goes on sending instead of answering the close frame is cut off in time, and nothing is kept."""
    websockets = timed.serve(timeouts=WsTimeouts(close=5.0))
    peer = timed.open()
    ws = websockets[0]
    ws.close()
    frame = encode_frame(2, b"x" * 1000, mask=MASK)
    for _ in range(60):
        try:
            peer.sock.send(frame)
        except OSError:
            break
        timed.pass_time(0.1)
    assert ws.closed
    assert ws._parser.drained
    assert timed.log[-1] == ("close", 1006, "")


def test_a_flood_of_pings_and_closes(site: Site) -> None:
    """Pongs for what comes before the close frame, one close frame, silence behind it."""
    site.serve()
    peer = site.open()
    peer.send(encode_frame(9, b"p", mask=MASK) * 3000 + encode_frame(8, b"\x03\xe8", mask=MASK) * 3000)
    assert peer.wait_end()
    assert len(peer.events) == 3001
    still_serves(site)


# Compression ---------------------------------------------------------------------------------------------------


def test_streams_that_end_in_every_second_byte(site: Site) -> None:
    """1007: each would cost a decompressor, and copies of the whole message."""
    site.serve()
    peer = site.open("/", OFFER)
    peer.frame(2, b"\x03\x00" * 32_000, rsv1=True)
    assert peer.next_close() == (1007, "a compressed message ends and begins anew too often")
    assert peer.wait_end()


# Connections that end badly ------------------------------------------------------------------------------------


def test_a_reset_in_the_middle_of_a_message(site: Site) -> None:
    """What was complete is handed out, `on_close` comes once with 1006, nothing is left."""
    websockets = site.serve(on_message=site.note_message)
    for _ in range(20):
        peer = site.open()
        peer.say("whole")
        peer.send(encode_frame(2, b"x" * 50_000, mask=MASK)[:30_000])
        site.until(lambda: len(site.log) % 3 == 1)
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        peer.sock.close()
        site.until(lambda: len(site.log) % 3 == 0)
    assert site.log == [("message", "whole"), ("error", "ConnectionLostError"), ("close", 1006, "")] * 20
    assert all(ws.closed for ws in websockets)


def test_a_peer_that_half_closes_in_a_frame(site: Site) -> None:
    """It is answered what it has said before, and let go: 1006."""
    site.serve()
    peer = site.open()
    peer.say("before")
    peer.send(encode_frame(1, "not all of it", mask=MASK)[:9])
    peer.sock.shutdown(socket.SHUT_WR)
    assert peer.next() == "before"
    assert peer.wait_end()
    site.until(lambda: ("close", 1006, "") in site.log)


def test_a_peer_that_half_closes_and_never_reads(timed: Site) -> None:
    """What it was sent waits no longer than the connection's patience with a peer that takes nothing."""
    websockets = timed.serve()
    peer = timed.open(receive_buffer=4096)
    peer.reading = False
    while websockets[0].send(b"x" * 100_000):
        timed.settle(1)
    peer.sock.shutdown(socket.SHUT_WR)
    timed.pass_time(60.0)
    assert websockets[0].closed
    assert timed.log[-1] == ("close", 1006, "")


def test_a_peer_that_vanishes_in_a_large_message(timed: Site) -> None:
    """No pong can come within a frame: without progress it is given up."""
    websockets = timed.serve()
    peer = timed.open()
    peer.send(encode_frame(2, b"x" * 500_000, mask=MASK)[:300_000])
    timed.pass_time(90.0)
    assert websockets[0].closed
    assert timed.log[-2:] == [("error", "PongTimeoutError"), ("close", 1006, "")]
