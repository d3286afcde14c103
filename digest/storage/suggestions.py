"""What somebody meant whose words are in no paper, or nearly none: a filter that finds more."""

from __future__ import annotations

from collections.abc import Iterator
from string import ascii_lowercase

from sqlalchemy import Connection, String, bindparam, func, select

from digest import schema
from digest.storage.database import given, listed, packed, unpacked
from digest.storage.index import frequencies
from digest.storage.matches import matching
from digest.storage.search import steered
from digest.topics.correction import RARE, as_names, corrected, in_short, meant, reach
from digest.topics.language import parse
from digest.topics.normal import leaves, normal
from digest.topics.query import And, Query, Text
from digest.topics.spelling import AUTHOR

_NEAR = 2_000  # words that are compared with one that was typed, the most frequent first
_WORDS = 6  # that are looked at, and as many names: each takes ten milliseconds
_SURE = 2  # letters after a wrong first one that are right, or more would have to be compared

_term = schema.term


def suggest(connection: Connection, query: Query, *, found: int) -> str | None:
    """Another filter than `query`, which `found` papers match, that finds more; None: none known.

    The words as an author's name, with unknown words corrected, or without the small ones. Not as
    one name corrected, for every word is near to some name.
    """
    with steered(connection):
        for other in _others(connection, query):
            if len(matching(connection, other, most=found + 1)) > found:
                return str(other)
    return None


def _others(connection: Connection, query: Query) -> Iterator[Query]:
    names, short = list(as_names(query)), in_short(query)
    yield from names
    better = _better(connection, query)
    if better:
        yield parse(str(corrected(query, better)))
    several = [name for name in names if isinstance(name, And) or _is_phrase(name)]
    if several and (named := _better(connection, several[-1])):  # it has the words of the others
        for name in several:
            if (other := str(corrected(name, named))) != str(name):
                yield parse(other)
    if short is not None:
        yield parse(str(corrected(short, better)))


def _is_phrase(query: Query) -> bool:
    return isinstance(query, Text) and len(query.terms) > 1


def _better(connection: Connection, query: Query) -> dict[tuple[str, str], str]:
    """What was meant by unknown words of `query`, by field and term, for `corrected`.

    Looked for is a word of about the same length that begins with the first or the second letter
    of what was typed; or with another letter, and then with what was typed, or with that but for
    its first letter. Prefixes, names of organisations and what stands after NOT stay as they are.
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
    return {
        (field, term): found
        for field, term in unknown[:_WORDS]
        if (found := _meant(connection, term, known.get(typed[field, term], 0), field))
    }


def _meant(connection: Connection, word: str, papers: int, field: str) -> str | None:
    begins = AUTHOR if field == "author" else ""
    most = reach(word)
    length = len(begins + word)
    dialect = connection.dialect.name
    ranges = [(begins + start, begins + start[:-1] + _after(start[-1])) for start in _starts(word)]
    between = given(dialect, bindparam("rows", packed(ranges)), first=String(), end=String())
    near = (
        select(_term.c.term, _term.c.papers)
        .join(between, (_term.c.term >= between.c.first) & (_term.c.term < between.c.end))
        .where(
            func.length(_term.c.term).between(length - most, length + most),
            _term.c.papers >= RARE,
        )
        .order_by(_term.c.papers.desc(), _term.c.term)
        .limit(_NEAR)
        .subquery()
    )
    found = unpacked(connection.execute(select(listed(dialect, near.c.term, near.c.papers))))
    return meant(word, papers, ((term.removeprefix(begins), number) for term, number in found))


def _starts(word: str) -> Iterator[str]:
    """How a word may begin that was meant by `word`; none begins with another."""
    near = dict.fromkeys(word[:2])
    yield from near
    for letter in ascii_lowercase:
        if letter not in near:
            yield letter + word[:_SURE]
            yield letter + word[1 : 1 + _SURE]


def _after(letter: str) -> str:
    return chr(ord(letter) + 1)
