"""Forgetting what is old, in small transactions, so that nobody waits for it.

Which papers somebody had is never forgotten, nor what became of a digest: the rows of `digest` and
`delivery` are that history and stay. What goes is how an old digest looked, and how sending went.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Engine, Table, and_, delete, exists, func, select, update

from digest import schema
from digest.storage.database import reading, writing
from digest.storage.outcomes import IS_OPEN
from digest.storage.workers import IS_HELD

BATCH = 10_000  # rows in one transaction


def forget(engine: Engine, *, before: datetime, digests_before: datetime) -> dict[str, int]:
    """Forget attempts, reads and the like from `before`, digests' looks from `digests_before`.

    Returns how many of each. What an interruption leaves is done the next time.
    """
    attempts, reads, runs, records = schema.attempt, schema.source_run, schema.run, schema.record
    workers, bounces, alerts, domains = schema.worker, schema.bounce, schema.alert, schema.domain
    judged = and_(bounces.c.at < before, bounces.c.verdict != "")
    settled = and_(alerts.c.ended_at < before, alerts.c.told_at.is_not(None))
    written = and_(records.c.changed_at < before, records.c.raw != "")
    return {
        "attempts": _delete_first(engine, attempts, attempts.c.started_at < before),
        "reads": _delete_first(engine, reads, reads.c.started_at < before),
        "runs": _delete_first(engine, runs, runs.c.started_at < before),
        "workers": _delete_first(engine, workers, workers.c.stopped_at < before),
        "bounces": _delete_first(engine, bounces, judged),
        "alerts": _delete_first(engine, alerts, settled),
        "domains": _delete(engine, domains, domains.c.looked_up_at < before),
        "raw records": _empty(engine, records, written, raw=""),
        "digests": _empty_digests(engine, before=digests_before),
        "account mails": _delete_account_mails(engine, before=digests_before),
        "parts": _delete_parts(engine, before=digests_before),
    }


def forget_asking(engine: Engine, *, before: datetime) -> dict[str, int]:
    """Forget what was asked before then: mailed links that are over, and how often who asked."""
    requests, tickets, quotas = schema.request, schema.ticket, schema.quota
    with writing(engine) as connection:
        counted = connection.execute(delete(quotas).where(quotas.c.start < before)).rowcount
    return {
        "quotas": counted,
        "requests": _delete_first(engine, requests, requests.c.created_at < before),
        "tickets": _delete_first(engine, tickets, tickets.c.created_at < before),
    }


def _delete_first(engine: Engine, table: Table, old: ColumnElement[bool]) -> int:
    """Delete old rows of a table whose keys grow with time; it has no index by time.

    Looks at the rows with the lowest keys, until there is nothing old among them.
    """
    [key] = table.primary_key
    first = select(key).order_by(key).limit(BATCH)
    return _repeated(engine, delete(table).where(key.in_(first), old))


def _delete(engine: Engine, table: Table, old: ColumnElement[bool]) -> int:
    """Delete old rows of any other table."""
    [key] = table.primary_key
    return _repeated(engine, delete(table).where(key.in_(select(key).where(old).limit(BATCH))))


def _repeated(engine: Engine, statement: Any) -> int:
    """Execute it, each time in a transaction of its own, until it finds nothing more."""
    total = 0
    while True:
        with writing(engine) as connection:
            count = connection.execute(statement).rowcount
        if not count:
            return total
        total += count


def _empty(engine: Engine, table: Table, old: ColumnElement[bool], **values: Any) -> int:
    """Set columns of old rows."""
    total = 0
    for stretch in _stretches(engine, table, old):
        with writing(engine) as connection:
            total += connection.execute(update(table).where(stretch, old).values(values)).rowcount
    return total


def _stretches(
    engine: Engine, table: Table, old: ColumnElement[bool]
) -> Iterator[ColumnElement[bool]]:
    """The range of keys that holds all old rows, cut in pieces of so many rows.

    Not of so many keys: after a restore these go on from far ahead.
    """
    [key] = table.primary_key
    with reading(engine) as connection:
        first, last = connection.execute(select(func.min(key), func.max(key)).where(old)).one()
    while first is not None:
        left = key.between(first, last)
        with reading(engine) as connection:
            end = connection.execute(
                select(key).where(left).order_by(key).offset(BATCH - 1).limit(1)
            ).scalar_one_or_none()
            end = last if end is None else end
            following = select(func.min(key)).where(key > end, key <= last)
            start, first = first, connection.execute(following).scalar_one()
        yield key.between(start, end)


def _empty_digests(engine: Engine, *, before: datetime) -> int:
    """Leave of old digests which papers they held, and of their deliveries what became of them.

    What is not sent yet stays whole, however old: it is still to be sent, or to be given up.
    """
    digests, deliveries = schema.digest, schema.delivery
    # In the words of the partial indexes, so that the ledger is not read for them.
    still_open = [
        select(deliveries.c.digest_id)
        .where(state, deliveries.c.due_at < before, deliveries.c.digest_id.is_not(None))
        .correlate(None)
        for state in (IS_OPEN, IS_HELD)
    ]
    old = and_(digests.c.due_at < before, *(digests.c.id.not_in(ids) for ids in still_open))
    full = and_(old, digests.c.skeleton.is_not(None))
    total = 0
    for stretch in _stretches(engine, digests, full):
        with writing(engine) as connection:
            total += connection.execute(
                update(digests)
                .where(stretch, full)
                .values(items=[], personal={}, skeleton=None, parts="")
            ).rowcount
            connection.execute(
                update(deliveries)
                .where(deliveries.c.digest_id.in_(select(digests.c.id).where(stretch, old)))
                .values(address="", text="")
            )
    return total


def _delete_account_mails(engine: Engine, *, before: datetime) -> int:
    """Delete old account mails that ended, with their deliveries."""
    mails, deliveries = schema.account_mail, schema.delivery
    ended = exists().where(
        deliveries.c.account_mail_id == mails.c.id, deliveries.c.ended_at.is_not(None)
    )
    old = select(mails.c.id).where(mails.c.created_at < before, ended).limit(BATCH)
    total = 0
    while True:
        with writing(engine) as connection:
            found = list(connection.execute(old).scalars())
            connection.execute(delete(deliveries).where(deliveries.c.account_mail_id.in_(found)))
            connection.execute(delete(mails).where(mails.c.id.in_(found)))
        if not found:
            return total
        total += len(found)


def _delete_parts(engine: Engine, *, before: datetime) -> int:
    """Delete parts that no digest names any more: the last one did so when it was frozen.

    Planning renews `created_at` of each part that it names.
    """
    parts, digests, mails = schema.part, schema.digest, schema.account_mail
    named = exists().where(digests.c.skeleton == parts.c.hash)
    named_by_mail = exists().where(mails.c.skeleton == parts.c.hash)
    return _delete(engine, parts, and_(parts.c.created_at < before, ~named, ~named_by_mail))
