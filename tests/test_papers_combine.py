"""One paper out of many records: what wins, what is united, and that order is nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest.models import Kind, Paper, Record
from digest.papers.combine import (
    LONGEST,
    LONGEST_LINE,
    LONGEST_LIST,
    LONGEST_NAMES,
    SeenRecord,
    combine,
    renew,
)

DAY = datetime(2026, 6, 3, tzinfo=UTC)


def _record(source: str = "feed:lab", **fields: Any) -> Record:
    values: dict[str, Any] = {
        "external_id": "1706.03762",
        "title": f"Title of {source}",
        "url": f"https://example.org/{source}",
        "listed_at": DAY,
    }
    return Record(source=source, **{**values, **fields})


def _combine(*records: Record, **fields: Any) -> Paper:
    return combine(
        [
            SeenRecord(id=number, record=record, first_seen_at=DAY, **{"fresh": True, **fields})
            for number, record in enumerate(records)
        ]
    )


ARXIV = _record(
    "arxiv",
    arxiv_id="1706.03762",
    abstract="Short.",
    authors=("A One", "B Two"),
    categories=("cs.CL", "cs.LG"),
    published_at=DAY - timedelta(days=2),
    links={"pdf": "https://arxiv.org/pdf/1706.03762v1"},
)
HF = _record(
    "huggingface",
    arxiv_id="1706.03762",
    abstract="A longer abstract, copied long ago.",
    summary="One sentence.",
    authors=("A One",),
    organisation="Lab",
    keywords=("Agents", "planning"),
    links={"code": "https://example.org/code"},
    signals={"upvotes": 163, "comments": 1},
)
FEED = _record(
    abstract="The longest abstract of all, from the laboratory's own pages.",
    keywords=("agents",),
    categories=("blog", "CS.LG"),
    signals={"upvotes": 7},
    published_at=DAY,
)


def test_arxiv_is_believed_first() -> None:
    paper = _combine(FEED, HF, ARXIV)
    assert paper.title == "Title of arxiv"
    assert paper.abstract == "Short."
    assert paper.authors == ("A One", "B Two")
    assert paper.url == "https://arxiv.org/abs/1706.03762"
    assert paper.arxiv_id == "1706.03762"
    assert paper.published_at == DAY - timedelta(days=2)


def test_what_sources_add_is_united() -> None:
    paper = _combine(FEED, HF, ARXIV)
    assert paper.sources == ("arxiv", "huggingface", "feed:lab")
    assert paper.categories == ("cs.CL", "cs.LG", "blog")
    assert paper.keywords == ("Agents", "planning")
    assert paper.signals == {"upvotes": 163, "comments": 1}
    assert paper.links == {
        "code": "https://example.org/code",
        "html": "https://arxiv.org/html/1706.03762",
        "huggingface": "https://huggingface.co/papers/1706.03762",
        "pdf": "https://arxiv.org/pdf/1706.03762",
    }
    assert (paper.summary, paper.organisation) == ("One sentence.", "Lab")


def test_a_source_that_turned_empty_takes_nothing_away() -> None:
    empty = _record("arxiv", arxiv_id="1706.03762", title="", abstract="")
    paper = _combine(empty, FEED, HF)
    assert paper.title == "Title of huggingface"
    assert paper.abstract == FEED.abstract


def test_a_paper_of_a_feed_keeps_its_page() -> None:
    paper = _combine(FEED)
    assert paper.url == FEED.url
    assert paper.links == {}
    assert paper.arxiv_id is None


def test_only_hugging_faces_own_papers_link_there() -> None:
    assert "huggingface" not in _combine(ARXIV).links


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (_record("arxiv", kind=Kind.WITHDRAWN), True),
        (_record("arxiv", arxiv_id="1706.03762", comment="Withdrawn by the authors"), True),
        (_record(abstract="This paper is withdrawn."), False),
        (ARXIV, False),
    ],
    ids=["announced", "said in the comment", "said by a blog", "not"],
)
def test_withdrawn_when_arxiv_says_so(record: Record, expected: bool) -> None:
    assert _combine(record, FEED).withdrawn is expected


def test_times() -> None:
    def seen(number: int, kind: Kind, *, fresh: bool = True) -> SeenRecord:
        when = DAY + timedelta(days=number)
        record = _record(f"feed:{number}", kind=kind, listed_at=when)
        return SeenRecord(id=number, record=record, first_seen_at=when, fresh=fresh)

    old, new = seen(0, Kind.NEW, fresh=False), seen(1, Kind.NEW)
    cross, replaced = seen(2, Kind.CROSS), seen(3, Kind.REPLACE)
    paper = combine([replaced, cross, old, new])
    assert paper.first_seen_at == DAY
    assert paper.fresh_at == DAY + timedelta(days=2)
    assert paper.listed_at == DAY + timedelta(days=2)
    assert combine([old, replaced]).fresh_at is None
    assert combine([replaced]).listed_at == DAY + timedelta(days=3)


def test_what_is_endless_is_cut_at_a_word() -> None:
    endless = "word " * 1_000_000
    texts = ("title", "abstract", "summary", "organisation", "venue", "comment")
    many = tuple(f"word {number}" for number in range(100_000))
    paper = _combine(
        _record(
            **dict.fromkeys(texts, endless),
            authors=("x" * (LONGEST_NAMES + 1), *many),
            keywords=many,
            categories=many,
        )
    )
    for name in texts:
        most = LONGEST if name in {"abstract", "summary"} else LONGEST_LINE
        assert getattr(paper, name) == endless[:most].strip()
    for found, most in (
        (paper.authors, LONGEST_NAMES),
        (paper.keywords, LONGEST_LIST),
        (paper.categories, LONGEST_LIST),
    ):
        assert found == many[: len(found)]
        assert most - 20 < len(" ".join(found)) <= most
    assert _combine(_record(abstract="x" * 10**6)).abstract == "x" * LONGEST


def test_a_paper_has_a_record() -> None:
    with pytest.raises(ValueError, match="at least one"):
        combine([])


def test_renewing_keeps_what_turned_empty() -> None:
    renewed = renew(HF, _record("huggingface", abstract="", signals={"upvotes": 200}))
    assert renewed.abstract == HF.abstract
    assert renewed.summary == HF.summary
    assert renewed.keywords == HF.keywords
    assert renewed.title == "Title of huggingface"
    assert renewed.signals == {"upvotes": 200, "comments": 1}


def test_renewing_keeps_the_announcement() -> None:
    later = DAY + timedelta(days=9)
    replaced = _record("arxiv", kind=Kind.REPLACE, version=2, listed_at=later, abstract="Better.")
    renewed = renew(ARXIV, replaced)
    assert (renewed.kind, renewed.listed_at) == (Kind.NEW, DAY)
    assert (renewed.version, renewed.abstract) == (2, "Better.")
    assert renew(ARXIV, _record("arxiv", kind=Kind.WITHDRAWN)).kind is Kind.WITHDRAWN


TEXTS = st.sampled_from(["", "a", "bb", "cc", "ddd"])
RECORDS = st.builds(
    _record,
    st.sampled_from(["arxiv", "huggingface", "feed:a", "feed:b"]),
    external_id=TEXTS,
    title=TEXTS,
    abstract=TEXTS,
    summary=TEXTS,
    comment=TEXTS,
    kind=st.sampled_from(Kind),
    version=st.none() | st.integers(1, 3),
    listed_at=st.integers(0, 3).map(lambda days: DAY + timedelta(days=days)),
    arxiv_id=st.none() | st.sampled_from(["1706.03762", "1706.03763"]),
    authors=st.lists(TEXTS, max_size=2).map(tuple),
    keywords=st.lists(TEXTS, max_size=2).map(tuple),
    categories=st.lists(TEXTS, max_size=2).map(tuple),
    signals=st.dictionaries(TEXTS, st.integers(0, 9), max_size=2),
    links=st.dictionaries(TEXTS, TEXTS, max_size=2),
)


@given(st.data(), st.lists(st.tuples(RECORDS, st.booleans()), min_size=1, max_size=5))
def test_the_order_of_records_is_nothing(
    data: st.DataObject, records: list[tuple[Record, bool]]
) -> None:
    seen = [
        SeenRecord(
            id=number, record=record, first_seen_at=DAY + timedelta(hours=number), fresh=fresh
        )
        for number, (record, fresh) in enumerate(records)
    ]
    paper = combine(seen)
    other = combine(data.draw(st.permutations(seen)))
    assert paper == other
    assert list(paper.links) == list(other.links)
    assert list(paper.signals) == list(other.signals)
    if any(record.abstract for record, _ in records):
        assert paper.abstract
