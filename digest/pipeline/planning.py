"""Plan: for everybody who is due, choose their papers and freeze the digest, before any attempt."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine

from digest import message
from digest.cadence import Due, due_slots, next_slot
from digest.models import (
    Choice,
    Frequency,
    Health,
    Mark,
    Paper,
    Part,
    Reason,
    Schedule,
    Site,
    Slot,
    Status,
    Subscriber,
    Topic,
)
from digest.ranking import Candidate, Weights, assess
from digest.rendering import Entry, Renderer, fit
from digest.selection import Rules, Window, choose, window
from digest.storage import digests, papers, runs, sources, subscribers, topics
from digest.storage.database import exclusive, reading, writing
from digest.storage.digests import Past
from digest.suppression import provider
from digest.topics.language import parse
from digest.topics.match import Match, index, match

log = logging.getLogger(__name__)

BATCH = 200  # subscribers whose digests are stored in one transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that planning needs beside the database and the time."""

    renderer: Renderer
    rules: Rules
    weights: Weights
    catch_up: timedelta
    give_up: timedelta
    site: Site
    sources: tuple[str, ...]  # the names of those that are read
    links: Callable[[Subscriber, datetime], Mapping[str, str]]  # unsubscribe_url, preferences_url


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a pass stored: digests to send, and the slots without one, by reason."""

    digests: int
    skipped: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A digest as it would be frozen: for a preview, or to be stored."""

    subscriber: Subscriber
    slot: Slot
    choice: Choice
    window_start: datetime | None = None
    skeleton: Part | None = None
    cards: tuple[Part, ...] = ()
    personal: Mapping[str, Any] | None = None


class Pool:
    """What is the same for all readers at one time: candidates, matches, cards; made on demand."""

    def __init__(self, engine: Engine, plan: Plan, *, since: datetime, now: datetime) -> None:
        self._engine, self._plan, self.since, self.now = engine, plan, since, now
        self._cards: dict[str, Part] = {}
        with reading(engine) as connection:
            self.topics = {topic.slug: topic for topic in topics.all_topics(connection)}
            self._reads = sources.latest_reads(connection, plan.sources, now=now)

    @cached_property
    def papers(self) -> dict[int, Paper]:
        """All papers that became known after `since`, by id."""
        with reading(self._engine) as connection:
            found = papers.candidates(connection, since=self.since)
        return {paper.id: paper for paper in found}

    @cached_property
    def matches(self) -> dict[int, dict[str, Match]]:
        """For each paper that matches any topic, the matches by slug."""
        queries = [(topic.slug, parse(topic.query)) for topic in self.topics.values()]
        found = {}
        for paper in self.papers.values():
            document = index(paper)
            hits = {slug: hit for slug, query in queries if (hit := match(query, document))}
            if hits:
                found[paper.id] = hits
        return found

    @cached_property
    def daily(self) -> list[Candidate]:
        return self._assess(timedelta(days=1), fresh=True)

    @cached_property
    def weekly(self) -> list[Candidate]:
        return self._assess(timedelta(days=7), fresh=False)

    def _assess(self, gained: timedelta, *, fresh: bool) -> list[Candidate]:
        found = list(self.papers.values())
        with reading(self._engine) as connection:
            counts = papers.signals(connection, found, now=self.now, gained=gained)
        return assess(
            found,
            counts,
            matches=self.matches,
            weights=self._plan.weights,
            now=self.now,
            fresh=fresh,
        )

    def why_nothing(self, slot: Slot) -> str:
        """The reason of a digest without papers."""
        down = (Health.STALE, Health.REFUSED, Health.FAILED)
        if all(read.health in down for read in self._reads):
            return "sources"
        if all(read.health in (*down, Health.EMPTY_BY_CALENDAR) for read in self._reads):
            return "weekend" if slot.due_at.weekday() >= 5 else "holiday"
        return "quiet"

    def render(self, entries: Sequence[Entry], *, locale: str) -> list[Part]:
        """The entries' cards; what many readers get is rendered once."""
        renderer = self._plan.renderer
        keys = [renderer.key(entry, locale=locale) for entry in entries]
        new = {
            key: entry for key, entry in zip(keys, entries, strict=True) if key not in self._cards
        }
        made = renderer.cards(list(new.values()), locale=locale)
        self._cards.update(zip(new, made, strict=True))
        return [self._cards[key] for key in keys]


def plan(engine: Engine, plan: Plan, *, locks: Path, now: datetime) -> Planned:
    """Freeze the digest of every slot that is due; Busy while another process plans.

    Each slot gets its row, if only to say why it has no digest. Planning is serial, so that two
    digests of one person never hold the same paper.
    """
    started, skipped, made = time.monotonic(), Counter[str](), 0
    with exclusive(engine, "plan", locks):
        with reading(engine) as connection:
            same_works = papers.same_works(connection)
        pool: Pool | None = None
        while True:
            with reading(engine) as connection:
                due = subscribers.due(connection, now=now, limit=BATCH)
                orders = _orders(connection, plan, due, same_works=same_works, now=now)
            if not due:
                break
            since = min((order.window.risers for order in orders), default=now)
            if pool is None or since < pool.since:
                pool = Pool(engine, plan, since=since, now=now)
            drafts = [_draft(plan, pool, order) for order in orders]
            with writing(engine) as connection:
                for draft in drafts:
                    if _freeze(connection, plan, draft, now=now):
                        skipped[draft.choice.reason] += 1
                subscribers.refresh_due(connection, due, after=now)
        made = skipped.pop("", 0)
    seconds = time.monotonic() - started
    if made or skipped:
        with writing(engine) as connection:
            counts = {"digests": made, **skipped}
            runs.remember(connection, "plan", started_at=now, seconds=seconds, counts=counts)
        log.info(
            "Planned %d digests, %d slots without one, in %.1f s.",
            made,
            sum(skipped.values()),
            seconds,
            extra={"action": "plan", "digests": made, "skipped": skipped},
        )
    return Planned(digests=made, skipped=skipped)


def preview(engine: Engine, plan: Plan, subscriber_id: int, *, now: datetime) -> Draft:
    """The digest that a subscriber would get if their next slot were due now; stores nothing."""
    with reading(engine) as connection:
        subscriber = subscribers.get(connection, subscriber_id)
        history = subscribers.histories(connection, [subscriber_id])[subscriber_id]
        slot = next_slot(history, after=now)
        slot = slot or Slot(date=now.date(), due_at=now, schedule=history[-1])
        same_works = papers.same_works(connection)
        past = _pasts(connection, plan, [subscriber_id], same_works=same_works, now=now)
    order = _order(plan, subscriber, slot, past=past[subscriber_id], now=now)
    return _draft(plan, Pool(engine, plan, since=order.window.risers, now=now), order)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """A slot to make a digest for, or the reason why there is to be none."""

    subscriber: Subscriber
    slot: Slot
    past: Past
    window: Window
    reason: str = ""


def _orders(
    connection: Connection,
    plan: Plan,
    subscriber_ids: Sequence[int],
    *,
    same_works: Mapping[int, frozenset[int]],
    now: datetime,
) -> list[_Order]:
    planned = subscribers.planned_until(connection, subscriber_ids)
    histories = subscribers.histories(connection, subscriber_ids)
    pasts = _pasts(connection, plan, subscriber_ids, same_works=same_works, now=now)
    return [
        replace(
            _order(plan, subscriber, due.slot, past=pasts[subscriber.id], now=now),
            reason=_skip(subscriber, due),
        )
        for subscriber in subscribers.select_by_id(connection, subscriber_ids)
        for due in due_slots(
            histories[subscriber.id],
            since=planned[subscriber.id],
            now=now,
            catch_up=plan.catch_up,
        )
    ]


def _order(plan: Plan, subscriber: Subscriber, slot: Slot, *, past: Past, now: datetime) -> _Order:
    span = window(slot.schedule.frequency, past.last_planned_at, rules=plan.rules, now=now)
    return _Order(subscriber=subscriber, slot=slot, past=past, window=span)


def _pasts(
    connection: Connection,
    plan: Plan,
    subscriber_ids: Sequence[int],
    *,
    same_works: Mapping[int, frozenset[int]],
    now: datetime,
) -> dict[int, Past]:
    # A digest may be planned late; whatever it holds can be no candidate twice that long after.
    since = now - 2 * plan.rules.longest
    return digests.pasts(connection, subscriber_ids, since=since, same_works=same_works)


def _skip(subscriber: Subscriber, due: Due) -> str:
    if due.missed:
        return "outage"
    return "" if subscriber.status is Status.ACTIVE else str(subscriber.status)


def _draft(plan: Plan, pool: Pool, order: _Order) -> Draft:
    if order.reason:
        choice = Choice(reason=order.reason)
        return Draft(subscriber=order.subscriber, slot=order.slot, choice=choice)
    subscriber, slot = order.subscriber, order.slot
    weekly = slot.schedule.frequency is Frequency.WEEKLY
    choice = choose(
        pool.weekly if weekly else pool.daily,
        topics=[slug for slug in subscriber.topics if slug in pool.topics],
        had=order.past.paper_ids,
        window=order.window,
        max_papers=subscriber.max_papers,
        rules=plan.rules,
        weights=plan.weights,
    )
    if choice.items:
        return _render(plan, pool, order, choice)
    return Draft(
        subscriber=subscriber,
        slot=slot,
        choice=replace(choice, reason=pool.why_nothing(slot)),
        window_start=order.window.start,
    )


def _render(plan: Plan, pool: Pool, order: _Order, choice: Choice) -> Draft:
    subscriber, slot = order.subscriber, order.slot
    entries = [
        Entry(
            paper=pool.papers[item.paper_id],
            marks=_marks(pool.matches.get(item.paper_id, {}), subscriber.topics),
            reasons=tuple(_named(reason, pool.topics) for reason in item.reasons),
            card=item.card,
        )
        for item in choice.items
    ]
    skeleton = plan.renderer.skeleton(locale=subscriber.locale)
    cards = pool.render(entries, locale=subscriber.locale)
    room = fit(skeleton, [(card, entry.card) for card, entry in zip(cards, entries, strict=True)])
    choice = replace(choice, items=choice.items[:room])
    names = [pool.topics[slug].name for slug in subscriber.topics if slug in pool.topics]
    personal = plan.renderer.personal(
        entries[:room],
        subscriber=subscriber,
        slot=slot,
        candidates=choice.candidates,
        topics=names,
        **plan.links(subscriber, pool.now),
    )
    return Draft(
        subscriber=subscriber,
        slot=slot,
        choice=choice,
        window_start=order.window.start,
        skeleton=skeleton,
        cards=tuple(cards[:room]),
        personal={
            **personal,
            **message.envelope(subscriber, slot, now=pool.now, site=plan.site),
        },
    )


def _marks(hits: Mapping[str, Match], followed: Sequence[str]) -> tuple[Mark, ...]:
    return tuple(mark for slug in followed if slug in hits for mark in hits[slug].marks)


def _named(reason: Reason, known: Mapping[str, Topic]) -> Reason:
    """A topic's reason holds slugs; people read names."""
    if reason.kind != "topic":
        return reason
    return Reason(kind="topic", args=tuple(known[str(slug)].name for slug in reason.args))


def _freeze(connection: Connection, plan: Plan, draft: Draft, *, now: datetime) -> bool:
    parts = [part for part in (draft.skeleton, *draft.cards) if part is not None]
    digests.add_parts(connection, parts, now=now)
    return digests.freeze(
        connection,
        draft.subscriber,
        draft.slot,
        choice=draft.choice,
        parts=[card.hash for card in draft.cards],
        skeleton=draft.skeleton.hash if draft.skeleton else None,
        personal=draft.personal or {},
        provider=provider(draft.subscriber.address),
        window_start=draft.window_start,
        give_up_at=_give_up_at([draft.slot.schedule], draft.slot, after=plan.give_up),
        now=now,
    )


def _give_up_at(history: Sequence[Schedule], slot: Slot, *, after: timedelta) -> datetime:
    """When a late digest is no longer worth sending: at the next slot, or after so long."""
    following = next_slot(history, after=slot.due_at)
    limit = slot.due_at + after
    return min(following.due_at, limit) if following else limit
