"""Copies of a SQLite database: taking one while the service runs, and putting one back."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path

from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, func, inspect, select

from digest import schema
from digest.errors import Busy, InputError, SchemaError
from digest.storage import migrating
from digest.storage.database import exclusive, open_database

STAGE = "backup"  # a run of it is in each copy, and so the time at which that was begun


def begun_at(connection: Connection) -> datetime | None:
    """When the last backup was begun: in a copy, since when it knows nothing."""
    table = schema.run
    found: datetime | None = connection.execute(
        select(func.max(table.c.started_at)).where(table.c.stage == STAGE)
    ).scalar_one()
    return found


@contextmanager
def copied(source: Path, folder: Path) -> Iterator[Path]:
    """A copy of a database that may be in use, on disk, in a file of its own in `folder`.

    It shows one state of the database and can be read by its owner alone. What is not taken away
    is removed at the end. InputError when the source is no SQLite database, or damaged.
    """
    handle, name = tempfile.mkstemp(dir=folder, prefix=".digest-copy.")  # mode 0600
    os.close(handle)
    copy = Path(name)
    try:
        with _read_only(source) as old, closing(sqlite3.connect(copy)) as new:
            old.backup(new)
            [found] = new.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise InputError(f"{source} is damaged: {found}")
        _leave_wal(copy)
        yield copy
    except sqlite3.Error as error:
        raise InputError(f"{source} cannot be copied to {folder}: {error}.") from None
    finally:
        for path in _files(copy):
            path.unlink(missing_ok=True)


def keep(copy: Path, target: Path) -> None:
    """Give a copy its name, which nothing has."""
    target.open("xb").close()
    copy.replace(target)
    _sync(target.parent)


@contextmanager
def opened(copy: Path, *, origin: Path) -> Iterator[Engine]:
    """A copy of `origin` as a database with the tables of this version; DigestError."""
    engine = open_database(f"sqlite:///{copy}")
    try:
        if not inspect(engine).has_table(schema.delivery.name):
            raise InputError(f"{origin} is no database of Paper Digest.")
        try:
            migrating.upgrade(engine)
        except CommandError:
            raise SchemaError(f"{origin}: {migrating.check(engine)}") from None
        yield engine
    finally:
        engine.dispose()


@contextmanager
def alone(database: Path, locks: Path) -> Iterator[None]:
    """Hold every lock on a SQLite database, whether or not it can be read; Busy."""
    engine = create_engine(f"sqlite:///{database}")
    names = {"collect", "plan", "deliver", *(path.stem for path in locks.glob("*.lock"))}
    with ExitStack() as stack:
        for name in sorted(names):
            stack.enter_context(exclusive(engine, name, locks))
        yield


def replace(database: Path, copy: Path, *, kept: Path) -> bool:
    """Put a copy in the place of a database that nobody uses; Busy.

    There is a whole database in that place at every moment. The old one gets the name `kept`;
    False when there was none.
    """
    _leave_wal(copy)
    there = database.exists()
    if there:
        if not _broken(database):
            _set_aside(database)
        os.link(database, kept)
    for found, name in zip(_files(database)[1:], _files(kept)[1:], strict=True):
        if found.exists():  # of a broken one: it must not be taken for the copy's
            found.replace(name)
    copy.replace(database)
    _sync(database.parent)
    return there


def _broken(database: Path) -> bool:
    """Whether it is no database; not opened for writing, which would delete what is beside it."""
    try:
        with _read_only(database) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.OperationalError:
        return False
    except sqlite3.DatabaseError:
        return True
    return False


def _set_aside(database: Path) -> None:
    try:
        _leave_wal(database)
    except sqlite3.OperationalError as error:
        raise Busy(
            f"{database} cannot be put aside ({error}). Stop the service, and whatever else has it"
            " open, and try again."
        ) from None


def _read_only(database: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True))


def _files(database: Path) -> list[Path]:
    """The database, and what SQLite may have put beside it."""
    return [database.with_name(f"{database.name}{end}") for end in ("", "-wal", "-shm", "-journal")]


def _leave_wal(database: Path) -> None:
    """Make it one file, on disk; sqlite3.OperationalError when anybody else has it open."""
    with closing(sqlite3.connect(database, timeout=0)) as connection:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA journal_mode=DELETE")
    _sync(database)


def _sync(path: Path) -> None:
    """Force a file, or what a folder holds, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
