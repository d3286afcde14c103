"""Subscribers: who gets a digest, when, about what; and who must be left alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Executable,
    Row,
    delete,
    insert,
    or_,
    select,
    update,
)

from digest import schema
from digest.cadence import known_zone, next_slot
from digest.errors import NotFound
from digest.models import (
    Detail,
    Frequency,
    Newcomer,
    QuietDay,
    Schedule,
    Status,
    Subscriber,
    Wishes,
)
from digest.storage import consents, schedules
from digest.storage.batches import listing, people_of
from digest.storage.consents import What
from digest.storage.database import insert_ignoring, insert_into, listed, unpacked
from digest.storage.schedules import INSTANT

_COLUMNS = [
    schema.subscriber.c[name] for name in Subscriber.__dataclass_fields__ if name != "topics"
]
# To call the class of an enumeration takes five times as long, for each of a million readers.
_DETAIL = {str(one): one for one in Detail}
_QUIET_DAY = {str(one): one for one in QuietDay}


class Answer(StrEnum):
    """What became of a newcomer."""

    ADDED = "added"
    THERE = "there already"
    ASKED = "asked, and yet to confirm"
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
                    **asdict(schedule_of(wanted[key].wishes, since=since or now)),
                }
                for key, subscriber_id in ids.items()
            ],
        )
        follow(connection, {ids[key]: wanted[key].topics for key in ids})
    pending = _pending(connection, wanted.keys() - ids.keys())
    answers, added = [], set[str]()
    for new in newcomers:
        if barred.intersection(new.hashes):
            answers.append(Answer.BARRED)
        elif new.key in ids and new.key not in added:
            answers.append(Answer.ADDED)
            added.add(new.key)
        else:
            answers.append(Answer.ASKED if new.key in pending else Answer.THERE)
    return answers


def _pending(connection: Connection, keys: Set[str]) -> set[str]:
    """Those of the keys whose owners were asked and have not confirmed."""
    table = schema.subscriber
    return _found(connection, table.c.address_key, keys, table.c.status == Status.PENDING)


def _barred(connection: Connection, hashes: Set[str]) -> set[str]:
    return _found(connection, schema.suppression.c.address_hash, hashes)


def _found(
    connection: Connection, column: Column[str], values: Set[str], *conditions: ColumnElement[bool]
) -> set[str]:
    """Those of the values that the column has, where the conditions hold."""
    found: set[str] = set()
    ordered = sorted(values)
    for start in range(0, len(ordered), 500):
        part = ordered[start : start + 500]
        rows = select(column).where(column.in_(part), *conditions)
        found |= set(connection.execute(rows).scalars())
    return found


def schedule_of(wishes: Wishes, *, since: datetime) -> Schedule:
    """When digests are due by these wishes."""
    return Schedule(
        since=since,
        zone=wishes.zone,
        hour=wishes.hour,
        frequency=wishes.frequency,
        weekday=wishes.weekday,
    )


def _row(new: Newcomer, *, now: datetime, since: datetime) -> dict[str, Any]:
    first = next_slot([schedule_of(new.wishes, since=since)], after=since - INSTANT)
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
    """Store new wishes; what is planned already stays as it is. NotFound.

    Who leaves or is erased at the same time goes first: nothing is due to them, or known of them.
    """
    table = schema.subscriber
    row = select(table.c.id).where(table.c.id == subscriber_id).with_for_update(key_share=True)
    connection.execute(row)
    subscriber = get(connection, subscriber_id)
    if subscriber.status is Status.ERASED:
        raise NotFound(f"Subscriber {subscriber_id} is erased.")
    connection.execute(update(table).where(table.c.id == subscriber_id).values(asdict(wishes)))
    before = (subscriber.zone, subscriber.hour, subscriber.frequency, subscriber.weekday)
    if before != (wishes.zone, wishes.hour, wishes.frequency, wishes.weekday):
        active = subscriber.status is Status.ACTIVE
        reschedule(connection, subscriber_id, wishes, active=active, since=now)


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


def unsubscribe(
    connection: Connection,
    subscriber_id: int,
    *,
    now: datetime,
    detail: str,
    status: Status = Status.UNSUBSCRIBED,
) -> bool:
    """Stop writing to somebody, for good; False when that was so already, or nobody is there.

    `status` tells why: they left, they complained, or their address bounced. Who left and complains
    then has complained: that is not undone by a link.
    """
    table = schema.subscriber
    gone = {Status.COMPLAINED, Status.ERASED, status}
    if status is not Status.COMPLAINED:
        gone.add(Status.UNSUBSCRIBED)
    row = (
        connection.execute(
            update(table)
            .where(table.c.id == subscriber_id, table.c.status.not_in(gone))
            .values(status=status)
            .returning(
                table.c.address_hash,
                table.c.zone,
                table.c.hour,
                table.c.frequency,
                table.c.weekday,
                table.c.max_papers,
                table.c.locale,
            )
        )
        .mappings()
        .first()
    )
    if row is None:
        return False
    wishes = Wishes(**{name: row[name] for name in row if name != "address_hash"})
    reschedule(connection, subscriber_id, wishes, active=False, since=now)
    suppress(
        connection,
        row["address_hash"],
        status,
        detail=detail,
        now=now,
        anew=status is Status.COMPLAINED,
    )
    consents.add(
        connection, subscriber_id, What(status), source=detail, now=now, locale=row["locale"]
    )
    return True


def suppress(
    connection: Connection, hash_: str, reason: Status, *, detail: str, now: datetime, anew: bool
) -> None:
    """Let nothing be sent to an address; `anew`: whatever it was suppressed for before."""
    statement = insert_into(connection.dialect.name, schema.suppression).values(
        address_hash=hash_, reason=reason, detail=detail, since=now
    )
    late = {name: statement.excluded[name] for name in ("reason", "detail", "since")}
    connection.execute(
        statement.on_conflict_do_update(index_elements=["address_hash"], set_=late)
        if anew
        else statement.on_conflict_do_nothing()
    )


def reschedule(
    connection: Connection,
    subscriber_id: int,
    wishes: Wishes,
    *,
    active: bool,
    since: datetime,
    welcome: bool = False,
) -> None:
    """Let other wishes hold from then on, or that nothing is due; `welcome`: a digest at once."""
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
            welcome=welcome,
        )
    )
    schedules.refresh_due(connection, schedules.planned_until(connection, [subscriber_id]))


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


def select_by_id(connection: Connection, subscriber_ids: Collection[int]) -> list[Subscriber]:
    """Those of the subscribers that there are, in order of id."""
    rows = connection.execute(_by_id(connection.dialect.name), {"ids": listing(subscriber_ids)})
    return _with_topics(connection, rows.all())


@cache
def _by_id(dialect: str) -> Executable:
    people = people_of(dialect)
    return (
        select(*_COLUMNS)
        .join(people, people.c.id == schema.subscriber.c.id)
        .order_by(schema.subscriber.c.id)
    )


def everyone(connection: Connection, *, batch: int = 1000) -> Iterator[Subscriber]:
    """All subscribers in order of id, read in batches."""
    table, last = schema.subscriber, 0
    while True:
        rows = connection.execute(
            select(*_COLUMNS).where(table.c.id > last).order_by(table.c.id).limit(batch)
        ).all()
        if not rows:
            return
        yield from _with_topics(connection, rows)
        last = rows[-1].id


def _with_topics(connection: Connection, rows: Sequence[Row[Any]]) -> list[Subscriber]:
    followed: dict[int, list[str]] = defaultdict(list)
    for subscriber_id, slug in unpacked(
        connection.execute(
            _followed(connection.dialect.name), {"ids": listing(row.id for row in rows)}
        )
    ):
        followed[subscriber_id].append(slug)
    return [
        Subscriber(
            id=row.id,
            address=row.address,
            name=row.name,
            zone=known_zone(row.zone),
            hour=row.hour,
            frequency=Frequency(row.frequency),
            weekday=row.weekday,
            max_papers=row.max_papers,
            status=Status(row.status),
            created_at=row.created_at,
            confirmed_at=row.confirmed_at,
            locale=row.locale,
            paused_until=row.paused_until,
            generation=row.generation,
            min_score=row.min_score,
            detail=_DETAIL[row.detail],
            quiet_day=_QUIET_DAY[row.quiet_day],
            plain=row.plain,
            topics=tuple(sorted(followed.get(row.id, ()))),
        )
        for row in rows
    ]


@cache
def _followed(dialect: str) -> Executable:
    follows, topics, people = schema.follow, schema.topic, people_of(dialect)
    return (
        select(listed(dialect, follows.c.subscriber_id, topics.c.slug))
        .join(people, people.c.id == follows.c.subscriber_id)
        .join(topics, topics.c.id == follows.c.topic_id)
    )
