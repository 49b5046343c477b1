import socket

from nimloop_net._datagram_py import Data, Received
from nimloop_net._literals import SockAddress

BUFFER_BYTES: int

def receive(sock: socket.socket, fd: int, buffer: bytearray, /) -> Received: ...
def send(sock: socket.socket, fd: int, data: Data, /) -> bool: ...
def send_to(sock: socket.socket, fd: int, data: Data, address: SockAddress, /) -> bool: ...
