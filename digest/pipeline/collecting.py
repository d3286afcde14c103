"""Collect: read every source at once, store what each said, and how it went."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from digest.models import Fetch, Health
from digest.sources import Source
from digest.sources.http import Client
from digest.storage import papers, runs, sources
from digest.storage.database import exclusive, reading, writing
from digest.storage.sources import Read

log = logging.getLogger(__name__)

_COUNTED = ("fetched", "new", "changed", "unchanged")


def collect(
    engine: Engine,
    read: Sequence[Source],
    *,
    client: Callable[[], Client],
    lookback: timedelta,
    longest: timedelta,
    locks: Path,
    clock: Callable[[], datetime],
) -> list[Read]:
    """Read all sources side by side and store what they said; how each read went.

    One source failing never stops another. On a source's first good read what it listed more than
    `lookback` ago is stored but makes no candidate; later the same goes for `longest`. Raises Busy
    while another process collects.
    """
    started_at, started = clock(), time.monotonic()
    with exclusive(engine, "collect", locks):
        reads = asyncio.run(
            _collect(engine, read, client, lookback=lookback, longest=longest, clock=clock)
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
    lookback: timedelta,
    longest: timedelta,
    clock: Callable[[], datetime],
) -> list[Read]:
    async with client() as shared:
        tasks = [
            _collect_one(engine, source, shared, lookback=lookback, longest=longest, clock=clock)
            for source in read
        ]
        return list(await asyncio.gather(*tasks))


async def _collect_one(
    engine: Engine,
    source: Source,
    client: Client,
    *,
    lookback: timedelta,
    longest: timedelta,
    clock: Callable[[], datetime],
) -> Read:
    started_at, started = clock(), time.monotonic()
    with reading(engine) as connection:
        memory = sources.memory(connection, source.name)
    try:
        fetch = await source.fetch(client, now=started_at, state=memory.state)
    except Exception as error:
        log.exception("The source %s broke.", source.name, extra={"action": "collect"})
        fetch = Fetch(
            source=source.name,
            health=Health.FAILED,
            reason=f"An error of ours, please report it: {type(error).__name__}: {error}",
        )
    with writing(engine) as connection:
        # Stamped inside the transaction: nothing may carry a time before a digest that could not
        # see it.
        now = clock()
        oldest = now - (lookback if memory.seeded_at is None else longest)
        stored = papers.store(connection, fetch, now=now, oldest=oldest)
        outcome = sources.remember(
            connection,
            fetch,
            stored,
            started_at=started_at,
            seconds=time.monotonic() - started,
        )
    level = logging.INFO if fetch.health.good else logging.WARNING
    log.log(
        level,
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
