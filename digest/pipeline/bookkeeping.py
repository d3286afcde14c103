"""A worker's side of the ledger: each method is one transaction, and says what it leaves true.

Claiming reads what is frozen afterwards, in another one.

A worker claims from one thread, keeps its lease from another, and does all else from a third.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from math import ceil
from pathlib import Path
from threading import Lock

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from digest.errors import InputError, LeaseLost
from digest.models import State
from digest.pipeline.books import (
    LEASE,
    Claimed,
    Drawn,
    Exchanged,
    Order,
    Policy,
    Relay,
    Standing,
    uptime,
)
from digest.pipeline.refusals import absorbed, is_refusal, learn
from digest.pipeline.routing import Routing, Ways
from digest.storage import bounces, breaker, claims, contents, house, ledger, routes, runs, workers
from digest.storage.breaker import BREAKER
from digest.storage.claims import Claim
from digest.storage.contents import NOTHING
from digest.storage.database import clock, exclusive, give_up_waiting, reading, writing
from digest.storage.ledger import Beginning, Result
from digest.storage.routes import Breaker, Route

log = logging.getLogger(__name__)

_LOOK = 1.0  # seconds between two looks for receiving providers that have open rows
_TENDING = timedelta(seconds=2)  # that rescuing waits for a row that another one has locked
_SILENT = timedelta(seconds=3)  # after which a heartbeat is not waited for
_SELDOM = 30.0  # seconds between two looks for what no time is left for, and the like
_TAKEN_FOR_DEAD = "Another worker took this one for dead; it stops."
_FEW = 8  # rows of one provider that are worth a statement


class LocalBooks:
    """The books of a worker that writes the ledger itself."""

    def __init__(
        self,
        engine: Engine,
        relays: Sequence[Relay],
        policy: Policy,
        *,
        clock: Callable[[], datetime],
        locks: Path | None = None,
        data_dir: Path | None = None,
        family: set[int] | None = None,
    ) -> None:
        self._engine, self._policy, self._clock = engine, policy, clock
        # On SQLite one process delivers, and holds the lock; these are its own workers.
        self._lock = locks if engine.dialect.name == "sqlite" else None
        self._family = set() if family is None else family
        self._held = ExitStack()
        # Who has to wait for SQLite's one lock looks at it now and then, and others come first.
        self._turn = Lock() if engine.dialect.name == "sqlite" else nullcontext()
        self._data_dir = data_dir
        self._routing = Routing(relays)
        self._line: Connection | None = None  # for statements that are a transaction each
        self._worker_id = 0
        # What was claimed, while its contents are not read yet.
        self._unread: tuple[Claimed, list[Claim], dict[str, Ways]] | None = None
        self._probing: dict[int, int] = {}  # deliveries that try a stopped route, and which
        self._turns: deque[str] = deque()  # receiving providers that may have due rows
        self._turns_until = 0.0

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._turn, writing(self._engine) as connection:
            yield connection

    def is_needed(self) -> bool:
        now, wait = self._clock(), self._policy.resend_unknown
        with reading(self._engine) as connection:
            return (
                claims.is_any(connection, now=now)
                or (wait is not None and ledger.is_unknown(connection, before=now - wait, now=now))
                or bool(self._dead(connection))
            )

    def enter(self) -> Standing:
        if self._data_dir is not None:
            house.refuse_if_behind(self._engine, self._data_dir)
        if self._lock is not None:
            self._held.enter_context(exclusive(self._engine, "deliver", self._lock))
        try:
            return self._enter()
        except BaseException:
            self._held.close()
            raise

    def _enter(self) -> Standing:
        self._entered_at = self._clock()
        self._unread = None
        self._tended = self._turns_until = -math.inf
        self._tend()
        with self._writing() as connection:
            self._worker_id = workers.enter(connection)
            self._family.add(self._worker_id)
            self._routing.enter(connection)
            standing = self._stand(connection)
        self._rise()
        return standing

    def beat(self) -> Standing:
        with self._writing() as connection:
            if not workers.beat(connection, self._worker_id):
                raise LeaseLost(_TAKEN_FOR_DEAD)
            standing = self._stand(connection)
        self._rise()
        self._tend()
        return standing

    def _stand(self, connection: Connection) -> Standing:
        found = workers.present(connection)
        ids = [one.id for one in found]
        rank = ids.index(self._worker_id)
        # Who was there before makes room at its next heartbeat; who is silent may be dead.
        now, entered = clock(connection), found[rank].started_at
        known = all(
            one.heartbeat_at > entered or now - one.heartbeat_at > _SILENT for one in found[:rank]
        )
        return Standing(rank=rank, workers=len(ids), known=known)

    def _rise(self) -> None:
        """Note how far the database has come, also beside it, so that an older one is known.

        All workers share that row, so it is not waited for: a worker that stands still would hold
        up the heartbeats of all others. And a data directory that is full stops no mail.
        """
        if self._data_dir is None:
            return
        try:
            house.advance(self._engine, self._data_dir)
        except (OperationalError, OSError, InputError) as error:
            log.error(
                "The ledger's mark could not be noted: %s",
                str(error).partition("\n")[0],
                extra={"action": "mark"},
            )

    def _dead(self, connection: Connection) -> list[int]:
        if connection.dialect.name == "postgresql":
            return workers.overdue(connection, lease=LEASE)
        # Whoever delivers holds the lock: all others on the list are dead.
        return [one for one in workers.alive(connection) if one not in self._family]

    def _tend(self) -> None:
        """Settle what nobody holds; what another holds up for long is left for another time."""
        now = self._clock()
        try:
            with self._writing() as connection:
                give_up_waiting(connection, after=_TENDING)
                lost = workers.rescue(connection, self._dead(connection), now=now)
                seldom = time.monotonic() - self._tended >= _SELDOM
                if seldom:
                    self._tended = time.monotonic()
                    ledger.expire(connection, now=now)
                    if (wait := self._policy.resend_unknown) is not None:
                        ledger.resend_unknown(connection, before=now - wait, now=now)
            if seldom:
                self._judge(now)
        except OperationalError as error:
            log.warning(
                "The ledger could not be tended: %s",
                str(error.orig).partition("\n")[0],
                extra={"action": "rescue"},
            )
            return
        if lost:
            log.error(
                "%d deliveries are unknown: a process died while it sent them.",
                lost,
                extra={"action": "rescue", "unknown": lost},
            )

    def _judge(self, now: datetime) -> None:
        """Believe, or not, what was said of addresses; some at a time, for others write too."""
        found = True
        while found:
            with self._writing() as connection:
                give_up_waiting(connection, after=_TENDING)
                found = bounces.judge(connection, self._policy.caution, now=now) > 0

    def leave(self, states: Mapping[State, int], problem: str) -> None:
        self._hang_up()
        with self._writing() as connection:
            # What it did begin and has no answer to is as unknown as if it had died.
            now = self._clock()
            for route_id in self._probing.values():  # another may try the way at once
                breaker.drop_probe(connection, route_id, now=now)
            lost = workers.leave(connection, self._worker_id, now=now)
            if states or problem:
                runs.remember(
                    connection,
                    "deliver",
                    started_at=self._entered_at,
                    seconds=(now - self._entered_at).total_seconds(),
                    counts={str(state): count for state, count in states.items()},
                    error=problem,
                )
        self._probing.clear()
        try:
            self._judge(now)
        except OperationalError as error:
            log.warning(
                "Bad addresses are judged another time: %s",
                str(error.orig).partition("\n")[0],
                extra={"action": "judge"},
            )
        self._family.discard(self._worker_id)
        self._held.close()
        if lost:
            log.error(
                "%d deliveries are unknown: they were cut off.",
                lost,
                extra={"action": "leave", "unknown": lost},
            )

    # -------------------------------------------------------------- claiming

    def claim(self, relay: str, room: int, held: Mapping[str, int], standing: Standing) -> Claimed:
        if self._unread is None:
            taken: list[Claim] = []
            with self._writing() as connection:
                if not workers.hold(connection, self._worker_id):
                    raise LeaseLost(_TAKEN_FOR_DEAD)
                claimed, alone = self._claim(
                    connection, relay, taken, room=room, held=held, standing=standing
                )
                providers = {one.provider for one in taken}
                ways = self._routing.ways_of(connection, relay, providers, alone=alone)
            if not taken:
                return claimed
            # Whoever asks again, because what follows failed, is given the same.
            self._unread = claimed, taken, ways
        claimed, taken, ways = self._unread
        # It takes longer than claiming, and other threads may write meanwhile.
        with reading(self._engine) as connection:
            found = contents.frozen(connection, [one.delivery_id for one in taken])
        self._unread = None
        orders = [
            Order(one, found.get(one.delivery_id, NOTHING), *ways[one.provider]) for one in taken
        ]
        return replace(claimed, orders=orders)

    def _claim(
        self,
        connection: Connection,
        relay: str,
        taken: list[Claim],
        *,
        room: int,
        held: Mapping[str, int],
        standing: Standing,
    ) -> tuple[Claimed, Collection[str]]:
        """Add to what is taken; what keeps others waiting, and whose are to try a stopped way."""
        now = self._clock()
        special = self._routing.look(connection, relay)
        whole = special.get("")
        if whole is not None and whole.state is not Breaker.CLOSED:
            self._probe_relay(connection, special, taken, now=now)
            return Claimed(stopped=("",), closed=True), {one.provider for one in taken}
        stopped = [name for name, route in special.items() if route.state is not Breaker.CLOSED]
        limit = self._routing.room(relay, "", standing)
        if not limit:
            return Claimed(stopped=stopped, closed=True), ()
        room = min(room, limit - sum(held.values()))
        taken += claims.claim_account_mail(
            connection, self._worker_id, now=now, limit=max(room, 1), stopped=stopped
        )
        alone = [
            provider
            for provider in sorted(stopped)
            if self._probe(connection, special[provider], provider, taken, now=now)
        ]
        claim_in_turn = partial(
            self._claim_in_turn,
            connection,
            relay,
            taken,
            room=room,
            held=held,
            standing=standing,
            stopped=stopped,
            now=now,
        )
        more = claim_in_turn()
        if not (taken or more):  # what fell due, or was let go, since the last look
            self._turns_until = -math.inf
            more = claim_in_turn()
        return Claimed(more=more, stopped=stopped), alone

    def _claim_in_turn(
        self,
        connection: Connection,
        relay: str,
        taken: list[Claim],
        *,
        room: int,
        held: Mapping[str, int],
        standing: Standing,
        stopped: Collection[str],
        now: datetime,
    ) -> bool:
        """Claim of one receiving provider after another, so that a long list delays no short one.

        Returns whether there may be more for another time.
        """
        if (since := time.monotonic()) >= self._turns_until:
            due = claims.providers(connection, now=now)
            known = set(self._turns)
            self._turns.extend(name for name in due if name not in known)
            # Where there are very many providers looking takes long, and little of the time.
            took = time.monotonic() - since
            self._turns_until = since + max(_LOOK, 20 * took)
        left, more = len(self._turns), False
        while left and (missing := room - len(taken)) > 0:
            quotas: dict[str, int] = {}
            share = max(_FEW, ceil(missing / left))
            while left and sum(quotas.values()) < missing:
                left -= 1
                provider = self._turns.popleft()
                if provider in stopped:
                    continue
                limit = self._routing.room(relay, provider, standing)
                quota = min(share, missing, limit - held.get(provider, 0))
                if quota > 0:
                    quotas[provider] = quota
                elif limit:
                    self._turns.append(provider)
                    more = True
            found = claims.claim(connection, self._worker_id, quotas, now=now)
            taken += found
            filled = Counter(one.provider for one in found)
            self._turns.extend(name for name, quota in quotas.items() if filled[name] == quota)
        return more or bool(self._turns)

    def _probe(
        self,
        connection: Connection,
        stopped: Route,
        provider: str,
        taken: list[Claim],
        *,
        now: datetime,
    ) -> bool:
        """Claim one message of a provider to try a stopped route, when it is time for it."""
        if stopped.probe_at is None or stopped.probe_at > now:
            return False
        # In turn one that was refused before: a server may take only what it has seen already.
        again = stopped.probes % 2 == 1
        found = again and claims.claim_again(
            connection, self._worker_id, provider, reason=BREAKER, now=now
        )
        found = found or claims.claim(connection, self._worker_id, {provider: 1}, now=now)
        for one in found:
            if not breaker.start_probe(connection, stopped, now=now):
                workers.give_back(connection, self._worker_id, [one.delivery_id])
                return False
            self._probing[one.delivery_id] = stopped.id
        taken += found
        return bool(found)

    def _probe_relay(
        self,
        connection: Connection,
        special: Mapping[str, Route],
        taken: list[Claim],
        *,
        now: datetime,
    ) -> None:
        """Claim one message for a relay that was stopped, each time of another provider."""
        whole = special[""]
        if whole.probe_at is None or whole.probe_at > now:
            return
        due = claims.providers(connection, now=now)
        well = [
            one for one in due if one not in special or special[one].state is Breaker.CLOSED
        ] or due
        turn = whole.probes % max(1, len(well))
        for provider in well[turn:] + well[:turn]:
            if self._probe(connection, whole, provider, taken, now=now):
                break

    # -------------------------------------------------------------- sending

    def draw(self, wanted: Mapping[int, int], ahead: float) -> dict[int, Drawn]:
        found = {}
        with self._writing() as connection:
            # In one order, so that two workers never wait for one another.
            for route_id, count in sorted(wanted.items()):
                allowance = routes.draw(
                    connection,
                    route_id,
                    self._routing.limits_of(route_id),
                    wanted=count,
                    ahead=timedelta(seconds=ahead),
                )
                if allowance is not None:
                    # What the database's clock said, it said a moment ago.
                    origin = uptime() - allowance.drawn_at.timestamp()
                    found[route_id] = Drawn(
                        count=allowance.count,
                        since=origin + allowance.since.timestamp(),
                        until=origin + allowance.until.timestamp(),
                    )
        return found

    def refund(self, unspent: Mapping[int, int]) -> None:
        with self._writing() as connection:
            for route_id, count in sorted(unspent.items()):
                routes.refund(connection, route_id, count)

    def exchange(
        self, results: Sequence[Result], beginnings: Sequence[Beginning], returned: Collection[int]
    ) -> Exchanged:
        refused = any(map(is_refusal, results))
        if not (refused or self._probing or returned) and self._exchange_all(results, beginnings):
            return Exchanged(
                begun={one.delivery_id for one in beginnings},
                moved={one.delivery_id: one.state for one in results},
            )
        with self._writing() as connection:
            now = self._clock()
            if refused or self._probing:
                # Before anything is read of these ways: another worker may be stopping them.
                routes.lock(connection, self._concerned(results))
                results = absorbed(connection, self._routing, results)
            moved = ledger.finish(connection, self._worker_id, results, now=now)
            states = {one.delivery_id: one.state for one in results if one.delivery_id in moved}
            stopped: list[Route] = []
            if refused or self._probing:
                counted = [one for one in results if one.delivery_id in moved]
                stopped, waiting = learn(
                    connection,
                    self._routing,
                    counted,
                    self._probing,
                    self._policy.caution,
                    now=now,
                )
                states |= dict.fromkeys(states.keys() & waiting, State.DEFERRED)
            begun = ledger.begin(connection, self._worker_id, beginnings, now=now)
            if returned:
                workers.give_back(connection, self._worker_id, returned)
            left = {one.delivery_id for one in beginnings} - begun
            for delivery_id in self._probing.keys() & left.union(returned):
                breaker.drop_probe(connection, self._probing[delivery_id], now=now)
        for delivery_id in left.union(returned, (one.delivery_id for one in results)):
            self._probing.pop(delivery_id, None)
        for route in stopped:
            log.error(
                "%s is stopped: %s.",
                " to ".join(filter(None, (route.relay, route.provider))),
                route.reason,
                extra={"action": "breaker", "relay": route.relay, "provider": route.provider},
            )
        return Exchanged(begun=begun, moved=states, stopped=bool(stopped))

    def _concerned(self, results: Sequence[Result]) -> set[int]:
        """The routes that these results may stop or open, and the relays' own."""
        found = set(self._probing.values())
        for one in results:
            if is_refusal(one):
                found |= {one.route_id, self._routing.whole(one.route_id)}
        return found

    def _exchange_all(self, results: Sequence[Result], beginnings: Sequence[Beginning]) -> bool:
        """The usual exchange, where one statement can be all of it; whether everything moved.

        A transaction of several is as many times for other threads to come first.
        """
        if self._engine.dialect.name != "postgresql":
            return False
        if self._line is None:
            connection = self._engine.connect()
            self._line = connection.execution_options(isolation_level="AUTOCOMMIT")
        try:
            return ledger.exchange_all(
                self._line, self._worker_id, results, beginnings, now=self._clock()
            )
        except BaseException:  # whatever state it is in now
            self._line.invalidate()
            self._hang_up()
            raise

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
