"""What somebody typed into the public search box, read as a filter, or else as plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from digest.errors import TopicSyntaxError
from digest.topics.language import parse
from digest.topics.normal import leaves, normal
from digest.topics.query import And, Query, Text
from digest.topics.words import words

MAX_LENGTH = 300  # characters
MAX_TERMS = 30  # words, names and counts
_READ = 100 * MAX_LENGTH  # characters that are looked at, whatever was sent


class Said(StrEnum):
    """What the page has to say about how a text was read."""

    PLAIN = "plain"  # it is no filter: papers with all of its words are looked for
    CUT = "cut"  # its end was left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a text was read; no query: there is nothing in it to look for."""

    query: Query | None
    text: str  # what was read: one line, at most MAX_LENGTH characters
    said: tuple[Said, ...] = ()
    problem: str = ""  # why it is no filter: a sentence

    @property
    def canonical(self) -> str:
        """The query in its short form, or nothing."""
        return "" if self.query is None else str(self.query)


def read(text: str) -> Reading:
    """Read text of any length and content; never an error.

    At most 30 words are looked for; a filter with more is read as plain words.
    """
    kept, cut = _shortened(_clean(text[:_READ]))
    cut = cut or len(text) > _READ
    problem = ""
    query: Query | None = None
    try:
        query = parse(kept)
    except TopicSyntaxError as error:
        problem = error.message if kept else ""
    if query is not None and _size(query) <= MAX_TERMS:
        return Reading(query=query, text=kept, said=(Said.CUT,) if cut else ())
    found: dict[str, str] = {}
    for word in words(kept):
        found.setdefault(word.term, kept[word.start : word.end])
    plain = [_word(term, typed) for term, typed in found.items()]
    said = (Said.PLAIN,) if kept else ()
    if cut or len(plain) > MAX_TERMS:
        said = (*said, Said.CUT)
    return Reading(query=_all(plain[:MAX_TERMS]), text=kept, said=said, problem=problem)


def _clean(text: str) -> str:
    """One line that any encoding and database can hold."""
    shown = "".join(
        " " if char < " " or "\x7f" <= char <= "\x9f" or "\ud800" <= char <= "\udfff" else char
        for char in text
    )
    return " ".join(shown.split())


def _shortened(text: str) -> tuple[str, bool]:
    """The text, cut before a word where it is too long, and whether it was."""
    if len(text) <= MAX_LENGTH:
        return text, False
    head = text[: MAX_LENGTH + 1].rpartition(" ")[0]
    return head or text[:MAX_LENGTH], True


def _size(query: Query) -> int:
    return sum(len(leaf.terms) if isinstance(leaf, Text) else 1 for leaf in leaves(normal(query)))


def _word(term: str, typed: str) -> Text:
    """The word as typed, unless it is another one when it stands alone (the 2 of ½)."""
    alone = tuple(word.term for word in words(typed)) == (term,)
    return Text(field="", text=typed if alone else term, terms=(term,))


def _all(parts: Sequence[Text]) -> Query | None:
    return parts[0] if len(parts) == 1 else And(parts=tuple(parts)) if parts else None
