"""What the readers' pages show: the papers of a day, a week or a month, its neighbours, and one.

A day is one of UTC's; a paper belongs to the day on which a source listed it last.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

from sqlalchemy import ColumnElement, Connection, Date, cast, func, select, type_coerce

from digest import schema
from digest.errors import NotFound
from digest.models import Paper
from digest.storage import papers

_paper = schema.paper
_THERE = _paper.c.merged_into.is_(None)


def papers_listed(
    connection: Connection, first: date, end: date, *, start: int = 0, limit: int = 50
) -> list[Paper]:
    """The papers from `first` up to `end` in trending order: most votes first, then the newest."""
    # Sorted as keys: whole rows, with their abstracts, take ten times as long.
    keys = (
        select(_paper.c.id)
        .where(_THERE, *_between(first, end))
        .order_by(_paper.c.votes.desc(), _paper.c.listed_at.desc(), _paper.c.id)
        .offset(start)
        .limit(limit)
    )
    return by_id(connection, connection.execute(keys).scalars().all())


def around(connection: Connection, first: date, end: date) -> tuple[int, date | None, date | None]:
    """How many papers there are from `first` up to `end`; the last day with papers before, the
    first one after."""
    listed = _paper.c.listed_at
    count, before, after = connection.execute(
        select(
            select(func.count()).where(_THERE, *_between(first, end)).scalar_subquery(),
            select(func.max(listed)).where(_THERE, listed < _midnight(first)).scalar_subquery(),
            select(func.min(listed)).where(_THERE, listed >= _midnight(end)).scalar_subquery(),
        )
    ).one()
    return count, _day(before), _day(after)


def months(connection: Connection) -> list[tuple[date, date]]:
    """The months that have papers, oldest first: their first day, and the last one with papers."""
    found: list[tuple[date, date]] = []
    day = latest_day(connection)
    while day is not None:
        first = day.replace(day=1)
        found.append((first, day))
        day = latest_day(connection, before=first)
    return found[::-1]


def names_listed(
    connection: Connection, first: date, end: date, *, limit: int
) -> list[tuple[str, date]]:
    """The newest papers from `first` up to `end`: what their pages are called, and their days."""
    rows = connection.execute(
        select(_paper.c.id, _paper.c.arxiv_id, _paper.c.listed_at)
        .where(_THERE, *_between(first, end))
        .order_by(_paper.c.listed_at.desc(), _paper.c.id)
        .limit(limit)
    )
    return [(row.arxiv_id or str(row.id), row.listed_at.date()) for row in rows]


def by_id(connection: Connection, paper_ids: Sequence[int]) -> list[Paper]:
    """These papers, in this order; none for an id that no paper has."""
    rows = connection.execute(select(_paper).where(_paper.c.id.in_(paper_ids))).mappings()
    found = {row["id"]: papers.paper_of(row) for row in rows}
    return [found[paper_id] for paper_id in paper_ids if paper_id in found]


def latest_day(connection: Connection, *, before: date | None = None) -> date | None:
    """The last day that has papers, or the last one before `before`."""
    earlier = [] if before is None else [_paper.c.listed_at < _midnight(before)]
    return _day(
        connection.execute(
            select(func.max(_paper.c.listed_at)).where(_THERE, *earlier)
        ).scalar_one()
    )


def recent_days(connection: Connection, *, limit: int = 7) -> list[tuple[date, int]]:
    """The last days that have papers, newest first, and how many each has."""
    latest = latest_day(connection)
    if latest is None:
        return []
    listed = _paper.c.listed_at
    on_sqlite = connection.dialect.name == "sqlite"
    day = func.date(listed) if on_sqlite else cast(func.timezone("UTC", listed), Date)
    for days in (2 * limit, latest.toordinal() - 1):  # as a rule they are the last days of all
        first = latest - timedelta(days=days)
        rows = connection.execute(
            select(type_coerce(day, Date).label("day"), func.count())
            .where(_THERE, listed >= _midnight(first))
            .group_by(day)
            .order_by(day.desc())
            .limit(limit)
        ).all()
        if len(rows) == limit:
            break
    return [(row[0], row[1]) for row in rows]


def by_key(connection: Connection, kind: str, value: str) -> Paper:
    """The paper that has this arXiv id or DOI, or had it before it was merged; NotFound."""
    name = schema.identifier
    paper_id = connection.execute(
        select(name.c.paper_id).where(name.c.kind == kind, name.c.value == value)
    ).scalar_one_or_none()
    if paper_id is None:
        raise NotFound(f"There is no paper {value}.")
    return papers.get(connection, paper_id)


def votes_over_time(connection: Connection, paper_id: int) -> list[tuple[datetime, int]]:
    """The most votes that any source counted, each time that this changed."""
    signal, record = schema.signal, schema.record
    counts: dict[int, int] = {}
    found: list[tuple[datetime, int]] = []
    for record_id, seen_at, value in connection.execute(
        select(signal.c.record_id, signal.c.seen_at, signal.c.value)
        .join(record, record.c.id == signal.c.record_id)
        .where(record.c.paper_id == paper_id, signal.c.name == "upvotes")
        .order_by(signal.c.seen_at)
    ):
        counts[record_id] = value
        found.append((seen_at, max(counts.values())))
    return found


def _between(first: date, end: date) -> list[ColumnElement[bool]]:
    return [_paper.c.listed_at >= _midnight(first), _paper.c.listed_at < _midnight(end)]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _day(instant: datetime | None) -> date | None:
    return instant.date() if instant else None
