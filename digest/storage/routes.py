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

from sqlalchemy import Connection, Row, or_, select, update

from digest import schema
from digest.models import Limits
from digest.storage.database import clock, insert_ignoring

# An allowance may be spent for so long from its time on. With a fifth of the rate kept back no
# window of two seconds ever holds more than the limit allows, however the spending is spread: it
# meets the allowances of 2 s + LASTS and one more, USED * rate * 2.2 s + USED * rate * 0.2 s.
LASTS = timedelta(seconds=0.2)
USED = 0.8
_WINDOW = 2.0  # seconds
_OF_A_DAY = timedelta(seconds=1)  # for so long an allowance lasts where only the day is limited
LATEST = timedelta(seconds=0.8)  # the furthest that an allowance's time may be ahead
_RECOVERY = timedelta(minutes=1)  # after which a rate that was lowered rises by a quarter
_LOWEST = 0.1  # messages a second
_FIRST = 20.0  # the least that a route had, as far as the few that went can tell
_LATELY = timedelta(seconds=5)  # by which the rate of an unlimited route is told
_MOST_RECENT = 20_000  # attempts that are looked at for it
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
            or_(table.c.state != Breaker.CLOSED, table.c.rate.is_not(None), table.c.day >= today),
        )
    )
    found = [_route(row) for row in rows]
    return {
        one.provider: one if one.day and one.day >= today else replace(one, drawn_today=0)
        for one in found
    }


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """So many messages, each to leave at a time from `since` on, until `until`."""

    count: int  # 0: none yet; ask again when `since` comes
    since: datetime
    until: datetime
    drawn_at: datetime  # by the same clock


def draw(
    connection: Connection,
    route_id: int,
    limits: Limits,
    *,
    wanted: int,
    ahead: timedelta = timedelta(0),
) -> Allowance | None:
    """An allowance for at most `wanted` messages on a route, none of which leaves before `ahead`.

    None when no more may go today. The database's clock decides, and the row is locked, so the
    sum over all workers is right: each allowance has its own place on one line of time, and
    whoever is slow asks for a later one.
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
    count, since = wanted, now + min(ahead, LATEST)
    # A clock that is set back over midnight must not begin the day anew.
    day = row.day if row.day == now.date() + timedelta(days=1) else now.date()
    drawn = row.drawn_today if row.day == day else 0
    if limits.daily is not None:
        if drawn >= limits.daily:
            return None
        count = min(count, limits.daily - drawn)
    values: dict[str, Any] = {"rate": rate, "rate_changed_at": changed_at}
    lasts = _OF_A_DAY
    if lowest is not None:
        lasts, used = LASTS, _used(lowest)
        count = min(count, max(1, floor(used * LASTS.total_seconds())))
        # Further ahead than anybody can have reserved it is the word of a clock that was set back.
        furthest = now + LATEST + timedelta(seconds=max(1, used * LASTS.total_seconds()) / used)
        if row.next_at is not None and since < row.next_at <= furthest:
            again = row.next_at - (since - now)
            return Allowance(count=0, since=again, until=again, drawn_at=now)
        values["next_at"] = since + timedelta(seconds=count / used)
    if limits.daily is not None:
        values |= {"day": day, "drawn_today": drawn + count}
    connection.execute(update(table).where(table.c.id == route_id).values(values))
    return Allowance(count=count, since=since, until=since + lasts, drawn_at=now)


def _used(rate: float) -> float:
    """How much of a rate is used: so much that no two seconds hold more than twice the rate."""
    whole = floor(_WINDOW * rate)
    # Of few messages one more or less is much: the one after the last must be out of the window.
    few = whole / (_WINDOW + 1.25 * LASTS.total_seconds())
    return min(USED * rate, few) if whole else USED * rate


def _recovered(
    rate: float | None, changed_at: datetime | None, limits: Limits, *, now: datetime
) -> tuple[float | None, datetime | None]:
    if rate is None or changed_at is None:
        return rate, changed_at
    if changed_at > now:  # the clock was set back
        return rate, now
    if now - changed_at < _RECOVERY:
        return rate, changed_at
    higher = rate * 1.25
    return (None if higher >= (limits.rate or _UNBOUND) else higher), now


def refund(connection: Connection, route_id: int, count: int) -> None:
    """Give back what was drawn and expired unspent: a day's limit counts what went."""
    table = schema.route
    connection.execute(
        update(table)
        .where(table.c.id == route_id, table.c.day >= clock(connection).date())
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
    changed_at = row.rate_changed_at
    if changed_at is not None and timedelta(0) <= now - changed_at < timedelta(seconds=10):
        return
    rate = row.rate or limits.rate
    if rate is None:
        # Recent ones have the highest ids; their times are the business clock's.
        recent = (
            select(attempts.c.started_at)
            .where(attempts.c.route_id == route_id)
            .order_by(attempts.c.id.desc())
            .limit(_MOST_RECENT)
        )
        times = list(connection.execute(recent).scalars())
        last = max(times, default=now)
        lately = [one for one in times if one > last - _LATELY]
        seconds = (last - min(lately, default=last)).total_seconds()
        rate = max(len(lately) / max(seconds, 0.5), _FIRST)
    connection.execute(
        update(table)
        .where(table.c.id == route_id)
        .values(rate=max(rate / 2, _LOWEST), rate_changed_at=now)
    )
