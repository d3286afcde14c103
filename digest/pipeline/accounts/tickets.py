"""Tickets: what is too much for a link that anybody may hold, and goes by a fresh mailed one.

Whoever has a forwarded mail has its links. So another address, an export and an erasure each take
a mail to the address that is known, whose link works for an hour and once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection

from digest import inbox
from digest.errors import TokenError
from digest.models import Status, Subscriber
from digest.pipeline.accounts import mails
from digest.pipeline.accounts.base import Accounts, link, newcomer, noted, raise_mark
from digest.pipeline.accounts.leaving import write_down
from digest.pipeline.accounts.limits import Refusal, Refused, not_here, take_addresses, take_try
from digest.storage import consents, erasing, holdings, standing, subscribers, tickets
from digest.storage.consents import What
from digest.storage.database import writing
from digest.storage.tickets import Ticket
from digest.suppression import address_key, masked
from digest.tokens import LIFETIMES, Purpose

_SUBSCRIBED = (Status.ACTIVE, Status.PAUSED)


class Moved(StrEnum):
    """How a change of address stands after one of its two links was used."""

    WAITING = "waiting"  # for the other one
    MOVED = "moved"
    TAKEN = "taken"  # somebody has that address already
    OVER = "over"  # they left meanwhile, or made new links


def request_change(accounts: Accounts, subscriber_id: int, address: str) -> Refusal | None:
    """Mail a link to the old address and one to the new; both must be used. AddressError.

    Whether somebody has the new address already is not said: the mails go out all the same.
    """
    now = accounts.clock()
    to = newcomer(accounts, address.strip(), accounts.usual)
    mails.check(to.address)
    try:
        if accounts.takes_mail is not None:
            # Before the DNS is asked, for which a page waits.
            with writing(accounts.engine) as connection:
                take_try(connection, accounts, f"change {subscriber_id}", now=now)
        if why := not_here(accounts, to.key):
            return why
        with writing(accounts.engine) as connection:
            person = _subscribed(connection, subscriber_id)
            take_addresses(connection, accounts, {address_key(person.address), to.key}, now=now)
            old, new = (
                tickets.add(connection, person.id, Purpose.CHANGE, data={}, now=now)
                for _ in range(2)
            )
            for ticket_id, partner in ((old, new), (new, old)):
                data = {"address": to.address, "partner": partner}
                tickets.amend(connection, ticket_id, data)
            # What a stranger may have typed stands in the mail to the address that is known alone.
            shown = masked(to.address)
            _send(
                connection,
                accounts,
                "change-old",
                old,
                person,
                to=person.address,
                new_address=shown,
            )
            _send(connection, accounts, "change-new", new, person, to=to.address)
    except Refused as refused:
        return refused.why
    return None


def change(accounts: Accounts, ticket_id: int) -> Moved:
    """Use one of the two links of a change of address. TokenError.

    Done twice it says the same again.
    """
    now = accounts.clock()
    with writing(accounts.engine) as connection:
        ticket, person = _held(connection, ticket_id, Purpose.CHANGE)
        if outcome := ticket.data.get("outcome"):
            return Moved(outcome)
        partner = tickets.get(connection, ticket.data["partner"], Purpose.CHANGE)
        if partner is None or person.status not in _SUBSCRIBED:
            return Moved.OVER
        tickets.use(connection, ticket.id, now=now)
        if partner.used_at is None:
            return Moved.WAITING
        found = _move(connection, accounts, person, str(ticket.data["address"]), now=now)
        for one in (ticket, partner):
            tickets.amend(connection, one.id, {**one.data, "outcome": found})
    return found


def _move(
    connection: Connection, accounts: Accounts, person: Subscriber, address: str, *, now: datetime
) -> Moved:
    to = newcomer(accounts, address, accounts.usual)
    if not standing.move(connection, person, to, now=now):
        return Moved.TAKEN
    tickets.cancel(connection, person.id)  # these were mailed to the old address
    consents.add(connection, person.id, What.MOVED, source="by both addresses", now=now)
    noted("Somebody has another address.", action="change", subscriber_id=person.id)
    return Moved.MOVED


def request_export(accounts: Accounts, subscriber_id: int) -> Refusal | None:
    """Mail somebody the link to all that is held about them. TokenError."""
    return _request(accounts, subscriber_id, Purpose.EXPORT)


def export(accounts: Accounts, ticket_id: int) -> Mapping[str, Any] | None:
    """All that is held about somebody, ready for JSON; None when the link was used. TokenError."""
    now = accounts.clock()
    with writing(accounts.engine) as connection:
        _, person = _held(connection, ticket_id, Purpose.EXPORT)
        if not tickets.use(connection, ticket_id, now=now):
            return None
        held = holdings.of(connection, person.id)
    noted("Somebody took what is held about them.", action="export", subscriber_id=person.id)
    return held


def request_erasure(accounts: Accounts, subscriber_id: int) -> Refusal | None:
    """Mail somebody the link by which they are forgotten. TokenError."""
    return _request(accounts, subscriber_id, Purpose.ERASE)


def erase_by(accounts: Accounts, ticket_id: int) -> None:
    """Forget somebody, by the link mailed for it; done twice it is done once. TokenError.

    The link is used when they are forgotten and not before: its page says that they are.
    """
    now = accounts.clock()
    with writing(accounts.engine) as connection:
        _, person = _held(connection, ticket_id, Purpose.ERASE)
        if person.status is Status.ERASED:
            return
        tickets.use(connection, ticket_id, now=now)
        _forget(connection, accounts, person.id, now=now)
    _noted(accounts, person.id)


def erase(accounts: Accounts, subscriber_id: int) -> bool:
    """Forget somebody but for the hash by which they are left alone; False when that was so.

    It bars nobody from coming back by their own double opt-in. The journal has it first.
    """
    now = accounts.clock()
    with writing(accounts.engine) as connection:
        person = standing.locked(connection, subscriber_id)
        if person is None or person.status is Status.ERASED:
            return False
        _forget(connection, accounts, person.id, now=now)
    _noted(accounts, person.id)
    return True


def _forget(
    connection: Connection, accounts: Accounts, subscriber_id: int, *, now: datetime
) -> None:
    theirs = erasing.addresses(connection, subscriber_id)
    write_down(connection, accounts, subscriber_id, Status.ERASED, now=now)
    subscribers.unsubscribe(connection, subscriber_id, now=now, detail="by an erasure")
    standing.bar(connection, subscriber_id, Status.ERASED, now=now)
    erasing.erase(connection, subscriber_id, now=now)
    if accounts.inbox is not None:
        for address in theirs:  # before the commit, after which nobody would do it again
            inbox.forget(accounts.inbox, address)


def _noted(accounts: Accounts, subscriber_id: int) -> None:
    raise_mark(accounts.engine, accounts.data_dir)
    noted("Somebody was erased.", action="erase", subscriber_id=subscriber_id)


def _request(accounts: Accounts, subscriber_id: int, purpose: Purpose) -> Refusal | None:
    now = accounts.clock()
    try:
        with writing(accounts.engine) as connection:
            person = _subscribed(connection, subscriber_id)
            take_addresses(connection, accounts, [address_key(person.address)], now=now)
            ticket_id = tickets.add(connection, person.id, purpose, data={}, now=now)
            _send(connection, accounts, purpose, ticket_id, person, to=person.address)
    except Refused as refused:
        return refused.why
    return None


def _subscribed(connection: Connection, subscriber_id: int) -> Subscriber:
    """Somebody with a link to their settings: who left and kept it may take or erase what is held.

    Who never confirmed has none.
    """
    person = standing.locked(connection, subscriber_id)
    if person is None or person.status in (Status.ERASED, Status.PENDING):
        raise TokenError("This link's subscriber is not here.")
    return person


def _send(
    connection: Connection,
    accounts: Accounts,
    kind: str,
    ticket_id: int,
    person: Subscriber,
    *,
    to: str,
    **more: str,
) -> None:
    now = accounts.clock()
    purpose = Purpose.CHANGE if kind.startswith("change") else Purpose(kind)
    mails.send(
        connection,
        accounts,
        kind,
        f"ticket {ticket_id}",
        to=to,
        person=person,
        locale=person.locale,
        url=link(accounts, purpose, ticket_id, now=now),
        lasts=LIFETIMES[purpose] or mails.DAY,
        now=now,
        **more,
    )


def _held(connection: Connection, ticket_id: int, purpose: Purpose) -> tuple[Ticket, Subscriber]:
    """The ticket and its person, whom nobody else changes meanwhile; TokenError."""
    ticket = tickets.get(connection, ticket_id, purpose)
    person = standing.locked(connection, ticket.subscriber_id) if ticket else None
    # Read again: who had the person before may have used it.
    ticket = tickets.get(connection, ticket_id, purpose)
    if ticket is None or person is None:
        raise TokenError("This link is not here any more.")
    return ticket, person
