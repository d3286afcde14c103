"""The circuit breaker: when many different recipients are refused in one way, the fault is ours.

Then the route is stopped, nobody is charged, and no address is held to be bad on that route's word
(invariant 9). One message after another tries the way again, with longer and longer waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, case, func, select, update

from digest import schema
from digest.models import State, Status
from digest.storage import subscribers
from digest.storage.database import insert_ignoring
from digest.storage.routes import Breaker, Route, find, special


@dataclass(frozen=True, slots=True, kw_only=True)
class Caution:
    """When a route is stopped, and when it is tried again."""

    window: int = 50  # the last different recipients that are looked at
    share: float = 0.3  # of them refused in one way
    least: int = 10  # but at least so many
    waits: tuple[timedelta, ...] = tuple(timedelta(minutes=step) for step in (1, 5, 15, 30, 60))


def kind_of(code: int | None, enhanced: str | None) -> str:
    """One kind of refusal: the enhanced code (RFC 3463), else the reply's."""
    return enhanced or str(code or "")


@dataclass(frozen=True, slots=True)
class _Seen:
    """The last attempt at one recipient."""

    attempt_id: int
    delivery_id: int
    provider: str
    state: State
    kind: str  # of a refusal; "" else
    text: str


def _window(connection: Connection, route: Route, *, size: int) -> list[_Seen]:
    """The last different recipients of a route, newest first."""
    attempts, ways, rows = schema.attempt, schema.route, schema.delivery
    mine = attempts.c.route_id == route.id if route.provider else ways.c.relay == route.relay
    start = select(ways.c.window_from).where(ways.c.id == route.id).scalar_subquery()
    found = connection.execute(
        select(
            attempts.c.id,
            attempts.c.delivery_id,
            attempts.c.outcome,
            attempts.c.code,
            attempts.c.enhanced,
            attempts.c.text,
            ways.c.provider,
            rows.c.subscriber_id,
        )
        .join(ways, ways.c.id == attempts.c.route_id)
        .join(rows, rows.c.id == attempts.c.delivery_id)
        .where(mine, attempts.c.id >= start)
        .order_by(attempts.c.id.desc())
        .limit(3 * size)
    )
    seen: dict[int, _Seen] = {}
    for row in found:
        refused = row.outcome in (State.FAILED, State.DEFERRED) and row.code is not None
        seen.setdefault(
            row.subscriber_id or -row.delivery_id,
            _Seen(
                attempt_id=row.id,
                delivery_id=row.delivery_id,
                provider=row.provider,
                state=State(row.outcome),
                kind=kind_of(row.code, row.enhanced) if refused else "",
                text=row.text,
            ),
        )
    return list(seen.values())[:size]


def watch(
    connection: Connection,
    relay: str,
    providers: Collection[str],
    caution: Caution,
    *,
    now: datetime,
) -> list[Route]:
    """Stop what must be stopped, after refusals by these providers; the routes that were.

    The rows that tripped a breaker wait again, and no attempt of theirs is spent.
    """
    stopped = []
    ways = find(connection, relay, [*providers, ""])
    for provider, route in ways.items():
        if route.state is not Breaker.CLOSED:
            continue
        seen = _window(connection, route, size=caution.window)
        kind, number = max(
            Counter(one.kind for one in seen if one.kind).items(),
            key=lambda item: item[1],
            default=("", 0),
        )
        if number < caution.least or number <= caution.share * len(seen):
            continue
        refused = [one for one in seen if one.kind == kind]
        # What one provider refuses is no reason to stop the others.
        if not provider and len({one.provider for one in refused}) < 2:
            continue
        reason = f"{number} of the last {len(seen)} recipients were refused with {kind}"
        words = f"{reason}: {refused[0].text}"[:500]
        _open(connection, route, kind=kind, reason=words, now=now, wait=caution.waits[0])
        _return(connection, [one.delivery_id for one in refused], now=now)
        stopped.append(find(connection, relay, [provider])[provider])
    return stopped


def _open(
    connection: Connection,
    route: Route,
    *,
    kind: str,
    reason: str,
    now: datetime,
    wait: timedelta,
) -> None:
    table = schema.route
    connection.execute(
        update(table)
        .where(table.c.id == route.id)
        .values(
            state=Breaker.OPEN,
            kind=kind,
            reason=reason,
            opened_at=now,
            probe_at=now + wait,
            probes=0,
        )
    )


def _return(connection: Connection, delivery_ids: Sequence[int], *, now: datetime) -> None:
    table, bounces = schema.delivery, schema.bounce
    connection.execute(
        update(table)
        .where(
            table.c.id.in_(delivery_ids),
            table.c.state.in_((State.FAILED, State.DEFERRED)),
            table.c.give_up_at > now,
        )
        .values(
            state=State.DEFERRED,
            reason="breaker",
            attempts=case((table.c.attempts > 0, table.c.attempts - 1), else_=0),
            next_attempt_at=now,
            ended_at=None,
        )
    )
    connection.execute(
        update(bounces)
        .where(bounces.c.delivery_id.in_(delivery_ids), bounces.c.verdict == "")
        .values(verdict="withdrawn")
    )


def start_probe(connection: Connection, route: Route, *, now: datetime) -> bool:
    """Take the right to try a stopped route with one message; False when another has it.

    Who takes it and dies loses it after the first wait.
    """
    table = schema.route
    return bool(
        connection.execute(
            update(table)
            .where(
                table.c.id == route.id,
                table.c.state.in_((Breaker.OPEN, Breaker.PROBING)),
                table.c.probe_at <= now,
            )
            .values(state=Breaker.PROBING, probe_at=now + timedelta(minutes=15))
        ).rowcount
    )


def end_probe(
    connection: Connection, route_id: int, *, good: bool, caution: Caution, now: datetime
) -> None:
    """Open the way again, or wait longer."""
    table = schema.route
    probing = and_(table.c.id == route_id, table.c.state == Breaker.PROBING)
    if good:
        latest = select(func.coalesce(func.max(schema.attempt.c.id), 0) + 1).scalar_subquery()
        values = {"state": Breaker.CLOSED, "window_from": latest, "probe_at": None, "probes": 0}
        connection.execute(update(table).where(probing).values(values))
        return
    probes = connection.execute(select(table.c.probes).where(table.c.id == route_id)).scalar_one()
    wait = caution.waits[min(probes + 1, len(caution.waits) - 1)]
    connection.execute(
        update(table)
        .where(probing)
        .values(state=Breaker.OPEN, probes=probes + 1, probe_at=now + wait)
    )


# ------------------------------------------------------------------ bad addresses


def note_bounces(
    connection: Connection, refused: Mapping[int, tuple[int, str]], *, now: datetime
) -> None:
    """Remember that addresses were said to be bad: {delivery: (route, kind)}; see `judge`."""
    rows, attempts = schema.delivery, schema.attempt
    if not refused:
        return
    found = connection.execute(
        select(rows.c.id, rows.c.subscriber_id, func.max(attempts.c.id).label("attempt_id"))
        .join(attempts, attempts.c.delivery_id == rows.c.id)
        .where(
            rows.c.id.in_(list(refused)),
            rows.c.subscriber_id.is_not(None),
            rows.c.state == State.FAILED,
        )
        .group_by(rows.c.id, rows.c.subscriber_id)
    ).all()
    if found:
        connection.execute(
            insert_ignoring(connection, schema.bounce),
            [
                {
                    "delivery_id": row.id,
                    "subscriber_id": row.subscriber_id,
                    "attempt_id": row.attempt_id,
                    "route_id": refused[row.id][0],
                    "kind": refused[row.id][1],
                    "at": now,
                    "verdict": "",
                }
                for row in found
            ],
        )


def judge(connection: Connection, caution: Caution, *, now: datetime) -> int:
    """Suppress the addresses that were said to be bad while their route was healthy; how many.

    Healthy is what went on delivering: of the last recipients fewer than the breaker's share were
    refused so, and at least as many as would trip it were tried after this one.
    """
    bounces, ways = schema.bounce, schema.route
    pending = connection.execute(
        select(bounces, ways.c.relay)
        .join(ways, ways.c.id == bounces.c.route_id)
        .where(bounces.c.verdict == "")
        .order_by(bounces.c.attempt_id)
        .limit(500)
    ).all()
    suppressed = 0
    for relay in {row.relay for row in pending}:
        whole = find(connection, relay, [""])[""]
        stopped = [
            one for one in special(connection, relay).values() if one.state is not Breaker.CLOSED
        ]
        if any(not one.provider for one in stopped):
            continue
        seen = _window(connection, whole, size=caution.window)
        kinds = Counter(one.kind for one in seen if one.kind)
        for row in pending:
            after = sum(1 for one in seen if one.attempt_id > row.attempt_id)
            if (
                row.relay != relay
                or row.route_id in {one.id for one in stopped}
                or after < caution.least
                or kinds[row.kind] > caution.share * len(seen)
            ):
                continue
            suppressed += subscribers.unsubscribe(
                connection,
                row.subscriber_id,
                now=now,
                status=Status.BOUNCED,
                detail=f"refused with {row.kind}",
            )
            connection.execute(
                update(bounces)
                .where(bounces.c.delivery_id == row.delivery_id)
                .values(verdict="suppressed")
            )
    return suppressed
