"""How alike two papers are: the cosine of their words, each weighed by how rare it is.

The usual weights (Salton and Buckley, "Term-weighting approaches in automatic text retrieval",
1988, `ltc`): one and the logarithm of how often a term stands in the paper, times the logarithm of
how few papers have it, as vectors of length one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from math import log, sqrt

from digest.models import Paper
from digest.topics.words import words

TITLE = 3  # a word in the title or a keyword counts as so many in the abstract


def count(paper: Paper) -> Mapping[str, int]:
    """How often each term stands in title, keywords, summary and abstract."""
    return _count((paper.abstract, paper.summary), (paper.title, *paper.keywords))


@lru_cache(maxsize=512)  # papers that are looked at have the same ones beside them
def _count(texts: tuple[str, ...], telling: tuple[str, ...]) -> Mapping[str, int]:
    found: Counter[str] = Counter()
    for text in texts:
        found.update(word.term for word in words(text))
    for text in telling:
        for word in words(text):
            found[word.term] += TITLE
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
