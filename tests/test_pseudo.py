"""Every page and mail in made languages: they render, and say nothing in English by themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lxml import html

from digest import locales, schema
from digest.interests import read_search
from digest.rendering import Renderer, compose
from digest.storage import topics
from digest.storage.database import reading
from digest.web.view import Web, load_assets, load_templates
from tests import mails, pseudo
from tests.tour import ALONE, tour, touring
from tests.web_site import SITE

TEMPLATES = mails.TEMPLATES / "web"
SAID = ("title", "aria-label", "placeholder", "alt", "data-done")
# Names and signs that every language writes so; a category of arXiv; an address.
NAMES = re.compile(
    r"\b(?:arXiv|DOI|JSON|Atom|BibTeX|UTC|[a-z-]+\.[A-Z]{2}|[a-z]+\.[a-z-]+)\b|\S+@\S*|https?://\S+"
)


def english(text: str, known: set[str]) -> set[str]:
    """The Latin words of a page or mail beside names and what papers and people wrote."""
    text = " ".join(text.split())  # the no-break ones are blanks, too
    for own in sorted(known, key=len, reverse=True):
        text = text.replace(own, " ")
    return set(re.findall(r"[A-Za-z]{2,}", NAMES.sub(" ", text)))


def spoken_by(page: str) -> str:
    """What a document says in its own language: all but what says that it is of another."""
    tree: Any = html.fromstring(page)
    for other in tree.cssselect(
        "[lang=''], script, style, pre, code, .byline, .authors, [name=zone]"
    ):
        other.drop_tree()
    for other in tree.cssselect("#locale, #facts ~ ul"):
        other.drop_tree()
    attributes = [
        element.get(name, "") for element in tree.iter(html.etree.Element) for name in SAID
    ]
    return " ".join(["".join(tree.itertext()), *attributes])


@pytest.fixture(scope="module", autouse=True)
def languages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pseudo.spoken(tmp_path_factory.mktemp("languages")):
        yield


@pytest.mark.parametrize(("tag", "direction"), [(pseudo.LONG, "ltr"), (pseudo.MIRRORED, "rtl")])
def test_a_digest(tag: str, direction: str) -> None:
    renderer = Renderer(mails.TEMPLATES, mails.SITE)
    chosen = mails.entries(3, 2)
    reader = replace(mails.subscriber(), locale=tag)
    cards = renderer.cards(chosen, locale=tag)
    made, text = compose(
        renderer.skeleton(locale=tag),
        [(part, entry.card) for part, entry in zip(cards, chosen, strict=True)],
        mails.personal(renderer, chosen, subscriber=reader, topics=("agents",)),
    )
    assert f'<html lang="{tag}" dir="{direction}">' in made
    page = html.fromstring(made).cssselect("table[lang]")[0]
    assert (page.get("lang"), page.get("dir")) == (tag, direction)
    for said in (pseudo.stretched("Unsubscribe", tag), pseudo.stretched("votes", tag)):
        assert said in made
        assert said in text
    if tag == pseudo.MIRRORED:
        known = {mails.SITE.name, mails.SITE.tagline, mails.SITE.postal_address, "agents"}
        for entry in chosen:
            paper = entry.paper
            known |= {paper.title, paper.summary, *paper.authors, paper.organisation, paper.venue}
        assert english(spoken_by(made), known) == set()
        assert english(text, known) == set()


@pytest.mark.parametrize("tag", [pseudo.LONG, pseudo.MIRRORED])
@pytest.mark.parametrize(
    "kind", ["confirm", "preferences", "change-old", "change-new", "export", "erase"]
)
def test_an_account_mail(kind: str, tag: str) -> None:
    renderer = Renderer(mails.TEMPLATES, mails.SITE)
    url = "https://digest.example.org/me/" + "0" * 40
    personal = renderer.account_words(kind, locale=tag, url=url, new_address="a@example.org")
    made, text = compose(renderer.skeleton(kind, locale=tag), [], personal)
    known = {mails.SITE.name, mails.SITE.tagline, mails.SITE.postal_address}
    if tag == pseudo.MIRRORED:
        assert english(spoken_by(made), known) == set()
        assert english(text + personal["subject"], known) == set()
    assert f'lang="{tag}"' in made


# Beside those of the tour: they stand there as a way leads to them.
SIMPLE: list[tuple[str, dict[str, Any]]] = [
    *((template, values) for _, template, values in ALONE),
    ("export.html", {}),
    ("erase.html", {"done": False}),
    ("change.html", {"address": "a…@example.org"}),
    ("subscribe.html", {"address": "", "errors": {}}),
]


@pytest.mark.parametrize("tag", [pseudo.LONG, pseudo.MIRRORED])
@pytest.mark.parametrize(("template", "values"), SIMPLE)
@pytest.mark.parametrize("signup", ["open", "domains", "closed"])
def test_a_page_by_itself(template: str, values: dict[str, Any], tag: str, signup: str) -> None:
    site = replace(SITE, signup=signup, signup_domains=("example.org",), sample=True)
    page = (
        _environments()[tag]
        .get_template(template)
        .render(
            site=site,
            language=locales.language(tag),
            assets=load_assets(TEMPLATES / "static"),
            mails=3,
            **values,
        )
    )
    assert re.search(rf'<html lang="{tag}" dir="(ltr|rtl)">', page)
    if tag == pseudo.MIRRORED:
        assert english(spoken_by(page), {site.name, site.tagline, *site.sources}) == set()


def _environments() -> Any:
    if not _LOADED:
        _LOADED.update(load_templates(TEMPLATES))
    return _LOADED


_LOADED: dict[str, Any] = {}


def test_every_page_of_a_readers_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tag = pseudo.MIRRORED
    drawn: set[str] = set()
    page = Web.page

    def drawing(self: Web, request: Any, template: str, **values: Any) -> Any:
        drawn.add(template)
        return page(self, request, template, **values)

    monkeypatch.setattr(Web, "page", drawing)
    with touring(tmp_path) as house:
        stops = list(tour(house, tag, "new@example.org"))
        with reading(house.services.engine) as connection:
            known = {house.services.site.name, house.services.site.tagline, "localhost", "Ada"}
            for topic in topics.all_topics(connection):
                known |= {topic.name, topic.slug}
            rows = connection.execute(schema.paper.select()).all()
    for row in rows:
        known |= {row.title, *row.authors, row.organisation, row.venue, row.comment}
    known.discard("")
    for stop in stops:
        assert f'<html lang="{tag}" dir="rtl">' in stop.body, stop.name
    assert {
        stop.name: found
        for stop in stops
        if stop.name != "preview"  # a mail, of which test_a_digest tells
        and (found := english(spoken_by(stop.body), {*known, *stop.own}))
    } == {}
    parts = {"base.html", "fields.html", "card.html", "box.html", "when.html", "pages.html"}
    parts |= {"filter.html", "onward.html"}
    simple = {template for template, _ in SIMPLE}
    assert {path.name for path in TEMPLATES.glob("*.html")} - drawn - simple == parts


@pytest.mark.parametrize(
    "wrong", ["(", "a OR", "zz:1", "upvotes:x", "code:x", "a*b", '"', "and b", "!a"]
)
def test_what_is_wrong_with_a_search(wrong: str) -> None:
    refusal = read_search(wrong)
    assert not isinstance(refusal, str)
    said = refusal.said(locales.language(pseudo.MIRRORED).gettext)
    values = {str(value) for value in refusal.values["what"].values.values()}  # type: ignore[union-attr]
    assert english(said, {*values, "upvotes", "code", "yes", "no"}) == set()


def test_a_message_is_stretched_around_its_places() -> None:
    said = pseudo.stretched('<a href="x">Page</a> %(page)s', pseudo.LONG)
    assert said == '[<a href="x">Ṕáğé</a> %(page)s]'
    long = "Nothing was changed. Open the page by its link."
    assert len(pseudo.stretched(long, pseudo.LONG)) >= 1.4 * len(long)
