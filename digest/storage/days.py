"""What the readers' pages show: the papers of a day and its neighbours, and the topics followed.

A day is one of UTC's; a paper belongs to the day on which a source listed it last.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from sqlalchemy import ColumnElement, Connection, func, select

from digest import schema
from digest.models import Paper, Topic
from digest.storage.papers import paper_of

_paper = schema.paper


def papers_on(connection: Connection, day: date, *, start: int = 0, limit: int = 50) -> list[Paper]:
    """The papers of `day` in trending order: most upvotes first, then by title."""
    upvotes = func.coalesce(_paper.c.signals["upvotes"].as_integer(), 0)
    rows = connection.execute(
        select(_paper)
        .where(*_listed(day))
        .order_by(upvotes.desc(), _paper.c.title, _paper.c.id)
        .offset(start)
        .limit(limit)
    ).mappings()
    return [paper_of(row) for row in rows]


def count_on(connection: Connection, day: date) -> int:
    """How many papers `day` has."""
    return connection.execute(
        select(func.count()).select_from(_paper).where(*_listed(day))
    ).scalar_one()


def latest_day(connection: Connection, *, before: date | None = None) -> date | None:
    """The last day that has papers, or the last one before `before`."""
    earlier = [] if before is None else [_paper.c.listed_at < _midnight(before)]
    return _day(
        connection.execute(
            select(func.max(_paper.c.listed_at)).where(_paper.c.merged_into.is_(None), *earlier)
        ).scalar_one()
    )


def next_day(connection: Connection, day: date) -> date | None:
    """The first day after `day` that has papers."""
    if day == date.max:
        return None
    return _day(
        connection.execute(
            select(func.min(_paper.c.listed_at)).where(
                _paper.c.merged_into.is_(None),
                _paper.c.listed_at >= _midnight(day + timedelta(days=1)),
            )
        ).scalar_one()
    )


def recent_days(connection: Connection, *, limit: int = 7) -> list[tuple[date, int]]:
    """The last days that have papers, newest first, and how many each has."""
    found: list[tuple[date, int]] = []
    day = latest_day(connection)
    while day is not None and len(found) < limit:
        found.append((day, count_on(connection, day)))
        day = latest_day(connection, before=day)
    return found


def topics_of(connection: Connection, subscriber_id: int) -> list[Topic]:
    """The topics that a subscriber follows, in order of slug."""
    topic, follow = schema.topic, schema.follow
    rows = connection.execute(
        select(topic.c.id, topic.c.slug, topic.c.name, topic.c.query)
        .join(follow, follow.c.topic_id == topic.c.id)
        .where(follow.c.subscriber_id == subscriber_id)
        .order_by(topic.c.slug)
    ).mappings()
    return [Topic(**row) for row in rows]


def _listed(day: date) -> list[ColumnElement[bool]]:
    listed = [_paper.c.merged_into.is_(None), _paper.c.listed_at >= _midnight(day)]
    if day < date.max:
        listed.append(_paper.c.listed_at < _midnight(day + timedelta(days=1)))
    return listed


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _day(instant: datetime | None) -> date | None:
    return instant.date() if instant else None
