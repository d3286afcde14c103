"""Frozen digests: storing the choice before the first attempt, and what became of the slots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

import orjson
from sqlalchemy import (
    Connection,
    Executable,
    RowMapping,
    String,
    and_,
    bindparam,
    case,
    func,
    insert,
    literal,
    or_,
    select,
    true,
    update,
)

from digest import schema
from digest.models import Item, Part, Reason, Slot, State, Subscriber
from digest.storage.database import given, insert_ignoring, insert_into, packed

WELCOME = "welcome"  # why a slot was skipped: a welcome came just before it
_NOW = bindparam("now", type_=schema.Instant())
_RENEWED = timedelta(days=1)  # a part that is named every day is written once a day


class Frozen(NamedTuple):
    """A digest as it is stored: to be sent, or with the reason why there is nothing to send."""

    subscriber: Subscriber
    slot: Slot
    provider: str
    give_up_at: datetime
    replaced_due_at: datetime | None = None  # `cadence.replaced`
    window_start: datetime | None = None
    paper_ids: Sequence[int] = ()
    items: Sequence[str] = ()  # of each paper what `item_row` makes: many digests hold the same
    reason: str = ""
    skeleton: str | None = None
    parts: str = ""  # what `names_of` makes
    personal: Mapping[str, Any] | None = None  # of a mail


def add_parts(connection: Connection, parts: Iterable[Part], *, now: datetime) -> None:
    """Store parts that are not there yet, and keep those that are from being forgotten."""
    # In order, so that two who store the same ones never wait for each other.
    rows = [
        {**asdict(part), "created_at": now} for part in sorted(parts, key=lambda part: part.hash)
    ]
    if not rows:
        return
    connection.execute(insert_ignoring(connection, schema.part), rows)
    hashes = packed([row["hash"]] for row in rows)
    connection.execute(
        _renew(connection.dialect.name), {"rows": hashes, "now": now, "before": now - _RENEWED}
    )


@cache
def _renew(dialect: str) -> Executable:
    table = schema.part
    named = given(dialect, bindparam("rows"), hash=String())
    # Whatever another planner has locked, that one renews: it might wait for what this one has.
    old = (
        select(table.c.hash)
        .where(
            table.c.hash.in_(select(named.c.hash)),
            table.c.created_at < bindparam("before", type_=schema.Instant()),
        )
        .with_for_update(skip_locked=True, of=table)
    )
    return update(table).where(table.c.hash.in_(old)).values(created_at=_NOW)


def freeze(
    connection: Connection, digests: Sequence[Frozen], *, now: datetime
) -> set[tuple[int, date]]:
    """Store digests and their deliveries; of which subscribers and slots.

    A slot that has its row already keeps it, and is not among them.
    """
    dialect = connection.dialect.name
    rows = packed(
        (
            one.subscriber.id,
            one.slot.date.isoformat(),
            one.slot.due_at,
            one.replaced_due_at,
            one.slot.schedule.zone,
            one.slot.schedule.hour,
            one.slot.schedule.frequency,
            one.window_start,
            orjson.dumps(one.paper_ids).decode(),
            f"[{','.join(one.items)}]",
            one.reason,
            one.skeleton,
            one.parts,
            orjson.dumps(one.personal or {}).decode(),
        )
        for one in digests
    )
    stored = {
        (subscriber_id, slot): digest_id
        for digest_id, subscriber_id, slot in connection.execute(
            _insert_digests(dialect), {"rows": rows, "now": now}
        ).all()
    }
    deliveries = packed(
        (
            digest_id,
            one.subscriber.id,
            one.subscriber.address,
            one.provider,
            State.SKIPPED if one.reason else State.PLANNED,
            one.reason,
            one.slot.due_at,
            one.give_up_at,
        )
        for one in digests
        if (digest_id := stored.get((one.subscriber.id, one.slot.date)))
    )
    connection.execute(_insert_deliveries(dialect), {"rows": deliveries, "now": now})
    return set(stored)


@cache
def _insert_digests(dialect: str) -> Executable:
    table = schema.digest
    names = (
        *("subscriber_id", "slot", "due_at", "replaced_due_at", "zone", "hour", "frequency"),
        *("window_start", "paper_ids", "items", "reason", "skeleton", "parts", "personal"),
    )
    rows = given(dialect, bindparam("rows"), **{name: table.c[name].type for name in names})
    statement: Executable = (
        insert_into(dialect, table)
        .from_select(
            [*names, "planned_at"],
            # Without a WHERE SQLite would take the ON of the conflict for a join's.
            select(rows, _NOW).where(true()),
        )
        .on_conflict_do_nothing()
        .returning(table.c.id, table.c.subscriber_id, table.c.slot)
    )
    return statement


@cache
def _insert_deliveries(dialect: str) -> Executable:
    table = schema.delivery
    names = (
        *("digest_id", "subscriber_id", "address", "provider", "state", "reason", "due_at"),
        "give_up_at",
    )
    rows = given(dialect, bindparam("rows"), **{name: table.c[name].type for name in names})
    more = {
        "next_attempt_at": rows.c.due_at,
        "ended_at": case((rows.c.reason != "", _NOW)),
        **{name: literal(0) for name in ("attempts", "losses", "crashes", "claim")},
        "priority": literal(1),
        "text": literal(""),
    }
    return insert(table).from_select([*names, *more], select(rows, *more.values()))


def names_of(parts: Iterable[tuple[str, bool]]) -> str:
    """The parts that a digest is made of, by their hashes; each with whether it is a full card."""
    named = list(parts)
    cards = (part for part, card in named if card)
    return f"{' '.join(cards)}|{' '.join(part for part, card in named if not card)}"


def item_row(item: Item) -> str:
    """A chosen paper as the stored digest names it; JSON."""
    return orjson.dumps(
        {
            "paper_id": item.paper_id,
            "score": round(item.score, 6),
            "card": item.card,
            "reasons": [[reason.kind, *reason.args] for reason in item.reasons],
        }
    ).decode()


def items_of(rows: Sequence[Mapping[str, Any]]) -> tuple[Item, ...]:
    """The items of a stored digest."""
    return tuple(
        Item(
            paper_id=row["paper_id"],
            score=row["score"],
            card=row["card"],
            reasons=tuple(Reason(kind=kind, args=tuple(args)) for kind, *args in row["reasons"]),
        )
        for row in rows
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of somebody's digest of one date."""

    date: date
    due_at: datetime
    state: State
    reason: str


def slots_of(connection: Connection, subscriber_id: int, *, limit: int = 100) -> list[Outcome]:
    """What became of somebody's last slots, newest first; also of an hour that a welcome replaced.

    That one is no slot of its own, for its date had one: it is told here, and counted nowhere.
    """
    digests, deliveries = schema.digest, schema.delivery
    rows = connection.execute(
        select(digests.c.slot, digests.c.due_at, digests.c.replaced_due_at)
        .add_columns(deliveries.c.state, deliveries.c.reason)
        .join(deliveries, deliveries.c.digest_id == digests.c.id)
        .where(digests.c.subscriber_id == subscriber_id)
        .order_by(digests.c.slot.desc())
        .limit(limit)
    )
    found = []
    for row in rows:
        if at := row.replaced_due_at:
            state, reason = State.SKIPPED, WELCOME
            found.append(Outcome(date=row.slot, due_at=at, state=state, reason=reason))
        state, reason = State(row.state), row.reason
        found.append(Outcome(date=row.slot, due_at=row.due_at, state=state, reason=reason))
    return found


def due_by_schedule(
    connection: Connection, *, start: datetime, end: datetime
) -> tuple[list[tuple[RowMapping, int]], list[int]]:
    """What the count of the slots due in (start, end] is made of, independently of the ledger.

    Returns the schedules that have been in force since some days before, each with the number of
    subscribers who have it, and the ids of those whose schedule changed later.
    """
    table = schema.schedule
    settled = start - timedelta(days=3)  # a change moves slots of the next date or two
    whole = and_(table.c.since <= settled, or_(table.c.until.is_(None), table.c.until > end))
    steady = [
        (row, row["people"])
        for row in connection.execute(
            select(
                table.c.zone,
                table.c.hour,
                table.c.frequency,
                table.c.weekday,
                func.count().label("people"),
            )
            .where(whole, table.c.active.is_(True))
            .group_by(table.c.zone, table.c.hour, table.c.frequency, table.c.weekday)
        ).mappings()
    ]
    changed = connection.execute(
        select(table.c.subscriber_id)
        .distinct()
        .where(
            or_(
                and_(table.c.since > settled, table.c.since <= end),
                and_(table.c.until > settled, table.c.until <= end),
            )
        )
    ).scalars()
    return steady, sorted(changed)
