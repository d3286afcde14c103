"""The languages of mails and pages: their words by gettext, their dates and numbers by Babel.

The source strings are English. A language is a file `<tag>/LC_MESSAGES/digest.po` here, offered as
soon as it is there; it is compiled in memory when a process first needs it. `make words` brings all
of them up to the templates and the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, lru_cache
from gettext import NullTranslations
from io import BytesIO
from pathlib import Path

from babel import Locale
from babel.dates import format_date, format_skeleton, get_timezone_location
from babel.lists import format_list
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from babel.support import Translations

DOMAIN = "digest"
FOLDER = Path(__file__).parent
SOURCE = "en"
# English without a country is written as Europe does: 28 May 2026, 8:00.
FORMATS = {"en": "en_150"}

# Babel takes microseconds for what a morning's mails say again and again.
_decimal, _date = lru_cache(maxsize=4096)(format_decimal), lru_cache(maxsize=4096)(format_date)
_parts = lru_cache(maxsize=4096)(format_skeleton)
_list, _city = lru_cache(maxsize=4096)(format_list), lru_cache(maxsize=4096)(get_timezone_location)


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """One language: how it says things and how it writes dates, numbers and lists."""

    tag: str  # what `lang` says, with a hyphen
    direction: str  # ltr | rtl
    translations: NullTranslations
    formats: Locale

    def gettext(self, message: str) -> str:
        return self.translations.gettext(message)

    def ngettext(self, one: str, many: str, count: int) -> str:
        return self.translations.ngettext(one, many, count)

    def npgettext(self, context: str, one: str, many: str, count: int) -> str:
        """`ngettext` where one English word needs several translations."""
        return self.translations.npgettext(context, one, many, count)

    def number(self, value: int) -> str:
        return _decimal(value, locale=self.formats)

    def listing(self, names: Sequence[str]) -> str:
        """`a, b and c`."""
        return _list(tuple(names), locale=self.formats)

    def joined(self, names: Sequence[str]) -> str:
        """`a, b, c`: a series that goes on or stands alone; `a、b、c` in Japanese."""
        between: str = self.formats.list_patterns["standard"]["start"]
        return between.replace("{0}", "").replace("{1}", "").join(names)

    def day(self, value: date, pattern: str = "long") -> str:
        """`3 March 2026`; `full` puts the weekday before it, `EEEE` is the weekday alone."""
        return self._first(value, _date(value, pattern, locale=self.formats))

    def part(self, value: date, skeleton: str) -> str:
        """Some parts of a date, in the order of the language: `MMMd` is `3 Mar`."""
        return self._first(value, _parts(skeleton, value, locale=self.formats))

    def _first(self, value: date, said: str) -> str:
        if value.day == 1 and self.formats.language == "fr":  # "1er mars", unknown to CLDR
            return said.replace("1 ", "1er ", 1)
        return said

    def city(self, zone: str) -> str:
        """The city that an IANA zone is named after; empty for a zone without one (UTC)."""
        if "/" not in zone or zone.startswith("Etc/"):
            return ""
        return _city(zone, locale=self.formats, return_city=True)


def begun(said: str) -> str:
    """The words as they begin a line: with a capital letter, where the script has any."""
    return said[:1].upper() + said[1:]


def own_name(tag: str) -> str:
    """What the language of a tag calls itself, as it stands in a list: `Español`, `简体中文`."""
    locale = Locale.parse(tag)
    return begun(locale.languages.get(tag) or locale.get_display_name(tag) or tag)


def available() -> frozenset[str]:
    """The tags that have words: English, and each catalogue."""
    return frozenset({SOURCE}) | {path.parents[1].name for path in FOLDER.glob(_catalogue("*"))}


@cache
def language(tag: str) -> Language:
    """The language of a tag (`de`, `zh_Hans`, `pt-BR`), or the nearest that has words.

    That is the tag itself, then the tag without its last part, and so on; English in the end, so
    that a mail never mixes German dates with English words.
    """
    parts, known = tag.replace("-", "_").split("_"), available()
    while parts and "_".join(parts) not in known:
        parts.pop()
    found = "_".join(parts) or SOURCE
    formats = Locale.parse(FORMATS.get(found, found))
    return Language(
        tag=found.replace("_", "-"),
        direction="rtl" if formats.character_order == "right-to-left" else "ltr",
        translations=_translations(found),
        formats=formats,
    )


@cache
def catalogue(tag: str) -> bytes:
    """The compiled words of a language that `language` found; empty for the source language."""
    path = FOLDER / _catalogue(tag.replace("-", "_"))
    if not path.is_file():
        return b""
    compiled = BytesIO()
    with path.open("rb") as file:
        write_mo(compiled, read_po(file, abort_invalid=True))
    return compiled.getvalue()


def _translations(tag: str) -> NullTranslations:
    compiled = catalogue(tag)
    return Translations(BytesIO(compiled), domain=DOMAIN) if compiled else NullTranslations()


def _catalogue(tag: str) -> str:
    return f"{tag}/LC_MESSAGES/{DOMAIN}.po"
