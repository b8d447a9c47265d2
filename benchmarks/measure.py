"""Measure CPU and wall time of several cases, and report their ratios.

The speed of a machine varies, even within one run. Therefore each round runs all cases, in random order, and divides
the time of a case by the time of its baseline in the *same* round. The result is the median of these ratios. Absolute
times of two runs cannot be compared.
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
    """Adds up the time that passes inside ``with timer:``. Preparations between these blocks do not count."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0

    def __enter__(self) -> Timer:
        self._cpu, self._wall = time.process_time(), time.perf_counter()  # user + system, of all threads
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.wall += time.perf_counter() - self._wall
        self.cpu += time.process_time() - self._cpu


class Cost(NamedTuple):
    """The time of one call, in seconds."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Case:
    """An operation to measure: ``run(timer, calls)`` performs it *calls* times inside ``with timer:``."""

    run: Callable[[Timer, int], None]
    calls: int


def repeated(function: Callable[[], object], calls: int) -> Case:
    """Return a case that calls a function without preparation."""

    def run(timer: Timer, calls: int) -> None:
        with timer:
            for _ in range(calls):
                function()

    return Case(run, calls)


def interleave(title: str, cases: dict[str, Case], rounds: int) -> dict[str, list[Cost]]:
    """Run all *cases* in each round, after one round of warm-up. Return the cost of each case in each round."""
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
    """Yield the numbers below *steps*, and show the progress on standard error."""
    for step in range(steps):
        print(f"\r{title}: {step}/{steps} ", end="", file=sys.stderr, flush=True)
        yield step
    print(f"\r{title}: done    ", file=sys.stderr, flush=True)


def ratio(costs: list[Cost], base: list[Cost], of: str) -> float:
    """Return the median over all rounds of *costs* divided by *base*. *of*: ``cpu`` or ``wall``."""
    return median(getattr(a, of) / getattr(b, of) for a, b in zip(costs, base, strict=True))


@dataclass(frozen=True)
class Row:
    """A line of the report. Times are in seconds."""

    what: str
    cpu: float | None = None
    wall: float | None = None
    value: float | None = None  # a ratio or a number
    unit: str = ""
    target: float | None = None

    @property
    def verdict(self) -> str:
        if self.target is None or self.value is None:
            return ""
        return "met" if self.value <= self.target else "MISSED"


class Report:
    """A table of results and targets."""

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
        """Add the median of *costs* and its ratio to *base*, which must be at most *target*. *unit* names the base."""
        cpu, wall = (median(getattr(cost, kind) for cost in costs) for kind in ("cpu", "wall"))
        value = ratio(costs, base, of) if base else None
        self.rows.append(Row(what, cpu, wall, value, unit, target))

    def count(self, what: str, value: float, unit: str, target: float | None = None) -> None:
        """Add a number, which must be at most *target*."""
        self.rows.append(Row(what, value=value, unit=unit, target=target))

    def finish(self, file: str | None) -> None:
        """Print the table. Write it to *file* as JSON, too, if *file* is given."""
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
    """Create a temporary folder that is removed at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="wsgi-oauth-benchmark-", dir=parent) as folder:
        yield Path(folder)


@contextmanager
def one_processor() -> Iterator[None]:
    """Run this process, and those that it starts in the block, on one processor.

    Otherwise the CPU time of a request to another process depends on the scheduler: waking a process on another
    processor costs more.
    """
    with _processors({0}):
        yield


@contextmanager
def every_processor() -> Iterator[None]:
    """Run this process on every processor in a block of :func:`one_processor`."""
    with _processors(set(range(os.cpu_count() or 1))):
        yield


@contextmanager
def _processors(allowed: set[int]) -> Iterator[None]:
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, allowed)
    try:
        yield
    finally:
        os.sched_setaffinity(0, usual)


def machine() -> str:
    """Return a description of the Python version and the machine."""
    return f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores"


def arguments(description: str | None, rounds: int, *, folder: bool = False) -> argparse.ArgumentParser:
    """Return a parser for the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write the results to this file as JSON")
    parser.add_argument("--rounds", type=int, default=rounds, help="number of rounds; more rounds reduce noise")
    if folder:
        parser.add_argument("--folder", help="where to create a temporary folder; the file system affects the results")
    return parser
