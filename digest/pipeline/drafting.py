"""Drafts: which papers somebody gets for a slot, and in which words; to be shown, or stored."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine

from digest import message
from digest.cadence import Due, due_slots
from digest.models import (
    Choice,
    Detail,
    Frequency,
    Interests,
    Item,
    Part,
    QuietDay,
    Site,
    Slot,
    Status,
    Subscriber,
)
from digest.pipeline.matching import Matcher
from digest.pipeline.pool import MANY, Look, Pool, Shown, own_reasons, shared, why_nothing
from digest.ranking import Weights
from digest.rendering import Renderer, fit
from digest.selection import QUIET, SEARCHES_ALONE, Offer, Rules, Window, choose, window
from digest.storage import gaps, interests, schedules, subscribers
from digest.storage.digests import WELCOME
from digest.storage.gaps import Gap
from digest.storage.history import last_planned
from digest.suppression import provider
from digest.taste import Judgement

log = logging.getLogger(__name__)


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
    # Of a digest, by its slot: unsubscribe_url, preferences_url, view_url, and the feedback token.
    links: Callable[[Subscriber, date, datetime], Mapping[str, str]]
    provider: Callable[[str], str] = provider  # who receives mail for an address
    matcher: Matcher = field(default_factory=Matcher)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A digest as it would be frozen: for a preview, or to be stored."""

    subscriber: Subscriber
    slot: Slot
    choice: Choice
    window_start: datetime | None = None
    skeleton: Part | None = None
    shown: tuple[Shown, ...] = ()
    personal: Mapping[str, Any] | None = None

    @property
    def cards(self) -> tuple[Part, ...]:
        return tuple(one.part for one in self.shown)


class Order(NamedTuple):
    """A slot to make a digest for, or the reason why there is to be none."""

    subscriber: Subscriber
    slot: Slot
    window: Window
    reason: str = ""


def make_pool(engine: Engine, plan: Plan, *, since: datetime, now: datetime) -> Pool:
    """The candidates since then, for all who are planned now."""
    return Pool(
        engine,
        plan.renderer,
        plan.matcher,
        rules=plan.rules,
        weights=plan.weights,
        sources_read=plan.sources,
        since=since,
        now=now,
    )


def make_orders(
    connection: Connection, plan: Plan, planned: Mapping[int, datetime], *, now: datetime
) -> list[Order]:
    """What is to be made for each who is planned up to some instant."""
    histories = schedules.histories(connection, planned)
    last = last_planned(connection, planned)
    lost = gaps.load(connection)
    return [
        make_order(
            plan,
            subscriber,
            due.slot,
            last=last[subscriber.id],
            now=now,
            reason=_skip(subscriber, due, lost),
        )
        for subscriber in subscribers.select_by_id(connection, planned)
        for due in due_slots(
            histories[subscriber.id], since=planned[subscriber.id], now=now, catch_up=plan.catch_up
        )
    ]


def make_order(
    plan: Plan,
    subscriber: Subscriber,
    slot: Slot,
    *,
    last: datetime | None,
    now: datetime,
    reason: str = "",
) -> Order:
    span = window(slot.schedule.frequency, last, rules=plan.rules, now=now)
    return Order(subscriber=subscriber, slot=slot, window=span, reason=reason)


def _skip(subscriber: Subscriber, due: Due, lost: Sequence[Gap]) -> str:
    if any(gap.start < due.slot.due_at <= gap.end for gap in lost):
        return gaps.REASON
    if due.welcomed:
        return WELCOME
    if due.missed:
        return "outage"
    return "" if subscriber.status is Status.ACTIVE else str(subscriber.status)


def make_drafts(
    connection: Connection,
    plan: Plan,
    pool: Pool,
    orders: Sequence[Order],
    *,
    said: Mapping[int, Interests] | None = None,
) -> list[Draft]:
    """A draft for each order, in order; `said` are interests that count instead of the stored.

    What breaks one person's digest stops nobody else's: it is stored as skipped, with the reason
    `error`. What breaks everybody's is ours, and raised: nothing is stored, all wait for it to be
    mended.
    """
    had = _had(connection, plan, pool, orders)
    if said is None:
        said = interests.of_people(connection, had)
    judged = pool.tasting.judge(connection, said) if said else {}
    while True:
        choices = [_choose(plan, pool, order, had=had, judged=judged) for order in orders]
        known = [
            shared(choice.items, judged.get(order.subscriber.id))
            for order, choice in zip(orders, choices, strict=True)
        ]
        chosen: dict[Look, set[Item]] = defaultdict(set)
        for order, items in zip(orders, known, strict=True):
            chosen[_look(order.subscriber)].update(items)
        if all(pool.render(items, look=look) for look, items in chosen.items()):
            break
    drafts, failed = [], 0
    for order, choice, items in zip(orders, choices, known, strict=True):
        try:
            drafts.append(_draft(plan, pool, order, choice, items))
        except Exception:
            failed += 1
            if failed >= MANY and failed == sum(1 for choice in choices if choice.items):
                raise
            log.exception(
                "The digest of subscriber %d for %s cannot be made.",
                order.subscriber.id,
                order.slot.date,
                extra={"action": "plan", "subscriber": order.subscriber.id},
            )
            drafts.append(_empty(order, Choice(candidates=choice.candidates, reason="error")))
    return drafts


def _had(
    connection: Connection, plan: Plan, pool: Pool, orders: Sequence[Order]
) -> dict[int, Set[int]]:
    """What each cannot get again. Few look back further than the others, and are asked apart."""
    usual = pool.now - plan.rules.lookback
    wanted: dict[bool, dict[int, datetime]] = {True: {}, False: {}}
    for order in orders:
        if not order.reason:
            risers = order.window.risers
            wanted[risers < usual][order.subscriber.id] = risers
    found: dict[int, Set[int]] = {}
    for risers_of in wanted.values():
        if risers_of:
            since = min(risers_of.values())
            found.update(pool.had(connection, risers_of, since=since, late=plan.catch_up))
    return found


def _look(subscriber: Subscriber) -> Look:
    return subscriber.locale, subscriber.detail is Detail.FULL


def _choose(
    plan: Plan,
    pool: Pool,
    order: Order,
    *,
    had: Mapping[int, Set[int]],
    judged: Mapping[int, Judgement],
) -> Choice:
    if order.reason:
        return Choice(reason=order.reason)
    subscriber, mine = order.subscriber, had[order.subscriber.id] | pool.broken
    followed = frozenset(slug for slug in subscriber.topics if slug in pool.topics)
    weekly = order.slot.schedule.frequency is Frequency.WEEKLY
    judgement, least = judged.get(subscriber.id), subscriber.min_score
    if judgement is None and least is None:
        offers = pool.news(followed, order.window, weekly=weekly)
    else:
        offers = _offers(pool, order, followed, judgement, min_score=least)
    most = subscriber.max_papers
    items = choose(offers, had=mine, max_papers=most, rules=plan.rules)
    if not items and subscriber.quiet_day is QuietDay.SEND:
        offers = _offers(pool, order, followed, judgement, min_score=0.0)
        items = choose(offers, had=mine, max_papers=min(most, QUIET), rules=plan.rules)
    new = pool.count_new(order.window.start, mine)
    reason = "" if items else why_nothing(pool.reads, new=new, now=pool.now)
    return Choice(items=items, candidates=new, reason=reason)


def _offers(
    pool: Pool,
    order: Order,
    followed: frozenset[str],
    judgement: Judgement | None,
    *,
    min_score: float | None,
) -> Iterator[Offer]:
    """What one person is offered who has interests, or a minimum of their own."""
    searches = judgement is not None and judgement.searches
    return pool.news_for(
        followed or (SEARCHES_ALONE if searches else followed),
        order.window,
        weekly=order.slot.schedule.frequency is Frequency.WEEKLY,
        judgement=judgement,
        min_score=min_score,
    )


def _draft(plan: Plan, pool: Pool, order: Order, choice: Choice, known: Sequence[Item]) -> Draft:
    if not choice.items:
        return _empty(order, choice)
    subscriber, slot, look = order.subscriber, order.slot, _look(order.subscriber)
    shown = pool.show(choice.items, known, look=look)
    notes: Sequence[str] = ()
    if known != choice.items:
        notes = plan.renderer.notes(
            [own_reasons(item) for item in choice.items], locale=subscriber.locale
        )
    skeleton = pool.skeleton(locale=subscriber.locale)
    fitting = fit(skeleton, [(one.part, one.item.card) for one in shown], notes=notes)
    if fitting < len(shown):
        shown, choice = shown[:fitting], choice._replace(items=choice.items[:fitting])
    personal = plan.renderer.personal(
        [one.entry for one in shown],
        subscriber=subscriber,
        slot=slot,
        candidates=choice.candidates,
        topics=[pool.topics[slug].name for slug in subscriber.topics if slug in pool.topics],
        notes=notes[:fitting],
        **plan.links(subscriber, slot.date, pool.now),
    )
    return Draft(
        subscriber=subscriber,
        slot=slot,
        choice=choice,
        window_start=order.window.start,
        skeleton=skeleton,
        shown=tuple(shown),
        personal={
            **personal,
            **message.envelope(subscriber, slot, now=pool.now, site=plan.site),
        },
    )


def _empty(order: Order, choice: Choice) -> Draft:
    return Draft(
        subscriber=order.subscriber,
        slot=order.slot,
        choice=choice,
        window_start=None if order.reason else order.window.start,
    )
