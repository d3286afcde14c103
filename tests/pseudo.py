"""Languages that nobody speaks, made of the English words, to find what would break in others.

One is 40 % longer, as German and Finnish are, with accents and in brackets; it stands in the place
of Dutch. The other is written from right to left, in Arabic letters; it stands in that of Arabic.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import cycle, islice
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import write_po

from digest import locales

ROOT = Path(__file__).resolve().parents[1]
LONG, MIRRORED = "nl", "ar"
KEPT = re.compile(r"%\(\w+\)s|%%|</?[a-z][^>]*>|&\w+;")  # what a translation keeps as it is
_LATIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ACCENTED = "áƀćđéƒğĥíĵķĺɱńóṕɋŕśťúṽŵẋýžÁƁĆĐÉƑĞĤÍĴĶĹṀŃÓṔɊŔŚŤÚṼŴẊÝŽ"
_ARABIC = "ابجدهوزحطيكلمنسعفصقرشتثخذض" * 2
LETTERS = {
    LONG: str.maketrans(_LATIN, _ACCENTED),
    MIRRORED: str.maketrans(_LATIN, _ARABIC),
}


@cache
def extracted() -> Catalog:
    """Every message of the templates and the code."""
    with (ROOT / "digest/locales/babel.cfg").open() as file:
        methods, options = parse_mapping_cfg(file)  # type: ignore[no-untyped-call]
    found = Catalog()
    for name, _, message, _, context in extract_from_dir(ROOT, methods, options):
        found.add(message, locations=[(name, None)], context=context)  # type: ignore[list-item]
    return found


def stretched(message: str, tag: str) -> str:
    """The message in the letters of a made language; places and tags stay as they are."""
    kept = KEPT.findall(message)
    texts = [text.translate(LETTERS[tag]) for text in KEPT.split(message)]
    made = texts[0] + "".join(place + text for place, text in zip(kept, texts[1:], strict=True))
    if tag == MIRRORED:
        return made
    more = -(-4 * sum(map(len, texts)) // 10) - 2
    return f"[{made}{''.join(islice(cycle('~ '), max(0, more)))}]"


@contextmanager
def spoken(folder: Path) -> Iterator[None]:
    """The made languages are offered, and no other beside English."""
    for tag in LETTERS:
        made = Catalog(locale=tag)
        for message in extracted():
            if isinstance(message.id, tuple | list):
                many = stretched(message.id[1], tag)
                made.add(message.id, (many,) * made.num_plurals, context=message.context)
            elif message.id:
                made.add(message.id, stretched(message.id, tag), context=message.context)
        path = folder / tag / "LC_MESSAGES" / "digest.po"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            write_po(file, made)
    before, locales.FOLDER = locales.FOLDER, folder
    _forget()
    try:
        yield
    finally:
        locales.FOLDER = before
        _forget()


def _forget() -> None:
    for cached in (locales.language, locales.catalogue):
        cached.cache_clear()
