"""What became of deliveries: counts, reasons and failures, for people to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from digest import schema
from digest.models import State


def counts(
    connection: Connection, *, start: datetime, end: datetime, account: bool = False
) -> dict[State, int]:
    """How many digests (or account mails) due in (start, end] stand in each state."""
    table = schema.delivery
    kind = table.c.digest_id.is_(None) if account else table.c.digest_id.is_not(None)
    rows = connection.execute(
        select(table.c.state, func.count())
        .where(kind, table.c.due_at > start, table.c.due_at <= end)
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
        .where(
            table.c.digest_id.is_not(None),
            table.c.due_at > start,
            table.c.due_at <= end,
            table.c.state.in_(states),
        )
        .group_by(table.c.state, table.c.reason)
        .order_by(table.c.state, table.c.reason)
    )
    return {(State(state), reason): number for state, reason, number in rows}


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
        .where(
            table.c.due_at > start,
            table.c.due_at <= end,
            table.c.state.in_((State.FAILED, State.UNKNOWN)),
        )
        .order_by(table.c.due_at.desc(), table.c.id)
        .limit(limit)
    )
    return [dict(row) for row in rows.mappings()]
