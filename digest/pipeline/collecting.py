"""Collect: read every source at once, store what each said, and how it went."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from digest.models import Fetch, Health
from digest.sources import Source
from digest.sources.bodies import excerpt
from digest.sources.http import Client
from digest.storage import gaps, papers, runs, sources
from digest.storage.database import exclusive, reading, writing
from digest.storage.sources import Read

log = logging.getLogger(__name__)

_COUNTED = ("fetched", "new", "changed", "unchanged")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What bounds a read.

    What a source listed more than `lookback` before its first good read is stored but makes no
    candidate; later the same goes for `longest`. `budget` is the seconds for one source in all.
    """

    lookback: timedelta
    longest: timedelta
    budget: float


def collect(
    engine: Engine,
    read: Sequence[Source],
    *,
    client: Callable[[], Client],
    limits: Limits,
    locks: Path,
    clock: Callable[[], datetime],
    stopping: threading.Event,
) -> list[Read]:
    """Read all sources side by side and store what they said; how each read went.

    One source failing never stops another. When `stopping` is set, reading ends at once and what
    was not stored by then is left for the next time. Raises Busy while another process collects.
    """
    started_at, started = clock(), time.monotonic()
    with exclusive(engine, "collect", locks):
        reads = asyncio.run(
            _collect(engine, read, client, limits=limits, clock=clock, stopping=stopping)
        )
    with writing(engine) as connection:
        runs.remember(
            connection,
            "collect",
            started_at=started_at,
            seconds=time.monotonic() - started,
            counts={name: sum(getattr(one, name) for one in reads) for name in _COUNTED},
        )
    return reads


async def _collect(
    engine: Engine,
    read: Sequence[Source],
    client: Callable[[], Client],
    *,
    limits: Limits,
    clock: Callable[[], datetime],
    stopping: threading.Event,
) -> list[Read]:
    async with client() as shared:
        tasks = [
            asyncio.create_task(_collect_one(engine, source, shared, limits=limits, clock=clock))
            for source in read
        ]
        pending = set(tasks)
        while pending and not stopping.is_set():
            _, pending = await asyncio.wait(pending, timeout=0.2)
        for task in pending:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [task.result() for task in tasks if not task.cancelled()]


async def _collect_one(
    engine: Engine,
    source: Source,
    client: Client,
    *,
    limits: Limits,
    clock: Callable[[], datetime],
) -> Read:
    started_at, started = clock(), time.monotonic()
    with reading(engine) as connection:
        memory = sources.memory(connection, source.name)
        lost = gaps.load(connection)
    # A source is seeded by its first good read.
    age = limits.lookback if memory.seeded_at is None else limits.longest

    def keep(fetch: Fetch) -> Read:
        with writing(engine) as connection:
            # Stamped inside the transaction: nothing may carry a time before a digest that could
            # not see it.
            now = clock()
            # What a source lists at its first good read after a restore may have been sent before
            # it: it counts as seen in the gap.
            unread = [gap.end for gap in lost if (memory.good_at or gap.end) <= gap.end]
            seen_at = max((end for end in unread if end > now - limits.longest), default=now)
            stored = papers.store(connection, fetch, now=seen_at, oldest=now - age)
            seconds = time.monotonic() - started
            return sources.remember(
                connection, fetch, stored, started_at=started_at, seconds=seconds
            )

    try:
        outcome = keep(
            await _fetch(source, client, now=started_at, state=memory.state, budget=limits.budget)
        )
    except Exception as error:
        log.exception("The source %s broke.", source.name, extra={"action": "collect"})
        words = excerpt(str(error).encode("utf-8", "replace"))
        reason = f"An error of ours, please report it: {type(error).__name__}: {words}"
        outcome = keep(Fetch(source=source.name, health=Health.FAILED, reason=reason))
    log.log(
        logging.INFO if outcome.health.good else logging.WARNING,
        "%s: %s, %d new, %d changed, %d unchanged. %s",
        source.name,
        outcome.health,
        outcome.new,
        outcome.changed,
        outcome.unchanged,
        outcome.reason,
        extra={"action": "collect", "source": source.name, "health": str(outcome.health)},
    )
    return outcome


async def _fetch(
    source: Source, client: Client, *, now: datetime, state: Mapping[str, Any], budget: float
) -> Fetch:
    try:
        async with asyncio.timeout(budget):
            return await source.fetch(client, now=now, state=state)
    except TimeoutError:
        reason = f"It was not read within {budget:g} s (DIGEST_FETCH_BUDGET), and is tried again."
        return Fetch(source=source.name, health=Health.FAILED, reason=reason)
