"""Gaps: what a database that was put back from a backup does not know."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, exists, insert, select, text, update

from digest import schema
from digest.models import State
from digest.storage import workers

REASON = "restored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """What was sent for the slots due in (start, end] is known to nobody."""

    start: datetime
    end: datetime


def add(connection: Connection, gap: Gap) -> None:
    """Remember a gap."""
    connection.execute(insert(schema.gap).values(start=gap.start, end=gap.end, recorded_at=gap.end))


def is_known(connection: Connection, start: datetime) -> bool:
    """Whether a gap with that start is there."""
    return bool(
        connection.execute(select(exists().where(schema.gap.c.start == start))).scalar_one()
    )


def load(connection: Connection) -> list[Gap]:
    """All gaps, in order of their start."""
    table = schema.gap
    rows = connection.execute(select(table.c.start, table.c.end).order_by(table.c.start))
    return [Gap(start=row.start, end=row.end) for row in rows]


def skip_ids(connection: Connection, *, now: datetime) -> None:
    """Give out no id again that was given out since the backup: links and Message-IDs hold them.

    They go on from the time, in milliseconds. So nothing need be remembered of how far they had
    come: no table grows by a thousand rows a second from one restore to the next.
    """
    least = int(now.timestamp() * 1000)
    for name in schema.COUNTED:
        if connection.dialect.name == "postgresql":
            sequence = f"pg_get_serial_sequence('{name}', 'id')"
            connection.execute(
                text(f"SELECT setval({sequence}, greatest(:least, nextval({sequence})))"),
                {"least": least},
            )
            continue
        counter = {"name": name, "least": least}
        moved = connection.execute(
            text("UPDATE sqlite_sequence SET seq = max(seq, :least) WHERE name = :name"), counter
        ).rowcount
        if not moved:  # nothing was ever in there
            connection.execute(text("INSERT INTO sqlite_sequence VALUES (:name, :least)"), counter)


def settle(connection: Connection, gap: Gap) -> dict[State, int]:
    """End what was open when the backup was taken, for it may have been sent since; how many.

    What waited is `skipped`; what was being sent is `unknown`. What was unknown already may have
    been sent again since the backup: its time is over too, so that this is not done once more.
    """
    workers.rescue(connection, workers.alive(connection), now=gap.end)
    table = schema.delivery
    skipped = connection.execute(
        update(table)
        .where(
            table.c.state.in_([State.PLANNED, State.CLAIMED, State.DEFERRED]),
            table.c.due_at <= gap.end,
        )
        .values(state=State.SKIPPED, reason=REASON, worker_id=None, ended_at=gap.end)
    ).rowcount
    unknown = connection.execute(
        update(table)
        .where(table.c.state == State.UNKNOWN, table.c.give_up_at > gap.start)
        .values(reason=REASON, give_up_at=gap.end)
    ).rowcount
    # What was asked for was answered since, or is too long ago.
    connection.execute(delete(schema.request))
    return {State.SKIPPED: skipped, State.UNKNOWN: unknown}
