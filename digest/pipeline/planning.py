"""Plan: for everybody who is due, choose their papers and freeze the digest, before any attempt."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine

from digest import message
from digest.cadence import Due, due_slots, next_slot
from digest.models import (
    Choice,
    Frequency,
    Item,
    Part,
    Schedule,
    Site,
    Slot,
    Status,
    Subscriber,
)
from digest.pipeline.pool import MANY, Matcher, Pool, why_nothing
from digest.ranking import Weights
from digest.rendering import Renderer, fit
from digest.selection import Rules, Window, choose, window
from digest.storage import digests, ledger, runs, subscribers
from digest.storage.database import exclusive, reading, writing
from digest.storage.digests import Past
from digest.suppression import provider

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
    matcher: Matcher = field(default_factory=Matcher)


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

    @property
    def parts(self) -> tuple[Part, ...]:
        return self.cards if self.skeleton is None else (self.skeleton, *self.cards)


def plan(engine: Engine, plan: Plan, *, locks: Path, now: datetime) -> Planned:
    """Freeze the digest of every slot that is due; Busy while another process plans.

    Each slot gets its row, if only to say why it has no digest. Planning is serial, so that two
    digests of one person never hold the same paper.
    """
    started, skipped, made = time.monotonic(), Counter[str](), 0
    with exclusive(engine, "plan", locks):
        with writing(engine) as connection:
            # What can no longer be sent was not had: its papers are candidates again.
            ledger.expire(connection, now=now)
        pool: Pool | None = None
        while True:
            with reading(engine) as connection:
                due = subscribers.due(connection, now=now, limit=BATCH)
                orders = _orders(connection, plan, due, now=now)
            if not due:
                break
            since = min((order.window.risers for order in orders if not order.reason), default=now)
            if pool is None or since < pool.since:
                pool = _pool(engine, plan, since=since, now=now)
            drafts = _drafts(plan, pool, orders)
            with writing(engine) as connection:
                parts = {part.hash: part for draft in drafts for part in draft.parts}
                digests.add_parts(connection, parts.values(), now=now)
                for draft in drafts:
                    if _freeze(connection, plan, draft, now=now):
                        skipped[draft.choice.reason] += 1
                planned = {
                    **dict.fromkeys(due, now),
                    **subscribers.planned_until(connection, due),
                    **{order.subscriber.id: order.slot.due_at for order in orders},
                }
                subscribers.refresh_due(connection, planned)
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


def heal(engine: Engine) -> int:
    """Set right the hints of when people are due next, should any be wrong; how many were."""
    healed, last = 0, 0
    while True:
        with writing(engine) as connection:
            batch = subscribers.active_ids(connection, after=last, limit=BATCH)
            planned = subscribers.planned_until(connection, batch)
            healed += subscribers.refresh_due(connection, planned)
        if not batch:
            break
        last = batch[-1]
    if healed:
        log.error(
            "%d subscribers were not known to be due and would have been passed over.",
            healed,
            extra={"action": "heal"},
        )
    return healed


def preview(engine: Engine, plan: Plan, subscriber_id: int, *, now: datetime) -> Draft:
    """The digest that a subscriber would get if their next slot were due now; stores nothing."""
    with reading(engine) as connection:
        subscriber = subscribers.get(connection, subscriber_id)
        history = subscribers.histories(connection, [subscriber_id])[subscriber_id]
        slot = next_slot(history, after=now)
        slot = slot or Slot(date=now.date(), due_at=now, schedule=history[-1])
        pasts = _pasts(connection, plan, [subscriber_id], now=now)
    order = _order(plan, subscriber, slot, past=pasts[subscriber_id], now=now)
    [draft] = _drafts(plan, _pool(engine, plan, since=order.window.risers, now=now), [order])
    return draft


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """A slot to make a digest for, or the reason why there is to be none."""

    subscriber: Subscriber
    slot: Slot
    past: Past
    window: Window
    reason: str = ""


def _pool(engine: Engine, plan: Plan, *, since: datetime, now: datetime) -> Pool:
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


def _orders(
    connection: Connection, plan: Plan, subscriber_ids: Sequence[int], *, now: datetime
) -> list[_Order]:
    planned = subscribers.planned_until(connection, subscriber_ids)
    histories = subscribers.histories(connection, subscriber_ids)
    pasts = _pasts(connection, plan, subscriber_ids, now=now)
    return [
        replace(
            _order(plan, subscriber, due.slot, past=pasts[subscriber.id], now=now),
            reason=_skip(subscriber, due),
        )
        for subscriber in subscribers.select_by_id(connection, list(planned))
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
    connection: Connection, plan: Plan, subscriber_ids: Sequence[int], *, now: datetime
) -> dict[int, Past]:
    # The pool knows which papers stand for one another, and asks for what lies further back.
    return digests.pasts(connection, subscriber_ids, since=_recent(plan, now=now))


def _recent(plan: Plan, *, now: datetime) -> datetime:
    """Since when digests are read whole: what is known only since then can be in no older one."""
    return now - 2 * plan.rules.longest


def _skip(subscriber: Subscriber, due: Due) -> str:
    if due.missed:
        return "outage"
    return "" if subscriber.status is Status.ACTIVE else str(subscriber.status)


def _drafts(plan: Plan, pool: Pool, orders: Sequence[_Order]) -> list[Draft]:
    """A draft for each order, in order.

    What breaks one person's digest stops nobody else's: it is stored as skipped, with the reason
    `error`. What breaks everybody's is ours, and raised: nothing is stored, all wait for it to be
    mended.
    """
    wanted = [order for order in orders if not order.reason]
    pasts = {order.subscriber.id: order.past.paper_ids for order in wanted}
    had = pool.had(pasts, recent=_recent(plan, now=pool.now))
    while True:
        choices = [_choose(plan, pool, order, had=had) for order in orders]
        chosen: dict[str, list[Item]] = defaultdict(list)
        for order, choice in zip(orders, choices, strict=True):
            chosen[order.subscriber.locale] += choice.items
        if all(pool.render(items, locale=locale) for locale, items in chosen.items()):
            break
    drafts, failed = [], 0
    for order, choice in zip(orders, choices, strict=True):
        try:
            drafts.append(_draft(plan, pool, order, choice))
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


def _choose(plan: Plan, pool: Pool, order: _Order, *, had: Mapping[int, frozenset[int]]) -> Choice:
    if order.reason:
        return Choice(reason=order.reason)
    subscriber, mine = order.subscriber, had[order.subscriber.id] | pool.broken
    followed = [slug for slug in subscriber.topics if slug in pool.topics]
    items = choose(
        pool.shortlist(followed, weekly=order.slot.schedule.frequency is Frequency.WEEKLY),
        topics=followed,
        had=mine,
        window=order.window,
        max_papers=subscriber.max_papers,
        rules=plan.rules,
    )
    new = pool.count_new(order.window.start, mine)
    reason = "" if items else why_nothing(pool.reads, new=new, now=pool.now)
    return Choice(items=items, candidates=new, reason=reason)


def _draft(plan: Plan, pool: Pool, order: _Order, choice: Choice) -> Draft:
    if not choice.items:
        return _empty(order, choice)
    subscriber, slot = order.subscriber, order.slot
    shown = pool.show(choice.items, locale=subscriber.locale)
    skeleton = plan.renderer.skeleton(locale=subscriber.locale)
    shown = shown[: fit(skeleton, [(part, entry.card) for entry, part in shown])]
    personal = plan.renderer.personal(
        [entry for entry, _ in shown],
        subscriber=subscriber,
        slot=slot,
        candidates=choice.candidates,
        topics=[pool.topics[slug].name for slug in subscriber.topics if slug in pool.topics],
        **plan.links(subscriber, pool.now),
    )
    return Draft(
        subscriber=subscriber,
        slot=slot,
        choice=replace(choice, items=choice.items[: len(shown)]),
        window_start=order.window.start,
        skeleton=skeleton,
        cards=tuple(part for _, part in shown),
        personal={
            **personal,
            **message.envelope(subscriber, slot, now=pool.now, site=plan.site),
        },
    )


def _empty(order: _Order, choice: Choice) -> Draft:
    return Draft(
        subscriber=order.subscriber,
        slot=order.slot,
        choice=choice,
        window_start=None if order.reason else order.window.start,
    )


def _freeze(connection: Connection, plan: Plan, draft: Draft, *, now: datetime) -> bool:
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
