"""The command that takes jobs, on PostgreSQL: one process, or several that it looks after."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from digest.errors import InputError, SettingsError


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(worker)


def worker(
    *,
    queues: Annotated[
        str, typer.Option(metavar="NAMES", help="Take these jobs only, e.g. deliver,plan.")
    ] = "",
    processes: Annotated[
        int, typer.Option(min=1, max=64, help="How many processes take jobs.")
    ] = 1,
    told_by: Annotated[
        int, typer.Option(hidden=True, help="The pipe of the process that looks after this one.")
    ] = -1,
) -> None:
    """Take jobs from the scheduler, on any number of machines that share a PostgreSQL database.

    A signal ends it when what is under way is done (0), a second one at once (4): what was being
    sent is unknown then.
    """
    from digest.logs import configure
    from digest.services import build
    from digest.settings import load
    from digest.storage.database import EXTRA

    settings = load(os.environ, Path(".env"))
    if not settings.database_url.startswith("postgresql"):
        raise SettingsError(
            "DIGEST_DATABASE_URL: workers share a PostgreSQL database. With SQLite one process does"
            " everything: python scheduler.py"
        )
    if not (find_spec("procrastinate") and find_spec("psycopg")):
        raise SettingsError(f"Workers need more packages. {EXTRA}")
    chosen = _queues(queues)
    configure(settings.log_level, settings.log_format)
    if processes > 1:
        from digest.engine.processes import look_after

        command = ["worker", f"--queues={','.join(chosen)}"]
        raise typer.Exit(look_after(command, processes, port=settings.probe_port))
    from digest.engine.worker import NEGLECTED, work
    from digest.pipeline.readiness import Pulse

    services, pulse = build(settings), Pulse(NEGLECTED)
    with ExitStack() as stack:
        if settings.probe_port:  # without one the web's libraries need not be there
            from digest.web.build import probing

            stack.enter_context(probing(services, pulse.problems, house=False))
        if told_by >= 0:
            from digest.engine.processes import work_told

            raise typer.Exit(work_told(services, chosen, pulse, pipe=told_by))
        raise typer.Exit(work(services, chosen, pulse))


def _queues(text: str) -> list[str]:
    """The queues that are named, all where none is; InputError."""
    from digest.engine.jobs import QUEUES

    named = re.findall(r"[^\s,]+", text) or (QUEUES if not text.strip() else [])
    if not named:
        raise InputError(f"--queues: it names none. There are: {', '.join(QUEUES)}")
    if unknown := set(named) - set(QUEUES):
        raise InputError(
            f"--queues: there is no {', '.join(sorted(unknown))}. There are: {', '.join(QUEUES)}"
        )
    return list(dict.fromkeys(named))
