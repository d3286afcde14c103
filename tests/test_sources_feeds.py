"""Feeds: every recorded one, what an entry becomes, and the requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from digest.errors import SourceError
from digest.models import Fetch, Health, Record
from digest.sources.feeds import Entries, Feed, parse_feed, plain_text
from digest.sources.http import Client
from digest.sources.links import web_link
from tests.raw_server import reply, serving
from tests.replay import Replay

NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)
HOME = "https://lab.example.org/news/feed.xml"


def feed(*items: str) -> bytes:
    names = (
        'xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:prism="http://prismstandard.org/namespaces/basic/2.0/" '
        'xmlns:content="http://purl.org/rss/1.0/modules/content/"'
    )
    body = "".join(f"<item>{item}</item>" for item in items)
    return (
        f'<?xml version="1.0"?><rss {names} version="2.0"><channel>'
        f"<title>Example Lab</title>{body}</channel></rss>"
    ).encode()


def parse(body: bytes) -> Entries:
    return parse_feed(body, slug="lab", url=HOME, now=NOW)


def one(item: str) -> Record:
    (record,) = parse(feed(item)).records
    return record


BASE = "<title>A post</title><link>https://lab.example.org/post</link>"


def test_an_entry_becomes_a_record() -> None:
    record = one(
        "<title>On &lt;i&gt;agents&lt;/i&gt; &amp;amp; tools</title><link>/post/1</link>"
        "<guid isPermaLink='false'>42</guid><pubDate>Mon, 31 Aug 2026 10:00:00 +0200</pubDate>"
        "<description>&lt;p&gt;One.&lt;/p&gt;&lt;p&gt;Two &amp;amp; three.&lt;/p&gt;"
        "&lt;script&gt;alert(1)&lt;/script&gt;</description>"
        "<dc:creator>Ada Example</dc:creator><dc:creator>Bo Example</dc:creator>"
        "<category>Research</category>"
    )
    assert (record.source, record.external_id) == ("feed:lab", "42")
    assert record.title == "On agents & tools"
    assert record.url == "https://lab.example.org/post/1"
    assert record.abstract == "One. Two & three."
    assert record.listed_at == record.published_at == datetime(2026, 8, 31, 8, tzinfo=UTC)
    assert record.authors == ("Ada Example", "Bo Example")
    assert (record.venue, record.keywords) == ("Example Lab", ("Research",))
    assert json.loads(record.raw)["id"] == "42"


AUTHORS = {
    "several in one": ("Ada Example, Bo Example and Cy Example", 3),
    "semicolons": ("Ada Example; Bo Example", 2),
    "family name first": ("Example, Ada", 1),
    "an address": ("ada@example.org (Ada Example)", 1),
    "only an address": ("ada@example.org", 0),
}


@pytest.mark.parametrize(("names", "count"), AUTHORS.values(), ids=AUTHORS)
def test_authors_are_a_list(names: str, count: int) -> None:
    authors = one(f"{BASE}<author>{names}</author>").authors
    assert len(authors) == count
    assert not any("@" in name for name in authors)


IDENTITIES = {
    "arXiv in the link": ("<link>https://arxiv.org/abs/2608.19880v2</link>", "2608.19880", None),
    "arXiv in the guid": (
        "<link>https://x.example.org</link><guid>oai:arXiv.org:2608.19880v1</guid>",
        "2608.19880",
        None,
    ),
    "DOI by prism": (
        "<link>https://x.example.org</link><prism:doi>10.1038/S42256-1</prism:doi>",
        None,
        "10.1038/s42256-1",
    ),
    "DOI by Dublin Core": (
        "<link>https://x.example.org</link><dc:identifier>doi:10.1038/s42256-1</dc:identifier>",
        None,
        "10.1038/s42256-1",
    ),
    "not in prose": (
        "<link>https://x.example.org</link><description>arXiv:2608.19880 10.1038/s4</description>",
        None,
        None,
    ),
}


@pytest.mark.parametrize(("item", "arxiv_id", "doi"), IDENTITIES.values(), ids=IDENTITIES)
def test_identity_comes_from_the_entrys_own_fields(
    item: str, arxiv_id: str | None, doi: str | None
) -> None:
    record = one(f"<title>A post</title>{item}")
    assert (record.arxiv_id, record.doi) == (arxiv_id, doi)


DATES = {
    "in the future": ("Mon, 31 Aug 2099 10:00:00 GMT", NOW, NOW),
    "a year only": ("2024", datetime(2024, 1, 1, tzinfo=UTC), NOW),
    "ISO": ("2026-08-30T10:00:00+02:00", datetime(2026, 8, 30, 8, tzinfo=UTC), None),
    "no date at all": ("yesterday", None, NOW),
}


@pytest.mark.parametrize(("text", "published", "listed"), DATES.values(), ids=DATES)
def test_dates(text: str, published: datetime | None, listed: datetime | None) -> None:
    record = one(f"{BASE}<pubDate>{text}</pubDate>")
    assert record.published_at == published
    assert record.listed_at == (listed or published)


def test_an_abstract_is_the_summary_and_never_a_whole_article() -> None:
    article = "<content:encoded>" + "word " * 3000 + "</content:encoded>"
    assert one(f"{BASE}<description>Short.</description>{article}").abstract == "Short."
    assert len(one(BASE + article).abstract) <= 4002


def test_one_guid_for_all_is_no_name() -> None:
    items = [
        f"<title>Post {n}</title><link>https://lab.example.org/{n}</link><guid>same</guid>"
        for n in range(3)
    ]
    names = [record.external_id for record in parse(feed(*items)).records]
    assert names == [f"https://lab.example.org/{n}" for n in range(3)]


def test_one_bad_entry_does_not_cost_the_feed() -> None:
    found = parse(feed(BASE, "<title>No link</title>", "<link>https://x.example.org</link>"))
    assert (len(found.records), found.bad) == (1, 2)


LINKS = {
    "https://a.example/x": "https://a.example/x",
    " https://a.example/\nx ": "https://a.example/x",
    "../x": "https://lab.example.org/x",
    "javascript:alert(1)": "",
    "java\nscript:alert(1)": "",
    "data:text/html,x": "",
    "tag:a.example,2024:1": "",
    "https://good.example@evil.example/": "",
    "http://[": "",
}


@pytest.mark.parametrize(("text", "link"), LINKS.items())
def test_links_are_absolute_and_of_the_web(text: str, link: str) -> None:
    assert web_link(text, base=HOME) == link


def test_plain_text_keeps_words_apart_and_has_no_tags() -> None:
    assert plain_text("<p>a</p>b<br/>c &lt;d&gt;<style>x</style>").split() == [
        *("a", "b", "c", "<d>"),
    ]


NO_FEEDS = {
    "a page": (b"<!DOCTYPE html><title>Hello</title>", 'it is no feed ("Hello")'),
    "nothing": (b"", "an empty answer"),
    "cut off": (feed(BASE, BASE)[:-60], "the feed is cut off"),
    "compressed": (b"\x1f\x8b\x08\x00", "it is compressed without saying so"),
    "no usable entry": (feed("<title>x</title>"), "none of its 1 entries"),
    "entities that grow": (
        b'<!DOCTYPE rss [<!ENTITY a "aaaaaaaaaa">'
        + b"".join(f'<!ENTITY a{n} "{"&a;" * 10}">'.encode() for n in range(9))
        + b"]><rss><channel><item><title>&a8;</title></item>",
        "cut off",
    ),
    "a reference to nothing": (
        feed(BASE.replace("A post", "&#xD800; &bad")),
        "it cannot be read as a feed (UnicodeEncodeError)",
    ),
    "a file's name": (b"/etc/passwd", "it is no feed"),
}


@pytest.mark.parametrize(("body", "said"), NO_FEEDS.values(), ids=NO_FEEDS)
def test_what_is_no_feed_is_an_error(body: bytes, said: str) -> None:
    with pytest.raises(SourceError) as error:
        parse(body)
    assert said in str(error.value)


def test_every_recorded_feed_parses_or_fails_clearly(shared_data: Path) -> None:
    failed: dict[str, str] = {}
    bodies = [path for path in (shared_data / "feeds").rglob("*.*") if path.is_file()]
    assert len(bodies) > 100
    for path in bodies:
        try:
            found = parse(path.read_bytes())
        except SourceError as error:
            failed[path.name] = str(error)
            continue
        for record in found.records:
            assert record.title
            assert record.url.startswith(("http://", "https://"))
            assert record.listed_at <= NOW
            record.abstract.encode()
    assert {name: reason[:14] for name, reason in failed.items()} == {
        **dict.fromkeys(
            (
                "iso-8859-1.html", "iso-8859-1-meta-after-1024.html", "iso88591.xml", "utf8.html",
                "iso88591_utf8_mismatch.xml", "notafeed.html", "utf8-meta-after-1024.html",
            ),
            "it is no feed ",
        ),
        **dict.fromkeys(("compressed.xml", "invalid-characters-gzipped.xml"), "it is compress"),
        **dict.fromkeys(
            (
                "atom-with-tag-uri-links.xml", "complexNamespaceFeed.xml", "invalid-prolog.xml",
                "relative-channel-image-url.xml", "utf8.xml", "utf8-incorrect-prolog.xml",
            ),
            "none of its 1 ",
        ),
    }  # fmt: skip


ENCODINGS = {
    "miniflux/internal/reader/parser/testdata/encoding_WINDOWS-1251.xml": "Цитата #17703",
    "miniflux/internal/reader/xml/testdata/koi8r.xml": "Первая новость",
    "miniflux/internal/reader/parser/testdata/urdu_UTF8.xml": "امریکی عسکری امداد",
}


@pytest.mark.parametrize(("path", "title"), ENCODINGS.items())
def test_encodings_are_read(shared_data: Path, path: str, title: str) -> None:
    assert parse((shared_data / "feeds" / path).read_bytes()).records[0].title.startswith(title)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_a_recorded_feed_cut_anywhere_is_cut_off(shared_data: Path, share: float) -> None:
    body = (shared_data / "feeds" / "lab_blogs" / "fair_blog.xml").read_bytes()
    with pytest.raises(SourceError, match="cut off"):
        parse(body[: int(len(body) * share)])


# ------------------------------------------------------------------ requests


def read(url: str, state: Mapping[str, Any] | None = None, *, now: datetime = NOW) -> Fetch:
    async def run() -> Fetch:
        async with Client(
            base_url="http://localhost",
            contact="ops@example.org",
            intervals={},
            read=0.3,
            wait_budget=1.0,
            backoff=0.01,
        ) as client:
            return await Feed("lab", url).fetch(client, now=now, state=state or {})

    return asyncio.run(run())


def read_each(replies: list[bytes], *, nows: list[datetime] | None = None) -> list[Fetch]:
    """Reads one after the other, each with the state of the one before."""

    async def run() -> list[Fetch]:
        fetches: list[Fetch] = []
        state: Mapping[str, Any] = {}
        async with (
            serving(replies) as heard,
            Client(base_url="http://localhost", contact="", intervals={}) as client,
        ):
            for now in nows or [NOW] * len(replies):
                fetch = await Feed("lab", heard.url).fetch(client, now=now, state=state)
                fetches.append(fetch)
                state = state if fetch.state is None else json.loads(json.dumps(fetch.state))
        return fetches

    return asyncio.run(run())


def test_a_feed_is_read_once_and_then_unchanged(replay: Replay) -> None:
    url = f"{replay.url}/feeds/lab_blogs/bair_blog.xml"
    first = read(url)
    assert (first.health, first.source, len(first.records)) == (Health.OK, "feed:lab", 3)
    second = read(url, first.state)
    assert (second.health, second.records) == (Health.UNCHANGED, ())
    assert [line["status"] for line in replay.log()] == [200, 304]
    third = read(url, second.state)
    assert third.health is Health.UNCHANGED


def test_a_feed_that_lost_its_entries_is_half_filled() -> None:
    full, empty = feed(BASE), feed()
    fetches = read_each([reply("200 OK", full), reply("200 OK", empty)])
    assert [fetch.health for fetch in fetches] == [Health.OK, Health.HALF_FILLED]
    assert fetches[1].state is None


def test_undated_entries_are_listed_when_first_seen() -> None:
    old = "<title>Old</title><link>https://x.example.org/old</link>"
    year = "<title>Year</title><link>https://x.example.org/y</link><pubDate>2024</pubDate>"
    new = "<title>New</title><link>https://x.example.org/new</link>"
    later, latest = NOW.replace(hour=15), NOW.replace(hour=18)
    fetches = read_each(
        [reply("200 OK", feed(old, year)), reply("200 OK", feed(new, old, year))],
        nows=[NOW, later, latest],
    )
    times = [{r.title: r.listed_at for r in fetch.records} for fetch in fetches]
    assert times[0] == {
        "Old": datetime(2026, 8, 2, 12, tzinfo=UTC),
        "Year": datetime(2024, 1, 1, tzinfo=UTC),
    }
    assert times[1] == times[0] | {"New": later}
    assert times[2] == times[1]


def test_a_validator_that_cannot_be_sent_back_is_not_kept() -> None:
    answer = reply("200 OK", feed(BASE), "ETag: caf\u00e9", "Last-Modified: Mon, 1 Jun 2026")
    first, second = read_each([answer, answer])
    assert first.state is not None
    assert (first.state["etag"], first.state["modified"]) == ("", "Mon, 1 Jun 2026")
    assert second.health is Health.OK


FAULTS: dict[str, tuple[dict[str, Any], Health, str]] = {
    "garbage": ({"kind": "garbage"}, Health.FAILED, "it is no feed"),
    "truncate": ({"kind": "truncate"}, Health.FAILED, "cut off"),
    "reset": ({"kind": "reset"}, Health.FAILED, "connection broke"),
    "hang": ({"kind": "hang", "seconds": 3}, Health.FAILED, "no answer in time"),
    "gone": ({"status": 404}, Health.FAILED, "404"),
    "503 for long": (
        {"status": 503, "headers": {"Retry-After": "600"}}, Health.REFUSED, "wait 600 s",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("fault", "health", "said"), FAULTS.values(), ids=FAULTS)
def test_a_fault_for_good_has_a_reason(
    replay: Replay, fault: dict[str, Any], health: Health, said: str
) -> None:
    replay.faults([{"match": "/feeds/", "times": 99, **fault}])
    fetch = read(f"{replay.url}/feeds/lab_blogs/bair_blog.xml", {"etag": "x"})
    assert (fetch.health, fetch.records) == (health, ())
    assert said in fetch.reason
    assert fetch.state is not None
    assert fetch.state["etag"] == "x"
    assert ("not_before" in fetch.state) == (health is Health.REFUSED)
