"""Subscribers: who gets a digest, when, about what; and who must be left alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import asdict
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    Connection,
    RowMapping,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from digest import schema
from digest.cadence import known_zone, next_slot
from digest.errors import NotFound
from digest.models import Frequency, Newcomer, Schedule, Status, Subscriber, Wishes
from digest.storage.database import insert_ignoring

_INSTANT = timedelta(seconds=1)  # a slot at the very instant at which a schedule begins is due


class Answer(StrEnum):
    """What became of a newcomer."""

    ADDED = "added"
    THERE = "there already"
    BARRED = "not to be written to"  # suppressed: only they can come back


def add_many(
    connection: Connection,
    newcomers: Sequence[Newcomer],
    *,
    now: datetime,
    since: datetime | None = None,
) -> list[Answer]:
    """Store active subscribers, with slots from `since` (default: now) on; an answer for each."""
    barred = _barred(connection, {hash_ for new in newcomers for hash_ in new.hashes})
    wanted: dict[str, Newcomer] = {}
    for new in newcomers:
        if not barred.intersection(new.hashes):
            wanted.setdefault(new.key, new)  # of two with one address the first one stands
    table = schema.subscriber
    ids: dict[str, int] = {}
    if wanted:
        rows = connection.execute(
            insert_ignoring(connection, table).returning(table.c.id, table.c.address_key),
            [_row(new, now=now, since=since or now) for new in wanted.values()],
        )
        ids = {key: subscriber_id for subscriber_id, key in rows}
    if ids:
        connection.execute(
            insert(schema.schedule),
            [
                {
                    "subscriber_id": subscriber_id,
                    "active": True,
                    **asdict(_schedule_for(wanted[key].wishes, since or now)),
                }
                for key, subscriber_id in ids.items()
            ],
        )
        follow(connection, {ids[key]: wanted[key].topics for key in ids})
    answers, added = [], set[str]()
    for new in newcomers:
        if barred.intersection(new.hashes):
            answers.append(Answer.BARRED)
        elif new.key in ids and new.key not in added:
            answers.append(Answer.ADDED)
            added.add(new.key)
        else:
            answers.append(Answer.THERE)
    return answers


def _barred(connection: Connection, hashes: Set[str]) -> set[str]:
    table = schema.suppression
    found: set[str] = set()
    ordered = sorted(hashes)
    for start in range(0, len(ordered), 500):
        part = ordered[start : start + 500]
        found |= set(
            connection.execute(
                select(table.c.address_hash).where(table.c.address_hash.in_(part))
            ).scalars()
        )
    return found


def _schedule_for(wishes: Wishes, since: datetime) -> Schedule:
    return Schedule(
        since=since,
        zone=wishes.zone,
        hour=wishes.hour,
        frequency=wishes.frequency,
        weekday=wishes.weekday,
    )


def _row(new: Newcomer, *, now: datetime, since: datetime) -> dict[str, Any]:
    first = next_slot([_schedule_for(new.wishes, since)], after=since - _INSTANT)
    return {
        **asdict(new.wishes),
        "address": new.address,
        "address_key": new.key,
        "address_hash": new.hashes[0],
        "status": Status.ACTIVE,
        "created_at": now,
        "confirmed_at": now,
        "next_due_at": first.due_at if first else None,
    }


def change(connection: Connection, subscriber_id: int, wishes: Wishes, *, now: datetime) -> None:
    """Store new wishes; what is planned already stays as it is."""
    subscriber = get(connection, subscriber_id)
    table = schema.subscriber
    connection.execute(update(table).where(table.c.id == subscriber_id).values(asdict(wishes)))
    before = (subscriber.zone, subscriber.hour, subscriber.frequency, subscriber.weekday)
    if before != (wishes.zone, wishes.hour, wishes.frequency, wishes.weekday):
        active = subscriber.status is Status.ACTIVE
        _schedule(connection, subscriber_id, wishes, active=active, since=now)


def follow(connection: Connection, wanted: Mapping[int, Collection[str]]) -> None:
    """Make these topics, by slug, the ones that each subscriber follows."""
    table = schema.follow
    topics = connection.execute(select(schema.topic.c.slug, schema.topic.c.id))
    known = {row.slug: row.id for row in topics}
    connection.execute(delete(table).where(table.c.subscriber_id.in_(list(wanted))))
    follows = [
        {"subscriber_id": subscriber_id, "topic_id": known[slug]}
        for subscriber_id, slugs in wanted.items()
        for slug in dict.fromkeys(slugs)
        if slug in known  # not removed in the meantime
    ]
    if follows:
        connection.execute(insert(table), follows)


def unsubscribe(connection: Connection, subscriber_id: int, *, now: datetime, detail: str) -> bool:
    """Stop writing to somebody, for good; False when that was so already, or nobody is there."""
    table = schema.subscriber
    gone = (Status.UNSUBSCRIBED, Status.COMPLAINED, Status.ERASED)
    row = (
        connection.execute(
            update(table)
            .where(table.c.id == subscriber_id, table.c.status.not_in(gone))
            .values(status=Status.UNSUBSCRIBED)
            .returning(
                table.c.address_hash,
                table.c.zone,
                table.c.hour,
                table.c.frequency,
                table.c.weekday,
                table.c.max_papers,
            )
        )
        .mappings()
        .first()
    )
    if row is None:
        return False
    wishes = Wishes(**{name: row[name] for name in row if name != "address_hash"})
    _schedule(connection, subscriber_id, wishes, active=False, since=now)
    connection.execute(
        insert_ignoring(connection, schema.suppression).values(
            address_hash=row["address_hash"], reason=Status.UNSUBSCRIBED, detail=detail, since=now
        )
    )
    return True


def _schedule(
    connection: Connection, subscriber_id: int, wishes: Wishes, *, active: bool, since: datetime
) -> None:
    table = schema.schedule
    # Two changes at one instant are one; so is what a clock that was set back makes undone.
    connection.execute(
        delete(table).where(table.c.subscriber_id == subscriber_id, table.c.since >= since)
    )
    connection.execute(
        update(table)
        .where(
            table.c.subscriber_id == subscriber_id,
            or_(table.c.until.is_(None), table.c.until > since),
        )
        .values(until=since)
    )
    connection.execute(
        insert(table).values(
            subscriber_id=subscriber_id,
            since=since,
            zone=wishes.zone,
            hour=wishes.hour,
            frequency=wishes.frequency,
            weekday=wishes.weekday,
            active=active,
        )
    )
    refresh_due(connection, planned_until(connection, [subscriber_id]))


def refresh_due(connection: Connection, planned: Mapping[int, datetime]) -> int:
    """Set the hint of when each is due next, their first slot after `planned`; how many changed."""
    table = schema.subscriber
    # Locked before their schedules are read: who changes their wishes meanwhile waits, or is seen.
    hints = connection.execute(
        select(table.c.id, table.c.next_due_at)
        .where(table.c.id.in_(planned))
        .order_by(table.c.id)
        .with_for_update()
    ).all()
    found = histories(connection, list(planned))
    wrong = []
    for subscriber_id, hint in hints:
        slot = next_slot(found.get(subscriber_id, []), after=planned[subscriber_id])
        due_at = slot.due_at if slot else None
        if due_at != hint:
            wrong.append({"who": subscriber_id, "due_at": due_at})
    if wrong:
        connection.execute(
            update(table)
            .where(table.c.id == bindparam("who"))
            .values(next_due_at=bindparam("due_at")),
            wrong,
        )
    return len(wrong)


def planned_until(connection: Connection, subscriber_ids: Sequence[int]) -> dict[int, datetime]:
    """For each, the instant up to which every slot has its row."""
    digests, schedules = schema.digest, schema.schedule
    found = {
        subscriber_id: first - _INSTANT
        for subscriber_id, first in connection.execute(
            select(schedules.c.subscriber_id, func.min(schedules.c.since))
            .where(schedules.c.subscriber_id.in_(subscriber_ids))
            .group_by(schedules.c.subscriber_id)
        )
    }
    last = connection.execute(
        select(digests.c.subscriber_id, func.max(digests.c.due_at))
        .where(digests.c.subscriber_id.in_(subscriber_ids))
        .group_by(digests.c.subscriber_id)
    )
    found.update((subscriber_id, due_at) for subscriber_id, due_at in last)
    return found


def histories(connection: Connection, subscriber_ids: Sequence[int]) -> dict[int, list[Schedule]]:
    """Each one's schedules, oldest first."""
    table = schema.schedule
    found: dict[int, list[Schedule]] = defaultdict(list)
    for row in connection.execute(
        select(table)
        .where(table.c.subscriber_id.in_(subscriber_ids))
        .order_by(table.c.subscriber_id, table.c.since)
    ).mappings():
        found[row["subscriber_id"]].append(_schedule_of(row))
    return found


def _schedule_of(row: RowMapping) -> Schedule:
    return Schedule(
        since=row["since"],
        zone=known_zone(row["zone"]),
        hour=row["hour"],
        frequency=Frequency(row["frequency"]),
        weekday=row["weekday"],
        active=row["active"],
    )


# ------------------------------------------------------------------ reading


def get(connection: Connection, subscriber_id: int) -> Subscriber:
    """The subscriber with that id; NotFound."""
    for subscriber in select_by_id(connection, [subscriber_id]):
        return subscriber
    raise NotFound(f"There is no subscriber {subscriber_id}.")


def find(connection: Connection, key: str) -> Subscriber | None:
    """The subscriber with that address key."""
    table = schema.subscriber
    row = connection.execute(select(table.c.id).where(table.c.address_key == key)).first()
    return None if row is None else get(connection, row.id)


def select_by_id(connection: Connection, subscriber_ids: Sequence[int]) -> list[Subscriber]:
    """Those of the subscribers that there are, in order of id."""
    table = schema.subscriber
    rows = connection.execute(
        select(table).where(table.c.id.in_(subscriber_ids)).order_by(table.c.id)
    ).mappings()
    return _with_topics(connection, list(rows))


def everyone(connection: Connection, *, batch: int = 1000) -> Iterator[Subscriber]:
    """All subscribers in order of id, read in batches."""
    table, last = schema.subscriber, 0
    while True:
        rows = (
            connection.execute(
                select(table).where(table.c.id > last).order_by(table.c.id).limit(batch)
            )
            .mappings()
            .all()
        )
        if not rows:
            return
        yield from _with_topics(connection, rows)
        last = rows[-1]["id"]


def due(connection: Connection, *, now: datetime, limit: int) -> list[int]:
    """Those with a slot to plan, the longest due first."""
    table = schema.subscriber
    rows = connection.execute(
        select(table.c.id)
        .where(table.c.next_due_at <= now)
        .order_by(table.c.next_due_at, table.c.id)
        .limit(limit)
    )
    return list(rows.scalars())


def active_ids(connection: Connection, *, after: int, limit: int) -> list[int]:
    """The ids of active subscribers above `after`, in order."""
    table = schema.subscriber
    rows = connection.execute(
        select(table.c.id)
        .where(table.c.id > after, table.c.status == Status.ACTIVE)
        .order_by(table.c.id)
        .limit(limit)
    )
    return list(rows.scalars())


def _with_topics(connection: Connection, rows: Sequence[RowMapping]) -> list[Subscriber]:
    follows, topics = schema.follow, schema.topic
    followed: dict[int, list[str]] = defaultdict(list)
    for subscriber_id, slug in connection.execute(
        select(follows.c.subscriber_id, topics.c.slug)
        .join(topics, topics.c.id == follows.c.topic_id)
        .where(follows.c.subscriber_id.in_([row["id"] for row in rows]))
        .order_by(topics.c.slug)
    ):
        followed[subscriber_id].append(slug)
    return [_subscriber(row, followed[row["id"]]) for row in rows]


def _subscriber(row: RowMapping, topics: Sequence[str]) -> Subscriber:
    return Subscriber(
        id=row["id"],
        address=row["address"],
        name=row["name"],
        zone=known_zone(row["zone"]),
        hour=row["hour"],
        frequency=Frequency(row["frequency"]),
        weekday=row["weekday"],
        max_papers=row["max_papers"],
        status=Status(row["status"]),
        created_at=row["created_at"],
        confirmed_at=row["confirmed_at"],
        locale=row["locale"],
        topics=tuple(topics),
    )
