"""UDP: datagrams to and from anybody, or one peer.

Sending makes a system call at once and keeps nothing. A datagram that waited in a queue would be late, and UDP loses
late ones anyway: so where the kernel has no room, `send` says so, `on_drain` follows, and what to do with the datagram
is the application's to decide.

A call never looks a name up. Addresses are literals; `resolve` turns names into them.
"""

from __future__ import annotations

import errno
import socket
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, final

from nimloop_core import ERROR, READ, WRITE, Loop, Watcher
from nimloop_net import _icmp, _multicast
from nimloop_net._datagram import BUFFER_BYTES, receive, send, send_to
from nimloop_net._datagram_py import Data
from nimloop_net._literals import SockAddress
from nimloop_net._multicast import Interface
from nimloop_net._udp_sockets import literal_address, open_bound, open_connected, peer_of
from nimloop_net.errors import AddressError, ConnectionClosedError, DatagramError, DatagramTooLargeError

_KNOWN: Final = 1024  # checked addresses that are kept
_REPORTS: Final = 64  # ICMP reports at a time, of which there may be two per event
_AGAIN: Final = 0.01  # seconds until there may be room where nothing tells when


@final
class UdpSocket:
    """A datagram socket on a loop. Made by `bind` or `connect`, closed by `close`.

    ``on_datagram(sock, data, address)``
        A datagram, empty or up to 65 507 bytes (65 527 over IPv6), and its sender, which `send_to` takes as it is:
        ``(host, port)`` for IPv4, ``(host, port, flow, scope)`` for IPv6.
    ``on_error(sock, error)``
        A `DatagramError`: the network says that an earlier datagram was not delivered. Without it, nobody is told, as
        UDP promises nothing.
    ``on_drain(sock)``
        The kernel has room again, after a `send` that returned False.

    The callbacks may be replaced at any time. One that raises is reported to the loop's exception handler; the socket
    stays open.
    """

    __slots__ = (
        "_address",
        "_blocked",
        "_buffer",
        "_closed",
        "_fd",
        "_known",
        "_peer",
        "_reports",
        "_sock",
        "_watcher",
        "context",
        "loop",
        "on_datagram",
        "on_drain",
        "on_error",
    )

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        *,
        on_datagram: OnDatagram | None = None,
        on_error: OnDatagramError | None = None,
        on_drain: OnDatagramDrain | None = None,
        report_errors: bool = False,
    ) -> None:
        """Take over a datagram socket of IPv4 or IPv6, for instance an inherited one; else raises `AddressError`."""
        self._closed = True
        if sock.type != socket.SOCK_DGRAM or sock.family not in {socket.AF_INET, socket.AF_INET6}:
            raise AddressError(f"not a socket for UDP: {sock!r}")
        self.loop: Final[Loop] = loop
        """The loop that it belongs to."""
        self.context: object = None
        """The user's own."""
        self.on_datagram = on_datagram
        self.on_error = on_error
        self.on_drain = on_drain
        sock.setblocking(False)
        self._sock: Final = sock
        self._fd = sock.fileno()
        self._peer = peer_of(sock)
        self._buffer = bytearray(BUFFER_BYTES)
        self._address: SockAddress | None = None  # of the last datagram: an answer to it needs no check
        self._known: Final[dict[SockAddress, SockAddress]] = {}
        self._blocked = False  # send has returned False, and on_drain is owed
        self._reports = report_errors and _icmp.enable_reports(sock)
        self._watcher: Final[Watcher] = loop.register(sock, READ, self._on_events)
        self._closed = False

    @classmethod
    def bind(
        cls,
        loop: Loop,
        host: str | None,
        port: int,
        *,
        on_datagram: OnDatagram | None = None,
        on_error: OnDatagramError | None = None,
        on_drain: OnDatagramDrain | None = None,
        reuse_address: bool = False,
        reuse_port: bool = False,
        report_errors: bool = False,
    ) -> UdpSocket:
        """Receive what is sent to an address of this machine; None stands for all of them, port 0 for a free one.

        With None, one socket serves both families where the system has IPv6, and an IPv4 peer is written
        ``::ffff:192.0.2.1``; ``"::"`` and ``"0.0.0.0"`` stand for all of one family. A name is looked up here and now,
        and its first address taken.

        `reuse_address` lets several sockets of this machine listen to one multicast group, `reuse_port` spreads
        datagrams over several sockets, by sender (socket(7)); both let others share the port. With `report_errors`,
        `on_error` hears of datagrams that could not be delivered; only Linux can do that for a socket that sends to
        many. Raises OSError, for instance EADDRINUSE.
        """
        sock = open_bound(host, port, reuse_address=reuse_address, reuse_port=reuse_port)
        try:
            return cls(
                loop,
                sock,
                on_datagram=on_datagram,
                on_error=on_error,
                on_drain=on_drain,
                report_errors=report_errors,
            )
        except BaseException:
            sock.close()
            raise

    @classmethod
    def connect(
        cls,
        loop: Loop,
        host: str,
        port: int,
        *,
        on_datagram: OnDatagram | None = None,
        on_error: OnDatagramError | None = None,
        on_drain: OnDatagramDrain | None = None,
        local_address: tuple[str, int] | None = None,
    ) -> UdpSocket:
        """Talk to one peer, given by a literal address (see `resolve`), and hear only what that one sends.

        Nothing is sent by it. `local_address` is the literal address and port, 0 for any, to send from. Raises OSError,
        for instance ENETUNREACH.
        """
        sock = open_connected(host, port, local_address)
        try:
            return cls(loop, sock, on_datagram=on_datagram, on_error=on_error, on_drain=on_drain)
        except BaseException:
            sock.close()
            raise

    # What it is -----------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def local(self) -> SockAddress:
        """The address of this end, with the port that was chosen for port 0."""
        address: SockAddress = self._open().getsockname()
        return address

    @property
    def peer(self) -> SockAddress | None:
        """The address of the connected peer; None for a socket that talks to many."""
        return self._peer

    def fileno(self) -> int:
        """Return the descriptor; −1 once it is closed."""
        return self._sock.fileno()

    # Sending --------------------------------------------------------------------------------------------------

    def send(self, data: Data) -> bool:
        """Send a datagram to the connected peer; False without room in the kernel: it was not sent, `on_drain` follows.

        True promises no more than UDP does. Raises `DatagramTooLargeError`, `ConnectionClosedError`, `AddressError`
        for a socket that is not connected, and OSError for what else the system finds wrong with the call; what it says
        of the network goes to `on_error`.
        """
        if self._peer is None:
            raise AddressError("the socket is not connected to one peer: send_to needs an address")
        try:
            return send(self._sock, self._fd, data) or self._no_room()
        except OSError as error:
            return self._failed(error, data, None)

    def send_to(self, data: Data, address: tuple[str, int] | SockAddress) -> bool:
        """Send a datagram to a literal address; returns and raises like `send`.

        ``(host, port)`` or whatever `on_datagram` was given. A name raises `AddressError`, and so does a connected
        socket.
        """
        if address is not self._address:
            address = self._known.get(address) or self._checked(address)
        try:
            return send_to(self._sock, self._fd, data, address) or self._no_room()
        except OSError as error:
            return self._failed(error, data, address)

    def _checked(self, address: SockAddress) -> SockAddress:
        """Turn an address into one that the system takes without a look-up, and remember it."""
        if self._peer is not None:
            raise AddressError(f"the socket is connected to {self._peer[0]} port {self._peer[1]}: use send")
        family, good = literal_address(address[0], address[1])
        if family != self._sock.family:
            if family == socket.AF_INET6 or self._open().getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
                raise AddressError(f"{address[0]!r} is not of the socket's family")
            good = (f"::ffff:{good[0]}", good[1], 0, 0)  # RFC 4291 §2.5.5.2
        elif len(address) == 4:
            good = (good[0], address[1], address[2], address[3])
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known[address] = good
        return good

    def _no_room(self) -> bool:
        if not self._blocked:
            self._blocked = True
            self._watcher.modify(READ | WRITE)
        return False

    def _failed(self, error: OSError, data: Data, address: SockAddress | None) -> bool:
        """Sort out what a call has failed with: the caller's fault, the network's, or no room."""
        self._open()
        if error.errno == errno.EMSGSIZE:
            raise DatagramTooLargeError(
                errno.EMSGSIZE,
                f"a datagram of {memoryview(data).nbytes} bytes is too large for the protocol or the interface",
            ) from None
        if error.errno == errno.ENOBUFS:
            # An interface's queue is full, and that is nothing that a kernel tells the end of.
            if not self._blocked:
                self._blocked = True
                self.loop.call_later(_AGAIN, self._drained)
            return False
        if error.errno not in _icmp.NETWORK:
            raise error
        self._report_soon(error, address)
        # It may have been about an earlier datagram (udp(7): all pending errors come with the next call).
        try:
            if address is None:
                return send(self._sock, self._fd, data) or self._no_room()
            return send_to(self._sock, self._fd, data, address) or self._no_room()
        except OSError:
            return True  # lost, as any datagram may be; the first error has told

    def _report_soon(self, error: OSError, address: SockAddress | None) -> None:
        if not self._reports:  # else it is in the queue as well
            report = _icmp.describe(error.errno or 0, address or self._peer)
            self.loop.call_soon(lambda: self._report(report))

    # Receiving ------------------------------------------------------------------------------------------------

    def _on_events(self, events: int) -> None:
        if events & WRITE and self._blocked:
            self._drained()
        if events & ERROR and self._reports:
            self._read_reports()
        if events & (READ | ERROR):
            self._read()

    def _read(self) -> None:
        if self._closed:
            return
        for received in receive(self._sock, self._fd, self._buffer):
            if isinstance(received, OSError):
                if received.errno not in _icmp.NETWORK:
                    raise received
                if self._reports:
                    self._read_reports()  # which say more
                else:
                    self._report(_icmp.describe(received.errno, self._peer))
                return
            on_datagram = self.on_datagram
            if on_datagram is not None:  # closing takes it away
                data, self._address = received
                try:
                    on_datagram(self, data, self._address)
                except Exception as error:
                    self.loop.exception_handler(error, self)

    def _read_reports(self) -> None:
        for _ in range(_REPORTS):
            if self._closed:
                return
            try:
                report = _icmp.next_report(self._sock)
            except BlockingIOError:
                return
            if report is not None:
                self._report(report)

    def _report(self, error: DatagramError) -> None:
        if self.on_error is not None and not self._closed:
            try:
                self.on_error(self, error)
            except Exception as failure:
                self.loop.exception_handler(failure, self)

    def _drained(self) -> None:
        if self._closed or not self._blocked:
            return
        self._blocked = False
        self._watcher.modify(READ)
        if self.on_drain is not None:
            try:
                self.on_drain(self)
            except Exception as error:
                self.loop.exception_handler(error, self)

    # Options --------------------------------------------------------------------------------------------------

    def join(self, group: str, interface: Interface = None) -> None:
        """Receive what is sent to a multicast group, through one interface.

        The interface is a name, a number or, for IPv4, an address of this machine; None is the system's choice. Raises
        `AddressError` for what is no group or interface, OSError for instance when it has joined before.

        On Linux a socket bound to ``0.0.0.0`` also gets what is sent to its port in groups that others on this machine
        have joined (ip(7), ``IP_MULTICAST_ALL``); one bound to the address of the group does not.
        """
        _multicast.change_membership(self._open(), group, interface, join=True)

    def leave(self, group: str, interface: Interface = None) -> None:
        """Take back `join` with the same arguments, else raises OSError; `close` leaves all groups."""
        _multicast.change_membership(self._open(), group, interface, join=False)

    def set_multicast_interface(self, interface: Interface) -> None:
        """Send to groups through this interface: a name, a number or, for IPv4, an address of this machine."""
        _multicast.choose_interface(self._open(), interface)

    @property
    def ttl(self) -> int:
        """How many routers a datagram may pass, 0 to 255."""
        return _multicast.get_hops(self._open(), multicast=False)

    @ttl.setter
    def ttl(self, hops: int) -> None:
        _multicast.set_hops(self._open(), hops, multicast=False)

    @property
    def multicast_ttl(self) -> int:
        """How many routers a datagram to a group may pass, 0 to 255; the system's default is 1, the local network."""
        return _multicast.get_hops(self._open(), multicast=True)

    @multicast_ttl.setter
    def multicast_ttl(self, hops: int) -> None:
        _multicast.set_hops(self._open(), hops, multicast=True)

    @property
    def multicast_loopback(self) -> bool:
        """Whether members of a group on this machine receive what is sent from here; the system's default is True."""
        return _multicast.get_loopback(self._open())

    @multicast_loopback.setter
    def multicast_loopback(self, on: bool) -> None:
        _multicast.set_loopback(self._open(), on=on)

    @property
    def broadcast(self) -> bool:
        """Whether datagrams may be sent to a broadcast address; without it, that raises PermissionError."""
        return self._open().getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) != 0

    @broadcast.setter
    def broadcast(self, on: bool) -> None:
        self._open().setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, int(on))

    def getsockopt(self, level: int, option: int) -> int:
        """Ask for any other option of the socket."""
        return self._open().getsockopt(level, option)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Set any other option of the socket, such as SO_RCVBUF."""
        self._open().setsockopt(level, option, value)

    # Ending ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the socket; no callback comes any more, not even for what has arrived. Harmless when repeated."""
        if not self._closed:
            self._closed = True
            self._watcher.unregister()
            self._sock.close()
            self._fd = -1  # the number may be somebody else's by now
            self.on_datagram = self.on_error = self.on_drain = None

    def _open(self) -> socket.socket:
        if self._closed:
            raise ConnectionClosedError("the socket is closed")
        return self._sock

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            try:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            finally:  # also where warnings are errors
                self._sock.close()

    def __repr__(self) -> str:
        if self._closed:
            return "<UdpSocket closed>"
        return f"<UdpSocket open local={self.local!r} peer={self._peer!r}>"


OnDatagram = Callable[[UdpSocket, bytes, SockAddress], object]
"""Called with each datagram, whole, and the address that it came from."""

OnDatagramError = Callable[[UdpSocket, DatagramError], object]
"""Called when the network says that an earlier datagram was not delivered."""

OnDatagramDrain = Callable[[UdpSocket], object]
"""Called when the kernel has room again, after a `send` that returned False."""
