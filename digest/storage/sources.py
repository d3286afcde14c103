"""What each source remembers between two reads, and how each read went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select

from digest import schema
from digest.models import Fetch, Health
from digest.storage.database import insert_ignoring
from digest.storage.papers import Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """A source's own state, and when it was first and last read well."""

    state: dict[str, Any]
    seeded_at: datetime | None
    good_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """How one read of a source went."""

    source: str
    started_at: datetime
    seconds: float
    health: Health
    reason: str
    fetched: int
    new: int
    changed: int
    unchanged: int


def memory(connection: Connection, source: str) -> Memory:
    """What is remembered of a source; nothing, for one that was never read."""
    table = schema.source
    row = connection.execute(select(table).where(table.c.name == source)).mappings().first()
    if row is None:
        return Memory(state={}, seeded_at=None, good_at=None)
    return Memory(state=row["state"], seeded_at=row["seeded_at"], good_at=row["good_at"])


def remember(
    connection: Connection, fetch: Fetch, stored: Stored, *, started_at: datetime, seconds: float
) -> Read:
    """Store how a read went, and the source's state where it was one to build on."""
    reason = fetch.reason
    if stored.refused:
        refused = f"{stored.refused} of {len(fetch.records)} could not be stored; see the log."
        reason = f"{reason} {refused}".strip()
    table = schema.source
    connection.execute(insert_ignoring(connection, table).values(name=fetch.source, state={}))
    changes: dict[str, Any] = {}
    if fetch.state is not None:
        changes["state"] = dict(fetch.state)
    if fetch.health.good:
        changes["good_at"] = started_at
        changes["seeded_at"] = func.coalesce(table.c.seeded_at, started_at)
    if changes:
        connection.execute(table.update().where(table.c.name == fetch.source).values(**changes))
    read = Read(
        source=fetch.source,
        started_at=started_at,
        seconds=seconds,
        health=fetch.health,
        reason=reason,
        fetched=len(fetch.records),
        new=stored.new,
        changed=stored.changed,
        unchanged=stored.unchanged,
    )
    connection.execute(insert(schema.source_run).values(asdict(read)))
    return read


def latest_reads(connection: Connection, sources: Sequence[str], *, now: datetime) -> list[Read]:
    """The last read of each source at `now`, in the order asked for; none for one never read."""
    table = schema.source_run
    found = []
    for source in sources:
        row = (
            connection.execute(
                select(table)
                .where(table.c.source == source, table.c.started_at <= now)
                .order_by(table.c.started_at.desc(), table.c.id.desc())
                .limit(1)
            )
            .mappings()
            .first()
        )
        if row is not None:
            values = {name: row[name] for name in Read.__dataclass_fields__}
            found.append(Read(**{**values, "health": Health(row["health"])}))
    return found
