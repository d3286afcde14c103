"""The words of every language are complete, current, and fit into their places."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.plurals import get_plural
from babel.messages.pofile import read_po

from digest import locales
from digest.rendering.words import Facts, lead
from tests.pseudo import KEPT, extracted

PATHS = {path.parents[1].name: path for path in Path(locales.__file__).parent.glob("*/*/*.po")}
# What a language says as English does: names, and words that both have.
NAMES = {"alphaXiv", "arXiv", "PDF", "HTML", "Hugging Face"}
NAMES |= {"%(label)s:", "%(first)s %(second)s", "%(count)s %(unit)s", "%(label)s (%(note)s)"}
SAME = {
    "de": {"Code", "Text", "Format", "Details"},
    "fr": {"Code", "Date", "Format", "Pages", "Votes", "six", "vote", "votes"},
    "es": set[str](),
    "ja": set[str](),
    "zh_Hans": set[str](),
}


@pytest.fixture(params=sorted(PATHS))
def tag(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def catalogue(tag: str) -> Catalog:
    with PATHS[tag].open("rb") as file:
        return read_po(file, abort_invalid=True)


def named(message: Message) -> str:
    return f"{message.context or ''} {message.id}"


def ids(message: Message) -> tuple[str, ...]:
    """The English: one form, or that for one and that for many."""
    return (message.id,) if isinstance(message.id, str) else tuple(message.id)


def forms(message: Message) -> list[str]:
    """The translations: one, or one of each plural form."""
    said = message.string or ""
    return [said] if isinstance(said, str) else list(said)


def places(text: str) -> list[str]:
    return sorted(KEPT.findall(text))


def test_the_languages_that_the_house_speaks() -> None:
    assert {"en", *PATHS} == locales.available() == {"en", *SAME}


def test_nothing_is_missing_or_left_over(catalogue: Catalog) -> None:
    wanted = {named(message) for message in extracted() if message.id}
    assert len(wanted) > 400
    there = {named(message) for message in catalogue if message.id}
    assert wanted - there == set()
    assert there - wanted == set()
    assert not catalogue.obsolete


def test_everything_is_translated(tag: str, catalogue: Catalog) -> None:
    wrong = []
    for message in catalogue:
        untranslated = {"", *ids(message)} - NAMES - SAME[tag]
        if message.id and (
            message.fuzzy or untranslated & {said.strip() for said in forms(message)}
        ):
            wrong.append(named(message))
    assert not wrong


def test_places_and_tags_are_kept(catalogue: Catalog) -> None:
    wrong = []
    for message in catalogue:
        if not message.id:
            continue
        said_in = forms(message)
        for number, said in enumerate(said_in):
            allowed = [places(ids(message)[-1])]
            if number == 0 and len(said_in) > 1:  # the form for one may leave it out
                allowed.append(places(ids(message)[0]))
            if places(said) not in allowed:
                wrong.append(f"{named(message)}: {said}")
            if "%" in KEPT.sub("", said) or said != said.strip():
                wrong.append(f"{named(message)}: {said}")
    assert not wrong


def test_plurals_are_the_languages_own(tag: str, catalogue: Catalog) -> None:
    rule = get_plural(tag)
    assert (catalogue.num_plurals, catalogue.plural_expr) == (rule.num_plurals, rule.plural_expr)
    for message in catalogue:
        if len(ids(message)) > 1:
            assert len(forms(message)) == rule.num_plurals, message.id


def test_who_reads_a_catalogue_knows_that_nobody_reviewed_it(tag: str) -> None:
    head = PATHS[tag].read_text(encoding="utf-8").partition("msgid")[0]
    assert head.startswith("# ")
    assert "# No native speaker has reviewed them yet." in head


# What a language's typesetters never write, and what its writing has no signs for.
_OWN = "[\u3000-\u30ff\u4e00-\u9fff\uff00-\uffef]"
NEVER = {
    "de": r"[»«”]|“\w|\b[Dd](u|ich|ir|ein|eine)\b",
    "fr": r" [;:?!»]|« |[^\W\d][;?!»]|[“”]|\w'\w|\b([Tt]u|[Tt]es|[Tt]on)\b",
    "es": r" [;:?!»]|« |[“”]|\b([Tt]ú|[Tt]us?|[Tt]e)\b",
    "ja": rf"{_OWN} | {_OWN}|{_OWN}[,.;:?!]|[“”]",
    "zh_Hans": rf"{_OWN}[,.;:?!]|[,;?!]{_OWN}|[「」]|你",
}
SIGNS = {"ja": "cp932", "zh_Hans": "gb2312"}


def test_it_is_set_as_its_readers_are_used_to(tag: str, catalogue: Catalog) -> None:
    wrong = []
    for message in catalogue:
        for said in forms(message) if message.id else ():
            bare = re.sub(r"%\(\w+\)s:(?=\W)", "x", re.sub("<[^>]+>", "", said))
            if re.search(NEVER[tag], bare):
                wrong.append(said)
            said.encode(SIGNS.get(tag, "utf-8"))
    assert not wrong


LEADS = {
    "en": "Four papers for you, out of 1,234 new ones. One stands out, with 120 votes.",
    "de": "Vier Paper für Sie, ausgewählt aus 1.234 neuen. Eines ragt mit 120 Stimmen heraus.",
    "fr": "Quatre articles pour vous, sur 1\u202f234 nouveaux."
    " L’un d’eux se détache avec 120 votes.",
    "es": "Cuatro artículos para usted, de entre 1.234 nuevos. Uno destaca con 120 votos.",
    "ja": "新着1,234本から、4本を選びました。うち1本は120票を集め、際立っています。",
    "zh_Hans": "从 1,234 篇新论文中为您选出 4 篇。其中一篇尤为突出，获得 120 票。",
}


@pytest.mark.parametrize(("spoken", "sentence"), LEADS.items())
def test_the_same_facts_in_every_language(spoken: str, sentence: str) -> None:
    facts = Facts(count=4, candidates=1234, day=date(2026, 5, 28), votes=120, next_votes=20)
    assert lead(facts, language=locales.language(spoken)) == sentence


def test_a_placeholder_is_found() -> None:
    assert places('<a href="x">%(name)s</a> &middot; 5 %%') == [
        "%%",
        "%(name)s",
        "&middot;",
        "</a>",
        '<a href="x">',
    ]
    assert re.sub(KEPT, "", "100 %") == "100 %"
