"""Send: this engine, ledger and all, between the usual way and the limit, into one mail server.

They take turns. Every mail has about 57 kB and, but for the limit's, its own content. What stands
in the ledger was planned before; claiming, reading, assembling, the last check, attempts and
results are measured. A ratio counts only where the mail server does not blur it (see `ratio`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

from benchmarks.databases import KINDS, absent, databases, drop, settle
from benchmarks.measuring import Row, clock, interleave
from benchmarks.population import PAPERS, house, populate
from benchmarks.sending import engine, usual, wire
from benchmarks.sending.checking import Recorded, content_of, mails, mean, record
from benchmarks.sending.ratio import SATURATED, busy, compare, rate
from benchmarks.sending.trial import Trial, attempt
from benchmarks.sinks import Sink, fast_sink, plain_sink
from digest.models import Site

USUAL = "the usual way"
BARE = "the limit, bare asyncio"
POSTFIX = "the limit, smtp-source -s "
TO_USUAL = 100.0  # times as fast as the usual way, at least
TO_LIMIT = 0.5  # of the limit, at least
FLOOR = 0.35  # of the limit: below it CHECK=1 fails
ALIKE = 0.05  # of the size, by which the mails of the usual way may differ from the engine's


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
    program = wire.smtp_source()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        creates = stack.enter_context(databases(folder, kinds))
        sink = stack.enter_context(fast_sink(folder))
        if not creates:
            return [absent(kind) for kind in kinds]
        checks = {}
        for kind, create in creates.items():
            with house(folder / f"little_{kind}", url := create("little", "")) as services:
                populate(services, people=recorded, papers=papers)
                services.plan_due()
                shown, site = usual.letters(services, count=letters), services.site
            checks[kind] = record(folder / f"recorded_{kind}", url, people=recorded)
            with house(folder / f"planned_{kind}", url := create("planned", "")) as services:
                populate(services, people=people, papers=papers)
                services.plan_due()
            settle(url)
        weighed = _weigh(folder / "weighed", site, shown)
        check = next(iter(checks.values()))
        numbers = count(1)

        def deliver(kind: str) -> Trial:
            name = f"round_{next(numbers)}"
            url = creates[kind](name, "planned")
            try:
                return attempt(sink, engine.prepare, folder / name, url, sink.port, people, url=url)
            finally:
                drop(url)

        ways = {
            USUAL: partial(attempt, sink, usual.prepare, sink.port, site, shown),
            **{kind: partial(deliver, kind) for kind in creates},
            **_limits(sink, people, check, program=program),
        }
        took = interleave(rounds, ways)
    rows = [Row(what="the mail server", note=f"is {sink.name}")]
    rows += [_checked(kind, check) for kind, check in checks.items()]
    rows.append(_alike(weighed, check))
    sizes = {
        USUAL: mean(weighed.values()),
        **{kind: one.size for kind, one in checks.items()},
        BARE: len(check.content),
    }
    rows += [_row(name, trials, size=sizes.get(name, check.size)) for name, trials in took.items()]
    if program is None:
        rows.append(Row(what=f"{POSTFIX}N", note=f"smtp-source is not here: the limit is {BARE}"))
    rows += [absent(kind) for kind in kinds if kind not in creates]
    for kind in creates:
        rows += ratios(kind, took)
    return rows


def _weigh(folder: Path, site: Site, letters: Sequence[usual.Letter]) -> dict[str, int]:
    """Bytes of what the usual way makes of the letters, by recipient."""
    folder.mkdir()
    with plain_sink(folder=folder) as sink:
        attempt(sink, usual.prepare, sink.port, site, letters)
    return {recipient: len(content_of(path)) for recipient, path in mails(folder)}


def _limits(
    sink: Sink, mails: int, like: Recorded, *, program: Path | None
) -> Mapping[str, partial[Trial]]:
    """The ways that know only one mail, as large as one of ours."""
    found = {BARE: partial(attempt, sink, wire.prepare, sink.port, mails, like.content)}
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


def _alike(weighed: Mapping[str, int], check: Recorded) -> Row:
    """Does the usual way send the same recipients as much as the engine does?"""
    share = sum(weighed.values()) / sum(check.sizes[recipient] for recipient in weighed)
    return Row(
        what=f"{USUAL}'s mails",
        missed=abs(share - 1) > ALIKE,
        note=f"have {share:.1%} of the size of ours to the same, bar {ALIKE:.0%} off",
    )


def _row(what: str, trials: Sequence[Trial], *, size: int) -> Row:
    rates = [one.rate for one in trials]

    def apiece(name: str) -> float:
        return float(median(getattr(one, name) / one.mails for one in trials))

    def shown(name: str) -> str:
        return clock(apiece(name)) if apiece(name) else ""

    written = apiece("written")
    return Row(
        what=what,
        figures={
            "mails/s": f"{rate(trials):.0f}",
            "min-max": f"{min(rates):.0f}-{max(rates):.0f}",
            "CPU a mail": shown("sender"),
            "database's": shown("database"),
            "sink's": shown("sink"),
            "sink busy": f"{busy(trials):.0%}",
            "kB a mail": f"{size / 1000:.1f}",
            "memory": f"{max(one.peak for one in trials) / 1e6:.0f} MB" if trials[0].peak else "",
            "rows a mail": f"{apiece('rows'):.1f}" if apiece("rows") else "",
            "written a mail": f"{written:.0f} B" if written else "",
        },
    )


def ratios(kind: str, took: Mapping[str, Sequence[Trial]]) -> list[Row]:
    """The engine against the usual way and against the fastest that Postfix's tool was.

    Where that one's mail server was saturated, the fastest whose was not stands beside it.
    """
    limits = [name for name in took if name.startswith(POSTFIX)] or [BARE]
    limits.sort(key=lambda name: rate(took[name]))
    limit = limits[-1]
    rows = [
        compare(f"{kind} : {USUAL}", took[kind], took[USUAL], bar=TO_USUAL, floor=TO_USUAL),
        compare(f"{kind} : {limit}", took[kind], took[limit], bar=TO_LIMIT, floor=FLOOR),
    ]
    calm = [name for name in limits if busy(took[name]) <= SATURATED]
    if calm and calm[-1] != limit:
        found = rate(took[kind]) / rate(took[calm[-1]])
        note = f"{found:.3g}, without a bar, mail server {busy(took[calm[-1]]):.0%} busy"
        rows.append(Row(what=f"{kind} : {calm[-1]}", note=note))
    return rows
