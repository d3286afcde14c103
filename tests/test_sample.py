"""The demo's invented papers: enough, believable, growing, and without a way to a real work."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest.models import Health, Kind, Paper, Record
from digest.papers.combine import SeenRecord, combine
from digest.papers.identity import identifiers, parse_doi
from digest.papers.text import claim, sentences
from digest.papers.withdrawal import is_withdrawn
from digest.sample import SUBSCRIBERS, TOPICS, SampleSource, SourceKind, records
from digest.sources import Source
from digest.topics.language import parse
from digest.topics.match import index, match

KINDS: tuple[SourceKind, ...] = get_args(SourceKind)
NOW = datetime(2026, 11, 20, 15, 30, tzinfo=UTC)  # a Friday
INSTANTS = st.datetimes(
    min_value=datetime(2025, 1, 1),  # noqa: DTZ001
    max_value=datetime(2031, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


def listed(now: datetime = NOW) -> list[Record]:
    return [record for kind in KINDS for record in records(kind, now=now)]


def by_name(name: str) -> list[Record]:
    return [record for record in listed() if record.external_id == name]


def papers() -> list[Paper]:
    found: list[Paper] = []
    for name in {record.external_id: None for record in listed()}:
        seen = [
            SeenRecord(id=number, record=record, first_seen_at=NOW, fresh=True)
            for number, record in enumerate(by_name(name))
        ]
        found.append(combine(seen, len(found) + 1))
    return found


def texts(record: Record) -> Iterator[str]:
    yield from (record.title, record.abstract, record.summary, record.comment, record.raw)
    yield from (record.url, record.organisation, record.venue, record.doi or "")
    yield from (*record.authors, *record.keywords, *record.categories, *record.links.values())


# ------------------------------------------------------------------ the listing


def test_sixty_papers_over_three_days() -> None:
    assert len({record.external_id for record in listed()}) == 60
    days = Counter(record.listed_at.date() for record in listed())
    assert sorted(days) == [date(2026, 11, 18), date(2026, 11, 19), date(2026, 11, 20)]
    assert min(days.values()) >= 20


@pytest.mark.parametrize(
    ("now", "days"),
    [
        pytest.param("2026-11-20T15:30+00:00", [20, 19, 18], id="Friday"),
        pytest.param("2026-11-21T00:00+00:00", [20, 19, 18], id="Saturday"),
        pytest.param("2026-11-22T23:59+00:00", [20, 19, 18], id="Sunday night"),
        pytest.param("2026-11-23T00:30+00:00", [23, 20, 19], id="Monday, half an hour old"),
        pytest.param("2026-11-23T12:30+13:00", [20, 19, 18], id="Monday in Auckland only"),
        pytest.param("2026-11-24T08:00+00:00", [24, 23, 20], id="Tuesday"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_newest_weekdays(kind: SourceKind, now: str, days: list[int]) -> None:
    found = records(kind, now=datetime.fromisoformat(now))
    assert list(dict.fromkeys(record.listed_at.day for record in found)) == days


@given(INSTANTS)
def test_every_instant_has_three_days_and_nothing_from_the_future(now: datetime) -> None:
    for kind in KINDS:
        found = records(kind, now=now)
        days = {record.listed_at for record in found}
        assert len(days) == 3
        assert all(day.weekday() < 5 and day <= now for day in days)
        assert now - max(days) < timedelta(days=3)
        names = [record.external_id for record in found]
        assert len(names) == len(set(names))


@given(INSTANTS, st.timedeltas(min_value=timedelta(), max_value=timedelta(days=5)))
def test_a_listing_keeps_its_papers_and_counts_only_grow(now: datetime, later: timedelta) -> None:
    before = {record.external_id: record for record in listed(now)}
    for record in listed(now + later):
        earlier = before[record.external_id]
        if earlier.source == record.source and earlier.listed_at == record.listed_at:
            for name, value in record.signals.items():
                assert value >= earlier.signals[name] >= 0
        else:
            assert record.source != earlier.source or record.listed_at > earlier.listed_at


@pytest.mark.parametrize("start", [0, 11, 35, 59])
def test_votes_grow_within_two_hours(start: int) -> None:
    listing = datetime(2026, 11, 20, tzinfo=UTC) + timedelta(hours=start)
    totals = [
        sum(record.signals["upvotes"] for record in records("huggingface", now=now))
        for now in (listing, listing + timedelta(hours=2), listing + timedelta(hours=4))
    ]
    assert all(earlier < later for earlier, later in pairwise(totals))


def test_the_same_instant_says_the_same() -> None:
    assert listed() == listed()
    assert listed(NOW.astimezone(ZoneInfo("Asia/Kolkata"))) == listed()


def test_read_like_any_source() -> None:
    source: Source = SampleSource(name="feed:harbour", kind="feed")
    client = object()
    fetch = asyncio.run(source.fetch(client, now=NOW, state={}))  # type: ignore[arg-type]
    assert (fetch.source, fetch.health, fetch.state) == ("feed:harbour", Health.OK, None)
    assert [record.external_id for record in fetch.records] == [
        record.external_id for record in records("feed", now=NOW)
    ]
    assert {record.source for record in fetch.records} == {"feed:harbour"}


# ------------------------------------------------------------------ nothing real


def test_no_link_leaves_example_org() -> None:
    for record in listed():
        assert record.arxiv_id is None
        assert "arxiv" not in dict(identifiers(record))
        for text in texts(record):
            assert not re.search(r"(?i)arxiv\.org|huggingface\.co|github|doi\.org|@", text)
            for address in re.findall(r"\S+://\S*|\bwww\.\S+", text):
                assert re.match(r"https://(?:papers|code)\.example\.org/[\w./-]+", address)
        for address in (record.url, *record.links.values()):
            assert re.fullmatch(
                r"https://(?:papers|code)\.example\.org/invented/[a-z0-9./-]+", address
            )


def test_dois_have_the_test_prefix() -> None:
    dois = {record.doi for record in listed() if record.doi}
    assert len(dois) == 2
    assert all(doi.startswith("10.5555/") and parse_doi(doi) == doi for doi in dois)


def test_addresses_are_under_example_org() -> None:
    assert len({one.address for one in SUBSCRIBERS}) == len(SUBSCRIBERS) == 6
    assert all(re.fullmatch(r"[a-z.]+@example\.org", one.address) for one in SUBSCRIBERS)


# ------------------------------------------------------------------ the texts


@pytest.mark.parametrize("paper", papers(), ids=lambda paper: paper.title[:30])
def test_reads_like_a_paper(paper: Paper) -> None:
    assert 80 <= len(paper.abstract.split()) <= 180
    assert re.search(r"\b[Ww]e\b|\bThis note\b", claim(paper.abstract))
    assert len(sentences(paper.summary)) <= 1
    assert len(paper.summary) <= 200
    assert paper.summary.endswith(".") or not paper.summary
    assert paper.authors
    assert len(set(paper.authors)) == len(paper.authors)
    for text in (paper.title, paper.abstract, paper.summary, paper.comment, *paper.authors):
        assert text == " ".join(text.split())
        assert not re.search(r"[\\${}]|�", text)


def test_every_author_and_title_is_used_once() -> None:
    every = papers()
    assert len({paper.title for paper in every}) == len(every)
    names = Counter(name for paper in every for name in paper.authors)
    assert [name for name, count in names.items() if count > 1] == []


def test_raw_is_kept() -> None:
    (record,) = by_name("budgeted-browsing")
    assert "$\\\\ell_1$" in record.raw
    assert record.title == "Budgeted Browsing: Web Agents with ℓ₁-Penalised Click Costs"


def test_each_source_tells_what_its_model_tells() -> None:
    every = listed()
    of = {kind: [record for record in every if record.source.startswith(kind)] for kind in KINDS}
    assert [len(of[kind]) for kind in KINDS] == [38, 19, 5]
    assert all({"upvotes", "comments"} <= record.signals.keys() for record in of["huggingface"])
    assert not any(record.signals or record.summary for record in of["arxiv"] + of["feed"])
    assert all(record.categories and record.version for record in of["arxiv"])
    assert all("code" in record.links for record in every if "stars" in record.signals)
    assert 20 <= sum("stars" in record.signals for record in every) <= 40
    assert 33 <= sum(bool(paper.summary) for paper in papers()) <= 39


def test_special_cases() -> None:
    every = papers()
    numbers = sorted(len(paper.authors) for paper in every)
    assert numbers[0] == 1
    assert numbers[-1] == 43
    lengths = sorted(len(paper.title) for paper in every)
    assert lengths[0] < 20
    assert lengths[-1] > 200
    assert any(paper.title.startswith("Kintsugi") for paper in every)
    assert any("GPT-Style 7B" in paper.title for paper in every)
    assert any("<undo>" in paper.abstract for paper in every)
    assert any(re.search("[а-я]", name) for paper in every for name in paper.authors)
    assert "Soledad Irurzún" in by_name("evicting-by-regret")[0].authors


@pytest.mark.parametrize("name", ["ledger-memory", "draft-less"])
def test_a_work_of_two_sources(name: str) -> None:
    first, second = by_name(name)
    assert {first.source, second.source} == {"huggingface", "arxiv"}
    assert first.url != second.url
    assert identifiers(first) == identifiers(second) == (("doi", f"10.5555/sample.{name}"),)


def test_announcements() -> None:
    kinds = Counter(record.kind for record in listed())
    assert [kinds[kind] for kind in (Kind.CROSS, Kind.REPLACE, Kind.WITHDRAWN)] == [1, 1, 1]
    (withdrawn,) = by_name("every-chain-halts")
    assert withdrawn.kind is Kind.WITHDRAWN
    assert is_withdrawn(comment=withdrawn.comment, abstract=withdrawn.abstract)
    (replaced,) = by_name("memory-traffic")
    assert (replaced.kind, replaced.version) == (Kind.REPLACE, 3)
    assert replaced.published_at is not None
    assert replaced.listed_at - replaced.published_at > timedelta(days=30)


# ------------------------------------------------------------------ topics and subscribers


@pytest.mark.parametrize(("slug", "name", "query"), TOPICS, ids=[slug for slug, _, _ in TOPICS])
def test_a_topic_finds_its_papers_on_each_day(slug: str, name: str, query: str) -> None:
    every = papers()
    found = [(paper, match(parse(query), index(paper))) for paper in every]
    matches = [(paper, hit) for paper, hit in found if hit]
    assert 5 <= len(matches) <= len(every) / 2
    days = Counter(paper.listed_at for paper, _ in matches)
    assert len(days) == 3
    assert min(days.values()) >= 2
    # What a reader sees of a paper is its title and its summary, or else its abstract.
    marked = [
        any(
            mark.field in ("title", "summary" if paper.summary else "abstract")
            for mark in hit.marks
        )
        for paper, hit in matches
    ]
    assert sum(marked) >= 0.8 * len(matches)


def test_every_paper_has_a_topic() -> None:
    queries = [parse(query) for _, _, query in TOPICS]
    lost = [p.title for p in papers() if not any(match(query, index(p)) for query in queries)]
    assert lost == []


def test_subscribers_are_spread_over_the_world() -> None:
    offsets = {datetime(2026, 11, 20, tzinfo=ZoneInfo(one.zone)).utcoffset() for one in SUBSCRIBERS}
    assert len(offsets) == len(SUBSCRIBERS)
    assert {one.frequency.value for one in SUBSCRIBERS} == {"daily", "weekdays", "weekly"}
    slugs = {slug for slug, _, _ in TOPICS}
    for one in SUBSCRIBERS:
        assert 0 <= one.hour <= 23
        assert (one.weekday is None) == (one.frequency != "weekly")
        assert one.max_papers > 0
        assert set(one.topics) <= slugs
