"""What clients notice while workers are killed, replaced, hung and stopped, under steady load from wrk.

Prints one line for each case, and exits with 1 when something was lost that need not be. Takes about three minutes;
--rolls sets how often all workers are replaced.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

from _harness import refuse

HERE: Final = Path(__file__).parent
WORKERS: Final = 2
CONNECTIONS: Final = 64
# The load goes on for as long before and after what happens to the workers.
SECONDS: Final = 3
PATIENCE: Final = 60.0


class Server:
    """``python -m nimloop_mt`` with two processes, on a free port."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "nimloop_mt", "fault_handler:on_request", "--mode", "processes"]
        command += ["--workers", str(WORKERS), "--port", "0", "--no-access-log", "--log-level", "critical", *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE / "peers")
        assert self._process.stdout is not None
        found = re.search(r":(\d+)/", self._process.stdout.readline())
        if found is None:
            raise SystemExit("the server did not start")
        self.port = int(found[1])

    @property
    def workers(self) -> list[int]:
        """Its children."""
        pid = self._process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    @property
    def descriptors(self) -> int:
        """How many the supervisor has open."""
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def send(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def roll(self) -> None:
        """Replace all workers, and wait until the old ones are gone."""
        old = set(self.workers)
        self.send(signal.SIGHUP)
        until(lambda: not old & set(self.workers) and len(self.workers) == WORKERS)

    def wait(self) -> int:
        """Return its exit status."""
        return self._process.wait(PATIENCE)

    def stop(self) -> int:
        """Ask it to end; return its exit status."""
        self.send(signal.SIGTERM)
        return self.wait()


class Load:
    """wrk, running."""

    def __init__(self, port: int, seconds: float) -> None:
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:.0f}s", "-s", str(HERE / "wrk.lua")]
        command += [f"http://127.0.0.1:{port}/hello", "--", "1"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def report(self) -> tuple[int, dict[str, int]]:
        """Return how many requests were answered, and the errors by kind."""
        said, _ = self._process.communicate(timeout=PATIENCE * 4)
        report = json.loads(next(line for line in said.splitlines() if line.startswith("report ")).partition(" ")[2])
        return int(report["requests"]), {kind: int(count) for kind, count in report["errors"].items() if count}

    def end(self) -> None:
        """Have it end before its time."""
        self._process.send_signal(signal.SIGINT)


def until(holds: Callable[[], object]) -> None:
    """Wait for something; gives up after a minute."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit("waited for too long")
        time.sleep(0.02)


def tell(case: str, requests: int, errors: dict[str, int], more: str, *, good: bool) -> bool:
    """Print a line."""
    lost = ", ".join(f"{kind} {count}" for kind, count in errors.items()) or "none"
    print(f"{case:<28} {requests:>8} answered  errors: {lost:<24} {more}{'' if good else '   WRONG'}", flush=True)
    return good


def loaded(server: Server, what: Callable[[], object]) -> tuple[int, dict[str, int]]:
    """Load the server while something happens to it."""
    load = Load(server.port, 2 * SECONDS)
    time.sleep(SECONDS)
    what()
    return load.report()


def kill() -> bool:
    """With kill -9 of one worker, only what it had accepted is lost."""
    server = Server()
    victim = server.workers[0]
    requests, errors = loaded(server, lambda: os.kill(victim, signal.SIGKILL))
    until(lambda: len(server.workers) == WORKERS and victim not in server.workers)
    status = server.stop()
    good = errors.keys() <= {"read", "write"} and sum(errors.values()) < CONNECTIONS and status == 0
    return tell("kill -9 of a worker", requests, errors, f"of {CONNECTIONS} connections", good=good)


def hang() -> bool:
    """A handler that does not return: the others serve on, and the watchdog replaces its worker."""
    server = Server("--watchdog", "2")
    before = set(server.workers)
    served = 0
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(1.5)  # by now it is known to hang, and the other one gets its connections
        while before <= set(server.workers):
            served += ask(server.port) != ""
        until(lambda: len(server.workers) == WORKERS and not before <= set(server.workers))
    requests, errors = loaded(server, lambda: None)
    status = server.stop()
    more = f"{served} new connections answered while it hung"
    return tell("after a worker that hung", requests, errors, more, good=not errors and served > 0 and status == 0)


def hup() -> bool:
    """SIGHUP: nothing is lost."""
    server = Server()
    requests, errors = loaded(server, server.roll)
    status = server.stop()
    return tell("SIGHUP", requests, errors, "", good=not errors and status == 0)


def term() -> bool:
    """SIGTERM: what was asked is answered; then there is nobody to connect to."""
    server = Server()
    requests, errors = loaded(server, lambda: server.send(signal.SIGTERM))
    status = server.wait()
    # For wrk a connection that is refused has failed to write; it goes on trying once nobody is there.
    lost = {kind: number for kind, number in errors.items() if kind not in {"connect", "write"}}
    return tell("SIGTERM", requests, lost, "", good=not lost and status == 0)


def restarts(rolls: int) -> bool:
    """Replace all workers over and over: no descriptor and no process is left, and no request is lost."""
    server = Server()
    server.roll()
    before = server.descriptors
    began = time.monotonic()
    load = Load(server.port, rolls * PATIENCE)
    for _ in range(rolls):
        server.roll()
    seconds = time.monotonic() - began
    until(lambda: server.descriptors <= before)
    load.end()
    requests, errors = load.report()
    more = f"descriptors {before} -> {server.descriptors}, children {len(server.workers)}, {seconds:.0f} s"
    good = not errors and len(server.workers) == WORKERS and server.stop() == 0
    return tell(f"{rolls * WORKERS} workers replaced", requests, errors, more, good=good)


def spread(count: int = 2000) -> bool:
    """New connections are spread evenly."""
    server = Server()
    workers = Counter(ask(server.port) for _ in range(count))
    shares = [workers[worker] / count * WORKERS for worker in workers]
    more = "shares of an even part: " + ", ".join(f"{share:.2f}" for share in shares)
    good = len(shares) == WORKERS and all(0.8 <= share <= 1.2 for share in shares) and server.stop() == 0
    return tell("connections", count, {}, more, good=good)


def ask(port: int) -> str:
    """Ask on a new connection who answers."""
    client = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    client.request("GET", "/who")
    who = client.getresponse().read().decode()
    client.close()
    return who


def main() -> int:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rolls", type=int, default=50, help="how often all workers are replaced (default 50)")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        return refuse("wrk is not installed (Debian: apt-get install wrk)")
    results = [spread(), kill(), hang(), hup(), term(), restarts(options.rolls)]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
