r"""An echo over TLS.

    python examples/net/tls_echo.py PORT CERTIFICATE KEY
    openssl s_client -connect 127.0.0.1:PORT

A certificate to try it with:

    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem
"""

from __future__ import annotations

import signal
import ssl
import sys

from nimloop_core import Loop
from nimloop_net import Connection, TcpServer


def on_secure(conn: Connection) -> None:
    """Say what was agreed on."""
    assert conn.tls is not None
    conn.send(f"{conn.tls.version} {conn.tls.cipher}\n".encode())


def on_data(conn: Connection, data: bytes) -> None:
    """Send it back."""
    if not conn.send(data):
        conn.pause_reading()


def on_close(conn: Connection, error: Exception | None) -> None:
    """Say why a connection has ended."""
    print(f"{conn.peer}: {'ended well' if error is None else error}", flush=True)


def main() -> None:
    """Serve until Ctrl+C."""
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    with (
        Loop() as loop,
        TcpServer(
            loop,
            on_secure=on_secure,
            on_data=on_data,
            on_drain=Connection.resume_reading,
            on_close=on_close,
            tls=context,
        ) as server,
    ):
        host, port = server.listen("127.0.0.1", int(sys.argv[1]))[0]
        print(f"secure echo on {host} {port}", flush=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: server.shutdown(2.0, lambda _aborted: loop.stop()))
        loop.run()


if __name__ == "__main__":
    main()
