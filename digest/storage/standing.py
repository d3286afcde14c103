"""A subscriber's standing: how it changes when they ask, confirm, pause, come back and move."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, replace
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, delete, select, text, update
from sqlalchemy.exc import IntegrityError

from digest import schema
from digest.models import Newcomer, State, Status, Subscriber, Wishes
from digest.storage import erasing, subscribers
from digest.storage.database import insert_ignoring
from digest.suppression import same_mailbox
from digest.tokens import GENERATIONS

RESUMED = 200  # people in one transaction
_IS_PAUSED = text("subscriber.status = 'paused'")  # in the words of the partial index


def locked(connection: Connection, subscriber_id: int) -> Subscriber | None:
    """The subscriber, whom nobody else changes or plans for before the transaction ends."""
    table = schema.subscriber
    row = select(table.c.id).where(table.c.id == subscriber_id).with_for_update(key_share=True)
    if connection.execute(row).first() is None:
        return None
    return subscribers.get(connection, subscriber_id)


def wishes_of(subscriber: Subscriber) -> Wishes:
    """What somebody chose."""
    return Wishes(**{name: getattr(subscriber, name) for name in Wishes.__dataclass_fields__})


def add_pending(connection: Connection, newcomer: Newcomer, *, now: datetime) -> Subscriber:
    """Whoever has that address; stored as pending if nobody does. What a pending one wishes is new.

    No schedule begins: nothing is due before they confirm.
    """
    table = schema.subscriber
    while True:
        connection.execute(
            insert_ignoring(connection, table).values(
                **asdict(newcomer.wishes),
                address=newcomer.address,
                address_key=newcomer.key,
                address_hash=newcomer.hashes[0],
                status=Status.PENDING,
                created_at=now,
            )
        )
        found = subscribers.find(connection, newcomer.key)
        person = locked(connection, found.id) if found else None
        if person is None or person.status is Status.ERASED:
            continue  # just now
        if person.status is not Status.PENDING:
            return person
        if same_mailbox(person.address, newcomer.address):
            wish(connection, person.id, newcomer.wishes, topics=newcomer.topics)
            return person
        # Nobody may keep another from signing up by a letter that counts as one of theirs; and
        # the link that was mailed to the one is not good for the other.
        erasing.remove(connection, person.id, now=now)


def wish(
    connection: Connection, subscriber_id: int, wishes: Wishes, *, topics: Collection[str]
) -> None:
    """Store what somebody wishes for whom nothing is due yet."""
    table = schema.subscriber
    connection.execute(update(table).where(table.c.id == subscriber_id).values(asdict(wishes)))
    subscribers.follow(connection, {subscriber_id: topics})


def wish_pending(
    connection: Connection, subscriber_id: int, wishes: Wishes, *, topics: Collection[str]
) -> None:
    """Store what somebody wishes who is yet to confirm; of anybody else nothing changes."""
    person = locked(connection, subscriber_id)
    if person is not None and person.status is Status.PENDING:
        kept = replace(wishes, name=person.name, locale=person.locale)
        wish(connection, subscriber_id, kept, topics=topics)


def activate(
    connection: Connection,
    person: Subscriber,
    *,
    hashes: Collection[str],
    confirmed_at: datetime,
    now: datetime,
    welcome: bool = False,
) -> None:
    """Write to somebody again, or for the first time; they are suppressed no more.

    The slot that passed before is not theirs: their schedule begins now.
    """
    table = schema.subscriber
    connection.execute(
        update(table)
        .where(table.c.id == person.id)
        .values(
            status=Status.ACTIVE,
            confirmed_at=confirmed_at,
            paused_until=None,
            address_hash=next(iter(hashes)),
        )
    )
    lift(connection, person.id, hashes)
    wishes = wishes_of(person)
    subscribers.reschedule(connection, person.id, wishes, active=True, since=now, welcome=welcome)


def lift(connection: Connection, subscriber_id: int, hashes: Collection[str]) -> None:
    """Let an address be written to again: whoever reads its mail said so."""
    barred, bounces = schema.suppression, schema.bounce
    connection.execute(delete(barred).where(barred.c.address_hash.in_([*hashes])))
    # What was refused before and is not judged yet is disproved.
    connection.execute(
        update(bounces)
        .where(bounces.c.subscriber_id == subscriber_id, bounces.c.verdict == "")
        .values(verdict="withdrawn")
    )


def barred_for(connection: Connection, hashes: Collection[str]) -> set[str]:
    """Why an address, by its hashes, is suppressed."""
    table = schema.suppression
    query = select(table.c.reason).where(table.c.address_hash.in_([*hashes]))
    return set(connection.execute(query).scalars())


def bar(connection: Connection, subscriber_id: int, reason: Status, *, now: datetime) -> None:
    """Suppress somebody's address for that reason, whatever it was suppressed for before."""
    people = schema.subscriber
    found = connection.execute(
        select(people.c.address_hash).where(people.c.id == subscriber_id)
    ).scalar_one()
    subscribers.suppress(connection, found, reason, detail="", now=now, anew=True)


def pause(connection: Connection, person: Subscriber, *, until: datetime, now: datetime) -> None:
    """Let nothing be due until then."""
    table = schema.subscriber
    connection.execute(
        update(table)
        .where(table.c.id == person.id)
        .values(status=Status.PAUSED, paused_until=until)
    )
    subscribers.reschedule(connection, person.id, wishes_of(person), active=False, since=now)


def resume(connection: Connection, person: Subscriber, *, since: datetime) -> None:
    """End somebody's pause, as of then."""
    table = schema.subscriber
    connection.execute(
        update(table).where(table.c.id == person.id).values(status=Status.ACTIVE, paused_until=None)
    )
    subscribers.reschedule(connection, person.id, wishes_of(person), active=True, since=since)


def resume_due(connection: Connection, *, now: datetime) -> bool:
    """End the pauses that are over, each at its own time; whether there may be more of them.

    However late this is called, what was due since then is due, and is counted.
    """
    table = schema.subscriber
    over = connection.execute(
        select(table.c.id)
        .where(_IS_PAUSED, table.c.paused_until <= now)
        .order_by(table.c.paused_until, table.c.id)
        .limit(RESUMED)
        .with_for_update(skip_locked=True, key_share=True)
    ).scalars()
    people = subscribers.select_by_id(connection, list(over))
    for person in people:
        assert person.paused_until is not None
        resume(connection, person, since=person.paused_until)
    return len(people) == RESUMED


def renew(connection: Connection, subscriber_id: int, *, saved: bool = False) -> None:
    """Make the links of somebody's mails worth nothing, or of the feed of what they saved."""
    table = schema.subscriber
    column = table.c.saved_generation if saved else table.c.generation
    connection.execute(
        update(table)
        .where(table.c.id == subscriber_id)
        .values({column: (column + 1) % GENERATIONS})
    )


def saved_generation(connection: Connection, subscriber_id: int) -> int | None:
    """Of the feed of what somebody saved."""
    table = schema.subscriber
    query = select(table.c.saved_generation).where(table.c.id == subscriber_id)
    return connection.execute(query).scalar_one_or_none()


def move(connection: Connection, person: Subscriber, to: Newcomer, *, now: datetime) -> bool:
    """Give somebody another address, which they confirmed; False when another has it.

    Somebody who asked for it and never confirmed makes way. What waits for the old address is not
    sent there, and the links in its mails are worth nothing: its owner may be another by now.
    """
    table = schema.subscriber
    other = subscribers.find(connection, to.key)
    if other is not None and other.status is Status.PENDING and other.confirmed_at is None:
        erasing.remove(connection, other.id, now=now)
    moved = update(table).where(table.c.id == person.id)
    try:
        with connection.begin_nested():
            connection.execute(
                moved.values(address=to.address, address_key=to.key, address_hash=to.hashes[0])
            )
    except IntegrityError:
        return False
    renew(connection, person.id)
    lift(connection, person.id, to.hashes)
    close_account_mail(connection, person.id, reason="address changed", now=now)
    return True


def close_account_mail(
    connection: Connection, subscriber_id: int, *, reason: str, now: datetime
) -> None:
    """Skip the account mail that waits for somebody."""
    _skip_account_mail(
        connection, schema.account_mail.c.subscriber_id == subscriber_id, reason=reason, now=now
    )


def supersede_account_mail(
    connection: Connection, subscriber_id: int, kind: str, request: str, *, now: datetime
) -> None:
    """Skip what of that kind waits for somebody, but for the mail of that request."""
    mails = schema.account_mail
    earlier = and_(
        mails.c.subscriber_id == subscriber_id, mails.c.kind == kind, mails.c.request != request
    )
    _skip_account_mail(connection, earlier, reason="superseded", now=now)


def _skip_account_mail(
    connection: Connection, which: ColumnElement[bool], *, reason: str, now: datetime
) -> None:
    mails, deliveries = schema.account_mail, schema.delivery
    theirs = select(mails.c.id).where(which)
    connection.execute(
        update(deliveries)
        .where(
            deliveries.c.account_mail_id.in_(theirs),
            deliveries.c.state.in_([State.PLANNED, State.CLAIMED, State.DEFERRED]),
        )
        .values(state=State.SKIPPED, reason=reason, worker_id=None, ended_at=now)
    )
