"""Sending: many connections, each with one row under way, and one commit for all that wait.

Each connection carries one message after another. While a content travels, the envelope of the
next message goes with it; that one's content waits until the ledger has both the result of the
last and the beginning of the next (invariant 4). `clerk` writes what waits, `lease` says whether
this worker may go on, `allowances` what limits allow, `ways` what waits for which relay, and
`composing` makes the messages.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from digest import metrics
from digest.delivery import Connection
from digest.errors import DeliveryError
from digest.models import Message, State
from digest.pipeline.allowances import Allowances
from digest.pipeline.books import Books, Drawn, Policy, Standing, uptime
from digest.pipeline.clerk import Clerk
from digest.pipeline.composing import Composer, Desk
from digest.pipeline.deciding import accepted, decide, unsent
from digest.pipeline.lease import Lease
from digest.pipeline.ways import Job, Queue, Way, problem_of
from digest.storage.ledger import Beginning

log = logging.getLogger(__name__)

# Rows are claimed when fewer are at hand for each connection, twice as many more at a time.
_AHEAD = 2
_LEAST = 32
_MANY = 8  # connections
_IDLE = 0.25  # seconds between two looks for rows, account mail first, while others go
_DRY = 0.1  # seconds until the next look, where there was nothing to claim
_LOOK = 0.1  # seconds between two looks at what a signal said
_STALE = 2.0  # seconds after the last check in which a content may still leave
_STRAGGLES = 4  # times as long as usual an answer takes that others need not wait for


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What a pass did: how many rows ended in each state, and what stopped it early."""

    states: Mapping[State, int] = field(default_factory=dict)
    problem: str = ""  # no mail server could be used
    died: str = ""  # how many of the processes that sent
    stopped: bool = False  # a signal or the time ended it before all was sent
    hard: bool = False  # at once: what was under way is unknown


class Pass:
    """One pass over what is due: a worker from its first claim to its last result."""

    def __init__(
        self,
        engine: Engine,
        books: Books,
        ways: Sequence[Way],
        *,
        composer: Composer,
        policy: Policy,
        clock: Callable[[], datetime],
        told: Callable[[], tuple[bool, bool]],  # to stop; to end at once
        drain: float,
        seconds: float | None,
    ) -> None:
        self._engine, self._books, self._composer = engine, books, composer
        self._policy, self._clock, self._told = policy, clock, told
        self._drain = drain
        self._until = None if seconds is None else uptime() + seconds
        self._ways = sorted(ways, key=lambda way: way.relay.priority)
        self._error: BaseException | None = None
        self._ending = self._stopped = self._hard = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: set[asyncio.Task[None]] = set()  # with an attempt that has begun
        self._flights: dict[Connection, float] = {}  # when a content left that has no answer yet
        self._usual = 0.05  # seconds that an answer takes
        self._following: set[int] = set()  # deliveries whose envelope went with a content

    async def run(self) -> Delivered:
        """Send what is due; LeaseLost when others took this worker for dead."""
        loop = asyncio.get_running_loop()
        self._hungry = asyncio.Event()
        self._clerk = Clerk(
            self._books, is_hard=lambda: self._hard, stored=self._noted, failed=self._fail
        )
        self._desk = Desk(self._engine, self._composer, self._clerk, clock=self._clock)
        self._queues = [self._queue(way) for way in self._ways]
        standing = await self._clerk.call(self._books.enter)
        self._lease = Lease(
            self._books,
            standing,
            beaten=partial(loop.call_soon_threadsafe, self._beaten),
            failed=lambda error: loop.call_soon_threadsafe(self._fail, error),
        )
        self._lease.start()
        commits = loop.create_task(self._clerk.run())
        helpers = [loop.create_task(self._listen())]
        helpers += [loop.create_task(self._serve(queue.allowances)) for queue in self._queues]
        try:
            try:
                await self._feed()
            except Exception as error:  # noqa: BLE001 - raised when the connections have ended
                self._fail(error)
            self._end()
            while self._tasks:
                await asyncio.wait(self._tasks)
            self._clerk.close()
            await commits
            for helper in helpers[1:]:
                helper.cancel()
            await self._settle()
        finally:
            for helper in (commits, *helpers):
                helper.cancel()
            await asyncio.gather(commits, *helpers, return_exceptions=True)
            await asyncio.to_thread(self._lease.end)
            try:
                await self._clerk.call(self._books.leave, dict(self._clerk.states), self._problem)
            except SQLAlchemyError:
                if self._error is None:
                    raise
            finally:
                self._clerk.end()
        if self._error is not None:
            raise self._error
        return Delivered(
            states={state: count for state, count in self._clerk.states.items() if count},
            problem=self._problem,
            stopped=self._stopped,
            hard=self._hard,
        )

    def _queue(self, way: Way) -> Queue:
        def arrived(count: int, over: Collection[int]) -> None:
            queue.ring(count)
            if over:  # for today
                self._put_back(queue, lambda job: not set(over).isdisjoint(job.order.draws))
                self._hungry.set()

        async def draw(wanted: Mapping[int, int], ahead: float) -> dict[int, Drawn]:
            return await self._clerk.call(self._books.draw, wanted, ahead)

        async def refund(unspent: Mapping[int, int]) -> None:
            await self._clerk.call(self._books.refund, unspent)

        queue = Queue(way, Allowances(draw, refund, arrived))
        return queue

    @property
    def _problem(self) -> str:
        """Why no mail server can be used; empty while one can."""
        return problem_of(self._ways)

    @property
    def _standing(self) -> Standing:
        return self._lease.standing

    async def _serve(self, allowances: Allowances) -> None:
        try:
            await allowances.serve()
        except Exception as error:  # noqa: BLE001 - raised when the connections have ended
            self._fail(error)

    async def _settle(self) -> None:
        """Give back what allowances are left; who cannot has a day's limit that is too low."""
        for queue in self._queues:
            with suppress(SQLAlchemyError):
                await queue.allowances.settle(last=True)

    # -------------------------------------------------------------- the end

    def _end(self) -> None:
        """Nothing new is begun, and what was claimed is for others; what is under way ends."""
        self._ending = True
        self._hungry.set()
        for queue in self._queues:
            self._put_back(queue)
            queue.ring()
        self._clerk.give_back(*self._following)
        for task in self._tasks - self._under_way:
            task.cancel()

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self._end()

    def _abandon(self) -> None:
        self._hard = True
        self._end()
        for task in self._tasks:
            task.cancel()

    async def _listen(self) -> None:
        """Follow what signals and the time say."""
        since = None
        while True:
            stop, halt = self._told()
            if stop or self._is_over():
                since = since or uptime()
                if not self._ending:
                    self._stopped = True
                    self._end()
                if halt or (stop and uptime() - since > self._drain):
                    self._abandon()
            await asyncio.sleep(_LOOK)

    def _is_over(self) -> bool:
        """Whether the time is over, and none would wait, doing nothing, for one late answer."""
        now = uptime()
        return (
            self._until is not None
            and now >= self._until
            and all(now - since < _STRAGGLES * self._usual for since in self._flights.values())
        )

    def _beaten(self) -> None:
        """Who waited for a heartbeat, of this worker or of others, may go on."""
        if not self._ending:
            self._hungry.set()

    def _noted(self) -> None:
        """A commit was made."""
        for queue in self._queues:
            if queue.taken:
                metrics.observe_many(queue.way.relay.name, queue.taken)
                queue.taken = []
        # Where nothing is at hand, what was stored may have been the last.
        if self._clerk.news or not any(queue.held for queue in self._queues):
            self._hungry.set()

    # -------------------------------------------------------------- claiming

    async def _feed(self) -> None:
        """Keep rows at hand until nothing is due, and connections to carry them."""
        woken = False
        while not self._ending and any(queue.way.usable for queue in self._queues):
            self._hungry.clear()
            woken, self._clerk.news = woken and not self._clerk.news, False
            found, best, passed_over, stored = 0, None, False, self._clerk.commits
            for queue in self._queues:
                priority = queue.way.relay.priority
                queue.wanted = queue.way.usable and (best is None or priority == best)
                queue.more = False
                if not queue.wanted:
                    self._put_back(queue)
                    queue.ring()
                    continue
                if woken and self._is_supplied(queue):
                    passed_over = True
                else:
                    found += await self._claim(queue)
                # Those after it take over what is tried with one message only.
                if not (queue.closed or queue.way.is_troubled):
                    best = priority
                self._open_lines(queue)
            waiting = any(queue.held or queue.more for queue in self._queues)
            # What is being stored may leave something to claim.
            waiting = waiting or passed_over or self._clerk.is_busy or not self._standing.known
            if not (found or waiting):
                if self._clerk.commits == stored:
                    return
                self._clerk.news = True  # what was stored meanwhile the claim may not have seen
                continue
            with suppress(TimeoutError):
                woken = False
                async with asyncio.timeout(_IDLE if found or passed_over else 2 * _IDLE):
                    woken = await self._hungry.wait()
            for queue in () if woken else self._queues:
                # Who was told of a row may have ended instead of taking it: another worker came.
                queue.ring(queue.free)

    def _is_supplied(self, queue: Queue) -> bool:
        """Whether rows enough are at hand, or it was just seen that there are no more."""
        queue.low = _AHEAD * self._lines(queue)
        at_work = any(queue.held for queue in self._queues)
        return queue.free > queue.low or (at_work and uptime() < queue.dry_until)

    async def _claim(self, queue: Queue) -> int:
        """Claim for a way what its connections can soon carry; how many rows."""
        lines = self._lines(queue)
        if not (lines and self._lease.is_fresh):
            return 0
        room = 0
        if queue.way.is_troubled:
            room = max(0, 1 - queue.held.total())
        elif queue.free <= (low := _AHEAD * lines):
            queue.low, room = low, max(_LEAST, 2 * low)
        claimed = await self._clerk.claim(
            queue.way.relay.name, room, Counter(queue.held), self._standing
        )
        queue.more, queue.closed = claimed.more, claimed.closed
        queue.dry_until = 0.0 if claimed.orders else uptime() + _DRY
        if claimed.stopped:
            # Of these, whatever is to try a way that was stopped stays.
            stopped = {*claimed.stopped}
            self._put_back(
                queue,
                lambda job: (
                    not job.order.alone and not stopped.isdisjoint(("", job.order.claim.provider))
                ),
            )
        if not claimed.orders:
            return 0
        found = await self._desk.load(claimed.orders)
        queue.add(found)
        if self._ending:
            self._put_back(queue)
        return len(found)

    def _lines(self, queue: Queue) -> int:
        """How many connections it may have; none where there are more workers than connections."""
        most = queue.way.relay.limits.connections
        share = 1 if most is None else self._standing.share(most)
        if queue.way.is_troubled:
            return min(share, 1)
        return min(share, max(1, share - queue.fewer))

    def _is_spare(self, queue: Queue) -> bool:
        """Whether one connection has to end, since other workers came."""
        return queue.lines > self._lines(queue)

    def _open_lines(self, queue: Queue) -> None:
        if not self._lease.is_fresh:
            return
        wanted, most = queue.waiting - queue.idle, self._lines(queue)
        # An answer may take ten minutes, on all connections: of many one is for account mail alone.
        usual = most - (most >= _MANY)
        for _ in range(min(wanted, usual - queue.lines)):
            self._spawn(queue)
        if queue.urgent and not queue.idle and usual <= queue.lines < most:
            self._spawn(queue, urgent=True)

    def _spawn(self, queue: Queue, *, urgent: bool = False) -> None:
        queue.lines += 1
        task = asyncio.get_running_loop().create_task(self._carry(queue, urgent=urgent))
        self._tasks.add(task)
        self._clerk.connections = len(self._tasks)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._under_way.discard(task)
            self._clerk.connections = len(self._tasks)
            queue.lines -= 1
            self._hungry.set()
            if not task.cancelled() and (error := task.exception()) is not None:
                self._fail(error)

        task.add_done_callback(done)

    def _put_back(self, queue: Queue, goes: Callable[[Job], bool] = lambda _: True) -> None:
        """Let go of what waits for a way that is not to be used."""
        if waiting := queue.clear(goes):
            self._clerk.give_back(*(job.delivery_id for job in waiting))

    # -------------------------------------------------------------- one connection

    async def _carry(self, queue: Queue, *, urgent: bool) -> None:
        """One connection's work: one message after another."""
        task = asyncio.current_task()
        assert task is not None
        async with Connection(queue.way.relay.server, ready=True) as line:
            queue.open.add(line)
            carried: Counter[str] = Counter()  # by receiving provider, since it was opened
            try:
                job: Job | None = None
                offered = False
                while True:
                    if job is None:
                        job, offered = await self._next(queue, urgent=urgent), False
                        if job is None:
                            return
                    if not offered:
                        if queue.is_full(carried, job):
                            await line.close()
                            carried.clear()
                        if not await self._open(queue, line, job):
                            return
                    carried[job.provider] += 1
                    following, chained = None, False
                    if offered or await self._offered(queue, job, line.offer, job.message):
                        following, chained = await self._deliver(
                            task, queue, line, job, carried, urgent=urgent
                        )
                    queue.land(job)
                    job, offered = following, chained
            finally:
                queue.open.discard(line)

    async def _next(self, queue: Queue, *, urgent: bool) -> Job | None:
        """The next row with its message; None when the connection is no longer needed."""
        while not self._ending and queue.wanted and not self._is_spare(queue):
            if not self._lease.is_fresh:
                await asyncio.sleep(_LOOK)
                continue
            job = self._take(queue, urgent=urgent)
            if job is not None or urgent:
                return job
            self._hungry.set()
            await queue.wait()
        return None

    def _take(self, queue: Queue, *, urgent: bool) -> Job | None:
        while not (self._ending or self._told()[0]) and (
            job := queue.take(self._standing, urgent=urgent)
        ):
            if queue.free <= queue.low:
                self._hungry.set()
            if self._desk.compose(job):
                return job
            queue.allowances.give_back(job.permit)
            queue.land(job)
        return None

    async def _open(self, queue: Queue, line: Connection, job: Job) -> bool:
        """Whether the connection is there; if not, another has to take the row."""
        queue.opening += 1
        try:
            await line.open()
        except DeliveryError as error:
            queue.put_back(job)
            if queue.opening > 1 or any(other.is_open for other in queue.open):
                queue.do_with_fewer()
                log.warning(
                    "One connection fewer: %s",
                    error,
                    extra={"action": "open", "relay": queue.way.relay.name},
                )
            else:
                self._back_off(queue, error)
            return False
        finally:
            queue.opening -= 1
        return True

    async def _offered(
        self,
        queue: Queue,
        job: Job,
        offer: Callable[..., Awaitable[None]],
        *message: Message | None,
    ) -> bool:
        """Whether the server asks for the content; if not, the row has its result."""
        started = uptime()
        try:
            await offer(*message)
        except DeliveryError as error:
            queue.allowances.give_back(job.permit)
            self._refused(queue, job, error, seconds=uptime() - started)
            # Refusals come fast: no more of them than connections, until a breaker may open.
            await self._clerk.next_commit()
            return False
        return True

    async def _deliver(
        self,
        task: asyncio.Task[None],
        queue: Queue,
        line: Connection,
        job: Job,
        carried: Mapping[str, int],
        *,
        urgent: bool,
    ) -> tuple[Job | None, bool]:
        """Begin, send the content, report; the next row, and whether its envelope went with it."""
        if self._ending or not self._lease.is_fresh:
            self._clerk.give_back(job.delivery_id)
            line.withdraw()
            return None, False
        self._under_way.add(task)
        try:
            if not await self._begin(queue, job):
                line.withdraw()
                return None, False
            # Who tries a way that was stopped goes alone.
            alone = job.order.alone or self._is_spare(queue) or not line.chains
            following = None if alone else self._take(queue, urgent=urgent)
            if following is not None and queue.is_full(carried, following):
                queue.put_back(following)
                following = None
            if following is not None:
                self._following.add(following.delivery_id)
            await self._hand_over(queue, line, job, following.message if following else None)
        finally:
            self._flights.pop(line, None)
            self._under_way.discard(task)
        if following is None:
            return None, False
        self._following.discard(following.delivery_id)
        if not line.is_open:  # its envelope is lost with the connection
            queue.put_back(following)
            return None, False
        if line.is_offered() or await self._offered(queue, following, line.offered):
            return following, True
        queue.land(following)
        return None, False

    async def _begin(self, queue: Queue, job: Job) -> bool:
        """Whether the attempt is on disk and the content may leave now."""
        permit, draws = job.permit, job.order.draws
        begun = await self._clerk.begin(
            Beginning(
                delivery_id=job.delivery_id,
                claim=job.order.claim.claim,
                route_id=job.order.route_id,
            )
        )
        if not begun:
            queue.allowances.give_back(permit)
            return False
        checked_at = uptime()
        if draws:
            queue.allowances.learn(checked_at - job.taken_at)
        while uptime() > permit.until:  # it took longer than was thought
            queue.allowances.give_back(permit)
            left = checked_at + _STALE - uptime()
            found = await queue.allowances.take_late(draws, seconds=left)
            if found is None:
                self._clerk.report(unsent(job.order, now=self._clock()))
                return False
            permit = found
        if (early := permit.since - uptime()) > 0:
            await asyncio.sleep(early)
        if not self._lease.is_fresh:
            self._clerk.report(unsent(job.order, now=self._clock()))
            return False
        return True

    async def _hand_over(
        self, queue: Queue, line: Connection, job: Job, following: Message | None
    ) -> None:
        """Send the content, and report what became of it."""
        started = self._flights[line] = uptime()
        try:
            receipt = await line.hand_over(following)
        except DeliveryError as error:
            self._refused(queue, job, error, seconds=uptime() - started)
        else:
            queue.way.works()
            seconds = uptime() - started
            queue.taken.append(seconds)
            self._usual = 0.9 * self._usual + 0.1 * seconds
            self._clerk.report(accepted(receipt, job.order, seconds=seconds, now=self._clock()))

    def _refused(self, queue: Queue, job: Job, error: DeliveryError, *, seconds: float) -> None:
        result = decide(
            error,
            job.order,
            seconds=seconds,
            retry=self._policy.retry,
            jitter=random.random(),
            others_pass=queue.way.passing,
            now=self._clock(),
        )
        if error.host:
            # One connection's end, while messages get through, is not the server's.
            if not queue.way.passing:
                self._back_off(queue, error)
            queue.way.passing = False
        self._clerk.report(result)
        metrics.refused(queue.way.relay.name, error.code)
        log.warning(
            "Delivery %d: %s. %s",
            result.delivery_id,
            result.state,
            result.text,
            extra={
                "action": "deliver",
                "delivery": result.delivery_id,
                "state": str(result.state),
            },
        )

    def _back_off(self, queue: Queue, error: DeliveryError) -> None:
        queue.way.back_off(error)
        queue.wanted = False
        self._put_back(queue)
        queue.ring()
        self._hungry.set()
