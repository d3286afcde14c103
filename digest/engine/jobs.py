"""The jobs by which the clock has the work done, in procrastinate's tables on PostgreSQL.

A job says what to look at, never what to do: it carries no rows, and may run twice, late or never
without harm, for the ledger alone decides what is due. So a job that failed, or whose worker died,
is forgotten; the clock asks again in seconds. At most one job of a kind waits at any time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from procrastinate import App, SyncPsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import JobDeferrer

from digest.services import Services
from digest.storage.database import PATIENCE

# Each kind of job, and its queue. A worker does one job of a queue at a time.
JOBS = {
    "collect": "collect",
    "plan": "plan",
    "deliver": "deliver",
    "look_up": "upkeep",
    "sweep": "upkeep",
    "clean_up": "upkeep",
}
_POOL = 5.0  # seconds that a clock waits for a connection: it asks again soon
QUEUES = tuple(dict.fromkeys(JOBS.values()))


def address(services: Services) -> str:
    """The database as PostgreSQL's own library names it."""
    url = services.engine.url.set(drivername="postgresql")
    return url.render_as_string(hide_password=False)


def job(app: App, name: str) -> JobDeferrer:
    """A job of this kind, ready to be deferred; AlreadyEnqueued while another one waits."""
    return app.configure_task(name, queue=JOBS[name], queueing_lock=name)


@contextmanager
def deferrer(services: Services) -> Iterator[App]:
    """procrastinate for a process that only defers."""
    connector = SyncPsycopgConnector(
        conninfo=address(services),
        kwargs={**PATIENCE, **services.engine.url.query},
        timeout=_POOL,
        min_size=1,
        max_size=2,
    )
    with App(connector=connector).open() as app:
        yield app


class Deferring:
    """The duties, deferred to whichever worker takes them. Any number of clocks may do so."""

    def __init__(self, services: Services, app: App) -> None:
        self._services, self._app = services, app
        self._patience = time.monotonic() + services.settings.fetch_budget

    def begin(self) -> None:
        if self._services.collect_is_due():
            self.collect()

    def collect(self) -> None:
        self._defer("collect")

    def plan(self) -> None:
        # What was due while nothing ran is planned from what the sources say now.
        if time.monotonic() >= self._patience or not self._services.collect_is_due():
            self._patience = 0.0
            self._defer("plan")

    def deliver(self) -> None:
        self._defer("deliver")

    def look_up(self) -> None:
        self._defer("look_up")

    def watch(self) -> None:
        self._defer("sweep")
        # Not by a worker: that none is alive is what must be told.
        self._services.watch()

    def clean_up(self) -> None:
        self._defer("clean_up")

    def end(self) -> None:
        """Nothing: the workers are told to end by themselves."""

    def _defer(self, name: str) -> None:
        # Asked before, because each refused row is an error in the database's own log.
        if not self._app.job_manager.list_jobs(queueing_lock=name, status="todo"):
            with suppress(AlreadyEnqueued):
                job(self._app, name).defer()
