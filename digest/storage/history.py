"""History: which papers somebody had, in the compact form in which digests outlive their content.

A paper counts as had while its delivery is, or may be, on its way (invariant 5).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from functools import cache

from sqlalchemy import (
    BigInteger,
    Connection,
    Executable,
    Text,
    bindparam,
    cast,
    func,
    select,
    type_coerce,
)

from digest import schema
from digest.models import State
from digest.storage.batches import listing, people_of
from digest.storage.database import given, instant, listed, packed, unpacked

_HAD = (State.SENT, State.UNKNOWN, State.PLANNED, State.CLAIMED, State.SENDING, State.DEFERRED)


def last_planned(
    connection: Connection, subscriber_ids: Collection[int]
) -> dict[int, datetime | None]:
    """When each one's last digest that was, or may be, sent was planned."""
    rows = unpacked(
        connection.execute(_last_planned(connection.dialect.name), {"ids": listing(subscriber_ids)})
    )
    return {subscriber_id: instant(last) if last else None for subscriber_id, last in rows}


@cache
def _last_planned(dialect: str) -> Executable:
    digests, deliveries, people = schema.digest, schema.delivery, people_of(dialect)
    # No join: of small tables PostgreSQL would read all deliveries again for each of the people.
    state = select(deliveries.c.state).where(deliveries.c.digest_id == digests.c.id)
    last = (
        select(digests.c.planned_at)
        .where(digests.c.subscriber_id == people.c.id, state.scalar_subquery().in_(_HAD))
        .order_by(digests.c.slot.desc())
        .limit(1)
    )
    return select(listed(dialect, people.c.id, last.scalar_subquery()))


def had(
    connection: Connection, subscriber_ids: Collection[int], *, since: datetime
) -> dict[int, set[int]]:
    """The papers in each one's digests due since then."""
    found: dict[int, set[int]] = {subscriber_id: set() for subscriber_id in subscriber_ids}
    for subscriber_id, paper_ids in unpacked(
        connection.execute(
            _had(connection.dialect.name), {"ids": listing(subscriber_ids), "since": since}
        )
    ):
        found[subscriber_id].update(paper_ids)
    return found


@cache
def _had(dialect: str) -> Executable:
    digests, deliveries, people = schema.digest, schema.delivery, people_of(dialect)
    paper_ids = (
        digests.c.paper_ids
        if dialect == "postgresql"
        else func.json(type_coerce(digests.c.paper_ids, Text))
    )
    return (
        select(listed(dialect, digests.c.subscriber_id, paper_ids))
        .join(people, people.c.id == digests.c.subscriber_id)
        .join(deliveries, deliveries.c.digest_id == digests.c.id)
        .where(digests.c.due_at >= bindparam("since"), deliveries.c.state.in_(_HAD))
    )


def had_between(
    connection: Connection,
    subscriber_ids: Collection[int],
    paper_ids: Collection[int],
    *,
    start: datetime,
    end: datetime,
) -> dict[int, set[int]]:
    """Which of these papers are in digests due in [start, end), for each who had any."""
    found: dict[int, set[int]] = defaultdict(set)
    for subscriber_id, paper_id in connection.execute(
        _had_between(connection.dialect.name),
        {
            "ids": listing(subscriber_ids),
            "papers": packed([paper_id] for paper_id in paper_ids),
            "start": start,
            "end": end,
        },
    ):
        found[subscriber_id].add(paper_id)
    return found


@cache
def _had_between(dialect: str) -> Executable:
    digests, deliveries, people = schema.digest, schema.delivery, people_of(dialect)
    unpack = func.json_each if dialect == "sqlite" else func.jsonb_array_elements_text
    held = unpack(digests.c.paper_ids).table_valued("value", joins_implicitly=True)
    paper_id = cast(held.c.value, BigInteger)
    sought = given(dialect, bindparam("papers"), id=BigInteger())
    return (
        select(digests.c.subscriber_id, paper_id)
        .join(people, people.c.id == digests.c.subscriber_id)
        .join(deliveries, deliveries.c.digest_id == digests.c.id)
        .where(
            digests.c.due_at >= bindparam("start"),
            digests.c.due_at < bindparam("end"),
            deliveries.c.state.in_(_HAD),
            paper_id.in_(select(sought.c.id)),
        )
    )
