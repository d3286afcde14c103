"""Several processes that do the same, under one that passes signals on to them."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

log = logging.getLogger(__name__)

PROGRAM = (sys.executable, "-c", "from digest.cli import main; main()")
_LOOK = 0.1  # seconds between two looks at who still runs


def look_after(command: Sequence[str], processes: int, *, port: int = 0) -> int:
    """Run a command of ours so many times over until all have ended; the exit code.

    Nobody is started again: when one ends unasked the others are told to end, and whatever started
    this process starts all anew. The first probes at `port`, the others at those after it.
    """
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: told.append(number))
    kept = {name: text for name, text in os.environ.items() if name != "DIGEST_PROBE_PORT_FILE"}
    ports = [str(port + place if port else 0) for place in range(processes)]
    crew = [
        # Of a group of their own, or a terminal's interrupt would reach them twice.
        subprocess.Popen(
            [*PROGRAM, *command], env={**kept, "DIGEST_PROBE_PORT": one}, process_group=0
        )
        for one in ports
    ]
    passed, failed = 0, False
    while any(one.poll() is None for one in crew):
        if not told and any(one.poll() is not None for one in crew):
            log.error("A worker ended; the others are told to end.", extra={"action": "worker"})
            told.append(signal.SIGTERM)
            failed = True
        for _ in range(passed, len(told)):
            for one in crew:
                one.send_signal(signal.SIGTERM)
            passed += 1
        time.sleep(_LOOK)
    # Who had not yet begun to listen to signals had begun nothing else.
    codes = [one.returncode for one in crew if one.returncode != -signal.SIGTERM]
    return max([int(failed), *(1 if code < 0 else code for code in codes)])
