"""Workers: who may hold rows of the ledger, and what becomes of the rows of one that died.

A worker's lease is its heartbeat, judged by the database's clock alone; on SQLite it is a locked
file, which the kernel lets go of when the process ends. Workers hold leases, rows do not.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    insert,
    literal,
    select,
    text,
    update,
)

from digest import schema
from digest.models import State
from digest.storage.database import clock, insert_into
from digest.storage.ledger import POISON

CRASHES = 3  # of workers with the same row in flight
# In the words of the partial index, which parameters would not be recognised by.
IS_HELD = text("delivery.state IN ('claimed', 'sending')")


def enter(connection: Connection) -> int:
    """Put this process on the list of workers; its id."""
    table, now = schema.worker, clock(connection)
    worker_id: int = connection.execute(
        insert(table)
        .values(host=socket.gethostname(), pid=os.getpid(), started_at=now, heartbeat_at=now)
        .returning(table.c.id)
    ).scalar_one()
    return worker_id


def beat(connection: Connection, worker_id: int) -> bool:
    """Renew the lease; False when it was taken away, and the worker must stop at once."""
    table = schema.worker
    return bool(
        connection.execute(
            update(table)
            .where(table.c.id == worker_id, table.c.stopped_at.is_(None))
            .values(heartbeat_at=clock(connection))
        ).rowcount
    )


def hold(connection: Connection, worker_id: int) -> bool:
    """Keep others from taking this worker for dead until the transaction ends; False if they did.

    What it claimed after that nobody would ever give back.
    """
    table = schema.worker
    mine = table.c.id == worker_id, table.c.stopped_at.is_(None)
    found = connection.execute(select(table.c.id).where(*mine).with_for_update(read=True))
    return found.first() is not None


def alive(connection: Connection) -> list[int]:
    """The ids of all who have not stopped, oldest first."""
    table = schema.worker
    return list(
        connection.execute(
            select(table.c.id).where(table.c.stopped_at.is_(None)).order_by(table.c.id)
        ).scalars()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """A worker that has not stopped, with the database's times."""

    id: int
    started_at: datetime
    heartbeat_at: datetime


def present(connection: Connection) -> list[Present]:
    """All who have not stopped, oldest first."""
    table = schema.worker
    rows = connection.execute(
        select(table.c.id, table.c.started_at, table.c.heartbeat_at)
        .where(table.c.stopped_at.is_(None))
        .order_by(table.c.id)
    )
    return [Present(**row) for row in rows.mappings()]


def overdue(connection: Connection, *, lease: timedelta) -> list[int]:
    """Those whose last heartbeat is longer ago than a lease."""
    table = schema.worker
    return list(
        connection.execute(
            select(table.c.id).where(
                table.c.stopped_at.is_(None), table.c.heartbeat_at < clock(connection) - lease
            )
        ).scalars()
    )


def leave(connection: Connection, worker_id: int, *, now: datetime) -> int:
    """Take this process off the list: its claims go back, what it has no answer to is unknown."""
    _stop(connection, [worker_id])
    return _settle(connection, [worker_id], now=now)


def give_back(connection: Connection, worker_id: int, delivery_ids: Collection[int]) -> None:
    """Let others have claimed rows that this worker is not going to send."""
    table = schema.delivery
    _give_back(connection, and_(table.c.worker_id == worker_id, table.c.id.in_(list(delivery_ids))))


def _give_back(connection: Connection, whose: ColumnElement[bool]) -> None:
    table = schema.delivery
    connection.execute(
        update(table)
        .where(whose, IS_HELD, table.c.state == State.CLAIMED)
        .values(
            state=case((table.c.attempts > 0, State.DEFERRED), else_=State.PLANNED),
            worker_id=None,
        )
    )


def _stop(connection: Connection, worker_ids: Collection[int]) -> list[int]:
    table = schema.worker
    return list(
        connection.execute(
            update(table)
            .where(table.c.id.in_(list(worker_ids)), table.c.stopped_at.is_(None))
            .values(stopped_at=clock(connection))
            .returning(table.c.id)
        ).scalars()
    )


def rescue(connection: Connection, worker_ids: Collection[int], *, now: datetime) -> int:
    """Take over from workers that died; how many rows are `unknown` now.

    What they had claimed goes back. What they were sending is unknown, for nobody can tell whether
    it arrived; a row that was in flight at three such ends is set aside as `failed (poison)`.
    """
    dead = _stop(connection, worker_ids)
    return _settle(connection, dead, now=now) if dead else 0


def _settle(connection: Connection, dead: Collection[int], *, now: datetime) -> int:
    table, attempts = schema.delivery, schema.attempt
    _give_back(connection, table.c.worker_id.in_(dead))
    lost = and_(IS_HELD, table.c.state == State.SENDING, table.c.worker_id.in_(dead))
    poison = table.c.crashes + 1 >= CRASHES
    fields = ["delivery_id", "claim", "worker_id", "route_id", "started_at", "outcome", "text"]
    history = select(
        *(table.c.id, table.c.claim, table.c.worker_id, table.c.route_id, table.c.started_at),
        literal(str(State.UNKNOWN)),
        literal("The process ended before the answer came."),
    ).where(lost)
    connection.execute(
        insert_into(connection.dialect.name, attempts)
        .from_select(fields, history)
        .on_conflict_do_nothing()
    )
    return connection.execute(
        update(table)
        .where(lost)
        .values(
            state=case((poison, State.FAILED), else_=State.UNKNOWN),
            reason=case((poison, POISON), else_="crash"),
            attempts=table.c.attempts + 1,
            crashes=table.c.crashes + 1,
            ended_at=now,
            worker_id=None,
        )
    ).rowcount
