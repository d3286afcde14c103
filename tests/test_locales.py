"""The languages: which one is taken, and that every word can be translated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import write_po

from digest import locales
from digest.rendering import Renderer, compose
from tests import mails

ROOT = Path(__file__).resolve().parents[1]


def add(folder: Path, tag: str, words: dict[str | tuple[str, str], str | tuple[str, ...]]) -> None:
    """A catalogue, as a translator would leave it."""
    catalogue = Catalog(locale=tag)
    for source, translated in words.items():
        catalogue.add(source, translated)
    path = folder / tag / "LC_MESSAGES" / "digest.po"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        write_po(file, catalogue)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for catalogues of a test's own."""
    monkeypatch.setattr(locales, "FOLDER", tmp_path)
    for cached in (locales.language, locales.catalogue):
        cached.cache_clear()
    yield tmp_path
    for cached in (locales.language, locales.catalogue):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        ("en", "en"),
        ("en_US", "en"),
        ("de", "de"),
        ("de-AT", "de"),
        ("zh_Hans_CN", "zh-Hans"),
        ("zh", "en"),
        ("xx", "en"),
        ("", "en"),
    ],
)
def test_the_nearest_language_with_words_is_taken(folder: Path, asked: str, taken: str) -> None:
    add(folder, "de", {"Unsubscribe": "Abmelden"})
    add(folder, "zh_Hans", {"Unsubscribe": "退订"})
    assert locales.language(asked).tag == taken


def test_english_is_written_as_in_europe() -> None:
    english = locales.language("en")
    assert english.day(date(2026, 5, 28), "full") == "Thursday, 28 May 2026"
    assert english.number(12345) == "12,345"
    assert english.listing(["a", "b", "c"]) == "a, b and c"


@pytest.mark.parametrize(
    ("tag", "day", "pattern", "said"),
    [
        pytest.param("fr", 1, "long", "1er mars 2026", id="the first in French"),
        pytest.param("fr", 1, "full", "dimanche 1er mars 2026", id="with its weekday"),
        pytest.param("fr", 11, "long", "11 mars 2026", id="not the eleventh"),
        pytest.param("fr", 1, "EEEE", "dimanche", id="a weekday alone"),
        pytest.param("es", 1, "long", "1 de marzo de 2026", id="nor in Spanish"),
    ],
)
def test_a_day_is_said_as_the_language_does(tag: str, day: int, pattern: str, said: str) -> None:
    assert locales.language(tag).day(date(2026, 3, day), pattern) == said


def test_parts_of_a_day_are_said_so_too() -> None:
    french = locales.language("fr")
    said = [french.part(date(2026, 3, 1), parts) for parts in ("MMMMEEEEd", "MMMd", "yMMMM")]
    assert said == ["dim. 1er mars", "1er mars", "mars 2026"]


def test_words_dates_and_numbers_change_together(folder: Path) -> None:
    one, many = "%(count)s comment", "%(count)s comments"
    add(folder, "de", {(one, many): ("%(count)s Kommentar", "%(count)s Kommentare")})
    german = locales.language("de")
    assert german.ngettext(one, many, 2) == "%(count)s Kommentare"
    assert german.day(date(2026, 3, 3)) == "3. März 2026"
    assert german.number(12345) == "12.345"


def test_a_mail_in_a_language_from_right_to_left(folder: Path) -> None:
    add(folder, "ar", {"Unsubscribe": "إلغاء الاشتراك"})
    renderer = Renderer(mails.TEMPLATES, mails.SITE)
    reader = replace(mails.subscriber(), locale="ar")
    chosen = mails.entries()
    cards = renderer.cards(chosen, locale="ar")
    html, text = compose(
        renderer.skeleton(locale="ar"),
        [(part, item.card) for part, item in zip(cards, chosen, strict=True)],
        mails.personal(renderer, chosen, subscriber=reader),
    )
    assert '<html lang="ar" dir="rtl">' in html
    assert "إلغاء الاشتراك" in html
    assert "إلغاء الاشتراك" in text
    assert cards[0].hash != renderer.cards([chosen[0]], locale="en")[0].hash


def test_new_words_make_new_parts(folder: Path) -> None:
    renderer = Renderer(mails.TEMPLATES, mails.SITE)
    hashes = set()
    for word in ("Abmelden", "Austragen"):
        for cached in (locales.language, locales.catalogue):
            cached.cache_clear()
        add(folder / word, "de", {"Unsubscribe": word})
        (folder / "de").unlink(missing_ok=True)
        (folder / "de").symlink_to(folder / word / "de")
        hashes.add(Renderer(mails.TEMPLATES, mails.SITE).skeleton(locale="de").hash)
    assert len(hashes) == 2
    assert renderer.skeleton(locale="en").hash not in hashes


def test_every_word_of_the_mail_is_collected() -> None:
    with (ROOT / "digest/locales/babel.cfg").open() as file:
        methods, options = parse_mapping_cfg(file)  # type: ignore[no-untyped-call]
    found = {
        message
        for name, _, messages, _, _ in extract_from_dir(ROOT, methods, options)
        if name.startswith(("digest/rendering/", "templates/email/"))
        for message in ([messages] if isinstance(messages, str) else messages)
    }
    assert {
        "Unsubscribe",
        "Who runs this",
        "Your preferences",
        "Papers that link to example.org are made up, to try things out.",
        "Also today",
        "%(count)s papers for you, out of %(candidates)s new ones.",
        "most votes of its day",
        "%(count)s more",
        "twelve",
        "votes",
    } <= found
