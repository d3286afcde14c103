"""Quotas: how often something may be done in a window of time, over all processes together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, func, select

from digest import schema
from digest.storage.database import insert_into

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ENDLESS = 2**31 - 1


def take(
    connection: Connection,
    kind: str,
    key: str = "",
    *,
    window: timedelta,
    now: datetime,
    limit: int = _ENDLESS,
) -> bool:
    """Count one more, if there are not `limit` already in the window of now; whether it was.

    One statement decides and counts, and the row is locked until the transaction ends: who takes
    several in one transaction takes them in one order, or two would wait for each other.
    """
    table = schema.quota
    statement = insert_into(connection.dialect.name, table).values(
        kind=kind, key=key, start=_start(window, now), count=1
    )
    counted = statement.on_conflict_do_update(
        index_elements=["kind", "key", "start"],
        set_={"count": table.c.count + 1},
        where=table.c.count < limit,
    )
    return connection.execute(counted.returning(table.c.count)).first() is not None


def most(connection: Connection, kind: str, *, window: timedelta, now: datetime) -> int:
    """The highest count of a kind in the window of now and the one before."""
    table = schema.quota
    found: int = connection.execute(
        select(func.coalesce(func.max(table.c.count), 0)).where(
            table.c.kind == kind, table.c.start >= _start(window, now) - window
        )
    ).scalar_one()
    return found


def _start(window: timedelta, now: datetime) -> datetime:
    return now - (now - _EPOCH) % window
