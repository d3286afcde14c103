"""Far away: the engine's rate through a mail server that holds its answers back by 20 ms."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.databases import KINDS, absent, databases, drop, settle
from benchmarks.measuring import Row, interleave
from benchmarks.population import PAPERS, house, populate
from benchmarks.sending import engine
from benchmarks.sending.ratio import busy, compare, rate
from benchmarks.sending.trial import Trial, attempt
from benchmarks.sinks import plain_sink

DELAY = 20.0  # milliseconds
CONNECTIONS = (8, 32, 128, 512)
BAR = 0.8  # of the rate without delay


def run(
    *,
    people: int = 20_000,
    seconds: float = 2,
    rounds: int = 3,
    connections: Sequence[int] = CONNECTIONS,
    kinds: Sequence[str] = KINDS,
    papers: int = PAPERS,
) -> list[Row]:
    """For each kind of database the rate by connections, near and far, and the best two's ratio."""
    with (
        tempfile.TemporaryDirectory() as name,
        databases(Path(name), kinds) as creates,
        plain_sink() as near,
        plain_sink(delay=DELAY) as far,
    ):
        folder, numbers = Path(name), count(1)
        for kind, create in creates.items():
            with house(folder / f"planned_{kind}", url := create("planned", "")) as services:
                populate(services, people=people, papers=papers)
                services.plan_due()
            settle(url)

        def deliver(kind: str, delay: float, lines: int) -> Trial:
            sink = far if delay else near
            number = next(numbers)
            url = creates[kind](f"round_{number}", "planned")
            place = folder / f"round_{number}"
            try:
                prepare = partial(engine.prepare, connections=lines, seconds=seconds)
                return attempt(sink, prepare, place, url, sink.port, people, url=url)
            finally:
                drop(url)

        ways = {
            f"{kind} {delay} {lines}": partial(deliver, kind, delay, lines)
            for kind in creates
            for lines in connections
            for delay in (0, DELAY)
        }
        took = interleave(rounds, ways)
    rows = []
    for kind in kinds:
        if kind not in creates:
            rows.append(absent(kind))
            continue
        best = {}
        for delay in (0, DELAY):
            trials = {lines: took[f"{kind} {delay} {lines}"] for lines in connections}
            rates = {lines: rate(some) for lines, some in trials.items()}
            best[delay] = trials[max(rates, key=rates.__getitem__)]
            rows.append(
                Row(
                    what=f"{kind}, answers after {delay:g} ms, mails/s",
                    figures={
                        **{f"{lines} lines": f"{rates[lines]:.0f}" for lines in connections},
                        "sink busy": f"{busy(best[delay]):.0%}",
                    },
                )
            )
        what = f"{kind}, {DELAY:g} ms : 0 ms"
        rows.append(compare(what, best[DELAY], best[0], bar=BAR, floor=BAR))
    return rows
