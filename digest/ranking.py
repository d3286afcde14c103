"""Ranking: how good a paper is for a reader, as one documented formula.

    score = (w_trend * popularity * freshness + w_topic * topic) / (w_trend + w_topic)

popularity (0..1) is how a paper stands among those that the same source listed on the same day:

    popularity = mid-rank percentile, within its (source, day), of
                 log1p(upvotes) + 0.5 log1p(comments) + 0.5 log1p(stars) + log1p(votes gained)

freshness is 2^(-age / half_life); in weekly digests it is 1. The score without it is the merit,
which a quiet day's minimum is compared with: what is new to somebody does not lose worth by age.

A percentile makes sources comparable, so that one with thousands of votes cannot drown another.
A source that counts nothing gives everything the neutral 0.5; where a paper stands in several
cells, the best one that counts something is taken. Counts are compressed by the logarithm, as
Hacker News does by a power: half of the papers of a day have at most six votes, the best a hundred.

topic (0..1) is the strength of the best match among the topics that the reader follows, plus 0.1
for each further one.

The order is total: score, votes, newest listing, id. The same input gives the same digest.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from digest.models import Paper, Signal
from digest.topics.match import Match

NEUTRAL = 0.5
_COMPONENTS = {"upvotes": 1.0, "comments": 0.5, "stars": 0.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The formula's parameters."""

    trend: float
    topic: float
    half_life: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A paper that may be chosen, with all that does not depend on who reads."""

    paper: Paper
    popularity: float  # 0..1
    freshness: float  # 0..1
    votes: int
    gain: int  # votes gained within the window of the signals
    matches: Mapping[str, Match]  # by topic slug
    leads: bool = False  # alone with the most votes of the day on which it was listed


def popularity(signals: Mapping[int, Sequence[Signal]]) -> dict[int, float]:
    """The mid-rank percentile of each paper's counts in the cells it stands in; 0..1."""
    cells: dict[tuple[str, date], dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for paper_id, counts in signals.items():
        for count in counts:
            raw = _COMPONENTS.get(count.name, 0.0) * math.log1p(max(count.value, 0))
            if count.name == "upvotes":
                raw += math.log1p(max(count.gain, 0))
            cells[count.source, count.day][paper_id] += raw
    best: dict[int, float] = {}
    for cell in cells.values():
        ordered = sorted(cell.values())
        if not ordered[-1]:
            continue
        for paper_id, raw in cell.items():
            below, upto = bisect_left(ordered, raw), bisect_right(ordered, raw)
            rank = (below + upto) / 2 / len(ordered)
            best[paper_id] = max(best.get(paper_id, 0.0), rank)
    return {paper_id: best.get(paper_id, NEUTRAL) for paper_id in signals}


def freshness(paper: Paper, *, now: datetime, half_life: timedelta) -> float:
    """1 for what was listed just now, half of it after each half-life."""
    listed = paper.listed_at or now
    return float(0.5 ** (max(now - listed, timedelta()) / half_life))


def assess(
    papers: Sequence[Paper],
    signals: Mapping[int, Sequence[Signal]],
    *,
    matches: Mapping[int, Mapping[str, Match]],
    leaders: Collection[int],
    weights: Weights,
    now: datetime,
    fresh: bool = True,
) -> list[Candidate]:
    """Make candidates of papers: everything about them that is the same for all readers.

    `signals` may hold more papers than are candidates: those that they are compared with.
    """
    popular = popularity(signals)
    votes = {paper.id: _count(signals.get(paper.id, ())) for paper in papers}
    return [
        Candidate(
            paper=paper,
            popularity=popular.get(paper.id, NEUTRAL),
            freshness=freshness(paper, now=now, half_life=weights.half_life) if fresh else 1.0,
            votes=votes[paper.id][0],
            gain=votes[paper.id][1],
            matches=matches.get(paper.id, {}),
            leads=paper.id in leaders,
        )
        for paper in papers
    ]


def _count(signals: Sequence[Signal]) -> tuple[int, int]:
    """The most votes that any source counts, and what they gained."""
    votes = [(signal.value, signal.gain) for signal in signals if signal.name == "upvotes"]
    value, gain = max(votes, default=(0, 0))
    return value, max(gain, 0)


def topic_score(strengths: Iterable[float]) -> float:
    """The best match, and a little for each further one; 0..1."""
    found = sorted(strengths, reverse=True)
    return min(1.0, found[0] + 0.1 * (len(found) - 1)) if found else 0.0


def score(
    candidate: Candidate, topics: Collection[str], *, weights: Weights, own: Sequence[float] = ()
) -> float:
    """How good a paper is now for somebody who follows these topics; 0..1.

    Somebody who follows none is ranked by popularity and freshness alone. `own` are the strengths
    of topics that are theirs alone.
    """
    return _blend(candidate, topics, own, weights=weights, freshness=candidate.freshness)


def merit(
    candidate: Candidate, topics: Collection[str], *, weights: Weights, own: Sequence[float] = ()
) -> float:
    """The score that a paper had when it was new; 0..1."""
    return _blend(candidate, topics, own, weights=weights, freshness=1.0)


def _blend(
    candidate: Candidate,
    topics: Collection[str],
    own: Sequence[float],
    *,
    weights: Weights,
    freshness: float,
) -> float:
    trend = candidate.popularity * freshness
    if not topics and not own:
        return trend
    matches = candidate.matches
    topic = topic_score([*own, *(matches[slug].strength for slug in topics if slug in matches)])
    return (weights.trend * trend + weights.topic * topic) / (weights.trend + weights.topic)


def lifted(value: float, by: float) -> float:
    """A score that gains or loses so much; 0..1."""
    value += by
    if 0.0 < value < 1.0:  # far quicker than min and max, and asked some hundred times a reader
        return value
    return 1.0 if value >= 1.0 else 0.0


def order(candidate: Candidate, value: float) -> tuple[float, int, float, int]:
    """What candidates with this score are sorted by, best first; no two are equal."""
    listed = candidate.paper.listed_at
    return (-value, -candidate.votes, -listed.timestamp() if listed else 0.0, candidate.paper.id)
