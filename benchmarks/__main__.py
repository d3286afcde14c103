"""`python -m benchmarks [NAME ...]`, which is `make bench`: run them and print their tables.

CHECK=1 ends with exit code 1 when a bar is missed, when what it needs is not here, and when all of
them take too long; FULL=1 has the demo install from nothing too.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

from benchmarks import collect, dedupe, demo, planning, room, search, sending, topics
from benchmarks.measuring import Row, machine, show
from benchmarks.sending import latency, million, wire

BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "demo": partial(demo.run, full=bool(os.environ.get("FULL"))),
    "collect": collect.run,
    "plan": planning.run,
    "send": sending.run,
    "latency": latency.run,
    "topics": topics.run,
    "dedupe": dedupe.run,
    "search": search.run,
}
LONGEST = 960.0  # seconds for all of these
# Too long to be one of many, or without a bar.
ALONE: dict[str, Callable[[], list[Row]]] = {"million": million.run, "room": room.run}


def main(names: Sequence[str]) -> int:
    """Run those that are named, else all but those that run alone; the exit code."""
    known = {**BENCHMARKS, **ALONE}
    if unknown := [name for name in names if name not in known]:
        print(f"No benchmark {', '.join(unknown)}. There are: {', '.join(known)}")
        return 2
    try:
        wire.smtp_source()
    except FileNotFoundError as error:
        print(error)
        return 2
    started = time.monotonic()
    print(f"{machine()}\n")
    found = {}
    for name in names or BENCHMARKS:
        found[name] = known[name]()
        show(name, found[name])
    seconds = time.monotonic() - started
    rows = [(f"{name}: {row.what}", row) for name, rows in found.items() for row in rows]
    missed = [what for what, row in rows if row.missed]
    unjudged = [what for what, row in rows if not row.judged]
    print(f"{len(missed)} bars missed, {len(unjudged)} bars not judged, in {seconds:.0f} s.")
    if not os.environ.get("CHECK"):
        return 0
    # Who names a benchmark asks for its figures; else only what is required must be here.
    lacking = [what for what, row in rows if row.skipped and (names or row.required)]
    late = seconds > LONGEST and not ALONE.keys() & found.keys()
    for mark, whats in (("MISSED", missed), ("NOT JUDGED", unjudged), ("NOT MEASURED", lacking)):
        for what in whats:
            print(f"{mark} {what}")
    if late:
        print(f"MISSED the whole: {seconds:.0f} s, bar <= {LONGEST:g} s")
    return 1 if missed or lacking or late else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
