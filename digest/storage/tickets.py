"""Tickets: links that were mailed to be used once, and what they are for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from digest import schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A mailed link: whose, what for, and when it was used."""

    id: int
    subscriber_id: int
    purpose: str
    data: Mapping[str, Any]
    created_at: datetime
    used_at: datetime | None


def add(
    connection: Connection,
    subscriber_id: int,
    purpose: str,
    *,
    data: Mapping[str, Any],
    now: datetime,
) -> int:
    """Make a ticket; its id."""
    table = schema.ticket
    found: int = connection.execute(
        insert(table)
        .values(subscriber_id=subscriber_id, purpose=purpose, data=data, created_at=now)
        .returning(table.c.id)
    ).scalar_one()
    return found


def amend(connection: Connection, ticket_id: int, data: Mapping[str, Any]) -> None:
    """Give a ticket other data."""
    table = schema.ticket
    connection.execute(update(table).where(table.c.id == ticket_id).values(data=data))


def get(connection: Connection, ticket_id: int, purpose: str) -> Ticket | None:
    """The ticket with that id, if it is for that purpose."""
    table = schema.ticket
    query = select(table).where(table.c.id == ticket_id, table.c.purpose == purpose)
    row = connection.execute(query).mappings().first()
    return None if row is None else Ticket(**row)


def use(connection: Connection, ticket_id: int, *, now: datetime) -> bool:
    """Mark it as used; False when it was already."""
    table = schema.ticket
    used = update(table).where(table.c.id == ticket_id, table.c.used_at.is_(None))
    return connection.execute(used.values(used_at=now)).rowcount == 1


def cancel(connection: Connection, subscriber_id: int) -> None:
    """Make somebody's tickets worth nothing, but for those that were used: these say so again."""
    table = schema.ticket
    connection.execute(
        delete(table).where(table.c.subscriber_id == subscriber_id, table.c.used_at.is_(None))
    )
