"""Filters in another form: NOT only before leaves, or without what cannot be looked up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias

from digest.topics.query import And, Count, Flag, Name, Not, Or, Query, Text

Leaf: TypeAlias = Text | Name | Count | Flag


def normal(query: Query, *, negated: bool = False) -> Query:
    """The same filter with NOT only before leaves, and no And in an And, nor Or in an Or."""
    match query:
        case Not():
            return normal(query.part, negated=not negated)
        case And() | Or():
            whole = And if isinstance(query, And) is not negated else Or
            parts: list[Query] = []
            for part in query.parts:
                found = normal(part, negated=negated)
                parts += found.parts if isinstance(found, whole) else (found,)
            return whole(parts=tuple(parts))
        case _:
            return Not(part=query) if negated else query


def leaves(query: Query, *, negated: bool | None = None) -> Iterator[Leaf]:
    """The leaves of a filter in normal form; those that are `negated`, or are not."""
    match query:
        case And() | Or():
            for part in query.parts:
                yield from leaves(part, negated=negated)
        case Not(part=Text() | Name() | Count() | Flag() as leaf):
            if negated is not False:
                yield leaf
        case Text() | Name() | Count() | Flag():
            if negated is not True:
                yield query


def loosened(query: Query, is_loose: Callable[[Leaf], bool]) -> Query | None:
    """A filter in normal form that holds wherever `query` does; None: it holds everywhere.

    Of the leaves that are loose those after NOT are taken away, and phrases taken apart.
    """
    match query:
        case And() | Or():
            parts = [loosened(part, is_loose) for part in query.parts]
            kept = [part for part in parts if part is not None]
            if not kept or (isinstance(query, Or) and len(kept) < len(parts)):
                return None
            return replace(query, parts=tuple(kept)) if len(kept) > 1 else kept[0]
        case Not(part=Text() | Name() | Count() | Flag() as leaf):
            return None if is_loose(leaf) else query
        case Text():
            return _apart(query) if is_loose(query) else query
        case _:
            return query


def folded(query: Query) -> Query:
    """The same filter in small letters: equal for all that differ by these alone."""
    match query:
        case And() | Or():
            return replace(query, parts=tuple(map(folded, query.parts)))
        case Not():
            return replace(query, part=folded(query.part))
        case Text():
            return replace(query, text=query.text.casefold())
        case Name():
            return replace(query, text=query.folded)
        case _:
            return query


def asked(query: Query) -> Query | None:
    """The words that a filter in normal form asks for: no NOT, and nothing but words."""
    match query:
        case And() | Or():
            kept = [part for part in map(asked, query.parts) if part is not None]
            if not kept:
                return None
            return replace(query, parts=tuple(kept)) if len(kept) > 1 else kept[0]
        case Text():
            return query
        case _:
            return None


def in_title(query: Query) -> Query:
    """`query`, which is `asked`, with what may stand anywhere looked for in the title."""
    match query:
        case And() | Or():
            return replace(query, parts=tuple(map(in_title, query.parts)))
        case Text(field=""):
            return replace(query, field="title")
        case _:
            return query


def side_by_side(query: Query) -> Query | None:
    """Words of a query that is `asked`, as they were typed; None where that is no other query."""
    parts = query.parts if isinstance(query, And) else ()
    found = [part for part in parts if isinstance(part, Text) and not part.field]
    if not found or len(found) < len(parts) or any(part.prefix for part in found[:-1]):
        return None
    return replace(
        found[-1],
        text=" ".join(part.text for part in found),
        terms=tuple(term for part in found for term in part.terms),
    )


def _apart(phrase: Text) -> Query:
    # An abstract's words are looked for everywhere: where a term stands is what is not known.
    field = "" if phrase.field == "abstract" else phrase.field
    *first, last = phrase.terms
    parts = [Text(field=field, text=term, terms=(term,)) for term in first]
    parts.append(Text(field=field, text=last, prefix=phrase.prefix, terms=(last,)))
    return And(parts=tuple(parts)) if first else parts[0]
