"""`digest backup`, `restore` and `restored`: copies of the database, and what one does not know."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digest.cli.output import say, show_json
from digest.cli.setup import AsJson, parse_time, services
from digest.errors import InputError

if TYPE_CHECKING:
    from digest.pipeline.restoring import Means, Restored
    from digest.settings import Settings

Journals = Annotated[
    list[Path] | None,
    typer.Option(
        "--journal",
        metavar="FILE",
        help="The opt-outs.journal of another machine; repeatable.",
    ),
]
BackupTime = Annotated[
    str,
    typer.Option(
        "--backup-time",
        metavar="ISO-TIME",
        help="When the backup was begun, or earlier, e.g. 2026-05-28T03:00Z.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (backup, restore, restored):
        app.command()(command)


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that is not there yet.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Copy a SQLite database, while the service runs."""
    from digest.pipeline.restoring import back_up

    database = _database(file, "pg_dump --format=custom --file={file} {url}")
    found = services()
    now = found.clock()
    back_up(found.engine, database, file, data_dir=found.settings.data_dir, now=now)
    if as_json:
        show_json({"file": str(file), "bytes": file.stat().st_size, "backup_time": now})
        return
    say(f"{file} holds the database as of {now:%Y-%m-%d %H:%M:%S}Z.")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `backup` wrote.")],
    *,
    backup_time: BackupTime = "",
    journal: Journals = None,
    as_json: AsJson = False,
) -> None:
    """Put a copy in the place of the SQLite database; nothing is sent twice after it.

    The service must not run. The old database is kept beside it under another name.
    """
    from digest.pipeline.restoring import restore as put_back
    from digest.services import real_clock

    database = _database(
        file,
        "pg_restore --clean --if-exists --single-transaction --dbname={url} {file}"
        " && digest restored --backup-time TIME",
    )
    settings = _settings()
    done, kept = put_back(
        database,
        file,
        _means(settings, journal),
        locks=database.parent / "locks",
        backup_time=_time(backup_time) if backup_time else None,
        now=real_clock(),
    )
    if as_json:
        show_json({"kept": str(kept) if kept else None, **_plain(done)})
        return
    if kept is not None:
        say(f"The old database is kept as {kept}")
    _show(done)


def restored(
    backup_time: BackupTime,
    *,
    journal: Journals = None,
    as_json: AsJson = False,
) -> None:
    """Say that the database was put back from a backup, so that nothing is sent twice.

    The slots since the backup are not sent, papers known by now are passed over, and who left
    since is taken out again.
    """
    from digest.pipeline.restoring import restored as settle

    instant = _time(backup_time)
    found = services()
    done = settle(
        found.engine, _means(found.settings, journal), backup_time=instant, now=found.clock()
    )
    if as_json:
        show_json(_plain(done))
    else:
        _show(done)


def _settings() -> Settings:
    from digest.settings import load

    return load(os.environ, Path(".env"))


def _means(settings: Settings, journals: list[Path] | None) -> Means:
    from digest.pipeline.restoring import Means

    return Means(
        data_dir=settings.data_dir,
        catch_up=timedelta(hours=settings.catch_up_hours),
        journals=journals or (),
    )


def _time(text: str) -> datetime:
    return parse_time(text, option="--backup-time")


def _database(file: Path, instead: str) -> Path:
    """Where the SQLite database lies; InputError that says what to do about another one."""
    from sqlalchemy import URL, make_url

    url = make_url(_settings().database_url)
    if url.get_backend_name() == "sqlite":
        return Path(url.database or "")
    # Without the driver, which PostgreSQL's programs do not know, and without passwords.
    query = {name: value for name, value in url.query.items() if "password" not in name}
    plain = URL.create("postgresql", url.username, None, url.host, url.port, url.database, query)
    command = instead.format(file=quote(str(file)), url=quote(str(plain)))
    raise InputError(f"The database is PostgreSQL, which has its own way. Run: {command}")


def _plain(done: Restored) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(done), "journals": list(map(str, done.journals))}


def _show(done: Restored) -> None:
    if done.again:
        say("That backup was settled before; the journals were read once more.")
    else:
        say(
            f"What is not known of the time from {done.backup_time:%Y-%m-%d %H:%M:%S}Z to"
            f" {done.end:%Y-%m-%d %H:%M:%S}Z is settled: its slots are not sent."
        )
        closed = ", ".join(f"{n:,} {state}" for state, n in done.states.items() if n)
        say(f"Deliveries that were open: {closed or 'none'}.")
    if not done.journals:
        say(
            "There is no journal of opt-outs, so that who left since the backup is not known. If"
            " you have it elsewhere, run: digest restored --backup-time"
            f" {done.backup_time.isoformat()} --journal FILE"
        )
        return
    out = ", ".join(f"{n:,} {kind}" for kind, n in done.opt_outs.items() if n)
    say(f"Taken out again, from the journal: {out or 'nobody'}.")
