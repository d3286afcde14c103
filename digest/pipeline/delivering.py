"""Deliver: send what is due over one or several mail servers, pass after pass."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Engine

from digest.pipeline.books import Books, Policy, Relay
from digest.pipeline.composing import Composer
from digest.pipeline.sending import Delivered, Pass
from digest.pipeline.ways import Way, problem_of

_SWEPT = (10_000, 20, 20)  # the thresholds of `gc` during a pass


class Postman:
    """Delivers from the ledger; remembers which mail servers not to try yet."""

    def __init__(
        self,
        engine: Engine,
        books: Books,
        relays: Sequence[Relay],
        *,
        composer: Composer,
        policy: Policy,
        clock: Callable[[], datetime],
        drain: float = 660.0,
    ) -> None:
        self._engine, self._books, self._composer = engine, books, composer
        self._policy, self._clock, self._drain = policy, clock, drain
        self._ways = [Way(relay) for relay in relays]
        self._stopped = self._halted = False

    def stop(self) -> None:
        """Claim nothing more; what is under way ends. Safe to call from a signal handler."""
        self._stopped = True

    def halt(self) -> None:
        """End at once: what is under way is unknown. Safe to call from a signal handler."""
        self._stopped = self._halted = True

    @property
    def is_stopped(self) -> bool:
        """Whether it was told to end."""
        return self._stopped

    def deliver(self, seconds: float | None = None) -> Delivered:
        """Send all that is due now, or what can be sent in so many seconds.

        Raises Busy while another process delivers from the same SQLite file, LeaseLost when
        others took this worker for dead because something held it up too long.
        """
        if self._stopped or not any(way.usable for way in self._ways):
            return Delivered(problem=problem_of(self._ways), stopped=self._stopped)
        if not self._books.is_needed():
            return Delivered()
        with _seldom_swept():
            return self._pass(seconds)

    def _pass(self, seconds: float | None) -> Delivered:
        this = Pass(
            self._engine,
            self._books,
            self._ways,
            composer=self._composer,
            policy=self._policy,
            clock=self._clock,
            told=lambda: (self._stopped, self._halted),
            drain=self._drain,
            seconds=seconds,
        )
        return asyncio.run(this.run())


@contextmanager
def _seldom_swept() -> Iterator[None]:
    """Have the garbage collector look for cycles seldom, and among what the block made alone.

    A pass makes some ten thousand containers a second and hardly a cycle of them. What it leaves
    when it is over, its connections above all, goes at once.
    """
    before, frozen = gc.get_threshold(), gc.get_freeze_count() > 0
    gc.freeze()
    gc.set_threshold(*_SWEPT)
    try:
        yield
    finally:
        gc.collect()
        gc.set_threshold(*before)
        gc.unfreeze()
        if frozen:  # pages are served beside it (`WebServer`); no garbage may be kept for ever
            gc.collect()
            gc.freeze()
