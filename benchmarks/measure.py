"""How the benchmarks measure: interleaved, in random order, CPU and wall time, medians, and ratios within a round.

A machine is never the same twice, and not even within one run. So everything that is compared runs in every round,
in another order each time, and is divided by what it is compared with in the *same* round. The median of these
ratios is what counts; absolute times of two runs are not comparable.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple


class Timer:
    """Adds up the time that passes inside ``with timer:``, so that preparations between do not count."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0

    def __enter__(self) -> Timer:
        self._cpu, self._wall = time.process_time(), time.perf_counter()  # user + system, of all threads
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.wall += time.perf_counter() - self._wall
        self.cpu += time.process_time() - self._cpu


class Cost(NamedTuple):
    """Seconds for one call."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Case:
    """Something to measure: ``run(timer, calls)`` does it *calls* times inside ``with timer:``."""

    run: Callable[[Timer, int], None]
    calls: int


def repeated(function: Callable[[], object], calls: int) -> Case:
    """Make a case of a function that needs no preparation."""

    def run(timer: Timer, calls: int) -> None:
        with timer:
            for _ in range(calls):
                function()

    return Case(run, calls)


def interleave(title: str, cases: dict[str, Case], rounds: int) -> dict[str, list[Cost]]:
    """Run all *cases* in each of *rounds*, after one that warms up and does not count; return what each round cost."""
    costs: dict[str, list[Cost]] = {name: [] for name in cases}
    order = list(cases)
    for round_ in progress(title, rounds + 1):
        random.shuffle(order)
        for name in order:
            timer, case = Timer(), cases[name]
            case.run(timer, case.calls)
            if round_:
                costs[name].append(Cost(timer.cpu / case.calls, timer.wall / case.calls))
    return costs


def progress(title: str, steps: int) -> Iterator[int]:
    """Count to *steps*, and say so on standard error."""
    for step in range(steps):
        print(f"\r{title}: {step}/{steps} ", end="", file=sys.stderr, flush=True)
        yield step
    print(f"\r{title}: done    ", file=sys.stderr, flush=True)


def ratio(costs: list[Cost], base: list[Cost], of: str) -> float:
    """Return the median over the rounds of one cost divided by another."""
    return median(getattr(a, of) / getattr(b, of) for a, b in zip(costs, base, strict=True))


@dataclass(frozen=True)
class Row:
    """A line of the report; times in seconds."""

    what: str
    cpu: float | None = None
    wall: float | None = None
    value: float | None = None  # a ratio, or something counted
    unit: str = ""
    target: float | None = None

    @property
    def verdict(self) -> str:
        if self.target is None or self.value is None:
            return ""
        return "met" if self.value <= self.target else "MISSED"


class Report:
    """The results, with their targets beside them."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.rows: list[Row] = []

    def add(
        self,
        what: str,
        costs: list[Cost],
        *,
        base: list[Cost] | None = None,
        unit: str = "",
        target: float | None = None,
        of: str = "cpu",
    ) -> None:
        """Add a line about *costs*, as a ratio to *base* (whose name is *unit*), which *target* bounds."""
        cpu, wall = (median(getattr(cost, kind) for cost in costs) for kind in ("cpu", "wall"))
        value = ratio(costs, base, of) if base else None
        self.rows.append(Row(what, cpu, wall, value, unit, target))

    def count(self, what: str, value: float, unit: str, target: float | None = None) -> None:
        """Add something that was counted."""
        self.rows.append(Row(what, value=value, unit=unit, target=target))

    def finish(self, file: str | None) -> None:
        """Print the table; write the same as JSON to *file*."""
        lines = [("", "CPU us", "wall us", "", "", "target", "")]
        for row in self.rows:
            times = ("" if time_ is None else f"{time_ * 1e6:,.1f}" for time_ in (row.cpu, row.wall))
            value, target = ("" if number is None else f"{number:.4g}" for number in (row.value, row.target))
            lines.append((row.what, *times, value, row.unit, f"<= {target}" if target else "", row.verdict))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        print(f"{self.title}\n{machine()}\n")
        for line in lines:
            left = {0, 4, 6}
            cells = (c.ljust(w) if n in left else c.rjust(w) for n, (c, w) in enumerate(zip(line, widths, strict=True)))
            print("  ".join(cells).rstrip())
        if file:
            rows = [{**asdict(row), "verdict": row.verdict} for row in self.rows]
            with open(file, "w", encoding="utf-8") as output:
                json.dump({"title": self.title, "machine": machine(), "rows": rows}, output, indent=2)


@contextmanager
def temporary_folder(parent: str | None) -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="wsgi-oauth-benchmark-", dir=parent) as folder:
        yield Path(folder)


def machine() -> str:
    """Describe where this ran, as far as it matters."""
    return f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores"


def arguments(description: str | None, rounds: int, *, folder: bool = False) -> argparse.ArgumentParser:
    """Return a parser with what all benchmarks understand."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write the results there, too")
    parser.add_argument("--rounds", type=int, default=rounds, help="more of them: less noise")
    if folder:
        parser.add_argument("--folder", help="where to make a temporary folder: the file system matters, and its past")
    return parser
