"""nimloop-net: TCP, TLS, UDP and Unix sockets: servers, clients and connections with back-pressure, on nimloop-core."""

from __future__ import annotations

from nimloop_net._channel import Address as Address
from nimloop_net._channel import address_of as address_of
from nimloop_net._channel import format_address as format_address
from nimloop_net._client import connect as connect
from nimloop_net._client import connect_unix as connect_unix
from nimloop_net._connection import Connection as Connection
from nimloop_net._connection import OnAccept as OnAccept
from nimloop_net._connection import OnClose as OnClose
from nimloop_net._connection import OnData as OnData
from nimloop_net._connection import OnDrain as OnDrain
from nimloop_net._connection import OnEof as OnEof
from nimloop_net._connection import OnSecure as OnSecure
from nimloop_net._connection import OnShutdown as OnShutdown
from nimloop_net._connector import Connector as Connector
from nimloop_net._connector import OnConnect as OnConnect
from nimloop_net._connector import OnConnectError as OnConnectError
from nimloop_net._inherited import inherited_sockets as inherited_sockets
from nimloop_net._literals import SockAddress as SockAddress
from nimloop_net._resolve import NameSource as NameSource
from nimloop_net._resolve import OnFound as OnFound
from nimloop_net._resolve import OnResolved as OnResolved
from nimloop_net._resolve import OnResolveError as OnResolveError
from nimloop_net._resolve import Resolution as Resolution
from nimloop_net._resolve import Resolver as Resolver
from nimloop_net._resolve import resolve as resolve
from nimloop_net._server import TcpServer as TcpServer
from nimloop_net._sockets import LONGEST_BACKLOG as LONGEST_BACKLOG
from nimloop_net._sockets import UnixListener as UnixListener
from nimloop_net._sockets import listen_tcp as listen_tcp
from nimloop_net._stream import open_stream as open_stream
from nimloop_net._tlsinfo import TlsInfo as TlsInfo
from nimloop_net._udp import OnDatagram as OnDatagram
from nimloop_net._udp import OnDatagramDrain as OnDatagramDrain
from nimloop_net._udp import OnDatagramError as OnDatagramError
from nimloop_net._udp import UdpSocket as UdpSocket
from nimloop_net.errors import AddressError as AddressError
from nimloop_net.errors import ConnectError as ConnectError
from nimloop_net.errors import ConnectionClosedError as ConnectionClosedError
from nimloop_net.errors import ConnectRefusedError as ConnectRefusedError
from nimloop_net.errors import ConnectTimeoutError as ConnectTimeoutError
from nimloop_net.errors import DatagramError as DatagramError
from nimloop_net.errors import DatagramRefusedError as DatagramRefusedError
from nimloop_net.errors import DatagramTooLargeError as DatagramTooLargeError
from nimloop_net.errors import FileTruncatedError as FileTruncatedError
from nimloop_net.errors import HandshakeTimeoutError as HandshakeTimeoutError
from nimloop_net.errors import HostNotFoundError as HostNotFoundError
from nimloop_net.errors import IdleTimeoutError as IdleTimeoutError
from nimloop_net.errors import LimitError as LimitError
from nimloop_net.errors import LookupTimeoutError as LookupTimeoutError
from nimloop_net.errors import NetError as NetError
from nimloop_net.errors import ResolveError as ResolveError
from nimloop_net.errors import ResolverBusyError as ResolverBusyError
from nimloop_net.errors import StalledError as StalledError
from nimloop_net.errors import TruncatedError as TruncatedError
from nimloop_net.errors import WriteBufferFullError as WriteBufferFullError

__all__ = [
    "LONGEST_BACKLOG",
    "Address",
    "AddressError",
    "ConnectError",
    "ConnectRefusedError",
    "ConnectTimeoutError",
    "Connection",
    "ConnectionClosedError",
    "Connector",
    "DatagramError",
    "DatagramRefusedError",
    "DatagramTooLargeError",
    "FileTruncatedError",
    "HandshakeTimeoutError",
    "HostNotFoundError",
    "IdleTimeoutError",
    "LimitError",
    "LookupTimeoutError",
    "NameSource",
    "NetError",
    "OnAccept",
    "OnClose",
    "OnConnect",
    "OnConnectError",
    "OnData",
    "OnDatagram",
    "OnDatagramDrain",
    "OnDatagramError",
    "OnDrain",
    "OnEof",
    "OnFound",
    "OnResolveError",
    "OnResolved",
    "OnSecure",
    "OnShutdown",
    "Resolution",
    "ResolveError",
    "Resolver",
    "ResolverBusyError",
    "SockAddress",
    "StalledError",
    "TcpServer",
    "TlsInfo",
    "TruncatedError",
    "UdpSocket",
    "UnixListener",
    "WriteBufferFullError",
    "address_of",
    "connect",
    "connect_unix",
    "format_address",
    "inherited_sockets",
    "listen_tcp",
    "open_stream",
    "resolve",
]
