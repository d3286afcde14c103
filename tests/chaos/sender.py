"""The process that dies: the real engine, with places at which it kills itself.

What the harness must know of the engine's inside is here and nowhere else: `CRASHES` and `MUTANTS`
patch its seams in this process alone; the product has no hooks.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any

from sqlalchemy import Connection as Database
from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError

from digest import schema
from digest.delivery import Connection
from digest.delivery.wire import Wire
from digest.errors import Busy, LeaseLost, SettingsError
from digest.models import State
from digest.pipeline import bookkeeping, lease, ways
from digest.pipeline.bookkeeping import LocalBooks
from digest.pipeline.books import Policy
from digest.pipeline.delivering import Postman
from digest.storage import routes, workers
from digest.storage.database import open_database
from tests.post_office import PostOffice

END = b"\r\n.\r\n"
DATABASE_GONE = 75  # exit code (EX_TEMPFAIL): the database went away, start me again
COMMANDS_WAIT = 2.0  # seconds for an answer to a command
CONTENT_WAIT = 6.0  # seconds for an answer to a content
LEASE = timedelta(seconds=3)  # that a worker has without a heartbeat
IDLE = 0.05  # seconds between two looks at the ledger
SPEED = 100  # of the business clock: the wait for a broken server is a minute
RETRY = [timedelta(seconds=0.2 * SPEED), timedelta(seconds=0.5 * SPEED)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What one sender process is told."""

    name: str  # it says EHLO with it
    url: str
    port: int
    folder: str
    connections: int  # of all senders together
    policy: str  # keep | resend
    rate: float | None  # messages a second of all senders together
    began: float  # Unix seconds, when the business clock began
    skew: float  # seconds that this machine's clock is wrong
    mark: str  # the file that says what the process is at, and when it died
    crash: str = ""  # one of CRASHES: kills itself there ...
    passes: int = 1  # ... when it comes by for this time
    mutant: str = ""  # one of MUTANTS

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Mark:
    """Shared memory that outlives its process: what it is at, and when it killed itself."""

    NOTHING, COMMITTING, RESCUE = b"-", b"c", b"r"
    _DEATH = struct.Struct("=xd")  # monotonic seconds, after the byte that says what it is at

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(self.NOTHING + bytes(self._DEATH.size - 1))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), self._DEATH.size)

    @property
    def value(self) -> bytes:
        return self._memory[:1]

    @property
    def died_at(self) -> float:
        moment: float = self._DEATH.unpack(self._memory[:])[0]
        return moment

    @contextmanager
    def at(self, value: bytes) -> Iterator[None]:
        before, self._memory[:1] = self.value, value
        try:
            yield
        finally:
            self._memory[:1] = before

    def die(self) -> None:
        """SIGKILL, here and now."""
        self._memory[1:] = self._DEATH.pack(time.monotonic())[1:]
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()  # the signal takes a moment


class Fate:
    """Kills this process when it comes by the chosen place for the chosen time."""

    def __init__(self, mark: Mark, crash: str, passes: int) -> None:
        self._mark, self._crash, self._left = mark, crash, passes

    def strikes(self, crash: str) -> bool:
        self._left -= crash == self._crash
        return crash == self._crash and self._left == 0

    def come_by(self, crash: str) -> None:
        if self.strikes(crash):
            self._mark.die()


def patch(owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    original = getattr(owner, name)
    setattr(owner, name, wraps(original)(wrap(original)))


CRASHES = (
    "attempt committed",
    "mid-body",
    "after the dot",
    "answered, not committed",
    "during rescue",
)


def watch(fate: Fate, mark: Mark) -> None:
    """Put the crash points and the marks into the engine."""

    def exchanges(original: Callable[..., Any]) -> Callable[..., Any]:
        def exchange(*arguments: Any) -> Any:
            with mark.at(Mark.COMMITTING):
                done = original(*arguments)
            if done.begun:
                fate.come_by("attempt committed")
            return done

        return exchange

    def writes(original: Callable[..., Any]) -> Callable[..., Any]:
        def write(wire: Any, parts: Sequence[bytes], *, replies: int) -> None:
            sent = b"".join(parts)
            place = sent.find(END)
            if place >= 0 and fate.strikes("mid-body"):
                wire._transport.write(sent[: place // 2])
                mark.die()
            original(wire, parts, replies=replies)
            if place >= 0:
                fate.come_by("after the dot")

        return write

    def hands_over(original: Callable[..., Any]) -> Callable[..., Any]:
        async def hand_over(*arguments: Any) -> Any:
            receipt = await original(*arguments)
            fate.come_by("answered, not committed")
            return receipt

        return hand_over

    def rescues(original: Callable[..., Any]) -> Callable[..., Any]:
        def rescue(*arguments: Any, **more: Any) -> int:
            with mark.at(Mark.RESCUE):
                lost: int = original(*arguments, **more)
                if lost:
                    fate.come_by("during rescue")
            return lost

        return rescue

    patch(LocalBooks, "exchange", exchanges)
    patch(Wire, "write", writes)
    patch(Connection, "hand_over", hands_over)
    patch(workers, "rescue", rescues)


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
    return datetime.fromtimestamp(orders.began + passed + orders.skew, UTC)


def hurry() -> None:
    """Scale down what the engine measures by other clocks than that of the business."""
    bookkeeping.LEASE = LEASE  # type: ignore[attr-defined] # where it is read
    lease.BEAT = LEASE.total_seconds() / 6  # type: ignore[attr-defined] # where it is read
    lease._FRESH = LEASE.total_seconds() * 2 / 3
    ways.BACK_OFF = (0.02, 0.1)
    routes._LOWEST, routes._RECOVERY = 1000.0, timedelta(seconds=0.2)


def postman(orders: Orders) -> Postman:
    """The real engine, on the harness's ledger and to its sink."""
    resend = timedelta(seconds=1.2 * CONTENT_WAIT * SPEED) if orders.policy == "resend" else None
    return PostOffice(open_database(orders.url), Path(orders.folder)).postman(
        orders.port,
        connections=orders.connections,
        limits={"rate": orders.rate},
        server={"timeout": COMMANDS_WAIT, "final_timeout": CONTENT_WAIT},
        policy=Policy(retry=RETRY, resend_unknown=resend),
        clock=lambda: business_clock(orders),
    )


def run(orders: Orders) -> None:
    """Deliver until told to stop."""
    stopped = threading.Event()
    mark = Mark(Path(orders.mark))
    hurry()
    if orders.mutant:
        MUTANTS[orders.mutant]()
    watch(Fate(mark, orders.crash, orders.passes), mark)
    socket.getfqdn = lambda name="": orders.name
    sender = postman(orders)

    def stop(*_: object) -> None:
        stopped.set()
        sender.stop()

    def end_with_the_harness() -> None:
        sys.stdin.read()
        os._exit(1)

    signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=end_with_the_harness, daemon=True).start()
    while not stopped.wait(IDLE):
        try:
            sender.deliver()
        except (Busy, LeaseLost) as error:
            sys.stderr.write(f"{error}\n")


def main(arguments: list[str]) -> None:
    try:
        run(Orders(**json.loads(arguments[0])))
    except (SQLAlchemyError, SettingsError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(DATABASE_GONE)


if __name__ == "__main__":
    main(sys.argv[1:])
