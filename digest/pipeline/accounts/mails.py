"""The mails of accounts: made of their templates, frozen, and put in the ledger before digests."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection

from digest import message
from digest.errors import AddressError
from digest.models import Subscriber
from digest.pipeline.accounts.base import Accounts, link
from digest.storage import account_mail, consents, standing
from digest.storage.consents import What
from digest.tokens import LIFETIMES, Purpose

DAY = timedelta(days=1)  # after which a server that puts a mail off is given up


def check(address: str) -> None:
    """Whether a header can name the address, and programs read it as it is; AddressError."""
    message.mailbox(address)
    if "=?" in address:  # RFC 2047, 5: no encoded word; many programs read one all the same
        raise AddressError("Mail programs would change this email address, because of its =? sign.")


def send(
    connection: Connection,
    accounts: Accounts,
    kind: str,
    request: str,
    *,
    to: str,
    person: Subscriber,
    locale: str,
    url: str,
    lasts: timedelta = DAY,
    now: datetime,
    **words: str,
) -> None:
    """Store a mail to an address, due now; once for a request, however often it is called.

    An earlier one of that kind that has not left is not sent: who clicks twice gets one mail.
    No name stands in it, for anybody may have typed one. `lasts` is how long its link works.
    """
    identity = message.message_id(kind, request, sender_address=accounts.site.sender_address)
    stored = account_mail.store(
        connection,
        kind,
        request,
        skeleton=accounts.renderer.skeleton(kind, locale=locale),
        personal={
            **message.freeze(name="", address=to, date=now, message_id=identity),
            **accounts.renderer.account_words(kind, locale=locale, url=url, **words),
        },
        address=to,
        provider=accounts.provider(to),
        subscriber_id=person.id,
        give_up_at=now + min(lasts, DAY),
        now=now,
    )
    if stored:
        standing.supersede_account_mail(connection, person.id, kind, request, now=now)


def send_confirmation(
    connection: Connection,
    accounts: Accounts,
    request: str,
    *,
    person: Subscriber,
    locale: str,
    source: str,
    now: datetime,
) -> None:
    """Ask somebody whether they want the digest, and note that they were asked, in which words."""
    skeleton = accounts.renderer.skeleton("confirm", locale=locale)
    asked = consents.add(
        connection,
        person.id,
        What.ASKED,
        source=source,
        now=now,
        text_version=skeleton.hash,
        locale=locale,
    )
    send(
        connection,
        accounts,
        "confirm",
        request,
        to=person.address,
        person=person,
        locale=locale,
        url=link(accounts, Purpose.CONFIRM, asked, now=now),
        lasts=LIFETIMES[Purpose.CONFIRM] or DAY,
        now=now,
    )
