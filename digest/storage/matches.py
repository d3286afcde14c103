"""Which papers match a filter, newest first, by the index alone: what topics would match, exactly.

Full text answers for the words and names of a filter, `indexed` for its counts. Where full text may
say too much (see `digest.storage.fulltext`) the papers themselves are looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from typing import Any

from sqlalchemy import Connection, select, text

from digest import schema
from digest.models import Paper
from digest.storage.database import unpacked
from digest.storage.fulltext import (
    UNHELD,
    UNPLACED,
    fts5,
    is_long,
    is_textual,
    needs_places,
    tsquery,
)
from digest.storage.index import first_place, id_at
from digest.storage.papers import paper_of
from digest.topics.match import index, match
from digest.topics.normal import leaves, loosened, normal
from digest.topics.query import And, Count, Flag, Not, Or, Query

_PIECE = 200  # papers that are looked at in one go


def matching(
    connection: Connection, query: Query, *, most: int, since: date | None = None
) -> list[int]:
    """The places of at most so many papers that match, the newest first; none listed before
    `since`."""
    sought = Sought.of(connection, query)
    found = sought.places(connection, most=None if sought.vague else most, since=since)
    return list(islice(sought.sure(connection, found), most))


@dataclass(slots=True, kw_only=True)
class Sought:
    """A filter made ready for one database."""

    query: Query
    dialect: str
    textual: Query | None  # that part of it which full text answers for all; in normal form
    others: tuple[Query, ...]  # what has to hold as well
    vague: bool  # some of what is found may not match
    doubtful: frozenset[int] | None  # which of it; None: all
    unplaced: bool = False  # there are papers whose phrases are not known, or whose words are not
    unheld: bool = False
    values: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, connection: Connection, query: Query) -> Sought:
        """Ask the database for what it does not know exactly."""
        dialect = connection.dialect.name
        whole: Query | None = normal(query)
        assert whole is not None
        long = any(map(is_long, leaves(whole)))
        if long:
            whole = loosened(whole, is_long)
        marked: dict[int, bool] = {}
        if dialect == "postgresql":
            marked = _marked(connection)
        unheld = any(marked.values())
        placed = whole is not None and any(map(needs_places, leaves(whole)))
        doubtful = frozenset(place for place, is_unheld in marked.items() if is_unheld or placed)
        textual, others = _divided(whole, dialect)
        return cls(
            query=query,
            dialect=dialect,
            textual=textual,
            others=others,
            vague=long or bool(doubtful),
            doubtful=None if long else doubtful,
            unplaced=bool(doubtful) and placed,
            unheld=unheld,
        )

    def places(
        self, connection: Connection, *, most: int | None, since: date | None = None
    ) -> list[int]:
        """Where the papers stand that may match, the newest first."""
        self.values = {}
        source, place, conditions = self.where()
        if since is not None:
            conditions += f" AND {place} >= {self.value(first_place(since))}"
        order = f"{place} DESC"
        if self.dialect == "postgresql" and self.textual is not None:
            # By the index of places it would look at the words of half the papers for a frequent
            # word; full text knows at once which have it.
            order = f"{place} + 0 DESC"
        limit = "" if most is None else f" LIMIT {self.value(most)}"
        statement = f"SELECT {place} AS place FROM {source}{conditions} ORDER BY {order}{limit}"  # noqa: S608
        return sorted(gathered(connection, statement, self.values), reverse=True)

    def where(self) -> tuple[str, str, str]:
        """What to read from, the column that is the place, and the conditions."""
        others = [self.condition(part) for part in self.others]
        if self.textual is None:
            return "indexed", "indexed.place", f" WHERE {' AND '.join(others or ['1 = 1'])}"
        place = "indexed_words.rowid" if self.dialect == "sqlite" else "indexed_words.place"
        source = "indexed_words"
        if others:
            # SQLite keeps to the order of tables that a CROSS JOIN names (lang_select.html, 2.2).
            cross = "CROSS " if self.dialect == "sqlite" else ""
            source += f" {cross}JOIN indexed ON indexed.place = {place}"
        conditions = " AND ".join([self.words(self.textual), *others])
        return source, place, f" WHERE {conditions}"

    def words(self, query: Query) -> str:
        """The condition on `indexed_words` that full text finds something."""
        if self.dialect == "sqlite":
            return f"indexed_words MATCH {self.value(fts5(query))}"
        asked = tsquery(query)
        if self.unplaced:
            loose = loosened(query, needs_places)
            more = f" & {tsquery(loose)}" if loose is not None else ""
            asked = f"({asked} | ('{UNPLACED}'{more}))"
        if self.unheld:
            asked = f"({asked} | '{UNHELD}')"
        return f"indexed_words.terms @@ CAST({self.value(asked)} AS tsquery)"

    def condition(self, query: Query) -> str:
        """The condition on `indexed` that a filter in normal form holds."""
        match query:
            case Not() if not (self.unplaced or self.unheld) or not is_textual(query):
                return f"NOT {self.condition(query.part)}"
            case Count():
                column = f"indexed.{query.field}"
                number = self.value(query.number)
                return f"({column} IS NOT NULL AND {column} {query.sign} {number})"
            case Flag():
                return f"(indexed.code = {self.value(query.wanted)})"
        if is_textual(query) and (self.dialect == "postgresql" or fts5(query) is not None):
            key = "rowid" if self.dialect == "sqlite" else "place"
            return f"indexed.place IN (SELECT {key} FROM indexed_words WHERE {self.words(query)})"  # noqa: S608
        assert isinstance(query, And | Or)
        word = " AND " if isinstance(query, And) else " OR "
        return f"({word.join(map(self.condition, query.parts))})"

    def value(self, value: Any) -> str:
        """A parameter of that value."""
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f":{name}"

    def sure(self, connection: Connection, found: Sequence[int]) -> Iterator[int]:
        """Those of the places whose papers match."""
        if not self.vague:
            yield from found
            return
        for start in range(0, len(found), _PIECE):
            piece = found[start : start + _PIECE]
            asked = [place for place in piece if self.doubtful is None or place in self.doubtful]
            papers = at_places(connection, asked)
            yield from (
                place
                for place in piece
                if place not in papers or match(self.query, index(papers[place]))
            )


def gathered(
    connection: Connection, statement: str, values: Mapping[str, Any], *, scored: bool = False
) -> list[Any]:
    """The places that a statement finds, or pairs of place and score, in no order.

    All in one value: to fetch thousands of rows one by one takes longer than to find them.
    """
    array, whole = (
        ("json_array", "json_group_array")
        if connection.dialect.name == "sqlite"
        else ("json_build_array", "json_agg")
    )
    row = f"{array}(place, score)" if scored else "place"
    # Materialized, for bm25 cannot be told inside of what is aggregated.
    packed = (
        f"WITH found AS MATERIALIZED ({statement}) SELECT CAST({whole}({row}) AS text) FROM found"  # noqa: S608
    )
    return unpacked(connection.execute(text(packed), values))


def at_places(connection: Connection, places: Collection[int]) -> dict[int, Paper]:
    """The papers that stand there, at most a few hundred."""
    table = schema.paper
    rows = connection.execute(
        select(table).where(table.c.id.in_([id_at(place) for place in places]))
    ).mappings()
    found = {row["id"]: paper_of(row) for row in rows}
    return {place: found[id_at(place)] for place in places if id_at(place) in found}


def _marked(connection: Connection) -> dict[int, bool]:
    """Papers of which PostgreSQL does not know all places, and whether it lacks words too."""
    rows = connection.execute(
        text(
            "SELECT place, terms @@ CAST(:unheld AS tsquery) FROM indexed_words"
            " WHERE terms @@ CAST(:marked AS tsquery)"
        ),
        {"unheld": f"'{UNHELD}'", "marked": f"'{UNPLACED}' | '{UNHELD}'"},
    )
    return {row[0]: row[1] for row in rows}


def _divided(query: Query | None, dialect: str) -> tuple[Query | None, tuple[Query, ...]]:
    """What full text can answer alone and first, and the rest; both have to hold."""
    parts = query.parts if isinstance(query, And) else () if query is None else (query,)
    textual = [
        part
        for part in parts
        if is_textual(part)
        and (dialect == "postgresql" or isinstance(part, Not) or fts5(part, depth=1) is not None)
    ]
    if all(isinstance(part, Not) for part in textual):
        textual = []  # FTS5 has no NOT by itself, and PostgreSQL would look at all papers for it
    others = tuple(part for part in parts if part not in textual)
    if not textual:
        return None, others
    return (And(parts=tuple(textual)) if len(textual) > 1 else textual[0]), others
