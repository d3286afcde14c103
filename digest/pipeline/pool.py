"""The pool: what is the same for all readers at one time, made once and on demand."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import (
    Callable,
    Collection,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Set,
)
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import tee
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine

from digest.models import Health, Item, Part, Reason
from digest.pipeline.matching import Matcher, usable
from digest.pipeline.tasting import Tasting
from digest.ranking import Candidate, Weights, assess
from digest.rendering import Entry, Renderer
from digest.selection import Offer, Rules, Shortlists, Window, news
from digest.storage import digests, gaps, history, papers, sources, topics
from digest.storage.database import reading
from digest.storage.listings import papers_listed
from digest.storage.sources import Read
from digest.taste import PERSONAL, Judgement
from digest.topics.match import Match

log = logging.getLogger(__name__)

# Papers are compared with those of the same source and day, and the oldest candidates' day began
# before them.
_COMPARED = timedelta(days=1)
_ANSWER_LASTS = timedelta(hours=36)  # what a source said before says nothing about today
_MONDAY = timedelta(hours=7)  # in UTC: by then arXiv's list of the day is there
MANY = 5  # what fails in a row without a success between is a fault of ours

# What clocks may differ by, of the machines that read the sources and of those that plan.
_CLOCK = timedelta(days=1)
# How much a pool remembers from one batch to the next.
MOST_SHOWN, MOST_OFFERS, MOST_WINDOWS = 20_000, 5_000, 500
_NOTE = Reason(kind="note")  # stands for the reasons of one person, for whom the card has a place

Look = tuple[str, bool]  # of cards: their language, and whether they have the whole abstract


class Shown(NamedTuple):
    """A chosen paper, with its card or line and what the stored digest says of it."""

    item: Item
    entry: Entry
    part: Part
    row: str


class Pool:
    """The candidates since `since`, matched, ranked and rendered for whoever asks."""

    def __init__(
        self,
        engine: Engine,
        renderer: Renderer,
        matcher: Matcher,
        *,
        rules: Rules,
        weights: Weights,
        sources_read: Sequence[str],
        since: datetime,
        now: datetime,
    ) -> None:
        self._engine, self._renderer, self._matcher = engine, renderer, matcher
        self._rules, self._weights = rules, weights
        self.since, self.now = since, now
        self.broken: set[int] = set()  # papers that cannot be shown
        self._offers: dict[Hashable, Iterator[Offer]] = {}
        self._shown: dict[Look, dict[Item, Shown]] = defaultdict(dict)
        self._new: dict[str, Part] = {}
        self._new_since: dict[datetime, set[int]] = {}
        with reading(engine) as connection:
            found = papers.candidates(connection, since=since - _COMPARED)
            # After the candidates: no merge that made one of them may be missed.
            same_works = papers.same_works(connection)
            self.reads = sources.latest_reads(connection, sources_read, now=now)
            self.topics, self._queries = usable(topics.all_topics(connection))
            lost = max((gap.end for gap in gaps.load(connection)), default=None)
            self.papers = {
                paper.id: paper
                for paper in found
                if paper.fresh_at
                and paper.fresh_at > since
                # What was known before a restore may have been sent.
                and not (lost and paper.first_seen_at and paper.first_seen_at <= lost)
            }
            # Papers that were ever one stand for one another, whether they are merged now or not.
            self._works = {
                paper_id: same_works[paper_id] for paper_id in self.papers if paper_id in same_works
            }
            members = set[int]().union(*self._works.values())
            self._first_seen = papers.first_seen(connection, members)
        self._compared = found
        self._stands_for: dict[int, set[int]] = defaultdict(set)
        for paper_id, works in self._works.items():
            for member in works:
                self._stands_for[member].add(paper_id)

    def had(
        self,
        connection: Connection,
        subscriber_ids: Collection[int],
        *,
        since: datetime,
        late: timedelta,
    ) -> dict[int, Set[int]]:
        """Which of the candidates since `since` each subscriber cannot get again.

        Nothing can be in a digest that was planned before it was known; planning comes up to
        `late` after a digest's time. So recent digests are read whole. Older ones are asked only
        for the papers that were known so early: a source may list a work months after another did.
        """
        recent = since - late - _CLOCK
        found = history.had(connection, subscriber_ids, since=recent)
        old = {paper_id: seen for paper_id, seen in self._known(since) if seen < since}
        if old:
            earlier = history.had_between(
                connection,
                subscriber_ids,
                old,
                start=min(old.values()) - late - _CLOCK,
                end=recent,
            )
            for subscriber_id, paper_ids in earlier.items():
                found[subscriber_id] |= paper_ids
        return {subscriber_id: self._spread(had) for subscriber_id, had in found.items()}

    def _known(self, since: datetime) -> Iterator[tuple[int, datetime]]:
        """When the candidates since then, and papers that were ever one with them, were known."""
        for paper_id, paper in self.papers.items():
            if paper.fresh_at and paper.first_seen_at and paper.fresh_at > since:
                yield paper_id, paper.first_seen_at
                for member in self._works.get(paper_id, ()):
                    yield member, self._first_seen[member]

    def _spread(self, had: Set[int]) -> Set[int]:
        """The candidates among these papers, and those that were ever one with any of these."""
        found = self.papers.keys() & had
        for paper_id in self._stands_for.keys() & had:
            found |= self._stands_for[paper_id]
        return found

    def count_new(self, start: datetime, had: Set[int]) -> int:
        """How many papers became known since `start`, but for those of `had`."""
        if start not in self._new_since:
            self._new_since[start] = {
                paper_id
                for paper_id, paper in self.papers.items()
                if paper.fresh_at and paper.fresh_at > start
            }
        new = self._new_since[start]
        return len(new) - len(new & had)

    @cached_property
    def matches(self) -> dict[int, dict[str, Match]]:
        """For each paper, its matches by topic slug."""
        return self._matcher.matches(self.papers.values(), self._queries)

    @cached_property
    def leaders(self) -> frozenset[int]:
        """The papers that have the most votes of their day, alone and more than one."""
        found = set()
        with reading(self._engine) as connection:
            for day in {
                paper.listed_at.date() for paper in self.papers.values() if paper.listed_at
            }:
                best = papers_listed(connection, day, day + timedelta(days=1), limit=2)
                votes = [paper.signals.get("upvotes", 0) for paper in best]
                if votes and votes[0] > max([1, *votes[1:]]):
                    found.add(best[0].id)
        return frozenset(found)

    def news(self, topics: frozenset[str], window: Window, *, weekly: bool) -> Iterator[Offer]:
        """What is good enough and new, best first, to all who follow these topics."""
        lists = self._lists(weekly=weekly)
        best = self._shared((topics, weekly), lambda: lists.best(topics))
        return self._shared(
            (topics, weekly, window), lambda: news(best, window=window, rules=self._rules)
        )

    def news_for(
        self,
        topics: frozenset[str],
        window: Window,
        *,
        weekly: bool,
        judgement: Judgement | None,
        min_score: float | None,
    ) -> Iterator[Offer]:
        """`news` as one person's interests change it, from their own minimum on.

        The usual lists begin at the house's minimum; for a lower one there are lists of all.
        """
        low = min_score is not None and min_score < self._rules.min_score
        if not low:
            lists, shared = self._lists(weekly=weekly), self.news(topics, window, weekly=weekly)
        else:
            lists = self._weekly_of_all if weekly else self._daily_of_all
            best = self._shared((topics, weekly, "all"), lambda: lists.best(topics))
            shared = self._shared(
                (topics, weekly, window, "all"),
                lambda: news(best, window=window, rules=self._rules),
            )
        if judgement:
            return lists.for_one(shared, topics, judgement, window=window, min_score=min_score)
        return (offer for offer in shared if min_score is None or offer.merit >= min_score)

    @cached_property
    def tasting(self) -> Tasting:
        """What judges readers' interests."""
        matching: dict[str, set[int]] = defaultdict(set)
        for paper_id, hits in self.matches.items():
            for slug in hits:
                matching[slug].add(paper_id)
        return Tasting(self.papers.values(), same=self._spread, topics=matching)

    def _lists(self, *, weekly: bool) -> Shortlists:
        return self._weekly if weekly else self._daily

    def _shared(self, key: Hashable, make: Callable[[], Iterator[Offer]]) -> Iterator[Offer]:
        """The iterator from its beginning; what anybody read of it is remembered for the others."""
        if key not in self._offers:
            [self._offers[key]] = tee(make(), 1)
        return copy(self._offers[key])

    @cached_property
    def _daily(self) -> Shortlists:
        return Shortlists(self._today, rules=self._rules, weights=self._weights)

    @cached_property
    def _weekly(self) -> Shortlists:
        return Shortlists(self._this_week, rules=self._rules, weights=self._weights)

    @cached_property
    def _daily_of_all(self) -> Shortlists:
        return Shortlists(self._today, rules=self._all, weights=self._weights)

    @cached_property
    def _weekly_of_all(self) -> Shortlists:
        return Shortlists(self._this_week, rules=self._all, weights=self._weights)

    @property
    def _all(self) -> Rules:
        return replace(self._rules, min_score=0.0)

    @cached_property
    def _today(self) -> list[Candidate]:
        return self._assessed(timedelta(days=1), fresh=True)

    @cached_property
    def _this_week(self) -> list[Candidate]:
        return self._assessed(timedelta(days=7), fresh=False)

    def _assessed(self, gained: timedelta, *, fresh: bool) -> list[Candidate]:
        with reading(self._engine) as connection:
            counts = papers.signals(connection, self._compared, now=self.now, gained=gained)
        return assess(
            list(self.papers.values()),
            counts,
            matches=self.matches,
            leaders=self.leaders,
            weights=self._weights,
            now=self.now,
            fresh=fresh,
        )

    def skeleton(self, *, locale: str) -> Part:
        """What stands around the papers."""
        part = self._renderer.skeleton(locale=locale)
        self._new[part.hash] = part
        return part

    def take_new_parts(self) -> list[Part]:
        """The parts made since the last call, to be stored before a digest that names them.

        A batch ends with it, and what was made for more than a few of them is forgotten, so that
        memory does not grow with the number of subscribers.
        """
        made, self._new = list(self._new.values()), {}
        memories: list[tuple[dict[Any, Any], int]] = [
            *((shown, MOST_SHOWN) for shown in self._shown.values()),
            (self._offers, MOST_OFFERS),
            (self._new_since, MOST_WINDOWS),
        ]
        for memory, most in memories:
            if len(memory) > most:
                memory.clear()
        return made

    def show(self, items: Iterable[Item], known: Iterable[Item], *, look: Look) -> list[Shown]:
        """The items with their cards, which `render` has made before.

        `known` are the items as `shared` has them: one person's have cards that others get too.
        """
        shown = self._shown[look]
        return [
            shown[item]
            if item is one
            else shown[one]._replace(item=item, row=digests.item_row(item))
            for item, one in zip(items, known, strict=True)
        ]

    def render(self, items: Iterable[Item], *, look: Look) -> bool:
        """Make the cards that are not there yet; False when some papers turned out to be broken.

        All in one go, for laying in the styles costs much for any number. A paper that cannot be
        shown is left out from then on and stops no other; when nothing can, the fault is ours.
        """
        shown, full = self._shown[look], look[1]
        new = {item: self._entry(item, full=full) for item in items if item not in shown}
        before = len(self.broken)
        self._make(new, look=look)
        return len(self.broken) == before

    def _make(self, entries: Mapping[Item, Entry], *, look: Look) -> None:
        try:
            parts = self._renderer.cards(list(entries.values()), locale=look[0])
        except Exception:
            items = list(entries)
            if len(items) > 1:
                middle = len(items) // 2
                for half in (items[:middle], items[middle:]):
                    self._make({item: entries[item] for item in half}, look=look)
                return
            paper_id = items[0].paper_id
            self.broken.add(paper_id)
            if not any(self._shown.values()) and len(self.broken) >= MANY:
                raise
            log.exception(
                "Paper %d cannot be shown; it is left out.", paper_id, extra={"action": "plan"}
            )
            return
        for (item, entry), part in zip(entries.items(), parts, strict=True):
            row = digests.item_row(item)
            self._shown[look][item] = Shown(item=item, entry=entry, part=part, row=row)
            self._new[part.hash] = part

    def _entry(self, item: Item, *, full: bool) -> Entry:
        followed = [str(slug) for one in item.reasons if one.kind == "topic" for slug in one.args]
        hits = self.matches.get(item.paper_id, {})
        return Entry(
            paper=self.papers[item.paper_id],
            marks=tuple(mark for slug in followed for mark in hits[slug].marks),
            reasons=tuple(self._named(reason) for reason in item.reasons if reason != _NOTE),
            card=item.card,
            full=full,
            noted=_NOTE in item.reasons,
        )

    def _named(self, reason: Reason) -> Reason:
        """A topic's reason holds slugs; people read names."""
        if reason.kind != "topic":
            return reason
        return Reason(kind="topic", args=tuple(self.topics[str(slug)].name for slug in reason.args))


def shared(items: Iterable[Item], judgement: Judgement | None) -> tuple[Item, ...]:
    """What one person's items have in common with others', by which their cards are known."""
    if judgement is None:
        return tuple(items)
    return tuple(_common(item) if judgement.changes(item.paper_id) else item for item in items)


def _common(item: Item) -> Item:
    """Without the score, which is theirs, and the reasons that only their interests gave."""
    shared = tuple([reason for reason in item.reasons if reason.kind not in PERSONAL])
    noted = item.card and len(shared) < len(item.reasons)
    return Item(item.paper_id, 0.0, (*shared, _NOTE) if noted else shared, item.card)


def own_reasons(item: Item) -> tuple[Reason, ...]:
    """The reasons that only one person's interests gave, where the item's card has a place."""
    return tuple(reason for reason in item.reasons if item.card and reason.kind in PERSONAL)


def why_nothing(reads: Sequence[Read], *, new: int, now: datetime) -> str:
    """The reason of a digest without papers: `quiet`, `weekend`, `holiday` or `sources`.

    `new` is how many papers there were that were not good enough. A weekend is the sources', not
    the reader's: it goes on until Monday's lists are there, whatever day it is in Auckland.
    """
    good = [read for read in reads if read.health.good and now - read.started_at <= _ANSWER_LASTS]
    if not good:
        return "sources"
    empty = [read.started_at for read in good if read.health is Health.EMPTY_BY_CALENDAR]
    if new or not empty:
        return "quiet"
    if any(max(at.weekday(), (at - _MONDAY).weekday()) >= 5 for at in empty):
        return "weekend"
    # One has a holiday; was the other one asked in vain?
    return "holiday" if len(good) == len(reads) else "sources"
