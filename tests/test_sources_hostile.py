"""Damaged and hostile bodies: each is read or is a SourceError, and what is read can be stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest.errors import SourceError
from digest.models import Record
from digest.sources.arxiv_xml import parse_atom, parse_rss
from digest.sources.feeds import parse_feed
from digest.sources.huggingface import parse_daily
from digest.sources.links import web_link

NOW = datetime(2026, 9, 1, tzinfo=UTC)

LIST = b"""<?xml version="1.0" encoding="utf-8"?><rss version="2.0"
 xmlns:arxiv="http://arxiv.org/schemas/atom" xmlns:dc="http://purl.org/dc/elements/1.1/"><channel>
<title>cs.DS updates</title><lastBuildDate>Fri, 29 May 2026 04:00:00 +0000</lastBuildDate><item>
<title>A title</title><link>https://arxiv.org/abs/2605.00001</link><guid>oai:arXiv.org:2605.00001v1
</guid><description>arXiv:2605.00001v1 Announce Type: new Abstract: We.</description>
<category>cs.DS</category><pubDate>Fri, 29 May 2026 00:00:00 -0400</pubDate>
<arxiv:announce_type>new</arxiv:announce_type><dc:creator>Ada</dc:creator></item></channel></rss>"""

PAGE = b"""<feed xmlns="http://www.w3.org/2005/Atom" xmlns:arxiv="http://arxiv.org/schemas/atom"
 xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/"><title>x</title>
<opensearch:totalResults>1</opensearch:totalResults><entry><id>http://arxiv.org/abs/2605.00001v1</id>
<title>A title</title><summary>We.</summary><published>2026-05-28T00:00:00Z</published>
<arxiv:primary_category term="cs.DS"/><author><name>Ada</name></author>
<link href="https://arxiv.org/abs/2605.00001v1" rel="alternate"/></entry></feed>"""

ENTRY = {
    "paper": {
        "id": "2605.00001",
        "title": "A title",
        "submittedOnDailyAt": "2026-05-29T00:00:00.000Z",
        "authors": [{"name": "Ada"}],
    },
    "publishedAt": "2026-05-28T00:00:00.000Z",
}

TOKENS = st.sampled_from(
    [
        *(b"<", b">", b"&", b"</item>", b"<item>", b"<![CDATA[", b"]]>", b"<!--", b"<!DOCTYPE x ["),
        *(b"\x00", b"\xff\xfe", b"&#x110000;", b"&#xD800;", b"&#0;", b"http://[", b"\\ud800"),
        *(b' xml:base="http://["', b"99999 Jan 99999 25:61:61 +9999", b"{", b"[[", b"null", b'"'),
    ]
)
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 30), TOKENS | st.binary(max_size=3)),
    min_size=1,
    max_size=6,
)


def edited(body: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """`body` with some bytes cut out and others put in their place."""
    for place, cut, put in edits:
        at = int(place * len(body))
        body = body[:at] + put + body[at + cut :]
    return body


def feed(body: bytes) -> Any:
    return parse_feed(body, slug="lab", url="https://lab.example.org/feed.xml", now=NOW)


PARSERS: dict[str, tuple[bytes, Callable[[bytes], Any]]] = {
    "list": (LIST, parse_rss),
    "page": (PAGE, parse_atom),
    "feed": (LIST, feed),
    "atom feed": (PAGE, feed),
    "daily": (json.dumps([ENTRY]).encode(), parse_daily),
}


def check(records: tuple[Record, ...]) -> None:
    for record in records:
        texts = (record.external_id, record.title, record.abstract, record.venue, record.raw)
        for text in (*texts, *record.authors, *record.keywords):
            text.encode()
            assert "\0" not in text
        assert record.title
        assert record.url.startswith(("http://", "https://"))
        assert record.listed_at.tzinfo is UTC


@pytest.mark.parametrize(("body", "parse"), PARSERS.values(), ids=PARSERS)
def test_the_body_itself_is_read(body: bytes, parse: Callable[[bytes], Any]) -> None:
    assert len(parse(body).records) == 1
    check(parse(body).records)


@pytest.mark.parametrize(("body", "parse"), PARSERS.values(), ids=PARSERS)
@given(edits=EDITS)
def test_a_damaged_body_is_read_or_refused(
    body: bytes, parse: Callable[[bytes], Any], edits: list[tuple[float, int, bytes]]
) -> None:
    try:
        found = parse(edited(body, edits))
    except SourceError:
        return
    check(found.records)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        *("id", "title", "summary", "authors", "publishedAt", "submittedOnDailyAt", "upvotes"),
        *("githubRepo", "githubStars", "projectPage", "organization", "ai_keywords", "ai_summary"),
    ]
)


@given(paper=st.dictionaries(FIELDS, JSON), outer=st.dictionaries(st.text(max_size=5), JSON))
def test_fields_of_any_type_are_survived(paper: dict[str, Any], outer: dict[str, Any]) -> None:
    whole = {**outer, **ENTRY, "paper": {**ENTRY["paper"], **paper}}  # type: ignore[dict-item]
    listing = parse_daily(json.dumps([ENTRY, whole]).encode())
    assert 1 <= len(listing.records) + listing.bad <= 2
    check(listing.records)


@given(st.text(), st.sampled_from(["", "https://lab.example.org/a/b"]))
def test_a_link_is_of_the_web_or_nothing(text: str, base: str) -> None:
    link = web_link(text, base=base)
    assert not link or link.startswith(("http://", "https://"))
    assert not any(c.isspace() or ord(c) < 32 for c in link)
