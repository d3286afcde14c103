"""A worker: takes jobs off the queues, one of each queue at a time, until it is told to end.

The first signal drains: no new job is taken, what is under way ends. The second ends it at once,
but notes as unknown what was being sent.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.jobs import DeleteJobCondition, Status
from sqlalchemy.exc import SQLAlchemyError

from digest.engine import guarded, sending
from digest.engine.jobs import JOBS, address, job
from digest.errors import DigestError
from digest.pipeline.books import Relay
from digest.pipeline.ending import Asked
from digest.pipeline.readiness import Pulse
from digest.services import Services
from digest.storage.database import PATIENCE, said
from digest.storage.queue import name_of

log = logging.getLogger(__name__)

HARD = 4  # exit code: ended at once, what was under way is unknown
NEGLECTED = {"jobs": 60.0}  # seconds without an answer from the queues after which it is not ready
_CLAIMS = 50.0  # seconds for which one job claims; then another one, here or elsewhere, goes on
_PLANS = 20_000  # subscribers for whom one job plans: ten seconds or so
_HELP = 1.0  # seconds of work after which another worker may help
_LOOK = 1.0  # seconds between two looks into a queue
_POOL = 5.0  # seconds to wait for a connection to the queues: as often as need be, after _AGAIN
_ABANDON = 5.0  # seconds for what was being sent to be noted when it ends at once
_NEVER = 86_400.0  # seconds: nobody aborts a job, and each look in an outage is a traceback
_AGAIN = 5.0  # seconds until the next try after the database was away


def work(services: Services, queues: Sequence[str], pulse: Pulse) -> int:
    """Take jobs off these queues until a signal ends it; the exit code."""
    with sending(services) as relays:
        return HARD if asyncio.run(Worker(services, relays, queues, pulse).run()) else 0


class Worker:
    """The jobs of some queues, in this process."""

    def __init__(
        self, services: Services, relays: Sequence[Relay], queues: Sequence[str], pulse: Pulse
    ) -> None:
        self._services, self._queues, self._pulse = services, queues, pulse
        self._postman = services.postman(relays)
        # Nobody renews the mark of life of a worker that drains: it has that much longer.
        self._dead_after = services.settings.drain_seconds + 60.0
        self._ending = self._hard = False
        self._asked = Asked()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._app = App(
            connector=PsycopgConnector(
                conninfo=address(services),
                kwargs={
                    **PATIENCE,
                    **services.engine.url.query,
                    "application_name": name_of(socket.gethostname(), os.getpid()),
                },
                timeout=_POOL,
                min_size=1,
                max_size=4,
            )
        )
        for name, work in {
            "collect": services.collect,
            "look_up": services.look_up_domains,
            "clean_up": services.clean_up,
        }.items():
            self._app.task(name=name, queue=JOBS[name])(guarded(name, work, pulse))
        for name, shared in {"plan": self._plan, "deliver": self._deliver}.items():
            self._app.task(name=name, queue=JOBS[name])(self._together(name, shared))
        self._app.task(name="sweep", queue=JOBS["sweep"])(self._sweep)

    async def run(self) -> bool:
        """Work until a signal comes; whether what was under way had to be given up."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        async with self._app.open_async(), asyncio.TaskGroup() as group:
            self._tasks["pulse"] = group.create_task(self._beat())
            for queue in self._queues:
                self._tasks[queue] = group.create_task(self._serve(queue))
        return self._hard

    async def _serve(self, queue: str) -> None:
        """Take jobs off one queue; when the database is away, wait for it."""
        while not self._ending:
            try:
                # Looks instead of listening: four connections fewer, and none that must be kept.
                await self._app.run_worker_async(
                    queues=[queue],
                    name=queue,
                    install_signal_handlers=False,
                    listen_notify=False,
                    fetch_job_polling_interval=_LOOK,
                    abort_job_polling_interval=_NEVER,
                    delete_jobs=DeleteJobCondition.ALWAYS,
                    stalled_worker_timeout=self._dead_after,
                )
            except ConnectorException as error:
                log.warning(
                    "The queues cannot be read: %s", said(error), extra={"action": "worker"}
                )
            if not self._ending:
                await asyncio.sleep(_AGAIN)

    async def _beat(self) -> None:
        while not self._ending:
            with suppress(ConnectorException):
                await self._app.check_connection_async()
                self._pulse.beat("jobs")
            with suppress(SQLAlchemyError, DigestError):
                # What others raise this machine must know before it is the one that sends.
                await asyncio.to_thread(self._services.restored)
            await asyncio.sleep(_AGAIN)

    def _end(self) -> None:
        if not self._asked.anew():
            return
        if self._ending:
            self._postman.halt()
            self._tasks["end"] = asyncio.get_running_loop().create_task(self._abandon())
            return
        self._ending = True
        self._postman.stop()
        self._services.stopping.set()
        for task in self._tasks.values():
            task.cancel()
        # By then others have forgotten it. Only a database that hangs keeps it so long.
        asyncio.get_running_loop().call_later(self._dead_after, os._exit, HARD)
        log.info("Ending: what is under way is finished first.", extra={"action": "stop"})

    async def _abandon(self) -> None:
        """End when what was being sent is noted, whatever else is under way.

        A database that hangs takes no note. Whoever rescues the rows then calls them unknown too.
        """
        if "deliver" in self._tasks:
            await asyncio.wait([self._tasks["deliver"]], timeout=_ABANDON)
        os._exit(HARD)

    # -------------------------------------------------------------- jobs

    def _plan(self) -> bool:
        return self._services.plan_due(limit=_PLANS).more

    def _deliver(self) -> bool:
        self._services.answer_requests()
        delivered = self._postman.deliver(seconds=_CLAIMS)
        self._hard = self._hard or delivered.hard
        return delivered.stopped

    def _together(self, name: str, work: Callable[[], bool]) -> Callable[[], Awaitable[None]]:
        """A job for as many workers as there are; `work` tells whether it left something.

        One that takes longer than a moment calls the next worker, and so on until all are at it.
        """

        async def run() -> None:
            working = asyncio.create_task(
                asyncio.to_thread(guarded(name, work, self._pulse)), name=name
            )
            await asyncio.wait([working], timeout=_HELP)
            if not working.done():
                await self._defer(name)
            if await working:
                await self._defer(name)

        return run

    async def _defer(self, name: str) -> None:
        # While the database is away this fails, and must not end a job whose work goes on.
        with suppress(AlreadyEnqueued, ConnectorException):
            await job(self._app, name).defer_async()

    async def _sweep(self) -> None:
        """Forget the jobs of workers that died: what they left undone is asked for anew."""
        jobs = self._app.job_manager
        for stalled in await jobs.get_stalled_jobs(seconds_since_heartbeat=self._dead_after):
            log.warning(
                "A worker died with a job under way: %s.",
                stalled.task_name,
                extra={"action": "sweep", "job": stalled.task_name},
            )
            with suppress(ConnectorException):  # another sweep was faster
                await jobs.finish_job(stalled, Status.ABORTED, delete_job=True)
        await jobs.prune_stalled_workers(self._dead_after)
