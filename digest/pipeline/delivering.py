"""Deliver: claim what is due, note the attempt, hand the message over, note the result."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from digest.delivery import Connection, Server, enhanced_code
from digest.errors import DeliveryError
from digest.models import Message, Receipt, State
from digest.storage import digests, ledger, runs
from digest.storage.database import exclusive, reading, writing
from digest.storage.digests import Content
from digest.storage.ledger import Claim, Result

log = logging.getLogger(__name__)

# A server that cannot be reached is asked again after so many seconds, doubled up to the last.
_BACK_OFF = (5.0, 300.0)
_IDLE = 1.0  # seconds between two looks of a connection that has nothing to carry


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What a pass did: how many rows ended in each state, and what stopped it early."""

    states: dict[State, int] = field(default_factory=dict)
    recovered: int = 0  # rows of a process that died: unknown now
    problem: str = ""  # the mail server could not be used


def decide(
    error: DeliveryError,
    held: Claim,
    *,
    seconds: float,
    retry: Sequence[timedelta],
    jitter: float,
    now: datetime,
) -> Result:
    """What becomes of a delivery after an error (design section 5; RFC 5321 section 4.5.4.1).

    `retry` holds the waits between attempts; the last one repeats until the delivery's time is
    up. `jitter` (0..1) spreads each by up to a tenth.
    """
    refused = Result(
        state=State.FAILED,
        reason="refused",
        seconds=seconds,
        code=error.code,
        enhanced=enhanced_code(error.text),
        text=error.text,
    )
    if error.unknown:
        return replace(refused, state=State.UNKNOWN, reason="no answer")
    if error.host:
        # The server's trouble spends nobody's attempts.
        return replace(
            refused,
            state=State.DEFERRED if held.attempts else State.PLANNED,
            reason="mail server",
            spent=False,
            next_attempt_at=now + timedelta(minutes=1),
        )
    if error.permanent:
        return refused
    wait = retry[min(held.attempts, len(retry) - 1)] * (1 + jitter / 10)
    if now + wait >= held.give_up_at:
        return replace(refused, reason="gave up")
    return replace(refused, state=State.DEFERRED, reason="deferred", next_attempt_at=now + wait)


@dataclass(slots=True, kw_only=True)
class _Pass:
    """One pass: its connections, and what they tell one another."""

    worker_id: int
    lines: Sequence[Connection]
    states: Counter[State] = field(default_factory=Counter)
    opening: int = 0  # connections that are being made
    busy: int = 0  # connections that hold a row
    quiet: asyncio.Event = field(default_factory=asyncio.Event)  # none does
    over: bool = False


class Postman:
    """Delivers from the ledger over one mail server; remembers when not to try it."""

    def __init__(
        self,
        engine: Engine,
        server: Server,
        *,
        compose: Callable[[Content], Message],
        connections: int,
        retry: Sequence[timedelta],
        locks: Path,
        clock: Callable[[], datetime],
    ) -> None:
        self._engine, self._server, self._compose = engine, server, compose
        self._connections, self._retry = connections, retry
        self._locks, self._clock = locks, clock
        self._stopped = False
        self._failures = 0
        self._not_before = 0.0  # monotonic seconds
        self._problem = ""

    def stop(self) -> None:
        """Claim nothing more; what is under way ends. Safe to call from a signal handler."""
        self._stopped = True

    def deliver(self) -> Delivered:
        """Send all that is due now; raises Busy while another process delivers.

        Whoever holds the lock knows that no other delivers: rows that somebody claimed or was
        sending are those of a process that died.
        """
        if time.monotonic() < self._not_before:
            return Delivered(problem=self._problem)
        with exclusive(self._engine, "deliver", self._locks):
            with writing(self._engine) as connection:
                now = self._clock()
                lost = ledger.recover(connection, now=now)
                ledger.expire(connection, now=now)
                due = ledger.is_due(connection, now=now)
                worker_id = ledger.start_worker(connection, now=now) if due else None
            if lost:
                log.error(
                    "%d deliveries are unknown: a process died while it sent them.",
                    lost,
                    extra={"action": "recover", "unknown": lost},
                )
            if worker_id is None:
                return Delivered(recovered=lost)
            started = time.monotonic()
            try:
                states = asyncio.run(self._pump(worker_id))
            finally:
                with writing(self._engine) as connection:
                    ledger.stop_worker(connection, worker_id, now=self._clock())
            if states or self._problem:
                with writing(self._engine) as connection:
                    runs.remember(
                        connection,
                        "deliver",
                        started_at=now,
                        seconds=time.monotonic() - started,
                        counts={str(state): count for state, count in states.items()},
                        error=self._problem,
                    )
        return Delivered(states=states, recovered=lost, problem=self._problem)

    async def _pump(self, worker_id: int) -> dict[State, int]:
        self._problem = ""
        # The last line is for account mail alone: an answer may take ten minutes, on all others.
        lines = [Connection(self._server) for _ in range(self._connections + 1)]
        this = _Pass(worker_id=worker_id, lines=lines)
        # One that breaks must not cut off the others in the middle of a message.
        ends = await asyncio.gather(
            *(self._carry(this, line, account=line is lines[-1]) for line in lines),
            return_exceptions=True,
        )
        for end in ends:
            if end is not None:
                raise end
        return dict(this.states)

    async def _carry(self, this: _Pass, line: Connection, *, account: bool) -> None:
        """One connection's work: one row at a time, so account mail is never far behind."""
        try:
            async with line:
                while not (self._stopped or this.over):
                    with writing(self._engine) as database:
                        held = ledger.claim(
                            database, this.worker_id, now=self._clock(), limit=1, account=account
                        )
                    if held:
                        this.busy += 1
                        this.quiet.clear()
                        usable = await self._send(this, line, held[0])
                        this.busy -= 1
                        if not this.busy:
                            this.quiet.set()
                        if not usable:
                            return
                    elif this.busy:
                        # An answer may take ten minutes; what falls due meanwhile goes out here.
                        with suppress(TimeoutError):
                            await asyncio.wait_for(this.quiet.wait(), _IDLE)
                    else:
                        return
        except BaseException:
            this.over = True
            raise

    async def _send(self, this: _Pass, line: Connection, held: Claim) -> bool:
        """Carry one row to its next state; False when this connection cannot be had."""
        try:
            with reading(self._engine) as database:
                content = digests.content(database, held.delivery_id)
            message = self._compose(content)
        except SQLAlchemyError:
            raise
        except Exception:
            # A digest that cannot be put together must stop neither the others nor the next pass.
            log.exception(
                "Delivery %d cannot be composed.",
                held.delivery_id,
                extra={"action": "compose", "delivery": held.delivery_id},
            )
            with writing(self._engine) as database:
                ledger.spoil(database, held, now=self._clock())
            this.states[State.FAILED] += 1
            return True
        usable = await self._open(this, line)
        with writing(self._engine) as database:
            if not usable:
                ledger.give_back(database, held)
                return False
            state = ledger.begin(database, held, relay=self._server.name, now=self._clock())
        if state is State.SENDING:
            await self._transact(this, line, held, message)
        elif state is not None:
            this.states[state] += 1
        return True

    async def _open(self, this: _Pass, line: Connection) -> bool:
        this.opening += 1
        try:
            await line.open()
        except DeliveryError as error:
            if this.opening > 1 or any(other.is_open for other in this.lines):
                log.warning(
                    "One connection fewer: %s",
                    error,
                    extra={"action": "open", "relay": self._server.name},
                )
            else:
                self._back_off(this, error)
            return False
        finally:
            this.opening -= 1
        return True

    async def _transact(self, this: _Pass, line: Connection, held: Claim, message: Message) -> None:
        started = time.monotonic()
        try:
            receipt = await line.send(message)
        except DeliveryError as error:
            result = decide(
                error,
                held,
                seconds=time.monotonic() - started,
                retry=self._retry,
                jitter=random.random(),
                now=self._clock(),
            )
            if error.host:
                self._back_off(this, error)
        else:
            result = _accepted(receipt, seconds=time.monotonic() - started)
            if not this.over:
                self._failures = 0
        with writing(self._engine) as database:
            moved = ledger.finish(database, held, result, now=self._clock())
        if moved and result.spent:
            this.states[result.state] += 1
        log.log(
            logging.INFO if result.state is State.SENT else logging.WARNING,
            "Delivery %d: %s. %s",
            held.delivery_id,
            result.state,
            result.text,
            extra={"action": "deliver", "delivery": held.delivery_id, "state": str(result.state)},
        )

    def _back_off(self, this: _Pass, error: DeliveryError) -> None:
        if not this.over:
            self._failures += 1
        this.over = True
        self._problem = str(error)
        first, longest = _BACK_OFF
        wait = min(first * 2 ** (self._failures - 1), longest)
        self._not_before = time.monotonic() + wait
        log.error(
            "The mail server cannot be used, the next try is in %.0f s: %s",
            wait,
            error,
            extra={"action": "back-off", "relay": self._server.name},
        )


def _accepted(receipt: Receipt, *, seconds: float) -> Result:
    return Result(
        state=State.SENT,
        seconds=seconds,
        code=receipt.code,
        enhanced=enhanced_code(receipt.text),
        text=receipt.text,
    )
