"""Routes: what is known of, and limited on, the way over a relay to a receiving provider.

All workers share these rows. An allowance is drawn from a route's row before content leaves and
expires unspent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from math import floor
from typing import Any

from sqlalchemy import Connection, Row, case, func, or_, select, update

from digest import schema
from digest.models import Limits
from digest.storage.database import clock, insert_ignoring

# An allowance may be spent for so long after it was drawn. With a fifth of the rate kept back no
# window of two seconds ever holds more than the limit allows, however the spending is spread: it
# meets the allowances of 2 s + LASTS and one more, USED * rate * 2.2 s + USED * rate * 0.2 s.
LASTS = timedelta(seconds=0.2)
USED = 0.8
_RECOVERY = timedelta(minutes=1)  # after which a rate that was lowered rises by a quarter
_LOWEST = 0.1  # messages a second
_FIRST = 20.0  # the least that a route had, as far as the few that went can tell
_UNBOUND = 500.0  # a rate that rose to this without a limit is none any more


class Breaker(StrEnum):
    """A route's circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What the table says of a route."""

    id: int
    relay: str
    provider: str  # "" for the relay as a whole
    state: Breaker
    kind: str
    reason: str
    probe_at: datetime | None
    probes: int  # in vain, one after another
    rate: float | None
    day: date | None
    drawn_today: int  # on that day; of `special`, on the database's today


def find(connection: Connection, relay: str, providers: Iterable[str]) -> dict[str, Route]:
    """The routes over a relay to these providers, made where they are not there."""
    table, wanted = schema.route, sorted(set(providers))
    found = _find(connection, relay, wanted)
    missing = [name for name in wanted if name not in found]
    if missing:
        connection.execute(
            insert_ignoring(connection, table),
            [
                {
                    "relay": relay,
                    "provider": name,
                    "drawn_today": 0,
                    "state": Breaker.CLOSED,
                    "reason": "",
                    "kind": "",
                    "probes": 0,
                    "window_from": 0,
                }
                for name in missing
            ],
        )
        found = _find(connection, relay, wanted)
    return found


def _find(connection: Connection, relay: str, providers: Sequence[str]) -> dict[str, Route]:
    table = schema.route
    rows = connection.execute(
        select(table).where(table.c.relay == relay, table.c.provider.in_(providers))
    )
    return {row.provider: _route(row) for row in rows}


def special(connection: Connection, relay: str) -> dict[str, Route]:
    """The routes of a relay that are stopped or limited, by provider."""
    table, today = schema.route, clock(connection).date()
    rows = connection.execute(
        select(table).where(
            table.c.relay == relay,
            or_(
                table.c.state != Breaker.CLOSED, table.c.rate.is_not(None), table.c.day.is_not(None)
            ),
        )
    )
    found = [_route(row) for row in rows]
    return {one.provider: one if one.day == today else replace(one, drawn_today=0) for one in found}


def _route(row: Row[Any]) -> Route:
    return Route(
        id=row.id,
        relay=row.relay,
        provider=row.provider,
        state=Breaker(row.state),
        kind=row.kind,
        reason=row.reason,
        probe_at=row.probe_at,
        probes=row.probes,
        rate=row.rate,
        day=row.day,
        drawn_today=row.drawn_today,
    )


def lock(connection: Connection, route_ids: Collection[int]) -> None:
    """Hold these rows until the transaction ends; in one order, so that nobody waits in a ring."""
    table = schema.route
    connection.execute(
        select(table.c.id)
        .where(table.c.id.in_(sorted(route_ids)))
        .order_by(table.c.id)
        .with_for_update()
    )


# ------------------------------------------------------------------ allowances


def draw(connection: Connection, route_id: int, limits: Limits, *, wanted: int) -> int | None:
    """How many messages may go on a route within LASTS from now, at most `wanted`.

    None when no more may go today. The database's clock decides, and the row is locked, so the
    sum over all workers is right.
    """
    table = schema.route
    row = connection.execute(
        select(
            table.c.rate, table.c.rate_changed_at, table.c.next_at, table.c.day, table.c.drawn_today
        )
        .where(table.c.id == route_id)
        .with_for_update()
    ).one()
    now = clock(connection)
    rate, changed_at = _recovered(row.rate, row.rate_changed_at, limits, now=now)
    lowest = min((one for one in (rate, limits.rate) if one is not None), default=None)
    count, next_at = wanted, row.next_at
    if limits.daily is not None:
        drawn = row.drawn_today if row.day == now.date() else 0
        if drawn >= limits.daily:
            return None
        count = min(count, limits.daily - drawn)
    if lowest is not None:
        used = lowest * USED
        count = min(count, max(1, floor(used * LASTS.total_seconds())))
        if next_at is not None and next_at > now:
            count = 0
        else:
            next_at = now + timedelta(seconds=count / used)
    if count > 0:
        connection.execute(
            update(table)
            .where(table.c.id == route_id)
            .values(
                rate=rate,
                rate_changed_at=changed_at,
                next_at=next_at,
                day=now.date(),
                drawn_today=case((table.c.day == now.date(), table.c.drawn_today), else_=0) + count,
            )
        )
    return count


def _recovered(
    rate: float | None, changed_at: datetime | None, limits: Limits, *, now: datetime
) -> tuple[float | None, datetime | None]:
    if rate is None or changed_at is None or now - changed_at < _RECOVERY:
        return rate, changed_at
    higher = rate * 1.25
    return (None if higher >= (limits.rate or _UNBOUND) else higher), now


def refund(connection: Connection, route_id: int, count: int) -> None:
    """Give back what was drawn and expired unspent: a day's limit counts what went."""
    table = schema.route
    connection.execute(
        update(table)
        .where(table.c.id == route_id, table.c.day == clock(connection).date())
        .values(drawn_today=table.c.drawn_today - count)
    )


def slow(connection: Connection, route_id: int, limits: Limits) -> None:
    """Halve the rate of a route that deferred, once for all that were under way.

    Without a rate so far, what went in the last seconds is halved.
    """
    table, attempts = schema.route, schema.attempt
    now = clock(connection)
    row = connection.execute(
        select(table.c.rate, table.c.rate_changed_at)
        .where(table.c.id == route_id)
        .with_for_update()
    ).one()
    if row.rate_changed_at is not None and now - row.rate_changed_at < timedelta(seconds=10):
        return
    rate = row.rate or limits.rate
    if rate is None:
        # Recent ones have the highest ids; their times are the business clock's.
        recent = (
            select(attempts.c.started_at)
            .where(attempts.c.route_id == route_id)
            .order_by(attempts.c.id.desc())
            .limit(200)
            .subquery()
        )
        count, first, last = connection.execute(
            select(func.count(), func.min(recent.c.started_at), func.max(recent.c.started_at))
        ).one()
        seconds = (last - first).total_seconds() if count else 0.0
        rate = max(count / max(seconds, 1.0), _FIRST)
    connection.execute(
        update(table)
        .where(table.c.id == route_id)
        .values(rate=max(rate / 2, _LOWEST), rate_changed_at=now)
    )
