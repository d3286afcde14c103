"""Ways: the relays as one worker knows them, and the rows that wait for their connections."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from digest.delivery import Connection
from digest.errors import DeliveryError
from digest.models import Message
from digest.pipeline.bookkeeping import Order, Relay, Standing
from digest.storage.contents import Content

log = logging.getLogger(__name__)

# A server that cannot be reached is asked again after so many seconds, doubled up to the last.
BACK_OFF = (5.0, 300.0)

# Unlike the monotonic clock this one goes on while the machine sleeps (Linux).
_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def uptime() -> float:
    """Seconds on a clock that nobody sets."""
    return time.clock_gettime(_BOOT)


@dataclass(slots=True)
class Job:
    """An order with what its message is made of."""

    order: Order
    content: Content
    message: Message | None = None
    broken: bool = False  # a part of it is not there

    @property
    def provider(self) -> str:
        return self.order.claim.provider


class Way:
    """A relay as this worker knows it, from one pass to the next."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.problem = ""
        self.passing = False  # a message got through since the last trouble
        self._not_before = 0.0
        self._failures = 0

    @property
    def usable(self) -> bool:
        """Whether it is not being left alone after trouble."""
        return uptime() >= self._not_before

    def works(self) -> None:
        """It took a message."""
        self._failures, self.problem, self.passing = 0, "", True

    def back_off(self, error: DeliveryError) -> None:
        """It cannot be used: leave it alone for a while, longer each time."""
        if not self.usable:
            return
        first, longest = BACK_OFF
        wait = min(first * 2**self._failures, longest)
        self._failures += 1
        self._not_before = uptime() + wait
        self.problem = str(error)
        log.error(
            "%s cannot be used, the next try is in %.0f s: %s",
            self.relay.name,
            wait,
            error,
            extra={"action": "back-off", "relay": self.relay.name},
        )


def problem_of(ways: Sequence[Way]) -> str:
    """Why none of the ways can be used; empty while one can."""
    if any(way.usable and not way.problem for way in ways):
        return ""
    return next((way.problem for way in ways if way.problem), "")


class Queue:
    """The rows that wait for a connection of one way, and the connections that wait for a row."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.urgent: deque[Job] = deque()  # account mail
        self.ready: deque[Job] = deque()
        self.held: Counter[str] = Counter()  # rows at hand or under way, by provider
        self.flying: Counter[str] = Counter()  # under way
        self.wanted = True  # now; else its connections are to end
        self.lines = 0  # connections that are, or are to be, open
        self.open: set[Connection] = set()
        self.opening = 0
        self.taken: list[float] = []  # seconds that the latest messages took
        self.fewer = 0  # connections that the server did not allow
        self.more = False  # a limit keeps further rows waiting
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def idle(self) -> int:
        return len(self._waiters)

    def is_full(self, carried: Mapping[str, int], job: Job) -> bool:
        """Whether a connection that `carried` so many has to be made anew for this one."""
        most = self.way.relay.limits_of(job.provider).messages
        return most is not None and carried[job.provider] >= most

    def add(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            (self.urgent if job.order.claim.priority == 0 else self.ready).append(job)
            self.held[job.provider] += 1
        self.ring(len(jobs))

    def take(self, standing: Standing, *, urgent: bool = False) -> Job | None:
        """The next row that may go now; `urgent` takes account mail alone."""
        if self.urgent:
            return self._fly(self.urgent.popleft())
        for place, job in enumerate(() if urgent else self.ready):
            most = self.way.relay.limits_of(job.provider).connections
            if most is None or self.flying[job.provider] < standing.share(most):
                del self.ready[place]
                return self._fly(job)
        return None

    def _fly(self, job: Job) -> Job:
        self.flying[job.provider] += 1
        return job

    def land(self, job: Job) -> None:
        """The row is no longer this worker's concern."""
        self.flying[job.provider] -= 1
        self.held[job.provider] -= 1

    def put_back(self, job: Job) -> None:
        """Another connection is to take the row that this one was about to carry."""
        self.flying[job.provider] -= 1
        (self.urgent if job.order.claim.priority == 0 else self.ready).appendleft(job)
        self.ring(1)

    def clear(self, providers: Collection[str] | None = None) -> list[Job]:
        """Take out what waits: all, or those of some receiving providers ("" for all).

        Of these, whatever is to try a way that was stopped stays.
        """

        def goes(job: Job) -> bool:
            return providers is None or (
                not job.order.alone and not {"", job.provider}.isdisjoint(providers)
            )

        waiting = [job for job in (*self.urgent, *self.ready) if goes(job)]
        self.urgent = deque(job for job in self.urgent if not goes(job))
        self.ready = deque(job for job in self.ready if not goes(job))
        for job in waiting:
            self.held[job.provider] -= 1
        return waiting

    async def wait(self) -> None:
        """Until there is news for one more connection."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            with suppress(ValueError):
                self._waiters.remove(waiter)

    def ring(self, count: int | None = None) -> None:
        """Wake so many of the connections that wait; all without a number."""
        for _ in range(len(self._waiters) if count is None else min(count, len(self._waiters))):
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
