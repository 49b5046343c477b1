"""The figures as a table for people and as JSON for programs."""

import json
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

# The contender that the others are set against.
FLOOR: Final = "floor"
# A server that takes more than this of a core while the others are measured disturbs them.
IDLE_SHARE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Visit:
    """One stretch of load on one server; CPU time in seconds."""

    count: int
    seconds: float
    user: float
    system: float

    def user_us(self) -> float:
        """Microseconds per answer in the server's own code."""
        return self.user / self.count * 1e6

    def system_us(self) -> float:
        """Microseconds per answer in the kernel."""
        return self.system / self.count * 1e6

    def total_us(self) -> float:
        """Both."""
        return self.user_us() + self.system_us()

    def rate(self) -> float:
        """Answers per second."""
        return self.count / self.seconds


@dataclass(frozen=True, slots=True)
class Spread:
    """A median between the least and the greatest."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        # Three significant figures are more than a shared machine can promise.
        digits = 2 if self.median < 10 else 1 if self.median < 100 else 0
        return f"{self.median:.{digits}f} ({self.least:.{digits}f}-{self.greatest:.{digits}f})"


@dataclass(slots=True)
class Result:
    """All that was measured of one server."""

    visits: list[Visit] = field(default_factory=list)
    idle_cpu: float = 0.0
    idle_seconds: float = 0.0

    def spread(self, what: Callable[[Visit], float]) -> Spread:
        """Over all visits."""
        return Spread.of([what(visit) for visit in self.visits])

    @property
    def idle_share(self) -> float:
        """Part of a core that it used while others were visited."""
        return self.idle_cpu / self.idle_seconds if self.idle_seconds else 0.0


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine()


def environment() -> dict[str, str]:
    """Where and when: what has to stand beside every figure."""
    implementation = f"{platform.python_implementation()} {platform.python_version()}"
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": f"{implementation} ({platform.python_compiler()})",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": f"{_cpu_name()}, {os.cpu_count()} cores",
        "command": shlex.join(sys.orig_argv),
    }


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Names to the left, figures to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _row(name: str, case: str, build: list[str], measure: str, total: Spread | None) -> dict[str, object]:
    """A line for the table of everything that was measured; `scripts/bench_all.py` tells what it means."""
    runs_on = next((line.partition(": ")[2] for line in build if line.startswith("runs on: ")), "")
    return {
        "case": case,
        "server": name,
        "build": runs_on,
        "measure": measure,
        "user_us": None,
        "system_us": None,
        "total_us": None if total is None else total.median,
    }


def _ratio_columns(floor: str, ratio: Spread | None) -> dict[str, object]:
    low, median, high = (None, None, None) if ratio is None else (ratio.least, ratio.median, ratio.greatest)
    return {"ratio_to_floor": median, "low": low, "high": high, "floor": floor}


@dataclass(slots=True)
class Report:
    """One run of one benchmark; the harness fills it in."""

    benchmark: str
    about: str
    unit: str
    cores: tuple[int, int]
    floor: str = FLOOR
    builds: dict[str, list[str]] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=environment)

    def _against_floor(self, result: Result) -> Spread | None:
        """Round by round, since what slows a machine for a while slows the floor as well."""
        if self.floor not in self.results:
            return None
        pairs = zip(result.visits, self.results[self.floor].visits, strict=True)
        return Spread.of([visit.total_us() / floor.total_us() for visit, floor in pairs])

    def text(self) -> str:
        """The table, with all that is needed to judge it."""
        lines = [f"{self.benchmark}: {self.about}"]
        lines += [f"server on core {self.cores[0]}, client on core {self.cores[1]}"]
        lines += [f"{key}: {text}" for key, text in self.facts.items()]
        lines += ["", *(f"{name}: {line}" for name, build in self.builds.items() for line in build), ""]
        if self.results:
            lines += ["CPU time of the server, median (least-greatest):", "", *self._table()]
        else:
            lines += ["nothing was measured"]
        for name, result in self.results.items():
            if result.idle_share > IDLE_SHARE:
                lines += [f"note: {name} used {result.idle_share:.1%} of a core while it should have been idle"]
        lines += [f"skipped {name}: {why}" for name, why in self.skipped.items()]
        lines += [f"FAILED {name}: {why}" for name, why in self.failed.items()]
        return "\n".join(lines)

    def _table(self) -> list[str]:
        rows = [["server", "user µs", "system µs", f"total µs/{self.unit}", f"x {self.floor}", f"{self.unit}s/s"]]
        for name, result in self.results.items():
            ratio = self._against_floor(result)
            rows.append(
                [
                    name,
                    str(result.spread(Visit.user_us)),
                    str(result.spread(Visit.system_us)),
                    str(result.spread(Visit.total_us)),
                    "-" if ratio is None else str(ratio),
                    f"{result.spread(Visit.rate).median:.0f}",
                ]
            )
        return columns(rows)

    def as_json(self) -> str:
        """All of it, every visit included."""
        servers: dict[str, dict[str, object]] = {}
        for name, result in self.results.items():
            ratio = self._against_floor(result)
            servers[name] = {
                "user_us": asdict(result.spread(Visit.user_us)),
                "system_us": asdict(result.spread(Visit.system_us)),
                "total_us": asdict(result.spread(Visit.total_us)),
                "against_floor": None if ratio is None else asdict(ratio),
                "rate": asdict(result.spread(Visit.rate)),
                "idle_share": result.idle_share,
                "visits": [asdict(visit) for visit in result.visits],
            }
        document = {
            "benchmark": self.benchmark,
            "about": self.about,
            "unit": self.unit,
            **self.facts,
            "server_core": self.cores[0],
            "client_core": self.cores[1],
            "builds": self.builds,
            "servers": servers,
            "rows": self._rows(),
            "skipped": self.skipped,
            "failed": self.failed,
        }
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    def _rows(self) -> list[dict[str, object]]:
        rows = []
        for name, result in self.results.items():
            row = _row(name, "", self.builds[name], "CPU µs", result.spread(Visit.total_us))
            row["user_us"] = result.spread(Visit.user_us).median
            row["system_us"] = result.spread(Visit.system_us).median
            rows.append(row | _ratio_columns(self.floor, self._against_floor(result)))
        return rows


_Visits = list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class Measure:
    """One column: the key under which programs tell their figure, and its title with the unit."""

    key: str
    title: str

    def figures(self, visits: _Visits) -> Spread | None:
        """Over all visits; None where the contender does not have this figure."""
        values = [visit[self.key] for visit in visits if self.key in visit]
        return Spread.of(values) if values else None

    def ratios(self, visits: _Visits, others: _Visits) -> Spread | None:
        """Against another contender or another case, round by round."""
        pairs = zip(visits, others, strict=False)  # one of them may have failed on the way
        values = [own[self.key] / other[self.key] for own, other in pairs if self.key in own and other.get(self.key)]
        return Spread.of(values) if values else None


@dataclass(slots=True)
class Comparison:
    """One run of one benchmark of loops: several cases, and several figures of each contender in each."""

    benchmark: str
    about: str
    core: int
    measures: Sequence[Measure]
    # The contender that the others are divided by.
    reference: str
    # Cases divided by other cases: what growth costs.
    growth: Sequence[tuple[str, str]] = ()
    builds: dict[str, list[str]] = field(default_factory=dict)
    # By case, then by contender, one mapping for each round.
    results: dict[str, dict[str, _Visits]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=environment)

    def text(self) -> str:
        """The tables, with all that is needed to judge them."""
        lines = [f"{self.benchmark}: {self.about}", f"everything on core {self.core}"]
        lines += [f"{key}: {text}" for key, text in self.facts.items()]
        lines += ["", *(f"{name}: {line}" for name, build in self.builds.items() for line in build)]
        for case, contenders in self.results.items():
            lines += self._table(f"{case}, median (least-greatest)", contenders, None)
            if self.reference in contenders:
                reference = contenders[self.reference]
                others = {name: visits for name, visits in contenders.items() if name != self.reference}
                lines += self._table(f"{case}, x {self.reference}", others, dict.fromkeys(others, reference))
        for later, earlier in self.growth:
            before = self.results.get(earlier, {})
            both = {name: visits for name, visits in self.results.get(later, {}).items() if name in before}
            lines += self._table(f"{later} x {earlier}", both, before)
        lines += ["", *(f"skipped {name}: {why}" for name, why in self.skipped.items())]
        lines += [f"FAILED {name}: {why}" for name, why in self.failed.items()]
        return "\n".join(lines).rstrip()

    def _table(self, title: str, contenders: dict[str, _Visits], against: dict[str, _Visits] | None) -> list[str]:
        if not contenders:
            return []
        rows = [["loop", *(measure.title for measure in self.measures)]]
        for name, visits in contenders.items():
            spreads = [
                measure.figures(visits) if against is None else measure.ratios(visits, against[name])
                for measure in self.measures
            ]
            rows.append([name, *("-" if spread is None else str(spread) for spread in spreads)])
        return ["", f"{title}:", "", *columns(rows)]

    def as_json(self) -> str:
        """All of it, every visit included."""
        cases: dict[str, dict[str, dict[str, object]]] = {}
        for case, contenders in self.results.items():
            for name, visits in contenders.items():
                entry: dict[str, object] = {"visits": visits}
                for measure in self.measures:
                    spread = measure.figures(visits)
                    ratio = measure.ratios(visits, contenders.get(self.reference, []))
                    entry[measure.key] = None if spread is None else asdict(spread)
                    entry[f"{measure.key}_against_{self.reference}"] = None if ratio is None else asdict(ratio)
                cases.setdefault(case, {})[name] = entry
        document = {
            "benchmark": self.benchmark,
            "about": self.about,
            **self.facts,
            "core": self.core,
            "measures": {measure.key: measure.title for measure in self.measures},
            "builds": self.builds,
            "cases": cases,
            "rows": self._rows(),
            "skipped": self.skipped,
            "failed": self.failed,
        }
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    def _rows(self) -> list[dict[str, object]]:
        rows = []
        for case, contenders in self.results.items():
            reference = contenders.get(self.reference, [])
            for name, visits in contenders.items():
                for measure in self.measures:
                    row = _row(name, case, self.builds[name], measure.title, measure.figures(visits))
                    rows.append(row | _ratio_columns(self.reference, measure.ratios(visits, reference)))
        return rows
