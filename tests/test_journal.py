"""The journal of opt-outs: on disk before it returns, whole lines whoever writes, hashes alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from digest.errors import InputError
from digest.journal import FILE, append, read
from digest.models import OptOut, Status

AT = datetime(2026, 5, 28, 6, tzinfo=UTC)


def left(number: int = 0, kind: Status = Status.UNSUBSCRIBED) -> OptOut:
    return OptOut(at=AT + timedelta(seconds=number), kind=kind, hashes=(f"{number:064x}", "b" * 64))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / FILE


def test_what_is_written_is_read(path: Path) -> None:
    kinds = (Status.UNSUBSCRIBED, Status.COMPLAINED, Status.ERASED)
    entries = [left(number, kind) for number, kind in enumerate(kinds)]
    for entry in entries:
        append(path, entry)
    assert list(read(path)) == entries
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert all(
        set(json.loads(line)) == {"at", "kind", "hashes"} for line in path.read_text().splitlines()
    )


def test_it_is_on_disk_when_append_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[int, int]] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        fsync(handle)
        synced.append((os.fstat(handle).st_ino, os.fstat(handle).st_size))

    monkeypatch.setattr(os, "fsync", watched)
    append(path, left())
    file, folder = synced
    assert file == (path.stat().st_ino, path.stat().st_size)
    assert folder[0] == path.parent.stat().st_ino
    append(path, left(1))
    assert synced[2:] == [(path.stat().st_ino, path.stat().st_size)]


@pytest.mark.parametrize("cut", [1, 2, 20, 40, 100, -2, -1])
def test_a_line_that_was_cut_off_says_nothing_and_spoils_nothing(path: Path, cut: int) -> None:
    append(path, left(1))
    whole = path.stat().st_size
    append(path, left(2))
    line = path.read_bytes()[whole:]
    os.truncate(path, whole + len(line[:cut]))
    if cut == -1:  # the newline alone is missing
        assert list(read(path)) == [left(1), left(2)]
    else:
        assert list(read(path)) == [left(1)]
    append(path, left(3))
    assert list(read(path))[-1] == left(3)
    assert len(list(read(path))) == (3 if cut == -1 else 2)


def test_zeros_that_a_crash_of_the_machine_left(path: Path) -> None:
    append(path, left(1))
    with path.open("ab") as file:
        file.write(bytes(100))
    assert list(read(path)) == [left(1)]
    append(path, left(2))
    assert list(read(path)) == [left(1), left(2)]


def _append_many(path: Path, first: int) -> None:
    for number in range(first, first + 100):
        append(path, left(number))


def test_several_processes(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append_many, args=(path, n * 100)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(entry.at for entry in read(path)) == [left(n).at for n in range(300)]


LINE = {"at": AT.isoformat(), "kind": "unsubscribed", "hashes": ["a" * 64]}
FOREIGN = {
    "a database": b"SQLite format 3\0\n",
    "another file": b"email,name\nada@example.org,Ada\n",
    "other JSON": b'{"a": 1}\n',
    "no JSON": b"{at}\n",
    "a time without a zone": json.dumps({**LINE, "at": "2026-05-28T06:00"}).encode(),
    "a kind that is none": json.dumps({**LINE, "kind": "paused"}).encode(),
    "nobody": json.dumps({**LINE, "hashes": []}).encode(),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_another_file_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(json.dumps(LINE).encode() + b"\n" + content)
    with pytest.raises(InputError, match=r"x, line 2: this is no entry of a journal"):
        list(read(path))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        list(read(tmp_path / "x"))
