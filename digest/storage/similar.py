"""Papers like one: those that share its rarest words, by the cosine of all their words.

1. The paper's words are weighed by how often they stand in it and how few papers have them.
2. The newest papers that have any of its twelve heaviest words are gathered; words that are in
   more than a thousand papers only where it has no others.
3. The twenty that share most of that weight are compared word by word (`digest.topics.likeness`).

Withdrawn papers are like none.
"""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import Connection, text

from digest.models import Paper
from digest.storage import papers as shelf
from digest.storage.fulltext import fts5, tsquery
from digest.storage.index import frequencies, id_at, size
from digest.storage.matches import at_places
from digest.storage.search import steered
from digest.topics.likeness import cosine, count, vector
from digest.topics.query import Text
from digest.topics.spelling import LONGEST

_TERMS = 12
_COMMON = 1_000  # papers
_COMPARED = 20


def similar(connection: Connection, paper_id: int, *, limit: int = 5) -> list[Paper]:
    """At most `limit` papers, the most like first; NotFound."""
    paper = shelf.get(connection, paper_id)
    counts = count(paper)
    total = size(connection)
    known = frequencies(connection, counts)
    own = vector(counts, known, total)
    telling = [term for term in own if len(term) < LONGEST and known[term] > 1]
    telling.sort(key=lambda term: (own[term], term))
    rare = [term for term in telling if known[term] <= _COMMON] or telling
    shared: dict[int, float] = defaultdict(float)
    with steered(connection):
        for term in rare[-_TERMS:]:
            for place in _newest(connection, term):
                shared[place] += own[term]
    others = [place for place in shared if id_at(place) != paper.id]
    nearest = sorted(others, key=lambda place: (-shared[place], -place))[:_COMPARED]
    found = [other for other in at_places(connection, nearest).values() if not other.withdrawn]
    words = {other.id: count(other) for other in found}
    known |= frequencies(connection, {term for counted in words.values() for term in counted})
    likeness = {other.id: cosine(own, vector(words[other.id], known, total)) for other in found}
    return sorted(found, key=lambda other: (-likeness[other.id], -other.id))[:limit]


def _newest(connection: Connection, term: str) -> list[int]:
    query = Text(field="", text=term, terms=(term,))
    if connection.dialect.name == "sqlite":
        words = fts5(query)
        statement = (
            "SELECT rowid FROM indexed_words WHERE indexed_words MATCH :words"
            " ORDER BY rowid DESC LIMIT :most"
        )
    else:
        words = tsquery(query)
        statement = (
            "SELECT place FROM indexed_words WHERE terms @@ CAST(:words AS tsquery)"
            " ORDER BY place + 0 DESC LIMIT :most"
        )
    return [
        row[0] for row in connection.execute(text(statement), {"words": words, "most": _COMMON})
    ]
