"""Claims: what is due, and which worker is to send it.

A claim moves rows from planned or deferred to claimed, so that no other worker takes them. Its
number is counted up each time, and all later moves name it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Executable,
    String,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
    text,
    true,
    update,
)

from digest import schema
from digest.models import State
from digest.storage.database import given, instant, listed, packed, unindexed, unpacked
from digest.storage.ledger import IS_OPEN, OPEN, is_claimed

IS_ACCOUNT_MAIL = text("delivery.priority = 0")  # in the words of the partial index


class Claim(NamedTuple):
    """A row that this worker may try to send."""

    delivery_id: int
    claim: int
    provider: str
    priority: int  # 0 account mail, 1 digest
    attempts: int  # spent so far
    losses: int  # the server's trouble struck while it was in flight
    give_up_at: datetime


def claim(
    connection: Connection, worker_id: int, quotas: Mapping[str, int], *, now: datetime
) -> list[Claim]:
    """Claim what is due: of each receiving provider at most its quota, the longest due first."""
    alike: dict[int, list[str]] = {}
    for provider, quota in quotas.items():
        alike.setdefault(quota, []).append(provider)
    ids: list[int] = []
    for quota, providers in alike.items():
        rows = packed([one] for one in providers)
        chosen = _chosen(connection.dialect.name)
        ids += unpacked(connection.execute(chosen, {"rows": rows, "quota": quota, "now": now}))
    return _take(connection, worker_id, ids)


@cache
def _chosen(dialect: str) -> Executable:
    """The first rows of each of the providers that are given."""
    table = schema.delivery
    rows = given(dialect, bindparam("rows"), provider=String())
    chosen = (
        select(table.c.id)
        .where(table.c.provider == rows.c.provider, _due())
        .order_by(table.c.priority, table.c.next_attempt_at)
        .limit(bindparam("quota"))
    )
    if dialect == "postgresql":
        found = chosen.with_for_update(skip_locked=True).lateral()
        return select(listed(dialect, found.c.id)).select_from(rows.join(found, true()))
    # SQLite knows no LATERAL, but looks into the index for each of the given rows as well.
    row = table.alias("chosen")
    return select(listed(dialect, row.c.id)).select_from(
        rows.join(row, row.c.id.in_(chosen.correlate(rows)))
    )


def claim_again(
    connection: Connection, worker_id: int, provider: str, *, reason: str, now: datetime
) -> list[Claim]:
    """Claim one row of a provider that waits for this reason; the longest due."""
    table = schema.delivery
    ids = connection.execute(
        select(table.c.id)
        .where(table.c.provider == provider, table.c.reason == reason, _due())
        .order_by(table.c.next_attempt_at)
        .limit(1)
        .with_for_update(skip_locked=True),
        {"now": now},
    )
    return _take(connection, worker_id, list(ids.scalars()))


def claim_account_mail(
    connection: Connection, worker_id: int, *, now: datetime, limit: int, stopped: Collection[str]
) -> list[Claim]:
    """Claim account mail that is due, but for the providers that are stopped."""
    table = schema.delivery
    ids = connection.execute(
        select(table.c.id)
        .where(IS_ACCOUNT_MAIL, _due(), table.c.provider.not_in(stopped))
        .order_by(table.c.next_attempt_at)
        .limit(limit)
        .with_for_update(skip_locked=True),
        {"now": now},
    )
    return _take(connection, worker_id, list(ids.scalars()))


def _due() -> ColumnElement[bool]:
    table = schema.delivery
    return and_(
        IS_OPEN, table.c.next_attempt_at <= bindparam("now"), table.c.give_up_at > bindparam("now")
    )


def _take(connection: Connection, worker_id: int, ids: Sequence[int]) -> list[Claim]:
    if not ids:
        return []
    dialect, rows = connection.dialect.name, packed([one] for one in ids)
    connection.execute(_taken(dialect), {"rows": rows, "worker": worker_id})
    held = connection.execute(_claims(dialect), {"rows": rows, "worker": worker_id})
    return [Claim._make((*plain, instant(give_up_at))) for *plain, give_up_at in unpacked(held)]


@cache
def _taken(dialect: str) -> Executable:
    table = schema.delivery
    rows = given(dialect, bindparam("rows"), id=BigInteger())
    return (
        update(table)
        .where(table.c.id == rows.c.id, unindexed(table.c.state).in_(OPEN))
        .values(state=State.CLAIMED, claim=table.c.claim + 1, worker_id=bindparam("worker"))
    )


@cache
def _claims(dialect: str) -> Executable:
    table = schema.delivery
    rows = given(dialect, bindparam("rows"), id=BigInteger())
    fields = ("id", "claim", "provider", "priority", "attempts", "losses", "give_up_at")
    return (
        select(listed(dialect, *(table.c[name] for name in fields)))
        .select_from(rows.join(table, table.c.id == rows.c.id))
        .where(*is_claimed())
    )


def is_any(connection: Connection, *, now: datetime) -> bool:
    """Whether there is anything to claim, or to end because its time is over."""
    table = schema.delivery
    late = or_(table.c.next_attempt_at <= now, table.c.give_up_at <= now)
    return bool(connection.execute(select(exists().where(IS_OPEN, late))).scalar_one())


def providers(connection: Connection, *, now: datetime) -> list[str]:
    """The receiving providers that have rows to claim: a skip through the index."""
    table = schema.delivery
    first = select(func.min(table.c.provider).label("provider")).where(IS_OPEN)
    found = first.cte("found", recursive=True)
    later = (
        select(func.min(table.c.provider))
        .where(IS_OPEN, table.c.provider > found.c.provider)
        .scalar_subquery()
    )
    found = found.union_all(select(later).where(found.c.provider.is_not(None)))
    is_due = exists().where(
        IS_OPEN,
        table.c.provider == found.c.provider,
        table.c.priority.in_((0, 1)),
        table.c.next_attempt_at <= now,
    )
    return list(connection.execute(select(found.c.provider).where(is_due)).scalars())
