"""Frozen digests: storing the choice before the first attempt, and what somebody already had."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Connection, RowMapping, and_, cast, func, insert, or_, select

from digest import schema
from digest.models import Choice, Item, Part, Reason, Slot, State, Subscriber
from digest.storage.database import insert_ignoring

# A paper counts as had while its delivery is, or may be, on its way (invariant 5).
_HAD = (State.SENT, State.UNKNOWN, State.PLANNED, State.CLAIMED, State.SENDING, State.DEFERRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What a subscriber's digests hold so far."""

    paper_ids: frozenset[int] = frozenset()
    last_planned_at: datetime | None = None  # of the last digest that was, or may be, sent


def add_parts(connection: Connection, parts: Iterable[Part], *, now: datetime) -> None:
    """Store parts that are not there yet."""
    rows = [{**asdict(part), "created_at": now} for part in parts]
    if rows:
        connection.execute(insert_ignoring(connection, schema.part), rows)


def freeze(
    connection: Connection,
    subscriber: Subscriber,
    slot: Slot,
    *,
    choice: Choice,
    parts: Sequence[str],
    skeleton: str | None,
    personal: Mapping[str, Any],
    provider: str,
    window_start: datetime | None,
    give_up_at: datetime,
    now: datetime,
) -> bool:
    """Store the digest of a slot and its delivery; False when the slot has its row already.

    `parts` are the cards' hashes, one for each item. A choice with a reason is `skipped`.
    """
    items = [
        {**_item_row(item), "part": part} for item, part in zip(choice.items, parts, strict=True)
    ]
    digests = schema.digest
    row = connection.execute(
        insert_ignoring(connection, digests)
        .values(
            subscriber_id=subscriber.id,
            slot=slot.date,
            due_at=slot.due_at,
            zone=slot.schedule.zone,
            hour=slot.schedule.hour,
            frequency=slot.schedule.frequency,
            planned_at=now,
            window_start=window_start,
            paper_ids=[item.paper_id for item in choice.items],
            items=items,
            reason=choice.reason,
            skeleton=skeleton,
            personal=dict(personal),
        )
        .returning(digests.c.id)
    ).first()
    if row is None:
        return False
    connection.execute(
        insert(schema.delivery).values(
            digest_id=row.id,
            subscriber_id=subscriber.id,
            priority=1,
            address=subscriber.address,
            provider=provider,
            state=State.SKIPPED if choice.reason else State.PLANNED,
            reason=choice.reason,
            due_at=slot.due_at,
            next_attempt_at=slot.due_at,
            give_up_at=give_up_at,
            attempts=0,
            claim=0,
            text="",
            ended_at=now if choice.reason else None,
        )
    )
    return True


def _item_row(item: Item) -> dict[str, Any]:
    return {
        "paper_id": item.paper_id,
        "score": round(item.score, 6),
        "card": item.card,
        "reasons": [[reason.kind, *reason.args] for reason in item.reasons],
    }


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


def pasts(
    connection: Connection, subscriber_ids: Sequence[int], *, since: datetime
) -> dict[int, Past]:
    """What each one's digests due since then hold."""
    digests, deliveries = schema.digest, schema.delivery
    had: dict[int, set[int]] = {subscriber_id: set() for subscriber_id in subscriber_ids}
    last: dict[int, datetime] = {}
    for subscriber_id, planned_at, paper_ids in connection.execute(
        select(digests.c.subscriber_id, digests.c.planned_at, digests.c.paper_ids)
        .join(deliveries, deliveries.c.digest_id == digests.c.id)
        .where(
            digests.c.subscriber_id.in_(subscriber_ids),
            digests.c.due_at >= since,
            deliveries.c.state.in_(_HAD),
        )
        .order_by(digests.c.due_at)
    ):
        last[subscriber_id] = planned_at
        had[subscriber_id].update(paper_ids)
    return {
        subscriber_id: Past(paper_ids=frozenset(papers), last_planned_at=last.get(subscriber_id))
        for subscriber_id, papers in had.items()
    }


def had_before(
    connection: Connection,
    subscriber_ids: Sequence[int],
    paper_ids: Collection[int],
    *,
    before: datetime,
) -> dict[int, set[int]]:
    """Which of these papers are in digests due before then, for each who had any."""
    digests, deliveries = schema.digest, schema.delivery
    sqlite = connection.dialect.name == "sqlite"
    unpack = func.json_each if sqlite else func.jsonb_array_elements_text
    listed = unpack(digests.c.paper_ids).table_valued("value", joins_implicitly=True)
    paper_id = cast(listed.c.value, BigInteger)
    had: dict[int, set[int]] = defaultdict(set)
    for subscriber_id, found in connection.execute(
        select(digests.c.subscriber_id, paper_id)
        .join(deliveries, deliveries.c.digest_id == digests.c.id)
        .where(
            digests.c.subscriber_id.in_(subscriber_ids),
            digests.c.due_at < before,
            deliveries.c.state.in_(_HAD),
            paper_id.in_(paper_ids),
        )
    ):
        had[subscriber_id].add(found)
    return had


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a delivery's bytes are made of."""

    personal: Mapping[str, Any]
    skeleton: Part
    cards: tuple[tuple[Part, bool], ...]  # with each, whether it is a full card


def content(connection: Connection, delivery_id: int) -> Content:
    """The frozen content of a delivery, whatever was stored since."""
    deliveries, digests, mails = schema.delivery, schema.digest, schema.account_mail
    row = (
        connection.execute(
            select(
                func.coalesce(digests.c.skeleton, mails.c.skeleton).label("skeleton"),
                digests.c.personal.label("digest_personal"),
                mails.c.personal.label("mail_personal"),
                digests.c["items"],
            )
            .select_from(deliveries)
            .outerjoin(digests, digests.c.id == deliveries.c.digest_id)
            .outerjoin(mails, mails.c.id == deliveries.c.account_mail_id)
            .where(deliveries.c.id == delivery_id)
        )
        .mappings()
        .one()
    )
    items = row["items"] or []
    parts = _parts(connection, {row["skeleton"], *(item["part"] for item in items)})
    return Content(
        personal=row["digest_personal"] or row["mail_personal"],
        skeleton=parts[row["skeleton"]],
        cards=tuple((parts[item["part"]], item["card"]) for item in items),
    )


def _parts(connection: Connection, hashes: Iterable[str]) -> dict[str, Part]:
    table = schema.part
    rows = connection.execute(
        select(table.c.hash, table.c.kind, table.c.html, table.c.text).where(
            table.c.hash.in_(sorted(hashes))
        )
    )
    return {row["hash"]: Part(**row) for row in rows.mappings()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of somebody's digest of one date."""

    date: date
    due_at: datetime
    state: State
    reason: str


def slots_of(connection: Connection, subscriber_id: int, *, limit: int = 100) -> list[Outcome]:
    """What became of somebody's last slots, newest first."""
    digests, deliveries = schema.digest, schema.delivery
    rows = connection.execute(
        select(digests.c.slot, digests.c.due_at, deliveries.c.state, deliveries.c.reason)
        .join(deliveries, deliveries.c.digest_id == digests.c.id)
        .where(digests.c.subscriber_id == subscriber_id)
        .order_by(digests.c.slot.desc())
        .limit(limit)
    )
    return [
        Outcome(date=row.slot, due_at=row.due_at, state=State(row.state), reason=row.reason)
        for row in rows
    ]


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
