"""Papers on a shelf to search in, and what topics would match of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Engine, select

from digest import schema
from digest.models import Fetch, Health, Paper, Record
from digest.storage import papers
from digest.storage.papers import Stored
from digest.topics.language import parse
from digest.topics.match import Document, index, match

NOW = datetime(2026, 5, 28, 6, tzinfo=UTC)
DAY = timedelta(days=1)


def said(name: str, title: str = "", *, source: str = "feed:lab", **fields: Any) -> Record:
    """A record of one paper that is no other's."""
    values: dict[str, Any] = {"listed_at": NOW, "url": f"https://example.org/{name}", **fields}
    return Record(source=source, external_id=name, title=title or f"Paper {name}", **values)


def store(connection: Connection, *found: Record, at: datetime = NOW) -> None:
    """Store them, each source's in a read of its own; all have to be taken."""
    stored = Stored()
    for source, group in groupby(found, key=lambda record: record.source):
        fetch = Fetch(source=source, health=Health.OK, records=tuple(group))
        stored = papers.store(connection, fetch, now=at, oldest=at - 9999 * DAY)
        assert not stored.refused


def live(connection: Connection) -> list[Paper]:
    """All papers that are none other's, newest first by day and number."""
    table = schema.paper
    rows = connection.execute(select(table).where(table.c.merged_into.is_(None))).mappings()
    found = [papers.paper_of(row) for row in rows]
    return sorted(found, key=_date, reverse=True)


def _date(paper: Paper) -> tuple[Any, int]:
    assert paper.listed_at is not None
    return paper.listed_at.date(), paper.id


def documents(connection: Connection) -> list[tuple[Paper, Document]]:
    return [(paper, index(paper)) for paper in live(connection)]


def matched(shelf: list[tuple[Paper, Document]], query: str) -> list[int]:
    """The ids of what a topic with that filter matches, newest first."""
    tree = parse(query)
    return [paper.id for paper, document in shelf if match(tree, document)]


@contextmanager
def trial(engine: Engine) -> Iterator[Connection]:
    """A transaction of which nothing stays."""
    options = {"digest_write": True}
    with engine.connect().execution_options(**options) as connection, connection.begin() as began:
        yield connection
        began.rollback()
