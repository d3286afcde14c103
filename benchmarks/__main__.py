"""`python -m benchmarks [NAME ...]`, which is `make bench`: run them and print their tables.

CHECK=1 ends with exit code 1 when a bar is missed; FULL=1 has the demo install from nothing too.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

from benchmarks import collect, dedupe, demo, planning, room, sending, topics
from benchmarks.measuring import Row, machine, show
from benchmarks.sending import latency, million

BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "demo": partial(demo.run, full=bool(os.environ.get("FULL"))),
    "collect": collect.run,
    "plan": planning.run,
    "send": sending.run,
    "latency": latency.run,
    "topics": topics.run,
    "dedupe": dedupe.run,
}
# Too long to be one of many, or without a bar.
ALONE: dict[str, Callable[[], list[Row]]] = {"million": million.run, "room": room.run}


def main(names: Sequence[str]) -> int:
    """Run those that are named, else all but those that run alone; the exit code."""
    known = {**BENCHMARKS, **ALONE}
    if unknown := [name for name in names if name not in known]:
        print(f"No benchmark {', '.join(unknown)}. There are: {', '.join(known)}")
        return 2
    started = time.monotonic()
    print(f"{machine()}\n")
    missed = 0
    for name in names or BENCHMARKS:
        rows = known[name]()
        show(name, rows)
        missed += sum(row.missed for row in rows)
    print(f"{missed} bars missed, in {time.monotonic() - started:.0f} s.")
    return 1 if missed and os.environ.get("CHECK") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
