"""The search page and topics' pages: what is found, shown, counted and said; and their feeds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import feedparser
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import html

from digest.models import Fetch, Health, Record
from digest.storage import papers, topics
from digest.storage.database import writing
from digest.web import lists
from digest.web.topics import Weekly
from tests.reception import statements
from tests.shelf import said, store, trial
from tests.web_site import NOW, Running, serving, words

MORE = " Nothing that is said here has to do with it at all, or nearly. Of these a Quagga is one."
DAY = datetime(2026, 5, 28, 6, tzinfo=UTC)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("web")) as running:
        titles = [
            "Agents that read",
            "World models for agents",
            "A world without models <b>&",
            *(f"Survey number {number}" for number in range(60)),
        ]
        records = tuple(
            Record(
                source="feed:own",
                external_id=str(number),
                title=title,
                url=f"https://papers.example.org/{number}",
                listed_at=DAY - timedelta(days=number),
                abstract=f"We show that {title.lower()}." + MORE * (number == 40),
                authors=("Ada Lovelace",),
                categories=("cs.AI",),
                signals={"upvotes": 100 - number},
                arxiv_id="2605.00001" if number == 1 else None,
            )
            for number, title in enumerate(titles)
        )
        fetch = Fetch(source="feed:own", health=Health.OK, records=records)
        with writing(running.engine) as connection:
            papers.store(connection, fetch, now=NOW, oldest=DAY - timedelta(days=3))
            topics.add(connection, "Agents", "agents OR title:world", now=NOW)
            topics.add(connection, "Surveys", "survey", now=NOW)
            topics.add(connection, "Broken", "agents", slug="broken", now=NOW)
            connection.exec_driver_sql("UPDATE topic SET query = '(' WHERE slug = 'broken'")
        yield running


def found(web: Running, query: str, more: str = "") -> list[str]:
    page = html.fromstring(web.get(f"/search?q={quote(query)}{more}").text)
    return [words(node) for node in page.cssselect("article h2")]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("agents", ["Agents that read", "World models for agents"]),
        ('"world models"', ["World models for agents"]),
        ("world -agents", ["A world without models <b>&"]),
        ("title:agents upvotes:>=100", ["Agents that read"]),
        ('author:"Ada Lovelace" read', ["Agents that read"]),
        ("(agents read", ["Agents that read"]),  # no filter: plain words
        ("quasar", []),
    ],
)
def test_what_a_search_finds(web: Running, query: str, expected: list[str]) -> None:
    assert sorted(found(web, query)) == sorted(expected)


def test_what_was_found_is_marked_and_nothing_else_is(web: Running) -> None:
    response = web.get("/search?q=world+-agents")
    page = html.fromstring(response.text)
    assert {words(mark) for mark in page.cssselect("mark")} == {"world"}
    assert not page.cssselect("article b")
    assert "&lt;b&gt;&amp;" in response.text


def test_what_was_found_is_seen(web: Running) -> None:
    # In its third sentence, behind the claim that stands for the paper elsewhere.
    page = html.fromstring(web.get("/search?q=quagga").text)
    [gist] = page.cssselect(".gist")
    assert words(gist) == "Of these a Quagga is one."
    assert [words(mark) for mark in page.cssselect("mark")] == ["Quagga"]
    page = html.fromstring(web.get("/search?q=title:survey+30").text)
    assert [words(node) for node in page.cssselect(".gist")] == ["We show that survey number 30."]


def test_orders_and_pages(web: Running) -> None:
    pages = [found(web, "survey", f"&by=date&page={page}") for page in (1, 2)]
    assert [title for page in pages for title in page] == [
        f"Survey number {number}" for number in range(60)
    ]
    assert len(pages[0]) == lists.PAGE
    page = html.fromstring(web.get("/search?q=survey&by=date").text)
    assert page.cssselect(".pages a[rel=next]")[0].get("href") == "/search?q=survey&by=date&page=2"
    assert "1 to 50 of 60" in words(page)
    for more in ("&page=3", "&page=0", "&page=x", "&by=size", "&page=99999"):
        assert web.get(f"/search?q=survey{more}").status_code == 404


def test_the_page_says_how_the_text_was_read(web: Running) -> None:
    assert "could not be read" in words(web.get("/search?q=" + quote('"agents')))
    assert "could not be read" not in words(web.get("/search?q=agents"))
    said = words(web.get("/search?q=" + "agents+" * 2_000))
    assert "only the first 300 characters" in said
    page = html.fromstring(web.get("/search?q=quasar").text)
    said = words(page)
    assert said.index("No paper matches.") < said.index("New papers on this")
    assert "both words, anywhere" in said
    assert not page.cssselect("nav[aria-label=Order]")  # of nothing
    assert len(page.cssselect("button:not(.second)")) == 1


def test_what_was_mistyped_gets_a_suggestion(web: Running) -> None:
    page = html.fromstring(web.get("/search?q=survye").text)
    [link] = page.cssselect(".notice a")
    assert (words(link), link.get("href")) == ("survey", "/search?q=survey")
    assert not html.fromstring(web.get("/search?q=survey").text).cssselect(".notice")


@pytest.mark.parametrize(
    "text",
    [
        "2605.00001v2",
        "arXiv:2605.00001 [cs.AI]",
        "https://arxiv.org/pdf/2605.00001",
        "hf.co/papers/2605.00001",
    ],
)
def test_what_names_a_paper_finds_it(web: Running, text: str) -> None:
    page = html.fromstring(web.get(f"/search?q={quote(text)}").text)
    assert [words(node) for node in page.cssselect("article h2")] == ["World models for agents"]
    assert "1 paper" in words(page)
    assert "no filter" not in words(page)
    # Nothing new will ever be found by it.
    assert not page.cssselect("form[action='/subscribe'], link[rel=alternate], .head nav")
    assert web.get(f"/search?q={quote(text)}&page=2").status_code == 404


def test_what_names_no_paper_of_ours_is_looked_for_as_words(web: Running) -> None:
    assert "No paper matches." in words(web.get("/search?q=2605.00002"))


def test_a_name_gets_a_suggestion(web: Running) -> None:
    page = html.fromstring(web.get("/search?q=papers+by+ada+lovelace").text)
    [link] = page.cssselect(".notice a")
    assert words(link) == 'author:"ada lovelace"'
    assert len(found(web, words(link))) == lists.PAGE


def test_a_paper_has_similar_ones_beside_it(web: Running) -> None:
    page = html.fromstring(web.get("/search?q=title:read").text)
    [link] = page.cssselect("article h2 a")
    page = html.fromstring(web.get(str(link.get("href"))).text)
    [alike] = page.cssselect("aside[aria-labelledby=alike]")
    assert "World models for agents" in words(alike)


def test_without_a_query_it_shows_how_to_search(web: Running) -> None:
    for path in ("/search", "/search?q=", "/search?q=%20%00"):
        page = html.fromstring(web.get(path).text)
        examples = [str(link.get("href")) for link in page.cssselect(".examples a")]
        assert len(examples) == 6
    assert all("could not be read" not in words(web.get(example)) for example in examples)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.sampled_from(["", "&by=date", "&page=1"]))
def test_no_text_breaks_the_box(web: Running, text: str, more: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    response = web.get(f"/search?q={quote(text)}{more}")
    assert response.status_code == 200
    assert web.get(f"/search/feed.atom?q={quote(text)}").status_code in (200, 404)


@pytest.mark.parametrize(
    "text",
    ["' OR 1=1 --", "agents' UNION SELECT", 'NEAR("a" "b", 5)', "title MATCH x", "*", "^a", "a:b:c",
     "{a b}", "a + b", "a & b | !c", "a <-> b", "\\", "%", "_", "((((((", ")" * 10_000, '"' * 9_999,
     "-" * 5_000, "\u202e\x00\ufeff", "agents " * 5_000],
)  # fmt: skip
def test_operators_of_databases_mean_nothing(web: Running, text: str) -> None:
    response = web.get("/search") if not text else web.client.get("/search", params={"q": text})
    assert response.status_code == 200


def test_a_search_has_feeds(web: Running) -> None:
    page = html.fromstring(web.get("/search?q=agents").text)
    [atom, other] = [str(link.get("href")) for link in page.cssselect("link[rel=alternate]")]
    entries = feedparser.parse(web.get(atom).content).entries
    assert [entry.title for entry in entries] == ["Agents that read", "World models for agents"]
    whole = json.loads(web.get(other).content)
    assert [item["title"] for item in whole["items"]] == [entry.title for entry in entries]
    assert whole["home_page_url"] == "http://localhost:8000/search?q=agents"
    assert whole["feed_url"] == "http://localhost:8000/search/feed.json?q=agents"
    assert web.get("/search/feed.atom").status_code == 404


def test_a_topic_lists_its_newest_papers(web: Running) -> None:
    response = web.get("/topics/agents")
    page = html.fromstring(response.text)
    expected = ["Agents that read", "World models for agents", "A world without models <b>&"]
    assert [words(node) for node in page.cssselect("article h2")] == expected
    assert "agents OR title:world" in words(page)
    [atom, _] = [str(link.get("href")) for link in page.cssselect("link[rel=alternate]")]
    assert [entry.title for entry in feedparser.parse(web.get(atom).content).entries] == expected
    assert "Agents" in words(web.get("/topics"))


def test_a_topic_says_what_it_looks_for_and_how_much_it_brings(web: Running) -> None:
    said = "3 papers in the last 7 days · Looks for: agents OR title:world"
    assert said in words(web.get("/topics/agents"))
    assert "4 papers in the last 7 days · Looks for: survey" in words(web.get("/topics/surveys"))
    page = html.fromstring(web.get("/topics").text)
    assert [words(node) for node in page.cssselect(".topics p")] == [
        said,
        "Looks for: (",  # of which nothing is known
        "4 papers in the last 7 days · Looks for: survey",
    ]


def test_topics_are_counted_anew_only_when_there_is_something_new(web: Running) -> None:
    weekly, since = Weekly(), (NOW - timedelta(days=6)).date()
    with trial(web.engine) as connection:
        known = topics.all_topics(connection)
        assert weekly.of(connection, known, since) == {"agents": 3, "surveys": 4}
        asked: list[str] = []
        statements(web.engine, asked)
        assert weekly.of(connection, known, since) == {"agents": 3, "surveys": 4}
        assert len(asked) == 1  # however many topics there are
        assert weekly.of(connection, known[:1], since) == {"agents": 3}
        assert weekly.of(connection, known, since + timedelta(days=5))["surveys"] == 0
        store(connection, said("new", "Agents again", listed_at=DAY))
        assert weekly.of(connection, known, since)["agents"] == 4
        popular = topics.add(connection, "Popular", "agents upvotes:>=99", now=NOW)
        assert weekly.of(connection, [popular], since)["popular"] == 2
        store(connection, said("new", "Agents again", listed_at=DAY, signals={"upvotes": 99}))
        assert weekly.of(connection, [popular], since)["popular"] == 3


def test_a_topic_that_cannot_be_read_has_no_papers(web: Running) -> None:
    assert "No paper matches this topic yet." in words(web.get("/topics/broken"))
    assert web.get("/topics/none").status_code == 404
    assert web.get("/topics/none/feed.atom").status_code == 404
    assert web.get("/topics/agents?page=2").status_code == 404


def test_a_search_that_cannot_be_mailed_says_why(web: Running) -> None:
    # Plain words that are signs of the language stand in quotes once they are written as a filter.
    page = html.fromstring(web.get(f"/search?q={'x' * 291}+and+or+(").text)
    assert "Mail me this search: This has 302 characters; the limit is 300." in words(page)
    assert not page.cssselect("form[action='/subscribe']")


@pytest.mark.parametrize("query", ['"', "?!", "()", "-"])
def test_a_search_without_words_finds_nothing(web: Running, query: str) -> None:
    page = web.get(f"/search?q={quote(query)}")
    assert "No paper matches." in words(page)
    assert "were looked for" not in words(page)
