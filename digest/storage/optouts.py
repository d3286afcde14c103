"""Opt-outs of the journal: what one says of somebody, and doing again what a database lost."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice

from sqlalchemy import Connection, RowMapping, select

from digest import schema
from digest.models import OptOut, Status
from digest.storage import erasing, subscribers
from digest.storage.database import insert_ignoring
from digest.suppression import address_hashes

_BATCH = 500
_DETAIL = "again, from the journal"
_LEFT = {Status.UNSUBSCRIBED, Status.COMPLAINED, Status.ERASED}


def entry(
    connection: Connection,
    subscriber_id: int,
    kind: Status,
    *,
    secrets: Sequence[bytes],
    now: datetime,
) -> OptOut:
    """What the journal is to say of a subscriber; before an erasure, for it needs the address."""
    table = schema.subscriber
    row = connection.execute(
        select(table.c.address_key, table.c.address_hash).where(table.c.id == subscriber_id)
    ).one()
    # Of the stored secret and today's: an older database may know this address by either.
    hashes = dict.fromkeys((row.address_hash, *address_hashes(row.address_key, secrets=secrets)))
    return OptOut(at=now, kind=kind, hashes=tuple(hashes))


def replay(
    connection: Connection, entries: Iterable[OptOut], *, since: datetime, now: datetime
) -> dict[Status, int]:
    """Do again what the entries say; harmless when repeated. How many people changed, by kind.

    Who confirmed their address after an entry came back, and stays; who asked to, and has not
    confirmed, gets no digest anyway. An address of an entry after `since`, the backup, is
    suppressed even if nobody has it.
    """
    changed = Counter[Status]()
    for batch in _batches(entries):
        people = _people(connection, batch)
        for found in batch:
            known = {
                row["id"]: row["confirmed_at"]
                for hash_ in found.hashes
                for row in people[hash_]
                if not _asked_anew(row, found)
            }
            if any(confirmed_at and confirmed_at > found.at for confirmed_at in known.values()):
                continue
            if known or found.at >= since:
                _suppress(connection, found)
            for subscriber_id in known:
                changed[found.kind] += _leave(connection, subscriber_id, found.kind, now=now)
    return dict(changed)


def unknown(connection: Connection, entries: Iterable[OptOut]) -> list[OptOut]:
    """Those of the entries that the database does not know: somebody left, and would get mail."""
    found = []
    for batch in _batches(entries):
        people = _people(connection, batch)
        for one in batch:
            rows = [
                row for hash_ in one.hashes for row in people[hash_] if not _asked_anew(row, one)
            ]
            if any(row["confirmed_at"] and row["confirmed_at"] > one.at for row in rows):
                continue
            known = {Status.ERASED} if one.kind is Status.ERASED else _LEFT
            if any(row["status"] not in known for row in rows):
                found.append(one)
    return found


def _batches(entries: Iterable[OptOut]) -> Iterator[list[OptOut]]:
    remaining = iter(entries)
    while batch := list(islice(remaining, _BATCH)):
        yield batch


def _people(connection: Connection, batch: Sequence[OptOut]) -> defaultdict[str, list[RowMapping]]:
    """The subscribers with an address of the batch, by its hash."""
    table = schema.subscriber
    found = defaultdict[str, list[RowMapping]](list)
    hashes = {hash_ for one in batch for hash_ in one.hashes}
    for row in connection.execute(
        select(
            *(table.c.id, table.c.address_hash, table.c.status),
            *(table.c.created_at, table.c.confirmed_at),
        ).where(table.c.address_hash.in_(hashes))
    ).mappings():
        found[row["address_hash"]].append(row)
    return found


def _asked_anew(row: RowMapping, entry: OptOut) -> bool:
    """Whether somebody of that address came after the entry, and is yet to confirm."""
    return bool(row["status"] == Status.PENDING and row["created_at"] > entry.at)


def _leave(connection: Connection, subscriber_id: int, kind: Status, *, now: datetime) -> bool:
    why = Status.UNSUBSCRIBED if kind is Status.ERASED else kind
    left = subscribers.unsubscribe(connection, subscriber_id, now=now, detail=_DETAIL, status=why)
    if kind is Status.ERASED:
        return erasing.erase(connection, subscriber_id, now=now)
    return left


def _suppress(connection: Connection, found: OptOut) -> None:
    connection.execute(
        insert_ignoring(connection, schema.suppression),
        [
            {"address_hash": hash_, "reason": found.kind, "detail": _DETAIL, "since": found.at}
            for hash_ in found.hashes
        ],
    )
