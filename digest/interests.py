"""Interests as readers write them: from a typed line to the key that it is found by, or a refusal.

A refusal is a value, for nothing broke: a sentence for gettext and what stands in its places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from digest.errors import N_, TopicSyntaxError
from digest.models import Interest, InterestKind
from digest.papers.identity import named_in
from digest.topics.language import parse
from digest.topics.normal import folded
from digest.topics.query import And, Not, Or, Query, Text
from digest.topics.words import words

MOST = 100  # interests of a kind that one person has
LONGEST = 100  # characters of one
LONGEST_ADDRESS = 500  # of a seed paper's page
SEARCHES = 20  # that one person has
SEARCH_LENGTH = 300  # characters
SEARCH_TERMS = 30
_SUBJECT = ("", "title", "abstract", "keyword")  # where a muted word may be looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why something is not kept; `sentence` is for gettext, `values` are for its places."""

    sentence: str
    values: Mapping[str, str | int | Refusal] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.said(str)

    def said(self, gettext: Callable[[str], str]) -> str:
        """The whole in the words that `gettext` has."""
        values = {
            name: value.said(gettext) if isinstance(value, Refusal) else value
            for name, value in self.values.items()
        }
        return gettext(self.sentence) % values


TOO_MANY = N_("That would be more than %(most)s; remove one first.")


def read(kind: InterestKind, text: str) -> Interest | Refusal:
    """The interest that a person typed, or why it is none."""
    value = " ".join(text.split())
    if not value:
        return Refusal(sentence=N_("There is nothing here yet."))
    most = LONGEST_ADDRESS if kind is InterestKind.SEED else LONGEST
    if len(value) > most:
        return Refusal(
            sentence=N_("This has %(length)s characters; the limit is %(most)s."),
            values={"length": len(value), "most": most},
        )
    if not value.isprintable():
        return Refusal(sentence=N_("This contains characters that are not text."))
    match kind:
        case InterestKind.AUTHOR | InterestKind.LAB:
            key = name_key(value)
            refusal = N_("There is no name in this.")
        case InterestKind.SEED:
            key = paper_key(value)
            value = key.partition(" ")[2]  # which names the paper when it is typed again, too
            refusal = N_("This does not name a paper: give its arXiv id, its DOI or its address.")
        case InterestKind.MUTED_WORD:
            key = _word_key(value)
            refusal = N_("A muted word is one word, or several side by side.")
        case InterestKind.MUTED_TOPIC:
            key = value
            refusal = ""
    return Interest(kind=kind, value=value, key=key) if key else Refusal(sentence=refusal)


def name_key(name: str) -> str:
    """A person's or a lab's name by its words: case, accents and punctuation do not count."""
    return " ".join(word.term for word in words(name, stemmed=False))


def paper_key(text: str) -> str:
    """`arxiv 2605.00001` or `doi 10.1000/x` for what names such a paper, else nothing.

    Takes ids and the addresses of a paper's pages at arXiv, alphaXiv, Hugging Face and doi.org.
    """
    return " ".join(named_in(text) or ())


def _word_key(text: str) -> str:
    """A term or a phrase of the topics' language, as that language writes it."""
    for written in (text, f'"{text}"'):
        try:
            query = parse(written)
        except TopicSyntaxError:
            continue
        if isinstance(query, Text) and query.field in _SUBJECT:
            return str(query)
    return ""


def read_search(text: str) -> str | Refusal:
    """The canonical form of a filter that a person wrote, or why they cannot follow it.

    Equal for texts that differ by capitals and blanks, for equal ones are stored and matched once.
    """
    if len(text) > SEARCH_LENGTH:
        return Refusal(
            sentence=N_("This has %(length)s characters; the limit is %(most)s."),
            values={"length": len(text), "most": SEARCH_LENGTH},
        )
    try:
        query = parse(text)
    except TopicSyntaxError as error:
        return Refusal(
            sentence=N_("%(what)s (at character %(position)s)."),
            values={
                "what": Refusal(sentence=error.sentence, values=error.values),
                "position": error.position + 1,
            },
        )
    if (terms := _count(query)) > SEARCH_TERMS:
        return Refusal(
            sentence=N_("This has %(terms)s terms; the limit is %(most)s."),
            values={"terms": terms, "most": SEARCH_TERMS},
        )
    return str(folded(query))


def _count(query: Query) -> int:
    match query:
        case And() | Or():
            return sum(map(_count, query.parts))
        case Not():
            return _count(query.part)
        case Text():
            return len(query.terms)
        case _:
            return 1
