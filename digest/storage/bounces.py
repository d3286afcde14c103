"""Bounces: refusals that say that an address is bad, and when they are to be believed.

A server in trouble calls every address bad. So nobody is suppressed on its word until the relay
has gone on delivering (invariant 9).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache, partial
from itertools import islice

from sqlalchemy import Connection, func, select, update

from digest import schema
from digest.models import State, Status
from digest.storage import breaker, subscribers
from digest.storage.breaker import Caution, Seen
from digest.storage.database import insert_into
from digest.storage.routes import Breaker, find

_AT_ONCE = 100  # addresses in one transaction
_FEW = 3  # recipients of one provider whose refusals say more of it than of them
_PATIENCE = timedelta(days=3)


def note(connection: Connection, refused: Mapping[int, tuple[int, str]], *, now: datetime) -> None:
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
    if not found:
        return
    statement = insert_into(connection.dialect.name, schema.bounce)
    late = statement.excluded
    connection.execute(
        # One that was withdrawn may come again.
        statement.on_conflict_do_update(
            index_elements=["delivery_id"],
            set_={name: late[name] for name in ("route_id", "attempt_id", "kind", "at", "verdict")},
        ),
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
    """Suppress addresses that were said to be bad while their route was healthy; how many.

    Healthy is a relay that took enough messages since to trip its breaker, had they been refused,
    and that does not refuse in this way what would trip it. A receiving provider that refuses most
    of what it gets in this way is waited for: until it takes more, trips its own breaker, or, for
    a few dead addresses may be all that it has, until _PATIENCE is over. An address that its
    subscriber has left meanwhile is of no concern. At most _AT_ONCE: call it until it finds none.
    """
    ways, rows, people = schema.route, schema.delivery, schema.subscriber
    bounces = schema.bounce
    waiting = bounces.join(ways, ways.c.id == bounces.c.route_id)
    relays = connection.execute(
        select(ways.c.relay).distinct().select_from(waiting).where(bounces.c.verdict == "")
    )
    judged = 0
    for relay in list(relays.scalars()):
        whole = find(connection, relay, [""])[""]
        recent = breaker.recent(connection, whole, size=caution.window)
        accepted = [one.attempt_id for one in recent if one.state is State.SENT]
        if whole.state is not Breaker.CLOSED or len(accepted) < caution.least:
            continue
        doubtful = _doubtful(recent, caution, least=caution.least)
        bad = connection.execute(
            select(
                *(bounces.c.delivery_id, bounces.c.subscriber_id, bounces.c.kind, bounces.c.at),
                ways.c.provider,
                (rows.c.address == people.c.address).label("current"),
            )
            .select_from(waiting)
            .join(rows, rows.c.id == bounces.c.delivery_id)
            .outerjoin(people, people.c.id == bounces.c.subscriber_id)
            .where(
                bounces.c.verdict == "",
                bounces.c.attempt_id < accepted[caution.least - 1],
                bounces.c.kind.not_in(doubtful),
                ways.c.relay == relay,
                ways.c.state == Breaker.CLOSED,
            )
            .order_by(bounces.c.attempt_id)
        )
        routes = cache(partial(_doubted, connection, relay, caution))
        believed = (
            row
            for row in bad.all()
            if row.at <= now - _PATIENCE or row.kind not in routes(row.provider)
        )
        for row in islice(believed, _AT_ONCE):
            if row.current:
                subscribers.unsubscribe(
                    connection,
                    row.subscriber_id,
                    now=now,
                    status=Status.BOUNCED,
                    detail=f"refused with {row.kind}",
                )
            connection.execute(
                update(bounces)
                .where(bounces.c.delivery_id == row.delivery_id)
                .values(verdict="suppressed" if row.current else "withdrawn")
            )
            judged += 1
    return judged


def _doubted(connection: Connection, relay: str, caution: Caution, provider: str) -> list[str]:
    """The refusals of a receiving provider that are no word against an address yet."""
    route = find(connection, relay, [provider])[provider]
    return _doubtful(breaker.recent(connection, route, size=caution.window), caution, least=_FEW)


def _doubtful(recent: Sequence[Seen], caution: Caution, *, least: int) -> list[str]:
    seen = breaker.window(recent, size=caution.window)
    kinds = Counter(one.kind for one in seen if one.kind)
    return [
        kind
        for kind, number in kinds.items()
        if breaker.is_too_much(number, len(seen), caution, least=least)
    ]
