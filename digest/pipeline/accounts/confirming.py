"""Confirming: whoever reads the mail of an address says that they want the digest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from digest.errors import TokenError, TokenExpired
from digest.models import Status, Wishes
from digest.pipeline.accounts.base import Accounts, hashes_of, noted, spoken
from digest.storage import consents, standing
from digest.storage.consents import Consent, What
from digest.storage.database import writing

_LEFT = (What.UNSUBSCRIBED, What.COMPLAINED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """Somebody gets the digest."""

    subscriber_id: int
    anew: bool  # by this very call


def may_confirm(status: Status, asked: Consent, left: Consent | None) -> bool:
    """Whether a link still brings somebody in: it was mailed after they left, if they did."""
    if status is Status.ERASED:
        return False
    return left is None or asked.id > left.id


def confirm(
    accounts: Accounts,
    asked_id: int,
    *,
    source: str,
    locale: str = "",
    text_version: str = "",
    wishes: Wishes | None = None,
    topics: Sequence[str] | None = None,
) -> Confirmed:
    """Begin to write to somebody, who was asked by the mail that CONFIRM's subject names.

    Done twice it is done once: later wishes go by the link to the settings. Only this lifts a
    suppression. Raises TokenError for somebody who is not here any more, TokenExpired where they
    left since they were asked.
    """
    now = accounts.clock()
    with writing(accounts.engine) as connection:
        asked = consents.get(connection, asked_id)
        person = standing.locked(connection, asked.subscriber_id) if asked else None
        if asked is None or person is None or asked.what != What.ASKED:
            raise TokenError("Whom this link asked is not here.")
        left = consents.latest(connection, person.id, _LEFT)
        if not may_confirm(person.status, asked, left):
            raise TokenExpired("They left after this link was mailed.")
        if person.status in (Status.ACTIVE, Status.PAUSED):
            return Confirmed(subscriber_id=person.id, anew=False)
        tongue = spoken(locale, otherwise=person.locale)
        wanted = replace(wishes or standing.wishes_of(person), name=person.name, locale=tongue)
        chosen = person.topics if topics is None else topics
        standing.wish(connection, person.id, wanted, topics=chosen)
        standing.activate(
            connection,
            replace(
                person,
                **{name: getattr(wanted, name) for name in Wishes.__dataclass_fields__},
            ),
            hashes=hashes_of(accounts, person.address),
            confirmed_at=now,
            now=now,
            welcome=accounts.welcome,
        )
        consents.add(
            connection,
            person.id,
            What.CONFIRMED,
            source=source,
            now=now,
            text_version=text_version,
            locale=tongue,
        )
    noted("Somebody confirmed.", action="confirm", subscriber_id=person.id)
    return Confirmed(subscriber_id=person.id, anew=True)
