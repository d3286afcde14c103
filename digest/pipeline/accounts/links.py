"""Links: what a token opens, and making those of old mails worth nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from digest.errors import NotFound, TokenError, TokenExpired
from digest.models import Status, Subscriber
from digest.pipeline.accounts.base import Accounts, link, noted
from digest.storage import consents, standing, subscribers, tickets
from digest.storage.consents import What
from digest.storage.database import reading, writing
from digest.tokens import Claim, Purpose, digest_of, verify

_OF_MAILS = (Purpose.PREFERENCES, Purpose.FEEDBACK, Purpose.VIEW)  # die when new ones are made


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a good token is about, and whose it is."""

    subject: int  # a subscriber, a digest (`digest_of`), a ticket or evidence, by the purpose
    person: Subscriber
    used: bool = False  # a ticket was used


def opened(accounts: Accounts, token: str, purpose: Purpose) -> Opened:
    """What a token opens; reads alone. TokenError, TokenExpired for what was replaced.

    Not for UNSUBSCRIBE, which is as friendly to people who are not here.
    """
    claim = verify(token, purpose, secrets=accounts.secrets, now=accounts.clock())
    with reading(accounts.engine) as connection:
        owner, used = _owner(connection, claim, purpose)
        try:
            person = subscribers.get(connection, -1 if owner is None else owner)
        except NotFound as error:
            raise TokenError("This link's subscriber is not here.") from error
        if person.status is Status.ERASED and not used:
            raise TokenError("This link's subscriber is erased.")
        wanted: int | None = claim.generation
        if purpose in _OF_MAILS:
            wanted = person.generation
        elif purpose is Purpose.SAVED:
            wanted = standing.saved_generation(connection, person.id)
    if claim.generation != wanted:
        raise TokenExpired("This link was replaced by newer ones.")
    return Opened(subject=claim.subject, person=person, used=used)


def _owner(connection: Connection, claim: Claim, purpose: Purpose) -> tuple[int | None, bool]:
    """Whose that is, and whether it is a ticket that was used."""
    if purpose in (Purpose.FEEDBACK, Purpose.VIEW):
        return digest_of(claim.subject)[0], False
    if purpose in (Purpose.CONFIRM, Purpose.UNDO):
        evidence = consents.get(connection, claim.subject)
        return (evidence.subscriber_id if evidence else None), False
    if purpose in (Purpose.CHANGE, Purpose.EXPORT, Purpose.ERASE):
        ticket = tickets.get(connection, claim.subject, purpose)
        return (None, False) if ticket is None else (ticket.subscriber_id, bool(ticket.used_at))
    return claim.subject, False


def renew(accounts: Accounts, subscriber_id: int) -> str:
    """Make the links of all mails so far worth nothing, but for the way out; the new settings' URL.

    What was mailed to be used once is, too: who asked for it may be whom this is to keep out.
    """
    now = accounts.clock()
    with writing(accounts.engine) as connection:
        person = known(connection, subscriber_id)
        standing.renew(connection, person.id)
        tickets.cancel(connection, person.id)
        consents.add(connection, person.id, What.RENEWED, source="by the settings", now=now)
        standing.close_account_mail(connection, person.id, reason="replaced", now=now)
        person = subscribers.get(connection, person.id)
    noted("Somebody made new links.", action="renew", subscriber_id=person.id)
    return link(accounts, Purpose.PREFERENCES, person.id, now=now, generation=person.generation)


def known(connection: Connection, subscriber_id: int) -> Subscriber:
    """Somebody who is here, whom nobody else changes or erases meanwhile. TokenError.

    To be called before anything of theirs is written: they may be erased since a token was opened.
    """
    person = standing.locked(connection, subscriber_id)
    if person is None or person.status is Status.ERASED:
        raise TokenError("This link's subscriber is not here.")
    return person


def saved_link(accounts: Accounts, subscriber_id: int) -> str:
    """The URL of the feed of what somebody saved, the same until it is revoked. TokenError."""
    with reading(accounts.engine) as connection:
        return _saved_link(connection, accounts, subscriber_id, now=accounts.clock())


def renew_saved_link(accounts: Accounts, subscriber_id: int) -> str:
    """Revoke the URL of that feed; the new one. TokenError."""
    with writing(accounts.engine) as connection:
        standing.renew(connection, known(connection, subscriber_id).id, saved=True)
        return _saved_link(connection, accounts, subscriber_id, now=accounts.clock())


def _saved_link(
    connection: Connection, accounts: Accounts, subscriber_id: int, *, now: datetime
) -> str:
    generation = standing.saved_generation(connection, subscriber_id)
    if generation is None:
        raise TokenError("This link's subscriber is not here.")
    return link(accounts, Purpose.SAVED, subscriber_id, now=now, generation=generation)
