"""Search over all papers: what a topic with the same filter would match, best or newest first.

Relevance: papers whose title has all that was asked for come first, and of these the ones that have
the words side by side as they were typed; then the database's own measure of how often the words
stand where (FTS5: bm25, by which rare words weigh more; PostgreSQL: ts_rank, by which words that
stand together do), a word in the title, a keyword or the summary weighing more than one in the
abstract; then the newer paper. Whose papers they are ranks none before another. By date is by the
day on which a source listed a paper last, then by its number.

Of more than MOST matches only the newest MOST are looked at, in either order: to rank all papers
with a word like "model" takes longer than anybody waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from sqlalchemy import Connection, func, select, text

from digest import schema
from digest.models import Mark, Paper
from digest.storage.fulltext import fts5, is_long, tsquery
from digest.storage.index import first_place
from digest.storage.matches import Sought, at_places, gathered, matching
from digest.topics.match import index, match
from digest.topics.normal import Leaf, asked, in_title, leaves, normal, side_by_side
from digest.topics.query import Or, Query, Text

MOST = 5_000

# A word in title, abstract, summary, keyword, org, author; names of categories do not rank.
_BM25 = "8.0, 1.0, 2.0, 4.0, 1.0, 1.0, 0.0"
_TS_RANK = "{0.125, 0.25, 0.5, 1.0}"  # D abstract, C summary, B keyword, A title

_STEERED = {"enable_seqscan": "off", "jit": "off", "max_parallel_workers_per_gather": "0"}


class Order(StrEnum):
    RELEVANCE = "relevance"
    DATE = "date"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A paper that was found, and which runs of its text made it so."""

    paper: Paper
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One page of what was found, and how much there is in all."""

    hits: tuple[Hit, ...]
    count: int  # at most MOST
    more: bool = False  # there are more than MOST; these are out of the newest
    recent: int = 0  # of `count`, how many were listed since the day that was asked for

    @property
    def papers(self) -> list[Paper]:
        return [hit.paper for hit in self.hits]


def search(
    connection: Connection,
    query: Query,
    *,
    order: Order = Order.RELEVANCE,
    start: int = 0,
    limit: int = 50,
    since: date = date.max,
) -> Found:
    """The papers that match from the `start`-th on, at most `limit`; merged ones are none."""
    with steered(connection):
        places = matching(connection, query, most=MOST + 1)
        more = len(places) > MOST
        places = places[:MOST]
        ranked = places
        if order is Order.RELEVANCE and start < len(places):
            ranked = _ranked(connection, query, places, needed=start + limit)
    shown = ranked[start : start + limit]
    papers = at_places(connection, shown)
    hits = tuple(_hit(query, papers[place]) for place in shown if place in papers)
    first = first_place(since)
    recent = sum(place >= first for place in places)
    return Found(hits=hits, count=len(places), more=more, recent=recent)


def state_since(connection: Connection, since: date) -> tuple[int | None, ...]:
    """What differs once papers listed since that day come, go, or get votes."""
    there = schema.indexed
    found = select(func.count(), func.max(there.c.place), func.sum(there.c.upvotes))
    return tuple(connection.execute(found.where(there.c.place >= first_place(since))).one())


def count_since(connection: Connection, query: Query, since: date) -> int:
    """How many papers listed since that day match, at most MOST."""
    with steered(connection):
        return len(matching(connection, query, most=MOST, since=since))


def _hit(query: Query, paper: Paper) -> Hit:
    found = match(query, index(paper))
    return Hit(paper=paper, marks=found.marks if found else ())


@contextmanager
def steered(connection: Connection) -> Iterator[None]:
    """PostgreSQL thinks that to look at all papers' words is cheap; each has to be unpacked."""
    if connection.dialect.name != "postgresql":
        yield
        return
    known = [f"current_setting('{name}')" for name in _STEERED]
    before = connection.execute(text(f"SELECT {', '.join(known)}")).one()
    _steer(connection, _STEERED.values())
    yield
    _steer(connection, before)


def _steer(connection: Connection, values: Iterable[str]) -> None:
    """For this transaction."""
    chosen = ", ".join(
        f"set_config('{name}', '{value}', true)"
        for name, value in zip(_STEERED, values, strict=True)
    )
    connection.execute(text(f"SELECT {chosen}"))


# ------------------------------------------------------------------ relevance


def _ranked(
    connection: Connection, query: Query, places: Sequence[int], *, needed: int
) -> list[int]:
    """The places, at least the first so many, in order of relevance; they are in order of date."""
    words = asked(normal(query))
    if words is None or any(map(is_long, leaves(words))) or all(map(_is_of_whom, leaves(words))):
        return list(places)
    titled = _titled(connection, words, places)
    together = titled and _titled(connection, side_by_side(words), places)
    first = [place for place in places if place in titled]
    if len(first) >= needed:
        places = first  # all others come after these
    scores = _scores(connection, query, words, places)

    def key(place: int) -> tuple[bool, bool, float, int]:
        return place not in titled, place not in together, -scores.get(place, 0.0), -place

    return sorted(places, key=key)


def _titled(connection: Connection, words: Query | None, places: Sequence[int]) -> set[int]:
    """Those whose title has all that was asked for, of what may stand anywhere."""
    if words is None or not any(map(_is_for_titles, leaves(words))):
        return set()
    wanted = in_title(words)
    if connection.dialect.name == "sqlite":
        asked_for = fts5(wanted)
        if asked_for is None:  # too deep
            return set()
        statement = (
            "SELECT rowid AS place FROM indexed_words WHERE indexed_words MATCH :words"
            " AND rowid >= :last"
        )
    else:
        asked_for = tsquery(wanted)
        statement = (
            "SELECT place FROM indexed_words WHERE terms @@ CAST(:words AS tsquery)"
            " AND place + 0 >= :last"
        )
    return set(gathered(connection, statement, {"words": asked_for, "last": places[-1]}))


def _is_for_titles(leaf: Leaf) -> bool:
    return isinstance(leaf, Text) and leaf.field in {"", "title"}


def _is_of_whom(leaf: Leaf) -> bool:
    return isinstance(leaf, Text) and leaf.field in {"author", "org"}


def _scores(
    connection: Connection, query: Query, words: Query, places: Sequence[int]
) -> dict[int, float]:
    """How well the words stand in each, the more the better; only as good as the database's."""
    if connection.dialect.name == "postgresql":
        ranked = (
            "SELECT place, ts_rank(CAST(:weights AS float4[]), terms, CAST(:words AS tsquery))"
            " AS score FROM indexed_words WHERE place = ANY(:places)"
        )
        values = {"weights": _TS_RANK, "words": tsquery(words), "places": list(places)}
        return dict(gathered(connection, ranked, values, scored=True))
    sought = Sought.of(connection, query)
    if sought.textual is None or asked(sought.textual) is None:
        # Some match without any of the words: those that have one are ranked by it.
        found = tuple(leaf for leaf in leaves(words))
        sought.textual = Or(parts=found) if len(found) > 1 else found[0]
        sought.others = ()
    source, _, conditions = sought.where()
    statement = (
        f"SELECT indexed_words.rowid AS place, -bm25(indexed_words, {_BM25}) AS score"  # noqa: S608
        f" FROM {source}{conditions}"
        f" AND indexed_words.rowid >= {sought.value(places[-1])}"
    )
    return dict(gathered(connection, statement, sought.values, scored=True))
