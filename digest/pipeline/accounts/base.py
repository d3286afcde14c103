"""What the accounts need beside the database, and how their links are written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from digest import locales
from digest.errors import InputError
from digest.models import Newcomer, Site, Subscriber, Wishes
from digest.rendering import Renderer
from digest.storage import house
from digest.suppression import address_hashes, address_key
from digest.tokens import Purpose, sign

log = logging.getLogger(__name__)

# The page behind each link; what follows is the token.
PATHS = {
    Purpose.UNSUBSCRIBE: "u",
    Purpose.PREFERENCES: "me",
    Purpose.FEEDBACK: "f",
    Purpose.VIEW: "v",
    Purpose.CONFIRM: "confirm",
    Purpose.UNDO: "undo",
    Purpose.CHANGE: "change",
    Purpose.EXPORT: "export",
    Purpose.ERASE: "erase",
    Purpose.CHOOSE: "choose",
    Purpose.SAVED: "saved",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How often people may ask; see the settings of the same names."""

    account_mails_daily: int
    signups_hourly: int
    confirmations_hourly: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """The accounts of a house: all functions of this package take one."""

    engine: Engine
    secrets: Sequence[bytes]
    renderer: Renderer
    site: Site
    clock: Callable[[], datetime]
    data_dir: Path  # of the journal and the mark
    provider: Callable[[str], str]  # who receives mail for an address
    usual: Wishes  # of somebody who did not say
    weekday: int = 0  # of a weekly digest, of somebody who did not say
    limits: Limits
    signup: str = "open"  # open | domains | closed
    domains: frozenset[str] = frozenset()  # lower-case A-labels
    takes_mail: Callable[[str], bool] | None = None  # whether a domain does; None: not asked
    welcome: bool = False
    inbox: Path | None = None  # local mode's Maildir


def link(
    accounts: Accounts, purpose: Purpose, subject: int, *, now: datetime, generation: int = 0
) -> str:
    """The URL of a page for that purpose."""
    token = sign(purpose, subject, secrets=accounts.secrets, now=now, generation=generation)
    return f"{accounts.site.base_url}/{PATHS[purpose]}/{token}"


def settings_link(accounts: Accounts, person: Subscriber, *, now: datetime) -> str:
    """The URL of somebody's settings."""
    return link(accounts, Purpose.PREFERENCES, person.id, now=now, generation=person.generation)


def newcomer(
    accounts: Accounts, address: str, wishes: Wishes, topics: Sequence[str] = ()
) -> Newcomer:
    """An address with its keys; AddressError."""
    key = address_key(address)
    return Newcomer(
        address=address,
        key=key,
        hashes=address_hashes(key, secrets=accounts.secrets),
        wishes=wishes,
        topics=tuple(topics),
    )


def hashes_of(accounts: Accounts, address: str) -> tuple[str, ...]:
    """The hashes of an address by all secrets, the newest first; none of an address that went."""
    return address_hashes(address_key(address), secrets=accounts.secrets) if address else ()


def spoken(locale: str, *, otherwise: str) -> str:
    """A language that has words, as a subscriber's is written: what was sent may be anything."""
    tag = locale.replace("-", "_")
    return tag if tag in locales.available() else otherwise


def raise_mark(engine: Engine, data_dir: Path) -> None:
    """Let no copy of the database from before now pass for it.

    That it cannot be raised stands in the way of nobody who wants to leave.
    """
    try:
        house.advance(engine, data_dir)
    except (OSError, InputError, SQLAlchemyError):
        log.exception(
            "The mark of the database cannot be raised: a copy from before now, put back by"
            " hand, would not be known as such.",
            extra={"action": "house"},
        )


def noted(sentence: str, *, action: str, subscriber_id: int) -> None:
    """Say what was done in the log, without an address."""
    log.info(sentence, extra={"action": action, "subscriber": subscriber_id})
