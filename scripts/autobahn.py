"""Runs the Autobahn test suite against nimloop-ws, as a server and as a client, and writes down what came of it.

    python scripts/autobahn.py --wstest /path/to/wstest               all 517 cases, both sides: about forty minutes
    python scripts/autobahn.py --wstest … --cases "1.*" "9.1.*"       some of them
    python scripts/autobahn.py --wstest … --write packages/nimloop-ws/docs/autobahn.md

`wstest` comes with the package autobahntestsuite, which needs Python 2.7; CONTRIBUTING.md says how to get it. The exit
status is 1 when a case is anything but OK or, where the suite expects nothing in particular, informational.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from nimloop_core import Loop
from nimloop_ws import Deflate, WebSocket, WsLimits, WsServer, WsTimeouts, connect
from nimloop_ws.build import IMPLEMENTATION

AGENT = "nimloop"
# The suite sends 16 MiB in a message, and checks windows of all sizes.
LIMITS = WsLimits(frame=64 << 20, message=64 << 20)
COMPRESSION = Deflate(window_bits=15, peer_window_bits=15, memory_level=8, threshold=0)
GROUPS = {
    "1": "Framing",
    "2": "Pings and pongs",
    "3": "Reserved bits",
    "4": "Opcodes",
    "5": "Fragmentation",
    "6": "UTF-8",
    "7": "Close",
    "9": "Limits and performance",
    "10": "Auto-fragmentation",
    "12": "Compression, sizes",
    "13": "Compression, parameters",
}

Outcome = dict[str, dict[str, str | int | None]]


def echo(ws: WebSocket, message: str | bytes) -> None:
    """Send a message back."""
    ws.send(message)


@contextmanager
def serving() -> Iterator[int]:
    """Serve an echo from another thread; gives the port."""
    loop = Loop()
    server = WsServer(loop, on_message=echo, limits=LIMITS, compression=COMPRESSION)
    _, port = server.listen("127.0.0.1", 0)[0]
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(lambda: server.shutdown(2.0, lambda _aborted: loop.stop()))
        thread.join()
        loop.close()


def test_server(wstest: str, cases: list[str], directory: Path) -> None:
    """Let the suite's client loose on our server."""
    with serving() as port:
        spec = {
            "outdir": str(directory),
            "servers": [{"agent": AGENT, "url": f"ws://127.0.0.1:{port}"}],
            "cases": cases,
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        path = directory / "spec.json"
        path.write_text(json.dumps(spec))
        subprocess.run([wstest, "-m", "fuzzingclient", "-s", str(path)], stdout=subprocess.DEVNULL, check=True)


def test_client(wstest: str, cases: list[str], directory: Path, port: int) -> None:
    """Let our client talk to the suite's server."""
    url = f"ws://127.0.0.1:{port}"
    spec = {"outdir": str(directory), "url": url, "cases": cases, "exclude-cases": [], "exclude-agent-cases": {}}
    path = directory / "spec.json"
    path.write_text(json.dumps(spec))
    command = [wstest, "-m", "fuzzingserver", "-s", str(path), "-u", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as suite:
        try:
            Visitor(url).run()
        finally:
            suite.terminate()


class Visitor:
    """Asks the suite's server for the number of its cases, for each of them, and for the report."""

    def __init__(self, url: str) -> None:
        """Go to `url`."""
        self.url = url
        self.loop = Loop()
        self.count = 0
        self.attempts = 50

    def run(self) -> None:
        """Visit all."""
        self.ask()
        self.loop.run()
        self.loop.close()
        if not self.count:
            raise SystemExit("the suite's server does not answer")

    def ask(self) -> None:
        """Ask how many there are; the suite takes a while to start."""

        def again(_error: Exception) -> None:
            self.attempts -= 1
            self.loop.call_later(0.2, self.ask if self.attempts else self.loop.stop)

        def note(_ws: WebSocket, message: str | bytes) -> None:
            self.count = int(message)

        where = f"{self.url}/getCaseCount"
        connect(self.loop, where, on_message=note, on_close=lambda *_: self.visit(1), on_failure=again)

    def visit(self, case: int) -> None:
        """One case, then the next."""
        if case > self.count:
            where = f"{self.url}/updateReports?agent={AGENT}"
            connect(self.loop, where, on_close=lambda *_: self.loop.stop(), on_failure=self.fail)
            return
        connect(
            self.loop,
            f"{self.url}/runCase?case={case}&agent={AGENT}",
            on_message=echo,
            on_close=lambda *_: self.visit(case + 1),
            on_failure=self.fail,
            limits=LIMITS,
            compression=COMPRESSION,
            timeouts=WsTimeouts(ping=None),
        )

    def fail(self, error: Exception) -> None:
        """Tell why it cannot go on."""
        print(f"the suite's server: {error}", file=sys.stderr)
        self.loop.stop()


def outcome_of(directory: Path) -> Outcome:
    """Return what the suite has found, by case."""
    found: Outcome = json.loads((directory / "index.json").read_text()).get(AGENT, {})
    return found


def is_good(case: dict[str, str | int | None]) -> bool:
    """Tell whether a case has passed, strictly."""
    return {case["behavior"], case["behaviorClose"]} <= {"OK", "INFORMATIONAL"}


def summary(outcomes: dict[str, Outcome]) -> str:
    """Return the tables for the documentation."""
    lines = [
        "# Autobahn test suite",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, CPython {platform.python_version()}, {IMPLEMENTATION}, by",
        "`python scripts/autobahn.py`. *OK*: the suite's own verdict, for behaviour and closing; *informational*:",
        "cases for which RFC 6455 expects nothing in particular. The numbers are cases.",
        "",
        "| cases | | " + " | ".join(f"{side}: OK | informational | anything else" for side in outcomes) + " |",
        "| --- | --- |" + " ---: | ---: | ---: |" * len(outcomes),
    ]
    for group, title in [*GROUPS.items(), ("", "**all**")]:
        cells = []
        for found in outcomes.values():
            cases = [case for name, case in found.items() if not group or name.split(".")[0] == group]
            counts = Counter(str(case["behavior"]) if is_good(case) else "else" for case in cases)
            cells.append(f"{counts['OK']} | {counts['INFORMATIONAL']} | {counts['else']}")
        lines.append(f"| {group} | {title} | {' | '.join(cells)} |")
    lines += [
        "",
        "Informational: 7.1.6 (a large message just before a close), 7.13.1 and 7.13.2 (close codes 5000 and 65536).",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wstest", default="wstest", help="the command of the suite")
    parser.add_argument("--cases", nargs="+", default=["*"], help="such as 1.* or 6.4.1 (default: all)")
    parser.add_argument("--side", choices=("server", "client"), help="only this one")
    parser.add_argument("--port", type=int, default=9007, help="of the suite's server (default 9007)")
    parser.add_argument("--write", type=Path, help="put the summary there")
    given = parser.parse_args()
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for side in [given.side] if given.side else ["server", "client"]:
            directory = Path(scratch, side)
            directory.mkdir()
            if side == "server":
                test_server(given.wstest, given.cases, directory)
            else:
                test_client(given.wstest, given.cases, directory, given.port)
            outcomes[side] = outcome_of(directory)
    bad = [(side, name, case) for side, found in outcomes.items() for name, case in found.items() if not is_good(case)]
    print(summary(outcomes))
    for side, name, case in bad:
        print(f"{side} {name}: {case['behavior']}, closing {case['behaviorClose']}")
    if given.write:
        given.write.parent.mkdir(exist_ok=True)
        given.write.write_text(summary(outcomes))
    return 1 if bad or not all(outcomes.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
