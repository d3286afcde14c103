"""The high-water mark: a database that was put back from a backup is known as such.

The database counts upwards while it is delivered from, and when a plan or an opt-out was stored.
The data directory of each machine remembers how far each database had come; one that is behind
its mark has lost what happened since.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Connection, Engine, case, literal, select, update

from digest import schema
from digest.errors import InputError, RestoredDatabase
from digest.storage.database import give_up_waiting, reading, writing

log = logging.getLogger(__name__)

FILE = "ledger.mark"
# More than all workers will ever count: no machine remembers a mark beyond that of a database whose
# loss is settled, and the one that it replaced is behind for ever.
LEAP = 2**40
_PATIENCE = timedelta(seconds=2)  # all workers write that row, and one may stand still over it


@dataclass(frozen=True, slots=True, kw_only=True)
class HighWater:
    """How far a database has come; `identity` tells it from others, a copy has the same."""

    identity: str
    mark: int


def rise(connection: Connection) -> HighWater:
    """Count one further; for a short transaction of its own, as all workers write this row."""
    return _set(connection, schema.house.c.mark + 1)


def advance(engine: Engine, data_dir: Path) -> None:
    """Count one further and note it: no copy that was made before will pass for this database."""
    with writing(engine) as connection:
        give_up_waiting(connection, after=_PATIENCE)
        reached = rise(connection)
    remember(data_dir, reached)


def leap(connection: Connection, data_dir: Path) -> HighWater:
    """Come out far ahead of what any machine remembers: what was lost is settled."""
    mark = schema.house.c.mark
    known = literal(_remembered(data_dir).get(current(connection).identity, 0))
    return _set(connection, case((mark > known, mark), else_=known) + LEAP)


def _set(connection: Connection, mark: object) -> HighWater:
    table = schema.house
    row = connection.execute(
        update(table).values(mark=mark).returning(table.c.identity, table.c.mark)
    ).one()
    return HighWater(identity=row.identity, mark=row.mark)


def current(connection: Connection) -> HighWater:
    """How far this database has come."""
    row = connection.execute(select(schema.house.c.identity, schema.house.c.mark)).one()
    return HighWater(identity=row.identity, mark=row.mark)


def remember(data_dir: Path, reached: HighWater) -> None:
    """Note in the data directory how far a database has come, after it was committed there."""
    if _remembered(data_dir).get(reached.identity, -1) >= reached.mark:
        return
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(data_dir) as folder:
        marks = _remembered(data_dir)
        if marks.get(reached.identity, -1) >= reached.mark:
            return
        handle, name = tempfile.mkstemp(dir=data_dir, prefix=f".{FILE}.")
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                json.dump({**marks, reached.identity: reached.mark}, file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(data_dir / FILE)
        except BaseException:
            Path(name).unlink()
            raise
        os.fsync(folder)


@contextmanager
def _alone(folder: Path) -> Iterator[int]:
    """The folder, open and locked: two processes that write at once would forget one's mark."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def check(engine: Engine, data_dir: Path) -> str | None:
    """What to do about a database that is behind its mark, as a sentence; None when it is not.

    Then its mark is remembered: what others raised, on other machines, this one knows from here on.
    """
    with reading(engine) as connection:
        found = current(connection)
    if found.mark >= _remembered(data_dir).get(found.identity, 0):
        try:
            remember(data_dir, found)
        except OSError:
            log.exception(
                "How far the database has come cannot be noted in the data directory.",
                extra={"action": "house"},
            )
        return None
    return (
        "The database is older than what this machine knows of it: it was put back from a backup."
        " Nothing is planned or sent until it is said when that backup was begun, or mail would go"
        " out twice. Run: digest restored --backup-time TIME"
    )


def refuse_if_behind(engine: Engine, data_dir: Path) -> None:
    """RestoredDatabase while nobody has settled what the database lost."""
    if problem := check(engine, data_dir):
        raise RestoredDatabase(problem)


def _remembered(data_dir: Path) -> dict[str, int]:
    """The highest mark seen of each database, by identity."""
    path = data_dir / FILE
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(mark, int) for mark in found.values()):
        raise InputError(
            f"{path} does not hold what was written there. If the database was put back from a"
            " backup, run `digest restored --backup-time TIME`; remove the file before."
        )
    return found
