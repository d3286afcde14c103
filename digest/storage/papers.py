"""Papers: one for each work, whatever its sources call it; who may be mailed which, and its counts.

A work is found by its exact names, arXiv id and DOI; a record that names two papers merges them.
A title is a guess: it joins two papers only if one of them has no exact name, and always by a merge
that can be undone.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, RowMapping, insert, select
from sqlalchemy.exc import SQLAlchemyError

from digest import schema
from digest.errors import NotFound
from digest.models import Fetch, Health, Kind, Paper, Record, Signal
from digest.papers.combine import SeenRecord, renew
from digest.papers.identity import identifiers, title_identifiers
from digest.storage import records
from digest.storage.database import insert_ignoring
from digest.storage.merges import has_name, merge
from digest.storage.records import parts

log = logging.getLogger(__name__)

_EXACT = ("arxiv", "doi")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What one read of a source changed."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    refused: int = 0  # by the database


def store(connection: Connection, fetch: Fetch, *, now: datetime, oldest: datetime) -> Stored:
    """Store a read's records and make them papers.

    Records listed before `oldest` are stored but make no candidates. An answer that is half-filled
    or stale adds what is missing and changes nothing that is there. A record that cannot be stored
    is left out, and logged.
    """
    found = list({record.external_id: record for record in fetch.records}.values())
    whole = fetch.health not in (Health.HALF_FILLED, Health.STALE)
    counts = _store(connection, found, whole=whole, now=now, oldest=oldest)
    return Stored(**counts)


def _store(
    connection: Connection, found: Sequence[Record], *, whole: bool, now: datetime, oldest: datetime
) -> Counter[str]:
    """All records, or where one of them is refused, each half by itself."""
    try:
        with connection.begin_nested():
            return _store_all(connection, found, whole=whole, now=now, oldest=oldest)
    except (SQLAlchemyError, ValueError, OverflowError):
        if connection.invalidated:
            raise
        if len(found) == 1:
            name = f"{found[0].source} {found[0].external_id[:100]!r}"
            log.exception("%s cannot be stored.", name, extra={"action": "collect"})
            return Counter(refused=1)
    half = len(found) // 2
    counts = Counter[str]()
    for part in (found[:half], found[half:]):
        counts += _store(connection, part, whole=whole, now=now, oldest=oldest)
    return counts


def _store_all(
    connection: Connection, found: Sequence[Record], *, whole: bool, now: datetime, oldest: datetime
) -> Counter[str]:
    if not found:
        return Counter()
    ids = [record.external_id for record in found]
    known = records.known(connection, found[0].source, ids)
    found = [
        renew(records.record_of(known[record.external_id]), record, whole=whole)
        if record.external_id in known
        else record
        for record in found
    ]
    registry = _Registry(connection, found, now=now)
    touched: set[int] = set()
    counts = Counter[str]()
    for record in found:
        row = known.get(record.external_id)
        if row is None:
            paper_id = registry.resolve(record)
            fresh = record.kind in (Kind.NEW, Kind.CROSS) and record.listed_at >= oldest
            records.add(connection, record, paper_id, now=now, fresh=fresh)
            outcome = "new"
        else:
            paper_id = registry.resolve(record, known=row["paper_id"])
            changed = records.change(connection, row, record, now=now)
            outcome = "changed" if changed else "unchanged"
        registry.join(record, paper_id)
        counts[outcome] += 1
        if outcome != "unchanged":
            touched.add(paper_id)
    records.refresh(connection, touched | registry.grown)
    return counts


class _Registry:
    """Who owns which name of a work, while one read's records are stored."""

    def __init__(self, connection: Connection, found: Sequence[Record], *, now: datetime) -> None:
        self._connection, self._now = connection, now
        self._owner: dict[tuple[str, str], int] = {}
        self._into: dict[int, int] = {}  # papers that another took in
        self.grown: set[int] = set()  # papers that took in another
        table = schema.identifier
        by_kind: dict[str, set[str]] = defaultdict(set)
        for record in found:
            for kind, value in (*identifiers(record), *title_identifiers(record)):
                by_kind[kind].add(value)
        for kind, values in by_kind.items():
            for part in parts(sorted(values)):
                rows = connection.execute(
                    select(table.c.value, table.c.paper_id).where(
                        table.c.kind == kind, table.c.value.in_(part)
                    )
                )
                self._owner.update(((kind, value), paper_id) for value, paper_id in rows)

    def resolve(self, record: Record, *, known: int | None = None) -> int:
        """The paper of a record by its exact names: merged where they name two, or a new one."""
        names = identifiers(record)
        owners = [self._holder(self._owner[name]) for name in names if name in self._owner]
        unclaimed = [name for name in names if name not in self._owner]
        if any(kind == "arxiv" for kind, _ in unclaimed):
            # No paper has two arXiv ids, though authors type one DOI on several preprints.
            owners = [owner for owner in owners if not has_name(self._connection, owner, "arxiv")]
        if known is not None:
            owners.insert(0, self._holder(known))
            if unclaimed and has_name(self._connection, owners[0], "arxiv"):
                unclaimed = [name for name in unclaimed if name[0] != "arxiv"]
        paper_id, *others = dict.fromkeys(owners) or [self._insert(record)]
        for other in others:
            paper_id = self._merge(paper_id, other, record)
        self._claim(unclaimed, paper_id)
        return paper_id

    def join(self, record: Record, paper_id: int) -> None:
        """Merge a record's paper with those of the same title, where one side has no exact name."""
        names = title_identifiers(record)
        others = {self._holder(self._owner[name]) for name in names if name in self._owner}
        for other in sorted(others - {paper_id}):
            if not (self._is_named(paper_id) and self._is_named(other)):
                paper_id = self._merge(paper_id, other, record)
        self._claim(names, paper_id)

    def _holder(self, paper_id: int) -> int:
        while paper_id in self._into:
            paper_id = self._into[paper_id]
        return paper_id

    def _is_named(self, paper_id: int) -> bool:
        return has_name(self._connection, paper_id, *_EXACT)

    def _insert(self, record: Record) -> int:
        """A new row; it is filled from its records before the transaction ends."""
        values = {
            **dict.fromkeys(("abstract", "summary", "organisation", "venue", "comment"), ""),
            **{name: [] for name in ("authors", "keywords", "categories", "sources")},
            "title": record.title,
            "url": record.url,
            "links": {},
            "signals": {},
            "listed_at": record.listed_at,
            "first_seen_at": self._now,
            "withdrawn": False,
        }
        statement = insert(schema.paper).returning(schema.paper.c.id)
        paper_id: int = self._connection.execute(statement, values).scalar_one()
        return paper_id

    def _claim(self, names: Iterable[tuple[str, str]], paper_id: int) -> None:
        new = [name for name in names if name not in self._owner]
        if new:
            self._connection.execute(
                insert_ignoring(self._connection, schema.identifier),
                [{"kind": kind, "value": value, "paper_id": paper_id} for kind, value in new],
            )
            self._owner.update(dict.fromkeys(new, paper_id))

    def _merge(self, one: int, other: int, record: Record) -> int:
        """Merge two papers, the older one keeps its number; the paper that `one` is now."""
        kept, merged = min(one, other), max(one, other)
        reason = f"{record.source} {record.external_id} names both"
        if not merge(self._connection, kept, merged, reason=reason, now=self._now):
            return one
        self._into[merged] = kept
        self.grown.add(kept)
        return kept


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


def unindexed(connection: Connection) -> Iterator[list[Paper]]:
    """The papers that search does not find though it should, 500 at a time."""
    table, indexed = schema.paper, schema.indexed
    last = 0
    while True:
        rows = connection.execute(
            select(table)
            .outerjoin(indexed, indexed.c.paper_id == table.c.id)
            .where(table.c.id > last, table.c.merged_into.is_(None), indexed.c.place.is_(None))
            .order_by(table.c.id)
            .limit(500)
        ).mappings()
        found = [paper_of(row) for row in rows]
        if not found:
            return
        yield found
        last = found[-1].id


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


def by_id(connection: Connection, paper_ids: Collection[int]) -> list[Paper]:
    """The papers with these ids, as they are stored: also such as were merged into others."""
    table = schema.paper
    return [
        paper_of(row)
        for part in parts(sorted(paper_ids))
        for row in connection.execute(select(table).where(table.c.id.in_(part))).mappings()
    ]


def named(connection: Connection, names: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """The papers that have these names, by kind and value: `("arxiv", "2605.00001")`."""
    table = schema.identifier
    by_kind: dict[str, set[str]] = defaultdict(set)
    for kind, value in names:
        by_kind[kind].add(value)
    return {
        (kind, value): paper_id
        for kind, values in by_kind.items()
        for part in parts(sorted(values))
        for value, paper_id in connection.execute(
            select(table.c.value, table.c.paper_id).where(
                table.c.kind == kind, table.c.value.in_(part)
            )
        )
    }


def same_works(connection: Connection) -> dict[int, frozenset[int]]:
    """For each paper that was ever part of a merge, all papers that it was ever one with.

    Undone merges count too: undoing one makes nothing new again (invariant 5).
    """
    table = schema.merge
    groups: dict[int, set[int]] = {}
    for kept, merged in connection.execute(select(table.c.kept_id, table.c.merged_id)):
        joined = groups.get(kept, {kept}) | groups.get(merged, {merged})
        for member in joined:
            groups[member] = joined
    return {member: frozenset(group) for member, group in groups.items()}


def first_seen(connection: Connection, paper_ids: Collection[int]) -> dict[int, datetime]:
    """When each of these papers was stored first."""
    table = schema.paper
    found: dict[int, datetime] = {}
    for part in parts(sorted(paper_ids)):
        rows = connection.execute(
            select(table.c.id, table.c.first_seen_at).where(table.c.id.in_(part))
        )
        found.update((row.id, row.first_seen_at) for row in rows)
    return found


def signals(
    connection: Connection, papers: Sequence[Paper], *, now: datetime, gained: timedelta
) -> dict[int, list[Signal]]:
    """Each paper's counts by record, and what each gained within the last `gained`.

    The gain of a count that was first read within that time is what it grew since that reading.
    """
    record, table = schema.record, schema.signal
    found: dict[int, list[Signal]] = {paper.id: [] for paper in papers}
    for part in parts(sorted(found)):
        readings: dict[tuple[int, str], list[tuple[datetime, int]]] = defaultdict(list)
        for record_id, name, seen_at, value in connection.execute(
            select(table.c.record_id, table.c.name, table.c.seen_at, table.c.value)
            .join(record, record.c.id == table.c.record_id)
            .where(record.c.paper_id.in_(part), table.c.seen_at <= now)
            .order_by(table.c.seen_at)
        ):
            readings[record_id, name].append((seen_at, value))
        for record_id, paper_id, source, listed_at in connection.execute(
            select(record.c.id, record.c.paper_id, record.c.source, record.c.listed_at)
            .where(record.c.paper_id.in_(part))
            .order_by(record.c.id)
        ):
            day = listed_at.date()
            counted = False
            for name in ("upvotes", "comments", "stars"):
                series = readings.get((record_id, name))
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
    return [seen for _, found in records.of_papers(connection, [paper_id]) for seen in found]
