"""Schedules: when somebody's digests are due, and the hint that tells planning who is.

The schedules are the truth; `next_due_at` only finds by an index whose slots are to be planned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from functools import cache
from operator import attrgetter

from sqlalchemy import BigInteger, Connection, Executable, bindparam, func, select, update

from digest import schema
from digest.cadence import known_zone, next_slot
from digest.models import Frequency, Schedule, Status
from digest.storage.batches import listing, people_of
from digest.storage.database import given, instant, listed, packed, unpacked

INSTANT = timedelta(seconds=1)  # a slot at the very instant at which a schedule begins is due


def due(connection: Connection, *, now: datetime, limit: int) -> list[int]:
    """Those with a slot to plan, the longest due first.

    On PostgreSQL they are locked, and those that others have locked are left out, so that any
    number of planners share the work.
    """
    table = schema.subscriber
    rows = connection.execute(
        select(table.c.id)
        .where(table.c.next_due_at <= now)
        .order_by(table.c.next_due_at, table.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
    )
    return list(rows.scalars())


def active_ids(connection: Connection, *, after: int, limit: int) -> list[int]:
    """The ids of active subscribers above `after`, in order; nobody plans for them meanwhile."""
    table = schema.subscriber
    rows = connection.execute(
        select(table.c.id)
        .where(table.c.id > after, table.c.status == Status.ACTIVE)
        .order_by(table.c.id)
        .limit(limit)
        .with_for_update(key_share=True)
    )
    return list(rows.scalars())


def refresh_due(connection: Connection, planned: Mapping[int, datetime]) -> int:
    """Set the hint of when each is due next, their first slot after `planned`; how many changed."""
    dialect = connection.dialect.name
    # Locked before their schedules are read: who changes their wishes meanwhile waits, or is seen.
    hints = connection.execute(_hints(dialect), {"ids": listing(planned)}).all()
    found = histories(connection, planned)
    wrong = []
    for subscriber_id, hint in hints:
        slot = next_slot(found.get(subscriber_id, []), after=planned[subscriber_id])
        due_at = slot.due_at if slot else None
        if due_at != hint:
            wrong.append((subscriber_id, due_at))
    if wrong:
        connection.execute(_set_hints(dialect), {"rows": packed(wrong)})
    return len(wrong)


@cache
def _hints(dialect: str) -> Executable:
    table, people = schema.subscriber, people_of(dialect)
    return (
        select(table.c.id, table.c.next_due_at)
        .join(people, people.c.id == table.c.id)
        .order_by(table.c.id)
        .with_for_update(of=table, key_share=True)
    )


@cache
def _set_hints(dialect: str) -> Executable:
    table = schema.subscriber
    rows = given(dialect, bindparam("rows"), id=BigInteger(), due_at=schema.Instant())
    return update(table).where(table.c.id == rows.c.id).values(next_due_at=rows.c.due_at)


def planned_until(connection: Connection, subscriber_ids: Collection[int]) -> dict[int, datetime]:
    """For each who has a schedule, the instant up to which every slot has its row."""
    rows = unpacked(
        connection.execute(
            _planned_until(connection.dialect.name), {"ids": listing(subscriber_ids)}
        )
    )
    return {
        subscriber_id: instant(last) if last else instant(first) - INSTANT
        for subscriber_id, first, last in rows
        if first
    }


@cache
def _planned_until(dialect: str) -> Executable:
    digests, schedules, people = schema.digest, schema.schedule, people_of(dialect)
    first = select(func.min(schedules.c.since)).where(schedules.c.subscriber_id == people.c.id)
    # The order of the dates is that of the instants, but for one who crossed the date line.
    last = (
        select(digests.c.due_at)
        .where(digests.c.subscriber_id == people.c.id)
        .order_by(digests.c.slot.desc())
        .limit(3)
        .correlate(people)
        .subquery()
    )
    return select(
        listed(
            dialect,
            people.c.id,
            first.scalar_subquery(),
            select(func.max(last.c.due_at)).scalar_subquery(),
        )
    )


def histories(connection: Connection, subscriber_ids: Collection[int]) -> dict[int, list[Schedule]]:
    """Each one's schedules, oldest first."""
    found: dict[int, list[Schedule]] = defaultdict(list)
    for subscriber_id, since, zone, hour, frequency, weekday, active, welcome in unpacked(
        connection.execute(_histories(connection.dialect.name), {"ids": listing(subscriber_ids)})
    ):
        found[subscriber_id].append(
            Schedule(
                since=instant(since),
                zone=known_zone(zone),
                hour=hour,
                frequency=Frequency(frequency),
                weekday=weekday,
                active=bool(active),
                welcome=bool(welcome),
            )
        )
    for history in found.values():
        if len(history) > 1:
            history.sort(key=attrgetter("since"))
    return found


@cache
def _histories(dialect: str) -> Executable:
    table, people = schema.schedule, people_of(dialect)
    names = (
        *("subscriber_id", "since", "zone", "hour", "frequency", "weekday", "active", "welcome"),
    )
    return select(listed(dialect, *(table.c[name] for name in names))).join(
        people, people.c.id == table.c.subscriber_id
    )
