"""Draws the benchmarks as SVG, light and dark, for the documentation and the README.

    python scripts/charts.py benchmarks/results/results.json    keeps the figures in docs/data, and draws them
    python scripts/charts.py                                    draws those that are kept

`scripts/bench_all.py` tells the form of the figures. A chart is drawn of each benchmark of servers; the bar is CPU time
for each answer, user and system apart.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final, cast

from bench_page import TITLES, Row, number

ROOT: Final = Path(__file__).parent.parent
KEPT: Final = ROOT / "docs" / "data" / "benchmarks.json"
ASSETS: Final = ROOT / "docs" / "assets"

# Text, quiet text, background; then user and system time of nimloop and of others.
THEMES: Final = {
    "light": ("#1f2328", "#59636e", "#ffffff", "#00796b", "#80cbc4", "#6e7781", "#c8ced4"),
    "dark": ("#e6edf3", "#9198a1", "#1e2129", "#26a69a", "#115e55", "#8b949e", "#4a525c"),
}
WIDTH: Final = 560  # pixels: a phone shows it at two thirds, where the words can still be read
NAMES: Final = 240  # for names
FIGURES: Final = 120  # and for the figures behind the bars
ROW: Final = 29
HEAD: Final = 80


def name(row: Row) -> str:
    """Name a server; of ours, with the build."""
    server = str(row["server"]).removesuffix("-python")
    build = "nothing compiled" if row["build"] == "Python" else row["build"]
    return f"{server}, {build}" if build else server


def scale(totals: Sequence[float]) -> float:
    """Return what the longest bar stands for: one that would dwarf all others is cut."""
    ordered = sorted(totals)
    return 1.15 * ordered[-2] if len(ordered) > 2 and ordered[-1] > 2.5 * ordered[-2] else ordered[-1]


def draw(title: str, rows: Sequence[Row], facts: Mapping[str, str], theme: str) -> str:
    """Return a chart: the least CPU time first."""
    ink, quiet, paper, *colours = THEMES[theme]
    rows = sorted(rows, key=lambda row: cast("float", row["total_us"]))
    longest = scale([cast("float", row["total_us"]) for row in rows])
    room = WIDTH - NAMES - FIGURES
    height = HEAD + ROW * len(rows) + 64
    about = "CPU time of the server for each answer, µs: first user, then system"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"',
        f'role="img" aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="14" fill="{ink}">',
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="{paper}"/>',
        f'<text x="16" y="28" font-size="16" font-weight="600">{escape(title)}</text>',
        f'<text x="16" y="48" font-size="12" fill="{quiet}">{escape(str(rows[0]["case"]))}</text>',
        f'<text x="16" y="65" font-size="12" fill="{quiet}">{escape(about)}</text>',
    ]
    for place, row in enumerate(rows):
        y = HEAD + ROW * place
        ours = bool(row["build"])
        user_colour, system_colour = colours[:2] if ours else colours[2:]
        total = cast("float", row["total_us"])
        # Medians are taken apart, so the two parts need not add up to the median of the whole.
        user = cast("float", row["user_us"])
        share = user / max(1e-9, user + cast("float", row["system_us"]))
        length = min(total, longest) / longest * room
        first = min(length, total * share / longest * room)
        weight = ' font-weight="600"' if ours else ""
        parts += [
            f'<text x="{NAMES - 10}" y="{y + 19}" text-anchor="end"{weight}>{escape(name(row))}</text>',
            f'<rect x="{NAMES}" y="{y + 5}" width="{first:.1f}" height="20" fill="{user_colour}"/>',
            f'<rect x="{NAMES + first:.1f}" y="{y + 5}" width="{length - first:.1f}" height="20"',
            f'fill="{system_colour}"/>',
        ]
        if total > longest:  # a cut through the bar
            x = NAMES + length - 24
            parts.append(f'<path d="M{x:.1f} {y + 28} l8 -26" stroke="{paper}" stroke-width="5"/>')
        ratio = row["ratio_to_floor"]
        times = f" · {number(ratio)} ×" if ratio is not None else ""
        parts.append(f'<text x="{NAMES + length + 8:.1f}" y="{y + 19}"{weight}>{number(total)}{times}</text>')
    floor = str(rows[0]["floor"])
    known = "floor: a server in C that parses nothing" if floor == "floor" else f"{floor}"
    words = [f"× {known}", f"{facts['date'][:10]}, {facts['cpu']}, {facts['python'].partition(' (')[0]}"]
    words += [facts["note"]] if facts.get("note") else []
    for line, text in enumerate(words):
        y = height - 16 * (len(words) - line) + 2
        parts.append(f'<text x="16" y="{y}" font-size="12" fill="{quiet}">{escape(text)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Draw all charts."""
    if len(sys.argv) > 1:
        KEPT.parent.mkdir(exist_ok=True)
        shutil.copyfile(sys.argv[1], KEPT)
    document = json.loads(KEPT.read_text("utf-8"))
    for old in ASSETS.glob("chart-*.svg"):
        old.unlink()
    for path, text in charts(document):
        path.write_text(text, "utf-8")
        print(path.relative_to(ROOT))


def charts(document: dict[str, object]) -> list[tuple[Path, str]]:
    """Return every chart and where it belongs."""
    rows = cast("list[Row]", document["rows"])
    drawn = []
    for benchmark, title in TITLES.items():
        found = [row for row in rows if row["benchmark"] == benchmark and row["user_us"] is not None]
        # A benchmark with several cases has a chart of the first: the table has them all.
        found = [row for row in found if row["case"] == found[0]["case"]]
        for theme in THEMES if found else ():
            drawing = draw(title, found, cast("dict[str, str]", document["facts"]), theme)
            drawn.append((ASSETS / f"chart-{benchmark}-{theme}.svg", drawing))
    return drawn


if __name__ == "__main__":
    main()
