"""Limits: how often people may ask, counted in the database, so that all processes agree.

Who asks is refused before anything is looked up, so a refusal tells nobody who subscribes.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_network

from sqlalchemy import Connection

from digest.pipeline.accounts.base import Accounts
from digest.storage import quotas
from digest.storage.quotas import DAY, HOUR

SUSPICIOUS = "suspicious"  # the kind of those that came faster than people type
CONFIRMATION = "confirmation"  # the kind of the quota that the operator is told of
_TRIES = 20  # by one page or person within the hour: nobody changes their mind more often
_PREFIX = {4: 24, 6: 64}  # what one person or provider has


class Refusal(StrEnum):
    """Why a request is not taken; none of it depends on who subscribes."""

    CLOSED = "closed"  # nobody may subscribe
    DOMAIN = "domain"  # not with this domain
    NO_MAIL = "no mail"  # the domain takes none
    NETWORK = "network"  # too many from this network within the hour
    ADDRESS = "address"  # this address was sent enough for today; said behind a link alone
    BUSY = "busy"  # too many from everywhere within the hour


class Refused(Exception):
    """A request is not taken; carries the reason out of the transaction, which it undoes."""

    def __init__(self, why: Refusal) -> None:
        super().__init__(why)
        self.why = why


def elsewhere(accounts: Accounts, key: str) -> Refusal | None:
    """Refusal.DOMAIN for an address outside of the domains that the settings name."""
    if accounts.signup == "domains" and key.rpartition("@")[2] not in accounts.domains:
        return Refusal.DOMAIN
    return None


def not_here(accounts: Accounts, key: str) -> Refusal | None:
    """Why an address is not among those that digests go to, by its domain; None if it is.

    It may take seconds, until the DNS has answered.
    """
    if why := elsewhere(accounts, key):
        return why
    if accounts.takes_mail is not None and not accounts.takes_mail(key.rpartition("@")[2]):
        return Refusal.NO_MAIL
    return None


def take_network(
    connection: Connection,
    accounts: Accounts,
    client: IPv4Address | IPv6Address,
    *,
    now: datetime,
) -> None:
    """Count a request of this client's network; Refused."""
    network = ip_network((client, _PREFIX[client.version]), strict=False)
    key, limit = _hashed(accounts, str(network)), accounts.limits.signups_hourly
    if not quotas.take(connection, "network", key, window=HOUR, now=now, limit=limit):
        raise Refused(Refusal.NETWORK)


def take_addresses(
    connection: Connection, accounts: Accounts, keys: Iterable[str], *, now: datetime
) -> None:
    """Count a mail to each of the addresses, by their keys; Refused."""
    for key in sorted(keys, key=lambda key: _hashed(accounts, key)):
        if not may_write(connection, accounts, key, now=now):
            raise Refused(Refusal.ADDRESS)


def may_write(connection: Connection, accounts: Accounts, key: str, *, now: datetime) -> bool:
    """Count a mail to the address with that key, if it did not get all of today's already."""
    limit, hashed = accounts.limits.account_mails_daily, _hashed(accounts, key)
    return quotas.take(connection, "address", hashed, window=DAY, now=now, limit=limit)


def take_confirmation(connection: Connection, accounts: Accounts, *, now: datetime) -> None:
    """Count a confirmation mail; Refused."""
    limit = accounts.limits.confirmations_hourly
    if not quotas.take(connection, CONFIRMATION, window=HOUR, now=now, limit=limit):
        raise Refused(Refusal.BUSY)


def take_try(connection: Connection, accounts: Accounts, what: str, *, now: datetime) -> None:
    """Count that something was tried by the page or person that `what` names; Refused."""
    key = _hashed(accounts, what)
    if not quotas.take(connection, "try", key, window=HOUR, now=now, limit=_TRIES):
        raise Refused(Refusal.BUSY)


def _hashed(accounts: Accounts, key: str) -> str:
    return hmac.digest(accounts.secrets[0], b"paper-digest quota\0" + key.encode(), "sha256").hex()
