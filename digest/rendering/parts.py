"""Rendered pieces, and the mail put together from them by substitution alone.

A skeleton has places, `@@lead@@`, and stretches that fall away when their value is empty,
`@@?lines@@ ... @@/lines@@`; in HTML either may stand in a comment, where a table allows no text.
Cards are put in whole and never searched for such places: a paper cannot write into the mail.
What they have of one mail stands where their own marks are, which no text can hold: NUL for the
mail's feedback token and the paper's number, U+0001 for the reasons that are the reader's alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from digest.errors import TemplateError
from digest.models import Part
from digest.rendering.prose import WIDTH, unwrapped, wrap

# Gmail clips a message at 102 KB of HTML, reports begin at 99; the foot must never be clipped.
BUDGET = 90_000  # bytes of decoded HTML
PERSONAL = 6_000  # bytes kept free for the personal words: subject, preheader, lead, links ...
LINKS = 200  # bytes kept free for each card's feedback: four times token and number
INDENT = 4  # columns of "12. " before a paper in the text body
HERE = "\0"
NOTE = "\1"

_STRETCH = re.compile(r"(?:<!--)?@@\?(\w+)@@(?:-->)?(.*?)(?:<!--)?@@/\1@@(?:-->)?", re.DOTALL)
_PLACE = re.compile(r"(?:<!--)?@@(\w+)@@(?:-->)?")
BLANKS = re.compile(r"\n{4,}")  # what a stretch that fell away leaves in the text
# Spelled out here: a frozen digest must not depend on a library's idea of escaping. The first one
# must come first; replacing is five times as fast as translating where there is nothing to do.
_ESCAPES = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#39;"))


def compose(
    skeleton: Part, cards: Sequence[tuple[Part, bool]], personal: Mapping[str, str]
) -> tuple[str, str]:
    """The HTML and the text of one mail: its skeleton, its papers in order, its personal words.

    A paper's flag says whether it is a card or a line under "also today"; cards come first.
    Neither templates nor clock are asked, so the same arguments give the same mail for ever.
    Raises TemplateError for a place that `personal` has no words for.
    """
    token, notes = personal.get("feedback", ""), notes_of(personal)
    ordered = sorted(cards, key=lambda one: not one[1])
    filled = []
    for number, (part, card) in enumerate(ordered, 1):
        note = notes[number - 1] if number <= len(notes) else ""
        marked, plain = (
            body.decode().replace(HERE, f"{token}/{number}") for body in (part.html, part.text)
        )
        filled.append(
            (
                card,
                marked.replace(NOTE, escape(note)),
                label(number) + indented(plain.replace(NOTE, wrap(note, WIDTH - INDENT))),
            )
        )
    blocks = {"cards": True, "lines": False}
    html = {
        name: "".join(marked for card, marked, _ in filled if card is full)
        for name, full in blocks.items()
    }
    text = {
        name: "\n\n".join(plain for card, _, plain in filled if card is full)
        for name, full in blocks.items()
    }
    escaped = {name: escape(value) for name, value in personal.items()}
    return (
        _fill(skeleton.html.decode(), {**escaped, **html}),
        BLANKS.sub("\n\n\n", _fill(skeleton.text.decode(), {**personal, **text})).strip() + "\n",
    )


def fit(
    skeleton: Part,
    cards: Sequence[tuple[Part, bool]],
    *,
    notes: Sequence[str] = (),
    budget: int = BUDGET,
) -> int:
    """How many of the papers, counted from the first, fit into `budget` bytes of HTML.

    Lines stand after the cards, so they are the first to go; nothing is ever cut inside, and the
    skeleton with its foot always stays. Call it before the personal words are made: they count.
    """
    room = budget - PERSONAL - len(skeleton.html) - sum(len(escape(n).encode()) for n in notes)
    for count, (part, card) in enumerate(cards):
        room -= len(part.html) + LINKS if card else len(part.html)
        if room < 0:
            return count
    return len(cards)


def notes_of(personal: Mapping[str, str]) -> list[str]:
    """What each paper, in order, says to this reader alone; empty when none does."""
    notes = personal.get("notes")
    return notes.split("\n") if notes else []


def label(number: int) -> str:
    """What stands before a paper in the text body."""
    return f"{number}.".ljust(INDENT)


def indented(text: str) -> str:
    """A paper's text with room for its label: the first line has it already."""
    first, *rest = text.split("\n")
    return "\n".join([first, *(" " * INDENT + line if line else "" for line in rest)])


def escape(text: str) -> str:
    """The text as it is written in HTML, in attributes too."""
    text = unwrapped(text)
    for character, written in _ESCAPES:
        text = text.replace(character, written)
    return text


def cut(template: str, words: Mapping[str, object]) -> list[str]:
    """The template's texts in turn with the names of its places: text, name, text, ..., text.

    Places and stretches whose words are empty are left out. Raises TemplateError for a name that
    is not among the words.
    """

    def said(match: re.Match[str]) -> object:
        if match[1] not in words:
            raise TemplateError(
                f"The mail's template asks for @@{match[1]}@@, which this mail does not have."
            )
        return words[match[1]]

    kept = _STRETCH.sub(lambda match: match[2] if said(match) else "", template)
    return _PLACE.split(_PLACE.sub(lambda match: match[0] if said(match) else "", kept))


def _fill(template: str, words: Mapping[str, str]) -> str:
    pieces = cut(template, words)
    pieces[1::2] = [words[name] for name in pieces[1::2]]
    return "".join(pieces)
