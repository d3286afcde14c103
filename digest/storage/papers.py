"""Papers: storing what sources said as records, one paper a work, merges that can be undone."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, RowMapping, and_, delete, func, insert, or_, select, update

from digest import schema
from digest.errors import NotFound
from digest.models import Fetch, Health, Kind, Paper, Record, Signal
from digest.papers.combine import SeenRecord, combine, renew
from digest.papers.identity import identifiers, title_identifiers
from digest.storage.database import insert_ignoring

_BATCH = 500
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What one read of a source changed."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0


def store(connection: Connection, fetch: Fetch, *, now: datetime, oldest: datetime) -> Stored:
    """Store a read's records and make them papers.

    Records listed before `oldest` are stored but make no candidates. An answer that is half-filled
    adds what is new and changes nothing that is there.
    """
    records = list({record.external_id: record for record in fetch.records}.values())
    known = _known_records(connection, fetch.source, [record.external_id for record in records])
    registry = _Registry(connection, records)
    touched: set[int] = set()
    counts = {"new": 0, "changed": 0, "unchanged": 0}
    for record in records:
        row = known.get(record.external_id)
        if row is None:
            outcome = "new"
            paper_id = registry.resolve(record, now=now)
            _insert_record(
                connection,
                record,
                paper_id,
                now=now,
                fresh=record.kind in (Kind.NEW, Kind.CROSS) and record.listed_at >= oldest,
            )
        elif fetch.health in (Health.HALF_FILLED, Health.STALE):
            counts["unchanged"] += 1
            continue
        else:
            paper_id = registry.resolve(record, now=now, known=row["paper_id"])
            outcome = _update_record(connection, row, record, now=now)
        grown = _store_signals(connection, paper_id, record, now=now)
        if outcome == "unchanged" and grown:
            outcome = "changed"
        if outcome != "unchanged" or paper_id in registry.merged:
            touched.add(paper_id)
        counts[outcome] += 1
    _refresh(connection, touched | registry.merged)
    return Stored(**counts)


def _known_records(
    connection: Connection, source: str, external_ids: Sequence[str]
) -> dict[str, RowMapping]:
    table = schema.record
    found: dict[str, RowMapping] = {}
    for part in _parts(external_ids):
        rows = connection.execute(
            select(
                table.c.id,
                table.c.source,
                table.c.external_id,
                table.c.paper_id,
                table.c.kind,
                table.c.version,
                table.c.listed_at,
                table.c.content_hash,
                table.c.content,
                table.c.raw,
            ).where(table.c.source == source, table.c.external_id.in_(part))
        ).mappings()
        found.update((row["external_id"], row) for row in rows)
    return found


def _parts(values: Sequence[T]) -> Iterable[Sequence[T]]:
    return (values[start : start + _BATCH] for start in range(0, len(values), _BATCH))


class _Registry:
    """Who owns which identifier, while one read's records are stored."""

    def __init__(self, connection: Connection, records: Sequence[Record]) -> None:
        self._connection = connection
        self._owner: dict[tuple[str, str], int] = {}
        self.merged: set[int] = set()  # papers that took in another
        wanted = {key for record in records for key in _keys(record)}
        table = schema.identifier
        by_kind: dict[str, list[str]] = defaultdict(list)
        for kind, value in wanted:
            by_kind[kind].append(value)
        for kind, values in by_kind.items():
            for part in _parts(sorted(values)):
                rows = connection.execute(
                    select(table.c.value, table.c.paper_id).where(
                        table.c.kind == kind, table.c.value.in_(part)
                    )
                )
                self._owner.update(((kind, value), paper_id) for value, paper_id in rows)

    def resolve(self, record: Record, *, now: datetime, known: int | None = None) -> int:
        """The paper of a record: found by its identifiers, merged when they name two, or new."""
        strong = identifiers(record)
        found = [self._owner[key] for key in strong if key in self._owner]
        if known is not None:
            found.append(known)
        if not found:
            found = self._by_title(record)
        papers = list(dict.fromkeys(found))
        if not papers:
            paper_id = _insert_paper(self._connection, record, now=now)
        else:
            apart = [
                other for other in papers[1:] if not self._merge(papers[0], other, record, now=now)
            ]
            # A pair that was set apart by hand stays so, and the record where it is.
            paper_id = known if known in apart else papers[0]
        self._claim(_keys(record), paper_id)
        return paper_id

    def _by_title(self, record: Record) -> list[int]:
        """The paper with the record's title key, if either side has no better name for the work."""
        for key in title_identifiers(record):
            owner = self._owner.get(key)
            if owner is None:
                continue
            if not identifiers(record) or not self._has_strong(owner):
                return [owner]
        return []

    def _has_strong(self, paper_id: int) -> bool:
        table = schema.identifier
        return bool(
            self._connection.execute(
                select(func.count()).where(
                    table.c.paper_id == paper_id, table.c.kind.in_(("arxiv", "doi"))
                )
            ).scalar_one()
        )

    def _claim(self, keys: Iterable[tuple[str, str]], paper_id: int) -> None:
        new = [key for key in keys if key not in self._owner]
        if new:
            self._connection.execute(
                insert_ignoring(self._connection, schema.identifier),
                [{"kind": kind, "value": value, "paper_id": paper_id} for kind, value in new],
            )
            self._owner.update((key, paper_id) for key in new)

    def _merge(self, kept: int, merged: int, record: Record, *, now: datetime) -> bool:
        reason = f"{record.source} {record.external_id} names both"
        if not merge(self._connection, kept, merged, reason=reason, now=now):
            return False
        self._owner = {
            key: kept if owner == merged else owner for key, owner in self._owner.items()
        }
        self.merged.discard(merged)
        self.merged.add(kept)
        return True


def _keys(record: Record) -> tuple[tuple[str, str], ...]:
    return (*identifiers(record), *title_identifiers(record))


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
    dumped = json.dumps([content, record.version], sort_keys=True, ensure_ascii=False)
    digest = hashlib.sha256(dumped.encode()).hexdigest()
    content["signals"] = dict(record.signals)
    return content, digest


def _insert_record(
    connection: Connection, record: Record, paper_id: int, *, now: datetime, fresh: bool
) -> None:
    content, digest = _content(record)
    connection.execute(
        insert(schema.record).values(
            source=record.source,
            external_id=record.external_id,
            paper_id=paper_id,
            kind=record.kind,
            version=record.version,
            fresh=fresh,
            listed_at=record.listed_at,
            first_seen_at=now,
            changed_at=now,
            content_hash=digest,
            content=content,
            raw=record.raw,
        )
    )


def _update_record(
    connection: Connection, row: RowMapping, record: Record, *, now: datetime
) -> str:
    """Bring a known record up to date; the first announcement's kind and day stay."""
    content, digest = _content(renew(_record(row), record))
    older = (record.version or 0) < (row["version"] or 0)
    withdrawn = record.kind is Kind.WITHDRAWN and row["kind"] != Kind.WITHDRAWN
    if older or (row["content_hash"] == digest and not withdrawn):
        if not older and row["content"]["signals"] != content["signals"]:
            connection.execute(
                update(schema.record)
                .where(schema.record.c.id == row["id"])
                .values(content={**row["content"], "signals": content["signals"]})
            )
        return "unchanged"
    connection.execute(
        update(schema.record)
        .where(schema.record.c.id == row["id"])
        .values(
            kind=Kind.WITHDRAWN if withdrawn else row["kind"],
            version=record.version or row["version"],
            changed_at=now,
            content_hash=digest,
            content=content,
            raw=record.raw,
        )
    )
    return "changed"


def _insert_paper(connection: Connection, record: Record, *, now: datetime) -> int:
    """A new row; `_refresh` fills it from its records before the transaction ends."""
    paper_id: int = connection.execute(
        insert(schema.paper)
        .values(
            **dict.fromkeys(("abstract", "summary", "organisation", "venue", "comment"), ""),
            **{name: [] for name in ("authors", "keywords", "categories", "sources")},
            title=record.title,
            url=record.url,
            links={},
            signals={},
            listed_at=record.listed_at,
            first_seen_at=now,
            withdrawn=False,
        )
        .returning(schema.paper.c.id)
    ).scalar_one()
    return paper_id


def _store_signals(connection: Connection, paper_id: int, record: Record, *, now: datetime) -> bool:
    """Add the readings that differ from the last one; whether any did."""
    if not record.signals:
        return False
    table = schema.signal
    readings = connection.execute(
        select(table.c.name, table.c.value)
        .where(table.c.paper_id == paper_id, table.c.source == record.source)
        .order_by(table.c.seen_at)
    )
    last = {row.name: row.value for row in readings}
    new = {name: value for name, value in record.signals.items() if last.get(name) != value}
    if new:
        connection.execute(
            insert_ignoring(connection, table),
            [
                {
                    "paper_id": paper_id,
                    "source": record.source,
                    "name": name,
                    "seen_at": now,
                    "value": value,
                }
                for name, value in new.items()
            ],
        )
    return bool(new)


def _refresh(connection: Connection, paper_ids: Iterable[int]) -> None:
    """Make the papers' content anew out of all their records."""
    table = schema.record
    for part in _parts(sorted(paper_ids)):
        records: dict[int, list[SeenRecord]] = defaultdict(list)
        for row in connection.execute(select(table).where(table.c.paper_id.in_(part))).mappings():
            records[row["paper_id"]].append(_seen(row))
        for paper_id, seen in records.items():
            paper = combine(seen)
            connection.execute(
                update(schema.paper)
                .where(schema.paper.c.id == paper_id)
                .values(
                    **{
                        name: _plain(getattr(paper, name))
                        for name in Paper.__dataclass_fields__
                        if name != "id"
                    }
                )
            )


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _seen(row: RowMapping) -> SeenRecord:
    return SeenRecord(
        id=row["id"],
        first_seen_at=row["first_seen_at"],
        fresh=row["fresh"],
        record=_record(row),
    )


def _record(row: RowMapping) -> Record:
    content = dict(row["content"])
    published = content.pop("published_at")
    for name in ("authors", "keywords", "categories"):
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


# ------------------------------------------------------------------ merging


def merge(connection: Connection, kept: int, merged: int, *, reason: str, now: datetime) -> bool:
    """Move all that `merged` has to `kept`.

    False where the pair was set apart by hand before, or where each has an arXiv id of its own:
    authors type one DOI on several preprints.
    """
    table, names = schema.merge, schema.identifier
    arxiv_ids = connection.execute(
        select(names.c.paper_id)
        .distinct()
        .where(names.c.kind == "arxiv", names.c.paper_id.in_((kept, merged)))
    ).all()
    if len(arxiv_ids) > 1:
        return False
    apart = connection.execute(
        select(table.c.id).where(
            table.c.undone_at.is_not(None),
            or_(
                and_(table.c.kept_id == kept, table.c.merged_id == merged),
                and_(table.c.kept_id == merged, table.c.merged_id == kept),
            ),
        )
    ).first()
    if apart is not None:
        return False
    records = schema.record
    papers = schema.paper
    moved: dict[str, list[Any]] = {
        "papers": list(
            connection.execute(select(papers.c.id).where(papers.c.merged_into == merged)).scalars()
        ),
        "records": list(
            connection.execute(
                select(records.c.id).where(records.c.paper_id == merged).order_by(records.c.id)
            ).scalars()
        ),
        "identifiers": [
            [kind, value]
            for kind, value in connection.execute(
                select(names.c.kind, names.c.value)
                .where(names.c.paper_id == merged)
                .order_by(names.c.kind, names.c.value)
            )
        ],
    }
    _move(connection, moved, merged, kept)
    connection.execute(
        update(papers)
        .where(or_(papers.c.id == merged, papers.c.merged_into == merged))
        .values(merged_into=kept, fresh_at=None)
    )
    connection.execute(
        insert(table).values(
            kept_id=kept, merged_id=merged, reason=reason, moved=moved, merged_at=now
        )
    )
    return True


def _move(
    connection: Connection, moved: Mapping[str, Sequence[Any]], origin: int, target: int
) -> None:
    records, names, signals = schema.record, schema.identifier, schema.signal
    sources = set()
    for part in _parts(moved["records"]):
        chosen = records.c.id.in_(part)
        sources |= set(connection.execute(select(records.c.source).where(chosen)).scalars())
        connection.execute(update(records).where(chosen).values(paper_id=target))
    for kind, value in moved["identifiers"]:
        connection.execute(
            update(names)
            .where(names.c.kind == kind, names.c.value == value)
            .values(paper_id=target)
        )
    there = select(signals.c.seen_at).where(signals.c.paper_id == target)
    readings = and_(signals.c.paper_id == origin, signals.c.source.in_(sorted(sources)))
    # Two readings of one source at one instant: the target's stands.
    connection.execute(delete(signals).where(readings, signals.c.seen_at.in_(there)))
    connection.execute(update(signals).where(readings).values(paper_id=target))


def undo_merge(connection: Connection, paper_id: int, *, now: datetime) -> int:
    """Take the newest merge into (or of) a paper back and keep the two apart; the other's id."""
    table = schema.merge
    row = (
        connection.execute(
            select(table)
            .where(
                or_(table.c.kept_id == paper_id, table.c.merged_id == paper_id),
                table.c.undone_at.is_(None),
            )
            .order_by(table.c.id.desc())
        )
        .mappings()
        .first()
    )
    if row is None:
        raise NotFound(f"Paper {paper_id} has no merge to undo.")
    kept, merged = row["kept_id"], row["merged_id"]
    _move(connection, row["moved"], kept, merged)
    papers = schema.paper
    connection.execute(update(papers).where(papers.c.id == merged).values(merged_into=None))
    connection.execute(
        update(papers).where(papers.c.id.in_(row["moved"]["papers"])).values(merged_into=merged)
    )
    connection.execute(update(table).where(table.c.id == row["id"]).values(undone_at=now))
    _refresh(connection, [kept, merged])
    other: int = merged if paper_id == kept else kept
    return other


def same_works(connection: Connection) -> dict[int, frozenset[int]]:
    """For each paper that was ever part of a merge, all papers that it was ever one with.

    Undone merges count too: undoing one makes nothing new again (invariant 5).
    """
    groups: dict[int, set[int]] = {}
    for kept, merged in connection.execute(
        select(schema.merge.c.kept_id, schema.merge.c.merged_id)
    ):
        joined = groups.get(kept, {kept}) | groups.get(merged, {merged})
        for member in joined:
            groups[member] = joined
    return {member: frozenset(group) for member, group in groups.items()}


# ------------------------------------------------------------------ reading


def candidates(connection: Connection, *, since: datetime) -> list[Paper]:
    """The papers that are candidates since an instant, in order of id; never withdrawn ones."""
    table = schema.paper
    rows = connection.execute(
        select(table)
        .where(
            table.c.fresh_at > since, table.c.merged_into.is_(None), table.c.withdrawn.is_(False)
        )
        .order_by(table.c.id)
    ).mappings()
    return [paper_of(row) for row in rows]


def paper_of(row: RowMapping) -> Paper:
    """A row of the paper table as a value."""
    values = {name: row[name] for name in Paper.__dataclass_fields__}
    for name in ("authors", "keywords", "categories", "sources"):
        values[name] = tuple(values[name])
    return Paper(**values)


def get(connection: Connection, paper_id: int) -> Paper:
    """The paper with that id, or the one it was merged into; NotFound."""
    table = schema.paper
    row = connection.execute(select(table).where(table.c.id == paper_id)).mappings().first()
    if row is None:
        raise NotFound(f"There is no paper {paper_id}.")
    return get(connection, row["merged_into"]) if row["merged_into"] else paper_of(row)


def signals(
    connection: Connection, papers: Sequence[Paper], *, now: datetime, gained: timedelta
) -> dict[int, list[Signal]]:
    """Each paper's counts by source, and what each gained within the last `gained`.

    The gain of a count that was first read within that time is what it grew since that reading.
    """
    records, table = schema.record, schema.signal
    found: dict[int, list[Signal]] = {paper.id: [] for paper in papers}
    for part in _parts(sorted(found)):
        listed = {
            (paper_id, source): listed_at.date()
            for paper_id, source, listed_at in connection.execute(
                select(records.c.paper_id, records.c.source, func.max(records.c.listed_at))
                .where(records.c.paper_id.in_(part))
                .group_by(records.c.paper_id, records.c.source)
            )
        }
        readings: dict[tuple[int, str, str], list[tuple[datetime, int]]] = defaultdict(list)
        for paper_id, source, name, seen_at, value in connection.execute(
            select(table.c.paper_id, table.c.source, table.c.name, table.c.seen_at, table.c.value)
            .where(table.c.paper_id.in_(part), table.c.seen_at <= now)
            .order_by(table.c.seen_at)
        ):
            readings[paper_id, source, name].append((seen_at, value))
        for (paper_id, source), day in listed.items():
            counted = False
            for name in ("upvotes", "comments", "stars"):
                series = readings.get((paper_id, source, name))
                if series:
                    before = [value for seen, value in series if seen <= now - gained]
                    base = before[-1] if before else series[0][1]
                    last = series[-1][1]
                    counted = True
                    found[paper_id].append(
                        Signal(source=source, day=day, name=name, value=last, gain=last - base)
                    )
            if not counted:
                # The source counts nothing for it: it stands in its cell with a neutral score.
                found[paper_id].append(Signal(source=source, day=day, name="", value=0))
    return found


def records_of(connection: Connection, paper_id: int) -> list[SeenRecord]:
    """What a paper was made of, in the order in which it came."""
    table = schema.record
    rows = connection.execute(
        select(table).where(table.c.paper_id == paper_id).order_by(table.c.id)
    ).mappings()
    return [_seen(row) for row in rows]
