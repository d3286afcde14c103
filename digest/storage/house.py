"""The high-water mark: a database that was put back from a backup is known as such.

The database counts upwards while it is delivered from. The data directory remembers how far each
database had come; one that is behind its mark has lost what was sent since.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, case, literal, select, update

from digest import schema
from digest.errors import InputError, RestoredDatabase
from digest.storage.database import reading

FILE = "ledger.mark"
# More than all workers will ever count: no machine remembers a mark beyond that of a database whose
# loss is settled, and the one that it replaced is behind for ever.
LEAP = 2**40


@dataclass(frozen=True, slots=True, kw_only=True)
class HighWater:
    """How far a database has come; `identity` tells it from others, a copy has the same."""

    identity: str
    mark: int


def rise(connection: Connection) -> HighWater:
    """Count one further; for a short transaction of its own, as all workers write this row."""
    return _set(connection, schema.house.c.mark + 1)


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
    marks = _remembered(data_dir)
    if marks.get(reached.identity, -1) >= reached.mark:
        return
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
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


def check(engine: Engine, data_dir: Path) -> str | None:
    """What to do about a database that is behind its mark, as a sentence; None when it is not."""
    with reading(engine) as connection:
        found = current(connection)
    if found.mark >= _remembered(data_dir).get(found.identity, 0):
        return None
    return (
        "The database is older than what was delivered from it: it was put back from a backup."
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
