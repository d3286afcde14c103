"""What is frozen: the personal words of deliveries, and the parts that they name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
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


class Content(NamedTuple):
    """What a delivery's bytes are made of; the parts by their hashes."""

    personal: Mapping[str, Any]
    skeleton: str  # "" once it was forgotten
    cards: Sequence[str]
    lines: Sequence[str]  # cards of papers that are only named

    @property
    def parts(self) -> list[str]:
        """All that it names."""
        return [self.skeleton, *self.cards, *self.lines]


NOTHING = Content({}, "", (), ())  # what is left when it was forgotten


def frozen(connection: Connection, delivery_ids: Collection[int]) -> dict[int, Content]:
    """What is frozen of these deliveries."""
    if not delivery_ids:
        return {}
    rows = packed([one] for one in delivery_ids)
    found = {}
    for delivery_id, personal, skeleton, parts in unpacked(
        connection.execute(_frozen(connection.dialect.name), {"rows": rows})
    ):
        cards, _, lines = (parts or "").partition("|")
        found[delivery_id] = Content(personal or {}, skeleton or "", cards.split(), lines.split())
    return found


@cache
def _frozen(dialect: str) -> Executable:
    table, digests, mails = schema.delivery, schema.digest, schema.account_mail
    rows = given(dialect, bindparam("rows"), id=BigInteger())
    personal: ColumnElement[Any] = func.coalesce(digests.c.personal, mails.c.personal)
    if dialect == "sqlite":  # it keeps JSON as text, and would quote it
        personal = func.json(type_coerce(personal, Text))
    skeleton = func.coalesce(digests.c.skeleton, mails.c.skeleton)
    return select(listed(dialect, table.c.id, personal, skeleton, digests.c.parts)).select_from(
        rows.join(table, table.c.id == rows.c.id)
        .outerjoin(digests, digests.c.id == table.c.digest_id)
        .outerjoin(mails, mails.c.id == table.c.account_mail_id)
    )


def parts(connection: Connection, hashes: Collection[str]) -> list[Part]:
    """The parts with these hashes."""
    table = schema.part
    rows = connection.execute(
        select(table.c.hash, table.c.kind, table.c.head, table.c.html, table.c.text).where(
            table.c.hash.in_(sorted(hashes))
        )
    )
    return [Part(**{**row, "head": row["head"] or b""}) for row in rows.mappings()]
