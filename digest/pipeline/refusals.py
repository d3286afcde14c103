"""Refusals: what they, and messages that try a stopped way, say of ways and of addresses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from digest.models import State
from digest.pipeline.routing import Routing
from digest.storage import bounces, breaker, routes
from digest.storage.breaker import BREAKER, Caution, kind_of
from digest.storage.ledger import Result
from digest.storage.routes import Route

# RFC 3463 3.2: no such mailbox, no such system, bad syntax, moved; null MX (RFC 7505).
BAD_ADDRESS = {"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"}


def is_refusal(result: Result) -> bool:
    """The server said no to this recipient, for good or for now."""
    return result.code is not None and not result.lost and result.state is not State.SENT


def _of_the_mailbox(result: Result) -> bool:
    """RFC 3463 3.2, 3.3: what is wrong with one mailbox says nothing about its provider."""
    return (result.enhanced or "").split(".")[1:2] in (["1"], ["2"])


def absorbed(connection: Connection, routing: Routing, results: Sequence[Result]) -> list[Result]:
    """The results, but what a stopped way refuses is charged to nobody."""
    stopped = routing.stopped(connection, {routing.way(one.route_id)[0] for one in results})
    return [
        one._replace(
            state=State.DEFERRED,
            reason=BREAKER,
            spent=False,
            next_attempt_at=one.started_at,
        )
        if is_refusal(one) and one.route_id in stopped
        else one
        for one in results
    ]


def learn(
    connection: Connection,
    routing: Routing,
    results: Sequence[Result],
    probing: Mapping[int, int],
    caution: Caution,
    *,
    now: datetime,
) -> tuple[list[Route], set[int]]:
    """Draw the conclusions of results; `probing` holds the deliveries that try a stopped route.

    The routes that were stopped, and the deliveries that wait again for that.
    """
    stopped, waiting = list[Route](), set[int]()
    refused: dict[str, dict[str, dict[int, str]]] = defaultdict(lambda: defaultdict(dict))
    bad, slowed = {}, set()
    tried = {probing[one.delivery_id]: one for one in results if one.delivery_id in probing}
    for one in results:
        if not is_refusal(one) or one.reason == BREAKER:
            continue
        relay, provider = routing.way(one.route_id)
        refused[relay][provider][one.delivery_id] = kind_of(one.code, one.enhanced)
        if one.state is State.FAILED and one.at_rcpt and one.enhanced in BAD_ADDRESS:
            bad[one.delivery_id] = (one.route_id, kind_of(one.code, one.enhanced))
        if one.state is State.DEFERRED and not _of_the_mailbox(one):
            slowed.add(one.route_id)
    for route_id, one in tried.items():
        good = one.state is State.SENT
        breaker.end_probe(connection, route_id, good=good, caution=caution, now=now)
    for route_id in slowed:
        routes.slow(connection, route_id, routing.limits_of(route_id))
    for relay, by_provider in refused.items():
        opened, again = breaker.watch(connection, relay, by_provider, caution, now=now)
        stopped += opened
        waiting |= again
    bounces.note(connection, bad, now=now)
    return stopped, waiting
