"""How alike two papers are: the cosine of their words, each weighed by how rare it is.

The usual weights (Salton and Buckley, "Term-weighting approaches in automatic text retrieval",
1988, `ltc`): one and the logarithm of how often a term stands in the paper, times the logarithm of
how few papers have it, as vectors of length one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import log, sqrt

from digest.topics.spelling import BREAK, FIELDS

TITLE = 3  # a word in the title or a keyword counts as so many in the abstract
_COUNTED = {"title": TITLE, "keyword": TITLE, "summary": 1, "abstract": 1}


def count(spelled: str) -> Counter[str]:
    """How often each term stands in title, keywords, summary and abstract of an indexed paper."""
    lines = dict(zip(FIELDS, spelled.split("\n"), strict=True))
    found: Counter[str] = Counter()
    for field, weight in _COUNTED.items():
        for term in lines[field].split(" "):
            found[term] += weight
    del found[""], found[BREAK]
    return found


def vector(
    counts: Mapping[str, int], frequencies: Mapping[str, int], total: int
) -> dict[str, float]:
    """The weight of each term, of length one in all; empty where no term tells anything.

    `frequencies` says in how many of the `total` papers a term is; those that it lacks, or that are
    in all of them, weigh nothing.
    """
    weights = {
        term: (1 + log(number)) * log(total / papers)
        for term, number in counts.items()
        if number > 0 and 0 < (papers := frequencies.get(term, 0)) < total
    }
    length = sqrt(sum(weight * weight for weight in weights.values()))
    return {term: weight / length for term, weight in weights.items()}


def cosine(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """From 0, no word in common, to 1, the same words; of two vectors of length one."""
    if len(one) > len(other):
        one, other = other, one
    return min(1.0, sum(weight * other.get(term, 0.0) for term, weight in one.items()))
