"""One way's rate against another's, and whether it says anything.

A mail server that has no time left makes the way that it serves look slower than it is. So a ratio
that is too low is a miss unless our own server was saturated; one that is high enough is kept
unless the other's was. Else the figure is printed and judged by nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from benchmarks.measuring import Row
from benchmarks.sending.trial import Trial

SATURATED = 0.9  # of a core, used by the mail server


def rate(trials: Sequence[Trial]) -> float:
    """Mails a second, in the middle round."""
    return median(one.rate for one in trials)


def busy(trials: Sequence[Trial]) -> float:
    """The mail server's share of a core, in the middle round."""
    return median(one.busy for one in trials)


def compare(
    what: str, ours: Sequence[Trial], others: Sequence[Trial], *, bar: float, floor: float
) -> Row:
    """A row with the ratio; `floor`, at most the `bar`, is where a miss begins."""
    found = rate(ours) / rate(others)
    low = found < floor
    judged = busy(ours if low else others) <= SATURATED
    notes = [f"{found:.3g}, bar >= {bar:g}"]
    if floor < bar:
        notes.append(f"missed below {floor:g}")
    notes.append(f"mail server {busy(ours):.0%} and {busy(others):.0%} busy")
    if not judged:
        notes.append("it was the bottleneck of " + ("ours" if low else "the other"))
    return Row(what=what, missed=low and judged, judged=judged, note=", ".join(notes))
