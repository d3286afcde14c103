"""A digest as it was frozen: for its page in the browser, and for what is said of its papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Connection, select

from digest import schema
from digest.models import Item, Part
from digest.storage import contents
from digest.storage.digests import items_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What is kept of a digest; without a skeleton its look was forgotten."""

    id: int
    items: Sequence[Item]  # as numbered in the mail
    personal: Mapping[str, Any]
    skeleton: Part | None
    cards: Sequence[tuple[Part, bool]]  # each with whether it is a full card


def load(connection: Connection, subscriber_id: int, slot: date) -> Shown | None:
    """Somebody's digest of that slot; None where there is none."""
    table = schema.digest
    row = connection.execute(
        select(table).where(table.c.subscriber_id == subscriber_id, table.c.slot == slot)
    ).first()
    if row is None:
        return None
    full, _, lines = row.parts.partition("|")
    names = [(name, True) for name in full.split()] + [(name, False) for name in lines.split()]
    wanted = {name for name, _ in names} | ({row.skeleton} if row.skeleton else set())
    found = {part.hash: part for part in contents.parts(connection, wanted)}
    whole = all(name in found for name in wanted)
    return Shown(
        id=row.id,
        items=items_of(row.items),
        personal=row.personal,
        skeleton=found.get(row.skeleton) if row.skeleton and whole else None,
        cards=[(found[name], card) for name, card in names] if whole else (),
    )
