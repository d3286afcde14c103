"""The ledger: every delivery's state, and the only statements that move it.

planned -> claimed -> sending -> sent | deferred | failed | unknown | skipped. Each move names the
worker and the claim, so that one who lost a row changes nothing.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    exists,
    insert,
    literal,
    or_,
    select,
    true,
    update,
)

from digest import schema
from digest.models import State, Status

_OPEN = (State.PLANNED, State.DEFERRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A row that this worker may try to send."""

    delivery_id: int
    claim: int
    worker_id: int
    attempts: int
    give_up_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How an attempt ended: the delivery's next state, and the server's words."""

    state: State
    seconds: float
    reason: str = ""
    code: int | None = None
    enhanced: str | None = None
    text: str = ""
    spent: bool = True  # whether it counts against the delivery's attempts
    next_attempt_at: datetime | None = None


def start_worker(connection: Connection, *, now: datetime) -> int:
    """Enter this process in the list of workers; its id."""
    table = schema.worker
    worker_id: int = connection.execute(
        insert(table)
        .values(host=socket.gethostname(), pid=os.getpid(), started_at=now, heartbeat_at=now)
        .returning(table.c.id)
    ).scalar_one()
    return worker_id


def stop_worker(connection: Connection, worker_id: int, *, now: datetime) -> None:
    """Strike this process off the list and give back what it claimed."""
    deliveries = schema.delivery
    _give_back(connection, deliveries.c.worker_id == worker_id)
    connection.execute(
        update(schema.worker).where(schema.worker.c.id == worker_id).values(stopped_at=now)
    )


def recover(connection: Connection, *, now: datetime) -> int:
    """Take over from workers that died; only the holder of the delivery lock may ask for it.

    What they had claimed goes back; what they were sending is `unknown`, for nobody can tell
    whether it arrived. Returns how many of the latter.
    """
    deliveries, attempts, workers = schema.delivery, schema.attempt, schema.worker
    _give_back(connection, true())
    lost = list(
        connection.execute(
            update(deliveries)
            .where(deliveries.c.state == State.SENDING)
            .values(
                state=State.UNKNOWN,
                reason="crash",
                attempts=deliveries.c.attempts + 1,
                ended_at=now,
                worker_id=None,
            )
            .returning(deliveries.c.id)
        ).scalars()
    )
    connection.execute(
        update(attempts)
        .where(attempts.c.delivery_id.in_(lost), attempts.c.outcome == State.SENDING)
        .values(outcome=State.UNKNOWN, text="The process ended before the answer came.")
    )
    connection.execute(update(workers).where(workers.c.stopped_at.is_(None)).values(stopped_at=now))
    return len(lost)


def give_back(connection: Connection, held: Claim) -> None:
    """Let another have a claimed row that this worker cannot send."""
    _give_back(connection, _mine(held))


def _give_back(connection: Connection, whose: ColumnElement[bool]) -> None:
    table = schema.delivery
    connection.execute(
        update(table)
        .where(whose, table.c.state == State.CLAIMED)
        .values(
            state=case((table.c.attempts > 0, State.DEFERRED), else_=State.PLANNED),
            worker_id=None,
        )
    )


def _mine(held: Claim) -> ColumnElement[bool]:
    table = schema.delivery
    return and_(
        table.c.id == held.delivery_id,
        table.c.state == State.CLAIMED,
        table.c.claim == held.claim,
        table.c.worker_id == held.worker_id,
    )


def is_due(connection: Connection, *, now: datetime) -> bool:
    """Whether there is anything to claim."""
    return bool(connection.execute(select(exists().where(_due(now)))).scalar_one())


def _due(now: datetime) -> ColumnElement[bool]:
    table = schema.delivery
    return and_(table.c.state.in_(_OPEN), table.c.next_attempt_at <= now, table.c.give_up_at > now)


def claim(
    connection: Connection, worker_id: int, *, now: datetime, limit: int, account: bool = False
) -> list[Claim]:
    """Claim what is due, account mail first (or alone), then the longest due."""
    table = schema.delivery
    lowest = 0 if account else 1
    # Read once, as a table of its own: PostgreSQL may run a subquery with LIMIT several times.
    chosen = (
        select(table.c.id)
        .where(_due(now), table.c.priority <= lowest)
        .order_by(table.c.priority, table.c.next_attempt_at, table.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("chosen")
    )
    rows = connection.execute(
        update(table)
        .where(table.c.id.in_(select(chosen.c.id)))
        .values(state=State.CLAIMED, claim=table.c.claim + 1, worker_id=worker_id)
        .returning(table.c.id, table.c.claim, table.c.attempts, table.c.give_up_at)
    )
    return [
        Claim(
            delivery_id=row.id,
            claim=row.claim,
            worker_id=worker_id,
            attempts=row.attempts,
            give_up_at=row.give_up_at,
        )
        for row in rows
    ]


def expire(connection: Connection, *, now: datetime) -> int:
    """End what was not delivered in its time: `gave up`, or `superseded` if nothing was tried."""
    table = schema.delivery
    tried = table.c.attempts > 0
    return connection.execute(
        update(table)
        .where(table.c.state.in_(_OPEN), table.c.give_up_at <= now)
        .values(
            state=case((tried, State.FAILED), else_=State.SKIPPED),
            reason=case((tried, "gave up"), else_="superseded"),
            ended_at=now,
        )
    ).rowcount


def begin(connection: Connection, held: Claim, *, relay: str, now: datetime) -> State | None:
    """Move claimed to sending, if its subscriber may still be written to, and note the attempt.

    The right to be left alone is read in the statement that makes the move, the last write before
    the content leaves (invariant 8). A row that may not go becomes `skipped` with the reason.
    Returns the row's state, None when it is no longer this worker's.
    """
    table, people, barred = schema.delivery, schema.subscriber, schema.suppression
    welcome = exists().where(
        people.c.id == table.c.subscriber_id,
        people.c.status == Status.ACTIVE,
        people.c.address == table.c.address,
        or_(people.c.paused_until.is_(None), people.c.paused_until <= now),
        ~exists().where(barred.c.address_hash == people.c.address_hash),
    )
    # Account mail answers what the person asked for; unsubscribing does not bar it.
    moved = connection.execute(
        update(table)
        .where(_mine(held), or_(table.c.digest_id.is_(None), welcome))
        .values(state=State.SENDING)
    ).rowcount
    if not moved:
        reason = _why_not(connection, held, now=now)
        if reason is None:
            return None
        connection.execute(
            update(table)
            .where(_mine(held))
            .values(state=State.SKIPPED, reason=reason, ended_at=now, worker_id=None)
        )
        return State.SKIPPED
    connection.execute(
        insert(schema.attempt).values(
            delivery_id=held.delivery_id,
            claim=held.claim,
            worker_id=held.worker_id,
            started_at=now,
            relay=relay,
            outcome=State.SENDING,
            text="",
        )
    )
    return State.SENDING


def spoil(connection: Connection, held: Claim, *, now: datetime) -> None:
    """End a claimed row whose message cannot be made; nothing was attempted."""
    table = schema.delivery
    connection.execute(
        update(table)
        .where(_mine(held))
        .values(
            state=State.FAILED,
            reason="poison",
            text="The mail could not be put together; the log says why.",
            ended_at=now,
            worker_id=None,
        )
    )


def _why_not(connection: Connection, held: Claim, *, now: datetime) -> str | None:
    table, people, barred = schema.delivery, schema.subscriber, schema.suppression
    row = connection.execute(
        select(
            people.c.status,
            (people.c.address == table.c.address).label("same_address"),
            people.c.paused_until,
            barred.c.reason,
        )
        .select_from(table)
        .outerjoin(people, people.c.id == table.c.subscriber_id)
        .outerjoin(barred, barred.c.address_hash == people.c.address_hash)
        .where(_mine(held))
    ).first()
    if row is None:
        return None
    if row.status != Status.ACTIVE:
        return str(row.status or Status.ERASED)
    if not row.same_address:
        return "address changed"
    if row.paused_until is not None and row.paused_until > now:
        return str(Status.PAUSED)
    reason: str | None = row.reason
    return reason


def finish(connection: Connection, held: Claim, result: Result, *, now: datetime) -> bool:
    """Store how an attempt ended; False when the row is no longer this worker's.

    A late answer wins: a row that was given up as `unknown` meanwhile is `sent` or `failed` after
    all, as long as nobody claimed it again.
    """
    table, attempts = schema.delivery, schema.attempt
    ended = result.state not in _OPEN
    under_way = and_(table.c.state == State.SENDING, table.c.worker_id == held.worker_id)
    given_up = and_(
        table.c.state == State.UNKNOWN, literal(result.state in (State.SENT, State.FAILED))
    )
    values: dict[str, Any] = {
        "state": result.state,
        "reason": result.reason,
        # Given up, it was charged already.
        "attempts": table.c.attempts + case((under_way, int(result.spent)), else_=0),
        "code": result.code,
        "enhanced": result.enhanced,
        "text": result.text,
        "worker_id": None,
        "ended_at": now if ended else None,
    }
    if result.next_attempt_at is not None:
        values["next_attempt_at"] = result.next_attempt_at
    moved = connection.execute(
        update(table)
        .where(
            table.c.id == held.delivery_id,
            table.c.claim == held.claim,
            or_(under_way, given_up),
        )
        .values(values)
    ).rowcount
    if not moved:
        return False
    connection.execute(
        update(attempts)
        .where(attempts.c.delivery_id == held.delivery_id, attempts.c.claim == held.claim)
        .values(
            seconds=result.seconds,
            outcome=result.state,
            code=result.code,
            enhanced=result.enhanced,
            text=result.text,
        )
    )
    return True
