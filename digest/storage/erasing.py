"""Erasing people: what is held about somebody goes; that they are left alone, and the counts, stay.

Whatever table has a `subscriber_id` is emptied of them, so that a new one cannot be forgotten; the
ledger's rows stay, without anything in them that names the person or what they read.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    and_,
    case,
    delete,
    exists,
    select,
    update,
)

from digest import schema
from digest.models import Frequency, State, Status
from digest.storage import interests
from digest.storage.database import writing

# Of these something stays: that a digest was due, was made, and what became of it.
LEDGER = ("digest", "delivery", "account_mail", "schedule")
_BATCH = 500


def erase(connection: Connection, subscriber_id: int, *, now: datetime) -> bool:
    """Forget who somebody is, who gets no mail any more; False when that was so already.

    The ledger's rows stay, so that it goes on adding up; nothing in them names the person or says
    what they read. What waited for them is skipped. A link by which this was asked for is kept as
    used, to say so again.
    """
    people = schema.subscriber
    of = people.c.id == subscriber_id
    key = connection.execute(
        select(people.c.address_key).where(of, people.c.status != Status.ERASED).with_for_update()
    ).scalar_one_or_none()
    if key is None:
        return False
    nobody = f"erased {subscriber_id}"  # no address has a space there
    connection.execute(
        update(people)
        .where(of)
        .values(
            status=Status.ERASED,
            address="",
            address_key=nobody,
            address_hash=nobody,
            name="",
            zone="UTC",
            hour=0,
            frequency=Frequency.DAILY,
            weekday=None,
            max_papers=1,
            locale="en",
            paused_until=None,
            next_due_at=None,
        )
    )
    tickets = schema.ticket
    used = and_(tickets.c.purpose == "erase", tickets.c.used_at.is_not(None))
    _empty_ledger(connection, subscriber_id, key, now=now)
    _delete_all(connection, subscriber_id, but_for=used)
    _forget_address(connection, key)
    return True


def remove(connection: Connection, subscriber_id: int, *, now: datetime) -> None:
    """Delete somebody to whom no digest was ever due; what mail they got is still counted."""
    people, mails, deliveries = schema.subscriber, schema.account_mail, schema.delivery
    of = people.c.id == subscriber_id
    key = connection.execute(select(people.c.address_key).where(of)).scalar_one()
    _empty_ledger(connection, subscriber_id, key, now=now)
    _delete_all(connection, subscriber_id)
    mine = mails.c.subscriber_id == subscriber_id
    for table, theirs in (
        (deliveries, deliveries.c.account_mail_id.in_(select(mails.c.id).where(mine))),
        (mails, mine),
    ):
        connection.execute(update(table).where(theirs).values(subscriber_id=None))
    schedules = schema.schedule
    connection.execute(delete(schedules).where(schedules.c.subscriber_id == subscriber_id))
    connection.execute(delete(people).where(of))
    _forget_address(connection, key)


def remove_unconfirmed(engine: Engine, *, before: datetime, now: datetime) -> int:
    """Delete those who were asked before then, never since, and never confirmed; how many."""
    people, asked = schema.subscriber, schema.consent
    since = exists().where(
        asked.c.subscriber_id == people.c.id, asked.c.what == "asked", asked.c.at >= before
    )
    # In the words of the partial index.
    old = and_(people.c.confirmed_at.is_(None), people.c.created_at < before)
    found = (
        select(people.c.id)
        .where(old, people.c.status != Status.ERASED, ~since)
        .order_by(people.c.created_at)
        .limit(_BATCH)
        .with_for_update(skip_locked=True)
    )
    total = 0
    while True:
        with writing(engine) as connection:
            ids = list(connection.execute(found).scalars())
            for subscriber_id in ids:
                remove(connection, subscriber_id, now=now)
        if not ids:
            return total
        total += len(ids)


def _empty_ledger(connection: Connection, subscriber_id: int, key: str, *, now: datetime) -> None:
    deliveries, attempts = schema.delivery, schema.attempt
    digests, mails = schema.digest, schema.account_mail
    # Who receives the mail of a domain may be the domain itself, and that somebody's name.
    provider = case((deliveries.c.provider == _domain(key), ""), else_=deliveries.c.provider)
    for table, delivered in (
        (digests, deliveries.c.digest_id),
        (mails, deliveries.c.account_mail_id),
    ):
        # Found by what they deliver: an index of their own would cost at every move of every mail.
        mine = table.c.subscriber_id == subscriber_id
        theirs = delivered.in_(select(table.c.id).where(mine))
        connection.execute(
            update(deliveries)
            .where(theirs, deliveries.c.state.in_([State.PLANNED, State.CLAIMED, State.DEFERRED]))
            .values(state=State.SKIPPED, reason=Status.ERASED, worker_id=None, ended_at=now)
        )
        connection.execute(
            update(deliveries).where(theirs).values(address="", text="", provider=provider)
        )
        # Servers quote addresses in more ways than are taken out when their words are stored.
        of_theirs = select(deliveries.c.id).where(theirs)
        connection.execute(
            update(attempts).where(attempts.c.delivery_id.in_(of_theirs)).values(text="")
        )
        connection.execute(update(table).where(mine).values(personal={}))
    connection.execute(
        update(digests)
        .where(digests.c.subscriber_id == subscriber_id)
        .values(items=[], paper_ids=[], parts="", skeleton=None)
    )


def _delete_all(
    connection: Connection, subscriber_id: int, *, but_for: ColumnElement[bool] | None = None
) -> None:
    """Delete somebody's rows but for the ledger's, and these tickets."""
    interests.erase(connection, subscriber_id)  # searches that were theirs alone go too
    for table in reversed(schema.metadata.sorted_tables):
        if "subscriber_id" not in table.c or table.name in LEDGER:
            continue
        mine = table.c.subscriber_id == subscriber_id
        if but_for is not None and table is schema.ticket:
            mine = and_(mine, ~but_for)
        connection.execute(delete(table).where(mine))


def _forget_address(connection: Connection, key: str) -> None:
    """Forget what was asked for an address, and about its domain, if nobody else has it."""
    requests, domains, people = schema.request, schema.domain, schema.subscriber
    connection.execute(delete(requests).where(requests.c.address_key == key))
    domain = _domain(key)
    shared = exists().where(people.c.address_key.endswith(f"@{domain}", autoescape=True))
    connection.execute(delete(domains).where(domains.c.name == domain, ~shared))


def _domain(key: str) -> str:
    return key.rpartition("@")[2]
