"""Sending: many connections, each with one row under way, and one commit for all that wait.

Each connection carries one message after another. While a content travels, the envelope of the
next message goes with it; that one's content waits until the ledger has both the result of the
last and the beginning of the next (invariant 4). Whatever waits is written in one transaction, so
a commit is shared by all the connections that came to it while the one before was being written.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar

from sqlalchemy import Connection as Database
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from digest import metrics
from digest.delivery import Connection
from digest.errors import DeliveryError, LeaseLost, NotFound, TemplateError
from digest.models import Message, Part, State
from digest.pipeline.bookkeeping import (
    BEAT,
    LEASE,
    Books,
    Order,
    Policy,
    Standing,
)
from digest.pipeline.deciding import accepted, decide, spoiled, unsent
from digest.pipeline.ways import Job, Queue, Way, problem_of, uptime
from digest.storage.contents import contents, parts
from digest.storage.database import reading
from digest.storage.ledger import OPEN, Beginning, Result
from digest.storage.routes import LASTS

T = TypeVar("T")
K = TypeVar("K")
log = logging.getLogger(__name__)

# Rows are claimed when fewer are at hand for each connection, twice as many more at a time.
_AHEAD = 2
_LEAST = 32
_MANY = 8  # connections
_IDLE = 0.25  # seconds between two looks for rows, account mail first, while others go
_DRAW = 0.1  # seconds between two draws of allowances
_LOOK = 0.1  # seconds between two looks at what a signal said
# No content leaves when the last heartbeat is older: a third of the lease is kept for the way.
_FRESH = LEASE.total_seconds() * 2 / 3
_PATIENCE = 120.0  # seconds that a database which is away is waited for


class Composer(Protocol):
    """Makes messages of frozen contents, of parts that it keeps."""

    def unknown(self, hashes: Collection[str]) -> set[str]:
        """Which parts of the next batch it does not have."""

    def learn(self, parts: Sequence[Part]) -> None:
        """Keep these parts."""

    def assemble(
        self,
        personal: Mapping[str, str],
        skeleton: str,
        cards: Sequence[tuple[str, bool]],
    ) -> Message:
        """The message; NotFound for a part that it does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What a pass did: how many rows ended in each state, and what stopped it early."""

    states: Mapping[State, int] = field(default_factory=dict)
    problem: str = ""  # no mail server could be used
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
        self._queues = [Queue(way) for way in ways]
        self._standing = Standing()
        self._beaten = uptime()
        self._lost: LeaseLost | None = None
        self._error: BaseException | None = None
        self._ending = self._closing = self._stopped = self._hard = False
        self._storing = self._news = False  # a commit is under way; it left something to claim
        self._states: Counter[State] = Counter()
        self._results: list[Result] = []
        self._begins: list[tuple[Beginning, asyncio.Future[bool]]] = []
        self._returned: list[int] = []
        self._wanting: list[tuple[Order, asyncio.Future[float]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> Delivered:
        """Send what is due; LeaseLost when others took this worker for dead."""
        self._loop = asyncio.get_running_loop()
        self._queued, self._hungry, self._stored = (asyncio.Event() for _ in range(3))
        self._clerk = ThreadPoolExecutor(1, "clerk")
        over = threading.Event()
        self._standing = await self._call(self._books.enter)
        self._beaten = uptime()
        heart = threading.Thread(target=self._beat, args=[over], name="heartbeat", daemon=True)
        heart.start()
        commits = self._loop.create_task(self._commit())
        helpers = [self._loop.create_task(one) for one in (self._draw(), self._listen())]
        try:
            try:
                await self._feed()
            except Exception as error:  # noqa: BLE001 - raised when the connections have ended
                self._fail(error)
            self._end()
            while self._tasks:
                await asyncio.wait(self._tasks)
            self._closing = True
            self._queued.set()
            await commits
        finally:
            over.set()
            for helper in (commits, *helpers):
                helper.cancel()
            await asyncio.gather(commits, *helpers, return_exceptions=True)
            await asyncio.to_thread(heart.join)
            try:
                await self._call(self._books.leave, dict(self._states), self._problem)
            except SQLAlchemyError:
                if self._error is None:
                    raise
            finally:
                self._clerk.shutdown()
        if self._error is not None:
            raise self._error
        if self._lost is not None:
            raise self._lost
        return Delivered(
            states=dict(self._states),
            problem=self._problem,
            stopped=self._stopped,
            hard=self._hard,
        )

    @property
    def _problem(self) -> str:
        """Why no mail server can be used; empty while one can."""
        return problem_of([queue.way for queue in self._queues])

    async def _call(self, work: Callable[..., T], *args: object) -> T:
        """Do it in the one thread that speaks to the database."""
        return await self._loop.run_in_executor(self._clerk, self._patiently, work, *args)

    def _patiently(self, work: Callable[..., T], *args: object) -> T:
        """Do it, again while the database is away: doing it twice changes nothing that matters."""
        since = uptime()
        while True:
            try:
                return work(*args)
            except DBAPIError as error:
                # SQLite says so of what no waiting mends, and has waited for its lock already.
                away = isinstance(error, OperationalError) or error.connection_invalidated
                late = self._hard or uptime() - since > _PATIENCE
                if self._engine.name == "sqlite" or not away or late:
                    raise
                log.warning(
                    "The database does not answer: %s",
                    str(error.orig).partition("\n")[0],
                    extra={"action": "database"},
                )
                time.sleep(0.5)

    # -------------------------------------------------------------- the end

    def _end(self) -> None:
        """Nothing new is begun; what is under way ends."""
        self._ending = True
        self._hungry.set()
        for queue in self._queues:
            queue.ring()
        for _, permit in self._wanting:
            if not permit.done():
                permit.set_result(0.0)
        self._wanting.clear()

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
            if stop or (self._until is not None and uptime() >= self._until):
                since = since or uptime()
                if not self._ending:
                    self._stopped = True
                    self._end()
                if halt or (stop and uptime() - since > self._drain):
                    self._abandon()
            await asyncio.sleep(_LOOK)

    def _beat(self, over: threading.Event) -> None:
        """Keep the lease, independently of what the connections do."""
        while not over.wait(BEAT):
            at = uptime()
            try:
                self._standing = self._books.beat()
            except LeaseLost as error:
                self._lost = error
                self._loop.call_soon_threadsafe(self._end)
                return
            except SQLAlchemyError as error:
                log.warning(
                    "No heartbeat: %s",
                    str(error).partition("\n")[0],
                    extra={"action": "heartbeat"},
                )
            else:
                self._beaten = at

    def _is_fresh(self) -> bool:
        """Whether the lease is good for long enough to send a content."""
        return self._lost is None and uptime() - self._beaten < _FRESH

    # -------------------------------------------------------------- claiming

    async def _feed(self) -> None:
        """Keep rows at hand until nothing is due, and connections to carry them."""
        woken = False
        while not self._ending:
            usable = [queue for queue in self._queues if queue.way.usable]
            if not usable:
                return
            best = min(queue.way.relay.priority for queue in usable)
            self._hungry.clear()
            woken, self._news = woken and not self._news, False
            found = 0
            for queue in self._queues:
                queue.wanted = queue in usable and queue.way.relay.priority == best
                queue.more = False
                if not queue.wanted:
                    self._put_back(queue)
                    continue
                if not (woken and self._is_supplied(queue)):
                    found += await self._claim(queue)
                self._open_lines(queue)
            waiting = any(queue.held.total() or queue.more for queue in usable)
            # What is being stored may leave something to claim.
            if not (found or waiting or self._returned or self._results or self._storing):
                return
            with suppress(TimeoutError):
                woken = False
                async with asyncio.timeout(_IDLE if found else 5 * _DRAW):
                    woken = await self._hungry.wait()

    def _is_supplied(self, queue: Queue) -> bool:
        """Whether rows enough are at hand: who asked for more has them since."""
        return len(queue.ready) > _AHEAD * self._lines(queue)

    async def _claim(self, queue: Queue) -> int:
        """Claim for a way what its connections can soon carry; how many rows."""
        lines = self._lines(queue)
        if not lines:
            return 0
        room = 0 if self._is_supplied(queue) else max(_LEAST, 2 * _AHEAD * lines)
        claimed = await self._call(
            self._books.claim, queue.way.relay.name, room, Counter(queue.held), self._standing
        )
        queue.more = claimed.more
        if claimed.stopped:
            self._put_back(queue, claimed.stopped)
        if not claimed.orders:
            return 0
        found = await self._load(claimed.orders)
        queue.add(found)
        return len(found)

    async def _load(self, orders: Sequence[Order]) -> list[Job]:
        """The orders with what is frozen of them; reading waits for no commit."""
        ids = [one.claim.delivery_id for one in orders]
        known = {one.delivery_id: one for one in await self._read(contents, ids)}
        missing = self._composer.unknown(
            {one.skeleton for one in known.values()}.union(
                part for one in known.values() for part, _ in one.cards
            )
        )
        for part in await self._read(parts, missing) if missing else ():
            try:
                self._composer.learn([part])
                missing.discard(part.hash)
            except Exception:
                log.exception(
                    "Part %s of mails cannot be used.", part.hash, extra={"action": "compose"}
                )
        jobs = [Job(order, known[order.claim.delivery_id]) for order in orders]
        for job in jobs if missing else ():
            named = {job.content.skeleton, *(part for part, _ in job.content.cards)}
            job.broken = not missing.isdisjoint(named)
        return jobs

    async def _read(self, read: Callable[[Database, Collection[K]], T], keys: Collection[K]) -> T:
        def work() -> T:
            with reading(self._engine) as connection:
                return read(connection, keys)

        return await asyncio.to_thread(work)

    def _lines(self, queue: Queue) -> int:
        """How many connections it may have; none where there are more workers than connections."""
        most = queue.way.relay.limits.connections
        share = 1 if most is None else self._standing.share(most)
        return min(share, max(1, share - queue.fewer))

    def _is_spare(self, queue: Queue) -> bool:
        """Whether one connection has to end, since other workers came."""
        return queue.lines > self._lines(queue)

    def _open_lines(self, queue: Queue) -> None:
        wanted, most = len(queue.ready) + len(queue.urgent) - queue.idle, self._lines(queue)
        # An answer may take ten minutes, on all connections: of many one is for account mail alone.
        usual = most - (most >= _MANY)
        for _ in range(min(wanted, usual - queue.lines)):
            self._spawn(queue)
        if queue.urgent and not queue.idle and usual <= queue.lines < most:
            self._spawn(queue, urgent=True)

    def _spawn(self, queue: Queue, *, urgent: bool = False) -> None:
        queue.lines += 1
        task = self._loop.create_task(self._carry(queue, urgent=urgent))
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            queue.lines -= 1
            self._hungry.set()
            if not task.cancelled() and (error := task.exception()) is not None:
                self._fail(error)

        task.add_done_callback(done)

    def _put_back(self, queue: Queue, providers: Collection[str] | None = None) -> None:
        """Let go of what waits for a way that is not to be used."""
        waiting = queue.clear(providers)
        if waiting:
            self._returned += [job.order.claim.delivery_id for job in waiting]
            self._queued.set()
        if not queue.wanted:
            queue.ring()

    # -------------------------------------------------------------- one connection

    async def _carry(self, queue: Queue, *, urgent: bool) -> None:
        """One connection's work: one message after another."""
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
                            queue, line, job, carried, urgent=urgent
                        )
                    queue.land(job)
                    job, offered = following, chained
            finally:
                queue.open.discard(line)

    async def _next(self, queue: Queue, *, urgent: bool) -> Job | None:
        """The next row with its message; None when the connection is no longer needed."""
        while not self._ending and queue.wanted and not self._is_spare(queue):
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
            if len(queue.ready) <= _AHEAD * self._lines(queue):
                self._hungry.set()
            if self._compose(job):
                return job
            queue.land(job)
        return None

    def _compose(self, job: Job) -> bool:
        content, delivery_id = job.content, job.content.delivery_id
        try:
            if job.broken:
                raise TemplateError("A part of this mail is missing.")
            job.message = self._composer.assemble(content.personal, content.skeleton, content.cards)
        except NotFound:  # a part that made room for others meanwhile: the next claim brings it
            self._returned.append(delivery_id)
            self._queued.set()
        except Exception:
            # A digest that cannot be put together must stop neither the others nor the next pass.
            log.exception(
                "Delivery %d cannot be composed.",
                delivery_id,
                extra={"action": "compose", "delivery": delivery_id},
            )
            self._report(spoiled(job.order, now=self._clock()))
        return job.message is not None

    async def _open(self, queue: Queue, line: Connection, job: Job) -> bool:
        """Whether the connection is there; if not, another has to take the row."""
        queue.opening += 1
        try:
            await line.open()
        except DeliveryError as error:
            queue.put_back(job)
            if queue.opening > 1 or any(other.is_open for other in queue.open):
                queue.fewer += 1
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
            self._refused(queue, job, error, seconds=uptime() - started)
            # Refusals come fast: no more of them than connections, until a breaker may open.
            await self._stored.wait()
            return False
        return True

    async def _deliver(
        self, queue: Queue, line: Connection, job: Job, carried: Mapping[str, int], *, urgent: bool
    ) -> tuple[Job | None, bool]:
        """Begin, send the content, report; the next row, and whether its envelope went with it."""
        until = await self._permit(job)
        if not self._is_fresh() or uptime() > until:
            self._returned.append(job.content.delivery_id)
            self._queued.set()
            line.withdraw()
            return None, False
        if not await self._begin(job):
            line.withdraw()
            return None, False
        if not self._is_fresh() or uptime() > until:
            line.withdraw()
            self._report(unsent(job.order, now=self._clock()))
            return None, False
        # Whoever waits for an allowance, or tries a way that was stopped, goes alone.
        alone = job.order.draws or job.order.alone or self._is_spare(queue)
        following = None if alone else self._take(queue, urgent=urgent)
        chained = None if following is None or queue.is_full(carried, following) else following
        started = uptime()
        try:
            receipt = await line.hand_over(chained.message if chained else None)
        except DeliveryError as error:
            self._refused(queue, job, error, seconds=uptime() - started)
        else:
            queue.way.works()
            seconds = uptime() - started
            queue.taken.append(seconds)
            self._report(accepted(receipt, job.order, seconds=seconds, now=self._clock()))
        if following is None:
            return None, False
        if not line.is_open:  # its envelope is lost with the connection
            queue.put_back(following)
            return None, False
        if chained is None:
            return following, False
        if await self._offered(queue, following, line.offered):
            return following, True
        queue.land(following)
        return None, False

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
        self._report(result)
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
        self._hungry.set()

    # -------------------------------------------------------------- allowances

    async def _permit(self, job: Job) -> float:
        """Until when the content may leave (uptime), once the limits of its way allow it."""
        if not job.order.draws:
            return math.inf
        if self._ending:
            return 0.0
        permit: asyncio.Future[float] = self._loop.create_future()
        self._wanting.append((job.order, permit))
        return await permit

    async def _draw(self) -> None:
        while True:
            await asyncio.sleep(_DRAW)
            try:
                if self._wanting:
                    await self._share_out()
            except Exception as error:  # noqa: BLE001 - raised when the connections have ended
                self._fail(error)

    async def _share_out(self) -> None:
        """Draw what those who wait want, and give each what its ways allow."""
        wanting = list(self._wanting)
        # From before the asking: the allowance then ends here before it ends there.
        until = uptime() + LASTS.total_seconds()
        wanted = Counter(one for order, _ in wanting for one in order.draws)
        drawn = await self._call(self._books.draw, wanted)
        left = Counter(drawn)
        for order, permit in wanting:
            if permit.done():
                continue
            if all(left[one] > 0 for one in order.draws):
                left.subtract(order.draws)
                permit.set_result(until)
            elif not drawn.keys() >= set(order.draws):
                permit.set_result(0.0)
        self._wanting = [one for one in self._wanting if not one[1].done()]
        if unspent := {route_id: count for route_id, count in left.items() if count > 0}:
            await self._call(self._books.refund, unspent)

    # -------------------------------------------------------------- commits

    async def _begin(self, job: Job) -> bool:
        """Wait until the attempt is on disk; False when this row must not go."""
        beginning = Beginning(
            delivery_id=job.content.delivery_id,
            claim=job.order.claim.claim,
            route_id=job.order.route_id,
        )
        begun: asyncio.Future[bool] = self._loop.create_future()
        self._begins.append((beginning, begun))
        self._queued.set()
        return await begun

    def _report(self, result: Result) -> None:
        """Have a result stored with the next commit."""
        self._results.append(result)
        self._queued.set()

    async def _commit(self) -> None:
        while not self._closing or self._results or self._returned:
            await self._queued.wait()
            self._queued.clear()
            results, self._results = self._results, []
            # While a part is sent the next one is written: all at once would take turns.
            part = max(_LEAST, len(self._tasks) // 4)
            begins, self._begins = self._begins[:part], self._begins[part:]
            if self._begins:
                self._queued.set()
            returned, self._returned = self._returned, []
            stored, self._stored = self._stored, asyncio.Event()
            self._storing = True
            try:
                done = await self._call(
                    self._books.exchange, results, [one for one, _ in begins], returned
                )
            except Exception as error:  # noqa: BLE001 - raised when the connections have ended
                for _, begun in begins:
                    if not begun.done():
                        begun.set_result(False)
                self._fail(error)
                continue
            finally:
                self._storing = False
                stored.set()
            for queue in self._queues:
                if queue.taken:
                    metrics.observe_many(queue.way.relay.name, queue.taken)
                    queue.taken = []
            for result in results:
                if result.delivery_id in done.moved and (result.spent or result.state not in OPEN):
                    self._states[result.state] += 1
            for beginning, begun in begins:
                if not begun.done():
                    begun.set_result(beginning.delivery_id in done.begun)
            if returned or done.stopped:
                self._news = True
                self._hungry.set()
            if skipped := len(begins) - len(done.begun):
                self._states[State.SKIPPED] += skipped
