"""Places at which a process kills itself, and the marks that tell what it was at.

What the harness must know of the engine's inside is here, in `sender` and in `keeper`, and nowhere
else: they patch its seams in their own process alone; the product has no hooks.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from digest.delivery import Connection
from digest.delivery.wire import Wire
from digest.pipeline import planning
from digest.pipeline.bookkeeping import LocalBooks
from digest.pipeline.processes import RemoteBooks
from digest.storage import digests, workers

END = b"\r\n.\r\n"
CRASHES = (
    "attempt committed",
    "mid-body",
    "after the dot",
    "answered, not committed",
    "during rescue",
)
PLANNING_CRASH = "digests stored, not committed"
DOOMED = ".doomed"  # the file that says that one of a family has met its fate


class Mark:
    """Shared memory that outlives its process: what it is at, and when it killed itself."""

    COMMITTING, RESCUE, PLANNING = range(3)
    _SENDING = 3  # where the number of rows stands that a process without a ledger is sending
    _LAYOUT = struct.Struct("=4B4xd")  # and the moment of death, in monotonic seconds

    def __init__(self, path: Path) -> None:
        if not path.exists():
            begun = path.with_name(f".{path.name}")
            begun.write_bytes(bytes(self._LAYOUT.size))
            begun.rename(path)  # nobody finds half of it
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), self._LAYOUT.size)

    def is_at(self, what: int) -> bool:
        return self._memory[what] > 0

    @property
    def sending(self) -> int:
        return self._memory[self._SENDING]

    @sending.setter
    def sending(self, count: int) -> None:
        self._memory[self._SENDING] = count

    @property
    def died_at(self) -> float:
        """0 for one that did not kill itself."""
        moment: float = self._LAYOUT.unpack(self._memory[:])[-1]
        return moment

    @contextmanager
    def at(self, what: int) -> Iterator[None]:
        self._memory[what] += 1
        try:
            yield
        finally:
            self._memory[what] -= 1

    def die(self) -> None:
        """SIGKILL, here and now."""
        self._memory[8:] = struct.pack("=d", time.monotonic())
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()  # the signal takes a moment


class Fate:
    """Kills this process when it comes by the chosen place for the chosen time.

    Of a family of processes that share their orders it is one that dies: who makes the file first.
    """

    def __init__(self, mark: Mark, crash: str, passes: int, *, doomed: Path) -> None:
        self._mark, self._crash, self._left, self._doomed = mark, crash, passes, doomed

    def strikes(self, crash: str) -> bool:
        self._left -= crash == self._crash
        if crash != self._crash or self._left != 0:
            return False
        try:
            self._doomed.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def come_by(self, crash: str) -> None:
        if self.strikes(crash):
            self._mark.die()


def patch(owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    original = getattr(owner, name)
    setattr(owner, name, wraps(original)(wrap(original)))


def watch(fate: Fate, mark: Mark) -> None:
    """Put the crash points and the marks into the engine."""
    held: set[int] = set()

    def exchanges(original: Callable[..., Any]) -> Callable[..., Any]:
        def exchange(*arguments: Any) -> Any:
            with mark.at(Mark.COMMITTING):
                done = original(*arguments)
            if done.begun:
                fate.come_by("attempt committed")
            return done

        return exchange

    def exchanges_afar(original: Callable[..., Any]) -> Callable[..., Any]:
        def exchange(books: Any, results: Any, *arguments: Any) -> Any:
            with mark.at(Mark.COMMITTING):
                done = original(books, results, *arguments)
            held.difference_update(one.delivery_id for one in results)
            held.update(done.begun)
            mark.sending = len(held)
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
    patch(RemoteBooks, "exchange", exchanges_afar)
    patch(Wire, "write", writes)
    patch(Connection, "hand_over", hands_over)
    patch(workers, "rescue", rescues)


def watch_planning(fate: Fate, mark: Mark) -> None:
    """The same for planning."""

    def plans(original: Callable[..., Any]) -> Callable[..., Any]:
        def plan(*arguments: Any, **more: Any) -> Any:
            with mark.at(Mark.PLANNING):
                return original(*arguments, **more)

        return plan

    def freezes(original: Callable[..., Any]) -> Callable[..., Any]:
        def freeze(*arguments: Any, **more: Any) -> Any:
            frozen = original(*arguments, **more)
            if frozen:
                fate.come_by(PLANNING_CRASH)
            return frozen

        return freeze

    patch(planning, "_plan_batch", plans)
    patch(digests, "freeze", freezes)
