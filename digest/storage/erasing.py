"""Erasing people: what is held about somebody goes; that they are left alone, and the counts, stay.

Whatever table has a `subscriber_id` is emptied of them, so that a new one cannot be forgotten; the
ledger's rows stay, without anything in them that names the person or what they read.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    String,
    Table,
    and_,
    case,
    cast,
    delete,
    exists,
    literal,
    or_,
    select,
    update,
)

from digest import schema
from digest.errors import AddressError
from digest.models import Detail, Frequency, QuietDay, State, Status
from digest.storage import domains, interests
from digest.storage.database import writing
from digest.storage.routes import Breaker
from digest.suppression import address_key

# Of these something stays: that a digest was due, was made, and what became of it.
LEDGER = ("digest", "delivery", "account_mail", "schedule")
_DELIVERED = (
    (schema.digest, schema.delivery.c.digest_id),
    (schema.account_mail, schema.delivery.c.account_mail_id),
)
_BATCH = 500
_OFFER = "change-new"  # the mail to an address that a digest is to move to


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
            min_score=None,
            detail=Detail.SUMMARY,
            quiet_day=QuietDay.SKIP,
            plain=False,
            paused_until=None,
            next_due_at=None,
        )
    )
    tickets = schema.ticket
    used = and_(tickets.c.purpose == "erase", tickets.c.used_at.is_not(None))
    names = _receivers(connection, subscriber_id, key)
    _empty_ledger(connection, subscriber_id, now=now)
    _delete_all(connection, subscriber_id, but_for=used)
    _forget_requests(connection, key)
    _forget_receivers(connection, names)
    _forget_changes(connection, key, now=now)
    return True


def addresses(connection: Connection, subscriber_id: int) -> set[str]:
    """Where somebody's mail went, as far as it is known and nobody else is written to there."""
    people = schema.subscriber
    of = people.c.id == subscriber_id
    found = set(connection.execute(select(people.c.address).where(of)).scalars())
    for table, delivered in _DELIVERED:
        mine = delivered.in_(select(table.c.id).where(table.c.subscriber_id == subscriber_id))
        found |= set(connection.execute(select(schema.delivery.c.address).where(mine)).scalars())
    keys = {address: _key(address) for address in found}
    others = select(people.c.address_key).where(people.c.address_key.in_(keys.values()), ~of)
    taken = {"", *connection.execute(others).scalars()}
    return {address for address, key in keys.items() if key not in taken}


def remove(connection: Connection, subscriber_id: int, *, now: datetime) -> None:
    """Delete somebody to whom no digest was ever due; what mail they got is still counted."""
    _forget_receivers(connection, _remove(connection, subscriber_id, now=now))


def _remove(connection: Connection, subscriber_id: int, *, now: datetime) -> set[str]:
    """The same, but for who received their mail: their names."""
    people, mails, deliveries = schema.subscriber, schema.account_mail, schema.delivery
    of = people.c.id == subscriber_id
    key = connection.execute(select(people.c.address_key).where(of)).scalar_one()
    names = _receivers(connection, subscriber_id, key)
    _empty_ledger(connection, subscriber_id, now=now)
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
    _forget_requests(connection, key)
    return names


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
            names = [_remove(connection, subscriber_id, now=now) for subscriber_id in ids]
            _forget_receivers(connection, set[str]().union(*names))
        if not ids:
            return total
        total += len(ids)


def forget_offers(engine: Engine, *, before: datetime, now: datetime) -> int:
    """Forget whom a digest was offered before then, by a change of address; how many mails.

    They may never have agreed. Whoever did has the address among their own data.
    """
    mails, deliveries = schema.account_mail, schema.delivery
    named = exists().where(deliveries.c.account_mail_id == mails.c.id, deliveries.c.address != "")
    old = select(mails.c.id).where(mails.c.kind == _OFFER, mails.c.created_at < before, named)
    with writing(engine) as connection:
        found = list(connection.execute(old.limit(_BATCH)).scalars())
        _empty_mail(connection, mails, mails.c.id.in_(found), provider="", now=now)
    return len(found)


def _empty_ledger(connection: Connection, subscriber_id: int, *, now: datetime) -> None:
    deliveries, digests = schema.delivery, schema.digest
    # Who receives the mail of a domain may be the domain itself, and that somebody's name.
    provider = case((deliveries.c.provider.contains("."), ""), else_=deliveries.c.provider)
    for table in (digests, schema.account_mail):
        mine = table.c.subscriber_id == subscriber_id
        _empty_mail(connection, table, mine, provider=provider, now=now)
    connection.execute(
        update(digests)
        .where(digests.c.subscriber_id == subscriber_id)
        .values(items=[], paper_ids=[], parts="", skeleton=None)
    )


def _empty_mail(
    connection: Connection,
    table: Table,
    mine: ColumnElement[bool],
    *,
    provider: ColumnElement[str] | str,
    now: datetime,
) -> None:
    """Take out of these digests or account mails, and of their deliveries, what names a person."""
    deliveries, attempts = schema.delivery, schema.attempt
    delivered = next(column for mail, column in _DELIVERED if mail is table)
    # Found by what they deliver: an index of their own would cost at every move of every mail.
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


def _forget_requests(connection: Connection, key: str) -> None:
    """Forget what was asked for an address."""
    requests = schema.request
    # One that is being answered goes by that, and whoever answers it waits for this to end.
    waiting = select(requests.c.id).where(requests.c.address_key == key)
    free = connection.execute(waiting.with_for_update(skip_locked=True)).scalars()
    connection.execute(delete(requests).where(requests.c.id.in_(list(free))))


def _receivers(connection: Connection, subscriber_id: int, key: str) -> set[str]:
    """The names of who received somebody's mail: domains of theirs, and those that take its mail.

    A name without a dot is a large provider's, and tells nothing.
    """
    ways, names = schema.domain, {_domain(key)}
    for table, delivered in _DELIVERED:
        mine = select(table.c.id).where(table.c.subscriber_id == subscriber_id)
        providers = select(schema.delivery.c.provider).where(delivered.in_(mine)).distinct()
        names.update(connection.execute(providers).scalars())
    takers = select(ways.c.provider).where(ways.c.name.in_(names))
    names.update(connection.execute(takers).scalars().all())
    return {name for name in names if "." in name}


def _forget_receivers(connection: Connection, names: Collection[str]) -> None:
    """Forget what is known of these receivers, but for those of somebody who is still here."""
    ways, routes, alerts = schema.domain, schema.route, schema.alert
    others = select(ways.c.provider).where(ways.c.provider.in_(names), ways.c.name.not_in(names))
    shared = domains.at_home(connection, names).union(connection.execute(others).scalars())
    for name in sorted(set(names) - shared):
        connection.execute(delete(ways).where(or_(ways.c.name == name, ways.c.provider == name)))
        # Not deleted: a process that delivers knows the row, and begins anew with another.
        connection.execute(
            update(routes)
            .where(routes.c.provider == name)
            .values(
                provider=literal("erased ") + cast(routes.c.id, String),
                rate=None,
                state=Breaker.CLOSED,
                kind="",
                reason="",
            )
        )
        subject = alerts.c.subject.endswith(f" to {name}", autoescape=True)
        connection.execute(delete(alerts).where(alerts.c.kind == "breaker", subject))


def _forget_changes(connection: Connection, key: str, *, now: datetime) -> None:
    """Forget that others wanted to move to an address, with the mails that say so."""
    tickets, mails = schema.ticket, schema.account_mail
    wanted = select(tickets.c.id, tickets.c.data).where(tickets.c.purpose == "change")
    gone = [
        row.id for row in connection.execute(wanted) if _key(row.data.get("address", "")) == key
    ]
    if gone:
        asked = mails.c.request.in_([f"ticket {ticket_id}" for ticket_id in gone])
        _empty_mail(connection, mails, asked, provider="", now=now)
        connection.execute(delete(tickets).where(tickets.c.id.in_(gone)))


def _key(address: str) -> str:
    try:
        return address_key(address)
    except AddressError:
        return ""


def _domain(key: str) -> str:
    return key.rpartition("@")[2]
