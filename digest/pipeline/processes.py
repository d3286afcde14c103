"""Several processes that send. On SQLite one writes the ledger, and the others ask it to.

Each process is a worker of its own. Whoever sends on SQLite composes and speaks to the mail
server; its books are kept by the process that started it, over a pipe. When the keeper of the
books is gone nothing more could be noted, so its senders end at once; when a sender is gone, the
keeper settles what it held.

Signals are for the process that was started by hand alone. systemd, timeout(1) and a terminal send
theirs to all of a group, so that those it started would hear each one twice, and two mean "at
once". They hear none, and are told over a pipe of its own, whose end tells them that the first
one is gone: where each keeps its own books they then finish what is under way.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from sqlalchemy.exc import OperationalError

from digest.errors import DigestError
from digest.models import State
from digest.pipeline.books import Books, Claimed, Drawn, Exchanged, Standing
from digest.pipeline.delivering import Postman
from digest.pipeline.sending import Delivered
from digest.storage.ledger import Beginning, Result

log = logging.getLogger(__name__)

# "fork" would copy locks and connections to the database in whatever state they are.
_SPAWN = multiprocessing.get_context("spawn")
# What asks a process to end: systemd and containers, Ctrl-C, a terminal that is closed.
_ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# What a person or the surroundings can mend: said by the one that was started by hand, as if it
# had been alone. Anything else is a bug of ours, and loud where it is.
_MENDABLE = (DigestError, OSError, OperationalError)


@contextmanager
def deaf() -> Iterator[None]:
    """Whoever is started in the block never hears a signal that asks to end.

    Blocked and not ignored, because that holds from the first instant of another program and for
    all its threads, whatever handlers are set there.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ASKING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class RemoteBooks:
    """The books of a sender, kept by the process at the other end of a pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def _ask(self, question: str, *details: object) -> Any:
        with self._lock:
            try:
                self._pipe.send((question, details))
                good, answer = self._pipe.recv()
            except (EOFError, OSError):
                # What is on the wire now could not be noted any more, whatever the answer.
                os._exit(os.EX_UNAVAILABLE)
        if good:
            return answer
        raise answer

    def is_needed(self) -> bool:
        return bool(self._ask("is_needed"))

    def enter(self) -> Standing:
        found: Standing = self._ask("enter")
        return found

    def beat(self) -> Standing:
        found: Standing = self._ask("beat")
        return found

    def claim(self, relay: str, room: int, held: Mapping[str, int], standing: Standing) -> Claimed:
        found: Claimed = self._ask("claim", relay, room, held, standing)
        return found

    def exchange(
        self, results: Sequence[Result], beginnings: Sequence[Beginning], returned: Collection[int]
    ) -> Exchanged:
        found: Exchanged = self._ask("exchange", results, beginnings, returned)
        return found

    def draw(self, wanted: Mapping[int, int], ahead: float) -> dict[int, Drawn]:
        found: dict[int, Drawn] = self._ask("draw", wanted, ahead)
        return found

    def refund(self, unspent: Mapping[int, int]) -> None:
        self._ask("refund", unspent)

    def leave(self, states: Mapping[State, int], problem: str) -> None:
        self._ask("leave", states, problem)


class Crew:
    """Several senders, as one Postman; each pass starts them anew.

    `make` is called in each process, with the pipe to its books or None, and must be importable
    there: functools.partial of a function, with arguments that can be pickled. `books` makes
    those of one sender, to be kept here; None lets each keep its own.
    """

    def __init__(
        self,
        make: Callable[[Connection | None], Postman],
        *,
        processes: int,
        books: Callable[[], Books] | None,
        is_needed: Callable[[], bool],
        lock: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._make, self._processes, self._books = make, processes, books
        self._is_needed, self._lock = is_needed, lock
        self._wanted = 0  # 1: to end; 2: at once

    def stop(self) -> None:
        """Claim nothing more; what is under way ends. Safe to call from a signal handler."""
        self._wanted = max(self._wanted, 1)

    def halt(self) -> None:
        """End at once: what is under way is unknown. Safe to call from a signal handler."""
        self._wanted = 2

    @property
    def is_stopped(self) -> bool:
        """Whether it was told to end."""
        return self._wanted > 0

    def deliver(self, seconds: float | None = None) -> Delivered:
        """Send all that is due now, or what can be sent in so many seconds; see Postman."""
        if self.is_stopped or not self._is_needed():
            return Delivered(stopped=self.is_stopped)
        with self._lock():
            return self._deliver(seconds)

    def _deliver(self, seconds: float | None) -> Delivered:
        ended, turn, crew = _Ended(), threading.Lock(), []
        resource_tracker.ensure_running()  # started later it would end the deafness
        for _ in range(self._processes):
            ours, theirs = _SPAWN.Pipe()
            heard, told = _SPAWN.Pipe(duplex=False)
            process = _SPAWN.Process(
                target=_send, args=(self._make, theirs, heard, self._books is not None, seconds)
            )
            with deaf():
                process.start()
            theirs.close()
            heard.close()
            books = self._books() if self._books else None
            keeper = threading.Thread(target=_keep, args=(ours, books, turn, ended))
            keeper.start()
            crew.append((process, keeper, told))
        passed_on = 0
        while busy := [keeper for _, keeper, _ in crew if keeper.is_alive()]:
            if passed_on < (wanted := self._wanted):
                passed_on = wanted
                for _, _, told in crew:
                    with suppress(OSError):  # one that is gone
                        told.send(wanted)
            busy[0].join(0.1)
        for process, _, _ in crew:
            process.join()
        if ended.errors:
            raise ended.errors[0]
        states: Counter[State] = Counter()
        for one in ended.well:
            states.update(one.states)
        lost = len(crew) - len(ended.well)
        return Delivered(
            states=dict(states),
            problem=next((one.problem for one in ended.well if one.problem), ""),
            died=f"{lost} of {len(crew)} sending processes" if lost else "",
            stopped=any(one.stopped for one in ended.well),
            hard=any(one.hard for one in ended.well),
        )


@dataclass(slots=True, kw_only=True)
class _Ended:
    """How the senders ended; one that died is not among them."""

    well: list[Delivered] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)


def _send(
    make: Callable[[Connection | None], Postman],
    pipe: Connection,
    heard: Connection,
    remote: bool,
    seconds: float | None,
) -> None:
    """The life of one sender."""
    last: tuple[str, tuple[object]]
    try:
        postman = make(pipe if remote else None)
        threading.Thread(target=_obey, args=(postman, heard), daemon=True).start()
        last = ("done", (postman.deliver(seconds),))
    except _MENDABLE as error:
        last = ("raised", (error,))
    with suppress(BrokenPipeError):  # nobody is there to be told
        pipe.send(last)


def _obey(postman: Postman, heard: Connection) -> None:
    """Do what the process that started this one wants, and when it is gone, end."""
    while True:
        try:
            wanted = heard.recv()
        except (EOFError, OSError):
            postman.stop()
            log.warning(
                "The process that started this one is gone; what is under way ends.",
                extra={"action": "stop"},
            )
            return
        postman.halt() if wanted > 1 else postman.stop()


def _keep(pipe: Connection, books: Books | None, lock: threading.Lock, ended: _Ended) -> None:
    """Answer one sender until it is done, or gone."""
    entered = False
    while True:
        try:
            question, details = pipe.recv()
        except (EOFError, OSError):
            break
        if question == "done":
            ended.well.append(details[0])
            return
        if question == "raised":
            ended.errors.append(details[0])
            return
        assert books is not None
        try:
            with lock:
                answer = (True, getattr(books, question)(*details))
        except Exception as error:  # noqa: BLE001 - raised by the one that asked
            answer = (False, error)
        else:
            entered = (entered or question == "enter") and question != "leave"
        with suppress(OSError):
            pipe.send(answer)
    if entered and books is not None:
        with lock:
            books.leave({}, "A sending process died.")
