"""What became of deliveries, and what holds up the others: for people and machines to look at.

Digests are counted through `digest.due_at`, account mail through `account_mail.created_at`, and
what is open, held or bad through the partial indexes of the ledger, which has no index by time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, func, select, text, union_all

from digest import schema
from digest.models import State
from digest.storage.database import clock
from digest.storage.workers import IS_HELD

# Literally the conditions of the partial indexes: with bound values neither database could tell
# that an index holds all the rows that are asked for.
IS_OPEN = text("delivery.state IN ('planned', 'deferred')")
_BAD = text("delivery.state IN ('failed', 'unknown')")


def counts(
    connection: Connection, *, start: datetime, end: datetime, account: bool = False
) -> dict[State, int]:
    """How many digests due (or account mails made) in (start, end] stand in each state."""
    table = schema.delivery
    rows = connection.execute(
        select(table.c.state, func.count())
        .select_from(_made(account=account))
        .where(*_within(start, end, account=account))
        .group_by(table.c.state)
    )
    found = dict.fromkeys(State, 0)
    found.update((State(state), number) for state, number in rows)
    return found


def reasons(
    connection: Connection, *, start: datetime, end: datetime, states: Sequence[State]
) -> dict[tuple[State, str], int]:
    """How many digests due in (start, end] ended in these states, for each reason."""
    table = schema.delivery
    rows = connection.execute(
        select(table.c.state, table.c.reason, func.count())
        .select_from(_made(account=False))
        .where(*_within(start, end, account=False), table.c.state.in_(states))
        .group_by(table.c.state, table.c.reason)
        .order_by(table.c.state, table.c.reason)
    )
    return {(State(state), reason): number for state, reason, number in rows}


def _made(*, account: bool) -> FromClause:
    """The deliveries with what they deliver."""
    table, digests, mails = schema.delivery, schema.digest, schema.account_mail
    if account:
        return mails.join(table, table.c.account_mail_id == mails.c.id)
    return digests.join(table, table.c.digest_id == digests.c.id)


def _within(
    start: datetime, end: datetime, *, account: bool
) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    at = schema.account_mail.c.created_at if account else schema.digest.c.due_at
    return at > start, at <= end


def frozen(connection: Connection, *, start: datetime, end: datetime) -> int:
    """How many slots due in (start, end] have their row."""
    digests = schema.digest
    found: int = connection.execute(
        select(func.count()).where(digests.c.due_at > start, digests.c.due_at <= end)
    ).scalar_one()
    return found


def failures(
    connection: Connection, *, start: datetime, end: datetime, limit: int = 50
) -> list[Mapping[str, Any]]:
    """The deliveries due in (start, end] that failed or are unknown, with the server's words."""
    table = schema.delivery
    rows = connection.execute(
        select(
            table.c.id,
            table.c.subscriber_id,
            table.c.state,
            table.c.reason,
            table.c.code,
            table.c.text,
            table.c.due_at,
        )
        .where(_BAD, table.c.due_at > start, table.c.due_at <= end)
        .order_by(table.c.due_at.desc(), table.c.id)
        .limit(limit)
    )
    return [dict(row) for row in rows.mappings()]


def unknown(connection: Connection) -> int:
    """How many deliveries are unknown, whenever they were due."""
    found: int = connection.execute(
        select(func.count()).where(_BAD, schema.delivery.c.state == State.UNKNOWN)
    ).scalar_one()
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What waits for one receiving provider, planned or deferred."""

    provider: str
    rows: int
    due: int  # of these, what could go now
    since: datetime | None  # when the first of these could have gone


def queues(connection: Connection, *, now: datetime) -> list[Queue]:
    """What waits, for each provider, the longest queue first."""
    table = schema.delivery
    is_due = table.c.next_attempt_at <= now
    rows = connection.execute(
        select(
            table.c.provider,
            func.count().label("rows"),
            func.count().filter(is_due).label("due"),
            func.min(table.c.next_attempt_at).filter(is_due).label("since"),
        )
        .where(IS_OPEN)
        .group_by(table.c.provider)
        .order_by(func.count().desc(), table.c.provider)
    )
    return [Queue(**row) for row in rows.mappings()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """Digests of one slot that were due long ago and are not out."""

    slot: date
    number: int
    tried: int  # of these, those that a server has put off


def late(connection: Connection, *, due_before: datetime) -> list[Late]:
    """The slots with digests that were due by then and are neither out nor ended."""
    digests, deliveries = schema.digest, schema.delivery
    # Each half by its own partial index.
    waiting, held = (
        select(digests.c.slot, deliveries.c.attempts)
        .join(deliveries, deliveries.c.digest_id == digests.c.id)
        .where(state, deliveries.c.due_at <= due_before)
        for state in (IS_OPEN, IS_HELD)
    )
    found = union_all(waiting, held).subquery()
    rows = connection.execute(
        select(
            found.c.slot,
            func.count().label("number"),
            func.count().filter(found.c.attempts > 0).label("tried"),
        )
        .group_by(found.c.slot)
        .order_by(found.c.slot)
    )
    return [Late(**row) for row in rows.mappings()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """A route that is not open to mail: where to, why, since when, and when it is tried again."""

    relay: str
    provider: str  # "" for the relay as a whole
    state: str  # open | probing
    reason: str
    opened_at: datetime | None
    probe_at: datetime | None


def breakers(connection: Connection) -> list[Breaker]:
    """The routes that the circuit breaker stopped."""
    table = schema.route
    rows = connection.execute(
        select(*(table.c[name] for name in Breaker.__dataclass_fields__))
        .where(table.c.state != "closed")
        .order_by(table.c.relay, table.c.provider)
    )
    return [Breaker(**row) for row in rows.mappings()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A process that delivers and has not said that it ended."""

    host: str
    pid: int
    started_at: datetime
    silent: float  # seconds since its last heartbeat, by the database's clock


def workers(connection: Connection) -> list[Worker]:
    """The processes that have not said that they ended; one that died shows by its silence."""
    table, now = schema.worker, clock(connection)
    rows = connection.execute(
        select(table.c.host, table.c.pid, table.c.started_at, table.c.heartbeat_at)
        .where(table.c.stopped_at.is_(None))
        .order_by(table.c.id)
    )
    return [
        Worker(
            host=row.host,
            pid=row.pid,
            started_at=row.started_at,
            silent=max(0.0, (now - row.heartbeat_at).total_seconds()),
        )
        for row in rows
    ]
