"""The clerk: the threads by which a worker writes, and what waits for its next commit.

Whatever waits is written in one transaction, so a commit is shared by all the connections that
came to it while the one before was being written (invariant 4). Claims hold up no commit: they
have a thread of their own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError, OperationalError

from digest.models import State
from digest.pipeline.books import Books, Claimed, uptime
from digest.storage.ledger import OPEN, Beginning, Result

T = TypeVar("T")
log = logging.getLogger(__name__)

_PATIENCE = 120.0  # seconds that a database which is away is waited for
_LEAST = 32  # attempts that are begun in one commit, where so many wait


class Clerk:
    """Made inside the loop that uses it."""

    def __init__(
        self,
        books: Books,
        *,
        is_hard: Callable[[], bool],
        stored: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """`stored` is called after each commit, `failed` when one was not possible."""
        self.books = books
        self.states: Counter[State] = Counter()  # how the rows ended
        self.news = False  # a commit left something to claim
        self.commits = 0  # or tries of one
        self.connections = 1  # that may come to a commit
        self._is_hard, self._tell, self._failed = is_hard, stored, failed
        self._loop = asyncio.get_running_loop()
        self._thread, self._claims = ThreadPoolExecutor(1, "clerk"), ThreadPoolExecutor(1, "claims")
        self._queued, self._stored = asyncio.Event(), asyncio.Event()
        self._closing = self._storing = False
        self._results: list[Result] = []
        self._begins: list[tuple[Beginning, asyncio.Future[bool]]] = []
        self._returned: list[int] = []

    @property
    def is_busy(self) -> bool:
        """Whether something is being written, which may leave something to claim."""
        return bool(self._returned or self._results or self._storing)

    async def call(self, work: Callable[..., T], *args: object) -> T:
        """Do it in the thread that writes."""
        return await self._loop.run_in_executor(self._thread, self._patiently, work, *args)

    async def claim(self, *args: Any) -> Claimed:
        """Claim while something else is written."""
        claim = self.books.claim
        return await self._loop.run_in_executor(self._claims, self._patiently, claim, *args)

    def _patiently(self, work: Callable[..., T], *args: object) -> T:
        """Do it, again while the database is away: doing it twice changes nothing that matters."""
        since = uptime()
        while True:
            try:
                return work(*args)
            except DBAPIError as error:
                if not _is_away(error) or self._is_hard() or uptime() - since > _PATIENCE:
                    raise
                log.warning(
                    "The database does not answer: %s",
                    str(error.orig).partition("\n")[0],
                    extra={"action": "database"},
                )
                time.sleep(0.5)

    async def begin(self, beginning: Beginning) -> bool:
        """Wait until the attempt is on disk; False when this row must not go."""
        begun: asyncio.Future[bool] = self._loop.create_future()
        self._begins.append((beginning, begun))
        self._queued.set()
        return await begun

    def report(self, result: Result) -> None:
        """Have a result stored with the next commit."""
        self._results.append(result)
        self._queued.set()

    def give_back(self, *delivery_ids: int) -> None:
        """Let others have claimed rows, with the next commit."""
        self._returned += delivery_ids
        self._queued.set()

    async def next_commit(self) -> None:
        """Wait until what was reported so far is stored, or could not be."""
        await self._stored.wait()

    async def run(self) -> None:
        """Commit what comes, until closed and all is written."""
        while not self._closing or self._results or self._returned:
            await self._queued.wait()
            self._queued.clear()
            results, self._results = self._results, []
            # While a part is sent the next one is written: all at once would take turns.
            part = max(_LEAST, self.connections // 4)
            begins, self._begins = self._begins[:part], self._begins[part:]
            if self._begins:
                self._queued.set()
            returned, self._returned = self._returned, []
            stored, self._stored = self._stored, asyncio.Event()
            self._storing = True
            try:
                begun = await self._exchange(results, [one for one, _ in begins], returned)
            except Exception as error:  # noqa: BLE001 - raised when the connections have ended
                begun = set()
                await self._save(results)
                self._failed(error)
            finally:
                self._storing = False
                self.commits += 1
                stored.set()
            for beginning, told in begins:
                if not told.done():
                    told.set_result(beginning.delivery_id in begun)
            self._tell()

    async def _exchange(
        self, results: Sequence[Result], begins: Sequence[Beginning], returned: Sequence[int]
    ) -> set[int]:
        done = await self.call(self.books.exchange, results, begins, returned)
        for one in results:
            state = done.moved.get(one.delivery_id)
            if state is not None and (one.spent or state not in OPEN):
                self.states[state] += 1
        self.news = self.news or bool(returned) or done.stopped
        self.states[State.SKIPPED] += len(begins) - len(done.begun)
        return set(done.begun)

    async def _save(self, results: Sequence[Result]) -> None:
        """Store each answer by itself, for one that cannot be stored must cost no other."""
        for one in results:
            try:
                await self._exchange([one], [], [])
            except Exception as error:  # noqa: BLE001 - the first is raised at the end
                log.error(
                    "What became of delivery %d cannot be stored: %s",
                    one.delivery_id,
                    type(error).__name__,
                    extra={"action": "store", "delivery": one.delivery_id},
                )

    def close(self) -> None:
        """Let `run` end when all is written."""
        self._closing = True
        self._queued.set()

    def end(self) -> None:
        """End the threads; nothing is called any more."""
        self._thread.shutdown()
        self._claims.shutdown()


def _is_away(error: DBAPIError) -> bool:
    """Whether waiting may help: another holds SQLite's lock, a disk is full, a server is away."""
    words = str(error.orig)
    if "database is locked" in words or "database or disk is full" in words:
        return True
    remote = error.orig is not None and type(error.orig).__module__.partition(".")[0] != "sqlite3"
    return remote and (isinstance(error, OperationalError) or error.connection_invalidated)
