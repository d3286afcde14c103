"""Opening the database, reading and writing in transactions, and locks that die with us."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import (
    URL,
    BindParameter,
    ColumnElement,
    Connection,
    Engine,
    Result,
    String,
    Subquery,
    Table,
    Text,
    cast,
    create_engine,
    event,
    func,
    literal_column,
    make_url,
    select,
    text,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.types import TypeEngine

from digest import schema
from digest.errors import Busy, SettingsError

# SQLite's locks and its WAL's shared memory do not work over a network (sqlite.org/wal.html).
_NETWORK_FILE_SYSTEMS = {
    *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs", "lustre"),
    *("ncpfs", "nfs", "nfs4", "orangefs", "pvfs2", "smb2", "smb3", "smbfs"),
    *("fuse.ceph", "fuse.ceph-fuse", "fuse.davfs", "fuse.gcsfuse", "fuse.glusterfs"),
    *("fuse.goofys", "fuse.juicefs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
}

_CLOCK_LASTS = 60.0  # seconds
_CACHE = 32_768  # kB of SQLite's pages that a connection keeps
# Pages in SQLite's log before they go to their places: a delivery's are written five times in a
# moment, and there once.
_CHECKPOINT = 8_192
_IDLE_IN_TRANSACTION = 20_000  # milliseconds
EXTRA = "Install them: pip install 'paper-digest[postgres]'"
# What libpq waits for is without limit by itself. A server that vanished (power, a firewall that
# forgot the connection) is noticed within a minute; the URL's own words win.
PATIENCE = {
    "connect_timeout": 5,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 50_000,  # milliseconds
}


def open_database(url: str) -> Engine:
    """An engine for `sqlite:///PATH` or `postgresql+psycopg://...`; SettingsError if unreachable.

    SQLite runs with WAL and synchronous=FULL: what is committed is on disk (invariant 4).
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql" and not find_spec("psycopg"):
        raise SettingsError(f"DIGEST_DATABASE_URL: PostgreSQL needs more packages. {EXTRA}")
    try:
        if parsed.get_backend_name() == "sqlite":
            engine = _open_sqlite(url, Path(parsed.database or ""))
        else:
            engine = _open_postgresql(parsed)
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except (SQLAlchemyError, OSError) as error:
        query = {name: "***" if "pass" in name else value for name, value in parsed.query.items()}
        shown = parsed.set(query=query).render_as_string(hide_password=True)
        raise SettingsError(
            f"DIGEST_DATABASE_URL: the database at {shown} cannot be opened: {said(error)}"
        ) from error
    return engine


def _open_postgresql(url: URL) -> Engine:
    engine = create_engine(
        url,
        json_deserializer=_json,
        pool_pre_ping=True,
        # As many as ever are needed at once are kept: to open one takes as long as a page.
        pool_size=15,
        max_overflow=0,
        pool_use_lifo=True,
        hide_parameters=True,
        # A prepared statement keeps the plan of when its tables were small, and PgBouncer's
        # transactions know none.
        connect_args={"prepare_threshold": None, **PATIENCE, **url.query},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, _record: object) -> None:
        # A process that is stopped in mid-transaction must not hold its rows for ever.
        cursor = connection.cursor()
        cursor.execute(f"SET idle_in_transaction_session_timeout = {_IDLE_IN_TRANSACTION}")
        # The default is of disks that turn, and has a whole table read for a few hundred keys.
        cursor.execute("SET random_page_cost = 1.1")
        cursor.close()
        connection.commit()

    return engine


def said(error: BaseException) -> str:
    """What the database said, without what the libraries around it add: one line."""
    cause = getattr(error, "orig", None) or error.__cause__ or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]


def _json(stored: str | bytes) -> Any:
    """What a JSON column holds: read three times as fast, but for what only Python's JSON knows."""
    try:
        return orjson.loads(stored)
    except orjson.JSONDecodeError:  # a lone surrogate
        return json.loads(stored)


def refuse_unsafe(engine: Engine) -> None:
    """SettingsError if what PostgreSQL commits may be gone after a crash (invariant 4)."""
    if engine.name != "postgresql":
        return
    with engine.connect() as connection:
        off = [
            name
            for name in ("fsync", "synchronous_commit")
            if connection.execute(text(f"SHOW {name}")).scalar_one() == "off"
        ]
    if off:
        raise SettingsError(
            f"DIGEST_DATABASE_URL: {' and '.join(off)} of that PostgreSQL is off, so a crash may"
            " forget what was sent, and it would be sent twice. Turn it on, or set"
            " DIGEST_ALLOW_UNSAFE_DATABASE=true."
        )


def _open_sqlite(url: str, path: Path) -> Engine:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"The database's directory {path.parent} cannot be made: {error.strerror}. It is set"
            " by DIGEST_DATABASE_URL, or else by DIGEST_DATA_DIR."
        ) from error
    mounts = Path("/proc/mounts")  # elsewhere than on Linux nobody tells
    told = mounts.read_bytes() if mounts.exists() else b""
    kind = file_system(path.resolve().parent, mounts=told)  # where a link leads to
    if kind in _NETWORK_FILE_SYSTEMS:
        raise SettingsError(
            f"DIGEST_DATABASE_URL: {path} is on a network file system ({kind}), where SQLite loses"
            " data. Put it on a local disk, or use PostgreSQL."
        )
    engine = create_engine(
        url,
        json_deserializer=_json,
        connect_args={"timeout": 30},
        hide_parameters=True,
        pool_use_lifo=True,  # a connection's cache is worth nothing once another one has written
    )

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, _record: object) -> None:
        # The driver must not begin transactions by itself: "begin" below does.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute(f"PRAGMA cache_size=-{_CACHE}")
        cursor.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A read that becomes a write fails at once, whatever the busy timeout; so a writing
        # transaction takes the lock first.
        immediate = connection.get_execution_options().get("digest_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def file_system(path: Path, *, mounts: bytes) -> str:
    """The type of the file system that holds `path`, by /proc/mounts; empty when it is not there.

    Of several that are mounted at one place, the last one is what is seen (proc_pid_mounts(5)).
    """
    best, kind = b"", b""
    for line in mounts.splitlines():
        _, mount, found, *_ = line.split(b" ")
        # Spaces and the like are written in octal: \040.
        mount = re.sub(rb"\\([0-7]{3})", lambda digits: bytes([int(digits[1], 8)]), mount)
        if path.is_relative_to(os.fsdecode(mount)) and len(mount) >= len(best):
            best, kind = mount, found
    return kind.decode()


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that reads one state of the database."""
    level = {"isolation_level": "REPEATABLE READ"} if engine.name == "postgresql" else {}
    with engine.connect().execution_options(**level) as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that may write; committed when the block ends well."""
    with engine.connect().execution_options(digest_write=True) as connection, connection.begin():
        yield connection


@contextmanager
def exclusive(engine: Engine, name: str, folder: Path) -> Iterator[None]:
    """Hold the one lock of that name for this database, or raise Busy at once.

    The lock is an advisory lock of PostgreSQL's, or a locked file beside SQLite: both fall with
    the process that held them, so whoever gets it knows that no other is alive.
    """
    if engine.dialect.name == "postgresql":
        key = int.from_bytes(hashlib.sha256(f"digest:{name}".encode()).digest()[:8], signed=True)
        with engine.connect() as connection:
            held = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key})
            if not held.scalar_one():
                raise _busy(name)
            connection.commit()
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})
                connection.commit()
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(name) from None
        yield


def _busy(name: str) -> Busy:
    return Busy(f"Another process is at it ({name}). It holds the lock until it ends; try again.")


def give_up_waiting(connection: Connection, *, after: timedelta) -> None:
    """Let this transaction fail, OperationalError, that waits longer for another's lock.

    SQLite has one lock for all, and its own patience.
    """
    if connection.dialect.name == "postgresql":
        milliseconds = int(after.total_seconds() * 1000)
        connection.execute(text(f"SET LOCAL lock_timeout = {milliseconds}"))


def insert_into(dialect: str, table: Table) -> Any:
    """INSERT with the ON CONFLICT of both databases, which SQLAlchemy has once for each."""
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert  # noqa: PLC0415 - may be absent
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment] # noqa: PLC0415
    return insert(table)


def insert_ignoring(connection: Connection, table: Table) -> Any:
    """INSERT ... ON CONFLICT DO NOTHING: a unique key's refusal is an answer, not an error."""
    return insert_into(connection.dialect.name, table).on_conflict_do_nothing()


def clock(connection: Connection) -> datetime:
    """The database's own clock: one clock for all machines (to the millisecond on SQLite)."""
    if connection.dialect.name == "postgresql":
        found: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        return found.astimezone(UTC)
    now = connection.exec_driver_sql("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')").scalar_one()
    return datetime.fromisoformat(now).replace(tzinfo=UTC)


class DatabaseClock:
    """The database's clock, asked once a minute and carried on in between.

    Machines that share a database share its time, however wrong their own clocks are.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._asked = -math.inf

    def __call__(self) -> datetime:
        """Now."""
        passed = time.monotonic() - self._asked
        if passed > _CLOCK_LASTS:
            with self._engine.connect() as connection:
                self._now, passed = clock(connection), 0.0
            self._asked = time.monotonic()
        return self._now + timedelta(seconds=passed)


def given(dialect: str, rows: BindParameter[str], **columns: TypeEngine[Any]) -> Subquery:
    """Rows that a statement brings along, `packed` into one parameter, as a table to join.

    One statement for many rows: a hundred small ones would cost a hundred turns of the
    interpreter's lock, each of which may take milliseconds while another thread is busy.
    """
    if dialect == "postgresql":
        # As JSONB each row is parsed once; as JSON once for each of its values.
        values = func.jsonb_array_elements(cast(rows, JSONB)).table_valued(
            "value", name="given_rows"
        )
        words = [values.c.value.op("->>")(place) for place in range(len(columns))]
        fields: list[ColumnElement[Any]] = [
            cast(word + "+00" if isinstance(type_, schema.Instant) else word, type_)
            for word, type_ in zip(words, columns.values(), strict=True)
        ]
    else:
        values = func.json_each(rows).table_valued("value", name="given_rows")
        fields = [
            type_coerce(func.json_extract(values.c.value, text(f"'$[{place}]'")), type_)
            for place, type_ in enumerate(columns.values())
        ]
    named = [field.label(name) for field, name in zip(fields, columns, strict=True)]
    return select(*named).subquery("given")


def packed(rows: Iterable[Sequence[Any]]) -> str:
    """The parameter for `given`: rows of what JSON knows, and instants."""
    return orjson.dumps([tuple(row) for row in rows], _stored, _AS_STORED).decode()


@lru_cache(maxsize=4096)
def _stored(value: Any) -> str:
    """An instant in UTC, as SQLite keeps it."""
    if not isinstance(value, datetime):
        raise TypeError(f"{value!r} cannot be packed")
    return value.astimezone(UTC).isoformat(" ", "microseconds")[:26]


_AS_STORED = orjson.OPT_PASSTHROUGH_DATETIME  # by `_stored`


def unindexed(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The column's value, by which no index is looked up.

    A condition that fits a partial index makes PostgreSQL read all that is in it, however many,
    where statistics are old or none; rows that are `given` are found by their keys alone.
    """
    nothing: ColumnElement[Any] = literal_column("''" if isinstance(column.type, String) else "0")
    return column + nothing


def listed(dialect: str, *columns: ColumnElement[Any]) -> ColumnElement[str]:
    """All rows of a statement in one value, to be `unpacked`: a list of lists, or of values.

    For each row that is fetched SQLite's driver lets go of the interpreter's lock; see `given`.
    """
    if dialect == "postgresql":
        array, whole = func.json_build_array, func.json_agg
    else:
        array, whole = func.json_array, func.json_group_array
    found = whole(array(*columns) if len(columns) > 1 else columns[0])
    # As text: `unpacked` reads it faster than a driver does.
    return cast(found, Text) if dialect == "postgresql" else type_coerce(found, Text)


def unpacked(result: Result[Any]) -> list[Any]:
    """The rows of a statement whose only value is `listed`."""
    found = result.scalar_one()
    rows: list[Any] = orjson.loads(found) if found else []
    return rows


@lru_cache(maxsize=4096)  # most rows of a statement share theirs
def instant(text: str) -> datetime:
    """An instant as it stands in what was `listed`."""
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
