"""This engine: what is planned and frozen is claimed, read, assembled, sent and recorded."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection

from benchmarks.population import house
from benchmarks.sending.trial import Sent
from digest.models import State

CONNECTIONS = 256


@contextmanager
def prepare(
    folder: Path,
    url: str,
    port: int,
    people: int,
    *,
    connections: int = CONNECTIONS,
    seconds: float | None = None,
) -> Iterator[Callable[[], Sent]]:
    """Deliver what is due to `people`, or for so many seconds; `folder` is new to this database.

    The work raises RuntimeError where a mail failed, or one of the people got none in the end.
    """
    with (
        house(folder, url, port=port, connections=connections) as services,
        services.relays() as relays,
    ):
        postman = services.postman(relays)
        changes = _changes(services.engine)

        def deliver() -> Sent:
            states = postman.deliver(seconds).states
            if states.keys() - {State.SENT}:
                raise RuntimeError(f"All were to be sent: {states}")
            mails = states.get(State.SENT, 0)
            if seconds is None and mails != people:
                raise RuntimeError(f"{people} were to get a mail, {mails} did.")
            return Sent(mails=mails, rows=changes())

        yield deliver


def _changes(engine: Engine) -> Callable[[], int]:
    """Counts the rows that connections opened from now on change; of SQLite, which counts them."""
    opened: list[sqlite3.Connection] = []
    engine.dispose()

    @event.listens_for(engine, "connect")
    def remember(connection: DBAPIConnection, _record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            opened.append(connection)

    return lambda: sum(connection.total_changes for connection in opened)
