"""Words that were meant: near to what was typed, and in many more papers.

The distance counts letters left out, added, changed, and neighbours exchanged (Damerau, "A
technique for computer detection and correction of spelling errors", 1964; of its two forms the one
that edits no letter twice).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from digest.topics.language import parse
from digest.topics.query import And, Not, Or, Query, Text
from digest.topics.words import stem, words

SHORTEST = 4  # letters; shorter words are names of things, and near to everything
RARE = 3  # a word in fewer papers may be a mistake
PRICE = 150  # so many times as many papers have to hold a word for each edit that it takes
NAME = 5  # words that a name has at most
# What a question has beside its words; titles are English, whoever asks.
_QUESTIONS = """
a about an and any are as at be by can could do does for from give have how i in is it latest me my
new of on or our paper papers please recent should show some than that the their there these this to
using via was we what when where which who why with work would you
"""
_SMALL = frozenset(_QUESTIONS.split())


def reach(word: str) -> int:
    """How many edits may lie between a word and the one that was meant."""
    if len(word) < SHORTEST or not word.isalpha():
        return 0
    return 1 if len(word) <= 5 else 2


def distance(one: str, other: str, *, most: int) -> int:
    """How many edits make one of the other; `most + 1` where it is more than `most`."""
    if abs(len(one) - len(other)) > most or len(set(one) ^ set(other)) > 2 * most:
        return most + 1
    before: list[int] = []
    last = list(range(len(other) + 1))
    for row, letter in enumerate(one, start=1):
        here = [row]
        for column, against in enumerate(other, start=1):
            cost = min(
                last[column] + 1, here[column - 1] + 1, last[column - 1] + (letter != against)
            )
            if row > 1 and column > 1 and letter == other[column - 2] and one[row - 2] == against:
                cost = min(cost, before[column - 2] + 1)
            here.append(cost)
        if min(here) > most and min(last) > most:
            return most + 1
        before, last = last, here
    return min(last[-1], most + 1)


def meant(word: str, papers: int, vocabulary: Iterable[tuple[str, int]]) -> str | None:
    """The term that was meant by a word which `papers` have, or None: nothing better is known.

    Each edit has to be worth it: of two terms the one wins whose number of papers is greater when
    it is divided by PRICE for each edit; then the nearer one, then the first by alphabet. A word
    that is in a paper may be right, so only one edit is made in it.
    """
    most = min(reach(word), 1) if papers else reach(word)
    if not most or papers >= RARE:
        return None
    found: list[tuple[float, int, str]] = []
    for term, number in vocabulary:
        if term == word or number < RARE:
            continue
        edits = distance(word, term, most=most)
        if edits <= most and number > PRICE * papers:
            found.append((-number / PRICE**edits, edits, term))
    return min(found)[2] if found else None


def corrected(query: Query, better: Mapping[tuple[str, str], str]) -> Query:
    """`query` with other words: `better` says which by field and term. For `str`, not to match."""
    match query:
        case And() | Or():
            return replace(query, parts=tuple(corrected(part, better) for part in query.parts))
        case Not():
            return query
        case Text():
            text = query.text
            for word in reversed(words(text, stemmed=query.field != "author")):
                if new := better.get((query.field, word.term)):
                    typed = text[word.start : word.end].casefold()
                    plural = query.field != "author" and typed.endswith("s")
                    text = text[: word.start] + _shown(new, plural=plural) + text[word.end :]
            return replace(query, text=text)
        case _:
            return query


def as_names(query: Query) -> Iterator[Query]:
    """Words alone as what an author is called: side by side, then in any order; after a "by" first.

    A name is no subject: by itself it finds what is written about somebody.
    """
    typed = [leaf.text[at.start : at.end] for leaf in _plain(query) for at in words(leaf.text)]
    begins = max((at + 1 for at, word in enumerate(typed) if word.casefold() == "by"), default=0)
    for some in (typed[begins:], typed) if begins else (typed,):
        if 0 < len(some) <= NAME:
            yield parse(f'author:"{" ".join(some)}"')
            if len(some) > 1:
                yield parse(" ".join(f'author:"{word}"' for word in some))


def in_short(query: Query) -> Query | None:
    """Words alone without the small ones, where some of them go and others are left."""
    typed = _plain(query)
    kept = [
        leaf for leaf in typed if not {at.term for at in words(leaf.text, stemmed=False)} <= _SMALL
    ]
    if not 0 < len(kept) < len(typed):
        return None
    return kept[0] if len(kept) == 1 else And(parts=tuple(kept))


def _plain(query: Query) -> list[Text]:
    """What a query asks for that asks for nothing but words, wherever they stand; else nothing."""
    parts = query.parts if isinstance(query, And) else (query,)
    found = [part for part in parts if isinstance(part, Text) and not (part.field or part.prefix)]
    return found if len(found) == len(parts) else []


def _shown(term: str, *, plural: bool) -> str:
    """In the plural where that was typed, for a term may be a stem that nobody writes."""
    return f"{term}s" if plural and stem(f"{term}s") == term else term
