"""Selection: which papers one subscriber gets for one slot, and why.

Candidates are the papers that became known since the subscriber's last digest; papers that they
had are none, nor is anything older than the window. A paper that was passed over before comes
back only when its votes rose. What scores below the minimum stays out: on a quiet day the digest
is short, or there is none and the reason is stored.

What one person said of papers (see `digest.taste`) changes some of the candidates for them. These
are scored anew as far as somebody reads: what may gain much at once, the rest when its turn comes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import heappop, heappush, merge
from itertools import chain, islice
from typing import Any, NamedTuple

from digest.models import Frequency, Item, Reason
from digest.ranking import Candidate, Weights, lifted, merit, order, score
from digest.taste import NO_LIFT, Judgement, Lift

# What was stored while the last digest was being planned may carry an earlier time than it.
OVERLAP = timedelta(hours=1)
MOST = 50_000  # offers, and scores, that are remembered
# A quiet day's digest, for who wants one nevertheless.
QUIET = 3  # papers
# Who follows searches alone, and no topic, is somebody who follows topics. No slug is empty.
SEARCHES_ALONE = frozenset({""})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The settings of selection."""

    min_score: float
    cards: int  # how many are shown whole, the others as a line each
    lookback: timedelta  # the first digest's window, and how far back a riser may lie
    weekly: timedelta
    longest: timedelta  # no window is longer, however long somebody was away
    rise: int  # votes gained since yesterday that bring a paper back


class Window(NamedTuple):
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


Order = tuple[float, int, float, int]  # see `digest.ranking.order`; the better is less


class Offer(NamedTuple):
    """A paper as it stands for all who follow the same of its topics; the better one is less."""

    order: Order
    candidate: Candidate
    card: Item
    line: Item  # the same, for who has better ones enough
    merit: float


class Shortlists:
    """What is good enough, best first, for those who follow any set of topics.

    A paper's score depends on which of somebody's topics it matches, not on the others. So the
    papers are scored and sorted once as they are without a match, and once for each topic; for a
    set of topics only those that match several of them are scored anew, and the sorted lists are
    merged as far as somebody reads.
    """

    def __init__(self, candidates: Iterable[Candidate], *, rules: Rules, weights: Weights) -> None:
        self._rules, self._weights = rules, weights
        self._candidates = {candidate.paper.id: candidate for candidate in candidates}
        self._matching: dict[str, set[int]] = defaultdict(set)
        for paper_id, candidate in self._candidates.items():
            for slug in candidate.matches:
                self._matching[slug].add(paper_id)
        self._sorted: dict[frozenset[str], list[Offer]] = {}
        self._ties = {
            paper_id: order(candidate, 0.0)[1:] for paper_id, candidate in self._candidates.items()
        }
        self._topics = {
            paper_id: frozenset(candidate.matches)
            for paper_id, candidate in self._candidates.items()
        }
        self._offers: dict[tuple[int, frozenset[str]], Offer | None] = {}
        self._values: dict[tuple[int, frozenset[str], tuple[float, ...]], tuple[float, float]] = {}

    def best(self, topics: frozenset[str]) -> Iterator[Offer]:
        """What there is for those who follow these topics."""
        if not topics:
            return iter(self._list(topics, self._candidates))
        once, several = set[int](), set[int]()
        for slug in topics:
            matching = self._matching.get(slug, set())
            several |= once & matching
            once |= matching
        several_offers = [self._offer_of(paper_id, topics) for paper_id in several]
        return merge(
            # No slug is empty: as for anybody who follows topics that a paper does not match.
            _without(self._list(SEARCHES_ALONE, self._candidates), once),
            *(
                _without(self._list(frozenset({slug}), self._matching[slug]), several)
                for slug in topics
                if slug in self._matching
            ),
            sorted(offer for offer in several_offers if offer),
        )

    def for_one(
        self,
        offers: Iterable[Offer],
        topics: frozenset[str],
        judgement: Judgement,
        *,
        window: Window,
        min_score: float | None = None,
    ) -> Iterator[Offer]:
        """What is new to all who follow these topics, as one person's interests change it.

        What may gain much is looked at first, one paper after the other. Then the offers are gone
        through as far as somebody reads: a paper is theirs when nothing that follows can be better,
        however much it gains. At last come those that only likeness makes good enough.
        """
        apart, most, out = judgement.apart, judgement.most, judgement.out
        least = max(self._rules.min_score, min_score or 0.0)
        late = lifted(self._rules.min_score, most)  # none of the last is better
        waiting: list[tuple[Order, Offer | None]] = []

        def take(paper_id: int, worth: float, value: float, offer: Offer | None = None) -> None:
            by = judgement.gain(paper_id)
            if lifted(worth, by) >= least:
                heappush(waiting, ((-lifted(value, by), *self._ties[paper_id]), offer))

        def best() -> Offer:
            place, offer = heappop(waiting)
            paper_id = place[-1]
            if offer and not judgement.changes(paper_id):
                return offer
            return self._made(
                self._candidates[paper_id], self._of(paper_id, topics), judgement.lift(paper_id)
            )

        for paper_id, worth, value in self._one_by_one(apart, topics, judgement, window):
            take(paper_id, worth, value)
        for offer in chain(offers, [None]):
            limit = lifted(-offer.order[0], most) if offer else -1.0
            if limit <= late:
                late = -math.inf
                alike = judgement.alike - apart
                for paper_id, worth, value in self._one_by_one(alike, topics, judgement, window):
                    if worth < self._rules.min_score:
                        take(paper_id, worth, value)
            while waiting and -waiting[0][0][0] > limit:
                yield best()
            if offer and (paper_id := offer.card.paper_id) not in out and paper_id not in apart:
                take(paper_id, offer.merit, -offer.order[0], offer)

    def _one_by_one(
        self, paper_ids: Set[int], topics: frozenset[str], judgement: Judgement, window: Window
    ) -> Iterator[tuple[int, float, float]]:
        """The new ones of these papers, with their merit and score before a lift."""
        for paper_id in paper_ids:
            candidate = self._candidates.get(paper_id)
            if candidate and is_new(candidate, window=window, rules=self._rules):
                own = judgement.strengths.get(paper_id, ())
                yield paper_id, *self._values_of(candidate, self._of(paper_id, topics), own)

    def _of(self, paper_id: int, topics: frozenset[str]) -> frozenset[str]:
        """Which of somebody's topics a paper matches; who follows some is never without."""
        return topics & self._topics[paper_id] or SEARCHES_ALONE if topics else topics

    def _values_of(
        self, candidate: Candidate, topics: frozenset[str], own: tuple[float, ...]
    ) -> tuple[float, float]:
        """Merit and score, without a lift."""
        key = (candidate.paper.id, topics, own)
        if key not in self._values:
            _make_room(self._values)
            self._values[key] = (
                merit(candidate, topics, weights=self._weights, own=own),
                score(candidate, topics, weights=self._weights, own=own),
            )
        return self._values[key]

    def _list(self, topics: frozenset[str], paper_ids: Iterable[int]) -> list[Offer]:
        if topics not in self._sorted:
            offers = (self._offer(self._candidates[paper_id], topics) for paper_id in paper_ids)
            self._sorted[topics] = sorted(offer for offer in offers if offer)
        return self._sorted[topics]

    def _offer_of(self, paper_id: int, topics: frozenset[str]) -> Offer | None:
        key = (paper_id, topics & self._topics[paper_id])
        if key not in self._offers:
            _make_room(self._offers)
            self._offers[key] = self._offer(self._candidates[paper_id], key[1])
        return self._offers[key]

    def _offer(self, candidate: Candidate, topics: frozenset[str]) -> Offer | None:
        """The offer for those who follow these of its topics; None where it is not good enough."""
        offer = self._made(candidate, topics, NO_LIFT)
        return offer if offer.merit >= self._rules.min_score else None

    def _made(self, candidate: Candidate, topics: frozenset[str], lift: Lift) -> Offer:
        by, own, why = lift
        worth, value = (lifted(one, by) for one in self._values_of(candidate, topics, own))
        reasons = _reasons(candidate, topics, own=why, rise=self._rules.rise)
        card, line = (
            Item(paper_id=candidate.paper.id, score=value, reasons=reasons, card=card)
            for card in (True, False)
        )
        return Offer(order(candidate, value), candidate, card, line, worth)


def _make_room(memory: dict[Any, Any]) -> None:
    """Sets of topics may be as many as readers; what is remembered of them is not."""
    if len(memory) >= MOST:
        memory.clear()


def _without(offers: Iterable[Offer], paper_ids: Set[int]) -> Iterator[Offer]:
    return (offer for offer in offers if offer.card.paper_id not in paper_ids)


def news(offers: Iterable[Offer], *, window: Window, rules: Rules) -> Iterator[Offer]:
    """Those that became known within the window, or rise."""
    for offer in offers:
        if is_new(offer.candidate, window=window, rules=rules):
            yield offer


def is_new(candidate: Candidate, *, window: Window, rules: Rules) -> bool:
    """Whether it became known within the window, or rises."""
    fresh = candidate.paper.fresh_at
    return fresh is not None and (
        fresh > window.start or (fresh > window.risers and candidate.gain >= rules.rise)
    )


def choose(
    offers: Iterable[Offer], *, had: Collection[int], max_papers: int, rules: Rules
) -> tuple[Item, ...]:
    """The best for somebody who had these papers, at most `max_papers`."""
    new = (offer for offer in offers if offer.card.paper_id not in had)
    return tuple(
        offer.card if place < rules.cards else offer.line
        for place, offer in enumerate(islice(new, max_papers))
    )


def _reasons(
    candidate: Candidate, topics: Collection[str], *, rise: int, own: Sequence[Reason] = ()
) -> tuple[Reason, ...]:
    found = [*own]
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
