"""Several processes that send. On SQLite one writes the ledger, and the others ask it to.

Each process is a worker of its own. Whoever sends on SQLite composes and speaks to the mail
server; its books are kept by the process that started it, over a pipe. When the keeper of the
books is gone nothing more could be noted, so its senders end at once; when a sender is gone, the
keeper settles what it held.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from multiprocessing.connection import Connection
from typing import Any

from digest.models import State
from digest.pipeline.books import Books, Claimed, Drawn, Exchanged, Standing
from digest.pipeline.delivering import Postman
from digest.pipeline.sending import Delivered
from digest.storage.ledger import Beginning, Result

# "fork" would copy locks and connections to the database in whatever state they are.
_SPAWN = multiprocessing.get_context("spawn")


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
        self._signals = 0  # that were sent to end
        self._wanted = 0

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
        turn, ends, crew = threading.Lock(), list[Delivered](), []
        for _ in range(self._processes):
            ours, theirs = _SPAWN.Pipe()
            process = _SPAWN.Process(
                target=_send, args=(self._make, theirs, self._books is not None, seconds)
            )
            process.start()
            theirs.close()
            books = self._books() if self._books else None
            keeper = threading.Thread(target=_keep, args=(ours, books, turn, ends))
            keeper.start()
            crew.append((process, keeper))
        told = 0
        for process, keeper in crew:
            while keeper.is_alive():
                for _ in range(told, self._wanted):
                    _signal([one for one, _ in crew])
                    told += 1
                keeper.join(0.1)
            process.join()
        states: Counter[State] = Counter()
        for end in ends:
            states.update(end.states)
        lost = len(crew) - len(ends)
        return Delivered(
            states=dict(states),
            problem=next(
                (end.problem for end in ends if end.problem),
                f"{lost} of {len(crew)} sending processes died." if lost else "",
            ),
            stopped=any(end.stopped for end in ends),
            hard=any(end.hard for end in ends),
        )


def _signal(processes: Sequence[multiprocessing.process.BaseProcess]) -> None:
    for process in processes:
        if process.pid is not None and process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)


def _send(
    make: Callable[[Connection | None], Postman],
    pipe: Connection,
    remote: bool,
    seconds: float | None,
) -> None:
    """The life of one sender."""
    # The terminal's interrupt reaches all; the one that started them passes it on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    postman = make(pipe if remote else None)

    def stop(_number: int, _frame: object) -> None:
        postman.halt() if postman.is_stopped else postman.stop()

    signal.signal(signal.SIGTERM, stop)
    pipe.send(("done", (postman.deliver(seconds),)))


def _keep(
    pipe: Connection, books: Books | None, lock: threading.Lock, ends: list[Delivered]
) -> None:
    """Answer one sender until it is done, or gone."""
    entered = False
    while True:
        try:
            question, details = pipe.recv()
        except (EOFError, OSError):
            break
        if question == "done":
            ends.append(details[0])
            return
        assert books is not None
        try:
            with lock:
                answer = (True, getattr(books, question)(*details))
        except Exception as error:  # noqa: BLE001 - raised by the one that asked
            answer = (False, error)
        entered = (entered or question == "enter") and question != "leave"
        with suppress(OSError):
            pipe.send(answer)
    if entered and books is not None:
        with lock:
            books.leave({}, "A sending process died.")
