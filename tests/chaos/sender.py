"""The process that dies: the real engine on digests that lie ready, alone or with helpers.

On SQLite several processes send: this one writes the ledger, the others compose and send, as
`digest deliver --processes` has it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

from sqlalchemy import Connection as Database
from sqlalchemy import Engine, update
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from digest import schema
from digest.delivery import Server
from digest.errors import Busy, LeaseLost, SettingsError
from digest.models import Limits, State
from digest.pipeline import bookkeeping, lease, ways
from digest.pipeline.bookkeeping import LocalBooks
from digest.pipeline.books import Policy, Relay
from digest.pipeline.delivering import Postman
from digest.pipeline.processes import Crew, RemoteBooks
from digest.rendering import Assembler
from digest.storage import routes, workers
from digest.storage.database import exclusive, open_database
from tests.chaos.doom import DOOMED, Fate, Mark, patch, watch

DATABASE_GONE = 75  # exit code (EX_TEMPFAIL): the database went away, start me again
COMMANDS_WAIT = 2.0  # seconds for an answer to a command
CONTENT_WAIT = 6.0  # seconds for an answer to a content
LEASE = timedelta(seconds=3)  # that a worker has without a heartbeat
IDLE = 0.05  # seconds between two looks at the ledger
SPEED = 100  # of the business clock: the wait for a broken server is a minute
_LIBC, _PR_SET_PDEATHSIG = ctypes.CDLL(None), 1  # prctl(2)
RETRY = [timedelta(seconds=0.2 * SPEED), timedelta(seconds=0.5 * SPEED)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What one sender process is told."""

    name: str  # it says EHLO with it
    url: str
    port: int
    folder: str
    connections: int  # of all senders together
    processes: int  # that send; with more than one this process keeps their books
    policy: str  # keep | resend
    rate: float | None  # messages a second of all senders together
    began: float  # Unix seconds, when the business clock began
    skew: float  # seconds that this machine's clock is wrong
    steps_at: float | None  # monotonic seconds, when the business clock ...
    step_back: float  # ... goes back by so many of its seconds
    mark: str  # the file that says what the process is at, and when it died
    crash: str = ""  # one of CRASHES: kills itself there, or one of its helpers does, ...
    passes: int = 1  # ... when it comes by for this time
    mutant: str = ""  # one of MUTANTS

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def _record_after_sending() -> None:
    """A sender that notes its attempt together with the result."""

    def exchanges(original: Callable[..., Any]) -> Callable[..., Any]:
        def exchange(books: LocalBooks, results: Any, beginnings: Any, returned: Any) -> Any:
            done = original(books, results, [], returned)
            return replace(done, begun={one.delivery_id for one in beginnings})

        return exchange

    patch(LocalBooks, "exchange", exchanges)


def _put_back() -> None:
    """A sender that takes what was being sent for unsent when it starts."""

    def rescues(original: Callable[..., Any]) -> Callable[..., Any]:
        def rescue(database: Database, worker_ids: Collection[int], *, now: datetime) -> Any:
            table = schema.delivery
            database.execute(
                update(table)
                .where(table.c.state == State.SENDING, table.c.worker_id.in_(worker_ids))
                .values(state=State.CLAIMED)
            )
            return original(database, worker_ids, now=now)

        return rescue

    patch(workers, "rescue", rescues)


MUTANTS: dict[str, Callable[[], None]] = {
    "attempt recorded after sending": _record_after_sending,
    "sending put back at start": _put_back,
}


def business_clock(orders: Orders) -> datetime:
    """The time that digests are due by: it runs fast, so that a minute's wait is short."""
    passed = (time.time() - orders.began) * SPEED
    if orders.steps_at is not None and time.monotonic() >= orders.steps_at:
        passed -= orders.step_back
    return datetime.fromtimestamp(orders.began + passed + orders.skew, UTC)


def hurry() -> None:
    """Scale down what the engine measures by other clocks than that of the business."""
    bookkeeping.LEASE = LEASE  # type: ignore[attr-defined] # where it is read
    lease.BEAT = LEASE.total_seconds() / 6  # type: ignore[attr-defined] # where it is read
    lease._FRESH = LEASE.total_seconds() * 2 / 3
    ways.BACK_OFF = (0.02, 0.1)
    routes._LOWEST, routes._RECOVERY = 1000.0, timedelta(seconds=0.2)


def policy(orders: Orders) -> Policy:
    resend = timedelta(seconds=1.2 * CONTENT_WAIT * SPEED) if orders.policy == "resend" else None
    return Policy(retry=RETRY, resend_unknown=resend)


def postman(orders: Orders, pipe: Pipe | None = None) -> Postman:
    """The real engine, on the harness's ledger and to its sink; with a pipe its books lie there."""
    engine = open_database(orders.url)
    books = RemoteBooks(pipe) if pipe else local_books(orders, engine)
    return Postman(
        engine,
        books,
        [relay(orders)],
        composer=Assembler(),
        policy=policy(orders),
        clock=partial(business_clock, orders),
    )


def relay(orders: Orders) -> Relay:
    server = Server(
        host="127.0.0.1",
        port=orders.port,
        tls="none",
        timeout=COMMANDS_WAIT,
        final_timeout=CONTENT_WAIT,
    )
    return Relay(server=server, limits=Limits(connections=orders.connections, rate=orders.rate))


def local_books(
    orders: Orders, engine: Engine, *, locks: bool = True, family: set[int] | None = None
) -> LocalBooks:
    return LocalBooks(
        engine,
        [relay(orders)],
        policy(orders),
        clock=partial(business_clock, orders),
        locks=Path(orders.folder) / "locks" if locks else None,
        family=family,
    )


def crew(orders: Orders) -> Crew:
    """Several senders whose books this process keeps, put together as Services does it."""
    engine = open_database(orders.url)
    books = partial(local_books, orders, engine, locks=False, family=set())
    return Crew(
        partial(helper, orders),
        processes=orders.processes,
        books=books,
        is_needed=books().is_needed,
        lock=partial(exclusive, engine, "deliver", Path(orders.folder) / "locks"),
    )


def helper(orders: Orders, pipe: Pipe | None) -> Postman:
    """One of the senders, in a process of its own."""
    prepare(orders, name=f"{os.getpid()}.{orders.name}", mark=f"{orders.mark}.{os.getpid()}")
    return postman(orders, pipe)


def prepare(orders: Orders, *, name: str, mark: str) -> None:
    """Make this process one that can be watched, and dies where it was told to."""
    hurry()
    go_on_alone()  # helpers have another parent than the harness
    shown = Mark(Path(mark))
    watch(Fate(shown, orders.crash, orders.passes, doomed=Path(orders.mark + DOOMED)), shown)
    announce(name)


def go_on_alone() -> None:
    """Go on when the parent dies: who was stopped, to be killed next, would be left for ever."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)


def announce(own: str) -> None:
    """Say EHLO with this name."""
    socket.getfqdn = lambda name="": own


def run(orders: Orders) -> None:
    """Deliver until told to stop."""
    stopped = threading.Event()
    if orders.mutant:
        MUTANTS[orders.mutant]()
    prepare(orders, name=orders.name, mark=orders.mark)
    sender = crew(orders) if orders.processes > 1 else postman(orders)

    def stop(*_: object) -> None:
        stopped.set()
        sender.stop()

    signal.signal(signal.SIGTERM, stop)
    end_with_the_harness()
    while not stopped.wait(IDLE):
        try:
            sender.deliver()
        except (Busy, LeaseLost) as error:
            sys.stderr.write(f"{error}\n")


def end_with_the_harness() -> None:
    """Whose pipe this process's input is."""

    def listen() -> None:
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=listen, daemon=True).start()


def _is_away(error: BaseException | None) -> bool:
    """Whether the database could not be reached: all else is a fault of ours."""
    return isinstance(error, OperationalError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )


def main(arguments: list[str]) -> None:
    try:
        run(Orders(**json.loads(arguments[0])))
    except (SQLAlchemyError, SettingsError) as error:
        if not _is_away(error.__cause__ if isinstance(error, SettingsError) else error):
            raise
        sys.stderr.write(f"{error}\n")
        sys.exit(DATABASE_GONE)


if __name__ == "__main__":
    main(sys.argv[1:])
