"""The operator's settings crossed: nothing is offered that is then refused, and no link is dead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any
from urllib.parse import urldefrag, urljoin

import httpx
import pytest
from lxml import etree, html

from digest.locales import available
from digest.models import Frequency, Wishes
from digest.services import Services, build
from digest.settings import Settings
from digest.storage import subscribers, tickets, topics
from digest.storage.database import writing
from digest.tokens import Purpose, sign
from digest.web.build import build as web
from digest.web.server import WebServer, listen
from digest.web.view import load_templates
from tests.house import KEY
from tests.web_site import NOW, add_paper, words

BASE = "http://localhost:8000"
STORED = {"nothing": 0, "one day": 1, "no topics": 4, "all": 4}  # days with a paper
SIGNUP = {"open": (), "domains": ("example.org", "example.net"), "closed": ()}
HEADINGS = ("h1", "h2", "h3", "h4")
CONTENT = (*HEADINGS, "p", "a", "label", "input", "select", "button", "iframe", "li", "dd", "svg")
FIELDS = ("input", "iframe")
LISTS = "main ul, main ol, main dl, main nav, nav, main select, main fieldset, main table"


@pytest.fixture(scope="module", params=STORED)
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Services:
    """A house with what is stored there, and a reader whose link to be forgotten was used."""
    settings = Settings(base_url=BASE, data_dir=tmp_path_factory.mktemp("x"), secret_key=(KEY,))
    found = build(settings, clock=lambda: NOW)
    for day in range(STORED[request.param]):
        at = NOW - timedelta(days=9 * day, hours=2)
        add_paper(found.engine, f"Agents, day {day}", at, abstract="Agents plan.", authors=["Ada"])
    usual = Wishes(zone="UTC", hour=8, frequency=Frequency.DAILY, max_papers=5)
    with writing(found.engine) as connection:
        subscribers.add_many(connection, [found.newcomer("ada@example.org", usual)], now=NOW)
        ticket = tickets.add(connection, 1, Purpose.ERASE, data={}, now=NOW)
        tickets.use(connection, ticket, now=NOW)
        if request.param == "all":
            for name in ("agents", "whales"):  # of the second there is no paper
                topics.add(connection, name.title(), name, slug=name, now=NOW)
    return found


@pytest.fixture(scope="module", autouse=True)
def compiled() -> Iterator[None]:
    """Templates that are read once: they are the same in all houses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("digest.web.app.load_templates", cache(load_templates))
        yield


@pytest.mark.parametrize("public", [True, False], ids=["public", "private"])
@pytest.mark.parametrize("signup", SIGNUP)
def test_nothing_is_offered_that_is_refused(stored: Services, signup: str, public: bool) -> None:
    tags = sorted(available())
    number = 2 * list(SIGNUP).index(signup) + public
    update = {
        "signup": signup,
        "signup_domains": SIGNUP[signup],
        "public_pages": public,
        "locale": tags[number % len(tags)],
    }
    settings = stored.settings.model_copy(update=update)
    house = replace(stored, settings=settings)
    with (
        WebServer(web(house), listen("127.0.0.1", 0)) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client,
    ):
        # Another machine's, so that there is no inbox.
        client.headers["x-forwarded-for"] = f"192.0.{number}.7"
        client.headers["accept-language"] = tags[(number + 3) % len(tags)].replace("_", "-")
        walk(house, client)


def walk(house: Services, client: httpx.Client) -> None:
    """From the front page and from a reader's links to wherever these lead."""
    signup, public = house.settings.signup, house.settings.public_pages

    def path(page: str, purpose: Purpose) -> str:
        return f"/{page}/{sign(purpose, 1, secrets=house.secrets, now=NOW)}"

    way_out = path("u", Purpose.UNSUBSCRIBE)
    pages = [client.get(path("erase", Purpose.ERASE))]
    pages.append(client.post(way_out, data={"confirm": "yes"}))
    undo = re.findall(r"/undo/[\w-]+", pages[-1].text)[0]
    pages.append(client.get(path("me", Purpose.PREFERENCES)))  # of who left
    pages.append(client.post(undo, data={"what": "undo"}))
    asked = client.post("/subscribe", data={"email": "new@example.org"})
    assert asked.status_code == (403 if signup == "closed" else 200)
    elsewhere = client.post("/subscribe", data={"email": "new@example.com"})
    assert elsewhere.status_code == (200 if signup == "open" else 403)
    assert [page.status_code for page in pages] == [200] * 4
    pages += [asked, elsewhere, client.get("/nowhere")]
    old = sign(Purpose.CHOOSE, 1, secrets=house.secrets, now=NOW - timedelta(days=9))
    pages.append(client.get(f"/choose/{old}"))

    seen: dict[str, httpx.Response] = {}
    ways = ["/", "/robots.txt", "/privacy", "/me", way_out, path("me", Purpose.PREFERENCES)]
    ways += re.findall(rf"Sitemap: {BASE}(\S+)", client.get("/robots.txt").text)
    for page in pages:
        ways += links(page)
    while ways:
        way = ways.pop()
        if way in seen:
            continue
        page = client.get(way)
        assert page.status_code == 200, way
        seen[way] = page
        ways += links(page)
    pages += seen.values()
    assert ("/feed.atom" in seen) == ("/search" in str(seen.keys())) == public
    for page in pages:
        if not page.headers["content-type"].startswith("text/html"):
            continue
        shown: Any = html.fromstring(page.text)
        where = f"{page.request.method} {page.request.url}"
        check_nothing_is_empty(shown, where)
        offers = shown.cssselect("form[action='/subscribe'], a[href='/subscribe']")
        offers += shown.xpath("//div[@class='lead'][not(.//h1)]")  # what a box stands in
        assert signup != "closed" or not offers, where
        boxes = shown.cssselect("form[action='/subscribe']")
        told = all(domain in words(page) for domain in SIGNUP[signup])
        assert told or not boxes, where
        for canonical in shown.cssselect("link[rel=canonical]"):
            lasting = str(canonical.get("href"))
            assert lasting.removeprefix(BASE) in seen, where
    told_by_sitemaps = [way for way in seen if re.match(r"/papers/\d+-\d+-\d+$|/p/\d+$", way)]
    for way in told_by_sitemaps if public else ():
        shown = html.fromstring(seen[way].text)
        [canonical] = shown.cssselect("link[rel=canonical]")
        assert canonical.get("href") == BASE + way
        assert not shown.cssselect("meta[name=robots]")
    if public and "/papers/2026-05-28" in seen:
        [front] = html.fromstring(seen["/"].text).cssselect("link[rel=canonical]")
        assert front.get("href") == f"{BASE}/"  # the day moves on, and the front page stays
    if not public:
        assert seen["/robots.txt"].text == "User-agent: *\nDisallow: /\n"


def links(page: httpx.Response) -> list[str]:
    """Where a page, a feed or a sitemap leads to in this house."""
    if page.headers.get("content-type", "").startswith("text/html"):
        shown: Any = html.fromstring(page.text)
        for form in shown.cssselect("form[method=post]"):
            form.attrib.pop("action", None)
        found = [link for _, _, link, _ in shown.iterlinks()]
    else:
        found = re.findall(rf'(?<=["\'>]){BASE}[^"\'<]*', page.text)
    there = (urldefrag(urljoin(f"{BASE}/", link)).url for link in found)
    return [way.removeprefix(BASE) for way in there if way.startswith(f"{BASE}/")]


def check_nothing_is_empty(page: etree._Element, where: str) -> None:
    """No heading without words or with nothing below it, and no list without anything."""
    parts = [part for part in page.iter(*CONTENT) if part.tag in HEADINGS or says(part)]
    for place, part in enumerate(parts):
        if part.tag not in HEADINGS:
            continue
        assert says(part), where
        below = parts[place + 1 :]
        following = next((one for one in below if one not in part.iterdescendants()), None)
        assert following is not None, (where, words(part))
        assert following.tag not in HEADINGS or following.tag > part.tag, (where, words(part))
    for one in page.cssselect(LISTS):
        assert says(one), (where, etree.tostring(one))


def says(part: etree._Element) -> bool:
    """Whether there is anything to read or to fill in."""
    return bool(words(part)) or part.tag in FIELDS or bool(part.cssselect(", ".join(FIELDS)))
