"""The circuit breaker: when many different recipients are refused in one way, the fault is ours.

Then the route is stopped, nobody is charged, and no address is held to be bad on that route's word
(invariant 9). One message after another tries the way again, with longer and longer waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, case, exists, func, or_, select, update

from digest import schema
from digest.models import State
from digest.storage.routes import Breaker, Route, find

BREAKER = "breaker"  # the reason of those whom a refusal on a stopped route does not charge
PROBE_LASTS = timedelta(minutes=15)  # longer than a server may take for its answers
_REACH = 20_000  # attempts, of all relays, among which those of one are looked for


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
class Seen:
    """An attempt at a recipient."""

    attempt_id: int
    delivery_id: int
    recipient: int
    provider: str
    state: State
    kind: str  # of a refusal; "" else
    text: str


def recent(connection: Connection, route: Route, *, size: int) -> list[Seen]:
    """The last attempts on a route, newest first: enough for a window of that size."""
    attempts, ways, rows = schema.attempt, schema.route, schema.delivery
    start = select(ways.c.window_from).where(ways.c.id == route.id).scalar_subquery()
    if route.provider:
        mine = and_(attempts.c.route_id == ways.c.id, ways.c.id == route.id)
        since = attempts.c.id >= start
    else:  # by their order, and not route by route, of which there may be thousands
        mine = and_(attempts.c.route_id + 0 == ways.c.id, ways.c.relay == route.relay)
        # The way to what is older, through other relays' attempts, is long.
        oldest = select(func.max(attempts.c.id) - _REACH).scalar_subquery()
        since = and_(attempts.c.id >= start, attempts.c.id > oldest)
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
            # The server's own trouble is not of the recipient.
            and_(
                attempts.c.outcome.in_((State.FAILED, State.DEFERRED)),
                rows.c.reason != "mail server",
            ).label("refused"),
        )
        .join(ways, mine)
        .join(rows, rows.c.id == attempts.c.delivery_id)
        .where(since)
        .order_by(attempts.c.id.desc())
        .limit(3 * size)
    )
    return [
        Seen(
            attempt_id=row.id,
            delivery_id=row.delivery_id,
            recipient=row.subscriber_id or -row.delivery_id,
            provider=row.provider,
            state=State(row.outcome),
            kind=kind_of(row.code, row.enhanced) if row.refused else "",
            text=row.text,
        )
        for row in found
    ]


def window(recent: Iterable[Seen], *, size: int) -> list[Seen]:
    """The last attempt at each of the last different recipients, newest first."""
    seen: dict[int, Seen] = {}
    for one in recent:
        seen.setdefault(one.recipient, one)
    return list(seen.values())[:size]


def is_too_much(
    refused: int, recipients: int, caution: Caution, *, least: int | None = None
) -> bool:
    """Whether so many refusals of one kind are no longer the recipients' fault."""
    return refused >= (least or caution.least) and refused > caution.share * recipients


def watch(
    connection: Connection,
    relay: str,
    refused: Mapping[str, Mapping[int, str]],
    caution: Caution,
    *,
    now: datetime,
) -> tuple[list[Route], set[int]]:
    """Stop what must be stopped, after the refusals just stored: the routes, and who waits again.

    `refused` holds them by provider, as {delivery: kind}. Those that tripped a breaker wait again,
    and no attempt of theirs is spent. The caller holds these routes (`routes.lock`).
    """
    stopped, waiting = [], set[int]()
    for provider, route in sorted(find(connection, relay, [*refused, ""]).items()):
        if route.state is not Breaker.CLOSED:
            continue
        last = recent(connection, route, size=caution.window)
        seen = window(last, size=caution.window)
        kinds = Counter(one.kind for one in seen if one.kind)
        for kind, number in kinds.most_common(1):
            alike = [one for one in seen if one.kind == kind]
            if not is_too_much(number, len(seen), caution) or (
                not provider and _is_of_one_provider(seen, alike, caution)
            ):
                continue
            words = f"{number} of the last {len(seen)} recipients were refused with {kind}"
            reason = f"{words}: {alike[0].text}"[:500]
            _open(connection, route, kind=kind, reason=reason, now=now, wait=caution.waits[0])
            # More may have been refused at one go than a window holds, and more than one each.
            tripped = {one.delivery_id for one in last if one.kind == kind}
            for name, rows in refused.items():
                if provider in ("", name):
                    tripped.update(one for one, what in rows.items() if what == kind)
            waiting |= _return(connection, tripped, now=now)
            _withdraw(connection, route, kind=kind)
            stopped.append(find(connection, relay, [provider])[provider])
    return stopped, waiting


def _is_of_one_provider(seen: Sequence[Seen], refused: Sequence[Seen], caution: Caution) -> bool:
    """Whether a relay may go on, since all but one of the providers take what it brings them."""
    [(worst, _)] = Counter(one.provider for one in refused).most_common(1)
    return not is_too_much(
        sum(one.provider != worst for one in refused),
        sum(one.provider != worst for one in seen),
        caution,
        least=max(1, caution.least // 2),
    )


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


def _return(connection: Connection, delivery_ids: Collection[int], *, now: datetime) -> set[int]:
    table = schema.delivery
    # Who is claimed again at this moment is not waited for: they might wait for this route. And
    # nobody gets the papers of a failed digest a second time, if another one has them by now.
    free = (
        select(table.c.id)
        .where(
            table.c.id.in_(sorted(delivery_ids)),
            table.c.state.in_((State.FAILED, State.DEFERRED)),
            table.c.give_up_at > now,
            or_(table.c.state == State.DEFERRED, ~is_rivalled()),
        )
        .with_for_update(of=table, skip_locked=True)
    )
    found = set(connection.execute(free).scalars())
    charged = and_(table.c.attempts > 0, table.c.reason != BREAKER)
    connection.execute(
        update(table)
        .where(table.c.id.in_(sorted(found)))
        .values(
            state=State.DEFERRED,
            reason=BREAKER,
            attempts=case((charged, table.c.attempts - 1), else_=table.c.attempts),
            next_attempt_at=now,
            ended_at=None,
        )
    )
    return found


def is_rivalled() -> ColumnElement[bool]:
    """Whether another digest of the same subscriber was, or may be, on its way since this one's
    planning: it was not kept apart from this one, and may hold the same papers (invariant 5)."""
    table, digests = schema.delivery, schema.digest.alias()
    others, sendings = schema.digest.alias(), schema.delivery.alias()
    return exists().where(
        digests.c.id == table.c.digest_id,
        others.c.subscriber_id == digests.c.subscriber_id,
        others.c.id != digests.c.id,
        sendings.c.digest_id == others.c.id,
        sendings.c.state.not_in((State.FAILED, State.SKIPPED)),
        or_(sendings.c.ended_at.is_(None), sendings.c.ended_at >= digests.c.planned_at),
    )


def _withdraw(connection: Connection, route: Route, *, kind: str) -> None:
    """What was said so on this way, and is not judged, is no word against any address."""
    bounces, ways = schema.bounce, schema.route
    concerned = ways.c.id == route.id if route.provider else ways.c.relay == route.relay
    connection.execute(
        update(bounces)
        .where(
            bounces.c.route_id.in_(select(ways.c.id).where(concerned)),
            bounces.c.verdict == "",
            bounces.c.kind == kind,
        )
        .values(verdict="withdrawn")
    )


def start_probe(connection: Connection, route: Route, *, now: datetime) -> bool:
    """Take the right to try a stopped route with one message; False when another has it.

    Who takes it and dies loses it after PROBE_LASTS.
    """
    table = schema.route
    return bool(
        connection.execute(
            update(table)
            .where(
                table.c.id == route.id,
                table.c.state != Breaker.CLOSED,
                table.c.probe_at <= now,
            )
            .values(state=Breaker.PROBING, probe_at=now + PROBE_LASTS)
        ).rowcount
    )


def end_probe(
    connection: Connection, route_id: int, *, good: bool, caution: Caution, now: datetime
) -> None:
    """Open the way again, or wait longer."""
    table = schema.route
    route = connection.execute(select(table).where(table.c.id == route_id)).one()
    if route.state != Breaker.PROBING:
        return
    if not good:
        probes = route.probes + 1
        wait = caution.waits[min(probes, len(caution.waits) - 1)]
        values = {"state": Breaker.OPEN, "probes": probes, "probe_at": now + wait}
        connection.execute(update(table).where(table.c.id == route_id).values(values))
        return
    # What a relay refused while it was in trouble is held against none of its providers.
    latest = select(func.coalesce(func.max(schema.attempt.c.id), 0) + 1).scalar_subquery()
    concerned = and_(table.c.relay == route.relay, table.c.state == Breaker.CLOSED)
    if not route.provider:
        connection.execute(update(table).where(concerned).values(window_from=latest))
    values = {"state": Breaker.CLOSED, "window_from": latest, "probe_at": None, "probes": 0}
    connection.execute(update(table).where(table.c.id == route_id).values(values))


def drop_probe(connection: Connection, route_id: int, *, now: datetime) -> None:
    """The message that was to try the way did not leave: another may do it at once."""
    table = schema.route
    connection.execute(
        update(table)
        .where(table.c.id == route_id, table.c.state == Breaker.PROBING)
        .values(state=Breaker.OPEN, probe_at=now)
    )
