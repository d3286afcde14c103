"""The high-water mark: a database older than what was delivered from it is known as such."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete, update

from digest import schema
from digest.errors import InputError
from digest.pipeline.restoring import Means, Restored, restored
from digest.storage import house
from digest.storage.database import writing
from digest.storage.house import HighWater

BACKUP = datetime(2026, 5, 27, 3, tzinfo=UTC)


@dataclass
class Machine:
    """A database, and the data directory of a machine that delivers from it."""

    engine: Engine
    data_dir: Path

    def rise(self) -> HighWater:
        with writing(self.engine) as connection:
            reached = house.rise(connection)
        house.remember(self.data_dir, reached)
        return reached

    def set_back(self, to: HighWater) -> None:
        with writing(self.engine) as connection:
            connection.execute(update(schema.house).values(identity=to.identity, mark=to.mark))

    def problem(self) -> str | None:
        return house.check(self.engine, self.data_dir)

    def settle(self) -> Restored:
        means = Means(data_dir=self.data_dir, catch_up=timedelta(hours=12))
        return restored(self.engine, means, backup_time=BACKUP, now=BACKUP + timedelta(days=1))


@pytest.fixture
def machine(engine: Engine, tmp_path: Path) -> Machine:
    return Machine(engine, tmp_path / "data")


def test_a_database_that_is_behind_its_mark_is_told(machine: Machine) -> None:
    assert machine.problem() is None
    first = machine.rise()
    assert machine.rise().mark == first.mark + 1
    assert machine.problem() is None
    machine.set_back(first)
    problem = machine.problem()
    assert problem is not None
    assert "digest restored --backup-time" in problem


def test_another_database_is_not_behind(machine: Machine) -> None:
    machine.rise()
    first = machine.rise()
    machine.set_back(HighWater(identity="another", mark=0))
    assert machine.problem() is None
    machine.rise()
    machine.set_back(HighWater(identity=first.identity, mark=first.mark - 1))
    assert machine.problem(), "the first one's mark was forgotten"


def test_the_highest_mark_is_remembered_whoever_is_late(machine: Machine) -> None:
    first, second = machine.rise(), machine.rise()
    house.remember(machine.data_dir, first)
    machine.set_back(first)
    assert machine.problem()
    machine.set_back(second)
    assert machine.problem() is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"x": "y"}'])
def test_a_mark_that_cannot_be_read(machine: Machine, content: str) -> None:
    machine.data_dir.mkdir()
    (machine.data_dir / house.FILE).write_text(content)
    with pytest.raises(InputError, match=r"ledger\.mark does not hold"):
        machine.problem()


def test_settled_it_is_ahead_for_every_machine(machine: Machine, tmp_path: Path) -> None:
    first = machine.rise()
    for _ in range(3):
        last = machine.rise()
    house.remember(tmp_path / "elsewhere", HighWater(identity=last.identity, mark=last.mark + 99))
    machine.set_back(first)
    machine.settle()
    assert machine.problem() is None
    assert house.check(machine.engine, tmp_path / "elsewhere") is None
    # The database that it replaced is not to be used again by mistake.
    machine.set_back(last)
    assert machine.problem()


def test_the_same_backup_put_back_again_is_settled_again(machine: Machine) -> None:
    """The second time the database does not know that it was put back before."""
    first = machine.rise()
    machine.settle()
    with writing(machine.engine) as connection:
        connection.execute(delete(schema.gap))
    machine.set_back(first)
    assert machine.problem()
    assert not machine.settle().again
    assert machine.problem() is None


# ------------------------------------------------------------------ the file


def test_what_another_machine_raised_is_known_by_a_look(machine: Machine, tmp_path: Path) -> None:
    """An opt-out at the pages' machine: the machine that sends must know that it was there."""
    first = machine.rise()
    machine.rise()
    assert house.check(machine.engine, tmp_path / "elsewhere") is None
    machine.set_back(first)
    assert house.check(machine.engine, tmp_path / "elsewhere")


def test_a_data_directory_that_cannot_be_written_stops_no_look(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.rise()
    assert house.check(machine.engine, Path("/proc/nowhere/data")) is None
    assert "cannot be noted" in caplog.text


def _count_up(data_dir: Path, identity: str) -> None:
    for mark in range(1, 101):
        house.remember(data_dir, HighWater(identity=identity, mark=mark))


def test_processes_do_not_forget_each_others_marks(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_count_up, args=(tmp_path, name)) for name in "abc"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert house._remembered(tmp_path) == dict.fromkeys("abc", 100)
    assert [path.name for path in tmp_path.iterdir()] == [house.FILE]


def test_the_name_is_on_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[int, bool]] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        fsync(handle)
        synced.append((os.fstat(handle).st_ino, (tmp_path / house.FILE).exists()))

    monkeypatch.setattr(os, "fsync", watched)
    house.remember(tmp_path, HighWater(identity="a", mark=1))
    assert synced == [
        ((tmp_path / house.FILE).stat().st_ino, False),
        (tmp_path.stat().st_ino, True),
    ]
