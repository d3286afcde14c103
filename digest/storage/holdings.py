"""What is held about one person: every row that names them, for themselves to take away.

By the tables themselves: a new one with a `subscriber_id` is in it without a word here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, or_, select

from digest import schema

# What is nobody's own: how the house finds rows, and what a keyed hash is made with.
_UNSAID = {"next_due_at", "address_hash", "worker_id", "route_id", "claim", "losses", "crashes"}


def of(connection: Connection, subscriber_id: int) -> dict[str, Any]:
    """All of it by table, as JSON can say it; in order of the keys."""
    people, suppressed = schema.subscriber, schema.suppression
    deliveries, attempts, topics = schema.delivery, schema.attempt, schema.topic
    digests, mails, follows = schema.digest, schema.account_mail, schema.follow
    of = people.c.id == subscriber_id
    row = connection.execute(select(people.c.address_key, people.c.address_hash).where(of)).one()
    mine = or_(
        deliveries.c.digest_id.in_(_ids(digests, subscriber_id)),
        deliveries.c.account_mail_id.in_(_ids(mails, subscriber_id)),
    )
    requests, papers = schema.request, schema.paper
    wanted: dict[Table, ColumnElement[bool]] = {
        people: of,
        topics: topics.c.id.in_(
            select(follows.c.topic_id).where(follows.c.subscriber_id == subscriber_id)
        ),
        deliveries: mine,
        attempts: attempts.c.delivery_id.in_(select(deliveries.c.id).where(mine)),
        suppressed: suppressed.c.address_hash == row.address_hash,
        requests: requests.c.address_key == row.address_key,
    }
    for table in schema.metadata.sorted_tables:
        if "subscriber_id" in table.c and table not in wanted:
            wanted[table] = table.c.subscriber_id == subscriber_id
    held: dict[str, Any] = {
        table.name: _rows(connection, table, condition) for table, condition in wanted.items()
    }
    read = sorted({paper for one in held["digest"] for paper in one["paper_ids"]})
    columns = [papers.c[name] for name in ("id", "title", "url")]
    held["paper"] = [
        dict(found)
        for start in range(0, len(read), 500)
        for found in connection.execute(
            select(*columns).where(papers.c.id.in_(read[start : start + 500]))
        ).mappings()
    ]
    return held


def _ids(table: Table, subscriber_id: int) -> Any:
    return select(table.c.id).where(table.c.subscriber_id == subscriber_id)


def _rows(
    connection: Connection, table: Table, condition: ColumnElement[bool]
) -> Sequence[Mapping[str, Any]]:
    columns = [column for column in table.c if column.name not in _UNSAID]
    rows = connection.execute(select(*columns).where(condition).order_by(*table.primary_key))
    return [{name: _said(value) for name, value in row.items()} for row in rows.mappings()]


def _said(value: Any) -> Any:
    return value.isoformat() if isinstance(value, (date, datetime)) else value
