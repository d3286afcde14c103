"""Records: what each source said about a work, how its counts grew, and the paper made of them."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, RowMapping, bindparam, insert, select, update

from digest import schema
from digest.models import Kind, Paper, Record
from digest.papers.combine import SeenRecord, combine
from digest.storage import index
from digest.storage.database import insert_ignoring

_BATCH = 500
T = TypeVar("T")

_table = schema.record
_CONTENT = (
    "title",
    "url",
    "abstract",
    "summary",
    "authors",
    "arxiv_id",
    "doi",
    "organisation",
    "venue",
    "comment",
    "keywords",
    "categories",
)
_LISTS = ("authors", "keywords", "categories")
_PAPER = tuple(name for name in Paper.__dataclass_fields__ if name != "id")


def parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """`values` in pieces that one statement can name."""
    return (values[start : start + _BATCH] for start in range(0, len(values), _BATCH))


def known(
    connection: Connection, source: str, external_ids: Sequence[str]
) -> dict[str, RowMapping]:
    """The rows of those records that the source gave before, by its own name for them."""
    found: dict[str, RowMapping] = {}
    for part in parts(external_ids):
        rows = connection.execute(
            select(_table).where(_table.c.source == source, _table.c.external_id.in_(part))
        ).mappings()
        found.update((row["external_id"], row) for row in rows)
    return found


def add(
    connection: Connection, record: Record, paper_id: int, *, now: datetime, fresh: bool
) -> None:
    """Store a record that is new, and its counts."""
    content, digest = _content(record)
    values = {
        "source": record.source,
        "external_id": record.external_id,
        "paper_id": paper_id,
        "kind": record.kind,
        "version": record.version,
        "fresh": fresh,
        "listed_at": record.listed_at,
        "first_seen_at": now,
        "changed_at": now,
        "content_hash": digest,
        "content": content,
        "raw": record.raw,
    }
    statement = insert(_table).returning(_table.c.id)
    record_id: int = connection.execute(statement, values).scalar_one()
    _count(connection, record_id, record.signals, now=now)


def change(connection: Connection, row: RowMapping, record: Record, *, now: datetime) -> bool:
    """Bring a known record up to date; whether anything of it differs."""
    content, digest = _content(record)
    changes: dict[str, Any] = {}
    if row["content_hash"] != digest or row["kind"] != record.kind:
        changes = {
            "kind": record.kind,
            "version": record.version,
            "changed_at": now,
            "content_hash": digest,
            "raw": record.raw,
        }
    before = row["content"]["signals"]
    if not changes and before == content["signals"]:
        return False
    connection.execute(
        update(_table).where(_table.c.id == row["id"]).values(content=content, **changes)
    )
    grown = {name: value for name, value in record.signals.items() if before.get(name) != value}
    _count(connection, row["id"], grown, now=now)
    return True


def _count(
    connection: Connection, record_id: int, signals: Mapping[str, int], *, now: datetime
) -> None:
    readings = [
        {"record_id": record_id, "name": name, "seen_at": now, "value": value}
        for name, value in signals.items()
    ]
    if readings:
        connection.execute(insert_ignoring(connection, schema.signal), readings)


def _content(record: Record) -> tuple[dict[str, Any], str]:
    """The cleaned fields as JSON, and the hash that tells whether they changed.

    Signals are kept with them but not hashed: they change with every read.
    """
    content: dict[str, Any] = {}
    for name in _CONTENT:
        value = getattr(record, name)
        content[name] = list(value) if isinstance(value, tuple) else value
    content["published_at"] = record.published_at.isoformat() if record.published_at else None
    content["links"] = dict(record.links)
    # Written out, so that a lone surrogate is refused here and not by a mail server.
    dumped = json.dumps([content, record.version], sort_keys=True, ensure_ascii=False)
    digest = hashlib.sha256(dumped.encode()).hexdigest()
    content["signals"] = dict(record.signals)
    return content, digest


def record_of(row: RowMapping) -> Record:
    """A row of the record table as a value."""
    content = dict(row["content"])
    published = content.pop("published_at")
    for name in _LISTS:
        content[name] = tuple(content[name])
    return Record(
        source=row["source"],
        external_id=row["external_id"],
        kind=Kind(row["kind"]),
        version=row["version"],
        listed_at=row["listed_at"],
        published_at=datetime.fromisoformat(published) if published else None,
        raw=row["raw"],
        **content,
    )


def of_papers(
    connection: Connection, paper_ids: Sequence[int]
) -> Iterator[tuple[int, list[SeenRecord]]]:
    """What each paper is made of, in the order in which it came; no paper without a record."""
    for part in parts(sorted(paper_ids)):
        found: dict[int, list[SeenRecord]] = defaultdict(list)
        for row in connection.execute(
            select(_table).where(_table.c.paper_id.in_(part)).order_by(_table.c.id)
        ).mappings():
            found[row["paper_id"]].append(
                SeenRecord(
                    id=row["id"],
                    first_seen_at=row["first_seen_at"],
                    fresh=row["fresh"],
                    record=record_of(row),
                )
            )
        yield from found.items()


def refresh(connection: Connection, paper_ids: Iterable[int]) -> None:
    """Make the papers' content anew out of all their records, and find them by it."""
    table = schema.paper
    papers = [combine(seen, paper_id) for paper_id, seen in of_papers(connection, list(paper_ids))]
    rows = [
        {
            "of": paper.id,
            "votes": max(0, paper.signals.get("upvotes", 0)),
            **{name: _plain(getattr(paper, name)) for name in _PAPER},
        }
        for paper in papers
    ]
    if rows:
        connection.execute(update(table).where(table.c.id == bindparam("of")), rows)
    for part in parts(papers):
        index.renew(connection, part)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value
