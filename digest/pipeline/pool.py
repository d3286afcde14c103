"""The pool: what is the same for all readers at one time, made once and on demand."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property

from sqlalchemy import Engine

from digest.errors import TopicSyntaxError
from digest.models import Health, Item, Paper, Part, Reason, Topic
from digest.ranking import Candidate, Weights, assess
from digest.rendering import Entry, Renderer
from digest.selection import Rules, shortlist
from digest.storage import digests, papers, sources, topics
from digest.storage.database import reading
from digest.storage.days import papers_on
from digest.storage.sources import Read
from digest.topics.language import Query, parse
from digest.topics.match import Match, index, match

log = logging.getLogger(__name__)

# Papers are compared with those of the same source and day, and the oldest candidates' day began
# before them.
_COMPARED = timedelta(days=1)
_ANSWER_LASTS = timedelta(hours=36)  # what a source said before says nothing about today
_MONDAY = timedelta(hours=7)  # in UTC: by then arXiv's list of the day is there
MANY = 5  # what fails in a row without a success between is a fault of ours

_Key = tuple[str, int, bool, tuple[Reason, ...]]


class Matcher:
    """Which papers match which topics, remembered from one pool to the next.

    Taking the words of a day's papers costs a second, and a pool is made for every hour at which
    somebody is due.
    """

    def __init__(self) -> None:
        self._queries: Mapping[str, Query] = {}
        self._known: dict[int, tuple[Paper, dict[str, Match]]] = {}

    def matches(
        self, papers: Iterable[Paper], queries: Mapping[str, Query]
    ) -> dict[int, dict[str, Match]]:
        """For each paper, its matches by topic slug."""
        known = self._known if queries == self._queries else {}
        found = {}
        for paper in papers:
            before = known.get(paper.id)
            found[paper.id] = (
                before if before and before[0] == paper else (paper, _match_all(paper, queries))
            )
        self._queries, self._known = queries, found
        return {paper_id: hits for paper_id, (_, hits) in found.items()}


def _match_all(paper: Paper, queries: Mapping[str, Query]) -> dict[str, Match]:
    document = index(paper)
    return {slug: hit for slug, query in queries.items() if (hit := match(query, document))}


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
        self._shortlists: dict[tuple[frozenset[str], bool], list[tuple[float, Candidate]]] = {}
        self._cards: dict[_Key, tuple[Entry, Part]] = {}
        with reading(engine) as connection:
            found = papers.candidates(connection, since=since - _COMPARED)
            # After the candidates: no merge that made one of them may be missed.
            same_works = papers.same_works(connection)
            self.reads = sources.latest_reads(connection, sources_read, now=now)
            self.topics, self._queries = _usable(topics.all_topics(connection))
        self._compared = found
        self.papers = {
            paper.id: paper for paper in found if paper.fresh_at and paper.fresh_at > since
        }
        self._works = {
            paper_id: same_works[paper_id] for paper_id in self.papers if paper_id in same_works
        }
        self._fresh = sorted(paper.fresh_at for paper in self.papers.values() if paper.fresh_at)

    def had(
        self, pasts: Mapping[int, frozenset[int]], *, recent: datetime
    ) -> dict[int, frozenset[int]]:
        """What each subscriber cannot get again, of what their digests due since `recent` hold.

        A candidate that was known before `recent`, and any that was ever one with another paper,
        is looked for in the older digests too: a source may list a work months after another did.
        """
        old = {
            paper_id
            for paper_id, paper in self.papers.items()
            if paper.first_seen_at and paper.first_seen_at < recent
        }
        old.update(*self._works.values())
        found = dict(pasts)
        if old and pasts:
            with reading(self._engine) as connection:
                earlier = digests.had_before(connection, list(pasts), old, before=recent)
            for subscriber_id, paper_ids in earlier.items():
                found[subscriber_id] |= paper_ids
        return {subscriber_id: self._spread(had) for subscriber_id, had in found.items()}

    def _spread(self, had: frozenset[int]) -> frozenset[int]:
        """Papers that were ever one stand for one another, whether merged now or not."""
        return had.union(
            paper_id for paper_id, works in self._works.items() if not works.isdisjoint(had)
        )

    def count_new(self, start: datetime, had: Collection[int]) -> int:
        """How many papers became known since `start`, but for those of `had`."""
        known = sum(
            1
            for paper_id in had
            if (paper := self.papers.get(paper_id)) and paper.fresh_at and paper.fresh_at > start
        )
        return len(self._fresh) - bisect_right(self._fresh, start) - known

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
                best = papers_on(connection, day, limit=2)
                votes = [paper.signals.get("upvotes", 0) for paper in best]
                if votes and votes[0] > max([1, *votes[1:]]):
                    found.add(best[0].id)
        return frozenset(found)

    def shortlist(self, topics: Iterable[str], *, weekly: bool) -> list[tuple[float, Candidate]]:
        """The ranked papers of all who follow these topics and get their digest as often."""
        followed = frozenset(topics)
        key = (followed, weekly)
        if key not in self._shortlists:
            candidates = self._weekly if weekly else self._daily
            self._shortlists[key] = shortlist(
                candidates, followed, rules=self._rules, weights=self._weights
            )
        return self._shortlists[key]

    @cached_property
    def _daily(self) -> list[Candidate]:
        return self._assess(timedelta(days=1), fresh=True)

    @cached_property
    def _weekly(self) -> list[Candidate]:
        return self._assess(timedelta(days=7), fresh=False)

    def _assess(self, gained: timedelta, *, fresh: bool) -> list[Candidate]:
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

    def show(self, items: Iterable[Item], *, locale: str) -> list[tuple[Entry, Part]]:
        """The items with their cards, which `render` has made before."""
        return [self._cards[_key(item, locale)] for item in items]

    def render(self, items: Iterable[Item], *, locale: str) -> bool:
        """Make the cards that are not there yet; False when some papers turned out to be broken.

        All in one go, for laying in the styles costs much for any number. A paper that cannot be
        shown is left out from then on and stops no other; when nothing can, the fault is ours.
        """
        entries = {
            key: self._entry(item)
            for item in items
            if (key := _key(item, locale)) not in self._cards
        }
        before = len(self.broken)
        self._make(entries, locale=locale)
        return len(self.broken) == before

    def _make(self, entries: Mapping[_Key, Entry], *, locale: str) -> None:
        try:
            parts = self._renderer.cards(list(entries.values()), locale=locale)
        except Exception:
            keys = list(entries)
            if len(keys) > 1:
                middle = len(keys) // 2
                for half in (keys[:middle], keys[middle:]):
                    self._make({key: entries[key] for key in half}, locale=locale)
                return
            [(_, paper_id, _, _)] = keys
            self.broken.add(paper_id)
            if not self._cards and len(self.broken) >= MANY:
                raise
            log.exception(
                "Paper %d cannot be shown; it is left out.", paper_id, extra={"action": "plan"}
            )
            return
        made = zip(entries.values(), parts, strict=True)
        self._cards.update(zip(entries, made, strict=True))

    def _entry(self, item: Item) -> Entry:
        followed = [str(slug) for one in item.reasons if one.kind == "topic" for slug in one.args]
        hits = self.matches.get(item.paper_id, {})
        return Entry(
            paper=self.papers[item.paper_id],
            marks=tuple(mark for slug in followed for mark in hits[slug].marks),
            reasons=tuple(self._named(reason) for reason in item.reasons),
            card=item.card,
        )

    def _named(self, reason: Reason) -> Reason:
        """A topic's reason holds slugs; people read names."""
        if reason.kind != "topic":
            return reason
        return Reason(kind="topic", args=tuple(self.topics[str(slug)].name for slug in reason.args))


def _key(item: Item, locale: str) -> _Key:
    """What a card depends on while the pool lasts; the marks follow from the topics that match."""
    return locale, item.paper_id, item.card, item.reasons


def _usable(found: Iterable[Topic]) -> tuple[dict[str, Topic], dict[str, Query]]:
    """The topics, and their filters, that can be read; one that cannot stops no other."""
    usable, queries = {}, {}
    for topic in found:
        try:
            queries[topic.slug] = parse(topic.query)
        except TopicSyntaxError as error:
            log.error(
                "The filter of topic %s cannot be read; nothing matches it until it is mended: %s",
                topic.slug,
                error,
                extra={"action": "plan", "topic": topic.slug},
            )
        else:
            usable[topic.slug] = topic
    return usable, queries


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
