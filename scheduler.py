"""The clock: says when to collect, plan and deliver; no logic.

With SQLite it does all of that itself, and serves the pages. With PostgreSQL workers do it
(`digest worker`), and the pages are served apart (`digest serve`).

Run it as `make run`, which is `.venv/bin/python scheduler.py`. SIGTERM and SIGINT end it cleanly:
nothing new is begun, what is under way ends. A second one ends it at once, but what was being sent
is noted as unknown; a third one waits for nothing. What comes within a quarter of a second is one.

Exit codes: 0 ended cleanly; 2 a setting or the database is wrong, with a sentence; 4 ended at once,
or mail that was under way did not end within DIGEST_DRAIN_SECONDS and is unknown.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

try:
    from datetime import UTC  # Python 3.11

    from apscheduler.schedulers.background import BackgroundScheduler
    from apscheduler.triggers.cron import CronTrigger
    from apscheduler.triggers.interval import IntervalTrigger

    from digest.engine import duties, guarded, is_shared
    from digest.errors import DigestError, SettingsError
    from digest.logs import configure
    from digest.pipeline.ending import Asked
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
NOTING_SECONDS = 5
LOOK_UP_SECONDS = 600
NEGLECTED = {"plan": 300.0, "watch": 300.0}  # seconds after which it is not ready
HOUSEKEEPING = "40 3 * * *"
HARD = 4  # exit code: what was under way is unknown


def run(services: Services, stopped: threading.Event, at_once: threading.Event) -> int:
    """Run everything until `stopped` is set, or `at_once` ends the process; the exit code."""
    settings = services.settings
    collect_at = _cron(settings.collect_cron)
    sending, code = threading.Lock(), 0
    with ExitStack() as stack:
        duty = stack.enter_context(duties(services))
        if not is_shared(services):
            listener = listen(settings.web_host, settings.web_port)
            stack.enter_context(WebServer(web(services), listener))

        def deliver() -> None:
            nonlocal code
            with sending:
                if duty.deliver():
                    code = HARD

        def end_at_once() -> None:
            at_once.wait()
            duty.end()
            # Until what it cuts off is noted; not for long, for the database may be what hangs.
            sending.acquire(timeout=NOTING_SECONDS)
            os._exit(HARD)

        threading.Thread(target=end_at_once, daemon=True).start()
        pulse = Pulse(NEGLECTED)
        stack.enter_context(probing(services, pulse.problems, house=True))
        # In memory, for what is due is a question to the database, never a stored job. A job that
        # starts late still runs, once, whatever it missed.
        clock = BackgroundScheduler(
            timezone=UTC,
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        clock.add_job(guarded("collect", duty.begin, pulse))
        clock.add_job(guarded("look_up", duty.look_up, pulse))
        for name, function, trigger in (
            ("collect", duty.collect, collect_at),
            ("plan", duty.plan, IntervalTrigger(seconds=PLAN_SECONDS)),
            ("deliver", deliver, IntervalTrigger(seconds=settings.deliver_interval)),
            ("look_up", duty.look_up, IntervalTrigger(seconds=LOOK_UP_SECONDS)),
            ("watch", duty.watch, IntervalTrigger(seconds=WATCH_SECONDS)),
            ("housekeeping", duty.clean_up, _cron(HOUSEKEEPING)),
        ):
            clock.add_job(guarded(name, function, pulse), trigger, id=name)
        clock.start()
        stack.callback(clock.shutdown)
        stack.callback(duty.end)
        log.info("Paper Digest runs. Pages: %s", settings.base_url, extra={"action": "start"})
        stopped.wait()
        log.info("Ending: what is under way is finished first.", extra={"action": "stop"})
    return code


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


def main() -> int:
    """Run the service until a signal ends it; the exit code."""
    stopped, at_once, asked = threading.Event(), threading.Event(), Asked()

    def stop(_number: int, _frame: FrameType | None) -> None:
        if not asked.anew():
            return
        if at_once.is_set():
            os._exit(HARD)
        if stopped.is_set():
            at_once.set()
        stopped.set()

    try:
        settings = load(os.environ, Path(".env"))
        configure(settings.log_level, settings.log_format)
        services = build(settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        return run(services, stopped, at_once)
    except DigestError as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
