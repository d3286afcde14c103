"""What somebody meant whose words are in no paper, or nearly none: a filter that finds more."""

from __future__ import annotations

from sqlalchemy import Connection, func, or_, select

from digest import schema
from digest.storage.index import frequencies
from digest.storage.search import count
from digest.topics.correction import RARE, corrected, meant, reach
from digest.topics.language import parse
from digest.topics.normal import leaves, normal
from digest.topics.query import Query, Text
from digest.topics.spelling import AUTHOR

_NEAR = 2_000  # words that are compared with one that was typed, the most frequent first
_WORDS = 6  # that are looked at

_term = schema.term


def suggest(connection: Connection, query: Query) -> str | None:
    """`query` with its unknown words corrected, if that finds more; None: nothing better is known.

    Looked for is a word of about the same length that begins with the first or the second letter
    of what was typed. Prefixes, names of organisations and what stands after NOT stay as they are.
    """
    typed = {
        (leaf.field, term): (AUTHOR if leaf.field == "author" else "") + term
        for leaf in leaves(normal(query), negated=False)
        if isinstance(leaf, Text) and leaf.field != "org" and not leaf.prefix
        for term in leaf.terms
        if reach(term)
    }
    known = frequencies(connection, typed.values())
    unknown = [key for key, term in typed.items() if known.get(term, 0) < RARE]
    better = {
        (field, term): found
        for field, term in unknown[:_WORDS]
        if (found := _meant(connection, term, known.get(typed[field, term], 0), field))
    }
    if not better:
        return None
    found = str(corrected(query, better))
    return found if count(connection, parse(found)) > count(connection, query) else None


def _meant(connection: Connection, word: str, papers: int, field: str) -> str | None:
    begins = AUTHOR if field == "author" else ""
    starts = [begins + letter for letter in dict.fromkeys(word[:2])]
    most = reach(word)
    length = len(begins + word)
    rows = connection.execute(
        select(_term.c.term, _term.c.papers)
        .where(
            or_(
                *(
                    (_term.c.term >= start) & (_term.c.term < start[:-1] + chr(ord(start[-1]) + 1))
                    for start in starts
                )
            ),
            func.length(_term.c.term).between(length - most, length + most),
            _term.c.papers >= RARE,
        )
        .order_by(_term.c.papers.desc(), _term.c.term)
        .limit(_NEAR)
    )
    return meant(word, papers, ((row[0].removeprefix(begins), row[1]) for row in rows))
