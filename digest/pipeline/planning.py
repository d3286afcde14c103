"""Plan: for everybody who is due, choose their papers and freeze the digest, before any attempt."""

from __future__ import annotations

import gc
import logging
import math
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, Engine

from digest.cadence import next_slot, replaced
from digest.models import Interests, Schedule, Slot, Wishes
from digest.pipeline.drafting import (
    Draft,
    Plan,
    make_drafts,
    make_order,
    make_orders,
    make_pool,
)
from digest.pipeline.pool import Pool
from digest.storage import digests, ledger, runs, schedules, standing, subscribers
from digest.storage.batches import batch, planner
from digest.storage.database import reading, writing
from digest.storage.digests import Frozen
from digest.storage.history import last_planned
from digest.storage.subscribers import schedule_of

log = logging.getLogger(__name__)

BATCH = 1000  # subscribers whose digests are stored in one transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a pass stored: digests to send, and the slots without one, by reason."""

    digests: int
    skipped: Mapping[str, int]
    more: bool = False  # whether somebody is still due, whom the pass was not to plan


def plan(
    engine: Engine, plan: Plan, *, locks: Path, now: datetime, limit: int | None = None
) -> Planned:
    """Freeze the digest of every slot that is due, of at most `limit` subscribers.

    Each slot gets its row, if only to say why it has no digest. On PostgreSQL any number of
    processes may plan at once; on SQLite this is Busy while another one does.
    """
    started, stored = time.monotonic(), Counter[str]()
    with planner(engine, locks):
        with writing(engine) as connection:
            # What can no longer be sent was not had: its papers are candidates again.
            ledger.expire(connection, now=now)
            more = standing.resume_due(connection, now=now)
        while more:
            with writing(engine) as connection:
                more = standing.resume_due(connection, now=now)
        with _uncollected():
            more = _plan_batches(engine, plan, stored, now=now, limit=limit)
    seconds, made = time.monotonic() - started, stored.pop("", 0)
    if made or stored:
        with writing(engine) as connection:
            counts = {"digests": made, **stored}
            runs.remember(connection, "plan", started_at=now, seconds=seconds, counts=counts)
        log.info(
            "Planned %d digests, %d slots without one, in %.1f s.",
            made,
            sum(stored.values()),
            seconds,
            extra={"action": "plan", "digests": made, "skipped": stored},
        )
    return Planned(digests=made, skipped=stored, more=more)


def _plan_batches(
    engine: Engine, plan: Plan, stored: Counter[str], *, now: datetime, limit: int | None
) -> bool:
    """Plan for all who are due, counting the slots by reason; whether the limit left out any."""
    pool: Pool | None = None
    left = math.inf if limit is None else limit
    while True:
        with batch(engine) as (connection, store):
            due = schedules.due(connection, now=now, limit=int(min(BATCH, max(left, 1))))
            if not due or left <= 0:
                return bool(due)
            missing = _plan_batch(connection, store, plan, pool, due=due, stored=stored, now=now)
        if missing is None:
            left -= len(due)
        else:
            # Made while nobody's row is locked.
            pool = make_pool(engine, plan, since=missing, now=now)


def _plan_batch(
    connection: Connection,
    store: AbstractContextManager[Connection],
    plan: Plan,
    pool: Pool | None,
    *,
    due: Sequence[int],
    stored: Counter[str],
    now: datetime,
) -> datetime | None:
    """Plan for these; nothing but since when candidates are wanted, if the pool has too few."""
    planned = schedules.planned_until(connection, due)
    orders = make_orders(connection, plan, planned, now=now)
    since = min((order.window.risers for order in orders if not order.reason), default=now)
    if pool is None or since < pool.since:
        return since
    drafts = make_drafts(connection, plan, pool, orders)
    reached = {order.subscriber.id: order.slot.due_at for order in orders}
    with store as writer:
        stored.update(_freeze(writer, plan, pool, drafts))
        schedules.refresh_due(writer, {**dict.fromkeys(due, now), **planned, **reached})
    return None


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which would go through each batch's drafts a dozen times.

    They make no cycles, and are gone with the batch; what rendering leaves does not grow with them.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _freeze(connection: Connection, plan: Plan, pool: Pool, drafts: Sequence[Draft]) -> list[str]:
    """Store drafts; the reasons of those whose slot had no row yet, empty for a digest."""
    digests.add_parts(connection, pool.take_new_parts(), now=pool.now)
    frozen = digests.freeze(connection, [_frozen(plan, draft) for draft in drafts], now=pool.now)
    return [
        draft.choice.reason for draft in drafts if (draft.subscriber.id, draft.slot.date) in frozen
    ]


def heal(engine: Engine) -> int:
    """Set right the hints of when people are due next, should any be wrong; how many were."""
    healed, last = 0, 0
    while True:
        with writing(engine) as connection:
            people = schedules.active_ids(connection, after=last, limit=BATCH)
            planned = schedules.planned_until(connection, people)
            healed += schedules.refresh_due(connection, planned)
        if not people:
            break
        last = people[-1]
    if healed:
        log.error(
            "%d subscribers were not known to be due and would have been passed over.",
            healed,
            extra={"action": "heal"},
        )
    return healed


def preview(
    engine: Engine,
    plan: Plan,
    subscriber_id: int,
    *,
    now: datetime,
    wishes: Wishes | None = None,
    topics: Collection[str] | None = None,
    interests: Interests | None = None,
) -> Draft:
    """The digest that a subscriber would get if their next slot were due now; stores nothing.

    Wishes, topics (slugs) and interests that are given count instead of the stored ones.
    """
    with reading(engine) as connection:
        subscriber = subscribers.get(connection, subscriber_id)
        history = schedules.histories(connection, [subscriber_id])[subscriber_id]
        if wishes is not None:
            subscriber = replace(subscriber, **asdict(wishes))
            history = [*history, schedule_of(wishes, since=now)]
        if topics is not None:
            subscriber = replace(subscriber, topics=tuple(sorted(topics)))
        slot = next_slot(history, after=now)
        slot = slot or Slot(date=now.date(), due_at=now, schedule=history[-1])
        last = last_planned(connection, [subscriber_id])[subscriber_id]
        order = make_order(plan, subscriber, slot, last=last, now=now)
        pool = make_pool(engine, plan, since=order.window.risers, now=now)
        said = None if interests is None else {subscriber_id: interests}
        [draft] = make_drafts(connection, plan, pool, [order], said=said)
    return draft


def _frozen(plan: Plan, draft: Draft) -> Frozen:
    return Frozen(
        subscriber=draft.subscriber,
        slot=draft.slot,
        provider=plan.provider(draft.subscriber.address),
        give_up_at=_give_up_at([draft.slot.schedule], draft.slot, after=plan.give_up),
        replaced_due_at=replaced(draft.slot),
        window_start=draft.window_start,
        paper_ids=[item.paper_id for item in draft.choice.items],
        items=[one.row for one in draft.shown],
        reason=draft.choice.reason,
        skeleton=draft.skeleton.hash if draft.skeleton else None,
        parts=digests.names_of((one.part.hash, one.item.card) for one in draft.shown),
        personal=draft.personal,
    )


def _give_up_at(history: Sequence[Schedule], slot: Slot, *, after: timedelta) -> datetime:
    """When a late digest is no longer worth sending: at the next slot, or after so long."""
    following = next_slot(history, after=slot.due_at)
    limit = slot.due_at + after
    return min(following.due_at, limit) if following else limit
