"""The index of search, kept in step with the papers by the transaction that changes them.

A paper's place in it is a number by which all are in order of date: the day on which a source
listed it last, UTC, and its id. So the newest matches of a common word are read, and no others.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date
from typing import Any

from sqlalchemy import Connection, Integer, String, bindparam, delete, func, insert, select, text
from sqlalchemy import update as change

from digest import schema
from digest.models import Paper
from digest.schema.index import GIN
from digest.storage.database import given, insert_into, packed
from digest.storage.fulltext import columns, tsvector
from digest.topics.match import index
from digest.topics.spelling import FIELDS, spell, terms

_table, _text, _term = schema.indexed, schema.indexed_text, schema.term
_COUNTS = ("upvotes", "comments", "stars")
_MOST = 2_000_000_000  # of a count; a filter asks for no number beyond 999,999,999
_FACTS = (*_COUNTS, "code")
_ID_BITS = 32

_NAMES, _VALUES = ", ".join(FIELDS), ", ".join(f":{field}" for field in FIELDS)
_ADD = {
    "sqlite": f"INSERT INTO indexed_words (rowid, {_NAMES}) VALUES (:place, {_VALUES})",  # noqa: S608
    "postgresql": (
        "INSERT INTO indexed_words (place, terms) VALUES (:place, CAST(:terms AS tsvector))"
    ),
}
_FORGET = {
    "sqlite": (
        f"INSERT INTO indexed_words (indexed_words, rowid, {_NAMES})"  # noqa: S608 - our names
        f" VALUES ('delete', :place, {_VALUES})"
    ),
    "postgresql": "DELETE FROM indexed_words WHERE place = :place",
}


def place_of(paper: Paper) -> int:
    """Where a stored paper stands among all by date."""
    assert paper.listed_at is not None  # stored papers have one
    return paper.listed_at.astimezone(UTC).toordinal() << _ID_BITS | paper.id


def first_place(day: date) -> int:
    """Before all papers listed on `day` or later, and after all others."""
    return day.toordinal() << _ID_BITS


def id_at(place: int) -> int:
    """The id of the paper that stands there."""
    return place & ((1 << _ID_BITS) - 1)


def renew(connection: Connection, papers: Sequence[Paper]) -> None:
    """Index papers as they are now, at most 500 of them; none is merged into another."""
    count_terms(connection, _renew(connection, papers))


def forget(connection: Connection, paper_ids: Sequence[int]) -> None:
    """Papers that are merged into others are not found any more."""
    gone = _known(connection, paper_ids)
    _forget(connection, gone.values())
    counts: Counter[str] = Counter()
    for _, spelled in gone.values():
        counts.subtract(terms(spelled))
    count_terms(connection, counts)


def build(connection: Connection, papers: Iterable[Sequence[Paper]]) -> None:
    """Index papers that are not indexed yet, in pieces of at most 500."""
    whole = (
        connection.dialect.name == "postgresql"
        and not connection.execute(select(_table.c.place).limit(1)).first()
    )
    if whole:  # to make it at the end takes a tenth of the time
        connection.execute(text("DROP INDEX indexed_words_terms"))
    counts: Counter[str] = Counter()
    for some in papers:
        counts.update(_renew(connection, some))
    count_terms(connection, counts)
    if whole:
        connection.execute(text(GIN))


def _renew(connection: Connection, papers: Sequence[Paper]) -> Counter[str]:
    """Index them; in how many more papers, or less, each term is now."""
    known = _known(connection, [paper.id for paper in papers])
    gone: list[tuple[int, str]] = []
    new: list[tuple[Paper, str]] = []
    same: list[Paper] = []
    counts: Counter[str] = Counter()
    for paper in papers:
        spelled = spell(index(paper))
        before = known.get(paper.id)
        if before == (place_of(paper), spelled):
            same.append(paper)
            continue
        if before:
            gone.append(before)
            counts.subtract(terms(before[1]))
        new.append((paper, spelled))
        counts.update(terms(spelled))
    _forget(connection, gone)
    _add(connection, new)
    if same:
        connection.execute(
            change(_table).where(_table.c.paper_id == bindparam("of")),
            [{"of": paper.id, **_facts(paper)} for paper in same],
        )
    return counts


def _known(connection: Connection, paper_ids: Sequence[int]) -> dict[int, tuple[int, str]]:
    """Where each paper stands, and as what."""
    rows = connection.execute(
        select(_table.c.paper_id, _table.c.place, _text.c.spelled)
        .join(_text, _text.c.place == _table.c.place)
        .where(_table.c.paper_id.in_(paper_ids))
    )
    return {row[0]: (row[1], zlib.decompress(row[2]).decode()) for row in rows}


def _facts(paper: Paper) -> dict[str, Any]:
    found: dict[str, Any] = {"code": "code" in paper.links}
    for name in _COUNTS:
        value = paper.signals.get(name)
        found[name] = None if value is None else max(-_MOST, min(_MOST, value))
    return found


def _add(connection: Connection, new: Sequence[tuple[Paper, str]]) -> None:
    if not new:
        return
    dialect = connection.dialect.name
    places = [place_of(paper) for paper, _ in new]
    connection.execute(
        insert(_table),
        [
            {"place": place, "paper_id": paper.id, **_facts(paper)}
            for place, (paper, _) in zip(places, new, strict=True)
        ],
    )
    connection.execute(
        insert(_text),
        [
            {"place": place, "spelled": zlib.compress(spelled.encode())}
            for place, (_, spelled) in zip(places, new, strict=True)
        ],
    )
    rows = [
        _words(dialect, place, spelled) for place, (_, spelled) in zip(places, new, strict=True)
    ]
    connection.execute(text(_ADD[dialect]), rows)


def _forget(connection: Connection, gone: Iterable[tuple[int, str]]) -> None:
    dialect = connection.dialect.name
    rows = [
        _words(dialect, place, spelled) if dialect == "sqlite" else {"place": place}
        for place, spelled in gone
    ]
    if not rows:
        return
    connection.execute(text(_FORGET[dialect]), rows)
    places = [row["place"] for row in rows]
    connection.execute(delete(_text).where(_text.c.place.in_(places)))
    connection.execute(delete(_table).where(_table.c.place.in_(places)))


def _words(dialect: str, place: int, spelled: str) -> dict[str, Any]:
    if dialect == "sqlite":
        return {"place": place, **columns(spelled)}
    return {"place": place, "terms": tsvector(spelled)}


# ------------------------------------------------------------------ in how many papers a term is


def count_terms(connection: Connection, counts: Mapping[str, int]) -> None:
    """Add to what is counted; in order of the terms, so that no two wait for one another."""
    changed = sorted((one, number) for one, number in counts.items() if number)
    if not changed:
        return
    rows = bindparam("rows", type_=String)
    more = given(connection.dialect.name, rows, term=String(), papers=Integer())
    statement = insert_into(connection.dialect.name, _term)
    statement = statement.from_select(
        ["term", "papers"], select(more.c.term, more.c.papers).where(text("true"))
    ).on_conflict_do_update(
        index_elements=[_term.c.term],
        set_={"papers": _term.c.papers + statement.excluded.papers},
    )
    connection.execute(statement, {"rows": packed(changed)})


def frequencies(connection: Connection, found: Iterable[str]) -> dict[str, int]:
    """In how many papers each of these terms is; those that are in none are left out."""
    wanted = [[one] for one in set(found)]
    asked = given(connection.dialect.name, bindparam("rows", packed(wanted)), term=String())
    rows = connection.execute(
        select(_term.c.term, _term.c.papers)
        .join(asked, asked.c.term == _term.c.term)
        .where(_term.c.papers > 0)
    )
    return {row[0]: row[1] for row in rows}


def size(connection: Connection) -> int:
    """How many papers are indexed."""
    return connection.execute(select(func.count()).select_from(_table)).scalar_one()
