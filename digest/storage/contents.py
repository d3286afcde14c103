"""What is frozen: the personal words of deliveries, and the parts that they name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, FromClause, Text, func, select, type_coerce

from digest import schema
from digest.models import Part


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


def frozen_columns(dialect: str) -> ColumnElement[Any]:
    """What `frozen` takes, as one column of a selection `with_frozen` that is `listed`."""
    digests, mails = schema.digest, schema.account_mail
    personal: ColumnElement[Any] = func.coalesce(digests.c.personal, mails.c.personal)
    if dialect == "sqlite":  # it keeps JSON as text, and would quote it
        personal = func.json(type_coerce(personal, Text))
    array = func.json_build_array if dialect == "postgresql" else func.json_array
    return array(personal, func.coalesce(digests.c.skeleton, mails.c.skeleton), digests.c.parts)


def with_frozen(deliveries: FromClause) -> FromClause:
    """A selection of deliveries, joined with what is frozen of each."""
    table, digests, mails = schema.delivery, schema.digest, schema.account_mail
    return deliveries.outerjoin(digests, digests.c.id == table.c.digest_id).outerjoin(
        mails, mails.c.id == table.c.account_mail_id
    )


def frozen(personal: Mapping[str, Any] | None, skeleton: str | None, parts: str | None) -> Content:
    """The content from its columns."""
    cards, _, lines = (parts or "").partition("|")
    return Content(personal or {}, skeleton or "", cards.split(), lines.split())


def parts(connection: Connection, hashes: Collection[str]) -> list[Part]:
    """The parts with these hashes."""
    table = schema.part
    rows = connection.execute(
        select(table.c.hash, table.c.kind, table.c.head, table.c.html, table.c.text).where(
            table.c.hash.in_(sorted(hashes))
        )
    )
    return [Part(**{**row, "head": row["head"] or b""}) for row in rows.mappings()]
