"""The soak test: mixed traffic for a while, with workers killed under it. `hatch run soak [MINUTES] [--tls]`.

Over loopback, on a port of the system's choice, Linux only. Ordinary clients check every answer, slow and broken ones
are in between, and every few seconds one of the workers is killed with SIGKILL; the first one never is, and shows
with the supervisor whether memory or descriptors drift. What a killed worker had begun may be lost, and is tried again;
anything else that is lost, wrong or left over ends in a non-zero exit status. At the end all workers are replaced a few
times by SIGHUP, under which nothing may be lost; a WebSocket is told that its worker goes away.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trustme
from traffic import KINDS, Client, Tally, WrongError, pages

SERVER = Path(__file__).with_name("server.py")
KILL_EVERY = 15.0
"""Seconds between kills: a new worker takes about one to be there, more on a busy machine."""
ROLL_EVERY = 10.0
"""Seconds between rolls: downloads that are on their way have ten to end."""
SETTLE = 8.0
"""Seconds without traffic before memory and descriptors are read: longer than an idle connection is kept."""
MOST_GROWTH = 12 * 1024
"""KiB by which a process may have grown: what the allocator keeps of the largest moment differs from run to run."""

Contexts = tuple[ssl.SSLContext | None, ssl.SSLContext | None]
"""Of most clients, and of those with two threads; None without TLS."""


@dataclass
class Use:
    """What a process has."""

    rss: int
    descriptors: list[str]
    """What each one is."""

    @classmethod
    def of(cls, pid: int) -> Use:
        """Read it (proc_pid_status(5), proc_pid_fd(5))."""
        status = Path(f"/proc/{pid}/status").read_text()
        rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        sockets = tcp_sockets(pid)
        descriptors = []
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(entry.readlink())
            except FileNotFoundError:
                continue  # closed since the folder was read
            descriptors.append(f"{entry.name} {target} {sockets.get(target, '')}".rstrip())
        return cls(rss, sorted(descriptors, key=lambda each: int(each.split()[0])))

    def kinds(self) -> Counter[str]:
        """Count the descriptors by what they are: their numbers, and those of sockets, change."""
        return Counter(re.sub(r":\[\d+\]", "", each.partition(" ")[2]) for each in self.descriptors)


# tcp_states.h
TCP_STATES = {
    "01": "ESTABLISHED",
    "04": "FIN_WAIT1",
    "05": "FIN_WAIT2",
    "07": "CLOSE",
    "08": "CLOSE_WAIT",
    "09": "LAST_ACK",
    "0A": "LISTEN",
}


def tcp_sockets(pid: int) -> dict[str, str]:
    """Tell of each socket of TCP what state it is in (proc_pid_net(5)); those left out are no TCP."""
    found = {}
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        found[f"socket:[{fields[9]}]"] = f"TCP {TCP_STATES.get(fields[3], fields[3])}"
    return found


class Soak:
    """One run."""

    def __init__(self, pid: int, address: tuple[str, int], file: bytes, seed: int, tls: Contexts) -> None:
        self.pid = pid
        self.address = address
        self.file = file
        self.seed = seed
        self.tls = tls
        self.rolls = 0
        self.readings: list[int] = []
        self.latest = 0.0
        self.tally = Tally()
        self.killed: dict[str, float] = {}
        self.problems: list[str] = []
        self.stop = threading.Event()

    def client(self, number: int) -> Client:
        """Make a client with dice of its own."""
        return Client(self.address, self.tally, self.file, random.Random(self.seed * 1000 + number), *self.tls)

    def is_excused(self, worker: str, began: float) -> bool:
        """Whether a kill explains a loss: of the worker that has answered, or, where none has, of any at that time."""
        return worker in self.killed if worker else any(when >= began - 1 for when in self.killed.values())

    def repeat(self, number: int) -> None:
        """Be one kind of client until told to stop."""
        kinds = [kind for kind, count in KINDS for _ in range(count)]
        kind, client = kinds[number], self.client(number)
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                kind(client)
            except WrongError as error:
                self.problems.append(f"{kind.__name__}: {error}")
            except Exception as error:
                time.sleep(0.1)  # let the killer write down whom it has killed
                if self.is_excused(client.worker, began):
                    self.tally.add("cut by a kill")
                else:
                    seconds = time.monotonic() - began
                    self.problems.append(
                        f"{kind.__name__}, worker {client.worker or '?'}, after {seconds:.1f} s: {error!r}"
                    )

    def run_clients(
        self, seconds: float, disturb: Callable[[], object] = lambda: None, every: float = KILL_EVERY
    ) -> None:
        """Have all clients at work for a time, and be disturbed, but not while they end."""
        self.stop.clear()
        threads = [threading.Thread(target=self.repeat, args=[i]) for i in range(sum(count for _, count in KINDS))]
        for thread in threads:
            thread.start()
        now = time.monotonic()
        end, due = now + seconds, now + every
        while now < end:
            time.sleep(0.05)
            self.latest = max(self.latest, time.monotonic() - now - 0.05)
            now = time.monotonic()
            if now >= due:
                due += every
                if now < end - every:
                    disturb()
        self.stop.set()
        for thread in threads:
            thread.join(60)
            if thread.is_alive():
                self.problems.append("a client waits for something that does not come")

    def alive(self) -> list[str]:
        """The workers that have answered and were not killed."""
        with self.tally.lock:
            return [worker for worker in self.tally.workers if worker not in self.killed]

    def kill_one(self, spared: str) -> None:
        """Kill a worker, without a warning; note the memory of the one that is spared."""
        self.readings.append(Use.of(int(spared)).rss)
        others = [worker for worker in self.alive() if worker != spared]
        if others:
            worker = random.Random(len(self.killed)).choice(others)
            self.killed[worker] = time.monotonic()
            os.kill(int(worker), signal.SIGKILL)

    def roll(self) -> None:
        """Have all workers replaced."""
        self.rolls += 1
        os.kill(self.pid, signal.SIGHUP)

    def run(self, minutes: float) -> None:
        """Warm up, measure, do the work, measure again, and compare; then once more with other disturbances."""
        self.run_clients(min(30.0, minutes * 15))
        time.sleep(SETTLE)
        spared = self.alive()[0]
        watched = {"supervisor": self.pid, f"worker {spared}": int(spared)}
        before = {name: Use.of(pid) for name, pid in watched.items()}
        self.run_clients(minutes * 60, lambda: self.kill_one(spared))
        print("RSS of the worker under way, KiB:", *self.readings[:: len(self.readings) // 10 + 1])
        self.compare(watched, before)
        self.run_clients(max(4 * ROLL_EVERY, minutes * 6), self.roll, ROLL_EVERY)
        del watched[f"worker {spared}"]
        self.compare(watched, before)

    def compare(self, watched: dict[str, int], before: dict[str, Use]) -> None:
        """Let things settle, see that the server answers, and report what each process has more than before."""
        time.sleep(SETTLE)
        pages(self.client(999))
        for name, pid in watched.items():
            old, new = before[name], Use.of(pid)
            end = time.monotonic() + SETTLE  # the last connection may be about to close
            while len(new.descriptors) > len(old.descriptors) and time.monotonic() < end:
                time.sleep(0.1)
                new = Use.of(pid)
            more = len(new.descriptors) - len(old.descriptors)
            print(
                f"{name}: RSS {old.rss} -> {new.rss} KiB ({new.rss - old.rss:+}), "
                f"descriptors {len(old.descriptors)} -> {len(new.descriptors)}"
            )
            for kind, count in sorted((new.kinds() - old.kinds()).items()):
                print(f"  {count} more: {kind}")
            for kind, count in sorted((old.kinds() - new.kinds()).items()):
                print(f"  {count} less: {kind}")
            if new.rss - old.rss > MOST_GROWTH:
                self.problems.append(f"{name} has grown by {new.rss - old.rss} KiB")
            if more > 0:
                self.problems.append(
                    f"{name} has {more} descriptors more: before {old.descriptors}, now {new.descriptors}"
                )


def make_contexts() -> Contexts:
    """Make the settings of most clients, and of those that read and write in two threads.

    The latter is what the client of websockets does, and OpenSSL does not allow it within one connection
    (openssl-threads(7)). With the tickets of TLS 1.3, which are read while the request is written, one request in some
    thousand is never sent, whatever the server.
    """
    usual, of_threads = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    of_threads.maximum_version = ssl.TLSVersion.TLSv1_2
    return usual, of_threads


def make_certificate(folder: Path, *clients: ssl.SSLContext | None) -> list[str]:
    """Make a certificate that clients trust; gives the files with it and with its key."""
    authority = trustme.CA()
    for client in filter(None, clients):
        authority.configure_trust(client)
    certificate = authority.issue_cert("127.0.0.1")
    chain, key = folder / "chain.pem", folder / "key.pem"
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(chain, append=True)
    certificate.private_key_pem.write_to_path(key)
    return [str(chain), str(key)]


def main() -> int:
    """Run, report, and say by the exit status whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", type=float, nargs="?", default=10.0, help="how long (default: 10)")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--tls", action="store_true", help="all of it over TLS")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = random.Random(options.seed).randbytes(500_000)
        Path(folder, "file.bin").write_bytes(file)
        command = [sys.executable, str(SERVER), folder, str(options.workers)]
        tls = make_contexts() if options.tls else (None, None)
        if options.tls:
            certificates = Path(folder, "certificates")
            certificates.mkdir()
            command += make_certificate(certificates, *tls)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            try:
                host, port = server.stdout.readline().split()
                soak = Soak(server.pid, (host, int(port)), file, options.seed, tls)
                soak.run(options.minutes)
            finally:
                server.terminate()
                try:
                    rest, _ = server.communicate(timeout=30)
                except subprocess.TimeoutExpired:
                    server.kill()
                    rest = "the server did not end"
    if server.returncode:
        soak.problems.append(f"the server ended with {server.returncode}: {rest}")
    for what, count in sorted(soak.tally.counts.items()):
        print(f"{what}: {count}")
    print(f"workers killed: {len(soak.killed)}; rolls: {soak.rolls}; at the end the server said: {rest.strip()}")
    print(f"a sleep here was up to {soak.latest:.1f} s too long: deadlines on both sides mean little from a second on")
    print(f"lost or wrong: {len(soak.problems)}")
    for problem in soak.problems[:50]:
        print(f"  {problem}")
    return bool(soak.problems)


if __name__ == "__main__":
    raise SystemExit(main())
