"""A WebSocket on a real connection: messages, pressure, liveness, and every way to end."""

from __future__ import annotations

import socket
import struct
import threading

import pytest
from tests.ws.serving import MASK, Peer, Site, echo

from nimloop_ws import Close, Deflate, Ping, Pong, WebSocket, WsLimits, WsServer, WsTimeouts, encode_frame
from nimloop_ws.deflate import Deflater, accept_answer
from nimloop_ws.errors import CloseCodeError, FragmentError, WebSocketClosedError

FULL = Deflate(window_bits=15, peer_window_bits=15, threshold=100)
OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


def opened(site: Site, **settings: object) -> tuple[Peer, WebSocket]:
    """Serve, and open one WebSocket."""
    websockets = site.serve(**settings)
    peer = site.open()
    return peer, websockets[0]


# Messages ------------------------------------------------------------------------------------------------------


def test_echo(site: Site) -> None:
    """Text comes back as text, bytes as bytes, of any size."""
    peer, _ = opened(site)
    messages: list[str | bytes] = ["", "hellö", "x" * 200_000, b"", b"\x00\xff" * 50, b"y" * 3_000_000]
    for message in messages:
        peer.say(message)
        assert peer.next() == message


def test_messages_in_one_packet_come_in_order(site: Site) -> None:
    """However many of them: more than one turn's worth."""
    peer, _ = opened(site)
    peer.send(b"".join(encode_frame(1, str(i), mask=MASK) for i in range(5000)))
    assert [peer.next() for _ in range(5000)] == [str(i) for i in range(5000)]


def test_kinds_of_buffers(site: Site) -> None:
    """Bytes, bytearrays and memoryviews are binary messages, and may be changed at once; other things raise."""
    peer, ws = opened(site)
    data = bytearray(b"abc")
    ws.send(data)
    ws.send_binary(memoryview(data)[1:])
    data[:] = b"xyz"
    ws.send_text("t")
    assert [peer.next(), peer.next(), peer.next()] == [b"abc", b"bc", "t"]
    with pytest.raises(TypeError):
        ws.send_text(b"no")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ws.send_binary("no")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ws.send(5)  # type: ignore[arg-type]
    with pytest.raises(UnicodeEncodeError):
        ws.send("\ud800")
    ws.send("still there")
    assert peer.next() == "still there"


def test_pings_are_answered(site: Site) -> None:
    """With their payload, also between the fragments of a message."""
    peer, _ = opened(site)
    peer.frame(1, "one, ", fin=False)
    peer.frame(9, b"in between")
    pong = peer.next()
    assert isinstance(pong, Pong)
    assert pong.payload == b"in between"
    peer.frame(0, "two")
    assert peer.next() == "one, two"


def test_pings_of_ours(site: Site) -> None:
    """`on_pong` gets the answer, and pongs that nobody asked for."""
    pongs: list[bytes] = []
    peer, ws = opened(site, on_pong=lambda _ws, payload: pongs.append(payload))
    assert ws.ping(b"hello")
    ping = peer.next()
    assert isinstance(ping, Ping)
    peer.pong(ping.payload)
    peer.pong(b"by the way")
    site.until(lambda: len(pongs) == 2)
    assert pongs == [b"hello", b"by the way"]
    ws.pong(b"unasked")
    pong = peer.next()
    assert isinstance(pong, Pong)
    assert pong.payload == b"unasked"
    with pytest.raises(ValueError):
        ws.ping(b"x" * 126)


def test_a_message_piece_by_piece(site: Site) -> None:
    """W11: fragments go out as they are written; a ping may come in between, another message may not."""
    peer, ws = opened(site)
    stream = ws.stream_text()
    assert repr(stream) == "<MessageStream text open>"
    assert stream.write("a")
    assert stream.write("ö")
    with pytest.raises(FragmentError):
        ws.send("not now")
    with pytest.raises(FragmentError):
        ws.stream_binary()
    with pytest.raises(TypeError):
        stream.write(b"bytes")
    ws.ping()
    assert isinstance(peer.next(), Ping)
    stream.end("c")
    assert peer.next() == "aöc"
    with pytest.raises(FragmentError):
        stream.write("late")
    stream = ws.stream_binary()
    stream.write(bytearray(b"1"))
    stream.end()
    ws.send("free again")
    assert [peer.next(), peer.next()] == [b"1", "free again"]


def test_a_stream_is_told_when_the_peer_has_caught_up(site: Site) -> None:
    """W11: its `on_drain` follows a `write` that returned False; with the WebSocket the stream ends."""
    peer, ws = opened(site)
    peer.reading = False
    unsent: list[int] = []
    stream = ws.stream_binary()
    stream.on_drain = lambda: unsent.append(ws.write_buffer_size)
    while stream.write(b"x" * 50_000):
        site.settle(1)
    site.settle(20)
    assert unsent == []
    peer.reading = True
    peer.until(lambda: unsent)
    assert unsent[0] <= WsLimits().low_water
    stream.end()
    stream = ws.stream_text()
    peer.until(lambda: peer.events)
    ws.abort()
    site.until(lambda: ws.closed)
    with pytest.raises(FragmentError, match="or the WebSocket has"):
        stream.write("too late")


def test_a_message_handed_out_piece_by_piece(site: Site) -> None:
    """`on_fragment` gets what there is, before the message is complete, even within a frame."""
    pieces: list[tuple[str | bytes, bool]] = []
    peer, _ = opened(site, on_fragment=lambda _ws, data, last: pieces.append((data, last)))
    frame = encode_frame(2, b"x" * 1000, mask=MASK)
    peer.send(frame[:500])
    site.until(lambda: pieces)
    assert not pieces[0][1]
    peer.send(frame[500:])
    peer.frame(1, "te", fin=False)
    peer.frame(0, "xt")
    site.until(lambda: len(pieces) > 2 and pieces[-1] == ("xt", True))
    assert b"".join(data for data, _ in pieces if isinstance(data, bytes)) == b"x" * 1000


# Compression ---------------------------------------------------------------------------------------------------


def test_compression(site: Site) -> None:
    """W2: messages from the threshold on are compressed, or as each one says; both sides keep their windows."""
    websockets = site.serve(compression=FULL)
    peer = site.open("/", OFFER)
    agreement = accept_answer(peer.headers["sec-websocket-extensions"], FULL)
    assert agreement is not None
    peer.agree(agreement)
    ws = websockets[0]
    assert ws.agreement is not None
    for message in ("short", "long " * 1000, b"\x00" * 100_000):
        ws.send(message)
        ws.send(message, compress=True)
        ws.send(message, compress=False)
        assert [peer.next(), peer.next(), peer.next()] == [message] * 3
    stream = ws.stream_text()
    stream.write("piece " * 500)
    stream.end("end")
    ws.send("after " * 100)
    assert [peer.next(), peer.next()] == ["piece " * 500 + "end", "after " * 100]
    # What went over the wire is far smaller than what was said.
    assert ws.connection.bytes_sent < 3 * 5_000 + 110_000


def test_a_bomb_is_refused(site: Site) -> None:
    """W2: a message that would be larger than the limit is closed with 1009."""
    site.serve(compression=FULL, limits=WsLimits(message=1 << 20))
    peer = site.open("/", OFFER)
    agreement = accept_answer(peer.headers["sec-websocket-extensions"], FULL)
    assert agreement is not None
    peer.frame(2, Deflater(agreement).compress(bytes(64 << 20)), rsv1=True)
    assert peer.next_close()[0] == 1009
    assert peer.wait_end()
    peer.sock.close()
    site.until(lambda: len(site.log) == 2)
    assert site.log[0] == ("error", "MessageTooBigError")


# Violations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (encode_frame(1, "x"), 1002),
        (b"\x83\x80" + MASK, 1002),
        (b"\xf1\x80" + MASK, 1002),
        (b"\x89\xfe\x00\x7e" + MASK, 1002),
        (encode_frame(1, b"\xff", mask=MASK), 1007),
        (encode_frame(8, b"\x03\xe8\xff", mask=MASK), 1007),
        (b"\x82\xff" + (1 << 40).to_bytes(8, "big") + MASK, 1009),
    ],
)
def test_violations_get_their_code_and_the_end(site: Site, data: bytes, code: int) -> None:
    """W3: the code is told, the connection ends in order, `on_close` tells it once; nothing behind it is looked at."""
    peer, _ = opened(site)
    peer.send(data + encode_frame(1, "too late", mask=MASK))
    assert peer.next_close()[0] == code
    assert peer.wait_end()
    assert not peer.events
    peer.sock.close()
    site.until(lambda: len(site.log) == 2)
    assert site.log[0][0] == "error"
    assert site.log[1][:2] == ("close", code)
    site.settle()
    assert len(site.log) == 2


# Ending --------------------------------------------------------------------------------------------------------


def test_the_peer_closes(site: Site) -> None:
    """W4: its code is echoed, the server ends the connection, `on_close` has code and reason."""
    peer, ws = opened(site)
    peer.say("last")
    peer.close(3000, b"enough")
    assert peer.next() == "last"
    assert peer.next_close() == (3000, "")
    assert peer.wait_end()
    peer.sock.close()
    site.until(lambda: ws.closed)
    assert site.log == [("close", 3000, "enough")]
    assert (ws.close_code, ws.close_reason, ws.state) == (3000, "enough", "closed")


def test_the_peer_closes_without_a_code(site: Site) -> None:
    """An empty close frame is 1005, and is answered by an empty one."""
    peer, ws = opened(site)
    peer.close(None)
    assert peer.next_close() == (1005, "")
    peer.wait_end()
    peer.sock.close()
    site.until(lambda: ws.closed)
    assert site.log == [("close", 1005, "")]


def test_we_close(site: Site) -> None:
    """W4: what was sent before leaves first; the peer's answer is waited for; what it says meanwhile is thrown away."""
    peer, ws = opened(site, on_message=site.note_message)
    ws.send(b"x" * 1_000_000)
    ws.close(4000, "bye")
    ws.close(1001)  # harmless
    assert ws.state == "closing"
    with pytest.raises(WebSocketClosedError):
        ws.send("late")
    with pytest.raises(WebSocketClosedError):
        ws.ping()
    peer.say("unheard")
    assert peer.next() == b"x" * 1_000_000
    assert peer.next_close() == (4000, "bye")
    site.settle()
    assert site.log == []
    peer.close(4000)
    assert peer.wait_end()
    peer.sock.close()
    site.until(lambda: ws.closed)
    assert site.log == [("close", 4000, "")]


def test_what_comes_after_our_close(site: Site) -> None:
    """W4: pings are not answered any more, pieces of messages not handed out; a violation ends it at once."""
    pieces: list[str | bytes] = []
    peer, ws = opened(site, on_fragment=lambda _ws, data, _last: pieces.append(data))
    ws.close(1000, "enough")
    peer.frame(1, "not wanted", fin=False)
    peer.frame(9, b"there?")
    peer.pong(b"here")
    peer.send(encode_frame(1, "not masked"))
    assert peer.next_close() == (1000, "enough")
    assert peer.wait_end()
    assert peer.events == []
    site.until(lambda: ws.closed)
    assert pieces == []
    assert site.log == [("error", "FrameError"), ("close", 1006, "")]


def test_codes_that_must_not_be_sent(site: Site) -> None:
    """They raise, and nothing has happened."""
    peer, ws = opened(site)
    for code in (999, 1005, 1006, 1015, 2000, 5000):
        with pytest.raises(CloseCodeError):
            ws.close(code)
    with pytest.raises(CloseCodeError):
        ws.close(1000, "ö" * 62)
    assert ws.is_open
    peer.say("go on")
    assert peer.next() == "go on"


def test_a_peer_that_does_not_answer_the_close(timed: Site) -> None:
    """W4: it is cut after `WsTimeouts.close`."""
    peer, ws = opened(timed, timeouts=WsTimeouts(close=3.0))
    ws.close()
    assert peer.next_close() == (1000, "")
    timed.pass_time(2.9)
    assert ws.state != "closed"
    timed.pass_time(0.2)
    assert ws.state == "closed"
    assert timed.log == [("error", "ConnectionLostError"), ("close", 1006, "")]


def test_a_connection_that_just_ends(site: Site) -> None:
    """W4: the end without a close frame is 1006."""
    peer, ws = opened(site)
    peer.sock.close()
    site.until(lambda: ws.closed)
    assert site.log == [("error", "ConnectionLostError"), ("close", 1006, "")]
    with pytest.raises(WebSocketClosedError):
        ws.send("late")
    ws.close()
    ws.abort()


def test_a_reset_connection(site: Site) -> None:
    """What came before the reset is handed out, then 1006 with the cause."""
    errors: list[Exception] = []
    peer, ws = opened(site, on_error=lambda _ws, error: errors.append(error), on_message=site.note_message)
    peer.ping_pong()
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    peer.sock.close()
    site.until(lambda: ws.closed)
    assert isinstance(errors[0].__cause__, ConnectionResetError)
    assert site.log == [("close", 1006, "")]


def test_many_messages_and_the_end_right_behind_them(site: Site) -> None:
    """More than one turn hands out, and the connection is gone before the next: none of them is lost."""
    peer, _ = opened(site, on_message=site.note_message)
    packet = b"".join(encode_frame(2, b"%d" % i, mask=MASK) for i in range(3000))
    peer.send(packet)
    peer.sock.close()
    site.until(lambda: site.log and site.log[-1][0] == "close")
    assert site.log[:3000] == [("message", b"%d" % i) for i in range(3000)]
    assert site.log[3000:] == [("error", "ConnectionLostError"), ("close", 1006, "")]


@pytest.mark.parametrize("reset", [False, True])
def test_a_close_frame_with_the_end_right_behind_it(site: Site, *, reset: bool) -> None:
    """W12: the frame counts, although the event that brings it tells of the end, or of a reset, too."""
    peer, ws = opened(site)
    peer.ping_pong()
    peer.sock.send(encode_frame(8, (4001).to_bytes(2, "big") + b"bye", mask=MASK))
    if reset:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    peer.sock.close()
    site.until(lambda: ws.closed)
    assert site.log == [("close", 4001, "bye")]


def test_messages_from_another_thread(site: Site) -> None:
    """W12: they go through `call_soon_threadsafe`, and arrive."""
    peer, ws = opened(site)

    def work() -> None:
        for i in range(100):
            text = f"from elsewhere {i}"
            site.loop.call_soon_threadsafe(lambda text=text: ws.send(text))  # type: ignore[misc]

    thread = threading.Thread(target=work)
    thread.start()
    assert [peer.next() for _ in range(100)] == [f"from elsewhere {i}" for i in range(100)]
    thread.join()


def test_nothing_sent_to_a_peer_that_is_going_raises(site: Site) -> None:
    """Between the end and `on_close` a message is lost, as those on their way are."""
    peer, ws = opened(site)
    peer.close(1000)
    site.until(lambda: not ws.is_open)
    assert ws.state != "closed"
    assert ws.send("into the void") is False
    assert ws.ping() is False
    peer.sock.close()
    site.until(lambda: ws.closed)
    with pytest.raises(WebSocketClosedError):
        ws.send("now it is known")


def test_abort(site: Site) -> None:
    """The connection is reset; `on_close` gets 1006."""
    peer, ws = opened(site)
    ws.abort()
    assert not peer.wait_end()
    site.until(lambda: ws.closed)
    assert site.log == [("close", 1006, "")]


def test_what_it_says_of_itself(site: Site) -> None:
    """Its loop, its peer, and a line for the log."""
    peer, ws = opened(site)
    assert ws.loop is site.loop
    assert ws.peer == peer.sock.getsockname()
    assert repr(ws) == f"<WebSocket open peer={ws.peer!r} unsent=0>"
    assert (ws.close_code, ws.close_reason) == (None, "")
    peer.close(4000, b"bye")
    site.until(lambda: ws.closed)
    assert repr(ws).startswith("<WebSocket closed peer=")
    assert (ws.close_code, ws.close_reason) == (4000, "bye")


def test_a_failing_on_drain(site: Site) -> None:
    """It is reported, and the WebSocket is closed, as after any other callback."""

    def fail(_ws: WebSocket) -> None:
        raise ZeroDivisionError

    peer, ws = opened(site, on_drain=fail)
    peer.reading = False
    while ws.send(b"x" * 50_000):
        site.settle(1)
    peer.reading = True
    assert peer.next_close() == (1011, "")
    assert [type(error) for error in site.errors] == [ZeroDivisionError]
    site.errors.clear()


def test_a_failing_callback_is_1011(site: Site) -> None:
    """It is reported, and the WebSocket is closed; others live on."""

    def fail(ws: WebSocket, message: str | bytes) -> None:
        if message == "boom":
            raise ZeroDivisionError
        ws.send(message)

    peer, _ = opened(site, on_message=fail)
    other = site.open()
    peer.say("boom")
    peer.say("unheard")
    assert peer.next_close() == (1011, "")
    peer.close(1011)
    peer.wait_end()
    other.say("fine")
    assert other.next() == "fine"
    assert isinstance(site.errors.pop(), ZeroDivisionError)
    peer.sock.close()
    site.until(lambda: ("close", 1011, "") in site.log)


def test_failing_callbacks_of_all_kinds(site: Site) -> None:
    """on_open, on_pong, on_close and on_error: each is reported once."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    site.serve(on_open=fail, on_close=fail, on_error=fail, on_pong=fail)
    peer = site.open()
    assert peer.next_close() == (1011, "")
    peer.sock.close()
    site.until(lambda: len(site.errors) == 3)
    site.settle()
    assert [type(error) for error in site.errors] == [ZeroDivisionError] * 3
    site.errors.clear()


def test_closing_from_inside_callbacks(site: Site) -> None:
    """From `on_open` and from `on_message`: the messages behind it are thrown away."""

    def close(ws: WebSocket, message: str | bytes) -> None:
        site.log.append(("message", message))
        ws.close(4001)

    peer, _ = opened(site, on_message=close)
    peer.send(encode_frame(1, "a", mask=MASK) + encode_frame(1, "b", mask=MASK) + encode_frame(8, b"", mask=MASK))
    assert peer.next_close() == (4001, "")
    assert peer.wait_end()
    peer.sock.close()
    site.until(lambda: len(site.log) == 2)
    assert site.log == [("message", "a"), ("close", 1005, "")]


def test_the_server_stops(site: Site) -> None:
    """Each WebSocket is closed with 1001; those that answer end in order."""
    websockets: list[WebSocket] = []
    server = WsServer(site.loop, on_open=websockets.append, on_message=echo, on_close=site.note_close)
    site.add(server)
    peers = [site.open(), site.open()]
    assert server.websockets == websockets
    aborted: list[int] = []
    server.shutdown(5.0, aborted.append)
    for peer in peers:
        assert peer.next_close()[0] == 1001
        peer.close(1001)
        assert peer.wait_end()
        peer.sock.close()
    site.until(lambda: aborted)
    assert aborted == [0]
    assert site.log == [("close", 1001, "")] * 2
    assert server.websockets == []


# Pressure ------------------------------------------------------------------------------------------------------


def test_send_tells_and_on_drain_follows(site: Site) -> None:
    """W11: False above the high-water mark, then `on_drain` once the peer has taken it."""
    drained: list[WebSocket] = []
    peer, ws = opened(site, on_drain=drained.append)
    peer.reading = False
    while ws.send(b"x" * 50_000):
        site.settle(1)
    assert ws.write_buffer_size > WsLimits().high_water
    site.settle(20)
    assert not drained
    peer.reading = True
    peer.until(lambda: drained)
    assert drained == [ws]
    assert ws.write_buffer_size <= WsLimits().low_water


def test_a_peer_that_never_reads_costs_a_bounded_amount(site: Site) -> None:
    """Its messages are answered until the high-water mark is passed, then no more of them is read."""
    handled = 0

    def answer(ws: WebSocket, message: str | bytes) -> None:
        nonlocal handled
        handled += 1
        ws.send(message)

    websockets = site.serve(on_message=answer)
    peer = site.open(receive_buffer=4096)
    peer.reading = False
    ws = websockets[0]
    frame = encode_frame(2, b"x" * 10_000, mask=MASK)
    taken = 0
    for _ in range(3000):
        try:
            taken += peer.sock.send(frame[taken % len(frame) :])
        except BlockingIOError:
            pass
        site.settle(1)
    assert ws.write_buffer_size < WsLimits().high_water + 2 * (1 << 18)
    before = handled
    site.settle(50)
    assert handled == before
    # It may yet come to its senses.
    peer.reading = True
    peer.send(frame[taken % len(frame) :] if taken % len(frame) else b"")
    peer.until(lambda: len(peer.events) == -(-taken // len(frame)))
    peer.say("awake")
    peer.until(lambda: peer.events[-1] == "awake")


def test_pings_of_a_peer_that_never_reads(site: Site) -> None:
    """Of many pings the last one is answered: pongs do not pile up."""
    peer, ws = opened(site)
    peer.reading = False
    while ws.send(b"x" * 100_000):
        site.settle(1)
    ws.resume_reading()
    before = ws.write_buffer_size
    ping = encode_frame(9, b"p" * 125, mask=MASK)
    for _ in range(200):
        peer.send(ping * 10)
    assert ws.write_buffer_size <= before
    peer.reading = True
    peer.until(lambda: ws.write_buffer_size == 0)
    peer.ping_pong(b"last")


def test_a_program_that_does_not_listen(site: Site) -> None:
    """Beyond `WsLimits.buffer` the peer is given up; one large message alone is not too much."""
    peer, ws = opened(site, limits=WsLimits(buffer=1 << 20, high_water=1000, low_water=100))
    ws.send(b"x" * (4 << 20))
    assert peer.next() == b"x" * (4 << 20)
    peer.reading = False
    for _ in range(40):
        if not ws.is_open:
            break
        ws.send(b"x" * (1 << 20))
        site.settle(2)
    site.until(lambda: ws.closed)
    assert site.log[-1] == ("close", 1006, "")


def test_pause_and_resume(site: Site) -> None:
    """Nothing is handed out meanwhile, not even what was read already; then everything, in order."""

    def once(ws: WebSocket, message: str | bytes) -> None:
        site.log.append(("message", message))
        ws.pause_reading()

    peer, ws = opened(site, on_message=once)
    peer.send(b"".join(encode_frame(1, str(i), mask=MASK) for i in range(3)))
    site.until(lambda: site.log)
    site.settle()
    assert site.log == [("message", "0")]
    ws.pause_reading()
    ws.resume_reading()
    site.until(lambda: len(site.log) == 2)
    site.settle()
    ws.resume_reading()
    site.until(lambda: len(site.log) == 3)
    ws.on_message = site.note_message
    ws.resume_reading()
    ws.resume_reading()
    peer.say("more")
    site.until(lambda: len(site.log) == 4)
    assert [message for _, message in site.log] == ["0", "1", "2", "more"]


def test_many_small_messages_do_not_keep_the_loop(site: Site) -> None:
    """A packet full of messages is handed out over several turns."""
    peer, _ = opened(site, on_message=site.note_message)
    peer.send(b"".join(encode_frame(2, b"", mask=MASK) for _ in range(8000)))
    site.until(lambda: site.log)
    turns = 0
    while len(site.log) < 8000:
        before = len(site.log)
        site.loop.run_once(0)
        turns += 1
        assert len(site.log) - before <= 1100
    assert turns >= 6


# Liveness ------------------------------------------------------------------------------------------------------


def test_a_quiet_peer_is_pinged_and_lives(timed: Site) -> None:
    """W11: a ping after `WsTimeouts.ping` without a sign of life; its pong is one."""
    peer, ws = opened(timed, timeouts=WsTimeouts(ping=10.0, pong=5.0))
    pings = 0
    for _ in range(40):
        timed.pass_time(2)
        peer.poll()
        while peer.events:
            ping = peer.next()
            assert isinstance(ping, Ping)
            pings += 1
            peer.pong(ping.payload)
    assert ws.is_open
    assert 3 <= pings <= 8


def test_a_dead_peer_is_cut(timed: Site) -> None:
    """W11: no pong within `WsTimeouts.pong`: 1006."""
    peer, ws = opened(timed, timeouts=WsTimeouts(ping=10.0, pong=5.0))
    timed.pass_time(19.9)  # the first look finds that it was quiet since, the second one asks
    assert ws.state != "closed"
    timed.pass_time(5.3)
    assert ws.state == "closed"
    assert timed.log == [("error", "PongTimeoutError"), ("close", 1006, "")]
    del peer


def test_a_busy_peer_is_not_pinged(timed: Site) -> None:
    """Its messages are sign enough."""
    peer, _ = opened(timed, timeouts=WsTimeouts(ping=10.0, pong=5.0))
    for i in range(12):
        timed.pass_time(5)
        peer.say(str(i))
        assert peer.next() == str(i)


def test_bytes_that_trickle_are_no_sign_of_life(timed: Site) -> None:
    """W11: a frame that comes a byte at a time does not hold a connection; a frame that makes progress does."""
    peer, ws = opened(timed, timeouts=WsTimeouts(ping=10.0, pong=5.0))
    peer.send(b"\x82\xff" + (1 << 20).to_bytes(8, "big") + MASK)
    for _ in range(10):
        peer.send(b"x" * 10_000)
        timed.pass_time(2)
    assert ws.is_open
    for _ in range(20):
        if ws.closed:
            break
        peer.send(b"x")
        timed.pass_time(2)
    assert ws.state == "closed"
    assert timed.log[0] == ("error", "PongTimeoutError")


def test_a_frame_on_its_way_is_a_sign_of_life(timed: Site) -> None:
    """W11: asked for a sign, the peer is busy with a large message; so long as that goes on, it is there."""
    peer, ws = opened(timed, timeouts=WsTimeouts(ping=10.0, pong=5.0))
    message = b"x" * 500_000
    frame = encode_frame(2, message, mask=MASK)
    for at in range(0, len(frame), 10_000):
        peer.send(frame[at : at + 10_000])
        timed.pass_time(2)
    assert ws.is_open
    events = [peer.next(), peer.next()]
    assert isinstance(events[0], Ping)
    assert events[1] == message


def test_a_paused_peer_is_not_pinged(timed: Site) -> None:
    """While the program has paused it, nobody would see its pong."""
    peer, ws = opened(timed, timeouts=WsTimeouts(ping=10.0, pong=5.0))
    ws.pause_reading()
    timed.pass_time(100)
    assert ws.is_open
    ws.resume_reading()
    peer.say("x")
    assert peer.next() == "x"


def test_without_pings(timed: Site) -> None:
    """None switches them off."""
    peer, ws = opened(timed, timeouts=WsTimeouts(ping=None))
    timed.pass_time(200, step=1.0)
    peer.poll()
    assert not peer.events
    assert ws.is_open


def test_idle(timed: Site) -> None:
    """W11: messages in either direction count, pings and pongs do not; then 1001."""
    peer, ws = opened(timed, timeouts=WsTimeouts(idle=10.0, ping=None), on_message=None)
    timed.pass_time(9)
    peer.say("x")
    timed.settle()
    timed.pass_time(9)
    ws.send("y")
    timed.pass_time(9)
    assert ws.is_open
    assert peer.next() == "y"
    peer.ping_pong()
    timed.pass_time(1.2)
    close = peer.next()
    assert isinstance(close, Close)
    assert (close.code, close.reason) == (1001, "idle")
    peer.close(1001)
    peer.wait_end()


def test_pieces_of_messages_are_not_idleness(timed: Site) -> None:
    """W11: a message that is handed out as it comes keeps the WebSocket open."""
    pieces: list[str | bytes] = []
    peer, ws = opened(
        timed, timeouts=WsTimeouts(idle=10.0, ping=None), on_fragment=lambda _ws, data, _last: pieces.append(data)
    )
    for piece in ("a", "b", "c"):
        peer.frame(1 if piece == "a" else 0, piece, fin=False)
        timed.settle()
        timed.pass_time(9)
    assert ws.is_open
    assert pieces == ["a", "b", "c"]
    timed.pass_time(1.2)
    assert peer.next_close() == (1001, "idle")


def test_idle_then_another_one_on_the_same_descriptor(timed: Site) -> None:
    """W5: a thousand times, a WebSocket that was closed for being idle, and another one in its place."""
    timed.serve(timeouts=WsTimeouts(idle=1.0, ping=None))
    for i in range(1000):
        peer = timed.open()
        peer.say(str(i))
        assert peer.next() == str(i)
        timed.pass_time(1.2, step=0.6)
        assert peer.next_close()[0] == 1001
        peer.close(1001)
        assert peer.wait_end()
        peer.sock.close()
        timed.settle()
    assert len(timed.log) == 1000


def test_a_peer_that_goes_does_not_take_with_it_what_had_arrived(site: Site) -> None:
    """More than one turn hands out: the connection ends with the first answer, and the rest is heard all the same."""
    heard: list[str | bytes] = []

    def on_message(ws: WebSocket, message: str | bytes) -> None:
        heard.append(message)
        if len(heard) == 1:
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # socket(7): resets
            peer.sock.close()
        ws.send(message)

    peer, ws = opened(site, on_message=on_message)
    peer.send(b"".join(encode_frame(1, str(i), mask=MASK) for i in range(3000)))
    site.until(lambda: ws.closed)
    assert heard == [str(i) for i in range(3000)]
    assert site.log[-1] == ("close", 1006, "")


def test_after_abort_nothing_is_handed_out(site: Site) -> None:
    """Neither is what had arrived and was waiting for its turn."""
    heard: list[str | bytes] = []

    def on_message(ws: WebSocket, message: str | bytes) -> None:
        heard.append(message)
        if len(heard) == 1:
            site.loop.call_soon(ws.abort)

    peer, ws = opened(site, on_message=on_message)
    peer.send(b"".join(encode_frame(1, str(i), mask=MASK) for i in range(3000)))
    site.until(lambda: ws.closed)
    assert 1 <= len(heard) < 3000
    assert site.log == [("close", 1006, "")]
