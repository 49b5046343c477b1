r"""A whois client: connect, ask one line, print what comes until the server has said everything (RFC 3912).

    python examples/net/whois.py example.org
    python examples/net/whois.py example.org --server whois.iana.org --timeout 5

The same lines talk to finger, daytime or any other server that answers and closes.
"""

import argparse
import sys

from nimloop_core import Loop
from nimloop_net import Connection, connect

PORT = 43
MOST = 1 << 20  # bytes: nobody has more to say about a domain


def main() -> int:
    """Return 0 for an answer that came to its end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question")
    parser.add_argument("--server", default="whois.iana.org")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds to connect in, and of silence afterwards")
    given = parser.parse_args()
    failures: list[Exception] = []
    answered = 0

    with Loop() as loop:

        def on_connect(conn: Connection) -> None:
            conn.idle_timeout = given.timeout
            conn.send(given.question.encode() + b"\r\n")

        def on_data(conn: Connection, data: bytes) -> None:
            nonlocal answered
            answered += len(data)
            if answered > MOST:
                raise ValueError(f"the server says more than {MOST} bytes")  # ends the connection with this error
            sys.stdout.write(data.decode("utf-8", "replace"))

        def on_close(conn: Connection, error: Exception | None) -> None:
            if error is not None:
                failures.append(error)
            loop.stop()

        def on_error(error: Exception) -> None:
            failures.append(error)
            loop.stop()

        loop.exception_handler = lambda error, owner: None  # on_close tells
        connect(
            loop,
            given.server,
            given.port,
            timeout=given.timeout,
            on_connect=on_connect,
            on_data=on_data,
            on_close=on_close,
            on_error=on_error,
        )
        loop.run()
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
