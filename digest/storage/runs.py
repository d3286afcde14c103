"""What each execution of a stage did, for people to look at."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select

from digest import schema


def remember(
    connection: Connection,
    stage: str,
    *,
    started_at: datetime,
    seconds: float,
    counts: Mapping[str, int],
    error: str = "",
) -> None:
    """Store what one execution of a stage did."""
    connection.execute(
        insert(schema.run).values(
            stage=stage, started_at=started_at, seconds=seconds, counts=dict(counts), error=error
        )
    )


def latest(connection: Connection, *, limit: int = 20) -> list[Mapping[str, Any]]:
    """The last executions, newest first."""
    table = schema.run
    rows = connection.execute(
        select(table.c.stage, table.c.started_at, table.c.seconds, table.c.counts, table.c.error)
        .order_by(table.c.started_at.desc(), table.c.id.desc())
        .limit(limit)
    )
    return [dict(row) for row in rows.mappings()]


def last_collected_at(connection: Connection) -> datetime | None:
    """When any source was last read."""
    found: datetime | None = connection.execute(
        select(func.max(schema.source_run.c.started_at))
    ).scalar_one()
    return found
