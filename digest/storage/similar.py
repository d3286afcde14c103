"""Papers like one: those that share its rarest words, by the cosine of all their words.

1. The paper's words are weighed by how often they stand in it and how few papers have them.
2. The papers that have any of its heaviest words are gathered: the heaviest that is in at most a
   thousand papers, the next, and so on, all that fit into three thousand. Where all its words are
   more frequent, the newest thousand of each count.
3. The twenty that share most of that weight are compared word by word (`digest.topics.likeness`).

Withdrawn papers are like none.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, select, text

from digest import schema
from digest.models import Paper
from digest.storage import papers as shelf
from digest.storage.fulltext import fts5, tsquery
from digest.storage.index import frequencies, place_of, size
from digest.storage.matches import at_places
from digest.storage.search import steered
from digest.topics.likeness import cosine, count, vector
from digest.topics.query import Text
from digest.topics.spelling import LONGEST

_TERMS = 16
_COMMON = 1_000  # papers
_GATHERED = 3_000
_COMPARED = 20


def similar(connection: Connection, paper_id: int, *, limit: int = 5) -> list[Paper]:
    """At most `limit` papers, the most like first; NotFound."""
    place = place_of(shelf.get(connection, paper_id))
    counts = _counts(connection, [place], withdrawn=True).get(place, Counter())
    total = size(connection)
    known = frequencies(connection, counts)
    own = vector(counts, known, total)
    telling = [term for term in own if len(term) < LONGEST and known[term] > 1]
    telling.sort(key=lambda term: (-own[term], term))
    rare = [term for term in telling if known[term] <= _COMMON] or telling
    chosen, room = dict[str, float](), _GATHERED
    for term in rare:
        if len(chosen) < _TERMS and (taken := min(known[term], _COMMON)) <= room:
            chosen[term] = own[term]
            room -= taken
    with steered(connection):
        nearest = _sharing(connection, chosen, place)
    others = _counts(connection, nearest, withdrawn=False)
    known |= frequencies(connection, {term for counted in others.values() for term in counted})
    likeness = {other: cosine(own, vector(others[other], known, total)) for other in others}
    found = sorted(others, key=lambda other: (-likeness[other], -other))[:limit]
    papers = at_places(connection, found)
    return [papers[other] for other in found]


def _counts(
    connection: Connection, places: Collection[int], *, withdrawn: bool
) -> dict[int, Counter[str]]:
    """The words of the papers that stand there, withdrawn ones too or without them."""
    written, indexed, paper = schema.indexed_text, schema.indexed, schema.paper
    query = select(written.c.place, written.c.spelled).where(written.c.place.in_(places))
    if not withdrawn:
        query = (
            query.join(indexed, indexed.c.place == written.c.place)
            .join(paper, paper.c.id == indexed.c.paper_id)
            .where(~paper.c.withdrawn)
        )
    return {
        place: count(zlib.decompress(spelled).decode())
        for place, spelled in connection.execute(query)
    }


def _sharing(connection: Connection, weights: Mapping[str, float], own: int) -> list[int]:
    """Where the papers stand that share most of the weight of these terms, of equals the newest."""
    if not weights:
        return []
    found, values = [], dict[str, Any]()
    for number, (term, weight) in enumerate(weights.items()):
        query = Text(field="", text=term, terms=(term,))
        if connection.dialect.name == "sqlite":
            place, condition, words = "rowid", f"indexed_words MATCH :words{number}", fts5(query)
        else:
            # With the sum it is not by the index of places that the newest are found, but by words.
            place, words = "place + 0", tsquery(query)
            condition = f"terms @@ CAST(:words{number} AS tsquery)"
        values |= {f"words{number}": words, f"weight{number}": weight}
        found.append(
            f"SELECT place, CAST(:weight{number} AS float) AS weight FROM (SELECT {place} AS place"  # noqa: S608 - values are bound
            f" FROM indexed_words WHERE {condition} ORDER BY {place} DESC LIMIT :most) AS t{number}"
        )
    statement = (
        f"SELECT place FROM ({' UNION ALL '.join(found)}) AS shared WHERE place <> :own"  # noqa: S608 - values are bound
        " GROUP BY place ORDER BY sum(weight) DESC, place DESC LIMIT :compared"
    )
    values |= {"most": _COMMON, "own": own, "compared": _COMPARED}
    return list(connection.execute(text(statement), values).scalars())
