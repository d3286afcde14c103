"""Allowances: how many messages may leave on ways that are limited, and when.

They are drawn from the ways' rows in the database, which all workers share, a moment ahead of the
time at which they are to be spent: so long as a message needs from its row to its content. A row
gets a connection when there is an allowance for it, so that who is throttled holds up nobody.
What is not spent in its time is lost, and given back to the day's.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from digest.pipeline.books import Drawn, uptime
from digest.storage.routes import LATEST

_AHEAD = LATEST.total_seconds()
_LOOK = 0.25  # seconds between two looks whether a way is free again
_REFUNDS = 5.0  # seconds between two refunds
_POLL = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """For one content, to leave between two times (`uptime`)."""

    draws: Sequence[int] = ()  # the routes of which it took an allowance
    since: float = -math.inf
    until: float = math.inf


FREE = Permit()


@dataclass(slots=True)
class _Piece:
    """What is left of an allowance."""

    count: int
    since: float
    until: float


class Allowances:
    """The allowances that a worker has at hand for the ways over one relay."""

    def __init__(
        self,
        draw: Callable[[Mapping[int, int], float], Awaitable[dict[int, Drawn]]],
        refund: Callable[[Mapping[int, int]], Awaitable[None]],
        arrived: Callable[[int, Collection[int]], None],
    ) -> None:
        """`arrived` is told how many came, and which routes have no more today."""
        self._draw, self._refund, self._arrived = draw, refund, arrived
        self._stock: dict[int, deque[_Piece]] = defaultdict(deque)
        self._waiting: Counter[int] = Counter()  # messages that need one, by route
        self._not_before: dict[int, float] = {}  # asking earlier is in vain
        self._asked = asyncio.Event()
        self._lost: Counter[int] = Counter()
        self._refunded = uptime()
        self._needs = self._takes = 0.02  # seconds: from the row to its content; to draw

    def join(self, draws: Collection[int]) -> None:
        """One more message waits for an allowance of these routes."""
        self._waiting.update(draws)

    def leave(self, draws: Collection[int]) -> None:
        """One message fewer waits."""
        for route in draws:
            self._waiting[route] -= 1
            if self._waiting[route] <= 0:
                del self._waiting[route]

    def take(self, draws: Sequence[int]) -> Permit | None:
        """A permit for one message; None where there is none at hand, and one will be drawn."""
        if not draws:
            return FREE
        now = uptime()
        for route in draws:
            while (pieces := self._stock[route]) and pieces[0].until <= now + self._needs:
                self._lose(route)
        while all(self._stock[route] for route in draws):
            first = {route: self._stock[route][0] for route in draws}
            since = max(one.since for one in first.values())
            until = min(one.until for one in first.values())
            if since < until:
                for route, one in first.items():
                    one.count -= 1
                    if not one.count:
                        self._stock[route].popleft()
                return Permit(draws=draws, since=since, until=until)
            # One is over before the other begins.
            self._lose(min(first, key=lambda route: first[route].until))
        if any(self._not_before.get(route, 0) <= now for route in draws):
            self._asked.set()
        return None

    async def take_late(self, draws: Sequence[int], *, seconds: float) -> Permit | None:
        """A permit as soon as there is one, in so many seconds."""
        until = uptime() + seconds
        self.join(draws)
        try:
            # It is rare, so nobody is told of news.
            while (found := self.take(draws)) is None and uptime() < until:  # noqa: ASYNC110
                await asyncio.sleep(_POLL)
        finally:
            self.leave(draws)
        return found

    def give_back(self, permit: Permit) -> None:
        """The content did not leave."""
        self._lost.update(permit.draws)

    def learn(self, seconds: float) -> None:
        """So long it took from the row to its content."""
        self._needs = _adjusted(self._needs, seconds)

    async def serve(self) -> None:
        """Draw what is asked for, until cancelled."""
        while True:
            now = uptime()
            soon = [at for route, at in self._not_before.items() if route in self._waiting]
            pause = max(0.0, min([_LOOK, *(at - now for at in soon)])) if soon else None
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), pause)
            self._asked.clear()
            await self._restock()

    async def _restock(self) -> None:
        started = uptime()
        wanted = {
            route: count
            for route, count in self._waiting.items()
            if self._not_before.get(route, 0) <= started
        }
        if not wanted:
            return
        drawn = await self._draw(wanted, min(self._needs + self._takes, _AHEAD))
        self._takes = _adjusted(self._takes, uptime() - started)
        over = wanted.keys() - drawn.keys()
        if over & self._lost.keys():  # the day's last ones expired here, and are still to be had
            await self.settle()
            again = {route: wanted[route] for route in over}
            drawn |= await self._draw(again, min(self._needs + self._takes, _AHEAD))
        for route, one in drawn.items():
            if one.count:
                self._stock[route].append(_Piece(one.count, one.since, one.until))
                self._not_before.pop(route, None)
            else:
                self._not_before[route] = one.since
        self._arrived(sum(one.count for one in drawn.values()), wanted.keys() - drawn.keys())
        if self._lost and started - self._refunded > _REFUNDS:
            await self.settle()

    async def settle(self, *, last: bool = False) -> None:
        """Give back to the days' limits what was lost; at the `last` all that is at hand."""
        for route in list(self._stock) if last else ():
            while self._stock[route]:
                self._lose(route)
        lost, self._lost = self._lost, Counter()
        self._refunded = uptime()
        if lost:
            await self._refund(lost)

    def _lose(self, route: int) -> None:
        self._lost[route] += self._stock[route].popleft().count


def _adjusted(known: float, seconds: float) -> float:
    """An estimate that follows what grew at once, and what shrank slowly."""
    seconds = min(seconds, _AHEAD)
    return max(seconds, 0.9 * known + 0.1 * seconds)
