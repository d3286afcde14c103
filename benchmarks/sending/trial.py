"""One way's run in one round, watched from outside: its sender, its database, its mail server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks import processes
from benchmarks.databases import work
from benchmarks.processes import Prepare, apart
from benchmarks.sinks import Sink


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What a sender says of its run."""

    mails: int
    rows: int = 0  # that it changed itself, in a database without a server


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The figures of a run; CPU in seconds, sizes in bytes."""

    mails: int
    seconds: float
    sender: float
    sink: float
    database: float = 0
    peak: int = 0  # memory of the sender's largest process
    rows: int = 0  # inserted, updated, deleted
    written: int = 0  # PostgreSQL: to its log; SQLite: to the disk

    @property
    def rate(self) -> float:
        """Mails a second."""
        return self.mails / self.seconds

    @property
    def busy(self) -> float:
        """How much of a core the mail server used, 0..1."""
        return self.sink / self.seconds


def attempt(sink: Sink, prepare: Prepare, *args: Any, url: str = "") -> Trial:
    """A run of the `Sent` that `prepare(*args)` yields, in a process of its own."""
    before = work(url)
    with apart(prepare, *args) as sender:
        watched = {"sender": sender.pid, "sink": sink.pid}
        if before.server is not None:
            watched["database"] = before.server
        used = {name: processes.cpu(pid) for name, pid in watched.items()}
        disk = processes.written(sender.pid)
        sender.start()
        sent, seconds = sender.wait()
        cpu = {name: processes.cpu(pid) - used[name] for name, pid in watched.items()}
        disk = processes.written(sender.pid) - disk
        peak = sender.peak
    after = work(url)
    return Trial(
        mails=sent.mails,
        seconds=seconds,
        peak=peak,
        rows=sent.rows or after.rows - before.rows,
        written=after.log - before.log if before.server is not None else disk,
        **cpu,
    )
