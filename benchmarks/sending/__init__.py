"""Send: this engine, ledger and all, between the usual way and the limit, into one mail server.

They take turns. Every mail has about 57 kB and, but for the limit's, its own content. What stands
in the ledger was planned before; claiming, reading, assembling, the last check, attempts and
results are measured. A ratio counts only where the mail server was not what all waited for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

from benchmarks.databases import ABSENT, KINDS, databases, drop, settle
from benchmarks.measuring import Row, clock, interleave
from benchmarks.population import PAPERS, house, populate
from benchmarks.sending import engine, usual, wire
from benchmarks.sending.checking import Recorded, record
from benchmarks.sending.trial import Trial, attempt
from benchmarks.sinks import Sink, fast_sink

USUAL = "the usual way"
BARE = "the limit, bare asyncio"
POSTFIX = "the limit, smtp-source -s "
TO_USUAL = 100.0  # times as fast as the usual way, at least
TO_LIMIT = 0.5  # of the limit, at least
FLOOR = 0.35  # of the limit: below it CHECK=1 fails
SATURATED = 0.9  # of a core, used by the mail server


def run(
    *,
    people: int = 30_000,
    recorded: int = 1_000,
    letters: int = 60,
    rounds: int = 5,
    kinds: Sequence[str] = KINDS,
    papers: int = PAPERS,
) -> list[Row]:
    """`people` get a mail from the engine in each round, `letters` of them in the usual way."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        creates = stack.enter_context(databases(folder, kinds))
        sink = stack.enter_context(fast_sink(folder))
        checks = {}
        for kind, create in creates.items():
            with house(folder / f"little_{kind}", url := create("little", "")) as services:
                populate(services, people=recorded, papers=papers)
                services.plan_due()
                shown = usual.letters(services, count=letters)
            checks[kind] = record(folder / f"recorded_{kind}", url)
            with house(folder / f"planned_{kind}", url := create("planned", "")) as services:
                populate(services, people=people, papers=papers)
                services.plan_due()
            settle(url)
        numbers = count(1)

        def deliver(kind: str) -> Trial:
            name = f"round_{next(numbers)}"
            url = creates[kind](name, "planned")
            try:
                return attempt(sink, engine.prepare, folder / name, url, sink.port, url=url)
            finally:
                drop(url)

        ways = {
            USUAL: partial(attempt, sink, usual.prepare, sink.port, shown),
            **{kind: partial(deliver, kind) for kind in creates},
            **_limits(sink, people, next(iter(checks.values()))),
        }
        took = interleave(rounds, ways)
    rows = [Row(what="the mail server", note=f"is {sink.name}")]
    rows += [_checked(kind, check) for kind, check in checks.items()]
    rows += [_row(name, trials) for name, trials in took.items()]
    rows += [Row(what=kind, note=ABSENT) for kind in kinds if kind not in creates]
    for kind in creates:
        rows += ratios(kind, took)
    return rows


def _limits(sink: Sink, mails: int, like: Recorded) -> Mapping[str, partial[Trial]]:
    """The ways that know only one mail, as large as one of ours."""
    found = {BARE: partial(attempt, sink, wire.prepare, sink.port, mails, like.content)}
    program = wire.smtp_source()
    if program is not None:
        for sessions in wire.SESSIONS:
            found[f"{POSTFIX}{sessions}"] = partial(
                wire.by_postfix, program, sink, sessions=sessions, mails=mails, size=like.size
            )
    return found


def _checked(kind: str, check: Recorded) -> Row:
    right = f"{check.choices} different choices of papers, {check.size / 1000:.1f} kB on average"
    return Row(
        what=f"{kind}, {check.mails} mails recorded",
        missed=bool(check.wrong),
        note=f"{len(check.wrong)} wrong: {check.wrong[0]}"
        if check.wrong
        else f"each recipient got their own digest, once; {right}",
    )


def _row(what: str, trials: Sequence[Trial]) -> Row:
    rates = [one.rate for one in trials]

    def apiece(name: str) -> float:
        return float(median(getattr(one, name) / one.mails for one in trials))

    def shown(name: str) -> str:
        return clock(apiece(name)) if apiece(name) else ""

    written = apiece("written")
    return Row(
        what=what,
        figures={
            "mails/s": f"{median(rates):.0f}",
            "min-max": f"{min(rates):.0f}-{max(rates):.0f}",
            "CPU a mail": shown("sender"),
            "database's": shown("database"),
            "sink's": shown("sink"),
            "sink busy": f"{median(one.busy for one in trials):.0%}",
            "memory": f"{max(one.peak for one in trials) / 1e6:.0f} MB" if trials[0].peak else "",
            "rows a mail": f"{apiece('rows'):.1f}" if apiece("rows") else "",
            "written a mail": f"{written:.0f} B" if written else "",
        },
    )


def ratios(kind: str, took: Mapping[str, Sequence[Trial]]) -> list[Row]:
    """The engine against the usual way and against the fastest that Postfix's tool was."""
    rates = {name: median(one.rate for one in trials) for name, trials in took.items()}
    limits = [name for name in rates if name.startswith(POSTFIX)] or [BARE]
    limit = max(limits, key=rates.__getitem__)
    rows = []
    for other, bar, floor in ((USUAL, TO_USUAL, TO_USUAL), (limit, TO_LIMIT, FLOOR)):
        ratio = rates[kind] / rates[other]
        busy = max(median(one.busy for one in took[name]) for name in (kind, other))
        notes = [f"{ratio:.3g}, bar >= {bar:g}"]
        if floor < bar:
            notes.append(f"missed below {floor:g}")
        if busy > SATURATED:
            notes.append("not judged, for the mail server was the bottleneck")
        rows.append(
            Row(
                what=f"{kind} : {other}",
                missed=ratio < floor and busy <= SATURATED,
                note=", ".join(notes),
            )
        )
    return rows
