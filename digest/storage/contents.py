"""Reading what is frozen: the personal words of deliveries, and the parts that they name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Executable,
    Text,
    bindparam,
    func,
    select,
    type_coerce,
)

from digest import schema
from digest.models import Part
from digest.storage.database import given, listed, packed, unpacked


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a delivery's bytes are made of; the parts by their hashes."""

    delivery_id: int
    personal: Mapping[str, Any]
    skeleton: str  # "" once it was forgotten
    cards: tuple[tuple[str, bool], ...]  # with each, whether it is a full card


def contents(connection: Connection, delivery_ids: Collection[int]) -> list[Content]:
    """The frozen contents of deliveries, whatever was stored since."""
    return [
        Content(
            delivery_id=delivery_id,
            personal=personal or {},
            skeleton=skeleton or "",
            cards=_named(names),
        )
        for delivery_id, skeleton, personal, names in unpacked(
            connection.execute(
                _contents(connection.dialect.name),
                {"rows": packed([one] for one in delivery_ids)},
            )
        )
    ]


@cache
def _contents(dialect: str) -> Executable:
    deliveries, digests, mails = schema.delivery, schema.digest, schema.account_mail
    rows = given(dialect, bindparam("rows"), id=BigInteger())

    def document(column: Any) -> Any:
        # SQLite keeps JSON as text, and would quote it.
        return column if dialect == "postgresql" else func.json(type_coerce(column, Text))

    return (
        select(
            listed(
                dialect,
                deliveries.c.id,
                func.coalesce(digests.c.skeleton, mails.c.skeleton),
                document(func.coalesce(digests.c.personal, mails.c.personal)),
                digests.c.parts,
            )
        )
        .select_from(rows)
        .join(deliveries, deliveries.c.id == rows.c.id)
        .outerjoin(digests, digests.c.id == deliveries.c.digest_id)
        .outerjoin(mails, mails.c.id == deliveries.c.account_mail_id)
    )


def _named(names: str | None) -> tuple[tuple[str, bool], ...]:
    cards, _, lines = (names or "").partition("|")
    return (*((one, True) for one in cards.split()), *((one, False) for one in lines.split()))


def parts(connection: Connection, hashes: Collection[str]) -> list[Part]:
    """The parts with these hashes."""
    table = schema.part
    rows = connection.execute(
        select(table.c.hash, table.c.kind, table.c.head, table.c.html, table.c.text).where(
            table.c.hash.in_(sorted(hashes))
        )
    )
    return [Part(**{**row, "head": row["head"] or b""}) for row in rows.mappings()]
