"""Collect: one recorded day, Hugging Face and four arXiv categories, read, deduped and stored.

The rests between two requests to arXiv are left out, as the replay asks for none. The baseline
reads and parses the same answers and stores nothing.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from sqlalchemy import func, select

from benchmarks.databases import KINDS, absent, databases
from benchmarks.measuring import Row, Took, interleave, measure, timed
from benchmarks.surroundings import NOW, house, replay
from digest import schema
from digest.services import Services
from digest.sources.http import Client
from digest.storage.database import reading

BAR = 5.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One way's figures in one round."""

    first: Took
    again: Took | None = None
    records: int = 0
    papers: int = 0


def run(*, rounds: int = 5, kinds: Sequence[str] = KINDS) -> list[Row]:
    """The day into each kind of database, and once more, as later in the day."""
    with (
        tempfile.TemporaryDirectory() as name,
        databases(Path(name), kinds) as creates,
        replay() as url,
        house(Path(name), f"sqlite:///{name}/idle.db", url) as idle,
    ):
        folder, numbers = Path(name), count(1)
        for create in creates.values():
            create("empty", "")

        def fetch() -> Read:
            return Read(first=measure(lambda: asyncio.run(_fetch(idle))))

        def store(kind: str) -> Read:
            with house(folder, creates[kind](f"day_{next(numbers)}", "empty"), url) as services:
                return _store(services)

        ways = {"": fetch} | {kind: partial(store, kind) for kind in creates}
        took = interleave(rounds, ways)
    baseline = [one.first for one in took[""]]
    what = "the recorded day" if url else "the invented sample"
    rows = [timed(f"{what}, not stored", baseline)]
    for kind in kinds:
        if kind not in took:
            rows.append(absent(kind))
            continue
        mine = took[kind]
        counts = {"records": str(mine[0].records), "papers": str(mine[0].papers)}
        first = [one.first for one in mine]
        again = [one.again for one in mine if one.again]
        bar = BAR if url else None
        rows += [
            timed(f"{what}, {kind}", first, baseline=baseline, bar=bar, more=counts),
            timed(f"read again, {kind}", again, baseline=baseline),
        ]
    return rows


async def _fetch(services: Services) -> None:
    async with Client(base_url=services.settings.base_url, contact="", intervals={}) as client:
        await asyncio.gather(
            *(source.fetch(client, now=NOW, state={}) for source in services.sources)
        )


def _store(services: Services) -> Read:
    def collect() -> None:
        for read in services.collect():
            if not read.health.good:
                raise RuntimeError(f"{read.source} was not read well: {read.reason}")

    first, again = measure(collect), measure(collect)
    with reading(services.engine) as connection:
        records, papers = (
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (schema.record, schema.paper)
        )
    return Read(first=first, again=again, records=records, papers=papers)
