"""From due to recorded: planning and delivering at once, on PostgreSQL, for up to a million.

One process plans while others deliver; the mail server and the database are on the same machine.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, exists, func, select

from benchmarks import planning
from benchmarks.databases import absent, databases, drop, settle
from benchmarks.measuring import Row, clock
from benchmarks.population import PAPERS, house, populate
from benchmarks.processes import apart
from benchmarks.sinks import Sink, fast_sink
from digest import schema
from digest.models import State
from digest.storage.database import open_database, reading

SIZES = (10_000, 100_000, 1_000_000)
LONGEST = 600.0  # seconds for a million
STEEPER = 1.3  # times what ten times as many may take beyond ten times as long
MEMORY = 400e6  # bytes
GROWTH = 1.3  # of the memory, from the smallest size to the largest
DISK = 16e9  # bytes for a million: digests, indexes, the write-ahead log
SLICE = 30.0  # seconds of delivering between two looks whether all is done
_PAUSE = 0.2
_ENDS = (State.SENT, State.FAILED, State.SKIPPED, State.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of a run: seconds, and bytes of the largest process of ours."""

    seconds: float
    planned: float  # seconds until planning ended
    peak: int


@contextmanager
def prepare(folder: Path, url: str, port: int) -> Iterator[Callable[[], None]]:
    """Deliver until everybody was planned for and everything has its end."""
    with house(folder, url, port=port) as services, services.relays() as relays:
        postman = services.postman(relays)

        def deliver() -> None:
            while _is_open(services.engine):
                if not postman.deliver(SLICE).states:
                    time.sleep(_PAUSE)

        yield deliver


def _is_open(engine: Engine) -> bool:
    people, deliveries = schema.subscriber, schema.delivery
    due = select(exists().where(people.c.next_due_at <= func.now()))
    waiting = select(exists().where(deliveries.c.state.not_in(_ENDS)))
    with reading(engine) as connection:
        return any(connection.execute(question).scalar_one() for question in (due, waiting))


def run(*, sizes: Sequence[int] = SIZES, processes: int = 2, papers: int = PAPERS) -> list[Row]:
    """Each size with a database of its own; `processes` deliver."""
    with (
        tempfile.TemporaryDirectory() as name,
        databases(Path(name), ["PostgreSQL"]) as creates,
        fast_sink(Path(name)) as sink,
    ):
        if "PostgreSQL" not in creates:
            return [absent("PostgreSQL")]
        needed = DISK * max(sizes) / 1_000_000
        if shutil.disk_usage(name).free < needed:
            note = f"lacks room: it takes {needed / 1e9:.0f} GB of disk"
            return [Row(what=name, skipped=True, note=note)]
        found = {}
        for size in sizes:
            url = creates["PostgreSQL"](f"of_{size}", "")
            found[size] = _one(
                Path(name) / str(size),
                url,
                sink,
                people=size,
                processes=processes,
                papers=papers,
            )
            drop(url)
    smallest = found[min(sizes)]
    rows = [Row(what="the mail server", note=f"is {sink.name}")]
    rows += [
        _row(size, figures, found.get(size // 10), smallest) for size, figures in found.items()
    ]
    return rows


def _one(
    folder: Path, url: str, sink: Sink, *, people: int, processes: int, papers: int
) -> Figures:
    with house(folder, url) as services:
        populate(services, people=people, papers=papers)
    settle(url)
    with ExitStack() as stack:
        planner = stack.enter_context(apart(planning.prepare, folder, url))
        senders = [
            stack.enter_context(apart(prepare, folder, url, sink.port)) for _ in range(processes)
        ]
        started = time.perf_counter()
        for process in (planner, *senders):
            process.start()
        _, planned = planner.wait()
        for sender in senders:
            sender.wait()
        seconds = time.perf_counter() - started
        peak = max(process.peak for process in (planner, *senders))
    _check(url, people)
    return Figures(seconds=seconds, planned=planned, peak=peak)


def _check(url: str, people: int) -> None:
    engine, table = open_database(url), schema.delivery
    with reading(engine) as connection:
        question = select(table.c.state, func.count()).group_by(table.c.state)
        states: dict[str, int] = dict(connection.execute(question).all())
    engine.dispose()
    if states != {State.SENT: people}:
        raise RuntimeError(f"{people} were to be sent: {states}")


def _row(size: int, figures: Figures, tenth: Figures | None, smallest: Figures) -> Row:
    steeper = figures.seconds / tenth.seconds / 10 if tenth else 0
    growth = figures.peak / smallest.peak if smallest.peak else 1.0
    whole = size == max(SIZES)
    return Row(
        what=f"{size} readers",
        figures={
            "due to recorded": clock(figures.seconds),
            "bar": f"<= {LONGEST:g} s" if whole else "",
            "planned after": clock(figures.planned),
            "mails/s": f"{size / figures.seconds:.0f}",
            "x ten times": f"{steeper:.2f}" if tenth else "",
            "memory": f"{figures.peak / 1e6:.0f} MB",
            "x smallest": f"{growth:.2f}",
        },
        missed=whole
        and (
            figures.seconds > LONGEST
            or steeper > STEEPER
            or figures.peak > MEMORY
            or growth > GROWTH
        ),
        note=f"bars: {STEEPER:g} x ten times, {MEMORY / 1e6:g} MB, {GROWTH:g} x smallest"
        if whole
        else "",
    )
