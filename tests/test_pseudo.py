"""Every page and mail in made languages: they render, and say nothing in English by themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from lxml import html
from sqlalchemy import update

from digest import inbox, locales, schema
from digest.interests import read_search
from digest.rendering import Renderer, compose
from digest.storage import topics
from digest.storage.database import open_database, reading, writing
from digest.storage.migrating import upgrade
from digest.web.view import Web, load_assets, load_templates
from tests import mails, pseudo
from tests.local_house import local_house
from tests.test_web_readers import Readers
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


SIMPLE: list[tuple[str, dict[str, Any]]] = [
    ("empty.html", {}),
    ("confirmed.html", {}),
    ("export.html", {}),
    *(("error.html", {"code": code}) for code in (400, 403, 404, 405, 410, 413, 500)),
    *(("back.html", {"what": what}) for what in ("pause", "weekly", "undo")),
    *(
        ("bad_link.html", {"expired": expired, "anew": anew, "errors": {}})
        for expired, anew in ((True, True), (True, False), (False, False))
    ),
    *(("erase.html", {"done": done}) for done in (True, False)),
    *(("changed.html", {"moved": moved}) for moved in ("moved", "waiting", "taken", "over")),
    *(
        ("refused.html", {"refusal": refusal})
        for refusal in ("closed", "domain", "no mail", "address", "client")
    ),
    ("change.html", {"address": "a…@example.org"}),
    ("subscribe.html", {"address": "", "errors": {}}),
    ("plain.html", {"text": "A mail"}),
    ("no_preview.html", {"errors": {}}),
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
        assert english(spoken_by(page), {site.name, site.tagline}) == set()


def _environments() -> Any:
    if not _LOADED:
        _LOADED.update(load_templates(TEMPLATES))
    return _LOADED


_LOADED: dict[str, Any] = {}


def test_every_page_of_a_readers_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, tag = f"sqlite:///{tmp_path}/digest.db", pseudo.MIRRORED
    engine = open_database(url)
    upgrade(engine)
    engine.dispose()
    drawn: set[str] = set()
    page = Web.page

    def drawing(self: Web, request: Any, template: str, **values: Any) -> Any:
        drawn.add(template)
        return page(self, request, template, **values)

    monkeypatch.setattr(Web, "page", drawing)
    wrong: dict[str, set[str]] = {}
    with (
        local_house(tmp_path, url) as house,
        httpx.Client(headers={"Accept-Language": tag}) as client,
    ):
        readers = Readers(house=house, client=client)
        site = house.services.accounts.site
        with reading(house.services.engine) as connection:
            known = {site.name, site.tagline, "localhost", "Ada"}
            for topic in topics.all_topics(connection):
                known |= {topic.name, topic.slug}
            rows = connection.execute(schema.paper.select()).all()
        for row in rows:
            known |= {row.title, *row.authors, row.organisation, row.venue, row.comment}
        known.discard("")

        def look(name: str, answer: httpx.Response, *more: str) -> httpx.Response:
            assert f'<html lang="{tag}" dir="rtl">' in answer.text, name
            if found := english(spoken_by(answer.text), {*known, *more}):
                wrong[name] = found
            return answer

        paths = "/ /week /month /papers/2026-05-27 /topics /topics/agents /search /subscribe /me"
        paths += " /privacy /inbox/ /nowhere /search?q=agents /search?q=agnets /search?q=(agents"
        paths += " /search?q=qqqqqq /u/nothing"
        for path in paths.split():
            look(path, readers.get(path), "qqqqqq", "agnets")
        [first, *_] = re.findall(r'href="(/p/[^"]+)"', readers.get("/").text)
        look("paper", readers.get(first))
        key = inbox.keys(house.inbox)[0]
        subject = dict(inbox.read(house.inbox, key).headers)["Subject"]
        for view in ("html", "text", "source", "headers"):
            look(
                view, readers.get(f"/inbox/{key}?view={view}"), *_headers(house.inbox, key), subject
            )

        look("bad address", readers.post("/subscribe", email="nobody"))
        look("asked", readers.post("/subscribe", email="new@example.org"))
        look("lost", readers.post("/me", email="lost@example.org"))
        confirm = readers.link("confirm")
        look("confirm", readers.get(confirm))
        look("confirm wrong", readers.post(confirm, hour="25", zone="Moon", frequency="x"))
        done = readers.post(confirm, frequency="daily", hour="8", zone="UTC", topic=["agents"])
        me = house.url + done.headers["location"].partition("?")[0]
        look("confirmed", readers.get(confirm))
        assert readers.person("new@example.org").locale == tag
        for query in ("new=1", *(f"done={what}" for what in
                      ("save", "pause", "resume", "renew", "renew_saved", "move", "export",
                       "erase", "take_back"))):  # fmt: skip
            look(query, readers.get(f"{me}?{query}"))
        bad = readers.form(me) | {
            "max_papers": "0", "min_score": "101", "hour": "25", "zone": "Moon", "detail": "x",
            "seeds": "zz", "words": "(", "authors": "-", "searches": "(", "locale": "xx",
        }  # fmt: skip
        look("mistakes", readers.post(me, **bad, what="save"), "zz")
        look("no preview", readers.post(me, **bad, what="preview"), "zz")
        plain = readers.form(me) | {"plain": "yes"}
        look("plain", readers.post(me, **plain, what="preview"))
        none = readers.form(me) | {"min_score": "100", "quiet_day": "skip"}
        look("nothing", readers.post(me, **none, what="preview"))
        look("until", readers.post(me, until="1999-01-01", what="pause"))
        look("move", readers.post(me, email="x", what="move"))

        house.services.plan_due()
        [mail, *_] = [one for one in readers.mailed() if "/f/" in one.text]
        opinion = re.findall(rf"{house.url}/f/[\w-]+/\d+", mail.text)[0]
        for action in ("more", "less", "save", "mute"):
            look(action, readers.get(f"{opinion}/{action}"))
            if action != "mute":
                look(f"{action} done", readers.post(f"{opinion}/{action}", what=action))
        readers.post(f"{opinion}/mute", what="mute", topic="agents")
        look("muted", readers.get(f"{opinion}/mute"))
        look("given", readers.get(me))
        [saved, *_] = re.findall(r"/saved/[\w-]+", readers.get(me).text)
        look("saved", readers.get(saved))
        view_ = re.findall(rf"{house.url}/v/[\w-]+", mail.text)[0]
        look("view", readers.get(view_), dict(mail.headers)["Subject"])
        for what in ("export", "erase"):
            readers.post(me, yes="yes", what=what)
            look(what, readers.get(readers.link(what)))
        out = re.findall(r'href="(/u/[\w-]+)"', readers.get(me).text)[0]
        look("leave", readers.get(out))
        left = look("left", readers.post(out, confirm="yes"))
        undo = re.findall(r"/undo/[\w-]+", left.text)[0]
        look("left, until", readers.post(undo, what="pause", until="1999-01-01"))
        look("left, said", readers.post(undo, what="say", why="other"))
        look("back", readers.post(undo, what="undo"))
        with writing(house.services.engine) as connection:
            connection.execute(update(schema.subscriber).values(status="paused", paused_until=None))
        look("paused", readers.get(me))
    assert not wrong, wrong
    parts = {"base.html", "fields.html", "card.html", "box.html", "when.html", "pages.html"}
    simple = {template for template, _ in SIMPLE}
    assert {path.name for path in TEMPLATES.glob("*.html")} - drawn - simple == parts


def _headers(folder: Path, key: str) -> list[str]:
    return [text for header in inbox.read(folder, key).headers for text in header]


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
