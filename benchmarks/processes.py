"""Work in a process of its own, and what processes use, read from outside (Linux: /proc).

A process of its own has its own peak of memory and its own CPU time; elsewhere than on Linux these
figures are missing.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_LOOK = 0.5  # seconds between two looks at the memory

# What makes ready and yields the work that is to be measured; it must be importable by name.
Prepare = Callable[..., AbstractContextManager[Callable[[], Any]]]


@dataclass(slots=True)
class Apart:
    """A process that waits for `start`, works, and stays until it was looked at."""

    process: Any  # typeshed has one class for each way of starting
    pipe: Connection
    peak: int = field(default=0)  # bytes, of the largest process in its tree

    @property
    def pid(self) -> int:
        found: int = self.process.pid
        return found

    def start(self) -> None:
        self.pipe.send(None)

    def wait(self) -> tuple[Any, float]:
        """What the work returned, and the seconds that it took."""
        while not self.pipe.poll(_LOOK):
            self._look()
        result, seconds = self.pipe.recv()
        self._look()
        return result, seconds

    def _look(self) -> None:
        self.peak = max([self.peak, *map(_peak, tree(self.pid))])


@contextmanager
def apart(prepare: Prepare, *args: Any) -> Iterator[Apart]:
    """A new process that has made ready what `prepare(*args)` yields."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, prepare, args))
    process.start()
    theirs.close()
    try:
        ours.recv()
        yield Apart(process, ours)
    except EOFError as error:
        raise RuntimeError("A process of the benchmark ended early; it said why above.") from error
    except BaseException:
        process.terminate()  # its work may never end by itself
        raise
    finally:
        ours.close()
        process.join()


def _serve(pipe: Connection, prepare: Prepare, args: tuple[Any, ...]) -> None:
    with prepare(*args) as work:
        pipe.send(None)
        pipe.recv()
        started = time.perf_counter()
        result = work()
        pipe.send((result, time.perf_counter() - started))
    try:
        pipe.recv()
    except EOFError:
        return  # looked at


def tree(root: int) -> list[int]:
    """A process and all below it that still run."""
    found = [root]
    for pid in found:
        tasks = PROC / str(pid) / "task"
        with suppress(FileNotFoundError, ProcessLookupError):  # one that has ended meanwhile
            for task in tasks.iterdir():
                found += map(int, _read(task / "children").split())
    return found


def parent(pid: int) -> int:
    """The process that started it."""
    return int(_stat(pid)[1])


def cpu(root: int) -> float:
    """Seconds of CPU of a process, of all below it, and of those below that ended."""
    return sum(sum(map(int, _stat(pid)[11:15])) for pid in tree(root)) / _TICKS


def written(root: int) -> int:
    """Bytes that a process and those below it wrote to disks."""
    return sum(_value(_read(PROC / str(pid) / "io"), "write_bytes") for pid in tree(root))


def _peak(pid: int) -> int:
    return 1024 * _value(_read(PROC / str(pid) / "status"), "VmHWM")


def _stat(pid: int) -> list[str]:
    """The fields from the third on (proc(5)); the second, a name, may hold anything."""
    fields = _read(PROC / str(pid) / "stat").rpartition(")")[2].split()
    return fields or ["0"] * 15


def _value(lines: str, name: str) -> int:
    for line in lines.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


def _read(path: Path) -> str:
    """A file's text; "" when its process has ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
