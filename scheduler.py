"""The clock: collects by cron, plans and delivers what is due, serves the pages; no logic.

Run it as `make run`, which is `.venv/bin/python scheduler.py`. SIGTERM and SIGINT end it cleanly:
nothing new is begun, what is under way ends. A second one ends it at once.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

try:
    from datetime import UTC  # Python 3.11

    from apscheduler.schedulers.background import BackgroundScheduler
    from apscheduler.triggers.cron import CronTrigger
    from apscheduler.triggers.interval import IntervalTrigger

    from digest.errors import Busy, DigestError, SettingsError
    from digest.logs import configure
    from digest.pipeline.readiness import Pulse
    from digest.services import Services, build
    from digest.settings import load
    from digest.web.build import build as web
    from digest.web.build import probing
    from digest.web.server import WebServer, listen
except ImportError as error:
    sys.exit(
        f"scheduler.py needs its environment ({error})."
        " Run: make setup && .venv/bin/python scheduler.py"
    )

log = logging.getLogger("scheduler")

PLAN_SECONDS = 10
WATCH_SECONDS = 60
NEGLECTED = {"plan": 300.0, "watch": 300.0}  # seconds after which it is not ready
HOUSEKEEPING = "40 3 * * *"


def run(services: Services, stopped: threading.Event) -> None:
    """Run everything until `stopped` is set."""
    settings = services.settings
    collect_at = _cron(settings.collect_cron)
    with ExitStack() as stack:
        server = stack.enter_context(services.relay())
        postman = services.postman(server)
        listener = listen(settings.web_host, settings.web_port)
        stack.enter_context(WebServer(web(services), listener))
        pulse = Pulse(NEGLECTED)
        stack.enter_context(probing(services, pulse.problems, house=True))
        # In memory, for what is due is a question to the database, never a stored job. A job that
        # starts late still runs, once, whatever it missed.
        clock = BackgroundScheduler(
            timezone=UTC,
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        # What was due while nothing ran is planned from what the sources say now.
        read = threading.Event()

        def catch_up() -> None:
            try:
                if services.collect_is_due():
                    services.collect()
            finally:
                read.set()

        def plan() -> None:
            if read.is_set():
                services.plan_due()

        clock.add_job(_guarded("collect", catch_up, pulse))
        for name, function, trigger in (
            ("collect", services.collect, collect_at),
            ("plan", plan, IntervalTrigger(seconds=PLAN_SECONDS)),
            ("deliver", postman.deliver, IntervalTrigger(seconds=settings.deliver_interval)),
            ("watch", services.watch, IntervalTrigger(seconds=WATCH_SECONDS)),
            ("housekeeping", services.clean_up, _cron(HOUSEKEEPING)),
        ):
            clock.add_job(_guarded(name, function, pulse), trigger, id=name)
        clock.start()
        stack.callback(clock.shutdown)
        stack.callback(services.stopping.set)
        stack.callback(postman.stop)
        log.info(
            "Paper Digest runs. Pages: %s. Mail goes to %s.",
            settings.base_url,
            f"the local inbox at {settings.base_url}/inbox/" if settings.local else server.name,
            extra={"action": "start"},
        )
        stopped.wait()
        log.info("Ending: what is under way is finished first.", extra={"action": "stop"})


def _cron(fields: str) -> CronTrigger:
    *others, weekday = fields.split()
    try:
        return CronTrigger.from_crontab(" ".join([*others, _weekdays(weekday)]), timezone=UTC)
    except ValueError as error:
        raise SettingsError(f"DIGEST_COLLECT_CRON: {fields!r} is no schedule: {error}") from None


def _weekdays(field: str) -> str:
    """Cron's days of the week by name: cron counts them from Sunday, APScheduler from Monday."""
    days = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
    if not re.fullmatch(r"[\d*,/-]+", field):
        return field  # names mean one thing
    found = []
    for part in field.split(","):
        match = re.fullmatch(r"(?:\*|([0-7])(?:-([0-7]))?)(?:/([1-7]))?", part)
        if match is None:
            raise ValueError(f"{part!r} is no day of the week")
        first, last, step = match.groups()
        if first is None:
            first, last = "0", "6"
        chosen = range(int(first), int(last or first) + 1, int(step or 1))
        if not chosen:
            raise ValueError(f"{part!r} ends before it begins")
        found += [days[number] for number in chosen]
    return ",".join(dict.fromkeys(found))


def _guarded(name: str, function: Callable[[], object], pulse: Pulse) -> Callable[[], None]:
    """A job that logs what went wrong, so that the next run finds the scheduler alive."""

    def job() -> None:
        try:
            function()
        except Busy as error:  # another process is at it
            log.info("%s: %s", name, error, extra={"action": name})
        except DigestError as error:
            log.error("%s: %s", name, error, extra={"action": name})
            return
        pulse.beat(name)

    return job


def main() -> int:
    """Run the service until a signal ends it; the exit code."""
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        if stopped.is_set():
            os._exit(1)
        stopped.set()

    try:
        settings = load(os.environ, Path(".env"))
        configure(settings.log_level, settings.log_format)
        services = build(settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        run(services, stopped)
    except DigestError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
