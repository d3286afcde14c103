"""The bytes of a mail, put together from parts that were encoded before.

A skeleton is cut and encoded once for all mails that have words for the same of its places, a card
once; what is left for a mail is its own words and one join. The decoded bodies are those that
`compose` makes, and the same arguments give the same bytes for ever: no template, no clock and no
mail library is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from operator import itemgetter
from typing import Any, NamedTuple

from digest import message
from digest.errors import NotFound, TemplateError
from digest.models import Message, Part
from digest.rendering.parts import (
    BLANKS,
    HERE,
    INDENT,
    NOTE,
    cut,
    escape,
    indented,
    label,
    notes_of,
)
from digest.rendering.prose import WIDTH, wrap
from digest.rendering.quoted_printable import SOFT, encode

PARTS = 8192  # that are kept; a card takes 4 KB
SHAPES = 256  # a shape takes 16 KB

_KIND = (
    'Content-Type: text/{}; charset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n'
)
_BODY = "\r\n--@@boundary@@\r\n" + _KIND
_END = "\r\n--@@boundary@@--\r\n"
# Papers come in many pieces each; until then their places are empty.
_RUNS = {f"{body} {block}": b"" for body in ("text", "html") for block in ("cards", "lines")}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """A skeleton as all mails see it that have words for the same of its places."""

    sender: str
    pieces: list[bytes]  # text, place, text, ..., text; the places are empty
    seven_bit: bool  # all of these
    words: list[tuple[str, str, str]]  # a name in the bodies, and its places in text and HTML
    values: Callable[[Mapping[str, bytes]], tuple[bytes, ...]]  # what comes into the places
    runs: list[tuple[int, bool, bool]]  # places of papers, last first; in HTML? with full cards?


class _Card(NamedTuple):
    """A card's bodies, encoded; between two pieces belong the mail's token and its number.

    Where there is a place for the reader's own reasons, what follows it stands apart.
    """

    html: list[bytes]
    text: list[bytes]
    html_after: list[bytes]
    text_after: list[bytes]


class Assembler:
    """Makes mails of parts that it knows by their hashes; for one thread.

    For a batch of mails: ask which of their parts are `unknown`, let it `learn` these, and
    `assemble`. When there are more than `most`, those are forgotten that were not asked for the
    longest, but none of the latest batch.
    """

    def __init__(self, *, most: int = PARTS) -> None:
        self._most = most
        # Skeletons as they are, cards encoded; the latest stands last.
        self._parts: dict[str, Any] = {}
        self._batch: set[str] = set()
        self._shapes: dict[tuple[Any, ...], _Shape] = {}

    def unknown(self, hashes: Iterable[str]) -> set[str]:
        """Which parts of the next batch are to be learnt."""
        self._batch = set(hashes)
        for known in self._batch & self._parts.keys():
            self._parts[known] = self._parts.pop(known)
        return self._batch - self._parts.keys()

    def learn(self, parts: Iterable[Part]) -> None:
        """Keep the parts, for the batch and as long as there is room."""
        for part in parts:
            self._parts[part.hash] = part if part.kind == "skeleton" else _encoded(part)
        many = max(0, len(self._parts) - self._most)
        for old in [old for old in islice(self._parts, many) if old not in self._batch]:
            del self._parts[old]

    def assemble(
        self,
        personal: Mapping[str, str],
        skeleton: str,
        cards: Sequence[str],
        lines: Sequence[str] = (),
    ) -> Message:
        """The mail of a frozen digest; see `compose` for the arguments, parts by their hashes.

        Personal words neither begin nor end with white space and have no empty lines inside.
        Raises NotFound for a part that was not learnt, TemplateError for a place without words.
        """
        try:
            known = self._parts
            around: Part = known[skeleton]
            shown: list[_Card] = [known[part] for part in cards]
            named: list[_Card] = [known[part] for part in lines]
        except KeyError as error:
            raise NotFound(f"The part {error.args[0]} of a mail is not there.") from None
        shape = self._shape(around, personal, cards=bool(shown), lines=bool(named))
        values = _RUNS.copy()
        for name, value in message.own(personal).items():
            values[name] = value.encode()
        for name, text, html in shape.words:
            values[text], values[html] = _written(personal[name])
        pieces = shape.pieces.copy()
        pieces[1::2] = shape.values(values)
        token, many = personal.get("feedback", "").encode(), len(shown)
        here = [token + number for number in _numbers(many + len(named))]
        notes = notes_of(personal) if "notes" in personal else ()
        # From the last to the first, for what stands after a run moves.
        for place, in_html, full in shape.runs:
            parts, before, mine = (shown, 0, here) if full else (named, many, here[many:])
            encoded = [part.html for part in parts] if in_html else [part.text for part in parts]
            bodies = list(map(bytes.join, mine, encoded))
            if notes and full:
                _add_notes(bodies, parts, here, notes, in_html=in_html)
            between = _softs(len(parts)) if in_html else _labels(before, len(parts))
            pieces[place : place + 1] = chain.from_iterable(zip(between, bodies, strict=True))
        return Message(
            sender=shape.sender,
            recipient=personal["address"],
            pieces=pieces,
            # All but the sender's and the recipient's address is encoded.
            seven_bit=shape.seven_bit and values["to"].isascii(),
        )

    def _shape(
        self, skeleton: Part, personal: Mapping[str, str], *, cards: bool, lines: bool
    ) -> _Shape:
        key = (skeleton.hash, *personal, *map(bool, personal.values()), cards, lines)
        shape = self._shapes.get(key)
        if shape is None:
            if len(self._shapes) >= SHAPES:
                self._shapes.clear()
            shape = self._shapes[key] = _shaped(skeleton, personal, cards=cards, lines=lines)
        return shape


def assemble(
    personal: Mapping[str, str], skeleton: Part, cards: Sequence[tuple[Part, bool]]
) -> Message:
    """One mail alone; see `Assembler`."""
    assembler = Assembler()
    assembler.learn([skeleton, *(part for part, _ in cards)])
    shown = [part.hash for part, card in cards if card]
    return assembler.assemble(
        personal, skeleton.hash, shown, [part.hash for part, card in cards if not card]
    )


def _encoded(card: Part) -> _Card:
    text = BLANKS.sub("\n\n\n", indented(card.text.decode()))
    html, *html_after = card.html.decode().partition(NOTE)
    text, *text_after = text.partition(NOTE)
    ends = [html_after[0] != "", text_after[0] != ""]
    return _Card(
        _pieces(html, goes_on=ends[0]),
        _pieces(text, goes_on=ends[1]),
        _pieces(html_after[1], follows=True) if ends[0] else [],
        _pieces(text_after[1], follows=True) if ends[1] else [],
    )


def _pieces(body: str, *, follows: bool = False, goes_on: bool = False) -> list[bytes]:
    """What stands around the places of the token, encoded; a word before or after it joins in."""
    texts = [*([""] if follows else []), *body.split(HERE), *([""] if goes_on else [])]
    pieces = [text for place in texts for text in (place, "")][:-1]
    found, _ = _quoted(pieces, "")
    return found[follows : len(found) - goes_on]


def _add_notes(
    bodies: list[bytes],
    parts: Sequence[_Card],
    here: Sequence[bytes],
    notes: Sequence[str],
    *,
    in_html: bool,
) -> None:
    """Put the reader's own reasons, and what follows them, behind the bodies that have room."""
    for number, (part, value, note) in enumerate(zip(parts, here, notes, strict=False)):
        after = part.html_after if in_html else part.text_after
        if after:
            bodies[number] += _note(note, in_html=in_html) + value.join(after)


@lru_cache(maxsize=4096)
def _note(words: str, *, in_html: bool) -> bytes:
    return encode(escape(words) if in_html else indented(wrap(words, WIDTH - INDENT)))


@lru_cache(maxsize=1024)
def _numbers(count: int) -> list[bytes]:
    """What follows the token in the links of each of so many papers."""
    return [b"/%d" % number for number in range(1, count + 1)]


@lru_cache(maxsize=1024)
def _softs(count: int) -> list[bytes]:
    """What stands in the HTML before each of so many papers."""
    return [b"", *[SOFT] * (count - 1)][:count]


@lru_cache(maxsize=4096)  # many mails of a day share theirs
def _written(words: str) -> tuple[bytes, bytes]:
    """The words in the text and in the HTML."""
    escaped = escape(words)
    text = encode(words)
    return text, text if escaped == words else encode(escaped)


@lru_cache(maxsize=1024)
def _labels(before: int, count: int) -> list[bytes]:
    """What stands in the text before each of so many papers, after others `before` them."""
    labels = [label(before + number).encode() + SOFT for number in range(1, count + 1)]
    return labels[:1] + [b"\r\n\r\n" + one for one in labels[1:]]


def _shaped(skeleton: Part, personal: Mapping[str, str], *, cards: bool, lines: bool) -> _Shape:
    if not skeleton.head:
        raise TemplateError(
            f"The skeleton {skeleton.hash} has no headers: an earlier version made it."
        )
    sender, _, headers = skeleton.head.decode().partition("\r\n")
    own = message.own(personal)
    words: dict[str, object] = {**personal, "cards": cards, "lines": lines}
    bodies = {
        "text": _tidied(cut(skeleton.text.decode(), words)),
        "html": cut(skeleton.html.decode(), words),
    }
    if own["boundary"]:
        cuttings = [
            _plain(cut(headers + _BODY.format("plain"), own)),
            _quoted(bodies["text"], "text"),
            _plain(cut(_BODY.format("html"), own)),
            _quoted(bodies["html"], "html"),
            _plain(cut(_END, own)),
        ]
    else:
        del bodies["html"]
        cuttings = [
            _plain(cut(headers + _KIND.format("plain"), own)),
            _quoted(bodies["text"], "text"),
        ]
    pieces, places = [b""], list[str]()
    for texts, names in cuttings:
        pieces[-1] += texts[0]
        for name, text in zip(names, texts[1:], strict=True):
            places.append(name)
            pieces += [b"", text]
    said = {name for body in bodies.values() for name in body[1::2]} - {"cards", "lines"}
    runs = [
        (2 * number + 1, name.startswith("html "), name.endswith(" cards"))
        for number, name in enumerate(places)
        if name in _RUNS
    ]
    return _Shape(
        sender=sender,
        pieces=pieces,
        seven_bit=all(map(bytes.isascii, pieces)),
        words=[(name, f"text {name}", f"html {name}") for name in sorted(said)],
        values=itemgetter(*places),
        runs=runs[::-1],
    )


def _tidied(pieces: list[str]) -> list[str]:
    """The text's pieces without the blank lines that an empty place or stretch left."""
    pieces[::2] = [BLANKS.sub("\n\n\n", text) for text in pieces[::2]]
    pieces[0] = pieces[0].lstrip()
    pieces[-1] = pieces[-1].rstrip() + "\n"
    return pieces


def _plain(pieces: list[str]) -> tuple[list[bytes], list[str]]:
    return [text.encode() for text in pieces[::2]], pieces[1::2]


def _quoted(pieces: list[str], body: str) -> tuple[list[bytes], list[str]]:
    """The texts, encoded so that what `encode` made may stand between them; the places' names."""
    texts, last = [], len(pieces) // 2
    for number, text in enumerate(pieces[::2]):
        goes_on = number > 0 and not text.startswith("\n") and (text or number < last)
        is_open = number < last and text and not text.endswith("\n")
        texts.append((SOFT if goes_on else b"") + encode(text) + (SOFT if is_open else b""))
    return texts, [f"{body} {name}" for name in pieces[1::2]]
