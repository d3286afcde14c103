"""Selection: which papers one subscriber gets for one slot, and why.

Candidates are the papers that became known since the subscriber's last digest; papers that they
had are none, nor is anything older than the window. A paper that was passed over before comes
back only when its votes rose. What scores below the minimum stays out: on a quiet day the digest
is short, or there is none and the reason is stored.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from digest.models import Choice, Frequency, Item, Reason
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


def choose(
    candidates: Sequence[Candidate],
    *,
    topics: Collection[str],
    had: Collection[int],
    window: Window,
    max_papers: int,
    rules: Rules,
    weights: Weights,
) -> Choice:
    """The best papers for somebody, at most `max_papers`; an empty choice says `quiet`."""
    open_ = [candidate for candidate in candidates if candidate.paper.id not in had]
    new = [candidate for candidate in open_ if _since(candidate, window.start)]
    rising = [
        candidate
        for candidate in open_
        if not _since(candidate, window.start)
        and _since(candidate, window.risers)
        and candidate.gain >= rules.rise
    ]
    good = [
        candidate
        for candidate in (*new, *rising)
        if merit(candidate, topics, weights=weights) >= rules.min_score
    ]
    items = tuple(
        Item(
            paper_id=candidate.paper.id,
            score=value,
            reasons=_reasons(candidate, topics, rise=rules.rise),
            card=place < rules.cards,
        )
        for place, (value, candidate) in enumerate(rank(good, topics, weights=weights)[:max_papers])
    )
    return Choice(items=items, candidates=len(new), reason="" if items else "quiet")


def _since(candidate: Candidate, start: datetime) -> bool:
    fresh = candidate.paper.fresh_at
    return fresh is not None and fresh > start


def _reasons(candidate: Candidate, topics: Collection[str], *, rise: int) -> tuple[Reason, ...]:
    found = []
    followed = sorted(
        (slug for slug in candidate.matches if slug in topics),
        key=lambda slug: (-candidate.matches[slug].strength, slug),
    )
    if followed:
        found.append(Reason(kind="topic", args=tuple(followed)))
    if candidate.most_votes:
        found.append(Reason(kind="most_votes"))
    if candidate.gain >= rise:
        found.append(Reason(kind="rising", args=(candidate.gain,)))
    elif candidate.votes:
        found.append(Reason(kind="votes", args=(candidate.votes, candidate.gain)))
    if not found:
        found.append(Reason(kind="source", args=candidate.paper.sources))
    return tuple(found)
