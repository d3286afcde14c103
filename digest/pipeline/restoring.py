"""Restore: after a database was put back from a backup, nothing twice, no mail to who left since.

What was sent between the backup and the restore is known to nobody. So the slots of that time are
not sent, its papers are passed over, what waited is closed, and who left is taken out again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path

from sqlalchemy import Connection, Engine

from digest import journal
from digest.errors import InputError
from digest.models import State, Status
from digest.storage import backups, gaps, house, optouts, runs
from digest.storage.database import reading, writing
from digest.storage.gaps import Gap

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What settling needs beside the database."""

    data_dir: Path
    catch_up: timedelta  # how long after it was due a slot may be planned
    journals: Sequence[Path] = ()  # of other machines


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was settled of the time from the backup to the restore."""

    backup_time: datetime
    end: datetime
    again: bool  # it had been settled before: only the journals were read
    states: Mapping[State, int]  # what became of the deliveries that were open
    journals: Sequence[Path]  # that were there to be read
    opt_outs: Mapping[Status, int]  # how many people were taken out again


def back_up(engine: Engine, database: Path, target: Path, *, data_dir: Path, now: datetime) -> None:
    """Copy a SQLite database that may be in use to a file that is not there yet; InputError."""
    if target.exists():
        raise InputError(f"{target} is there already. Move it away, or name another file.")
    if not target.parent.is_dir():
        raise InputError(f"There is no folder {target.parent}.")
    with writing(engine) as connection:
        runs.remember(connection, backups.STAGE, started_at=now, seconds=0, counts={})
    with backups.copied(database, target.parent) as copy:
        # From here on the database is ahead of its copy, and the data directory knows.
        house.advance(engine, data_dir)
        backups.keep(copy, target)
    log.info("The database was backed up.", extra={"action": "backup"})


def restore(
    database: Path,
    backup: Path,
    means: Means,
    *,
    locks: Path,
    backup_time: datetime | None,
    now: datetime,
) -> tuple[Restored, Path | None]:
    """Put a copy in the place of a SQLite database and settle what it does not know; DigestError.

    `backup_time` is that of a copy which does not tell. Returns the name of the old database too,
    which is kept; None when there was none. All or nothing: the copy is settled before it is put
    there.
    """
    if not backup.is_file():
        raise InputError(f"There is no file {backup}.")
    database = database.resolve()  # where a link leads to
    kept = database.with_name(f"{database.name}.before-{now:%Y%m%dT%H%M%SZ}")
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with backups.alone(database, locks), backups.copied(backup, database.parent) as copy:
        with backups.opened(copy, origin=backup) as engine:
            with reading(engine) as connection:
                begun = backup_time or backups.begun_at(connection)
            if begun is None:
                raise InputError(
                    f"{backup} does not say when it was made. Say it: --backup-time TIME"
                )
            with writing(engine) as connection:
                done = _settle(connection, means, backup_time=begun, now=now)
                reached = house.leap(connection, means.data_dir)
        there = backups.replace(database, copy, kept=kept)
    house.remember(means.data_dir, reached)
    return _told(done), kept if there else None


def restored(engine: Engine, means: Means, *, backup_time: datetime, now: datetime) -> Restored:
    """Settle what a database that was put back does not know; InputError.

    Repeated for the same backup it reads the journals once more, and closes nothing that began
    since the restore.
    """
    behind = house.check(engine, means.data_dir) is not None
    with writing(engine) as connection:
        if not behind and gaps.is_known(connection, _gap(means, backup_time, now).start):
            done = _read_journals(connection, means, backup_time=backup_time, now=now)
            reached = house.current(connection)
        else:
            done = _settle(connection, means, backup_time=backup_time, now=now)
            reached = house.leap(connection, means.data_dir)
    house.remember(means.data_dir, reached)
    return _told(done)


def _settle(
    connection: Connection, means: Means, *, backup_time: datetime, now: datetime
) -> Restored:
    if backup_time > now:
        raise InputError(
            f"The backup cannot have been made at {backup_time:%Y-%m-%d %H:%M}Z: that is to come."
        )
    gap = _gap(means, backup_time, now)
    gaps.add(connection, gap)
    gaps.skip_ids(connection, now=now)
    states = gaps.settle(connection, gap)
    done = _read_journals(connection, means, backup_time=backup_time, now=now)
    return replace(done, again=False, states=states)


def _gap(means: Means, backup_time: datetime, now: datetime) -> Gap:
    # A slot that was due before the backup may have been planned after it.
    return Gap(start=backup_time - means.catch_up, end=now)


def _read_journals(
    connection: Connection, means: Means, *, backup_time: datetime, now: datetime
) -> Restored:
    own = means.data_dir / journal.FILE
    paths = [*([own] if own.exists() else []), *means.journals]
    entries = chain.from_iterable(map(journal.read, paths))
    opt_outs = optouts.replay(connection, entries, since=backup_time, now=now)
    return Restored(
        backup_time=backup_time, end=now, again=True, states={}, journals=paths, opt_outs=opt_outs
    )


def _told(done: Restored) -> Restored:
    log.info(
        "The database was put back: what is not known of the time from %s to %s is settled.",
        done.backup_time.isoformat(),
        done.end.isoformat(),
        extra={"action": "restored", "states": done.states, "opt_outs": done.opt_outs},
    )
    return done
