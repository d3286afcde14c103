"""Weeks, months, one paper, feeds and what crawlers read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import feedparser
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree, html
from sqlalchemy import insert, update
from starlette.routing import Route

from digest import schema
from digest.models import Action, Frequency, Paper, Wishes
from digest.papers.bibtex import bibtex
from digest.storage import feedback, topics
from digest.storage.database import writing
from digest.tokens import Purpose
from digest.web import WebSite, chart, periods
from digest.web.app import create_app
from digest.web.feeds import Feed, atom, json_feed
from digest.web.languages import nearest, preferred
from tests.web_site import (
    NOW,
    PROBE,
    SITE,
    TEMPLATES,
    Running,
    add_paper,
    add_subscriber,
    serving,
    token,
    words,
)

WISHES = Wishes(zone="UTC", hour=8, frequency=Frequency.DAILY, max_papers=12)
DAY = datetime(2026, 5, 28, 6, tzinfo=UTC)  # a Thursday
EVIL = "</title><script>alert(1)</script>\"'&{{ 7*7 }}\u202e\x0b\0]]>"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("web")) as running:
        yield running


@pytest.fixture
def web(server: Running) -> Running:
    server.empty()
    return server


def name_paper(web: Running, paper_id: int, arxiv_id: str) -> None:
    with writing(web.engine) as connection:
        table = schema.paper
        connection.execute(update(table).where(table.c.id == paper_id).values(arxiv_id=arxiv_id))
        name = {"kind": "arxiv", "value": arxiv_id, "paper_id": paper_id}
        connection.execute(insert(schema.identifier).values(name))


def read_votes(web: Running, paper_id: int, values: list[int], source: str = "huggingface") -> None:
    """One reading a day, the first one on `DAY`."""
    with writing(web.engine) as connection:
        record_id = connection.execute(
            insert(schema.record)
            .values(
                source=source,
                external_id=str(paper_id),
                paper_id=paper_id,
                kind="new",
                fresh=True,
                listed_at=DAY,
                first_seen_at=DAY,
                changed_at=DAY,
                content_hash="",
                content={},
                raw="",
            )
            .returning(schema.record.c.id)
        ).scalar_one()
        for day, value in enumerate(values):
            seen_at = DAY + timedelta(days=day)
            row = {"record_id": record_id, "name": "upvotes", "seen_at": seen_at, "value": value}
            connection.execute(insert(schema.signal).values(row))


# ------------------------------------------------------------------ weeks and months


@pytest.mark.parametrize(
    ("written", "first", "end"),
    [
        ("2026-05-28", "2026-05-28", "2026-05-29"),
        ("2024-02-29", "2024-02-29", "2024-03-01"),
        ("2026-W22", "2026-05-25", "2026-06-01"),
        ("2020-W53", "2020-12-28", "2021-01-04"),
        ("2026-05", "2026-05-01", "2026-06-01"),
        ("2025-12", "2025-12-01", "2026-01-01"),
    ],
)
def test_a_period_has_one_name(written: str, first: str, end: str) -> None:
    found = periods.parse(written)
    assert found is not None
    assert (found.first.isoformat(), found.end.isoformat(), found.name) == (first, end, written)


@pytest.mark.parametrize(
    "written",
    ["2026-13", "2026-00", "2026-W00", "2026-W54", "2025-W53", "2026-5", "2026", "2026-05-", "",
     "2026-02-30", "0001-01", "9999-12", "２０２６-05", "2026-05\n"],
)  # fmt: skip
def test_what_names_no_period(written: str) -> None:
    assert periods.parse(written) is None


@given(st.dates(date(1900, 1, 1), date(2999, 12, 1)), st.sampled_from(["day", "week", "month"]))
def test_a_day_lies_in_its_periods(day: date, kind: str) -> None:
    found = periods.containing(day, kind)
    assert found.first <= day < found.end
    assert (found.end - found.first).days in {"day": {1}, "week": {7}, "month": {28, 29, 30, 31}}[
        kind
    ]
    if found.first.year >= periods.FIRST_YEAR:
        assert periods.parse(found.name) == found


def test_a_week_and_a_month_list_their_papers_and_lead_on(web: Running) -> None:
    for title, days, votes in (
        ("Monday's", -3, 5),
        ("Sunday's", 3, 9),
        ("Last week's", -4, 50),
        ("In April", -40, 70),
        ("In June", 20, 80),
    ):
        add_paper(web.engine, title, DAY + timedelta(days=days), signals={"upvotes": votes})
    page = html.fromstring(web.get("/papers/2026-W22").text)
    assert [words(node) for node in page.cssselect("article h2")] == ["Sunday's", "Monday's"]
    assert page.cssselect("a[rel=prev]")[0].get("href") == "/papers/2026-W21"
    assert page.cssselect("a[rel=next]")[0].get("href") == "/papers/2026-W25"
    assert "25–31 May 2026" in words(page)
    assert [words(node) for node in page.cssselect("article time")] == [
        "31 May 2026",
        "25 May 2026",
    ]
    assert [link.get("href") for link in page.cssselect("p.pages a")] == [
        "/papers/2026-W21",
        "/papers/2026-W25",
    ]
    page = html.fromstring(web.get("/papers/2026-05").text)
    assert [words(node) for node in page.cssselect("article h2")] == [
        "Last week's",
        "Sunday's",
        "Monday's",
    ]
    assert page.cssselect("a[rel=prev]")[0].get("href") == "/papers/2026-04"
    assert "May 2026" in words(page)
    assert "In June" in words(web.get("/week"))
    assert "In June" in words(web.get("/month"))
    assert web.get("/papers/2026-W30").status_code == 404


def test_who_looks_for_the_house_by_name_finds_its_front_page(web: Running) -> None:
    add_paper(web.engine, "Agents that read", DAY)
    for path, address, name, described in (
        ("/", "/", "Paper Digest", "Get trending papers in your inbox"),
        ("/papers/2026-05-28", "/papers/2026-05-28", "Thursday, 28 May 2026", "Agents that read"),
    ):
        page = html.fromstring(web.get(path).text)
        [link] = page.cssselect("link[rel=canonical]")
        assert link.get("href") == SITE.base_url + address
        assert words(page.cssselect("title")[0]).startswith(name)
        [said] = page.cssselect("meta[name=description]")
        assert said.get("content", "").startswith(described)


def test_whoever_comes_from_elsewhere_can_subscribe(web: Running) -> None:
    paper_id = add_paper(web.engine, "Agents that read", DAY)
    for path in ("/", "/papers/2026-05-28", "/papers/2026-W22", "/topics", f"/p/{paper_id}"):
        assert len(html.fromstring(web.get(path).text).cssselect("form.join")) == 1, path


def test_the_best_of_the_week_stand_beside_a_day(web: Running) -> None:
    add_paper(web.engine, "Of Monday", DAY - timedelta(days=3), signals={"upvotes": 7})
    add_paper(web.engine, "Nobody's", DAY)
    page = html.fromstring(web.get("/papers/2026-05-28").text)
    [best] = page.cssselect("aside[aria-labelledby=best]")
    assert words(best) == "Most voted this week Of Monday"


# ------------------------------------------------------------------ one paper


def test_a_paper_with_all_that_is_known_of_it(web: Running) -> None:
    with writing(web.engine) as connection:
        topics.add(connection, "Agents", "agents", now=NOW)
        topics.add(connection, "Vision", "vision", now=NOW)
    paper_id = add_paper(
        web.engine,
        "Agents that read",
        DAY,
        url="https://arxiv.org/abs/2605.01234",
        abstract="We show that agents read.",
        summary="Agents read.",
        authors=["Ada Lovelace", "Grace Hopper"],
        organisation="analytical-engines",
        categories=["cs.AI"],
        links={"pdf": "https://arxiv.org/pdf/2605.01234", "code": "https://example.org/code"},
        signals={"upvotes": 12, "stars": 28},
        published_at=DAY,
    )
    name_paper(web, paper_id, "2605.01234")
    read_votes(web, paper_id, [1, 5, 12])
    response = web.get("/p/2605.01234")
    said, page = words(response), html.fromstring(response.text)
    for part in (
        "Ada Lovelace, Grace Hopper",
        "Published: 28 May 2026 · Listed: 28 May 2026",
        "Analytical Engines",
        "Agents read.",
        "We show that agents read.",
        "28 stars",
        "cs.AI",
        "@misc{lovelace2026agents,",
    ):
        assert part in said
    assert [link.text for link in page.cssselect(".ways a")] == ["arXiv", "PDF", "Code", "alphaXiv"]
    [picture] = page.cssselect("svg[role=img]")
    assert picture.get("aria-label") == "From 1 on 28 May 2026 to 12 on 30 May 2026"
    [topic] = page.cssselect("aside[aria-labelledby=topics] a")
    assert words(topic) == "Agents"
    assert page.cssselect("meta[property='og:description']")[0].get("content") == "Agents read."


@pytest.mark.parametrize(
    ("thumbnail", "card"),
    [
        ("https://cdn.example.org/2605.01234.png", "summary_large_image"),
        ("http://cdn.example.org/2605.01234.png", "summary"),
        ("javascript:alert(1)", "summary"),
        ('https://cdn.example.org/"><script>', "summary"),
        ("https://", "summary"),
        ("", "summary"),
    ],
)
def test_a_social_card_has_the_papers_picture(web: Running, thumbnail: str, card: str) -> None:
    paper_id = add_paper(web.engine, "Seen", DAY, links={"thumbnail": thumbnail})
    response = web.get(f"/p/{paper_id}")
    head = {
        str(meta.get("property") or meta.get("name")): meta.get("content")
        for meta in html.fromstring(response.text).cssselect("meta")
    }
    assert head["twitter:card"] == card
    assert head.get("og:image") == (None if card == "summary" else thumbnail)
    assert ("og:image:alt" in head) is ("og:image" in head)
    assert not html.fromstring(response.text).cssselect("img, [src^='https:']")
    assert "img-src 'self'" in response.headers["content-security-policy"]


@pytest.mark.parametrize(
    "name",
    ["{id}", "2605.01234v3", "arXiv:2605.01234", "2605.01234V1", "{merged}"],
)
def test_other_names_lead_to_the_page_for_ever(web: Running, name: str) -> None:
    kept = add_paper(web.engine, "Kept", DAY)
    name_paper(web, kept, "2605.01234")
    merged = add_paper(web.engine, "Merged", DAY, merged_into=kept)
    path = "/p/" + name.format(id=kept, merged=merged)
    for suffix in ("", ".bib"):
        response = web.get(path + suffix)
        assert response.status_code == 301
        assert response.headers["location"] == "/p/2605.01234" + suffix
        assert web.get(response.headers["location"]).status_code == 200


def test_an_old_arxiv_id_has_a_slash(web: Running) -> None:
    paper_id = add_paper(web.engine, "Old", DAY)
    name_paper(web, paper_id, "hep-th/9901001")
    assert words(html.fromstring(web.get("/p/hep-th/9901001").text).cssselect("h1")[0]) == "Old"
    assert web.get("/p/hep-th%2F9901001").status_code == 200
    assert web.get("/p/HEP-TH/9901001v2").headers["location"] == "/p/hep-th/9901001"
    assert web.get("/p/hep-th/9901001.bib").text.startswith("@misc{paperold,")


@pytest.mark.parametrize(
    "name",
    ["", "0", "01", "999", "9" * 30, "2605.99999", "hep-th/0000000", "%2e%2e/etc/passwd", "-1",
     "1.bib.bib", "https://example.org/", "%C2%B2", "2605.01234%00", "a" * 5000],
)  # fmt: skip
def test_what_names_no_paper_is_404(web: Running, name: str) -> None:
    add_paper(web.engine, "Only", DAY)
    assert web.get(f"/p/{name}").status_code == 404


def test_a_hostile_paper_is_inert_everywhere(web: Running) -> None:
    paper_id = add_paper(
        web.engine,
        EVIL,
        DAY,
        url="javascript:alert(1)",
        abstract=EVIL,
        summary=EVIL,
        authors=[EVIL] * 3,
        organisation=EVIL,
        venue=EVIL,
        comment=EVIL,
        keywords=[EVIL],
        categories=[EVIL],
        links={"pdf": "data:text/html,x", "code": "javascript:x", "html": "https://example.org/h"},
        signals={"upvotes": 3},
        doi="10.1234/}\\input{x}",
    )
    response = web.get(f"/p/{paper_id}")
    page = html.fromstring(response.text)
    assert not page.cssselect("script:not([src]), [onload], [style]")
    assert not {"\u202e", "\0"} & set(response.text)
    outward = {link.get("href") for link in page.cssselect("a") if ":" in (link.get("href") or "")}
    assert outward <= {
        "https://example.org/h",
        "https://example.org/imprint",
        "mailto:privacy@example.org",
    }
    for kind in ("atom", "json"):
        feed = web.get(f"/feed.{kind}")
        assert "\u202e" not in feed.text
        assert "javascript:" not in feed.text
    etree.fromstring(web.get("/feed.atom").content)
    assert json.loads(web.get("/feed.json").content)["items"][0]["url"].endswith(f"/p/{paper_id}")
    balanced(web.get(f"/p/{paper_id}.bib").text)


def test_a_paper_by_thousands_fits_a_page(web: Running) -> None:
    authors = [f"Somebody With A Long Name {number}" for number in range(5_000)]
    paper_id = add_paper(web.engine, "Big", DAY, authors=authors, abstract="Much. " * 20_000)
    response = web.get(f"/p/{paper_id}")
    assert "and 4,000 more" in words(response)
    [first] = html.fromstring(response.text).cssselect(".authors summary")
    assert words(first).endswith("Name 11 and 4,988 more")
    assert len(response.content) < 100_000


# ------------------------------------------------------------------ BibTeX


def balanced(entry: str) -> None:
    """No text ends its field: braces pair up, and BibTeX counts those behind a backslash too."""
    depth = 0
    for place, char in enumerate(entry):
        depth += {"{": 1, "}": -1}.get(char, 0)
        assert depth > 0 or place < entry.index("{") or place >= len(entry) - 2
    assert depth == 0
    assert entry.count("@") >= 1
    assert entry.endswith("\n}\n")


def test_bibtex_of_an_arxiv_paper() -> None:
    paper = Paper(
        id=1,
        title="100% of Agents & {Braces}_1",
        url="https://arxiv.org/abs/2605.01234",
        authors=("José Álvarez", "Sand, and Co", "Plain Name", "Others"),
        categories=("cs.AI",),
        arxiv_id="2605.01234",
        published_at=DAY,
    )
    assert bibtex(paper) == (
        "@misc{alvarez2026100,\n"
        r"  title = {{100\% of Agents \& \textbraceleft{}Braces\textbraceright{}\_1}}," + "\n"
        "  author = {José Álvarez and {Sand, and Co} and Plain Name and {Others}},\n"
        "  year = {2026},\n"
        "  eprint = {2605.01234},\n"
        "  archiveprefix = {arXiv},\n"
        "  primaryclass = {cs.AI},\n"
        "  url = {https://arxiv.org/abs/2605.01234}\n"
        "}\n"
    )


@given(st.text(), st.lists(st.text(), max_size=3), st.text(), st.text())
def test_no_text_breaks_bibtex(title: str, authors: list[str], venue: str, url: str) -> None:
    entry = bibtex(Paper(id=1, title=title, url=url, authors=tuple(authors), venue=venue, doi=url))
    balanced(entry)
    entry.encode()


# ------------------------------------------------------------------ the chart


def test_votes_over_time_are_the_most_of_any_source(web: Running) -> None:
    paper_id = add_paper(web.engine, "Twice", DAY)
    read_votes(web, paper_id, [3, 4, 9])
    read_votes(web, paper_id, [5, 5], source="feed:other")
    page = html.fromstring(web.get(f"/p/{paper_id}").text)
    assert page.cssselect("svg")[0].get("aria-label") == "From 3 on 28 May 2026 to 9 on 30 May 2026"


def test_a_line_keeps_its_ends_however_long() -> None:
    readings = [(DAY + timedelta(hours=hour), hour % 7) for hour in range(1000)]
    found = chart.line(readings)
    assert found is not None
    points = found.points.split()
    assert len(points) <= chart.MOST + 1
    assert (found.first, found.last) == (readings[0], readings[-1])
    assert points[0].startswith(f"{chart.EDGE:.1f},")
    assert points[-1] == f"{found.x},{found.y}"
    assert found.x == chart.WIDTH - chart.EDGE


@pytest.mark.parametrize(
    "readings", [[], [(DAY, 5)], [(DAY, 5), (DAY, 6)]], ids=["none", "one", "one moment"]
)
def test_what_makes_no_line(readings: list[tuple[datetime, int]]) -> None:
    assert chart.line(readings) is None


def test_a_paper_that_nobody_votes_for_has_a_flat_line() -> None:
    found = chart.line([(DAY, 0), (DAY + timedelta(days=1), 0)])
    assert found is not None
    assert found.y == chart.HEIGHT - chart.EDGE


# ------------------------------------------------------------------ feeds and crawlers


def test_feeds_have_the_newest_day(web: Running) -> None:
    add_paper(web.engine, "Yesterday's", DAY - timedelta(days=1))
    paper_id = add_paper(
        web.engine, "First & best", DAY, authors=["Ada"], summary="Short.", published_at=DAY
    )
    add_paper(web.engine, "Nobody's", DAY)
    found = feedparser.parse(web.get("/feed.atom").content)
    assert not found.bozo
    assert [entry.title for entry in found.entries] == ["First & best", "Nobody's"]
    first = found.entries[0]
    assert first.id == f"tag:localhost,2026:paper/{paper_id}"
    assert first.link == f"http://localhost:8000/p/{paper_id}"
    assert (first.author, first.summary) == ("Ada", "Short.")
    items = json.loads(web.get("/feed.json").content)["items"]
    assert [item["id"] for item in items] == [entry.id for entry in found.entries]


@pytest.mark.parametrize("public", [True, False])
def test_an_item_of_nothing_is_an_item(public: bool) -> None:
    nothing = Paper(id=1, title="", url="x:y", authors=("\x00",), categories=("\x0b",))
    feed = Feed(title="T", path="/", papers=[nothing])
    names = {"base": "https://x.example.org", "here": "https://x.example.org/feed"}
    [item] = json.loads(json_feed(feed, **names, public=public))["items"]
    assert item["content_text"] == ""
    assert not {"authors", "tags"} & item.keys()
    [entry] = feedparser.parse(atom(feed, **names, public=public)).entries
    assert entry.link == ("https://x.example.org/p/1" if public else "https://x.example.org/")


def test_an_empty_feed_is_a_feed(web: Running) -> None:
    assert not feedparser.parse(web.get("/feed.atom").content).bozo
    assert json.loads(web.get("/feed.json").content)["items"] == []


@pytest.mark.parametrize("path", ["/feed.atom", "/feed.json", "/sitemap.xml"])
def test_who_has_it_does_not_get_it_again(web: Running, path: str) -> None:
    add_paper(web.engine, "One", DAY)
    first = web.get(path)
    tag = first.headers["etag"]
    for asked in (tag, f'"x", W/{tag}', "*"):
        again = web.client.get(path, headers={"If-None-Match": asked})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    twice = [("If-None-Match", '"x"'), ("If-None-Match", tag)]
    assert web.client.get(path, headers=twice).status_code == 304
    assert web.client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    add_paper(web.engine, "Two", DAY + timedelta(days=31))
    assert web.client.get(path, headers={"If-None-Match": tag}).status_code == 200


def test_sitemaps_name_every_paper(web: Running) -> None:
    paper_id = add_paper(web.engine, "May", DAY)
    old = add_paper(web.engine, "April", DAY - timedelta(days=40))
    name_paper(web, old, "hep-th/9901001")
    found = re.findall(r"<loc>http://localhost:8000(.*?)</loc>", web.get("/sitemap.xml").text)
    assert found == ["/sitemap-2026-04.xml", "/sitemap-2026-05.xml"]
    pages = [re.findall(r"<loc>http://localhost:8000(.*?)</loc>", web.get(p).text) for p in found]
    assert pages == [
        ["/papers/2026-04-18", "/p/hep-th/9901001"],
        ["/papers/2026-05-28", f"/p/{paper_id}"],
    ]
    for page in (page for month in pages for page in month):
        assert web.get(page).status_code == 200
    for path in ("/sitemap-2026-06.xml", "/sitemap-2026-W22.xml", "/sitemap-x.xml"):
        assert web.get(path).status_code == 404


def test_crawlers_stay_out_of_what_is_personal(web: Running) -> None:
    said = web.get("/robots.txt").text
    assert "Disallow: /u/\n" in said
    assert "Sitemap: http://localhost:8000/sitemap.xml\n" in said


PUBLIC = (
    *("/week", "/month", "/papers/2026-05-28", "/papers/2026-05", "/papers/2026-W22", "/p/{id}"),
    *("/papers", "/p/{id}.bib", "/topics", "/topics/secrets", "/search", "/sitemap.xml"),
    *("/sitemap-2026-05.xml", "/feed.atom", "/feed.json", "/search/feed.atom"),
    *("/search/feed.json", "/topics/secrets/feed.atom", "/topics/secrets/feed.json"),
)


def test_all_that_is_public_is_known_here(web: Running) -> None:
    """What the next test asks of a closed house is all that an open one shows to everybody."""

    def routes(site: WebSite) -> set[str]:
        plan: Any = None  # for previews, which nobody asks for here
        app = create_app(
            accounts=web.accounts, plan=plan, templates=TEMPLATES, site=site, probe=PROBE
        )
        return {route.path for route in app.routes if isinstance(route, Route)}

    shown = {
        re.sub(r"2026-[\dW-]+", "*", path.format(id="*")).replace("secrets", "*") for path in PUBLIC
    }
    open_, closed = routes(SITE), routes(replace(SITE, public=False))
    assert {re.sub(r"\{.*?\}", "*", path) for path in open_ - closed} | {"/p/*.bib"} == shown


def test_a_saved_feed_leads_somewhere_in_a_closed_house(tmp_path: Path) -> None:
    with serving(tmp_path, site=replace(SITE, public=False)) as closed:
        ids = set()
        for address in ("ada@example.org", "bob@example.org"):
            person = add_subscriber(closed.engine, address, WISHES)
            paper_id = add_paper(closed.engine, "Kept", DAY, url="https://papers.example.org/1")
            with writing(closed.engine) as connection:
                feedback.give(connection, person, paper_id, Action.SAVE, digest_id=1, now=NOW)
            path = f"/saved/{token(Purpose.SAVED, person)}"
            found = feedparser.parse(closed.get(f"{path}/feed.atom").content)
            assert [entry.link for entry in found.entries] == ["https://papers.example.org/1"]
            [item] = json.loads(closed.get(f"{path}/feed.json").content)["items"]
            assert item["url"] == "https://papers.example.org/1"
            again = feedparser.parse(closed.get(f"{path}/feed.atom").content)
            assert again.feed.id == found.feed.id
            assert token(Purpose.SAVED, person) not in found.feed.id
            ids.add(found.feed.id)
        assert len(ids) == 2  # or a reader's program would take two people's for one


def test_what_somebody_said_and_saved_comes_in_pages(web: Running) -> None:
    person = add_subscriber(web.engine, "ada@example.org", WISHES)
    for number in range(60):
        paper_id = add_paper(web.engine, f"Title {number} " + "of words " * 30, DAY)
        with writing(web.engine) as connection:
            for action in (Action.SAVE, Action.MORE):
                at = NOW + timedelta(seconds=number)
                feedback.give(connection, person, paper_id, action, now=at)
    saved, own = token(Purpose.SAVED, person), token(Purpose.PREFERENCES, person)
    for path, listed, sizes in (
        (f"/saved/{saved}", "article h2", (50, 10)),
        (f"/me/{own}", ".given li", (50, 50, 20)),
    ):
        seen = []
        for number, size in enumerate(sizes, start=1):
            response = web.get(f"{path}?page={number}")
            assert len(response.content) < 100_000
            page = html.fromstring(response.text)
            found = [words(node) for node in page.cssselect(listed)]
            assert len(found) == size
            assert bool(page.cssselect(".pages a[rel=next]")) is (number < len(sizes))
            for link in page.cssselect(".pages a"):
                other = httpx.URL(path).join(str(link.get("href")))
                assert web.client.get(other).status_code == 200
            seen += found
        assert len(set(seen)) == len(seen) == sum(sizes)
        assert "Title 59 " in seen[0]
        for page_ in ("0", "-1", "x", str(len(sizes) + 1)):
            assert web.get(f"{path}?page={page_}").status_code == 404
    feed = feedparser.parse(web.get(f"/saved/{saved}/feed.atom").content)
    assert len(feed.entries) == 50


def test_a_house_can_keep_its_papers_to_itself(tmp_path: Path) -> None:
    with serving(tmp_path, site=replace(SITE, public=False)) as closed:
        paper_id = add_paper(closed.engine, "Secret", DAY)
        with writing(closed.engine) as connection:
            topics.add(connection, "Secrets", "secret", slug="secrets", now=NOW)
        for path in PUBLIC:
            filled = path.format(id=paper_id)
            for more in ("", "?q=secret"):
                answer = closed.get(filled + more)
                assert answer.status_code == 404, path
                assert "secret" not in answer.text.casefold().replace("?q=secret", "")
        page = html.fromstring(closed.get("/").text)
        assert page.cssselect("form[action='/subscribe']")
        assert "Secret" not in words(page)
        for link in page.cssselect("a[href^='/']"):
            assert closed.get(str(link.get("href"))).status_code == 200
        assert closed.get("/robots.txt").text == "User-agent: *\nDisallow: /\n"


# ------------------------------------------------------------------ languages


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("de", "de"),
        ("de-AT, en;q=0.5", "de"),
        ("en;q=0.5, de;q=0.8", "de"),
        ("zh-CN", "zh_Hans"),
        ("zh-TW;q=1, fr", "fr"),
        ("zh-Hant, de;q=0.1", "de"),
        ("ja;q=0, fr;q=0.001", "fr"),
        ("xx, *", "es"),
        ("", "es"),
        ("de;q=2;;,\x00,", "es"),
        ("de," * 10_000, "de"),
        ("fr-", "es"),
    ],
)
def test_the_browsers_language(header: str, expected: str) -> None:
    known = {"en", "de", "fr", "es", "ja", "zh_Hans"}
    assert preferred(header, known=known, default="es") == expected


@given(st.text())
def test_no_header_breaks_it(header: str) -> None:
    assert preferred(header, known={"en", "de"}, default="en") in {"en", "de"}
    assert nearest(header, known={"en"}) in {"en", ""}
