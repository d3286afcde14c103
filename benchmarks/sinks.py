"""Mail servers to measure against: ours, and one in C where it and a compiler are at hand."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks import surroundings
from benchmarks.surroundings import ROOT, await_port, free_port


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """A mail server in a process of its own, on this machine."""

    name: str  # and, where it is not the fastest one, why
    port: int
    pid: int
    orders: IO[str] | None = None
    answers: IO[str] | None = None

    def count(self) -> int:
        """How many mails it took; only ours tells."""
        assert self.orders is not None
        assert self.answers is not None
        print("count", file=self.orders, flush=True)
        return int(self.answers.readline())


@contextmanager
def plain_sink(
    *, delay: float = 0, folder: Path | None = None, name: str = "benchmarks/sink.py"
) -> Iterator[Sink]:
    """Ours: holds answers back for `delay` milliseconds; keeps the mails in `folder`, if given."""
    command = [sys.executable, "-m", "benchmarks.sink", "--delay", str(delay)]
    if folder is not None:
        command += ["--folder", str(folder)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Sink(
            name=name,
            port=int(process.stdout.readline()),
            pid=process.pid,
            orders=process.stdin,
            answers=process.stdout,
        )
        process.stdin.close()  # it ends with its input


@contextmanager
def fast_sink(folder: Path) -> Iterator[Sink]:
    """The one in C, compiled into `folder`; ours where it cannot be had, and its name says why."""
    program = folder / "fastsink"
    if why := _compile(surroundings.SHARED / "tools" / "fastsink.c", program):
        with plain_sink(name=f"benchmarks/sink.py, for {why}") as sink:
            yield sink
        return
    port = free_port()
    with subprocess.Popen([program, str(port)]) as process:
        try:
            await_port(port)
            yield Sink(name="fastsink", port=port, pid=process.pid)
        finally:
            process.terminate()


def _compile(source: Path, program: Path) -> str:
    """Make the program; "", or why it is not there."""
    compiler = shutil.which("cc")
    if not source.is_file():
        return f"{source} is not there"
    if compiler is None:
        return "there is no C compiler"
    command = [compiler, "-O2", "-w", "-o", str(program), str(source)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or "it does not say why").splitlines()[0]
        return f"{compiler} cannot build {source.name}: {said}"
    return ""
