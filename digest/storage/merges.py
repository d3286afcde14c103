"""Merges of papers: what each one moved is remembered, so that it can be undone, and stays so."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, insert, or_, select, update

from digest import schema
from digest.errors import NotFound
from digest.storage import index
from digest.storage.records import parts, refresh

_merge, _paper, _record, _name = schema.merge, schema.paper, schema.record, schema.identifier


def merge(connection: Connection, kept: int, merged: int, *, reason: str, now: datetime) -> bool:
    """Move all that `merged` has to `kept`; neither is merged into another. `kept` wants a refresh.

    False where the two were set apart by hand before, or where each has an arXiv id of its own:
    authors type one DOI on several preprints.
    """
    if has_name(connection, kept, "arxiv") and has_name(connection, merged, "arxiv"):
        return False
    ours, theirs = _members(connection, kept), _members(connection, merged)
    if _set_apart(connection, ours, theirs):
        return False
    moved: dict[str, list[Any]] = {
        "ours": ours[1:],
        "papers": theirs[1:],
        "records": list(
            connection.execute(
                select(_record.c.id).where(_record.c.paper_id == merged).order_by(_record.c.id)
            ).scalars()
        ),
        "identifiers": [
            [kind, value]
            for kind, value in connection.execute(
                select(_name.c.kind, _name.c.value)
                .where(_name.c.paper_id == merged)
                .order_by(_name.c.kind, _name.c.value)
            )
        ],
    }
    _move(connection, moved, merged, kept)
    connection.execute(
        update(_paper).where(_paper.c.id.in_(theirs)).values(merged_into=kept, fresh_at=None)
    )
    index.forget(connection, [merged])
    connection.execute(
        insert(_merge).values(
            kept_id=kept, merged_id=merged, reason=reason, moved=moved, merged_at=now
        )
    )
    return True


def has_name(connection: Connection, paper_id: int, *kinds: str) -> bool:
    """Whether a paper has an identifier of one of these kinds."""
    found = select(_name.c.value).where(_name.c.paper_id == paper_id, _name.c.kind.in_(kinds))
    return connection.execute(found.limit(1)).first() is not None


def _members(connection: Connection, paper_id: int) -> list[int]:
    """A paper, and after it all that were merged into it."""
    found = select(_paper.c.id).where(_paper.c.merged_into == paper_id).order_by(_paper.c.id)
    return [paper_id, *connection.execute(found).scalars()]


def _set_apart(connection: Connection, ours: list[int], theirs: list[int]) -> bool:
    """Whether an undone merge had joined any of the one with any of the other."""
    undone = select(_merge.c.kept_id, _merge.c.merged_id, _merge.c.moved)
    for kept, merged, moved in connection.execute(undone.where(_merge.c.undone_at.is_not(None))):
        one, other = {kept, *moved["ours"]}, {merged, *moved["papers"]}
        if (one & set(ours) and other & set(theirs)) or (one & set(theirs) and other & set(ours)):
            return True
    return False


def _move(connection: Connection, moved: Mapping[str, list[Any]], origin: int, target: int) -> None:
    """Give what is still with `origin` to `target`."""
    for part in parts(moved["records"]):
        connection.execute(
            update(_record)
            .where(_record.c.id.in_(part), _record.c.paper_id == origin)
            .values(paper_id=target)
        )
    for kind, value in moved["identifiers"]:
        connection.execute(
            update(_name)
            .where(_name.c.kind == kind, _name.c.value == value, _name.c.paper_id == origin)
            .values(paper_id=target)
        )


def undo_merge(connection: Connection, paper_id: int, *, now: datetime) -> int:
    """Take the newest merge into (or of) a paper back and keep the two apart; the other's id.

    What came to the joint paper since then stays where it is. Raises NotFound.
    """
    row = (
        connection.execute(
            select(_merge)
            .where(
                or_(_merge.c.kept_id == paper_id, _merge.c.merged_id == paper_id),
                _merge.c.undone_at.is_(None),
            )
            .order_by(_merge.c.id.desc())
        )
        .mappings()
        .first()
    )
    if row is None:
        raise NotFound(f"Paper {paper_id} has no merge to undo.")
    kept, merged, moved = row["kept_id"], row["merged_id"], row["moved"]
    # Who took it in may have been taken in by another since.
    holder = connection.execute(
        select(_paper.c.merged_into).where(_paper.c.id == kept)
    ).scalar_one()
    holder = holder or kept
    _move(connection, moved, holder, merged)
    back = and_(_paper.c.id.in_(moved["papers"]), _paper.c.merged_into == holder)
    connection.execute(update(_paper).where(back).values(merged_into=merged))
    connection.execute(update(_paper).where(_paper.c.id == merged).values(merged_into=None))
    connection.execute(update(_merge).where(_merge.c.id == row["id"]).values(undone_at=now))
    refresh(connection, [holder, merged])
    other: int = holder if paper_id == merged else merged
    return other
