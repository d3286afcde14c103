"""A SQLite database copied while in use, and a copy put in its place: whole, or not at all."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.command import upgrade as alembic_upgrade
from sqlalchemy import Engine, insert, select

from digest import schema
from digest.errors import Busy, DigestError, InputError, SchemaError
from digest.pipeline.restoring import Means, Restored, back_up, restore
from digest.storage import gaps, house, migrating
from digest.storage.database import exclusive, open_database, reading, writing

BACKUP = datetime(2026, 5, 27, 3, tzinfo=UTC)
NOW = datetime(2026, 5, 28, 15, tzinfo=UTC)


@dataclass
class Machine:
    """A SQLite database with topics in it, to tell one state from another."""

    folder: Path

    @property
    def database(self) -> Path:
        return self.folder / "var" / "digest.db"

    @property
    def file(self) -> Path:
        return self.folder / "backups" / "monday.db"

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @contextmanager
    def opened(self, path: Path | None = None) -> Iterator[Engine]:
        engine = open_database(f"sqlite:///{path or self.database}")
        try:
            yield engine
        finally:
            engine.dispose()

    def add(self, *names: str) -> None:
        with self.opened() as engine, writing(engine) as connection:
            rows = [{"slug": n, "name": n, "query": n, "created_at": BACKUP} for n in names]
            connection.execute(insert(schema.topic), rows)

    def names(self, path: Path | None = None) -> list[str]:
        with self.opened(path) as engine, reading(engine) as connection:
            return list(connection.execute(select(schema.topic.c.name)).scalars())

    def back_up(self) -> None:
        self.file.parent.mkdir(exist_ok=True)
        with self.opened() as engine:
            back_up(engine, self.database, self.file, data_dir=self.data_dir, now=BACKUP)

    def restore(
        self, file: Path | None = None, *, backup_time: datetime | None = None
    ) -> tuple[Restored, Path | None]:
        return restore(
            self.database,
            file or self.file,
            Means(data_dir=self.data_dir, catch_up=timedelta(hours=12)),
            locks=self.database.parent / "locks",
            backup_time=backup_time,
            now=NOW,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    found = Machine(tmp_path)
    with found.opened() as engine:
        migrating.upgrade(engine)
    found.add("monday")
    return found


# ------------------------------------------------------------------ taking one


def test_a_backup_is_one_file_for_its_owner_alone(machine: Machine) -> None:
    machine.back_up()
    assert [path.name for path in machine.file.parent.iterdir()] == [machine.file.name]
    assert stat.S_IMODE(machine.file.stat().st_mode) == 0o600
    assert machine.names(machine.file) == ["monday"]


def test_it_never_overwrites(machine: Machine) -> None:
    machine.back_up()
    before = machine.file.read_bytes()
    machine.add("tuesday")
    with pytest.raises(InputError, match="is there already"):
        machine.back_up()
    assert machine.file.read_bytes() == before


def test_a_folder_that_is_not_there(machine: Machine) -> None:
    with (
        machine.opened() as engine,
        pytest.raises(InputError, match="There is no folder"),
    ):
        back_up(engine, machine.database, machine.file, data_dir=machine.data_dir, now=BACKUP)


def test_the_database_is_ahead_of_every_copy_of_it(machine: Machine) -> None:
    machine.back_up()
    with machine.opened() as engine:
        assert house.check(engine, machine.data_dir) is None
    with machine.opened(machine.file) as copy:
        assert house.check(copy, machine.data_dir)


def test_one_state_while_the_service_writes(machine: Machine) -> None:
    """Pairs are written in one transaction each; no copy has half of one."""
    stop, wrote = threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            machine.add(f"left {number}", f"right {number}")
            number += 1
            wrote.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            wrote.clear()
            assert wrote.wait(30)
            with machine.opened() as engine:
                target = machine.folder / f"{number}.db"
                back_up(engine, machine.database, target, data_dir=machine.data_dir, now=BACKUP)
    finally:
        stop.set()
        writer.join()
    for number in range(5):
        names = machine.names(machine.folder / f"{number}.db")
        found = [{n.split()[1] for n in names if n.startswith(side)} for side in ("left", "right")]
        assert found[0] == found[1]


# ------------------------------------------------------------------ putting one back


def test_a_restore(machine: Machine) -> None:
    machine.back_up()
    machine.add("tuesday")
    done, kept = machine.restore()
    assert machine.names() == ["monday"]
    assert kept is not None
    assert machine.names(kept) == ["monday", "tuesday"]
    assert (done.backup_time, done.end, done.again) == (BACKUP, NOW, False)
    with machine.opened() as engine:
        assert house.check(engine, machine.data_dir) is None
        with reading(engine) as connection:
            assert len(gaps.load(connection)) == 1
    assert stat.S_IMODE(machine.database.stat().st_mode) == 0o600
    beside = {path.name for path in machine.database.parent.iterdir()}
    assert beside == {machine.database.name, kept.name, "locks"}
    # The same copy may be put back again.
    machine.add("wednesday")
    kept.unlink()
    machine.restore()
    assert machine.names() == ["monday"]


def test_where_no_database_is_left(machine: Machine) -> None:
    machine.back_up()
    for path in machine.database.parent.glob("digest.db*"):
        path.unlink()
    _, kept = machine.restore()
    assert kept is None
    assert machine.names() == ["monday"]


def test_a_broken_database_is_replaced_with_all_that_belongs_to_it(machine: Machine) -> None:
    machine.back_up()
    machine.database.write_bytes(b"no database" * 1000)
    wal = machine.database.with_name("digest.db-wal")
    wal.write_bytes(b"of the broken one")
    _, kept = machine.restore()
    assert machine.names() == ["monday"]
    assert kept is not None
    assert kept.with_name(f"{kept.name}-wal").read_bytes() == b"of the broken one"


def test_a_copy_of_an_older_version_is_upgraded(machine: Machine) -> None:
    machine.file.parent.mkdir()
    with machine.opened(machine.file) as engine, writing(engine) as connection:
        config = migrating._config()
        config.attributes["connection"] = connection
        alembic_upgrade(config, "0001")
    machine.restore(backup_time=BACKUP)
    with machine.opened() as engine:
        assert migrating.check(engine) is None


def test_a_copy_made_by_other_means_needs_its_time(machine: Machine) -> None:
    machine.file.parent.mkdir()
    with closing(sqlite3.connect(machine.database)) as connection:
        connection.execute("VACUUM INTO ?", (str(machine.file),))
    with pytest.raises(InputError, match="does not say when it was made"):
        machine.restore()
    done, _ = machine.restore(backup_time=BACKUP)
    assert done.backup_time == BACKUP


@pytest.mark.parametrize("name", ["collect", "plan", "deliver", "worker-7"])
def test_nothing_may_be_at_work(machine: Machine, name: str) -> None:
    machine.back_up()
    machine.add("tuesday")
    locks = machine.database.parent / "locks"
    with machine.opened() as engine, exclusive(engine, name, locks):
        engine.dispose()  # the lock alone must do
        with pytest.raises(Busy, match=name):
            machine.restore()
    assert machine.names() == ["monday", "tuesday"]


def test_nobody_may_have_it_open(machine: Machine) -> None:
    """The pages hold no lock, but they would go on with the old database."""
    machine.back_up()
    machine.add("tuesday")
    with machine.opened(), pytest.raises(Busy, match="Stop the service"):
        machine.restore()
    assert machine.names() == ["monday", "tuesday"]
    assert machine.restore()[1] is not None


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")


def _damaged(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"x" * 4096 * 30)


def _cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


BAD = {
    "not there": (Path.unlink, InputError, "There is no file"),
    "empty": (lambda path: os.truncate(path, 0), InputError, "is no database of Paper Digest"),
    "another file": (lambda path: path.write_bytes(b"x" * 5000), InputError, "not a database"),
    "damaged": (_damaged, InputError, "damaged|malformed"),
    "cut off": (_cut_off, InputError, "damaged|malformed"),
    "of a newer version": (_newer, SchemaError, "9999, which this version does not know"),
}


@pytest.mark.parametrize(("spoil", "error", "words"), BAD.values(), ids=BAD)
def test_a_file_that_cannot_be_put_back_changes_nothing(
    machine: Machine, spoil: Callable[[Path], object], error: type[DigestError], words: str
) -> None:
    machine.add(*map(str, range(1000)))
    machine.back_up()
    machine.add("tuesday")
    spoil(machine.file)
    with pytest.raises(error, match=words):
        machine.restore()
    assert "tuesday" in machine.names()
    assert {path.name for path in machine.database.parent.iterdir()} <= {"digest.db", "locks"}
