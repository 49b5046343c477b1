"""The examples of nimloop-net, driven by the clients that people have: nc, socat, openssl, curl, asyncio."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import final

import pytest
from tests.net.certificates import authority, certificate, client_context

EXAMPLES = Path(__file__).parents[2] / "examples" / "net"
PATIENCE = 30.0


@final
class Running:
    """An example at work."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.address = address

    @property
    def port(self) -> int:
        """The port that it has told."""
        return int(self.address.rpartition(" ")[2])

    def memory(self) -> int:
        """Return the bytes that it has in memory (proc(5): statm)."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def line(self) -> str:
        """Return the next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextmanager
def running(name: str, *arguments: str, complaints: str = "") -> Iterator[Running]:
    """Run an example until it is told to stop, which it has to do well."""
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", str(EXAMPLES / name), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Running(process, process.stdout.readline().strip())
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0
    assert complaints in errors if complaints else not errors


def needs(program: str) -> None:
    """Skip the test where a program is not installed."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def said(*command: str, stdin: bytes = b"") -> bytes:
    """Run a client to its end, and return what it printed."""
    needs(command[0])
    return subprocess.run(command, input=stdin, capture_output=True, timeout=PATIENCE, check=True).stdout


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def upstream(page: bytes) -> Iterator[int]:
    """Serve one page over HTTP, and echo what is posted."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(page)

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


# Chat -----------------------------------------------------------------------------------------------------------------


def expect(sock: socket.socket, words: bytes) -> bytes:
    """Read until these words have come."""
    data = b""
    while words not in data:
        chunk = sock.recv(1000)
        assert chunk, data
        data += chunk
    return data


def test_chat() -> None:
    """Two guests hear each other, a third with a taken name does not come in, and leaving is noticed."""
    with running("chat.py", "0") as chat:
        ann, bob = (socket.create_connection(("127.0.0.1", chat.port), PATIENCE) for _ in range(2))
        with ann, bob:
            expect(ann, b"Your name? ")
            ann.sendall(b"Ann\n")
            expect(ann, b"nobody else")
            bob.sendall(b"An")
            bob.sendall(b"n\n")
            expect(bob, b"Your name? Letters")
            bob.sendall(b"Bob\nhello\n")
            expect(bob, b"Here: Ann")
            expect(ann, b"* Bob has come.\nBob: hello\n")
            bob.close()
            expect(ann, b"* Bob has left.\n")
            ann.sendall(bytes(2000))
            expect(ann, b"too long")


def test_chat_with_nc() -> None:
    """What nc is given is said."""
    with running("chat.py", "0") as chat, socket.create_connection(("127.0.0.1", chat.port), PATIENCE) as ann:
        ann.sendall(b"Ann\n")
        expect(ann, b"nobody else")
        answer = said("nc", "-N", "127.0.0.1", str(chat.port), stdin=b"Carl\ngood evening\n")
        assert answer == b"Your name? * Welcome, Carl. Here: Ann.\n"
        assert b"Carl: good evening\n* Carl has left." in expect(ann, b"left")


# Proxy ----------------------------------------------------------------------------------------------------------------


def test_curl_through_the_proxy(tmp_path: Path) -> None:
    """Pages and uploads come through whole, from both servers, and from the one that is left when the other is not."""
    page = os.urandom(1 << 20)
    (tmp_path / "upload").write_bytes(page[::-1])
    gone = f"127.0.0.1:{free_port()}"
    with (
        upstream(page) as first,
        upstream(page) as second,
        running(
            "proxy.py", "0", gone, f"127.0.0.1:{first}", f"127.0.0.1:{second}", complaints="cannot connect"
        ) as proxy,
    ):
        url = f"http://127.0.0.1:{proxy.port}/"
        for _ in range(3):
            assert said("curl", "-sS", url) == page
        assert said("curl", "-sS", "--data-binary", f"@{tmp_path / 'upload'}", url) == page[::-1]


def test_socat_through_the_proxy() -> None:
    """A client that ends its side gets the answer that comes after."""

    def serve(listener: socket.socket) -> None:
        conn, _ = listener.accept()
        with conn:
            size = 0
            while data := conn.recv(1 << 16):
                size += len(data)
            conn.sendall(b"%d bytes" % size)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with running("proxy.py", "0", f"127.0.0.1:{listener.getsockname()[1]}") as proxy:
            answer = said("socat", "-t20", "-", f"TCP:127.0.0.1:{proxy.port}", stdin=bytes(3 << 20))
        thread.join()
    assert answer == b"3145728 bytes"


def test_asyncio_through_the_proxy() -> None:
    """Streams of asyncio on both sides, many at once."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def ask(port: int, number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        data = bytes([number]) * 300_000

        async def send() -> None:
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        answer, _ = await asyncio.gather(reader.read(-1), send())
        assert answer == data
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        upstream = server.sockets[0].getsockname()[1]
        with running("proxy.py", "0", f"127.0.0.1:{upstream}") as proxy:
            await asyncio.gather(*(ask(proxy.port, number) for number in range(20)))
        server.close()
        await server.wait_closed()

    asyncio.run(main())


def test_memory_of_the_proxy_is_bounded() -> None:
    """A server that sends without end and a client that does not read: the server has to stop, and nothing piles up."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        running("proxy.py", "0", f"127.0.0.1:{listener.getsockname()[1]}") as proxy,
    ):
        before = proxy.memory()
        with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client:
            server, _ = listener.accept()
            with server:
                server.settimeout(0.5)  # so long without room is the end, and on a busy machine it is only earlier
                sent = 0
                chunk = bytes(1 << 20)
                while sent < 1 << 30:
                    try:
                        sent += server.send(chunk)
                    except TimeoutError:
                        break
                assert sent < 1 << 30  # no more than kernels hold for four ends
                assert proxy.memory() - before < 8 << 20
                received = 0
                while received < sent:
                    received += len(client.recv(1 << 20))
            assert received == sent


def test_proxy_without_servers() -> None:
    """A client is told by a reset that nobody is there."""
    with (
        running("proxy.py", "0", f"127.0.0.1:{free_port()}", complaints="cannot connect") as proxy,
        pytest.raises(ConnectionResetError),  # already in connect, when the proxy is quick
        socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client,
    ):
        client.recv(1)


# Unix -----------------------------------------------------------------------------------------------------------------


def test_counters(tmp_path: Path) -> None:
    """Clients of a path share them; the path is the owner's only, and is gone at the end."""
    path = tmp_path / "counters"
    with running("unix_counter.py", str(path)):
        assert path.stat().st_mode & 0o777 == 0o600
        assert said("nc", "-N", "-U", str(path), stdin=b"add a 2\nadd a -5\nget b\n") == b"2\n-3\n0\n"
        assert said("socat", "-t20", "-", f"UNIX-CONNECT:{path}", stdin=b"get a\nwhat?\n").startswith(b"-3\n? get")
    assert not path.exists()


# TLS ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Running, Path]]:
    """Run the echo over TLS, and tell where the authority's certificate is."""
    pem = tmp_path / "localhost.pem"
    certificate().private_key_and_cert_chain_pem.write_to_path(str(pem))
    trust = tmp_path / "authority.pem"
    authority().cert_pem.write_to_path(str(trust))
    with running("tls_echo.py", "0", str(pem), str(pem)) as example:
        yield example, trust


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_client(version: str, secure: tuple[Running, Path]) -> None:
    """OpenSSL's client verifies the certificate and gets its words back; its end is a good one."""
    needs("openssl")
    example, trust = secure
    trusting = ["-CAfile", str(trust), "-verify_return_error", "-verify_hostname", "localhost"]
    with subprocess.Popen(
        ["openssl", "s_client", "-quiet", "-no_ign_eof", version, "-connect", f"127.0.0.1:{example.port}", *trusting],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stdout.readline().startswith(b"TLSv1.")
        client.stdin.write(b"hello there\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"hello there\n"
        client.stdin.close()
        client.wait(PATIENCE)
    assert example.line().endswith("ended well")


def test_openssl_client_that_does_not_trust(secure: tuple[Running, Path]) -> None:
    """It says so, and the server hears why."""
    needs("openssl")
    example, _ = secure
    done = subprocess.run(
        ["openssl", "s_client", "-verify_return_error", "-connect", f"127.0.0.1:{example.port}"],
        input=b"",
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode != 0
    assert "unknown ca" in example.line().lower()


def test_renegotiation_is_refused(secure: tuple[Running, Path]) -> None:
    """A client of TLS 1.2 cannot make the server work for it again and again."""
    needs("openssl")
    example, _ = secure
    with subprocess.Popen(
        ["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{example.port}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stderr is not None
        while not client.stdout.readline().startswith(b"TLSv1.2 "):
            pass  # the greeting, behind much about certificates; in the middle of a handshake it would be an error
        client.stdin.write(b"R\n")
        client.stdin.flush()
        assert "no renegotiation" in client.stderr.read().decode()
        client.stdin.close()
        client.wait(PATIENCE)


def test_new_keys(secure: tuple[Running, Path]) -> None:
    """A client of TLS 1.3 may change its keys and ask for ours to change, in the middle of the talk."""
    needs("openssl")
    example, trust = secure
    with subprocess.Popen(
        ["openssl", "s_client", "-tls1_3", "-CAfile", str(trust), "-connect", f"127.0.0.1:{example.port}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        while not client.stdout.readline().startswith(b"TLSv1.3 "):
            pass
        for number in range(10):
            words = b"number %d\n" % number
            for line, answer in ((b"K\n", b"KEYUPDATE\n"), (b"k\n", b"KEYUPDATE\n"), (words, words)):
                client.stdin.write(line)
                client.stdin.flush()
                while client.stdout.readline() != answer:
                    pass
        client.stdin.close()
        client.wait(PATIENCE)
    assert example.line().endswith("ended well")


def test_socat_over_tls(secure: tuple[Running, Path]) -> None:
    """Socat gets three megabytes back, and an end."""
    example, trust = secure
    data = os.urandom(3 << 20)
    target = f"OPENSSL:127.0.0.1:{example.port},cafile={trust},commonname=localhost"
    answer = said("socat", "-t20", "-", target, stdin=data)
    assert hashlib.sha256(answer[answer.index(b"\n") + 1 :]).digest() == hashlib.sha256(data).digest()


def test_asyncio_over_tls(secure: tuple[Running, Path]) -> None:
    """Streams of asyncio, with its own TLS."""
    example, _ = secure

    async def main() -> None:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", example.port, ssl=client_context(), server_hostname="localhost"
        )
        assert (await reader.readline()).startswith(b"TLSv1.3")
        writer.write(b"x" * 500_000)
        assert await reader.readexactly(500_000) == b"x" * 500_000
        writer.close()
        await writer.wait_closed()

    asyncio.run(main())


def test_plain_text_to_the_secure_echo(secure: tuple[Running, Path]) -> None:
    """It is named for what it is."""
    example, _ = secure
    with socket.create_connection(("127.0.0.1", example.port), PATIENCE) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while client.recv(100):
            pass
    assert "http request" in example.line().lower()
    assert ssl.OPENSSL_VERSION_INFO >= (1, 1, 1)


# Netcat ---------------------------------------------------------------------------------------------------------------


def test_netcat() -> None:
    """What goes in comes out at the other end, both ways, to the last byte."""
    data = os.urandom(2 << 20)

    def serve(listener: socket.socket) -> None:
        conn, _ = listener.accept()
        with conn:
            got = b""
            while chunk := conn.recv(1 << 20):
                got += chunk
            conn.sendall(got[::-1])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        port = str(listener.getsockname()[1])
        answer = said(sys.executable, "-X", "dev", str(EXAMPLES / "netcat.py"), "127.0.0.1", port, stdin=data)
        thread.join()
    assert answer == data[::-1]


def test_netcat_to_nobody() -> None:
    """It says what is wrong, and with which status."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", str(EXAMPLES / "netcat.py"), "127.0.0.1", str(free_port())],
        input=b"",
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"127.0.0.1" in done.stderr
