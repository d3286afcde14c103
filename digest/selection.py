"""Selection: which papers one subscriber gets for one slot, and why.

Candidates are the papers that became known since the subscriber's last digest; papers that they
had are none, nor is anything older than the window. A paper that was passed over before comes
back only when its votes rose. What scores below the minimum stays out: on a quiet day the digest
is short, or there is none and the reason is stored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from digest.models import Frequency, Item, Reason
from digest.ranking import Candidate, Weights, merit, rank

# What was stored while the last digest was being planned may carry an earlier time than it.
OVERLAP = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The settings of selection."""

    min_score: float
    cards: int  # how many are shown whole, the others as a line each
    lookback: timedelta  # the first digest's window, and how far back a riser may lie
    weekly: timedelta
    longest: timedelta  # no window is longer, however long somebody was away
    rise: int  # votes gained since yesterday that bring a paper back


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which papers are new to somebody: known since `start`; risers since `risers`."""

    start: datetime
    risers: datetime


def window(
    frequency: Frequency, last_planned_at: datetime | None, *, rules: Rules, now: datetime
) -> Window:
    """The window of a digest planned now, after one planned at `last_planned_at`."""
    span = rules.weekly if frequency is Frequency.WEEKLY else timedelta()
    if last_planned_at is None:
        start = now - max(span, rules.lookback)
    else:
        start = min(last_planned_at - OVERLAP, now - span)
    start = max(start, now - rules.longest)
    return Window(start=start, risers=min(start, now - rules.lookback))


def shortlist(
    candidates: Iterable[Candidate], topics: Collection[str], *, rules: Rules, weights: Weights
) -> list[tuple[float, Candidate]]:
    """What is good enough for those who follow these topics, with its score, best first."""
    good = (one for one in candidates if merit(one, topics, weights=weights) >= rules.min_score)
    return rank(good, topics, weights=weights)


def choose(
    ranked: Iterable[tuple[float, Candidate]],
    *,
    topics: Collection[str],
    had: Collection[int],
    window: Window,
    max_papers: int,
    rules: Rules,
) -> tuple[Item, ...]:
    """The best of a shortlist for somebody who had these papers, at most `max_papers`."""
    open_ = (
        (value, candidate)
        for value, candidate in ranked
        if candidate.paper.id not in had and _is_news(candidate, window=window, rise=rules.rise)
    )
    return tuple(
        Item(
            paper_id=candidate.paper.id,
            score=value,
            reasons=_reasons(candidate, topics, rise=rules.rise),
            card=place < rules.cards,
        )
        for place, (value, candidate) in enumerate(islice(open_, max_papers))
    )


def _is_news(candidate: Candidate, *, window: Window, rise: int) -> bool:
    fresh = candidate.paper.fresh_at
    if fresh is None or fresh <= window.risers:
        return False
    return fresh > window.start or candidate.gain >= rise


def _reasons(candidate: Candidate, topics: Collection[str], *, rise: int) -> tuple[Reason, ...]:
    found = []
    followed = sorted(
        (slug for slug in candidate.matches if slug in topics),
        key=lambda slug: (-candidate.matches[slug].strength, slug),
    )
    if followed:
        found.append(Reason(kind="topic", args=tuple(followed)))
    if candidate.leads:
        found.append(Reason(kind="most_votes"))
    if candidate.gain >= rise:
        found.append(Reason(kind="rising", args=(candidate.gain,)))
    elif candidate.votes:
        found.append(Reason(kind="votes", args=(candidate.votes, candidate.gain)))
    if not found:
        found.append(Reason(kind="source", args=candidate.paper.sources))
    return tuple(found)
