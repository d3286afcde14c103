"""Opt-outs of the journal: what one says of somebody, and doing again what a database lost."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice

from sqlalchemy import Connection, RowMapping, delete, select, update

from digest import schema
from digest.models import OptOut, State, Status
from digest.storage import interests, subscribers
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

    Who confirmed their address after an entry came back, and stays. An address of an entry after
    `since`, the backup, is suppressed even if nobody has it.
    """
    changed = Counter[Status]()
    for batch in _batches(entries):
        people = _people(connection, batch)
        for found in batch:
            known = {
                row["id"]: row["confirmed_at"] for hash_ in found.hashes for row in people[hash_]
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
            rows = [row for hash_ in one.hashes for row in people[hash_]]
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
        select(table.c.id, table.c.address_hash, table.c.confirmed_at, table.c.status).where(
            table.c.address_hash.in_(hashes)
        )
    ).mappings():
        found[row["address_hash"]].append(row)
    return found


def _leave(connection: Connection, subscriber_id: int, kind: Status, *, now: datetime) -> bool:
    why = Status.UNSUBSCRIBED if kind is Status.ERASED else kind
    left = subscribers.unsubscribe(connection, subscriber_id, now=now, detail=_DETAIL, status=why)
    if kind is Status.ERASED:
        return erase(connection, subscriber_id, now=now)
    return left


def _suppress(connection: Connection, found: OptOut) -> None:
    connection.execute(
        insert_ignoring(connection, schema.suppression),
        [
            {"address_hash": hash_, "reason": found.kind, "detail": _DETAIL, "since": found.at}
            for hash_ in found.hashes
        ],
    )


def erase(connection: Connection, subscriber_id: int, *, now: datetime) -> bool:
    """Forget who somebody is, who gets no mail any more; False when that was so already.

    The ledger's rows stay, so that it goes on adding up; nothing in them names the person. What
    waited for them is skipped.
    """
    people, deliveries = schema.subscriber, schema.delivery
    digests, mails = schema.digest, schema.account_mail
    erased = connection.execute(
        update(people)
        .where(people.c.id == subscriber_id, people.c.status != Status.ERASED)
        .values(
            status=Status.ERASED,
            address="",
            address_key=f"erased {subscriber_id}",  # no address has a space there
            name="",
        )
    ).rowcount
    if not erased:
        return False
    for table, delivered in (
        (digests, deliveries.c.digest_id),
        (mails, deliveries.c.account_mail_id),
    ):
        # Found by what they deliver: an index of their own would cost at every move of every mail.
        mine = table.c.subscriber_id == subscriber_id
        theirs = delivered.in_(select(table.c.id).where(mine))
        connection.execute(
            update(deliveries)
            .where(theirs, deliveries.c.state.in_([State.PLANNED, State.CLAIMED, State.DEFERRED]))
            .values(state=State.SKIPPED, reason=Status.ERASED, worker_id=None, ended_at=now)
        )
        connection.execute(update(deliveries).where(theirs).values(address=""))
        connection.execute(update(table).where(mine).values(personal={}))
    connection.execute(delete(schema.follow).where(schema.follow.c.subscriber_id == subscriber_id))
    interests.erase(connection, subscriber_id)
    return True
