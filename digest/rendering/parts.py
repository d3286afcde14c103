"""Rendered pieces, and the mail put together from them by substitution alone.

A skeleton has places, `@@lead@@`, and stretches that fall away when their value is empty,
`@@?lines@@ ... @@/lines@@`; in HTML either may stand in a comment, where a table allows no text.
Cards are put in whole and never searched for places: a paper cannot write into the mail.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from digest.errors import TemplateError
from digest.models import Part

# Gmail clips a message at 102 KB of HTML, reports begin at 99; the foot must never be clipped.
BUDGET = 90_000  # bytes of decoded HTML
PERSONAL = 6_000  # bytes kept free for the personal words: subject, preheader, lead, links ...
INDENT = 4  # columns of "12. " before a paper in the text body

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
    blocks = {"cards": [part for part, card in cards if card]}
    blocks["lines"] = [part for part, card in cards if not card]
    html = {name: "".join(part.html.decode() for part in blocks[name]) for name in blocks}
    text, number = {}, 0
    for name, parts in blocks.items():
        text[name] = "\n\n".join(
            label(number + n) + indented(part.text.decode()) for n, part in enumerate(parts, 1)
        )
        number += len(parts)
    escaped = {name: escape(value) for name, value in personal.items()}
    return (
        _fill(skeleton.html.decode(), {**escaped, **html}),
        BLANKS.sub("\n\n\n", _fill(skeleton.text.decode(), {**personal, **text})).strip() + "\n",
    )


def fit(skeleton: Part, cards: Sequence[tuple[Part, bool]], *, budget: int = BUDGET) -> int:
    """How many of the papers, counted from the first, fit into `budget` bytes of HTML.

    Lines stand after the cards, so they are the first to go; nothing is ever cut inside, and the
    skeleton with its foot always stays. Call it before the personal words are made: they count.
    """
    room = budget - PERSONAL - len(skeleton.html)
    for count, (part, _) in enumerate(cards):
        room -= len(part.html)
        if room < 0:
            return count
    return len(cards)


def label(number: int) -> str:
    """What stands before a paper in the text body."""
    return f"{number}.".ljust(INDENT)


def indented(text: str) -> str:
    """A paper's text with room for its label: the first line has it already."""
    first, *rest = text.split("\n")
    return "\n".join([first, *(" " * INDENT + line if line else "" for line in rest)])


def escape(text: str) -> str:
    """The text as it is written in HTML, in attributes too."""
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
