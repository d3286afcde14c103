"""What the operator is told of: one row a matter, opened when it begins, ended when it is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from digest import schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Matter:
    """Something that is wrong now."""

    kind: str  # late | breaker | source | restored
    subject: str  # which slot, route, source
    text: str  # one sentence or two for a person


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A matter with its times; `told_at` is empty while its last change is yet to be posted."""

    id: int
    kind: str
    subject: str
    text: str
    since: datetime
    told_at: datetime | None
    ended_at: datetime | None


def settle(connection: Connection, matters: Sequence[Matter], *, now: datetime) -> list[Alert]:
    """Make the open alerts those of `matters`; returns the ones that were opened or ended by it.

    A matter that goes on keeps its row and takes the newest words. For one caller at a time.
    """
    table = schema.alert
    known = {(alert.kind, alert.subject): alert for alert in current(connection)}
    changed = []
    for matter in matters:
        alert = known.pop((matter.kind, matter.subject), None)
        if alert is None:
            new = insert(table).values(asdict(matter) | {"since": now}).returning(table.c.id)
            changed.append(connection.execute(new).scalar_one())
        elif alert.text != matter.text:
            connection.execute(update(table).where(table.c.id == alert.id).values(text=matter.text))
    over = [alert.id for alert in known.values()]
    connection.execute(update(table).where(table.c.id.in_(over)).values(ended_at=now, told_at=None))
    return _alerts(connection, table.c.id.in_([*changed, *over]))


def current(connection: Connection) -> list[Alert]:
    """What is not over, oldest first."""
    return _alerts(connection, schema.alert.c.ended_at.is_(None))


def untold(connection: Connection) -> list[Alert]:
    """What is yet to be posted: that it began, or that it is over."""
    return _alerts(connection, schema.alert.c.told_at.is_(None))


def told(connection: Connection, alert_id: int, *, now: datetime) -> None:
    """Note that it was posted."""
    table = schema.alert
    connection.execute(update(table).where(table.c.id == alert_id).values(told_at=now))


def _alerts(connection: Connection, condition: ColumnElement[bool]) -> list[Alert]:
    table = schema.alert
    rows = connection.execute(select(table).where(condition).order_by(table.c.since, table.c.id))
    return [Alert(**row) for row in rows.mappings()]


def without_a_good_read(
    connection: Connection, sources: Sequence[str], *, since: datetime
) -> list[str]:
    """Those sources of which nothing good was read since then, though somebody tried."""
    table, reads = schema.source, schema.source_run
    first = select(func.min(reads.c.started_at)).where(reads.c.source == table.c.name)
    good_at = func.coalesce(table.c.good_at, first.scalar_subquery())
    return list(
        connection.execute(
            select(table.c.name)
            .where(table.c.name.in_(sources), good_at < since)
            .order_by(table.c.name)
        ).scalars()
    )
