"""Interests: what readers follow, name as an example, mute and search for; read for a batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from functools import cache

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    String,
    Text,
    cast,
    delete,
    insert,
    literal,
    select,
    type_coerce,
    union_all,
    update,
)

from digest import schema
from digest.errors import InputError
from digest.interests import MOST, SEARCHES, TOO_MANY, Refusal
from digest.models import Action, Interest, InterestKind, Interests
from digest.storage.batches import listing, people_of
from digest.storage.database import insert_ignoring, listed, unpacked

_interest, _search, _followed = schema.interest, schema.search, schema.search_follow


def add(
    connection: Connection, subscriber_id: int, interest: Interest, *, now: datetime
) -> Refusal | None:
    """Keep an interest; harmless when repeated. A refusal when somebody has as many as may be."""
    mine = (_interest.c.subscriber_id == subscriber_id, _interest.c.kind == interest.kind)
    _alone(connection, subscriber_id)
    keys = set(connection.execute(select(_interest.c.key).where(*mine)).scalars())
    if interest.key in keys:
        return None
    if len(keys) >= MOST:
        return Refusal(sentence=TOO_MANY, values={"most": MOST})
    connection.execute(
        insert_ignoring(connection, _interest).values(
            subscriber_id=subscriber_id,
            kind=interest.kind,
            key=interest.key,
            value=interest.value,
            created_at=now,
        )
    )
    return None


def remove(connection: Connection, subscriber_id: int, kind: InterestKind, key: str) -> None:
    """Keep it no longer; harmless when it is gone."""
    connection.execute(
        delete(_interest).where(
            _interest.c.subscriber_id == subscriber_id,
            _interest.c.kind == kind,
            _interest.c.key == key,
        )
    )


def follow_search(
    connection: Connection, subscriber_id: int, query: str, *, now: datetime
) -> Refusal | None:
    """Follow a search in its canonical form; harmless when repeated. Equal ones are one row."""
    _alone(connection, subscriber_id)
    mine = set(searches(connection, subscriber_id))
    if query in mine:
        return None
    if len(mine) >= SEARCHES:
        return Refusal(sentence=TOO_MANY, values={"most": SEARCHES})
    # Locked, so that its last follower who leaves it now does not take it away; and made anew if
    # that was so just before.
    found = select(_search.c.id).where(_search.c.query == query).with_for_update(key_share=True)
    while (search_id := connection.execute(found).scalar()) is None:
        connection.execute(insert_ignoring(connection, _search).values(query=query, created_at=now))
    connection.execute(insert(_followed).values(subscriber_id=subscriber_id, search_id=search_id))
    return None


def unfollow_search(connection: Connection, subscriber_id: int, query: str) -> None:
    """Follow it no longer; a search that nobody follows is forgotten."""
    ids = select(_search.c.id).where(_search.c.query == query)
    _unfollow(connection, subscriber_id, list(connection.execute(ids).scalars()))


def _unfollow(connection: Connection, subscriber_id: int, search_ids: Collection[int]) -> None:
    # In order, so that two who forget the same ones never wait for each other.
    for search_id in sorted(search_ids):
        connection.execute(
            delete(_followed).where(
                _followed.c.subscriber_id == subscriber_id, _followed.c.search_id == search_id
            )
        )
        one = _search.c.id == search_id
        connection.execute(select(_search.c.id).where(one).with_for_update())
        others = select(_followed.c.search_id).where(_followed.c.search_id == search_id)
        connection.execute(delete(_search).where(one, ~others.exists()))


def replace(
    connection: Connection, subscriber_id: int, wanted: Interests, *, now: datetime
) -> None:
    """Make these all that somebody follows, names, mutes and searches for; within the limits."""
    before = get(connection, subscriber_id)
    kept = {(one.kind, one.key) for one in wanted.kept}
    for one in before.kept:
        if (one.kind, one.key) not in kept:
            remove(connection, subscriber_id, one.kind, one.key)
    for query in set(before.searches) - set(wanted.searches):
        unfollow_search(connection, subscriber_id, query)
    refusals = [
        *(add(connection, subscriber_id, one, now=now) for one in wanted.kept),
        *(follow_search(connection, subscriber_id, query, now=now) for query in wanted.searches),
    ]
    if any(refusals):
        raise InputError(f"Subscriber {subscriber_id} would have more interests than may be.")


def searches(connection: Connection, subscriber_id: int) -> list[str]:
    """The searches that somebody follows, the oldest first."""
    rows = connection.execute(
        select(_search.c.query)
        .join(_followed, _followed.c.search_id == _search.c.id)
        .where(_followed.c.subscriber_id == subscriber_id)
        .order_by(_search.c.id)
    )
    return list(rows.scalars())


def _alone(connection: Connection, subscriber_id: int) -> None:
    """Let nobody else change the same person's interests: two at once might pass a limit."""
    table = schema.subscriber
    found = select(table.c.id).where(table.c.id == subscriber_id)
    connection.execute(found.with_for_update(key_share=True))


def erase(connection: Connection, subscriber_id: int) -> None:
    """Forget all that somebody said of papers, also as the reasons in what was sent to them."""
    ids = select(_followed.c.search_id).where(_followed.c.subscriber_id == subscriber_id)
    _unfollow(connection, subscriber_id, list(connection.execute(ids).scalars()))
    digests = schema.digest
    connection.execute(
        update(digests).where(digests.c.subscriber_id == subscriber_id).values({"items": []})
    )
    for table in (_interest, schema.feedback):
        connection.execute(delete(table).where(table.c.subscriber_id == subscriber_id))


def get(connection: Connection, subscriber_id: int) -> Interests:
    """All that somebody said; empty when that is nothing."""
    return of_people(connection, [subscriber_id]).get(subscriber_id, Interests())


def of_people(connection: Connection, subscriber_ids: Collection[int]) -> dict[int, Interests]:
    """What each of them said; who said nothing is not there."""
    rows: dict[int, list[tuple[str, str, str]]] = defaultdict(list)
    for subscriber_id, kind, _, key, value in sorted(
        unpacked(
            connection.execute(
                _of_people(connection.dialect.name), {"ids": listing(subscriber_ids)}
            )
        ),
        key=lambda row: (row[2], row[3]),
    ):
        rows[subscriber_id].append((kind, key, value))
    return {subscriber_id: _interests(found) for subscriber_id, found in rows.items()}


def _interests(rows: Collection[tuple[str, str, str]]) -> Interests:
    kinds = set(map(str, InterestKind))
    return Interests(
        kept=tuple(
            Interest(kind=InterestKind(kind), key=key, value=value)
            for kind, key, value in rows
            if kind in kinds
        ),
        searches=tuple(key for kind, key, _ in rows if kind == _SEARCH),
        more=tuple(int(key) for kind, key, _ in rows if kind == Action.MORE)[::-1],
        less=tuple(int(key) for kind, key, _ in rows if kind == Action.LESS)[::-1],
    )


_SEARCH = "search"


@cache
def _of_people(dialect: str) -> Executable:
    """All in one statement: subscriber, kind, since when, key and value."""
    people, given = people_of(dialect), schema.feedback

    def since(column: ColumnElement[datetime]) -> ColumnElement[str]:
        # The instants are compared as they are written, and each database writes all alike.
        return cast(column, Text) if dialect == "postgresql" else type_coerce(column, Text)

    all_of_them = union_all(
        select(
            _interest.c.subscriber_id.label("subscriber_id"),
            _interest.c.kind.label("kind"),
            since(_interest.c.created_at).label("since"),
            _interest.c.key.label("key"),
            _interest.c.value.label("value"),
        ).join(people, people.c.id == _interest.c.subscriber_id),
        select(
            _followed.c.subscriber_id,
            literal(_SEARCH, String),
            since(_search.c.created_at),
            _search.c.query,
            literal("", Text),
        )
        .join(people, people.c.id == _followed.c.subscriber_id)
        .join(_search, _search.c.id == _followed.c.search_id),
        select(
            given.c.subscriber_id,
            given.c.action,
            since(given.c.given_at),
            cast(given.c.paper_id, Text),
            literal("", Text),
        )
        .join(people, people.c.id == given.c.subscriber_id)
        .where(given.c.action != Action.SAVE),
    ).subquery()
    return select(listed(dialect, *all_of_them.c))
