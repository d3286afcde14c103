"""Mail that answers a request or a matter, and is no digest: stored once, and put in the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, insert, select

from digest import schema
from digest.models import Part, State
from digest.storage import digests
from digest.storage.database import insert_ignoring


def store(
    connection: Connection,
    kind: str,
    request: str,
    *,
    skeleton: Part,
    personal: Mapping[str, str],
    address: str,
    provider: str,
    subscriber_id: int | None,
    give_up_at: datetime,
    now: datetime,
) -> bool:
    """Freeze a mail, due now; False when this request of that kind has its mail already."""
    digests.add_parts(connection, [skeleton], now=now)
    table = schema.account_mail
    mail_id = connection.execute(
        insert_ignoring(connection, table)
        .values(
            kind=kind,
            request=request,
            subscriber_id=subscriber_id,
            skeleton=skeleton.hash,
            personal=dict(personal),
            created_at=now,
        )
        .returning(table.c.id)
    ).scalar_one_or_none()
    if mail_id is None:
        return False
    connection.execute(
        insert(schema.delivery).values(
            account_mail_id=mail_id,
            subscriber_id=subscriber_id,
            priority=0,
            address=address,
            provider=provider,
            state=State.PLANNED,
            reason="",
            due_at=now,
            next_attempt_at=now,
            give_up_at=give_up_at,
            attempts=0,
            losses=0,
            crashes=0,
            claim=0,
            text="",
        )
    )
    return True


def whose(connection: Connection, kind: str, request: str) -> int | None:
    """Who got the mail of that request; None where there is none."""
    table = schema.account_mail
    found = select(table.c.subscriber_id).where(table.c.kind == kind, table.c.request == request)
    return connection.execute(found).scalar_one_or_none()
