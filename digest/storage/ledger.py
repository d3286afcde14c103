"""The ledger: every delivery's state, and what moves it once it was claimed.

planned -> claimed -> sending -> sent | deferred | failed | unknown | skipped. Each move names the
worker and the claim, so that one who lost a row changes nothing. All statements take many rows at
once: one transaction carries the results of many connections and the next attempts of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import NamedTuple

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Connection,
    Executable,
    Float,
    Insert,
    Integer,
    String,
    Update,
    and_,
    bindparam,
    case,
    exists,
    func,
    or_,
    select,
    text,
    true,
    update,
)

from digest import schema
from digest.models import State, Status
from digest.schema import Instant
from digest.storage.database import (
    given,
    insert_into,
    packed,
    unindexed,
)

OPEN = (State.PLANNED, State.DEFERRED)
RESEND = "resend"  # the reason of what was unknown and is to be sent again
POISON = "poison"  # of what is set aside, for it stops whoever sends it
# In the words of the partial indexes, which parameters would not be recognised by.
IS_OPEN = text("delivery.state IN ('planned', 'deferred')")


class Beginning(NamedTuple):
    """A claimed row whose content is to leave next, and the way it takes."""

    delivery_id: int
    claim: int
    route_id: int


class Result(NamedTuple):
    """How an attempt ended: the delivery's next state, and the server's words."""

    delivery_id: int
    claim: int
    route_id: int
    state: State
    started_at: datetime
    seconds: float
    reason: str = ""
    code: int | None = None
    enhanced: str | None = None
    text: str = ""
    spent: bool = True  # whether it counts against the delivery's attempts
    lost: bool = False  # whether the server's trouble struck
    tried: bool = True  # whether there is an attempt to remember
    at_rcpt: bool = False  # the server said it of the recipient's address
    next_attempt_at: datetime | None = None


def is_claimed() -> tuple[ColumnElement[bool], ...]:
    """Of rows that are given: the worker holds it, and has not begun."""
    table = schema.delivery
    return (
        unindexed(table.c.state) == State.CLAIMED,
        unindexed(table.c.worker_id) == bindparam("worker"),
    )


def expire(connection: Connection, *, now: datetime) -> int:
    """End what was not delivered in its time: `gave up`, or `superseded` if nothing was tried."""
    table = schema.delivery
    tried = table.c.attempts > 0
    # In one order, and without those that somebody claims now: several may do this at once.
    over = (
        select(table.c.id)
        .where(IS_OPEN, table.c.give_up_at <= now)
        .order_by(table.c.provider, table.c.priority, table.c.next_attempt_at)  # the index's
        .with_for_update(skip_locked=True)
    )
    return connection.execute(
        update(table)
        .where(table.c.id.in_(over))
        .values(
            state=case((tried, State.FAILED), else_=State.SKIPPED),
            reason=case((tried, "gave up"), else_="superseded"),
            ended_at=now,
        )
    ).rowcount


def is_unknown(connection: Connection, *, before: datetime, now: datetime) -> bool:
    """Whether there is anything for `resend_unknown`."""
    return bool(connection.execute(select(exists().where(_lost(before, now)))).scalar_one())


def _lost(before: datetime, now: datetime) -> ColumnElement[bool]:
    table = schema.delivery
    bad = text("delivery.state IN ('failed', 'unknown')")  # the words of the partial index
    return and_(
        bad, table.c.state == State.UNKNOWN, table.c.ended_at <= before, table.c.give_up_at > now
    )


def resend_unknown(connection: Connection, *, before: datetime, now: datetime) -> int:
    """Let unknown rows that ended before then be tried again, with the same Message-ID."""
    table = schema.delivery
    return connection.execute(
        update(table)
        .where(_lost(before, now))
        .values(state=State.DEFERRED, reason=RESEND, next_attempt_at=now, ended_at=None)
    ).rowcount


def begin(
    connection: Connection, worker_id: int, beginnings: Sequence[Beginning], *, now: datetime
) -> set[int]:
    """Move claimed rows to sending, if their subscribers may still be written to; which moved.

    The right to be left alone is read in the statement that makes the move, the last write before
    the content leaves (invariant 8). What may not go becomes `skipped` with the reason.
    """
    if not beginnings:
        return set()
    moved = connection.execute(
        _begun(connection.dialect.name),
        {"beginnings": packed(beginnings), "worker": worker_id, "now": now},
    ).rowcount
    wanted = {one.delivery_id: one for one in beginnings}
    if moved == len(wanted):
        return set(wanted)
    begun = _standing(
        connection, {(one.delivery_id, one.claim): State.SENDING for one in beginnings}
    )
    for delivery_id in wanted.keys() - begun:
        _skip(connection, worker_id, wanted[delivery_id], now=now)
    return begun


@cache
def _begun(dialect: str) -> Update:
    table, people, barred = schema.delivery, schema.subscriber, schema.suppression
    rows = given(
        dialect, bindparam("beginnings"), id=BigInteger(), claim=Integer(), route=BigInteger()
    )
    welcome = exists().where(
        people.c.id == table.c.subscriber_id,
        people.c.status == Status.ACTIVE,
        people.c.address == table.c.address,
        or_(people.c.paused_until.is_(None), people.c.paused_until <= bindparam("now")),
        ~exists().where(barred.c.address_hash == people.c.address_hash),
    )
    return (
        update(table)
        .where(
            table.c.id == rows.c.id,
            table.c.claim == rows.c.claim,
            *is_claimed(),
            # Account mail answers what the person asked for; unsubscribing does not bar it.
            or_(table.c.digest_id.is_(None), welcome),
        )
        .values(state=State.SENDING, started_at=bindparam("now"), route_id=rows.c.route)
    )


def _standing(connection: Connection, wanted: Mapping[tuple[int, int], State]) -> set[int]:
    """Which of these deliveries stand where they were to be moved, by (id, claim)."""
    table = schema.delivery
    found = connection.execute(
        select(table.c.id, table.c.claim, table.c.state).where(
            table.c.id.in_([delivery_id for delivery_id, _ in wanted])
        )
    )
    return {row.id for row in found if wanted.get((row.id, row.claim)) == row.state}


def _skip(connection: Connection, worker_id: int, one: Beginning, *, now: datetime) -> None:
    table, people, barred = schema.delivery, schema.subscriber, schema.suppression
    mine = and_(
        table.c.id == one.delivery_id,
        table.c.claim == one.claim,
        table.c.state == State.CLAIMED,
        table.c.worker_id == worker_id,
    )
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
        .where(mine)
    ).first()
    if row is None:  # no longer this worker's
        return
    if row.status != Status.ACTIVE:
        reason = str(row.status or Status.ERASED)
    elif not row.same_address:
        reason = "address changed"
    elif row.paused_until is not None and row.paused_until > now:
        reason = str(Status.PAUSED)
    else:
        reason = row.reason
    # What stood in the way may be gone since: then the row waits again.
    waiting = case((table.c.attempts > 0, State.DEFERRED), else_=State.PLANNED)
    connection.execute(
        update(table)
        .where(mine)
        .values(
            state=State.SKIPPED if reason else waiting,
            reason=reason or "",
            ended_at=now if reason else None,
            worker_id=None,
        )
    )


def finish(
    connection: Connection, worker_id: int, results: Sequence[Result], *, now: datetime
) -> set[int]:
    """Store how attempts ended, each with its row of history; which deliveries moved.

    A row may end from `claimed`: refused before its content was asked for, nothing had begun. A
    late answer wins: a row that was given up as `unknown` meanwhile is `sent` or `failed` after
    all, as long as nobody claimed it again; and it was sent, though it was set aside meanwhile, or
    was to be sent again.
    """
    if not results:
        return set()
    moved = connection.execute(
        _finished(connection.dialect.name),
        {"endings": _endings(results, now=now), "worker": worker_id},
    ).rowcount
    if moved == len(results):
        found = {one.delivery_id for one in results}
    else:
        found = _standing(connection, {(one.delivery_id, one.claim): one.state for one in results})
    connection.execute(
        _remembered(connection.dialect.name),
        {
            "history": _history(one for one in results if one.delivery_id in found),
            "worker": worker_id,
        },
    )
    return found


def _endings(results: Iterable[Result], *, now: datetime) -> str:
    return packed(
        (
            *(one.delivery_id, one.claim, one.state, one.reason, int(one.spent)),
            *(int(one.lost), one.code, one.enhanced),
            "" if one.state is State.SENT else one.text,
            one.next_attempt_at,
            None if one.state in OPEN else now,
        )
        for one in results
    )


def _history(results: Iterable[Result]) -> str:
    return packed(
        (
            *(one.delivery_id, one.claim, one.route_id, one.started_at, one.seconds),
            *(one.state, one.code, one.enhanced, one.text),
        )
        for one in results
        if one.tried
    )


@cache
def _finished(dialect: str) -> Update:
    table = schema.delivery
    rows = given(
        dialect,
        bindparam("endings"),
        id=BigInteger(),
        claim=Integer(),
        state=String(),
        reason=String(),
        spent=Integer(),
        lost=Integer(),
        code=Integer(),
        enhanced=String(),
        text=String(),
        next_attempt_at=Instant(),
        ended_at=Instant(),
    )
    state, was_held = unindexed(table.c.state), (State.CLAIMED, State.SENDING)
    held = and_(state.in_(was_held), unindexed(table.c.worker_id) == bindparam("worker"))
    given_up = or_(
        and_(state == State.UNKNOWN, rows.c.state.in_((State.SENT, State.FAILED))),
        and_(
            rows.c.state == State.SENT,
            or_(
                and_(state == State.DEFERRED, table.c.reason == RESEND),
                and_(state == State.FAILED, table.c.reason == POISON),
            ),
        ),
    )
    return (
        update(table)
        .where(table.c.id == rows.c.id, table.c.claim == rows.c.claim, or_(held, given_up))
        .values(
            state=rows.c.state,
            reason=rows.c.reason,
            # Given up, it was charged already.
            attempts=table.c.attempts + case((table.c.state.in_(was_held), rows.c.spent), else_=0),
            losses=table.c.losses + rows.c.lost,
            code=rows.c.code,
            enhanced=rows.c.enhanced,
            text=rows.c.text,
            next_attempt_at=func.coalesce(rows.c.next_attempt_at, table.c.next_attempt_at),
            ended_at=rows.c.ended_at,
            worker_id=None,
        )
    )


@cache
def _remembered(dialect: str, finished: CTE | None = None) -> Insert:
    table = schema.attempt
    rows = given(
        dialect,
        bindparam("history"),
        delivery_id=BigInteger(),
        claim=Integer(),
        route_id=BigInteger(),
        started_at=Instant(),
        seconds=Float(),
        outcome=String(),
        code=Integer(),
        enhanced=String(),
        text=String(),
    )
    # "WHERE true" keeps SQLite from reading ON CONFLICT as the condition of a join.
    of_these = true() if finished is None else rows.c.delivery_id.in_(select(finished.c.id))
    chosen = select(*rows.c, bindparam("worker", type_=BigInteger())).where(of_these)
    statement = insert_into(dialect, table).from_select([*rows.c.keys(), "worker_id"], chosen)
    late = statement.excluded
    found: Insert = statement.on_conflict_do_update(
        index_elements=["delivery_id", "claim"],
        set_={name: late[name] for name in ("seconds", "outcome", "code", "enhanced", "text")},
    )
    return found


def exchange_all(
    connection: Connection,
    worker_id: int,
    results: Sequence[Result],
    beginnings: Sequence[Beginning],
    *,
    now: datetime,
) -> bool:
    """`finish` and `begin` in one statement of PostgreSQL's; False when some did not move.

    What did not move is for these two to explain: they may follow, and change nothing of the rest.
    """
    finished, begun = connection.execute(
        _exchanged(),
        {
            "endings": _endings(results, now=now),
            "history": _history(results),
            "beginnings": packed(beginnings),
            "worker": worker_id,
            "now": now,
        },
    ).one()
    return bool(finished == len(results) and begun == len(beginnings))


@cache
def _exchanged() -> Executable:
    table, dialect = schema.delivery, "postgresql"
    finished = _finished(dialect).returning(table.c.id).cte("finished")
    begun = _begun(dialect).returning(table.c.id).cte("begun")
    remembered = _remembered(dialect, finished).cte("remembered")
    counts = [select(func.count(moved.c.id)).scalar_subquery() for moved in (finished, begun)]
    return select(*counts).add_cte(remembered)
