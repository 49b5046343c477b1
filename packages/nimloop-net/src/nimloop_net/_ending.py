"""How a connection ends: following the table of `_state`, in the connection's own words, once.

Functions about a `Connection`, apart from it because each is called from many places and none for every event.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from nimloop_net import _state as st
from nimloop_net._patience import Stall

if TYPE_CHECKING:
    from nimloop_net._connection import Connection

# After a peer is gone: as much as a kernel may hold (tcp(7): tcp_rmem), because there will be no other event. A bound
# at all, because a Unix socket's peer can close the one direction and flood the other.
_REST_QUOTA: Final = 32 << 20
_LINGER_RESET: Final = struct.pack("ii", 1, 0)


def finish(conn: Connection, event: int) -> None:
    """Follow the table as one of the calls that end something does: at once, unless a flush is going to follow."""
    move(conn, event)
    if conn._busy:
        return
    if conn._outbox.size == 0:
        move(conn, st.DRAINED)
    elif conn._state >= st.DRAINING:
        expect_progress(conn)  # a peer that takes nothing causes no event that would do it


def move(conn: Connection, event: int) -> None:
    """Follow the table, and do what entering the new state asks for."""
    state = st.MOVES[conn._state].get(event)
    if state is None or state == conn._state:
        return
    if state == st.CLOSED:
        end(conn, None)
        return
    conn._state = state
    conn._update_interest()
    if state == st.LINGERING:
        if conn._timer is not None:
            conn._timer.cancel()
        conn._timer = conn.loop.call_later(conn.linger, conn.close)
    if state in st.SENDS_FIN:
        try:
            conn._sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the peer is gone; reading will find what it sent before, and then why
    if state in st.DISCARDS and conn._unread:
        conn._soon()


def end(conn: Connection, error: Exception | None, *, reset: bool = True) -> None:
    """Close the descriptor, with a reset after an error, and have `on_close` called from the loop."""
    if conn._state == st.CLOSED:
        return
    conn._state = st.CLOSED
    if error is not None and reset:
        reset_on_close(conn)
    if conn._timer is not None:
        conn._timer.cancel()
        conn._timer = None
    if conn._idle is not None:
        conn._idle.cancel()
        conn._idle = None
    conn._watcher.unregister()
    try:
        conn._sock.close()
    except OSError:
        pass  # the descriptor is gone in any case (close(2)), and nothing could be done about it
    conn._fd = -1  # the number may be somebody else's by now
    conn._outbox.clear()
    conn._unread = False
    conn._error = error
    if conn.loop.closed:
        report(conn)  # nobody is left to call it later
    else:
        conn.loop.call_soon(conn._on_end)


def report(conn: Connection) -> None:
    """Tell everybody that the connection is gone."""
    error, conn._error = conn._error, None
    on_close = conn.on_close
    conn.on_data = conn.on_drain = conn.on_eof = conn.on_close = conn.on_shutdown = None
    if conn._owner is not None:
        conn._owner.forget(conn)
        conn._owner = None
    if on_close is not None:
        on_close(conn, error)


def reset_on_close(conn: Connection) -> None:
    """Make closing the descriptor send RST."""
    try:
        conn._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
    except OSError:
        pass  # the peer was faster, and the system minds


def deliver_rest(conn: Connection) -> None:
    """The peer takes no more, as sending has shown, but what it sent before may still be in the kernel."""
    quota = _REST_QUOTA
    while quota > 0 and not conn._paused and conn._state in st.DELIVERS:
        try:
            data = conn._receive(conn._sock, conn._fd, conn.loop.read_buffer)
        except OSError:
            return
        if not data:
            return
        quota -= len(data)
        if conn.on_data is not None:
            try:
                conn.on_data(conn, data)
            except Exception as error:
                failed(conn, error)


def pending_error(conn: Connection) -> OSError:
    """Return what the socket has to report (socket(7): SO_ERROR)."""
    try:
        number = conn._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except OSError as error:
        return error
    return OSError(number, os.strerror(number)) if number else ConnectionResetError("the connection was reset")


def guard(conn: Connection, callback: Callable[[Connection], object]) -> None:
    """Call back; a callback that raises ends the connection."""
    try:
        callback(conn)
    except Exception as error:
        failed(conn, error)


def failed(conn: Connection, error: Exception) -> None:
    """Report what a callback has raised, and end the connection."""
    try:
        conn.loop.exception_handler(error, conn)
    finally:
        end(conn, error)


def expect_progress(conn: Connection) -> None:
    """See to it that a closing connection does not wait for ever for a peer that takes nothing."""
    if isinstance(conn._timer, Stall):
        conn._timer.note()
    else:  # the other timer is for lingering, when nothing is queued any more
        conn._timer = Stall(conn)
