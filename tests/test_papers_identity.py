"""Canonical ids, the keys that two records of one work share, and withdrawal."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from digest.models import Record
from digest.papers.identity import (
    identifiers,
    named_in,
    parse_arxiv_id,
    parse_doi,
    title_identifiers,
)
from digest.papers.withdrawal import is_withdrawn

ARXIV_IDS: dict[str, tuple[str, tuple[str, int | None] | None]] = {
    "new": ("2608.19880", ("2608.19880", None)),
    "version": ("2608.19880v3", ("2608.19880", 3)),
    "four digits": ("0704.0001v12", ("0704.0001", 12)),
    "old": ("hep-th/9901001", ("hep-th/9901001", None)),
    "subject class": ("math.GT/0309136", ("math/0309136", None)),
    "long class, upper case": ("COND-MAT.STAT-MECH/0309136V2", ("cond-mat/0309136", 2)),
    "prefix": ("arXiv:2101.00001v2", ("2101.00001", 2)),
    "oai": ("oai:arXiv.org:2203.01250v3", ("2203.01250", 3)),
    "abs": ("http://arxiv.org/abs/2609.20822v1", ("2609.20822", 1)),
    "pdf": ("https://www.arxiv.org/pdf/2609.20822v1.pdf?download=1", ("2609.20822", 1)),
    "html": ("https://arxiv.org/html/2609.20822#S1", ("2609.20822", None)),
    "old pdf": ("https://export.arxiv.org/pdf/math/0309136v1", ("math/0309136", 1)),
    "ar5iv": ("https://ar5iv.labs.arxiv.org/html/1706.03762", ("1706.03762", None)),
    "alphaxiv": ("https://www.alphaxiv.org/abs/1706.03762", ("1706.03762", None)),
    "hugging face": ("https://huggingface.co/papers/1706.03762", ("1706.03762", None)),
    "doi": ("10.48550/arXiv.1706.03762", ("1706.03762", None)),
    "doi address": ("https://doi.org/10.48550/ARXIV.1706.03762", ("1706.03762", None)),
    "wrong month": ("2613.00001", None),
    "four digits too late": ("1501.0001", None),
    "five digits too early": ("0808.05394", None),
    "unknown archive": ("foo/0309136", None),
    "in a sentence": ("see 1706.03762", None),
    "another host": ("https://example.org/abs/1706.03762", None),
    "host that only ends alike": ("https://notarxiv.org/abs/1706.03762", None),
    "list page": ("https://arxiv.org/list/cs.AI/new", None),
    "broken address": ("http://[::1/abs/1706.03762", None),
    "empty": ("", None),
}


@pytest.mark.parametrize(("text", "expected"), ARXIV_IDS.values(), ids=ARXIV_IDS.keys())
def test_arxiv_id(text: str, expected: tuple[str, int | None] | None) -> None:
    assert parse_arxiv_id(text) == expected


PASTED = {
    "an id": (" 1706.03762v5\n", ("arxiv", "1706.03762")),
    "without https": ("arxiv.org/abs/1706.03762", ("arxiv", "1706.03762")),
    "Hugging Face": ("huggingface.co/papers/1706.03762", ("arxiv", "1706.03762")),
    "cited": ("arXiv:1706.03762v5 [cs.CL] 2 Aug 2023", ("arxiv", "1706.03762")),
    "cited with a blank": ("arXiv: 1706.03762", ("arxiv", "1706.03762")),
    "in a list": (
        "Vaswani, A. arXiv preprint arXiv:1706.03762 (2017).",
        ("arxiv", "1706.03762"),
    ),
    "in brackets": ("<https://arxiv.org/abs/1706.03762>.", ("arxiv", "1706.03762")),
    "old": ("hep-th/9901001v2", ("arxiv", "hep-th/9901001")),
    "a DOI": ("doi:10.1038/S41586-021", ("doi", "10.1038/s41586-021")),
    "a DOI's address": ("see doi.org/10.1038/s41586-021.", ("doi", "10.1038/s41586-021")),
    "a DOI with brackets": ("(see 10.1000/S0022(05)).", ("doi", "10.1000/s0022(05)")),
    "a DOI in brackets": ("(10.1000/s0022)", ("doi", "10.1000/s0022")),
    "twice": ("arXiv:1706.03762 https://arxiv.org/pdf/1706.03762v5", ("arxiv", "1706.03762")),
    "both keys of it": ("1706.03762 doi:10.1000/x", ("arxiv", "1706.03762")),
    "two papers": ("1706.03762 2605.00001", None),
    "two DOIs": ("10.1000/x, 10.1000/y", None),
    "a number": ("pi 3.14159", None),
    "another page": ("https://example.org/1706.03762", None),
    "words": ("attention is all you need", None),
    "nothing": ("", None),
}


@pytest.mark.parametrize(("text", "expected"), PASTED.values(), ids=PASTED.keys())
def test_what_a_pasted_text_names(text: str, expected: tuple[str, str] | None) -> None:
    assert named_in(text) == expected


DOIS: dict[str, tuple[str, str | None]] = {
    "bare": ("10.1038/S41586-021-03819-2", "10.1038/s41586-021-03819-2"),
    "prefix": ("doi: 10.1145/3292500.3330701", "10.1145/3292500.3330701"),
    "address": ("https://dx.doi.org/10.1000/ABC?x=1#y", "10.1000/abc"),
    "escaped": ("https://doi.org/10.1000/a%28b%29", "10.1000/a(b)"),
    "host without scheme": ("doi.org/10.1000/1", "10.1000/1"),
    "full stop": ("10.1000/1.", "10.1000/1"),
    "arXiv's own": ("10.48550/arXiv.1706.03762", None),
    "another host": ("https://example.org/10.1000/1", None),
    "no suffix": ("10.1000/", None),
    "words": ("10.1000/a b", None),
    "empty": ("", None),
}


@pytest.mark.parametrize(("text", "expected"), DOIS.values(), ids=DOIS.keys())
def test_doi(text: str, expected: str | None) -> None:
    assert parse_doi(text) == expected


def _record(title: str = "A Study of Something", **fields: Any) -> Record:
    values: dict[str, Any] = {
        "source": "feed:lab",
        "external_id": "1",
        "url": "https://lab.example.org/posts/1",
        "listed_at": datetime(2026, 6, 3, tzinfo=UTC),
        "authors": ("Ada Lovelace", "Paul Erdős"),
    }
    return Record(title=title, **{**values, **fields})


def _same(first: Record, second: Record) -> bool:
    return not set(title_identifiers(first)).isdisjoint(title_identifiers(second))


def test_strong_keys_come_in_order() -> None:
    record = _record(arxiv_id="1706.03762", doi="10.1000/1")
    assert identifiers(record) == (("arxiv", "1706.03762"), ("doi", "10.1000/1"))
    assert identifiers(_record()) == ()


def test_a_records_own_address_names_it() -> None:
    assert identifiers(_record(url="https://arxiv.org/abs/1706.03762v5")) == (
        ("arxiv", "1706.03762"),
    )
    assert identifiers(_record(url="https://doi.org/10.1000/X")) == (("doi", "10.1000/x"),)


ELSEWHERE = "https://other.example.org/a"
SAME: dict[str, dict[str, Any]] = {
    "another address": {"url": ELSEWHERE},
    "case, accents, punctuation": {"title": "A study -- of SOMÉTHING!", "url": ELSEWHERE},
    "glued words": {"title": "A Studyof some-thing", "url": ELSEWHERE},
    "decomposed name": {"authors": ("P. Erdo\u030bs",), "url": ELSEWHERE},
    "name turned": {"authors": ("Lovelace, Ada",), "url": ELSEWHERE},
    "shortened list": {"authors": ("A. Lovelace et al.",), "url": ELSEWHERE},
    "no authors, same page": {"authors": ()},
    "no authors, same page tracked": {
        "authors": (),
        "url": "http://www.lab.example.org/posts/1/?utm_source=feed#top",
    },
}


@pytest.mark.parametrize("changes", SAME.values(), ids=SAME.keys())
def test_one_work_shares_a_title_key(changes: dict[str, Any]) -> None:
    assert _same(_record(), _record(**changes))


DIFFERENT: dict[str, dict[str, Any]] = {
    "title": {"title": "A Study of Something Else", "url": ELSEWHERE},
    "part": {"title": "A Study of Something II", "url": ELSEWHERE},
    "authors": {"authors": ("Grace Hopper",), "url": ELSEWHERE},
    "no authors": {"authors": (), "url": ELSEWHERE},
    "year": {"published_at": datetime(2024, 6, 3, tzinfo=UTC), "url": ELSEWHERE},
}


@pytest.mark.parametrize("changes", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_different_works_share_none(changes: dict[str, Any]) -> None:
    assert not _same(_record(), _record(**changes))


def test_new_year_is_no_border() -> None:
    december = _record(published_at=datetime(2025, 12, 30, tzinfo=UTC))
    january = _record(published_at=datetime(2026, 1, 9, tzinfo=UTC), url=ELSEWHERE)
    june = _record(published_at=datetime(2026, 6, 9, tzinfo=UTC), url=ELSEWHERE)
    assert _same(december, january)
    assert not _same(december, june)


@pytest.mark.parametrize(
    "title",
    ["Editor's Notes", "Reminiscences on Influential Papers", "Editor’s Notes for June 2026",
     "Book Review Column", "Hello", "Two words", "The Weekly Digest of Papers", ""],
)  # fmt: skip
def test_a_title_that_many_works_bear_is_no_key(title: str) -> None:
    assert title_identifiers(_record(title)) == ()


def test_a_chinese_title_has_words() -> None:
    assert title_identifiers(_record("强化学习综述"))


def test_a_home_page_is_no_page() -> None:
    first = _record(url="https://lab.example.org/", authors=())
    assert title_identifiers(first) == ()


def test_keys_are_few_and_short() -> None:
    crowd = _record("x " * 5000, authors=tuple(f"A {n}son" for n in range(664)))
    keys = title_identifiers(crowd)
    assert 0 < len(keys) <= 7
    assert all(kind == "title" and len(value) == 32 for kind, value in keys)


def test_recorded_works_with_one_title_stay_apart(shared_data: Path) -> None:
    path = shared_data / "arxiv" / "same_title_different_id.json"
    groups = json.loads(path.read_text(encoding="utf-8"))
    assert len(groups) == 6
    for group in groups:
        strong = [
            identifiers(
                _record(
                    entry["title"],
                    source="arxiv",
                    arxiv_id=entry["id"],
                    authors=tuple(entry["authors"]),
                    listed_at=datetime.fromisoformat(entry["first_seen"]).replace(tzinfo=UTC),
                )
            )
            for entry in group
        ]
        assert len(set(strong)) == len(group)


def test_the_title_rule_is_precise(shared_data: Path) -> None:
    from benchmarks.dedupe import pairs, same_title, score, title_rule

    rows = pairs(shared_data / "dedupe" / "dblp-acm")
    rule, baseline = score(rows, title_rule), score(rows, same_title)
    assert rule.precision >= 0.998 > baseline.precision
    assert rule.recall >= 0.85
    scholar = score(pairs(shared_data / "dedupe" / "dblp-scholar"), title_rule)
    assert scholar.precision >= 0.999


# ------------------------------------------------------------------ withdrawal

WORDINGS = {
    "author": ("", "This paper has been withdrawn by the author due to an error.", True),
    "bracketed": ("", "[This paper has been withdrawn by the author] As the modern", True),
    "at the end": ("", "We study X. This paper has been withdrawn by the authors.", True),
    "comment after pages": ("12 pages. Withdrawn by the authors", "We study X.", True),
    "admin": ("arXiv admin note: This submission has been withdrawn by arXiv", "", True),
    "a study of it": ("", "We study whether a paper has been withdrawn from a list.", False),
    "drugs": ("", "Many drugs have been withdrawn from the market.", False),
    "plate": ("", "Withdrawn plates carry a film.", False),
    "overlap note": ("arXiv admin note: text overlap with arXiv:1234.5678", "", False),
    "journal": ("Submission withdrawn from a journal and extended", "", True),
    "nothing": ("", "", False),
}


@pytest.mark.parametrize(("comment", "abstract", "expected"), WORDINGS.values(), ids=WORDINGS)
def test_withdrawal_is_read_from_arxivs_words(comment: str, abstract: str, expected: bool) -> None:
    assert is_withdrawn(comment=comment, abstract=abstract) is expected


def test_recorded_wordings_of_withdrawal(shared_data: Path) -> None:
    cases = json.loads((shared_data / "arxiv" / "withdrawal_cases.json").read_text("utf-8"))
    wrong = [
        case
        for case in cases["summary_field_cases"]
        if is_withdrawn(comment="", abstract=case["summary"]) is not bool(case["withdrawn_by"])
    ]
    assert wrong == []
    # Of the comments two say it; the other two leave it to the page or to the abstract.
    said = [
        case["arxiv_id"]
        for case in cases["comment_field_only_cases"]
        if is_withdrawn(comment=case["comment"], abstract="")
    ]
    assert said == ["2510.07505v3", "2511.00898v2"]
