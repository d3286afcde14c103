"""Several processes that do the same, under one that passes signals on to them.

They hear no signal themselves, whoever sends it (see `pipeline.processes`): each byte on a pipe
stands for one, and its end for the first one, because nobody is left who could tell them to end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import TypeVarTuple

from digest.engine import sending
from digest.pipeline.ending import Asked
from digest.pipeline.processes import deaf
from digest.pipeline.readiness import Pulse
from digest.services import Services

Ts = TypeVarTuple("Ts")
log = logging.getLogger(__name__)

PROGRAM = (sys.executable, "-c", "from digest.cli import main; main()")
_LOOK = 0.1  # seconds between two looks at who still runs


def look_after(command: Sequence[str], processes: int, *, port: int = 0) -> int:
    """Run a command of ours so many times over until all have ended; the exit code.

    Each is given `--told-by` and the number of its pipe. Nobody is started again: when one ends
    unasked the others are told to end, and whatever started this process starts all anew. The first
    probes at `port`, the others at those after it.
    """
    told, asked = list[int](), Asked()

    def hear(number: int, _frame: object) -> None:
        if asked.anew():
            told.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, hear)
    kept = {name: text for name, text in os.environ.items() if name != "DIGEST_PROBE_PORT_FILE"}
    with ExitStack() as stack:
        crew, pipes = [], []
        for place in range(processes):
            heard, pipe = os.pipe()
            pipes.append(pipe)
            stack.callback(os.close, pipe)
            with deaf():
                one = subprocess.Popen(
                    [*PROGRAM, *command, f"--told-by={heard}"],
                    env={**kept, "DIGEST_PROBE_PORT": str(port + place if port else 0)},
                    pass_fds=[heard],
                )
            os.close(heard)
            crew.append(one)
        passed, failed = 0, False
        while any(one.poll() is None for one in crew):
            if not told and any(one.poll() is not None for one in crew):
                log.error("A worker ended; the others are told to end.", extra={"action": "worker"})
                told.append(signal.SIGTERM)
                failed = True
            for _ in range(passed, len(told)):
                for pipe in pipes:
                    with suppress(BrokenPipeError):  # one that has ended
                        os.write(pipe, b".")
                passed += 1
            time.sleep(_LOOK)
    return max([int(failed), *(1 if one.returncode < 0 else one.returncode for one in crew)])


def work_told(services: Services, queues: Sequence[str], pulse: Pulse, *, pipe: int) -> int:
    """As `engine.worker.work`, but told by who looks after this process; the exit code."""
    from digest.engine.worker import HARD, Worker  # noqa: PLC0415 - who looks after needs none

    with sending(services) as relays, asyncio.Runner(loop_factory=lambda: _Told(pipe)) as runner:
        return HARD if runner.run(Worker(services, relays, queues, pulse).run()) else 0


class _Told(asyncio.SelectorEventLoop):
    """A loop for whose signals a pipe stands."""

    def __init__(self, pipe: int) -> None:
        super().__init__()
        self._told_by, self._heard = pipe, False

    def add_signal_handler(self, sig: int, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        """Have it called for each byte that comes, whatever the signal."""
        self.add_reader(self._told_by, self._pass_on, callback, args)

    def _pass_on(self, callback: Callable[[*Ts], object], args: tuple[*Ts]) -> None:
        heard = os.read(self._told_by, 16)
        if not heard:
            self.remove_reader(self._told_by)
        for _ in heard or ([] if self._heard else b"."):
            callback(*args)
        self._heard = True
