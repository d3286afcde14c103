"""The journal of opt-outs: who left is known even where the database was put back from a backup.

A file to which lines are added and nothing else, each on disk before the database commits what it
says. It holds keyed hashes, never an address.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from digest.errors import InputError
from digest.models import OptOut, Status

FILE = "opt-outs.journal"
KINDS = {Status.UNSUBSCRIBED, Status.COMPLAINED, Status.ERASED}


def append(path: Path, entry: OptOut) -> None:
    """Write an entry, and return when it is on disk; several processes may do so. OSError."""
    line = {"at": entry.at.isoformat(), "kind": entry.kind, "hashes": entry.hashes}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(handle, "ab") as file:
        fcntl.flock(handle, fcntl.LOCK_EX)
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            file.write(b"\n")  # whoever wrote last died over it
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(handle)
        if not size:
            _sync(path.parent)


def _sync(folder: Path) -> None:
    """Force to disk that a file is in there."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: Path) -> Iterator[OptOut]:
    """The entries, in order; InputError where the file is none of these.

    A line that was cut off says nothing: its writer died before the database committed.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                text = line.strip(b"\0\r\n ")  # a crash of the machine may leave zeros
                cut_off = text.startswith(b"{") and not text.endswith(b"}")
                if text and not cut_off:
                    yield _entry(text, where=f"{path}, line {number}")
    except OSError as error:
        raise InputError(f"The journal {path} cannot be read: {error.strerror}.") from None


def _entry(text: bytes, *, where: str) -> OptOut:
    try:
        row = json.loads(text)
        at, kind = datetime.fromisoformat(row["at"]), Status(row["kind"])
        hashes = tuple(map(str, row["hashes"]))
    except (ValueError, TypeError, KeyError):
        at, kind, hashes = None, None, ()
    if at is None or at.tzinfo is None or kind not in KINDS or not hashes:
        raise InputError(f"{where}: this is no entry of a journal of opt-outs.")
    return OptOut(at=at, kind=kind, hashes=hashes)
