"""A process of the whole house: the real scheduler, or the real worker, in a hurry.

They read two sources that list the same works, plan and deliver by a business clock that runs from
the product's own; so a machine whose clock is an hour wrong shows where the product reads that.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import time_machine
from apscheduler.triggers.interval import IntervalTrigger

import scheduler
from digest.engine import is_shared, sending
from digest.engine import worker as workers
from digest.engine.jobs import QUEUES
from digest.errors import DigestError
from digest.logs import configure
from digest.models import Fetch, Health, Record
from digest.pipeline import planning
from digest.pipeline.readiness import Pulse
from digest.services import Services, build, real_clock, with_sources
from digest.settings import Settings
from tests.chaos.doom import DOOMED, Fate, Mark, watch, watch_planning
from tests.chaos.sender import announce, end_with_the_harness, hurry

FAST = 5400.0  # of the business clock: at most an hour and a half in a second ...
SLOW = 600.0  # ... until the last slot; then the house gets the time to finish
EVERY = timedelta(hours=2)  # a work is listed
LATER = timedelta(hours=5)  # the second source lists it, under another title
OLDEST = timedelta(days=4)  # that is still listed
SKEWED = timedelta(hours=1)  # what the second machine's clock is wrong by
MACHINES = ("right", "wrong")  # their clocks
ENDED_BY_DIGEST = 2  # exit code


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What one process is told."""

    name: str  # it says EHLO with it
    role: str  # scheduler | worker
    settings: Mapping[str, Any]
    machine: str  # one of MACHINES
    starts: float  # business time (Unix seconds) of the first moment ...
    began: float  # ... which was at this moment of the product's clock (Unix seconds)
    span: float  # seconds of business time for which it runs fast ...
    speed: float  # ... by this
    mark: str
    crash: str = ""
    passes: int = 1
    mutant: str = ""  # "own clock": a house that trusts each machine's clock

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def business(orders: Orders, own: Callable[[], datetime]) -> datetime:
    """The time that digests are due by, from the product's own clock."""
    passed = max(0.0, own().timestamp() - orders.began)
    fast = min(passed, orders.span / orders.speed)
    seconds = orders.starts + fast * orders.speed + (passed - fast) * SLOW
    return datetime.fromtimestamp(seconds, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Press:
    """A source: a new work every two hours, and each gains votes all the time."""

    name: str
    starts: datetime
    late: timedelta = timedelta(0)

    async def fetch(self, client: object, *, now: datetime, state: Mapping[str, Any]) -> Fetch:
        first = max(0, (now - self.late - OLDEST - self.starts) // EVERY)
        last = (now - self.late - self.starts) // EVERY
        records = [self._record(number, now) for number in range(first, last + 1)]
        return Fetch(source=self.name, health=Health.OK, records=tuple(records))

    def _record(self, number: int, now: datetime) -> Record:
        listed_at = self.starts + number * EVERY + self.late
        arxiv_id = f"9912.{number:05}"  # of a year to come
        return Record(
            source=self.name,
            external_id=arxiv_id,
            title=f"{'A second look at' if self.late else 'On'} question number {number}",
            url=f"https://arxiv.org/abs/{arxiv_id}",
            listed_at=listed_at,
            published_at=listed_at,
            abstract="We ask it, and answer it.",
            authors=(f"Ada Example{number}",),
            arxiv_id=arxiv_id,
            signals={"upvotes": 1 + int((now - listed_at) / timedelta(hours=1))},
        )


def furnish(orders: Orders) -> Services:
    """The product's services, with the sources and the clock of the harness."""
    starts = datetime.fromtimestamp(orders.starts, UTC)
    presses = [
        Press(name="huggingface", starts=starts - OLDEST),
        Press(name="arxiv", starts=starts - OLDEST, late=LATER),
    ]
    services = with_sources(build(Settings(**orders.settings)), presses, sample=False)
    own = real_clock if orders.mutant == "own clock" else services.clock
    return replace(services, clock=lambda: business(orders, own))


def hurry_all() -> None:
    """Scale down what is not measured by the business clock."""
    hurry()
    planning.BATCH = 5
    scheduler.PLAN_SECONDS = 0.1  # type: ignore[assignment] # an interval takes it
    scheduler.WATCH_SECONDS = 1
    setattr(scheduler, "_cron", lambda _fields: IntervalTrigger(seconds=1.5))  # noqa: B010 -- another trigger
    workers._CLAIMS, workers._HELP, workers._LOOK, workers._AGAIN = 2.0, 0.2, 0.1, 0.5
    workers._PLANS = 10


def work(services: Services) -> int:
    """The real worker, with all queues; jobs of dead ones are swept soon."""
    with sending(services) as relays:
        worker = workers.Worker(services, relays, QUEUES, Pulse(workers.NEGLECTED))
        worker._dead_after = 15.0
        return workers.HARD if asyncio.run(worker.run()) else 0


def run(orders: Orders) -> int:
    """Until a signal ends it; the exit code."""
    if orders.machine == "wrong":
        time_machine.travel(datetime.now(UTC) + SKEWED, tick=True).start()
    mark = Mark(Path(orders.mark))
    fate = Fate(mark, orders.crash, orders.passes, doomed=Path(orders.mark + DOOMED))
    watch(fate, mark)
    watch_planning(fate, mark)
    hurry_all()
    announce(orders.name)
    end_with_the_harness()
    configure("warning", "human")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    services = furnish(orders)
    if orders.role == "worker":
        assert is_shared(services)
        return work(services)
    return scheduler.run(services, stopped, threading.Event())


def main(arguments: list[str]) -> int:
    try:
        return run(Orders(**json.loads(arguments[0])))
    except DigestError as error:
        sys.stderr.write(f"{error}\n")
        return ENDED_BY_DIGEST


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
