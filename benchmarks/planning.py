"""Planning: ranking, choosing and freezing for thousands of readers out of a thousand papers.

What is needed once, whoever reads (matching the topics, rendering the cards), is in the figure;
beside it stands what a further reader costs. As many readers take turns with them of whom a fifth
has interests.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count, product
from pathlib import Path
from statistics import median

from benchmarks import processes
from benchmarks.databases import KINDS, absent, databases, drop, settle, work
from benchmarks.measuring import Row, clock, interleave
from benchmarks.population import PAPERS, house, populate
from benchmarks.processes import apart

SHARE = 0.2  # of readers with interests, where there are any
BAR = 200e-6  # seconds of the planner's CPU a subscriber, without those of a database server


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A run's figures: CPU in seconds, memory in bytes."""

    seconds: float
    planner: float
    database: float
    peak: int


@contextmanager
def prepare(folder: Path, url: str) -> Iterator[Callable[[], int]]:
    """Plan all that is due; yields how many digests."""
    with house(folder, url) as services:
        yield lambda: services.plan_due().digests


def run(
    *,
    people: int = 20_000,
    few: int = 2_000,
    rounds: int = 3,
    kinds: Sequence[str] = KINDS,
    papers: int = PAPERS,
) -> list[Row]:
    """For each kind of database, `people` and `few` readers; none or a fifth with interests."""
    with tempfile.TemporaryDirectory() as name, databases(Path(name), kinds) as creates:
        folder, numbers = Path(name), count(1)
        for kind, create in creates.items():
            for size, share in product((few, people), (0.0, SHARE)):
                ready = f"ready_{size}_{100 * share:.0f}"
                url = create(ready, "")
                with house(folder / f"{kind}_{ready}", url) as services:
                    populate(services, people=size, papers=papers, interested=share)
                settle(url)

        def plan(kind: str, size: int, share: float) -> Planned:
            name = f"round_{next(numbers)}"
            url = creates[kind](name, f"ready_{size}_{100 * share:.0f}")
            server = work(url).server
            try:
                with apart(prepare, folder / name, url) as planner:
                    watched = [planner.pid] if server is None else [planner.pid, server]
                    before = [processes.cpu(pid) for pid in watched]
                    planner.start()
                    digests, seconds = planner.wait()
                    used = [processes.cpu(pid) - b for pid, b in zip(watched, before, strict=True)]
                    peak = planner.peak
            finally:
                drop(url)
            if digests != size:
                raise RuntimeError(f"{size} digests were to be planned, not {digests}.")
            return Planned(seconds=seconds, planner=used[0], database=sum(used[1:]), peak=peak)

        ways = {
            f"{kind} {size} {share}": partial(plan, kind, size, share)
            for kind in creates
            for size, share in product((few, people), (0.0, SHARE))
        }
        took = interleave(rounds, ways)
    rows = []
    for kind in kinds:
        if kind not in creates:
            rows.append(absent(kind))
            continue
        plain, mixed = (
            (took[f"{kind} {few} {share}"], took[f"{kind} {people} {share}"])
            for share in (0.0, SHARE)
        )
        rows.append(_row(kind, *plain, few=few, people=people, papers=papers))
        rows.append(_mixed(kind, plain, mixed, few=few, people=people))
    return rows


def _row(
    kind: str,
    small: Sequence[Planned],
    large: Sequence[Planned],
    *,
    few: int,
    people: int,
    papers: int,
) -> Row:
    cpu = median(one.planner for one in large)
    further = _further(small, large, few=few, people=people)
    database = median(one.database for one in large)
    return Row(
        what=f"{people} readers, {papers} papers, {kind}",
        figures={
            "planner's CPU a reader": clock(cpu / people),
            "bar on it": f"<= {BAR * 1e6:g} us",
            "of a further one": clock(further),
            "PostgreSQL's": clock(database / people) if database else "",
            "both": clock((cpu + database) / people),
            "whole": clock(median(one.seconds for one in large)),
            "memory": f"{max(one.peak for one in large) / 1e6:.0f} MB",
        },
        missed=cpu / people > BAR,
    )


def _further(small: Sequence[Planned], large: Sequence[Planned], *, few: int, people: int) -> float:
    """The planner's CPU that one more reader costs."""
    more = median(one.planner for one in large) - median(one.planner for one in small)
    return more / (people - few)


def _mixed(
    kind: str,
    plain: tuple[Sequence[Planned], Sequence[Planned]],
    mixed: tuple[Sequence[Planned], Sequence[Planned]],
    *,
    few: int,
    people: int,
) -> Row:
    cpu, without = (median(one.planner for one in large) for _, large in (mixed, plain))
    each, none = (_further(*both, few=few, people=people) for both in (mixed, plain))
    one = none + (each - none) / SHARE
    return Row(
        what=f"as many, {SHARE:.0%} with interests, {kind}",
        figures={
            "planner's CPU a reader": clock(cpu / people),
            "of a further one": clock(each),
            "whole": clock(median(one.seconds for one in mixed[1])),
            "memory": f"{max(one.peak for one in mixed[1]) / 1e6:.0f} MB",
        },
        note=f"{cpu / without:.2f} x without; further: {each / none:.2f} x,"
        f" with interests {clock(max(one, 0.0))}, {one / none:.1f} x"
        if none > 0
        else "",
    )
