"""Readers who say what they want: interests of every kind for a share of an invented house."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Table,
    Text,
    bindparam,
    insert,
    literal,
    select,
)

from digest import schema
from digest.interests import read
from digest.models import Action, Interest, InterestKind, Paper
from digest.storage import papers as shelf
from digest.storage.database import given, insert_ignoring, packed

# How many of a kind each of these readers has; as many papers they want more and less like.
MANY = {
    InterestKind.AUTHOR: 2,
    InterestKind.LAB: 1,
    InterestKind.SEED: 1,
    InterestKind.MUTED_WORD: 1,
    InterestKind.MUTED_TOPIC: 1,
}
SEARCHES, MORE, LESS = 1, 3, 2
_LONG = 6  # letters; small words are in nearly every paper
_SCATTER, _APART = 2654435761, 377


def add_interests(connection: Connection, share: float, *, now: datetime) -> None:
    """Give interests to that share of the readers, all in papers that are there."""
    if not share:
        return
    papers = shelf.candidates(connection, since=datetime.min.replace(tzinfo=UTC))
    chance, turns = random.Random("interests"), count()
    dois = {paper.id: f"10.5555/{paper.id}" for paper in papers}
    connection.execute(
        insert(schema.identifier),
        [{"kind": "doi", "value": doi, "paper_id": paper_id} for paper_id, doi in dois.items()],
    )
    words = [_word(paper, chance) for paper in papers]
    named = {
        InterestKind.AUTHOR: [paper.authors[0] for paper in papers],
        InterestKind.LAB: [paper.organisation for paper in papers],
        InterestKind.SEED: list(dois.values()),
        InterestKind.MUTED_WORD: words,
        InterestKind.MUTED_TOPIC: list(connection.scalars(select(schema.topic.c.slug))),
    }
    for kind, many in MANY.items():
        choices = [{"key": one.key, "value": one.value} for one in _interests(kind, named[kind])]
        same: dict[str, Any] = {"kind": kind, "created_at": now}
        _fill(connection, schema.interest, choices, same, many=many, share=share, turns=turns)
    searches = sorted({_word(paper, chance) for paper in papers})
    connection.execute(
        insert(schema.search), [{"query": word, "created_at": now} for word in searches]
    )
    ids = [{"search_id": one} for one in connection.scalars(select(schema.search.c.id))]
    _fill(connection, schema.search_follow, ids, {}, many=SEARCHES, share=share, turns=turns)
    ids = [{"paper_id": one} for one in dois]
    for action, many in ((Action.MORE, MORE), (Action.LESS, LESS)):
        same = {"action": action, "given_at": now}
        _fill(connection, schema.feedback, ids, same, many=many, share=share, turns=turns)


def _word(paper: Paper, chance: random.Random) -> str:
    return chance.choice([word for word in paper.summary.lower().split() if len(word) >= _LONG])


def _interests(kind: InterestKind, texts: Sequence[str]) -> Iterator[Interest]:
    for text in texts:
        if isinstance(one := read(kind, text), Interest):
            yield one


def _fill(
    connection: Connection,
    table: Table,
    choices: Sequence[dict[str, Any]],
    same: dict[str, Any],
    *,
    many: int,
    share: float,
    turns: Iterator[int],
) -> None:
    """Let each of these readers have `many` of the choices; the rest of the row is the `same`."""
    names = list(choices[0])
    kinds = {name: Text() if isinstance(choices[0][name], str) else BigInteger() for name in names}
    sought = given(connection.dialect.name, bindparam("choices"), number=BigInteger(), **kinds)
    packed_choices = packed((n, *one.values()) for n, one in enumerate(choices))
    reader = schema.subscriber.c.id
    scattered = reader * literal(_SCATTER, reader.type) // 65536
    for _ in range(many):
        number = (scattered + next(turns) * _APART) % len(choices)
        rows = (
            select(
                reader,
                *(sought.c[name] for name in names),
                *(literal(value, table.c[name].type) for name, value in same.items()),
            )
            .join(sought, sought.c.number == number)
            .where(reader * 7 % 100 < share * 100)
        )
        connection.execute(
            insert_ignoring(connection, table).from_select(["subscriber_id", *names, *same], rows),
            {"choices": packed_choices},
        )
