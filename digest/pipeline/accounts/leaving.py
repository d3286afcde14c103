"""Leaving: at once and for good, with an hour in which it can be undone, or be less than that.

The journal has it before the database commits, so that a restored backup takes nobody back in.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from digest import journal
from digest.cadence import local_instant
from digest.errors import InputError, NotFound
from digest.models import Frequency, Status, Subscriber
from digest.pipeline.accounts.base import Accounts, hashes_of, noted, raise_mark
from digest.storage import consents, optouts, standing, subscribers
from digest.storage.consents import Consent, What
from digest.storage.database import reading, writing
from digest.tokens import LIFETIMES, Purpose, sign

log = logging.getLogger(__name__)

LONGEST_PAUSE = timedelta(days=366)
LONGEST_COMMENT = 300  # characters
BY_LINK, BY_ONE_CLICK = "by the link in a mail", "by one click"
_HOUR = LIFETIMES[Purpose.UNDO] or timedelta()
_ADDRESS = re.compile(r"\S*@\S*")
_LEFT = (What.UNSUBSCRIBED, What.COMPLAINED, What.BOUNCED, What.UNDONE, What.CONFIRMED)


class Why(StrEnum):
    """Why somebody leaves, if they say."""

    TOO_MANY = "too many"  # mails
    NOT_FITTING = "not fitting"  # papers
    NEVER_ASKED = "never asked"  # for it
    ELSEWHERE = "elsewhere"  # they read them
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Somebody is out; `undo` is the token that brings them back within the hour, if any does."""

    undo: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Instead:
    """What somebody wants rather than to leave: a pause until a date, or one digest a week."""

    pause_until: date | None = None
    weekly: bool = False


def may_undo(status: Status, left: Consent, latest: Consent | None, *, now: datetime) -> bool:
    """Whether that leaving can be undone: it is their last step, by their own link, an hour ago."""
    return (
        status is Status.UNSUBSCRIBED
        and latest is not None
        and latest.id == left.id
        and left.what == What.UNSUBSCRIBED
        and left.source in (BY_LINK, BY_ONE_CLICK)
        and now < left.at + _HOUR
    )


def stop(accounts: Accounts, subscriber_id: int, *, detail: str) -> bool:
    """Stop writing to somebody, whoever asked for it; False when that was so already.

    The journal has it first, but cannot stand in the way of who wants to leave; nor can the mark,
    by which a database that lacks this is known.
    """
    now = accounts.clock()
    with writing(accounts.engine) as connection:
        left = subscribers.unsubscribe(connection, subscriber_id, now=now, detail=detail)
        if left:
            write_down(connection, accounts, subscriber_id, Status.UNSUBSCRIBED, now=now)
    if left:
        raise_mark(accounts.engine, accounts.data_dir)
    return left


def write_down(
    connection: Connection, accounts: Accounts, subscriber_id: int, kind: Status, *, now: datetime
) -> None:
    """Put an opt-out into the journal, before the transaction commits."""
    entry = optouts.entry(connection, subscriber_id, kind, secrets=accounts.secrets, now=now)
    try:
        journal.append(accounts.data_dir / journal.FILE, entry)
    except OSError:
        log.exception(
            "The journal of opt-outs cannot be written: after a restore from a backup,"
            " who leaves now would get mail again.",
            extra={"action": "unsubscribe"},
        )


def leave(accounts: Accounts, subscriber_id: int, *, detail: str = BY_LINK) -> Left:
    """Stop writing to somebody who said so by a link, known or not, any number of times."""
    stop(accounts, subscriber_id, detail=detail)
    now = accounts.clock()
    with reading(accounts.engine) as connection:
        try:
            person = subscribers.get(connection, subscriber_id)
        except NotFound:
            return Left(undo=None)
        latest = consents.latest(connection, subscriber_id, _LEFT)
        if latest is None or not _is_undoable(connection, accounts, person, latest, now=now):
            return Left(undo=None)
    return Left(undo=sign(Purpose.UNDO, latest.id, secrets=accounts.secrets, now=now))


def _is_undoable(
    connection: Connection, accounts: Accounts, person: Subscriber, left: Consent, *, now: datetime
) -> bool:
    latest = consents.latest(connection, person.id, _LEFT)
    if not may_undo(person.status, left, latest, now=now):
        return False
    # A complaint may have come after it, or before, when they had another account here.
    barred = standing.barred_for(connection, hashes_of(accounts, person.address))
    return barred <= {Status.UNSUBSCRIBED}


def undo(accounts: Accounts, left_id: int, *, instead: Instead | None = None) -> bool:
    """Take back a leaving, which UNDO's subject names; whether they get mail, be it later.

    Done twice it is done once. When it is too late, they come back by confirming. Raises InputError
    for a pause that cannot be.
    """
    now = accounts.clock()
    with writing(accounts.engine) as connection:
        left = consents.get(connection, left_id)
        person = standing.locked(connection, left.subscriber_id) if left else None
        if left is None or person is None:
            return False
        if person.status in (Status.ACTIVE, Status.PAUSED):
            return True  # it was undone, or they confirmed anew
        if not _is_undoable(connection, accounts, person, left, now=now):
            return False
        paused_until = person.paused_until
        standing.activate(
            connection,
            person,
            hashes=hashes_of(accounts, person.address),
            # By this the journal knows that they came back, even if the clock was set back.
            confirmed_at=max(now, left.at + timedelta(microseconds=1)),
            now=now,
        )
        consents.add(connection, person.id, What.UNDONE, source="by undo", now=now)
        if instead is not None and instead.weekly:
            _weekly(connection, person, weekday=accounts.weekday, now=now)
        if instead is not None and instead.pause_until is not None:
            paused_until = _end_of_pause(person, instead.pause_until, now=now)
        if paused_until is not None and paused_until > now:
            person = subscribers.get(connection, person.id)
            standing.pause(connection, person, until=paused_until, now=now)
    noted("Somebody came back within the hour.", action="undo", subscriber_id=person.id)
    return True


def explain(accounts: Accounts, left_id: int, *, why: Why, comment: str = "") -> bool:
    """Keep why somebody left, by the token for undoing it; False when that is over."""
    now, said = accounts.clock(), _ADDRESS.sub("<address>", " ".join(comment.split()))
    with writing(accounts.engine) as connection:
        left = consents.get(connection, left_id)
        if left is None or now >= left.at + _HOUR:
            return False
        consents.explain(connection, left_id, reason=why, comment=said[:LONGEST_COMMENT])
    return True


def pause(accounts: Accounts, subscriber_id: int, until: date) -> datetime:
    """Let nothing be due before that date; when it ends. InputError, NotFound.

    It ends by itself as that date begins where they are.
    """
    now = accounts.clock()
    with writing(accounts.engine) as connection:
        person = _subscribed(connection, subscriber_id)
        end = _end_of_pause(person, until, now=now)
        standing.pause(connection, person, until=end, now=now)
    return end


def resume(accounts: Accounts, subscriber_id: int) -> bool:
    """End a pause now; False when there was none. NotFound."""
    now = accounts.clock()
    with writing(accounts.engine) as connection:
        person = _subscribed(connection, subscriber_id)
        if person.status is Status.ACTIVE:
            return False
        # One that is over ended then.
        standing.resume(connection, person, since=min(now, person.paused_until or now))
    return True


def weekly(accounts: Accounts, subscriber_id: int) -> None:
    """Write to somebody once a week alone. NotFound."""
    now = accounts.clock()
    with writing(accounts.engine) as connection:
        person = _subscribed(connection, subscriber_id)
        _weekly(connection, person, weekday=accounts.weekday, now=now)


def _subscribed(connection: Connection, subscriber_id: int) -> Subscriber:
    person = standing.locked(connection, subscriber_id)
    if person is None or person.status not in (Status.ACTIVE, Status.PAUSED):
        raise NotFound("Nobody is subscribed by this link.")
    return person


def _weekly(connection: Connection, person: Subscriber, *, weekday: int, now: datetime) -> None:
    if person.frequency is Frequency.WEEKLY:
        return
    wishes = replace(standing.wishes_of(person), frequency=Frequency.WEEKLY, weekday=weekday)
    subscribers.change(connection, person.id, wishes, now=now)


def _end_of_pause(person: Subscriber, until: date, *, now: datetime) -> datetime:
    today = now.astimezone(ZoneInfo(person.zone)).date()
    if not today < until <= today + LONGEST_PAUSE:
        raise InputError("Choose a day from tomorrow on, within a year.")
    # A date that the zone skips begins when the next one does.
    end = local_instant(until, 0, person.zone)
    return end or local_instant(until + timedelta(days=1), 0, person.zone) or now + LONGEST_PAUSE
