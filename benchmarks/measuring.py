"""Measure: rounds in which the ways take turns, and the table that shows what they took."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """What one piece of work took; seconds."""

    seconds: float
    cpu: float  # of this process and of those that it waited for

    def __add__(self, other: Took) -> Took:
        return Took(seconds=self.seconds + other.seconds, cpu=self.cpu + other.cpu)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of a table: what was measured, and its figures by column as they are printed."""

    what: str
    figures: Mapping[str, str] = field(default_factory=dict)
    missed: bool = False  # a figure is beyond its bar
    judged: bool = True  # False: nobody can say whether a bar was kept
    skipped: bool = False  # nothing was measured
    required: bool = False  # CHECK=1 does without none of these
    note: str = ""  # after the figures, or instead of them


def measure(work: Callable[[], object]) -> Took:
    """Do it once."""
    cpu, started = _cpu(), time.perf_counter()
    work()
    return Took(seconds=time.perf_counter() - started, cpu=_cpu() - cpu)


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def interleave(rounds: int, ways: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """Each way's results; they take turns, so that a slow moment of the machine meets all."""
    found: dict[str, list[T]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
    return found


def timed(
    what: str,
    took: Sequence[Took],
    *,
    baseline: Sequence[Took] = (),
    bar: float | None = None,
    more: Mapping[str, str] | None = None,
) -> Row:
    """A row of times; `bar` is the longest that the median may take, in seconds."""
    seconds = [one.seconds for one in took]
    middle = median(seconds)
    figures = {
        "median": clock(middle),
        "min-max": f"{clock(min(seconds))}-{clock(max(seconds))}",
        "bar": f"<= {bar:g} s" if bar else "",
        "x baseline": f"{middle / median(one.seconds for one in baseline):.2f}" if baseline else "",
        "CPU": clock(median(one.cpu for one in took)),
    }
    return Row(
        what=what,
        figures={**figures, **(more or {})},
        missed=bar is not None and middle > bar,
    )


def clock(seconds: float) -> str:
    """A time in three digits: `3.21 s`, `48.2 ms`, `190 us`."""
    value, unit = seconds, "s"
    for smaller in ("ms", "us"):
        if value < 1:
            value, unit = value * 1000, smaller
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"


def machine() -> str:
    """What the figures depend on: one line. A load of others counts against us."""
    name = f"{platform.python_implementation()} {platform.python_version()}"
    where = f"{platform.system()} {platform.machine()}"
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {name}, {where}"


def show(title: str, rows: Iterable[Row]) -> None:
    """Print the table."""
    rows = list(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row.figures))
    columns = [name for name in columns if any(row.figures.get(name) for row in rows)]
    lines = [[title, *columns]]
    lines += [[row.what, *(row.figures.get(name, "") for name in columns)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line, end in zip(lines, ["", *map(_end, rows)], strict=True):
        cells = [line[0].ljust(widths[0])]
        if any(line[1:]):
            cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("  ".join([*cells, end]).rstrip())
    print()


def _end(row: Row) -> str:
    marks = {"MISSED": row.missed, "NOT JUDGED": not row.judged, "SKIPPED": row.skipped}
    return " ".join([*(mark for mark, holds in marks.items() if holds), row.note])
