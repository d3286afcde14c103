"""Questions to the database that many ask: one at a time, the answer shared, the wait bounded.

A database that hangs answers neither with yes nor with no, and whoever waits for it without limit
hangs with it: an orchestrator then restarts what is well.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from math import inf
from typing import Generic, TypeVar

FRESH = 10.0  # seconds for which an answer of the database is used again
SHARE = 10  # and so many times as long as it took, where that is more
PATIENCE = 8.0  # seconds to wait for one: Prometheus gives up after 10

Answer = TypeVar("Answer")


class Seldom(Generic[Answer]):
    """A question asked anew only when its last answer is old, for threads and for tasks.

    Whoever has waited for `patience` seconds gets TimeoutError; the question stays under way, and
    no second one is put beside it.
    """

    def __init__(
        self,
        ask: Callable[[], Answer],
        *,
        fresh: float = FRESH,
        share: float = SHARE,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._fresh, self._share = ask, fresh, share
        self._patience, self._clock = patience, clock
        self._lock = threading.Lock()
        self._until = self._began = -inf
        self._future: Future[Answer] | None = None

    def __call__(self) -> Answer:
        """The answer, for a thread that may wait."""
        future, left = self._asked()
        return future.result(left)

    async def answer(self) -> Answer:
        """The answer, for a task: the others go on meanwhile."""
        future, left = self._asked()
        if future.done():
            return future.result()
        return await asyncio.wait_for(asyncio.wrap_future(future), left)

    def _asked(self) -> tuple[Future[Answer], float]:
        """The question under way, or the last answer, and the seconds that it may still take."""
        with self._lock:
            if self._future is None or (self._future.done() and self._clock() >= self._until):
                self._future, self._began = Future(), time.monotonic()
                self._future.set_running_or_notify_cancel()  # nobody who waits can cancel it
                # Of its own, not of a pool's: those may all be busy with pages that hang. As a
                # daemon it does not keep the process from ending.
                threading.Thread(
                    target=self._put, args=(self._future,), name="question", daemon=True
                ).start()
            return self._future, max(0.0, self._began + self._patience - time.monotonic())

    def _put(self, future: Future[Answer]) -> None:
        began = self._clock()
        try:
            answer = self._ask()
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            future.set_exception(error)  # and asked anew by the next
        else:
            ended = self._clock()
            self._until = ended + max(self._fresh, self._share * (ended - began))
            future.set_result(answer)
