"""Feedback: what readers said of papers. Papers that were ever merged stand for one another."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, func, select

from digest import schema
from digest.models import Action, Feedback
from digest.storage.database import insert_ignoring
from digest.storage.papers import same_works

_table = schema.feedback
# Who wants more like a paper does not want less like it.
_INSTEAD_OF = {Action.MORE: Action.LESS, Action.LESS: Action.MORE}


def give(
    connection: Connection,
    subscriber_id: int,
    paper_id: int,
    action: Action,
    *,
    digest_id: int | None = None,
    now: datetime,
) -> bool:
    """Note what somebody says of a paper; False when they had said so before, which stays."""
    works = _works(connection, paper_id)
    if opposite := _INSTEAD_OF.get(action):
        connection.execute(delete(_table).where(*_mine(subscriber_id, works, opposite)))
    if connection.execute(select(_table).where(*_mine(subscriber_id, works, action))).first():
        return False
    return bool(
        connection.execute(
            insert_ignoring(connection, _table).values(
                subscriber_id=subscriber_id,
                paper_id=paper_id,
                action=action,
                digest_id=digest_id,
                given_at=now,
            )
        ).rowcount
    )


def take_back(connection: Connection, subscriber_id: int, paper_id: int, action: Action) -> bool:
    """As if it had never been said; False when it was not."""
    works = _works(connection, paper_id)
    mine = _mine(subscriber_id, works, action)
    return bool(connection.execute(delete(_table).where(*mine)).rowcount)


def said(connection: Connection, subscriber_id: int, paper_id: int) -> set[Action]:
    """What somebody says of a paper."""
    works = _works(connection, paper_id)
    rows = select(_table.c.action).where(
        _table.c.subscriber_id == subscriber_id, _table.c.paper_id.in_(works)
    )
    return {Action(action) for action in connection.execute(rows).scalars()}


def given(
    connection: Connection,
    subscriber_id: int,
    action: Action | None = None,
    *,
    limit: int = 100,
    offset: int = 0,
) -> list[Feedback]:
    """What somebody said, the newest first, of papers as they are now; each paper once."""
    said = _given(subscriber_id, action).subquery()
    rows = (
        select(said)
        .order_by(said.c.given_at.desc(), said.c.id, said.c.action)
        .limit(limit)
        .offset(offset)
    )
    return [
        Feedback(
            paper_id=row.id,
            action=Action(row.action),
            title=row.title,
            url=row.url,
            given_at=row.given_at,
            digest_id=row.digest_id,
        )
        for row in connection.execute(rows)
    ]


def count(connection: Connection, subscriber_id: int, action: Action | None = None) -> int:
    """How many `given` would list."""
    said = _given(subscriber_id, action).subquery()
    return connection.execute(select(func.count()).select_from(said)).scalar_one()


def _given(subscriber_id: int, action: Action | None) -> Select[Any]:
    as_said, now = schema.paper.alias("as_said"), schema.paper.alias("as_is")
    rows = (
        select(
            now.c.id,
            now.c.title,
            now.c.url,
            _table.c.action,
            func.max(_table.c.given_at).label("given_at"),
            func.max(_table.c.digest_id).label("digest_id"),
        )
        .join(as_said, as_said.c.id == _table.c.paper_id)
        .join(now, now.c.id == func.coalesce(as_said.c.merged_into, as_said.c.id))
        .where(_table.c.subscriber_id == subscriber_id)
        .group_by(now.c.id, now.c.title, now.c.url, _table.c.action)
    )
    return rows if action is None else rows.where(_table.c.action == action)


def _works(connection: Connection, paper_id: int) -> Collection[int]:
    return same_works(connection).get(paper_id, frozenset({paper_id}))


def _mine(subscriber_id: int, works: Collection[int], action: Action) -> list[ColumnElement[bool]]:
    return [
        _table.c.subscriber_id == subscriber_id,
        _table.c.paper_id.in_(works),
        _table.c.action == action,
    ]
