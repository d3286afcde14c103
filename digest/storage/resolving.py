"""Single deliveries for the operator: what became of one, and moving those that ended in doubt.

`unknown` mail may have arrived, so that nothing sends it again by itself (invariant 4); who knows
more than the ledger does may. Whether somebody may still be written to is not asked here: the last
check before content leaves does so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    RowMapping,
    Select,
    bindparam,
    func,
    or_,
    select,
    text,
    update,
)

from digest import schema
from digest.models import State
from digest.storage.breaker import is_rivalled
from digest.storage.database import given, packed
from digest.storage.ledger import IS_OPEN, RESEND

SETTLED = "settled"  # the reason of what an operator said the end of
_IS_BAD = text("delivery.state IN ('failed', 'unknown')")  # in the words of the partial index


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A row of the ledger, and what it delivers."""

    id: int
    kind: str  # digest, else the account mail's: confirm, alert, ...
    subscriber_id: int | None
    slot: date | None  # the digest's
    address: str  # "" once erased or forgotten
    provider: str
    state: State
    reason: str
    due_at: datetime
    next_attempt_at: datetime
    ended_at: datetime | None
    attempts: int  # spent
    code: int | None
    enhanced: str | None
    text: str  # the server's words


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt that ended: when, how long, which way, and what the server said."""

    started_at: datetime
    seconds: float | None  # None: nobody was there at its end
    relay: str
    provider: str
    outcome: State
    code: int | None
    enhanced: str | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Which deliveries were moved, and of the others why not."""

    moved: Sequence[int]
    left: dict[int, str] = field(default_factory=dict)


def find(connection: Connection, delivery_id: int) -> Delivery | None:
    """The delivery with that id."""
    row = connection.execute(_deliveries().where(schema.delivery.c.id == delivery_id)).mappings()
    return next(map(_delivery, row), None)


def troubled(
    connection: Connection, states: Collection[State], *, due_after: datetime, limit: int
) -> list[Delivery]:
    """The deliveries due since then that failed, are unknown or deferred; the newest first."""
    table = schema.delivery
    rows = connection.execute(
        _deliveries()
        .where(
            or_(_IS_BAD, IS_OPEN),
            table.c.state.in_([*states]),
            table.c.due_at > due_after,
        )
        .order_by(table.c.due_at.desc(), table.c.id.desc())
        .limit(limit)
    )
    return [_delivery(row) for row in rows.mappings()]


def _deliveries() -> Select[Any]:
    table, digests, mails = schema.delivery, schema.digest, schema.account_mail
    names = [name for name in Delivery.__dataclass_fields__ if name in table.c]
    return (
        select(
            *(table.c[name] for name in names),
            func.coalesce(mails.c.kind, "digest").label("kind"),
            digests.c.slot,
        )
        .outerjoin(digests, digests.c.id == table.c.digest_id)
        .outerjoin(mails, mails.c.id == table.c.account_mail_id)
    )


def _delivery(row: RowMapping) -> Delivery:
    return Delivery(**{**row, "state": State(row["state"])})


def attempts_of(connection: Connection, delivery_id: int) -> list[Attempt]:
    """The attempts of a delivery that ended, in order."""
    table, ways = schema.attempt, schema.route
    names = [name for name in Attempt.__dataclass_fields__ if name in table.c]
    rows = connection.execute(
        select(
            *(table.c[name] for name in names),
            func.coalesce(ways.c.relay, "").label("relay"),
            func.coalesce(ways.c.provider, "").label("provider"),
        )
        .outerjoin(ways, ways.c.id == table.c.route_id)
        .where(table.c.delivery_id == delivery_id)
        .order_by(table.c.claim)
    )
    return [Attempt(**{**row, "outcome": State(row["outcome"])}) for row in rows.mappings()]


def unknown(connection: Connection) -> list[int]:
    """The ids of all deliveries of which nobody knows whether they arrived."""
    table = schema.delivery
    return list(
        connection.execute(
            select(table.c.id).where(_IS_BAD, table.c.state == State.UNKNOWN).order_by(table.c.id)
        ).scalars()
    )


def resend(
    connection: Connection,
    delivery_ids: Collection[int],
    *,
    answered_by: datetime,
    give_up_at: datetime,
    now: datetime,
) -> Moved:
    """Let unknown and failed deliveries be tried again from now on, with the same Message-ID.

    Of what became unknown after `answered_by` the answer may still come. The papers of a failed
    digest may be in another one by now, and nobody gets a paper twice (invariant 5); call this
    while nothing is planned (storage.batches.planner).
    """
    left: dict[int, str] = {}
    found: list[int] = []
    reopened: set[int] = set()  # whose failed digest is to be sent after all, the latest of each
    for row in reversed(_locked(connection, delivery_ids)):
        why = _unfit(row, answered_by)
        if not why and row["state"] == State.FAILED and row["digest_id"] is not None:
            if row["rivalled"] or row["subscriber_id"] in reopened:
                why = "another digest since then may hold the same papers"
            else:
                reopened.add(row["subscriber_id"])
        if why:
            left[row["id"]] = why
        else:
            found.append(row["id"])
    _move(
        connection,
        found,
        state=State.DEFERRED,
        reason=RESEND,
        next_attempt_at=now,
        give_up_at=give_up_at,
        ended_at=None,
    )
    return _moved(delivery_ids, found, left)


def _unfit(row: RowMapping, answered_by: datetime) -> str:
    """Why a delivery, whatever else there is, cannot be sent again."""
    if row["state"] not in (State.UNKNOWN, State.FAILED):
        return f"it is {row['state']}, neither unknown nor failed"
    if not row["skeleton"] or not row["address"]:
        return "what it held was forgotten or erased"
    if row["state"] == State.UNKNOWN and row["ended_at"] > answered_by:
        return "its answer may still come; try again in some minutes"
    return ""


def settle(
    connection: Connection, delivery_ids: Collection[int], *, state: State, now: datetime
) -> Moved:
    """Say of unknown deliveries how they ended, as somebody found out."""
    rows = _locked(connection, delivery_ids)
    left = {
        row["id"]: f"it is {row['state']}, not unknown"
        for row in rows
        if row["state"] != State.UNKNOWN
    }
    found = [row["id"] for row in rows if row["id"] not in left]
    _move(connection, found, state=state, reason=SETTLED, ended_at=now)
    return _moved(delivery_ids, found, left)


def _locked(connection: Connection, delivery_ids: Collection[int]) -> list[RowMapping]:
    """The deliveries that nobody else is moving, locked, with what decides about them."""
    table, digests, mails = schema.delivery, schema.digest, schema.account_mail
    people = schema.subscriber
    wanted = given(connection.dialect.name, bindparam("rows"), id=BigInteger())
    rows = {"rows": packed([one] for one in delivery_ids)}
    # As planning does, so that no digest of theirs is made meanwhile.
    connection.execute(
        select(people.c.id)
        .where(
            people.c.id.in_(select(table.c.subscriber_id).join(wanted, wanted.c.id == table.c.id))
        )
        .order_by(people.c.id)
        .with_for_update(key_share=True),
        rows,
    ).all()
    return list(
        connection.execute(
            select(
                table.c.id,
                table.c.state,
                table.c.address,
                table.c.ended_at,
                table.c.digest_id,
                table.c.subscriber_id,
                func.coalesce(digests.c.skeleton, mails.c.skeleton).label("skeleton"),
                is_rivalled().label("rivalled"),
            )
            .join(wanted, wanted.c.id == table.c.id)
            .outerjoin(digests, digests.c.id == table.c.digest_id)
            .outerjoin(mails, mails.c.id == table.c.account_mail_id)
            .order_by(table.c.id)
            .with_for_update(of=table, skip_locked=True),
            rows,
        ).mappings()
    )


def _move(connection: Connection, delivery_ids: Sequence[int], **values: Any) -> None:
    table = schema.delivery
    wanted = given(connection.dialect.name, bindparam("rows"), id=BigInteger())
    connection.execute(
        update(table).where(table.c.id == wanted.c.id).values(values),
        {"rows": packed([one] for one in delivery_ids)},
    )


def _moved(wanted: Collection[int], moved: Sequence[int], left: Mapping[int, str]) -> Moved:
    missing = {*wanted} - {*moved} - left.keys()
    reasons = {**left, **dict.fromkeys(missing, "it is not there, or just being moved")}
    return Moved(moved=sorted(moved), left=dict(sorted(reasons.items())))
