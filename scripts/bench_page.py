"""Writes what `scripts/bench_all.py` has measured into docs/performance.md, between the two marks there.

python scripts/bench_page.py                      from benchmarks/results/results.json
python scripts/bench_page.py --results FILE
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs" / "performance.md"
BEGIN: Final = "<!-- figures: written by scripts/bench_page.py -->\n"
END: Final = "<!-- end of figures -->\n"

TITLES: Final = {
    "hello": "HTTP: hello, keep-alive",
    "pipelined": "HTTP: hello, pipelined",
    "close": "HTTP: hello, a connection per request",
    "many_connections": "HTTP: few and many connections",
    "static": "HTTP: a small file",
    "static_large": "HTTP: a large file",
    "upload": "HTTP: an upload",
    "parser": "HTTP: the parser",
    "timers": "Timers",
    "wakeups": "Wake-ups from other threads",
    "fds": "Many descriptors",
    "tcp_echo": "TCP: echo",
    "tcp_echo_large": "TCP: echo, large",
    "udp_echo": "UDP: echo",
    "sendfile": "TCP: a file",
    "idle_memory": "TCP: idle connections",
    "ws_echo": "WebSocket: echo",
    "ws_echo_large": "WebSocket: echo, large",
    "ws_echo_compressed": "WebSocket: echo, compressed",
    "masking": "WebSocket: masking",
    "ws_broadcast": "WebSocket: broadcast",
    "mt_scaling": "Workers",
    "mt_scaling_hello": "Workers: hello",
}

Row = dict[str, str | float | None]


def number(value: object) -> str:
    """Write a figure as short as it deserves."""
    if not isinstance(value, (int, float)):
        return "–"
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def table(rows: Iterable[list[str]]) -> str:
    """Return Markdown; the first column to the left, the others to the right."""
    head, *body = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def ratio(row: Row) -> str:
    """Write what a server is against the floor, with the spread over the rounds."""
    if row["ratio_to_floor"] is None:
        return "–"
    return f"{number(row['ratio_to_floor'])} ({number(row['low'])} to {number(row['high'])})"


def figure(row: Row | None) -> str:
    """Write the median of a measure, or of a ratio that has no other figure."""
    if row is None:
        return "–"
    return ratio(row) if row["total_us"] is None else number(row["total_us"])


def name(row: Row) -> str:
    """Name a server, and the build of what is ours."""
    server = str(row["server"])
    return f"**{server.removesuffix('-python')}**, {row['build']}" if row["build"] else server


def servers(rows: list[Row]) -> str:
    """Return the table of a benchmark of servers."""
    head = ["", "user µs", "system µs", "total µs", f"× {rows[0]['floor']}"]
    return table(
        [
            head,
            *(
                [name(row), *(number(row[key]) for key in ("user_us", "system_us", "total_us")), ratio(row)]
                for row in rows
            ),
        ]
    )


def loops(rows: list[Row]) -> str:
    """Return a table for each case of a benchmark of loops."""
    text = ""
    for case in dict.fromkeys(row["case"] for row in rows):
        of_case = [row for row in rows if row["case"] == case]
        measures = list(dict.fromkeys(str(row["measure"]) for row in of_case))
        lines = [[str(case), *measures]]
        for server in dict.fromkeys(row["server"] for row in of_case):
            found = {str(row["measure"]): row for row in of_case if row["server"] == server}
            first = next(iter(found.values()))
            lines.append([name(first), *(figure(found.get(key)) for key in measures)])
        text += table(lines) + "\n"
    return text


def figures(document: dict[str, list[Row] | dict[str, str]]) -> str:
    """Return everything between the marks."""
    facts, rows = document["facts"], document["rows"]
    assert isinstance(facts, dict)
    assert isinstance(rows, list)
    text = f"Measured on {facts['date'][:10]}: {facts['cpu']}; {facts['kernel']}; {facts['python']}.\n"
    for benchmark, title in TITLES.items():
        found = [row for row in rows if row["benchmark"] == benchmark]
        if not found:
            continue
        of_servers = [row for row in found if row["user_us"] is not None]
        others = [row for row in found if row["user_us"] is None]
        text += f"\n### {title}\n\n"
        if of_servers:
            text += f"{of_servers[0]['case']}: CPU time of the server for each answer.\n\n"
            text += f"<!-- chart: {benchmark} -->\n\n{servers(of_servers)}\n"
        text += loops(others)
    return text.replace("\n\n\n", "\n\n").rstrip() + "\n\n"


def main() -> None:
    """Put the figures where they belong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "results.json")
    options = parser.parse_args()
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    text = figures(json.loads(options.results.read_text(encoding="utf-8")))
    PAGE.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
