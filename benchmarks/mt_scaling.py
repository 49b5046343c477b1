"""Scaling: requests per second and CPU time per request with 1 and with 2 workers, nimloop beside its peers.

A handler that works for a while (--work) shows how rates grow: the client's own share is small then. Without (--work 0)
the figure that counts is the CPU time per request, which should not grow. The client runs on all cores, but only when
nobody else wants to (nice 19), since there are hardly more cores than workers.
"""

import json
import os
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from _harness import Contender, Options, arguments, python_peer, refuse, run
from _report import columns
from _wrk import HttpWorkload

WORKERS: Final = (1, 2)
SERVERS: Final = ("nimloop-processes", "nimloop-threads", "granian", "uvicorn", "gunicorn")
CONTENDERS: Final = tuple(
    Contender(f"{server}-{workers}", python_peer("scaling.py", server, "--workers", str(workers)))
    for server in SERVERS
    for workers in WORKERS
)
# peers/_scaling.py: additions, 200 µs or so on a machine of today.
WORK: Final = 5000


def main() -> int:
    """Parse, measure, report."""
    parser = arguments(__doc__)
    parser.add_argument("--work", type=int, default=WORK, help=f"additions in the handler (default {WORK})")
    given = parser.parse_args()
    options = Options.of(given)
    if len(cores := os.sched_getaffinity(0)) < max(WORKERS):
        return refuse(f"{max(WORKERS)} workers need as many cores")
    os.environ["NIMLOOP_BENCH_WORK"] = str(given.work)
    spare = ("nice", "-n", "19", "taskset", "--cpu-list", ",".join(map(str, sorted(cores))))
    workload = HttpWorkload(connections=options.connections, prefix=spare)
    floor = next((f"{server}-1" for server in SERVERS if not options.only or f"{server}-1" in options.only), "")
    with tempfile.TemporaryDirectory() as folder:
        path = options.json or Path(folder, "results.json")
        benchmark = f"mt_scaling, {given.work} additions"
        status = run(benchmark, CONTENDERS, workload, replace(options, json=path), floor=floor)
        if path.exists():
            document = json.loads(path.read_text(encoding="utf-8"))
            document["rows"] += _scaling(document["servers"])
            path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return status


def _scaling(servers: dict[str, dict[str, list[dict[str, float]]]]) -> list[dict[str, object]]:
    """Print what the second worker brings and costs, and return it as rows; medians of ratios, round by round."""
    rows: list[dict[str, object]] = []
    table = [["1 -> 2 workers", "requests/s", "CPU/request", "cores it had"]]
    for server in SERVERS:
        if not {f"{server}-1", f"{server}-2"} <= servers.keys():
            continue
        pairs = list(zip(servers[f"{server}-1"]["visits"], servers[f"{server}-2"]["visits"], strict=True))
        figures = {
            "requests/s, 2 workers : 1": [_rate(two) / _rate(one) for one, two in pairs],
            "CPU, 2 workers : 1": [_cost(two) / _cost(one) for one, two in pairs],
        }
        cores = [f"{statistics.median(_cores(pair[which]) for pair in pairs):.2f}" for which in (0, 1)]
        ratios_told = [f"x {statistics.median(each):.2f}" for each in figures.values()]
        table.append([server, *ratios_told, " -> ".join(cores)])
        for measure, ratios in figures.items():
            row = {"case": "1 -> 2 workers", "server": server, "build": "", "measure": measure, "floor": f"{server}-1"}
            low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
            none = {"user_us": None, "system_us": None, "total_us": None}
            rows.append(row | none | {"ratio_to_floor": middle, "low": low, "high": high})
    print("", *columns(table), sep="\n")
    return rows


def _rate(visit: dict[str, float]) -> float:
    return visit["count"] / visit["seconds"]


def _cores(visit: dict[str, float]) -> float:
    """Less than there were workers: somebody else wanted them, too."""
    return (visit["user"] + visit["system"]) / visit["seconds"]


def _cost(visit: dict[str, float]) -> float:
    return (visit["user"] + visit["system"]) / visit["count"]


if __name__ == "__main__":
    sys.exit(main())
