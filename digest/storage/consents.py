"""Evidence of what people agreed to and when: rows are added, and go with the person alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, insert, select, update

from digest import schema
from digest.models import Status


class What(StrEnum):
    """What happened; leaving is called by the status that it leads to."""

    ASKED = "asked"
    CONFIRMED = "confirmed"
    UNSUBSCRIBED = Status.UNSUBSCRIBED.value
    COMPLAINED = Status.COMPLAINED.value
    BOUNCED = Status.BOUNCED.value
    UNDONE = "undone"
    MOVED = "moved"  # to another address
    RENEWED = "renewed"  # their links


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """One piece of evidence."""

    id: int
    subscriber_id: int
    at: datetime
    what: str
    source: str


def add(
    connection: Connection,
    subscriber_id: int,
    what: What,
    *,
    source: str,
    now: datetime,
    text_version: str = "",
    locale: str = "",
) -> int:
    """Note what happened; the id by which a link can name it."""
    table = schema.consent
    found: int = connection.execute(
        insert(table)
        .values(
            subscriber_id=subscriber_id,
            at=now,
            what=what,
            source=source[: table.c.source.type.length],  # type: ignore[attr-defined]
            text_version=text_version,
            locale=locale,
            reason="",
            comment="",
        )
        .returning(table.c.id)
    ).scalar_one()
    return found


def get(connection: Connection, consent_id: int) -> Consent | None:
    """The evidence with that id."""
    table = schema.consent
    names = Consent.__dataclass_fields__
    row = connection.execute(
        select(*(table.c[name] for name in names)).where(table.c.id == consent_id)
    ).mappings()
    return next((Consent(**found) for found in row), None)


def latest(connection: Connection, subscriber_id: int, kinds: Collection[What]) -> Consent | None:
    """The newest of these kinds."""
    table = schema.consent
    row = connection.execute(
        select(*(table.c[name] for name in Consent.__dataclass_fields__))
        .where(table.c.subscriber_id == subscriber_id, table.c.what.in_([*kinds]))
        .order_by(table.c.id.desc())
        .limit(1)
    ).mappings()
    return next((Consent(**found) for found in row), None)


def explain(connection: Connection, consent_id: int, *, reason: str, comment: str) -> None:
    """Keep why somebody left, as they said."""
    table = schema.consent
    connection.execute(
        update(table).where(table.c.id == consent_id).values(reason=reason, comment=comment)
    )
