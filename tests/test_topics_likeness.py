"""How alike papers are by their words."""

from __future__ import annotations

from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest.models import Paper
from digest.topics.likeness import TITLE, cosine, count, vector
from digest.topics.match import index
from digest.topics.spelling import spell

COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9))
KNOWN = {"a": 1, "b": 3, "c": 9, "d": 10, "e": 2}


def test_counts() -> None:
    paper = Paper(
        id=1, title="Graphs", url="", abstract="A graph of a thing", keywords=("graph theory",)
    )
    assert count(spell(index(paper))) == {
        "graph": 2 * TITLE + 1,
        "theory": TITLE,
        "a": 2,
        "of": 1,
        "thing": 1,
    }


def test_a_vector() -> None:
    found = vector({"a": 1, "b": 2, "d": 5, "z": 1}, KNOWN, 10)
    weights = {"a": log(10), "b": (1 + log(2)) * log(10 / 3)}
    length = sum(one**2 for one in weights.values()) ** 0.5
    assert found == pytest.approx({term: one / length for term, one in weights.items()})
    assert vector({}, KNOWN, 10) == vector({"d": 3}, KNOWN, 10) == vector({"a": 1}, {}, 0) == {}


@given(COUNTS, COUNTS)
def test_cosine(one: dict[str, int], other: dict[str, int]) -> None:
    first, second = vector(one, KNOWN, 10), vector(other, KNOWN, 10)
    assert cosine(first, second) == pytest.approx(cosine(second, first))
    assert 0 <= cosine(first, second) <= 1
    assert cosine(first, first) == pytest.approx(1 if first else 0)
    if not first.keys() & second.keys():
        assert cosine(first, second) == 0


def test_rare_words_weigh_more() -> None:
    paper = vector({"a": 1, "b": 1, "c": 1}, KNOWN, 10)
    rare, common = (vector({term: 1, "e": 1}, KNOWN, 10) for term in ("a", "c"))
    assert cosine(paper, rare) > cosine(paper, common) > 0
