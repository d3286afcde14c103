"""Whether a paper matches a filter, how strongly, and which runs of its text did it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from digest.models import Mark, Paper
from digest.topics.query import And, Count, Flag, Name, Not, Or, Query, Text
from digest.topics.words import Word, words

# Authors are asked for by author:, organisations by org:; a name is no subject.
_UNFIELDED = ("title", "abstract", "summary", "keyword")
_MARKED = ("title", "abstract", "summary")
_TELLING = frozenset({"title", "keyword", "author"})
_COMPARE: Mapping[str, Callable[[int, int], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_BREAK = Word("", 0, 0)  # between two keywords or authors: no phrase crosses it


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """The words of one field in order, and where each term stands among them."""

    words: tuple[Word, ...]
    places: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A paper made ready for matching."""

    fields: Mapping[str, Field]
    names: Mapping[str, tuple[str, ...]]  # categories and sources, case folded
    signals: Mapping[str, int]
    code: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A paper that matches.

    `strength` is 1.0 when a word that was asked for is in the title, a keyword or an author's
    name, 0.7 when only elsewhere, and 0.5 when the filter asks for no words at all (cat:cs.LG).
    """

    marks: tuple[Mark, ...]  # in order of field and place, none overlapping
    strength: float


def index(paper: Paper) -> Document:
    """The paper's words, taken once for any number of filters."""
    return Document(
        fields={
            "title": _field([paper.title]),
            "abstract": _field([paper.abstract]),
            "summary": _field([paper.summary]),
            "keyword": _field(paper.keywords),
            "org": _field([paper.organisation]),
            "author": _field(paper.authors, stemmed=False),
        },
        names={
            "cat": tuple(name.casefold() for name in paper.categories),
            "source": tuple(name.casefold() for name in paper.sources),
        },
        signals=paper.signals,
        code="code" in paper.links,
    )


def match(query: Query, document: Document) -> Match | None:
    """How the paper matches, or None.

    Marks are the runs that made it match: not those of negated terms, nor of alternatives that
    fail as a whole.
    """
    if not _holds(query, document):
        return None
    hits = list(_hits(query, document))
    telling = any(name in _TELLING for name, _, _ in hits)
    return Match(
        marks=tuple(_marks(hits, document)),
        strength=(1.0 if telling else 0.7) if hits else 0.5,
    )


def strength(query: Query, document: Document) -> float | None:
    """The strength of `match`, without its marks, which take longer."""
    if not _holds(query, document):
        return None
    found = 0.5
    for name, _, _ in _hits(query, document):
        if name in _TELLING:
            return 1.0
        found = 0.7
    return found


def _field(texts: Iterable[str], *, stemmed: bool = True) -> Field:
    found: list[Word] = []
    for text in texts:
        if found:
            found.append(_BREAK)
        found += words(text, stemmed=stemmed)
    places: dict[str, list[int]] = {}
    for place, word in enumerate(found):
        places.setdefault(word.term, []).append(place)
    return Field(words=tuple(found), places={term: tuple(where) for term, where in places.items()})


def _holds(query: Query, document: Document) -> bool:
    match query:
        case And():
            return all(_holds(part, document) for part in query.parts)
        case Or():
            return any(_holds(part, document) for part in query.parts)
        case Not():
            return not _holds(query.part, document)
        case Text():
            return any(True for _ in _text_hits(query, document))
        case Name():
            return any(_is_named(query, name) for name in document.names[query.field])
        case Count():
            value = document.signals.get(query.field)
            return value is not None and _COMPARE[query.sign](value, query.number)
        case Flag():
            return document.code is query.wanted


def _is_named(query: Name, name: str) -> bool:
    if query.prefix:
        return name.startswith(query.folded)
    return name == query.folded or name.startswith((f"{query.folded}.", f"{query.folded}:"))


def _hits(query: Query, document: Document) -> Iterator[tuple[str, int, int]]:
    """Field, first and last word of each run by which a query that holds does so."""
    match query:
        case And() | Or():
            for part in query.parts:
                if isinstance(query, And) or _holds(part, document):
                    yield from _hits(part, document)
        case Not(part=Not(part=inner)):
            yield from _hits(inner, document)
        case Text():
            yield from _text_hits(query, document)


def _text_hits(query: Text, document: Document) -> Iterator[tuple[str, int, int]]:
    for name in (query.field,) if query.field else _UNFIELDED:
        for place in _places(query, document.fields[name]):
            yield name, place, place + len(query.terms) - 1


def _places(query: Text, field: Field) -> Iterator[int]:
    """Where in a field the query's words begin to stand side by side."""
    first, *rest = query.terms
    if not rest:
        if not query.prefix:
            yield from field.places.get(first, ())
            return
        for term, places in field.places.items():
            if term.startswith(first):
                yield from places
        return
    for place in field.places.get(first, ()):
        following = field.words[place + 1 : place + 1 + len(rest)]
        if len(following) == len(rest) and all(
            word.term == term for word, term in zip(following[:-1], rest[:-1], strict=True)
        ):
            last = following[-1].term
            if last == rest[-1] or (query.prefix and last.startswith(rest[-1])):
                yield place


def _marks(hits: Iterable[tuple[str, int, int]], document: Document) -> Iterator[Mark]:
    runs: dict[str, set[tuple[int, int]]] = {}
    for name, first, last in hits:
        if name in _MARKED:
            found = document.fields[name].words
            runs.setdefault(name, set()).add((found[first].start, found[last].end))
    for name in _MARKED:
        start = end = -1
        for run_start, run_end in sorted(runs.get(name, ())):
            if run_start >= end:
                if end >= 0:
                    yield Mark(field=name, start=start, end=end)
                start, end = run_start, run_end
            else:
                end = max(end, run_end)
        if end >= 0:
            yield Mark(field=name, start=start, end=end)
