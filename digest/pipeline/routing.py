"""Routing: the ways over the relays to receiving providers, as one worker knows them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import ceil

from sqlalchemy import Connection

from digest.models import Limits
from digest.pipeline.books import Relay, Standing
from digest.storage import routes
from digest.storage.routes import Breaker, Route

_ALL = 1_000_000  # no limit

# What an order has beside its claim and content: route, draws, whether throttled, whether alone.
Ways = tuple[int, tuple[int, ...], bool, bool]


class Routing:
    """The routes' ids, and what is stopped or limited since the last look at a relay.

    A provider "" stands for the relay as a whole.
    """

    def __init__(self, relays: Sequence[Relay]) -> None:
        self._relays = {relay.name: relay for relay in relays}
        self._ids: dict[str, dict[str, int]] = {}  # by relay and provider
        self._ways: dict[int, tuple[str, str]] = {}  # relay and provider by route
        self._special: dict[str, dict[str, Route]] = {}  # by relay and provider

    def enter(self, connection: Connection) -> None:
        """Learn the relays' own routes, and forget all others."""
        self._ids.clear()
        self._ways.clear()
        for relay in self._relays:
            self._learn(connection, relay, [""])

    def _learn(self, connection: Connection, relay: str, providers: Collection[str]) -> None:
        for route in routes.find(connection, relay, providers).values():
            self._ids.setdefault(relay, {})[route.provider] = route.id
            self._ways[route.id] = (relay, route.provider)

    def look(self, connection: Connection, relay: str) -> Mapping[str, Route]:
        """What is stopped or limited on this relay now, by provider."""
        found = self._special[relay] = routes.special(connection, relay)
        return found

    def way(self, route_id: int) -> tuple[str, str]:
        """The route's relay and provider."""
        return self._ways[route_id]

    def whole(self, route_id: int) -> int:
        """The route that stands for the whole relay of this one."""
        return self._ids[self._ways[route_id][0]][""]

    def stopped(self, connection: Connection, relays: Collection[str]) -> set[int]:
        """The routes over these relays that a breaker has stopped."""
        found = set[int]()
        for relay in relays:
            special = self.look(connection, relay)
            # Another thread may learn of more meanwhile.
            for provider, route_id in list(self._ids[relay].items()):
                ways = (special.get(""), special.get(provider))
                if any(way is not None and way.state is not Breaker.CLOSED for way in ways):
                    found.add(route_id)
        return found

    def limits_of(self, route_id: int) -> Limits:
        """The limits on a way."""
        return self._limits(*self._ways[route_id])

    def _limits(self, relay: str, provider: str) -> Limits:
        found = self._relays[relay]
        return found.limits_of(provider) if provider else found.limits

    def _pace(self, relay: str, provider: str) -> float | None:
        """How many messages a second may go on a way; None: as many as can."""
        route = self._special[relay].get(provider)
        rates = (self._limits(relay, provider).rate, route.rate if route is not None else None)
        return min((rate for rate in rates if rate is not None), default=None)

    def room(self, relay: str, provider: str, standing: Standing) -> int:
        """How many rows of a way this worker may hold: what it can send in a second or so."""
        limits, route = self._limits(relay, provider), self._special[relay].get(provider)
        pace = self._pace(relay, provider)
        found = _ALL if pace is None else ceil(pace)
        if provider and limits.connections is not None:
            found = min(found, 2 * standing.share(limits.connections))
        if limits.daily is not None:
            drawn = route.drawn_today if route is not None else 0
            found = min(found, max(0, limits.daily - drawn))
        return found

    def ways_of(
        self,
        connection: Connection,
        relay: str,
        providers: Collection[str],
        *,
        alone: Collection[str],
    ) -> dict[str, Ways]:
        """What an order has beside its claim and content, the same for all of a provider."""
        if unknown := set(providers) - self._ids[relay].keys():
            self._learn(connection, relay, unknown)
        return {name: self._way(relay, name, alone=name in alone) for name in providers}

    def _way(self, relay: str, provider: str, *, alone: bool) -> Ways:
        paced = {name: self._pace(relay, name) is not None for name in ("", provider)}
        limited = [
            name
            for name, is_paced in paced.items()
            if is_paced or self._limits(relay, name).daily is not None
        ]
        ids = self._ids[relay]
        return ids[provider], tuple(ids[name] for name in limited), paced[provider], alone
