"""Ways: the relays as one worker knows them, and the rows that wait for their connections."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from digest.delivery import Connection
from digest.errors import DeliveryError
from digest.models import Message
from digest.pipeline.allowances import FREE, Allowances, Permit
from digest.pipeline.books import Order, Relay, Standing, uptime

log = logging.getLogger(__name__)

# A server that cannot be reached is asked again after so many seconds, doubled up to the last.
BACK_OFF = (5.0, 300.0)
_GRUDGE = 60.0  # seconds for which a connection that was not allowed counts


@dataclass(slots=True)
class Job:
    """An order on its way."""

    order: Order
    message: Message | None = None
    broken: bool = False  # a part of it is not there
    permit: Permit = FREE  # for its content
    taken_at: float = 0.0  # by a connection (uptime)
    delivery_id: int = field(init=False)
    provider: str = field(init=False)
    is_urgent: bool = field(init=False)  # account mail: somebody waits for it

    def __post_init__(self) -> None:
        claim = self.order.claim
        self.delivery_id, self.provider = claim.delivery_id, claim.provider
        self.is_urgent = claim.priority == 0


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

    @property
    def is_troubled(self) -> bool:
        """Whether it took nothing since its last trouble: one connection tries it."""
        return bool(self.problem)

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

    def __init__(self, way: Way, allowances: Allowances) -> None:
        self.way, self.allowances = way, allowances
        self.held: Counter[str] = Counter()  # rows at hand or under way, by provider
        self.wanted = True  # now; else its connections are to end
        self.closed = False  # it takes nothing now, but a message that tries it
        self.more = False  # a limit keeps further rows waiting
        self.low = 0  # so few free rows at hand are to become more
        self.dry_until = 0.0  # nothing was found to claim (uptime)
        self.lines = 0  # connections that are, or are to be, open
        self.open: set[Connection] = set()
        self.opening = 0
        self.taken: list[float] = []  # seconds that the latest messages took
        self._refused: deque[float] = deque()  # connections that the server did not allow (uptime)
        self._flying: Counter[str] = Counter()  # rows under way
        self._urgent: deque[Job] = deque()
        self._ready: dict[str, deque[Job]] = {}  # by provider, which take turns
        self._waiting = self._throttled = 0  # rows; those that need their provider's allowance
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def idle(self) -> int:
        """How many connections wait for a row."""
        return len(self._waiters)

    @property
    def urgent(self) -> int:
        """How many account mails wait."""
        return len(self._urgent)

    @property
    def waiting(self) -> int:
        """How many rows wait, all together."""
        return self._waiting

    @property
    def free(self) -> int:
        """How many of them need not wait for their provider's sake."""
        return self._waiting - self._throttled

    @property
    def fewer(self) -> int:
        """How many connections less than allowed the server took lately."""
        while self._refused and self._refused[0] < uptime() - _GRUDGE:
            self._refused.popleft()
        return len(self._refused)

    def do_with_fewer(self) -> None:
        """The server did not allow one more connection."""
        self._refused.append(uptime())

    def is_full(self, carried: Mapping[str, int], job: Job) -> bool:
        """Whether a connection that `carried` so many has to be made anew for this one."""
        most = self.way.relay.limits_of(job.provider).messages
        return most is not None and carried[job.provider] >= most

    def add(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self.held[job.provider] += 1
            self._wait(job)
        self.ring(len(jobs))

    def take(self, standing: Standing, *, urgent: bool = False) -> Job | None:
        """The next row that may go now; `urgent` takes account mail alone."""
        for place, job in enumerate(self._urgent):
            if self._may_go(job, standing):
                del self._urgent[place]
                return self._fly(job)
        for provider, jobs in () if urgent else self._ready.items():
            if self._may_go(jobs[0], standing):
                job = jobs.popleft()
                del self._ready[provider]
                if jobs:  # after the others
                    self._ready[provider] = jobs
                return self._fly(job)
        return None

    def _may_go(self, job: Job, standing: Standing) -> bool:
        most = self.way.relay.limits_of(job.provider).connections
        if most is not None and self._flying[job.provider] >= standing.share(most):
            return False
        permit = self.allowances.take(job.order.draws)
        job.permit = permit or FREE
        return permit is not None

    def _wait(self, job: Job, *, first: bool = False) -> None:
        line = self._line(job)
        (line.appendleft if first else line.append)(job)
        self._waiting += 1
        self._throttled += job.order.throttled
        self.allowances.join(job.order.draws)

    def _line(self, job: Job) -> deque[Job]:
        return self._urgent if job.is_urgent else self._ready.setdefault(job.provider, deque())

    def _unwait(self, job: Job) -> None:
        self._waiting -= 1
        self._throttled -= job.order.throttled
        self.allowances.leave(job.order.draws)

    def _fly(self, job: Job) -> Job:
        self._unwait(job)
        self._flying[job.provider] += 1
        job.taken_at = uptime()
        return job

    def land(self, job: Job) -> None:
        """The row is no longer this worker's concern."""
        _less(self._flying, job.provider)
        _less(self.held, job.provider)

    def put_back(self, job: Job) -> None:
        """Another connection is to take the row that this one was about to carry."""
        _less(self._flying, job.provider)
        self.allowances.give_back(job.permit)
        self._wait(job, first=True)
        self.ring(1)

    def clear(self, goes: Callable[[Job], bool] = lambda _: True) -> list[Job]:
        """Take out what waits, all or some; the jobs."""
        waiting = [*self._urgent, *(job for jobs in self._ready.values() for job in jobs)]
        found = [job for job in waiting if goes(job)]
        if found:
            self._urgent = deque(job for job in self._urgent if not goes(job))
            left = {
                name: deque(j for j in jobs if not goes(j)) for name, jobs in self._ready.items()
            }
            self._ready = {name: jobs for name, jobs in left.items() if jobs}
        for job in found:
            self._unwait(job)
            _less(self.held, job.provider)
        return found

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


def _less(counts: Counter[str], name: str) -> None:
    """One less; nothing is kept of who has none, for there are thousands of providers."""
    counts[name] -= 1
    if counts[name] <= 0:
        del counts[name]
