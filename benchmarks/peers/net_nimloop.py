"""nimloop's server of the network benchmarks: echoes TCP or UDP, or sends a file for every byte."""

from pathlib import Path

from _peer import HOST, parser, say_build, say_compiled, say_port, skip

try:
    import nimloop_core
    import nimloop_net
    from nimloop_core import Loop
    from nimloop_net import Connection, TcpServer, UdpSocket
except ImportError as missing:
    skip(missing)


def on_data(conn: Connection, data: bytes) -> None:
    """Send it back, no faster than the peer takes it."""
    if not conn.send(data):
        conn.pause_reading()


def on_datagram(sock: UdpSocket, data: bytes, address: tuple[str, int] | tuple[str, int, int, int]) -> None:
    """Send it back."""
    sock.send_to(data, address)


def main() -> None:
    """Serve until SIGTERM."""
    arguments = parser()
    arguments.add_argument("--udp", action="store_true")
    arguments.add_argument("--file", type=Path)
    given = arguments.parse_args()
    loop = Loop()
    server = TcpServer(loop, on_data=on_data, on_drain=Connection.resume_reading)
    if given.udp:
        port = UdpSocket.bind(loop, HOST, given.port, on_datagram=on_datagram).local[1]
    else:
        if given.file is not None:
            file = given.file.open("rb")

            def send_file(conn: Connection, data: bytes) -> None:
                for _ in data:
                    conn.send_file(file)

            server.on_data = send_file
        port = server.listen(HOST, given.port)[0][1]
    say_build(nimloop_core, nimloop_net)
    say_compiled()
    say_port(port)
    loop.run()


if __name__ == "__main__":
    main()
