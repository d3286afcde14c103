"""Requests: what was asked on a page, until it is answered by mail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, exists, insert, select, update

from digest import schema

AGAIN = timedelta(hours=1)  # until one that went wrong is tried once more
LASTS = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Somebody gave an address and wants mail there; whether it is theirs nobody knows."""

    id: int
    kind: str  # subscribe | lost link | choice | nothing
    address: str  # as typed
    address_key: str
    data: Mapping[str, Any]


def add(
    connection: Connection,
    kind: str,
    *,
    address: str,
    key: str,
    data: Mapping[str, Any],
    now: datetime,
) -> None:
    """Keep a request until `take` finds it."""
    connection.execute(
        insert(schema.request).values(
            kind=kind, address=address, address_key=key, data=data, created_at=now, due_at=now
        )
    )


def is_any(connection: Connection, *, now: datetime) -> bool:
    """Whether there is a request to answer."""
    table = schema.request
    return bool(connection.execute(select(exists().where(table.c.due_at <= now))).scalar_one())


def due(connection: Connection, *, now: datetime) -> int | None:
    """The request that has waited the longest; on PostgreSQL one that nobody else has."""
    table = schema.request
    return connection.execute(
        select(table.c.id)
        .where(table.c.due_at <= now)
        .order_by(table.c.due_at, table.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).scalar_one_or_none()


def take(connection: Connection, request_id: int) -> Request | None:
    """The request, which is no more: whoever takes it answers it in the same transaction."""
    table = schema.request
    row = (
        connection.execute(
            delete(table)
            .where(table.c.id == request_id)
            .returning(*(table.c[name] for name in Request.__dataclass_fields__))
        )
        .mappings()
        .first()
    )
    return None if row is None else Request(**row)


def put_off(connection: Connection, request_id: int, *, now: datetime) -> None:
    """Let a request that went wrong wait, for it must not hold up the others."""
    table = schema.request
    connection.execute(update(table).where(table.c.id == request_id).values(due_at=now + AGAIN))
