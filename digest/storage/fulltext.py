"""What each database's full text is told: a paper's words, and a filter's, in its own language.

Both are exact for what `digest.topics.spelling` writes, but for two things that are looked at again
by `digest.topics.match`: terms of 255 characters and more, and papers whose words PostgreSQL cannot
hold. It knows the first 255 places of a term among the first 16,383 of a text, and takes 1 MB.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from digest.topics.normal import Leaf, leaves
from digest.topics.query import And, Name, Not, Or, Query, Text
from digest.topics.spelling import AUTHOR, BREAK, FIELDS, LONGEST, spell_name

# Terms that no paper has by itself: of its phrases, or even of its words, some cannot be found.
UNPLACED, UNHELD = "~", "~~"

_UNFIELDED = "{title abstract summary keyword}"
_DEEPEST = 8  # FTS5's parser has a hundred places for what is not closed yet
_PLACES, _LAST_PLACE = 255, 16_383  # postgresql.org/docs/current/textsearch-limitations.html
_BYTES = 900_000
# What stands before a term in one field alone, and the weight of a place there.
_FIELDED: Mapping[str, tuple[str, str]] = {
    "title": ("t/", "A"),
    "keyword": ("k/", "B"),
    "org": ("o/", "A"),
    "author": (AUTHOR, "A"),
}
_NAMED = "/"  # before a name, which no word and no beginning of one (ca*) may be taken for
_WEIGHTS = {"title": "A", "keyword": "B", "summary": "C", "abstract": "D"}


def is_long(leaf: Leaf) -> bool:
    """Whether a leaf asks for what is written alike as something else."""
    if isinstance(leaf, Name):
        return len(spell_name(leaf.field, leaf.folded)) >= LONGEST
    return isinstance(leaf, Text) and any(len(term) >= LONGEST for term in leaf.terms)


def needs_places(leaf: Leaf) -> bool:
    """Whether PostgreSQL has to know where the leaf's words stand in a paper."""
    return isinstance(leaf, Text) and (len(leaf.terms) > 1 or leaf.field == "abstract")


def is_textual(query: Query) -> bool:
    """Whether full text can answer all of a filter in normal form."""
    return all(isinstance(leaf, Text | Name) for leaf in leaves(query))


# ------------------------------------------------------------------ SQLite


def columns(spelled: str) -> dict[str, str]:
    """A paper's words by column."""
    return dict(zip(FIELDS, spelled.split("\n"), strict=True))


def fts5(query: Query, *, depth: int = 0) -> str | None:
    """A filter in normal form in FTS5's language (sqlite.org/fts5.html, 3).

    None where it cannot say it: it has no NOT by itself, and no counts.
    """
    match query:
        case Text():
            words = " ".join(term[:LONGEST] for term in query.terms)
            return f'{query.field or _UNFIELDED} : "{words}"{" *" if query.prefix else ""}'
        case Name():
            name = spell_name(query.field, query.folded)
            return f'names : "{name}"{" *" if query.prefix else ""}'
        case And() | Or() if depth < _DEEPEST:
            negated = [part.part for part in query.parts if isinstance(part, Not)]
            wanted = [part for part in query.parts if not isinstance(part, Not)]
            if not wanted or (negated and isinstance(query, Or)):
                return None
            found = _joined(wanted, "AND" if isinstance(query, And) else "OR", depth)
            barred = _joined(negated, "OR", depth)
            if not negated or found is None or barred is None:
                return found if not negated else None
            return f"({found} NOT {barred})"
        case _:
            return None


def _joined(parts: Sequence[Query], word: str, depth: int) -> str | None:
    found = [fts5(part, depth=depth + 1) for part in parts]
    known = [one for one in found if one is not None]
    return f"({f' {word} '.join(known)})" if len(known) == len(parts) else None


# ------------------------------------------------------------------ PostgreSQL


def tsvector(spelled: str) -> str:
    """A paper's words as PostgreSQL reads a tsvector, whole or marked as not."""
    places: dict[str, list[str]] = defaultdict(list)
    lines = columns(spelled)
    place, unplaced, unheld, size = 0, False, False, 0
    for field in ("title", "keyword", "summary", "abstract", "org", "author"):
        begins, own = _FIELDED.get(field, ("", ""))
        for term in lines[field].split(" "):
            place += 1
            if term in {"", BREAK}:
                continue
            kinds = [(term, _WEIGHTS[field])] if field in _WEIGHTS else []
            for lexeme, weight in [*kinds, (begins + term, own)] if begins else kinds:
                if lexeme not in places:
                    size += len(lexeme.encode()) + 8
                    if size > _BYTES:
                        unheld = True
                        continue
                known = places[lexeme]
                if place > _LAST_PLACE or len(known) == _PLACES:
                    unplaced = True
                    continue
                size += 2
                known.append(f"{place}{weight}")
        place += 1
    for name in (_NAMED + written for written in lines["names"].split()):
        size += len(name) + 8
        if size > _BYTES:
            unheld = True
        else:
            places[name] = []
    if unplaced:
        places[UNPLACED] = []
    if unheld:
        places[UNHELD] = []
    return " ".join(
        _lexeme(term) + (f":{','.join(where)}" if where else "") for term, where in places.items()
    )


def tsquery(query: Query) -> str:
    """A filter in normal form as PostgreSQL reads a tsquery; `is_textual`."""
    match query:
        case And() | Or():
            sign = " & " if isinstance(query, And) else " | "
            return f"({sign.join(map(tsquery, query.parts))})"
        case Not():
            return f"!{tsquery(query.part)}"
        case Text():
            begins, _ = _FIELDED.get(query.field, ("", ""))
            weight = "D" if query.field == "abstract" else ""
            found = [_lexeme(begins + term[:LONGEST]) for term in query.terms]
            ends = [f":{weight}" if weight else ""] * len(found)
            if query.prefix:
                ends[-1] = f":*{weight}"
            phrase = " <-> ".join(f"{term}{end}" for term, end in zip(found, ends, strict=True))
            return f"({phrase})"
        case Name():
            name = _lexeme(_NAMED + spell_name(query.field, query.folded))
            return f"{name}:*" if query.prefix else name
        case _:
            raise TypeError(f"{query} is nothing that full text knows")


def _lexeme(term: str) -> str:
    escaped = term.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
