"""Votes over time as a line: numbers become the points of an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

WIDTH, HEIGHT = 320, 64  # of the drawing; units of its own
EDGE = 4  # for the width of the line and its last point
MOST = 120  # points: more than that nobody sees


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A line from the first reading to the last, and where it ends."""

    points: str  # of a polyline: "x,y x,y"
    x: float
    y: float
    first: tuple[datetime, int]
    last: tuple[datetime, int]


def line(readings: Sequence[tuple[datetime, int]]) -> Chart | None:
    """The chart of readings in order of time; None where one line cannot be drawn of them."""
    if len(readings) < 2 or readings[0][0] == readings[-1][0]:
        return None
    step = -(-len(readings) // MOST)
    shown = [*readings[:-1:step], readings[-1]]
    began, span = shown[0][0], (shown[-1][0] - shown[0][0]).total_seconds()
    top = max(value for _, value in shown) or 1  # from zero up: a rise looks as large as it is
    points = [
        (
            EDGE + (WIDTH - 2 * EDGE) * ((at - began).total_seconds() / span),
            HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * (value / top),
        )
        for at, value in shown
    ]
    return Chart(
        points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points),
        x=round(points[-1][0], 1),
        y=round(points[-1][1], 1),
        first=shown[0],
        last=shown[-1],
    )
